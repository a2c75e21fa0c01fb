//! What the leader does about the members by itself, and how it explains it.
//!
//! It looks four times a second, and does one thing at a time: completes a change that a former
//! leader left half done, gives votes to learners that keep up (one of the name of a dead voter
//! takes its place), lets dead voters go whose replacement is there. It follows the same rules as
//! people do, never by force. With the setting `autopilot` off it only completes what is half done,
//! and says of the rest what it would do. What it decided is kept in the node's local history.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use mainstay_failure_detector::Level;
use mainstay_world::{self as world, History, Instant};
use openraft::async_runtime::WatchReceiver as _;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::{
    detection::stall_budget,
    membership::{
        Advice, AutopilotAction, MemberRequest, MemberWish, MembershipError, advice::advise,
        changes::MemberChanges, readiness::LearnerLook,
    },
    running::Parts,
};

/// How often it looks at the learners.
const INTERVAL: Duration = Duration::from_millis(250);

/// How often it asks who answers, while there is something to wait for.
const ADVICE_INTERVAL: Duration = Duration::from_secs(1);

/// How long a change may take.
const CHANGE_DEADLINE: Duration = Duration::from_secs(10);

/// A beat that is older than this says nothing about a disk any more.
const SAID_AGE_MAX: Duration = Duration::from_secs(1);

/// Kind of the records in the history.
const KIND: &str = "autopilot";

/// Decisions kept.
const KEPT: usize = 1_000;

/// More than any record has bytes.
const RECORD_MAX: usize = 16 * 1024;

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

/// What is known to those who ask.
#[derive(Clone)]
pub(crate) struct AutopilotRecord {
    history: Arc<dyn History>,
    state: Arc<Mutex<RecordState>>,
}

#[derive(Default)]
struct RecordState {
    advice: Vec<Advice>,
    last: Option<AutopilotDecision>,
    counts: BTreeMap<&'static str, u64>,
}

/// The task.
pub(crate) struct Autopilot {
    pub(crate) parts: Parts,
    pub(crate) changes: MemberChanges,
    pub(crate) record: AutopilotRecord,
}

impl AutopilotRecord {
    pub(crate) fn new(history: Arc<dyn History>) -> Self {
        Self { history, state: Arc::default() }
    }

    /// What this node, as the leader, makes of the members, with at most `limit` decisions.
    pub(crate) fn tell(&self, enabled: bool, leader: u64, limit: usize) -> AutopilotState {
        let advice = self.lock().advice.clone();
        let kept = self.history.newest(KIND, limit);
        let decisions = kept
            .iter()
            .filter_map(|record| mainstay_codec::decode(&record.bytes, RECORD_MAX).ok())
            .collect();
        AutopilotState { enabled, leader, advice, decisions }
    }

    /// Actions since the start that were carried out, by their word.
    pub(crate) fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.lock().counts.clone()
    }

    fn set_advice(&self, advice: Vec<Advice>) {
        self.lock().advice = advice;
    }

    /// Keeps a decision. One that failed as the one before it did is not news.
    fn decided(&self, term: u64, advice: Advice, outcome: Result<(i64, i64), &MembershipError>) {
        let outcome = outcome.map_err(ToString::to_string);
        let mut state = self.lock();
        if outcome.is_ok() {
            *state.counts.entry(advice.action.as_str()).or_default() += 1;
        }
        let is_news = outcome.is_ok()
            || state.last.as_ref().is_none_or(|last| {
                (last.advice.id, last.advice.action, &last.outcome)
                    != (advice.id, advice.action, &outcome)
            });
        let decision = AutopilotDecision { wall_ms: world::wall_clock_ms(), term, advice, outcome };
        if is_news {
            let Advice { action, name, why, .. } = &decision.advice;
            match &decision.outcome {
                Ok(_tolerated) => info!(what = action.as_str(), name, why, "autopilot"),
                Err(error) => warn!(what = action.as_str(), name, error, "autopilot did nothing"),
            }
            if let Ok(bytes) = mainstay_codec::encode(&decision) {
                self.history.append(KIND, Bytes::from(bytes), KEPT);
            }
        }
        state.last = Some(decision);
    }

    fn lock(&self) -> MutexGuard<'_, RecordState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Autopilot {
    /// Looks for as long as the node runs.
    pub(crate) async fn run(self) {
        let mut leadership = self.parts.leadership.clone();
        let mut silent_since: BTreeMap<u64, Instant> = BTreeMap::new();
        let mut next_advice = Instant::now();
        loop {
            let now = *leadership.borrow_and_update();
            if !now.leads {
                self.changes.readiness(|readiness, _now| readiness.clear());
                self.record.set_advice(Vec::new());
                silent_since.clear();
                if leadership.changed().await.is_err() {
                    return;
                }
                continue;
            }
            self.look_at_learners();
            if Instant::now() >= next_advice {
                next_advice = Instant::now() + ADVICE_INTERVAL;
                self.work(now.term, &mut silent_since).await;
            }
            world::sleep(INTERVAL).await;
        }
    }

    /// Looks at everybody, and does what comes first.
    async fn work(&self, term: u64, silent_since: &mut BTreeMap<u64, Instant>) {
        let membership = self.parts.membership.borrow().clone();
        if membership.get_joint_config().len() > 1 {
            return self.complete(term).await;
        }
        if !self.is_worth_a_look() {
            silent_since.clear();
            return self.record.set_advice(Vec::new());
        }
        let Ok(look) = self.changes.look().await else { return };
        let silent = look.view.members.iter().filter(|(_id, member)| !member.answers);
        let silent: Vec<u64> = silent.map(|(id, _member)| *id).collect();
        silent_since.retain(|id, _since| silent.contains(id));
        for id in silent {
            silent_since.entry(id).or_insert_with(Instant::now);
        }
        let silence = silent_since.iter().map(|(id, since)| (*id, since.elapsed())).collect();
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

#[cfg(test)]
mod tests {
    use mainstay_world::MemoryHistory;

    use super::*;

    fn promotion() -> Advice {
        let why = "it keeps up".to_owned();
        let (id, name) = (4, "n4".to_owned());
        Advice { action: AutopilotAction::Promote, id, name, replaces: None, why }
    }

    #[test]
    fn what_was_decided_is_kept_and_what_fails_again_and_again_is_kept_once() {
        let history = Arc::new(MemoryHistory::default());
        let record = AutopilotRecord::new(history.clone());
        record.decided(3, promotion(), Err(&MembershipError::Busy));
        record.decided(3, promotion(), Err(&MembershipError::Busy));
        record.decided(3, promotion(), Ok((0, 1)));
        let state = AutopilotRecord::new(history).tell(true, 1, 10);
        let outcomes: Vec<_> =
            state.decisions.iter().map(|decision| decision.outcome.is_ok()).collect();
        assert_eq!(outcomes, [true, false]);
        assert_eq!(state.decisions[0].advice, promotion());
        assert_eq!(record.counts(), BTreeMap::from([("promote", 1)]));
    }
}
