//! What the leader does about the members by itself, and how it explains it.
//!
//! It looks four times a second, and does one thing at a time: completes a change that a former
//! leader left half done, gives votes to learners that keep up (one of the name of a dead voter
//! takes its place), lets dead voters go whose replacement is there. It follows the same rules as
//! people do, never by force. With the setting `autopilot` off it only completes what is half done,
//! and says of the rest what it would do. What it decided is kept in the node's local history.
//!
//! For how long a voter has been silent, a leader takes over from the one before it: see
//! [`silence`](crate::membership::silence).

mod record;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use mainstay_failure_detector::Level;
use mainstay_world::{self as world, Instant};
use openraft::async_runtime::WatchReceiver as _;
use serde::{Deserialize, Serialize};

pub(crate) use self::record::AutopilotRecord;
use crate::{
    detection::stall_budget,
    membership::{
        Advice, AutopilotAction, MemberRequest, MemberWish, advice::advise, changes::MemberChanges,
        readiness::LearnerLook, rules::has_quorum, silence::SilenceReport,
    },
    observation::Leadership,
    peer::message::Call,
    running::Parts,
    versions::SILENCES_SINCE,
};

/// How often it looks at the learners.
const INTERVAL: Duration = Duration::from_millis(250);

/// How often it asks who answers, while there is something to wait for.
const ADVICE_INTERVAL: Duration = Duration::from_secs(1);

/// How long a change may take.
const CHANGE_DEADLINE: Duration = Duration::from_secs(10);

/// The longest wait for the answer of a node that is told who does not answer.
const TELL_DEADLINE: Duration = Duration::from_millis(500);

/// How often a new leader is reminded, if it does not answer.
const REMINDERS_MAX: u32 = 5;

/// A beat that is older than this says nothing about a disk any more.
const SAID_AGE_MAX: Duration = Duration::from_secs(1);

/// Something that the leader did, or tried, by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutopilotDecision {
    /// The wall clock of the leader, in milliseconds since 1970; for people only.
    pub wall_ms: u64,
    /// Its term.
    pub term: u64,
    /// What was to be done, and why.
    pub advice: Advice,
    /// What came of it: failures tolerated before and after, or why it was not done.
    pub outcome: Result<(i64, i64), String>,
}

/// What the leader makes of the members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutopilotState {
    /// Whether it acts, or only says what it would do.
    pub enabled: bool,
    /// The leader, whose view this is.
    pub leader: u64,
    /// What there is to do or to wait for.
    pub advice: Vec<Advice>,
    /// What that node decided as a leader, newest first.
    pub decisions: Vec<AutopilotDecision>,
}

/// The task.
pub(crate) struct Autopilot {
    pub(crate) parts: Parts,
    pub(crate) changes: MemberChanges,
    pub(crate) record: AutopilotRecord,
}

impl Autopilot {
    /// Looks for as long as the node runs.
    pub(crate) async fn run(self) {
        let mut leadership = self.parts.leadership.clone();
        let mut next_advice = Instant::now();
        let mut led = None;
        loop {
            let now = *leadership.borrow_and_update();
            if !now.leads {
                self.changes.readiness(|readiness, _now| readiness.clear());
                self.record.set_advice(Vec::new());
                led = None;
                self.remind(now);
                if leadership.changed().await.is_err() {
                    return;
                }
                continue;
            }
            if led.replace(now.term) != Some(now.term) {
                self.take_over();
            }
            self.look_at_learners();
            if Instant::now() >= next_advice {
                next_advice = Instant::now() + ADVICE_INTERVAL;
                self.work(now.term).await;
            }
            world::sleep(INTERVAL).await;
        }
    }

    /// Looks at everybody, and does what comes first.
    async fn work(&self, term: u64) {
        let membership = self.parts.membership.borrow().clone();
        if membership.get_joint_config().len() > 1 {
            return self.complete(term).await;
        }
        if !self.is_worth_a_look() {
            self.note_silent(term, BTreeSet::new(), true);
            return self.record.set_advice(Vec::new());
        }
        let Ok(look) = self.changes.look().await else { return };
        let silent = look.view.members.iter().filter(|(_id, member)| !member.answers);
        let silent: BTreeSet<u64> = silent.map(|(id, _member)| *id).collect();
        let has_quorum = has_quorum(&look.view.voters, |id| !silent.contains(&id));
        let silence = self.note_silent(term, silent, has_quorum);
        let (enabled, dead_after_ms) = self.parts.store.read(|store| {
            let settings = store.settings();
            (settings.autopilot, settings.dead_after_ms)
        });
        let advice = advise(&look.view, &silence, Duration::from_millis(dead_after_ms));
        self.record.set_advice(advice.clone());
        let Some(first) = advice.into_iter().next().filter(|_first| enabled) else { return };
        let id = first.id;
        let wish = match first.action {
            AutopilotAction::Replace | AutopilotAction::Promote => MemberWish::Promote { id },
            AutopilotAction::Remove => MemberWish::Remove { id },
            AutopilotAction::Complete | AutopilotAction::Wait => return,
        };
        let request = MemberRequest { wish, force: false, dry_run: false };
        let changed = self.changes.run(&request, Instant::now() + CHANGE_DEADLINE).await;
        let outcome = changed
            .as_ref()
            .map(|change| (change.failures_tolerated_before, change.failures_tolerated_after));
        self.record.decided(term, first, outcome);
    }

    /// Goes on from what the leader before this one told.
    fn take_over(&self) {
        let anew = self.parts.buggify.is_planted("count-silence-anew");
        let heard = |id| self.record.heard(&self.parts.detector, id);
        self.record.silences(|silences, now| {
            silences.take_over(now, heard);
            if anew {
                silences.forget();
            }
        });
    }

    /// Reminds a new leader, which may have just started, of what the one before it told.
    fn remind(&self, now: Leadership) {
        let Some(link) = now.leader.and_then(|leader| self.parts.links.find(leader)) else {
            return;
        };
        let heard = |id| self.record.heard(&self.parts.detector, id);
        let reminder = self.record.silences(|silences, at| silences.reminder(at, now.term, heard));
        let Some(reminder) = reminder.filter(|_reminder| self.understands(link.node_id)) else {
            return;
        };
        world::spawn(async move {
            for _attempt in 0..REMINDERS_MAX {
                let call = Call::Silences(reminder.clone());
                if link.control.call(&call, TELL_DEADLINE).await.is_ok() {
                    return;
                }
                world::sleep(INTERVAL).await;
            }
        });
    }

    /// Whether a peer can be told who does not answer.
    fn understands(&self, peer: u64) -> bool {
        self.parts.links.announced().speaks(peer, SILENCES_SINCE)
    }

    /// Notes who does not answer, and whether a quorum does; tells the others while there is
    /// somebody, and once when there is nobody any more. Answers for how long they have been silent.
    fn note_silent(
        &self,
        term: u64,
        mut silent: BTreeSet<u64>,
        has_quorum: bool,
    ) -> BTreeMap<u64, Duration> {
        let never_forgets = self.parts.buggify.is_planted("remember-silence");
        let (was_known, report, lasted) = self.record.silences(|silences, now| {
            let was_known = !silences.lasted().is_empty();
            if never_forgets {
                silent.extend(silences.lasted().keys());
            }
            silences.look(now, term, &silent, has_quorum);
            (was_known, silences.report(term), silences.lasted().clone())
        });
        if has_quorum && (was_known || !lasted.is_empty()) {
            self.tell(&silent, &report);
        }
        lasted
    }

    fn tell(&self, silent: &BTreeSet<u64>, report: &SilenceReport) {
        for link in self.parts.links.all() {
            if silent.contains(&link.node_id) || !self.understands(link.node_id) {
                continue;
            }
            let call = Call::Silences(report.clone());
            world::spawn(async move {
                // Who was not told counts from nothing, which is late and never wrong.
                let _told = link.control.call(&call, TELL_DEADLINE).await;
            });
        }
    }

    /// Whether there is a learner, or a member that is not heard.
    fn is_worth_a_look(&self) -> bool {
        let heard = |id: u64| {
            let link = self.parts.links.find(id);
            id == self.parts.node_id || link.is_some_and(|link| link.is_healthy())
        };
        let ids: Vec<u64> =
            self.parts.membership.borrow().nodes().map(|(id, _record)| *id).collect();
        !self.learners().is_empty() || ids.into_iter().any(|id| !heard(id))
    }

    /// Completes what a former leader left half done.
    async fn complete(&self, term: u64) {
        if self.parts.buggify.is_planted("leave-half-done") {
            return;
        }
        // While somebody carries a change out, it is theirs to complete.
        let Some(turn) = self.changes.turn() else { return };
        let outcome = self.changes.complete(&turn).await;
        let advice = Advice {
            action: AutopilotAction::Complete,
            id: self.parts.node_id,
            name: String::new(),
            replaces: None,
            why: "a former leader left a change of voters half done".to_owned(),
        };
        self.record.decided(term, advice, outcome.as_ref().map(|()| (0, 0)));
    }

    /// Members without a vote.
    fn learners(&self) -> Vec<u64> {
        let membership = self.parts.membership.borrow();
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        let ids = membership.nodes().map(|(id, _record)| *id);
        ids.filter(|id| !voters.contains(id)).collect()
    }

    /// Notes how far the learners are.
    fn look_at_learners(&self) {
        let learners = self.learners();
        let looks: Vec<LearnerLook>;
        let end;
        {
            let metrics = self.parts.raft.data_metrics();
            let metrics = metrics.borrow_watched();
            end = metrics.last_log.as_ref().map_or(0, |last| last.index);
            let matched = |id: u64| {
                let matched = metrics.replication.as_ref()?.get(&id)?.as_ref()?;
                Some(matched.index)
            };
            let look = |id: &u64| LearnerLook {
                id: *id,
                matched: matched(*id).unwrap_or(0),
                unwell: self.unwell(*id),
            };
            looks = learners.iter().map(look).collect();
        }
        self.changes.readiness(|readiness, now| readiness.look(now, end, looks));
    }

    /// What is wrong with a learner besides being behind, as a clause.
    fn unwell(&self, id: u64) -> Option<String> {
        if self.parts.detector.level(id) != Some(Level::Alive) {
            return Some("it is not heard".to_owned());
        }
        let said = self.parts.detector.said(id).filter(|said| said.at.elapsed() < SAID_AGE_MAX);
        let Some(said) = said else { return Some("it has not said how it is".to_owned()) };
        let budget = stall_budget(&self.parts.storage);
        (said.oldest_sync >= budget).then(|| {
            let (oldest, budget) = (said.oldest_sync.as_millis(), budget.as_millis());
            format!("its disk hangs: its oldest sync is {oldest} ms old, and {budget} is allowed")
        })
    }
}
