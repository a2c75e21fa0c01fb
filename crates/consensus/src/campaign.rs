//! When to ask for an election, and when to give leadership away.
//!
//! One task looks at this node and at the leader every few milliseconds. A follower asks for a
//! pre-vote once the leader lease has expired and the detector suspects the leader, and asks again
//! while that stays so; nodes with less of the log, or a larger id, ask a little later, so that
//! votes are seldom split. While the detector objects, openraft's own timer is held off, but never
//! beyond a cap. A leader that cannot write (a stalled disk, a failed one, a lagging event loop,
//! links over which no quorum answers in time) hands over.
//!
//! All this decides only *when to ask*: openraft refuses a campaign within the lease, and voters
//! decide. When the task ends, for whatever reason, openraft's timer is switched on.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use mainstay_failure_detector::Level;
use mainstay_world::{self as world, Instant};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::{
    election::{Election, ElectionCause, ElectionPhases},
    fitness::{Fitness, milliseconds},
    handover::{HandOverError, HandOvers},
    observation::Leadership,
    running::Parts,
    status::Role,
    type_config::RaftHandle,
};

/// The longest time between two looks.
const TICK: Duration = Duration::from_millis(25);

/// The pause between two campaigns of the first in rank.
const CAMPAIGN_PAUSE: Duration = Duration::from_millis(25);

/// By how much each rank waits longer: two campaigns of the one before it. The first may well be
/// too early, when a voter has heard the leader a little later than the candidate.
const RANK_DELAY: Duration = Duration::from_millis(50);

/// The longest pause between two campaigns; reached when many in a row have failed.
const CAMPAIGN_PAUSE_MAX: Duration = Duration::from_millis(400);

/// The detector may object to an election, and a node that is unwell leave it to others, for this
/// long after the last append, or for two leader leases if that is longer.
const OBJECTION_MAX: Duration = Duration::from_secs(2);

/// A leader that took over from one in trouble keeps the title at least this long: leadership does
/// not go round in circles when everybody is in trouble.
const HAND_OVER_INTERVAL: Duration = Duration::from_secs(10);

/// The time between two hand-overs that a leader in trouble tries.
const HAND_OVER_RETRY: Duration = Duration::from_secs(1);

/// The time after which a leader that found nobody to hand over to looks again.
const CANDIDATE_RETRY: Duration = Duration::from_millis(100);

/// How long a hand-over may take.
const HAND_OVER_DEADLINE: Duration = Duration::from_secs(2);

/// After this long what is known of an election is written down, complete or not.
const SETTLED_AFTER: Duration = Duration::from_secs(3);

/// What the task works with.
pub(crate) struct CampaignTask {
    pub(crate) parts: Parts,
    pub(crate) hand_overs: HandOvers,
    pub(crate) lease: Duration,
    /// How long a candidate is given before it campaigns again.
    pub(crate) candidacy: Duration,
    pub(crate) campaigns: Arc<AtomicU64>,
    /// Whether this node is about to end.
    pub(crate) leaving: watch::Receiver<bool>,
}

/// The task and what it remembers.
struct Campaigns {
    task: CampaignTask,
    fitness: Fitness,
    /// Whether openraft's own timer is on; `None` before it was set.
    timer: Option<bool>,
    /// The leader, role and term seen last, and since when.
    seen: Leadership,
    seen_at: Instant,
    /// Since when there is reason to campaign.
    due_since: Option<Instant>,
    next_ask: Instant,
    asked: u32,
    campaign: Option<Campaign>,
    hand_over_after: Instant,
    unsettled_since: Option<Instant>,
}

/// This node's campaign, from its first pre-vote until there is a leader and its term has begun.
#[derive(Debug, Clone)]
struct Campaign {
    cause: ElectionCause,
    previous: Option<u64>,
    began: Instant,
    /// When the term was raised: a pre-vote was granted.
    candidate: Option<(u64, Instant)>,
    /// When a quorum had voted.
    elected: Option<(u64, Instant)>,
    phases: ElectionPhases,
}

/// Switches openraft's timer on when the task ends.
struct Backstop(RaftHandle);

impl Drop for Backstop {
    fn drop(&mut self) {
        self.0.runtime_config().elect(true);
    }
}

impl CampaignTask {
    /// Looks for as long as the node runs.
    pub(crate) async fn run(self) {
        let _backstop = Backstop(self.parts.raft.clone());
        let now = Instant::now();
        let seen = *self.parts.leadership.borrow();
        let fitness = Fitness::new(&self.parts, self.lease);
        let campaigns = Campaigns {
            task: self,
            fitness,
            timer: None,
            seen,
            seen_at: now,
            due_since: None,
            next_ask: now,
            asked: 0,
            campaign: None,
            hand_over_after: now,
            unsettled_since: None,
        };
        campaigns.run().await;
    }
}

impl Campaigns {
    async fn run(mut self) {
        let mut leadership = self.task.parts.leadership.clone();
        let mut applied = self.task.parts.store.applied_index();
        let mut failure = self.task.parts.storage.failure();
        let mut planned = Instant::now();
        self.follow(*leadership.borrow_and_update());
        loop {
            tokio::select! {
                biased;
                changed = leadership.changed() => if changed.is_err() { return },
                changed = failure.changed() => if changed.is_err() { return },
                changed = applied.changed(), if self.is_taking_over() => {
                    if changed.is_err() { return }
                }
                () = world::sleep_until(planned) => {
                    self.fitness.timer_fired(planned.elapsed());
                }
            }
            let failed = failure.borrow_and_update().is_some();
            self.follow(*leadership.borrow_and_update());
            let ask_again = self.task.parts.detector.look(self.fitness.own_health());
            let now = Instant::now();
            let mut wait = ask_again.min(TICK);
            if self.seen.leads {
                self.set_timer(true);
                self.lead(now, failed);
            } else if !failed {
                wait = wait.min(self.decide(now).await);
            }
            self.settle(now);
            planned = now + wait.max(Duration::from_millis(1));
        }
    }

    /// Whether this node has been elected and its term has not begun yet.
    fn is_taking_over(&self) -> bool {
        self.campaign.as_ref().is_some_and(|campaign| campaign.elected.is_some())
    }

    /// Takes in who leads now, and tells of an election that has come to its end.
    fn follow(&mut self, next: Leadership) {
        let now = Instant::now();
        let before = self.seen;
        if (next.term, next.leader, next.role) != (before.term, before.leader, before.role) {
            self.seen_at = now;
            self.seen = next;
            self.due_since = None;
        }
        if next.role == Role::Candidate && before.role != Role::Candidate {
            let campaign = self.campaign.get_or_insert_with(|| Campaign::began(before, now));
            campaign.candidate = Some((next.term, now));
            campaign.phases.pre_vote_ms = Some(milliseconds(now.since(campaign.began)));
        }
        if next.leads && (!before.leads || next.term != before.term) {
            self.elected(before, next, now);
        } else if let Some(leader) = next.leader
            && !next.leads
            && (Some(leader), next.term) != (before.leader, before.term)
        {
            self.heard_of(leader, before, next);
        }
        self.begun();
    }

    /// This node has been elected.
    fn elected(&mut self, before: Leadership, next: Leadership, now: Instant) {
        let mut campaign = self.campaign.take().unwrap_or_else(|| Campaign::began(before, now));
        if let Some(cause) = self.task.parts.elections.announced(next.term) {
            campaign.cause = cause;
            if cause.is_trouble() {
                self.hand_over_after = now + HAND_OVER_INTERVAL;
            }
        }
        let since = campaign.candidate.filter(|(term, _at)| *term == next.term);
        campaign.phases.vote_ms = since.map(|(_term, at)| milliseconds(now.since(at)));
        campaign.elected = Some((next.term, now));
        self.task.parts.elections.won(self.election(&campaign, next.term));
        self.unsettled_since = Some(now);
        self.asked = 0;
        self.campaign = Some(campaign);
    }

    /// The term of this leader has begun once its first entry is applied.
    fn begun(&mut self) {
        let Some(campaign) = &mut self.campaign else { return };
        let Some((term, at)) = campaign.elected else { return };
        if !self.seen.leads || self.seen.term != term {
            self.campaign = None;
            return;
        }
        if self.task.parts.store.applied_term() != term {
            return;
        }
        campaign.phases.ready_ms = Some(milliseconds(at.elapsed()));
        let campaign = campaign.clone();
        self.campaign = None;
        let election = self.election(&campaign, term);
        info!(term, cause = %election.cause, phases = ?election.phases, "this node leads now");
        self.task.parts.elections.won(election);
    }

    /// Another node leads.
    fn heard_of(&mut self, leader: u64, before: Leadership, next: Leadership) {
        self.campaign = None;
        self.asked = 0;
        // The clock starts again with each: this one's winner has not told of it yet.
        self.unsettled_since = Some(Instant::now());
        let previous = before.leader.filter(|previous| *previous != leader);
        self.task.parts.elections.seen(Election {
            wall_ms: world::wall_clock_ms(),
            term: next.term,
            leader,
            previous,
            cause: ElectionCause::Untold,
            phases: ElectionPhases::default(),
        });
    }

    fn election(&self, campaign: &Campaign, term: u64) -> Election {
        Election {
            wall_ms: world::wall_clock_ms(),
            term,
            leader: self.task.parts.node_id,
            previous: campaign.previous,
            cause: campaign.cause,
            phases: campaign.phases,
        }
    }

    fn settle(&mut self, now: Instant) {
        if self.unsettled_since.is_some_and(|since| now.since(since) >= SETTLED_AFTER) {
            self.unsettled_since = None;
            self.task.parts.elections.settle();
        }
    }

    /// Campaigns if there is reason to; answers when to look again.
    async fn decide(&mut self, now: Instant) -> Duration {
        let seen = self.seen;
        let voters: Vec<u64> = self.task.parts.membership.borrow().voter_ids().collect();
        if !voters.contains(&self.task.parts.node_id) || seen.alone {
            self.set_timer(true);
            return TICK;
        }
        if *self.task.leaving.borrow() {
            self.set_timer(false);
            return TICK;
        }
        let heard =
            self.task.parts.detector.last_append().map_or(self.seen_at, |at| at.max(self.seen_at));
        let silence = now.since(heard);
        let is_over = silence >= OBJECTION_MAX.max(2 * self.task.lease);
        let objects = self.objects() && !is_over;
        let well = self.fitness.is_well() || is_over;
        self.set_timer(!objects && well);
        let candidate = seen.role == Role::Candidate;
        let patience =
            if candidate || seen.leader.is_none() { self.task.candidacy } else { self.task.lease };
        let hasty = self.task.parts.buggify.is_planted("campaign-in-haste");
        if hasty && silence > TICK {
            let _ = self.task.parts.raft.trigger().elect(false).await;
        }
        if objects || !well || silence < patience {
            self.due_since = None;
            return patience.saturating_sub(silence).max(Duration::from_millis(1));
        }
        let due_since = *self.due_since.get_or_insert(now);
        let rank = self.rank(&voters);
        let ask_at = (due_since + RANK_DELAY * rank).max(self.next_ask);
        if now < ask_at {
            return ask_at.since(now);
        }
        self.ask(now, silence, rank).await;
        TICK
    }

    async fn ask(&mut self, now: Instant, silence: Duration, rank: u32) {
        let cause = self.cause();
        let previous = self.other_leader();
        if self.campaign.is_none() {
            info!(term = self.seen.term, %cause, silence_ms = silence.as_millis(), rank,
                "asking for an election");
            self.campaign = Some(Campaign {
                cause,
                previous,
                began: now,
                candidate: None,
                elected: None,
                phases: ElectionPhases {
                    silence_ms: Some(milliseconds(silence)),
                    ..ElectionPhases::default()
                },
            });
        }
        self.asked = self.asked.saturating_add(1);
        self.task.campaigns.fetch_add(1, Ordering::Relaxed);
        // An answer must have had the time to come, or asking again would forget it.
        let round_trip = self.round_trip_max() * 2;
        let pause = (CAMPAIGN_PAUSE + RANK_DELAY * rank) * (1 + self.asked / 8);
        self.next_ask = now + pause.min(CAMPAIGN_PAUSE_MAX) + round_trip;
        // A stopped core is noticed elsewhere.
        let _ = self.task.parts.raft.trigger().elect(true).await;
    }

    /// The leader, if one is known and it is not this node.
    fn other_leader(&self) -> Option<u64> {
        self.seen.leader.filter(|leader| *leader != self.task.parts.node_id)
    }

    /// Why a campaign begins now.
    fn cause(&self) -> ElectionCause {
        let Some(leader) = self.other_leader() else { return ElectionCause::NoLeader };
        let reading = self.task.parts.detector.reading(leader);
        match reading.and_then(|reading| Some((reading.phi?, reading.suspect_threshold))) {
            Some((phi, threshold)) if phi >= threshold => ElectionCause::Silence { phi, threshold },
            _ if self.denies(leader) => ElectionCause::NoLeader,
            _ => ElectionCause::LeaseExpired,
        }
    }

    /// Whether the detector takes the leader for one that lives and leads.
    fn objects(&self) -> bool {
        self.other_leader().is_some_and(|leader| {
            let level = self.task.parts.detector.level(leader);
            level.is_some_and(|level| level < Level::Suspect) && !self.denies(leader)
        })
    }

    /// Whether the node that is taken for the leader says that it does not lead.
    fn denies(&self, leader: u64) -> bool {
        let said = self.task.parts.detector.said(leader);
        said.is_some_and(|said| {
            said.at > self.seen_at && !said.leads && said.term >= self.seen.term
        })
    }

    /// How many voters should campaign before this one: living ones with more of the log, and of
    /// equals those with a smaller id (after ESCAPE, Zhang and Jacobsen 2022).
    fn rank(&self, voters: &[u64]) -> u32 {
        let own = self.task.parts.storage.last().map_or((0, 0), |last| (last.term, last.index));
        let id = self.task.parts.node_id;
        let before = self.task.parts.detector.all_said().into_iter().filter(|(peer, said)| {
            voters.contains(peer)
                && Some(*peer) != self.seen.leader
                && self.task.parts.detector.level(*peer) == Some(Level::Alive)
                && (said.last > own || said.last == own && *peer < id)
        });
        u32::try_from(before.count()).unwrap_or(u32::MAX)
    }

    fn round_trip_max(&self) -> Duration {
        let links = self.task.parts.links.all();
        let longest = links.iter().filter(|link| link.is_healthy());
        longest.map(|link| link.pulse().round_trip).max().unwrap_or_default()
    }

    fn set_timer(&mut self, on: bool) {
        if self.timer != Some(on) {
            self.task.parts.raft.runtime_config().elect(on);
            self.timer = Some(on);
        }
    }

    /// Hands over if this leader cannot write.
    fn lead(&mut self, now: Instant, failed: bool) {
        if now < self.hand_over_after || self.task.parts.buggify.is_planted("keep-title") {
            return;
        }
        let Some(cause) = self.fitness.trouble(failed, self.seen.alone) else { return };
        if !self.task.hand_overs.has_candidate() {
            self.hand_over_after = now + CANDIDATE_RETRY;
            return;
        }
        self.hand_over_after = now + HAND_OVER_RETRY;
        let hand_overs = self.task.hand_overs.clone();
        world::spawn(async move {
            let outcome = hand_overs.run(None, cause, now + HAND_OVER_DEADLINE).await;
            if let Err(error) = outcome
                && error != HandOverError::NoLeader
            {
                warn!(%error, %cause, "this leader is in trouble and leads on");
            }
        });
    }
}

impl Campaign {
    /// A campaign that openraft began by itself.
    fn began(before: Leadership, now: Instant) -> Self {
        let cause = match before.leader {
            Some(_) => ElectionCause::LeaseExpired,
            None => ElectionCause::NoLeader,
        };
        Self {
            cause,
            previous: before.leader,
            began: now,
            candidate: None,
            elected: None,
            phases: ElectionPhases::default(),
        }
    }
}
