//! Heartbeats between all nodes, and what this node makes of those that it gets.
//!
//! Every node beats to every other node, whoever leads, on the control connection, and says how its
//! disk and its timers are; `mainstay_failure_detector` judges the rhythm. Appends of the leader
//! prove that it lives and are not sampled: their rhythm is the load's.
//!
//! Judging ends here. When to ask for an election is decided in `campaign`, when to give
//! leadership away in `handover`.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use mainstay_failure_detector::{
    FailureDetector, Heartbeat, Ignored, IgnoredCounts, Level, OwnHealth, OwnReading, Reading,
    Settings,
};
use mainstay_storage::Storage;
use mainstay_world::{self as world, Instant};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::info;

use crate::election::Election;

/// The stall budget is at least this: below it a sync is slow and nothing follows from it.
pub(crate) const STALL_BUDGET_MIN: Duration = Duration::from_millis(300);

/// The stall budget is at most this, however slow syncs have been.
const STALL_BUDGET_MAX: Duration = Duration::from_secs(1);

/// A sync is stalled when it takes this many times what 99 of 100 syncs took of late.
const STALL_FACTOR: u32 = 10;

/// Heartbeats of an older incarnation in a row after which it is believed to be the living one: a
/// wall clock that was set back gives a new process a smaller number.
const OLD_INCARNATIONS_MAX: u32 = 20;

/// What a node says of itself at each beat.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Beat {
    /// Which run of the process this is.
    pub(crate) incarnation: u64,
    /// The number of the beat within it.
    pub(crate) sequence: u64,
    /// Milliseconds until the next one.
    pub(crate) period_ms: u64,
    /// Age of the oldest unfinished sync in milliseconds, 0 when none is.
    pub(crate) oldest_sync_ms: u64,
    /// By how much the sender's timers are late, in milliseconds.
    pub(crate) lag_ms: u64,
    /// The sender's term.
    pub(crate) term: u64,
    /// Whether it leads in it.
    pub(crate) leads: bool,
    /// Term and index of the last entry in its log, zeros for an empty one.
    pub(crate) last: (u64, u64),
    /// The election that made it leader, told for a while after it.
    pub(crate) election: Option<Election>,
}

/// What a node makes of the others, and of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Detection {
    /// What the detector makes of this node.
    pub own: OwnReading,
    /// How this node is.
    pub own_health: OwnHealth,
    /// The age of the oldest unfinished sync from which on a leader hands over.
    pub stall_budget: Duration,
    /// Every peer, in the order of their ids.
    pub peers: Vec<Reading>,
}

/// The newest beat of a peer, in what others decide by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Said {
    pub(crate) at: Instant,
    pub(crate) term: u64,
    pub(crate) leads: bool,
    pub(crate) last: (u64, u64),
    pub(crate) oldest_sync: Duration,
}

/// The detector of a node, shared by the tasks that feed and ask it.
#[derive(Clone)]
pub(crate) struct Detector(Arc<Shared>);

/// The newest leader that said so itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) term: u64,
    pub(crate) leader: u64,
}

struct Shared {
    origin: Instant,
    claims: watch::Sender<Claim>,
    incarnation: u64,
    sent: AtomicU64,
    state: Mutex<State>,
}

struct State {
    detector: FailureDetector,
    own: OwnHealth,
    said: BTreeMap<u64, Said>,
    old_incarnations: BTreeMap<u64, u32>,
    last_append: Option<Instant>,
}

impl Detector {
    pub(crate) fn new() -> Self {
        let detector = FailureDetector::new(Settings::default(), Duration::ZERO)
            .expect("the defaults do not contradict themselves");
        Self(Arc::new(Shared {
            origin: Instant::now(),
            claims: watch::Sender::new(Claim::default()),
            incarnation: world::wall_clock_ms(),
            sent: AtomicU64::new(0),
            state: Mutex::new(State {
                detector,
                own: OwnHealth::default(),
                said: BTreeMap::new(),
                old_incarnations: BTreeMap::new(),
                last_append: None,
            }),
        }))
    }

    /// Watches these peers and no others.
    pub(crate) fn watch_only(&self, peers: impl Iterator<Item = u64>) {
        let now = self.now();
        let peers: Vec<u64> = peers.collect();
        let mut state = self.lock();
        let watched: Vec<u64> = state.detector.readings(now).map(|reading| reading.peer).collect();
        for gone in watched.into_iter().filter(|id| !peers.contains(id)) {
            state.detector.forget(gone);
            state.said.remove(&gone);
            state.old_incarnations.remove(&gone);
        }
        for peer in peers {
            if let Err(error) = state.detector.watch(peer, now) {
                tracing::warn!(%error, "a member is not watched");
            }
        }
    }

    /// Takes in a beat of `peer` that has just arrived.
    pub(crate) fn hear(&self, peer: u64, beat: &Beat) {
        let now = self.now();
        let heartbeat = Heartbeat {
            incarnation: beat.incarnation,
            sequence: beat.sequence,
            period: Duration::from_millis(beat.period_ms),
            oldest_sync_age: Duration::from_millis(beat.oldest_sync_ms),
            scheduling_lag: Duration::from_millis(beat.lag_ms),
        };
        let mut state = self.lock();
        let mut heard = state.detector.heartbeat(peer, &heartbeat, now);
        if matches!(heard, Err(Ignored::OldIncarnation { .. })) {
            let times = state.old_incarnations.entry(peer).or_default();
            *times += 1;
            if *times >= OLD_INCARNATIONS_MAX {
                state.detector.forget(peer);
                let _room = state.detector.watch(peer, now);
                heard = state.detector.heartbeat(peer, &heartbeat, now);
            }
        }
        if let Ok(heard) = heard {
            state.old_incarnations.remove(&peer);
            let said = Said {
                at: Instant::now(),
                term: beat.term,
                leads: beat.leads,
                last: beat.last,
                oldest_sync: heartbeat.oldest_sync_age,
            };
            state.said.insert(peer, said);
            if beat.leads {
                let claim = Claim { term: beat.term, leader: peer };
                self.0.claims.send_if_modified(|newest| {
                    let newer = claim.term > newest.term;
                    if newer {
                        *newest = claim;
                    }
                    newer
                });
            }
            if heard.was > Level::Alive {
                let silence_ms = heard.silence.as_millis();
                info!(peer, silence_ms, "a peer is heard again");
            }
        }
    }

    /// The newest leader that said so itself, of any term.
    pub(crate) fn claims(&self) -> watch::Receiver<Claim> {
        self.0.claims.subscribe()
    }

    /// Notes an append of the leader `peer`.
    pub(crate) fn append_arrived(&self, peer: u64) {
        let now = self.now();
        let mut state = self.lock();
        state.last_append = Some(Instant::now());
        state.detector.contact(peer, now);
    }

    /// When the last append arrived.
    pub(crate) fn last_append(&self) -> Option<Instant> {
        self.lock().last_append
    }

    /// Takes in how this node is, and tells the changes of others; answers when to ask again.
    pub(crate) fn look(&self, own: OwnHealth) -> Duration {
        let now = self.now();
        let mut state = self.lock();
        state.own = own;
        state.detector.own_health(own, now);
        loop {
            let poll = state.detector.poll(now);
            let Some(change) = poll.change else {
                return poll.ask_again_at.saturating_sub(now);
            };
            let silence_ms = change.silence.as_millis();
            info!(peer = change.peer, from = ?change.from,
                to = ?change.to, phi = change.phi, silence_ms, "a peer is taken for another");
        }
    }

    /// What a peer is taken for; `None` for one that is not watched.
    pub(crate) fn level(&self, peer: u64) -> Option<Level> {
        self.lock().detector.level(peer, self.now())
    }

    /// Everything known of a peer.
    pub(crate) fn reading(&self, peer: u64) -> Option<Reading> {
        self.lock().detector.reading(peer, self.now())
    }

    /// The newest beat of a peer.
    pub(crate) fn said(&self, peer: u64) -> Option<Said> {
        self.lock().said.get(&peer).copied()
    }

    /// The newest beats of all peers.
    pub(crate) fn all_said(&self) -> Vec<(u64, Said)> {
        self.lock().said.iter().map(|(peer, said)| (*peer, *said)).collect()
    }

    /// How this node is.
    pub(crate) fn own_health(&self) -> OwnHealth {
        self.lock().own
    }

    /// What people are told.
    pub(crate) fn tell(&self, stall_budget: Duration) -> Detection {
        let state = self.lock();
        Detection {
            own: state.detector.own_reading(),
            own_health: state.own,
            stall_budget,
            peers: state.detector.readings(self.now()).collect(),
        }
    }

    /// Heartbeats of each peer that were counted and not used.
    pub(crate) fn ignored(&self) -> BTreeMap<u64, IgnoredCounts> {
        let state = self.lock();
        state.detector.readings(self.now()).map(|reading| (reading.peer, reading.ignored)).collect()
    }

    /// Heartbeats sent so far, to all peers together.
    pub(crate) fn sent(&self) -> u64 {
        self.0.sent.load(Ordering::Relaxed)
    }

    /// Counts a round of heartbeats to so many peers.
    pub(crate) fn count_sent(&self, peers: usize) {
        self.0.sent.fetch_add(peers as u64, Ordering::Relaxed);
    }

    pub(crate) fn incarnation(&self) -> u64 {
        self.0.incarnation
    }

    fn now(&self) -> Duration {
        self.0.origin.elapsed()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The age of the oldest unfinished sync from which on a leader is taken to be unable to write.
pub(crate) fn stall_budget(storage: &Storage) -> Duration {
    budget_of(storage.sync_stats().recent_p99)
}

fn budget_of(recent_p99: Option<Duration>) -> Duration {
    recent_p99
        .map_or(STALL_BUDGET_MIN, |p99| p99 * STALL_FACTOR)
        .clamp(STALL_BUDGET_MIN, STALL_BUDGET_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beat(incarnation: u64, sequence: u64) -> Beat {
        Beat {
            incarnation,
            sequence,
            period_ms: 50,
            oldest_sync_ms: 0,
            lag_ms: 0,
            term: 3,
            leads: true,
            last: (3, 9),
            election: None,
        }
    }

    #[test]
    fn the_stall_budget_follows_the_disk_within_bounds() {
        let ms = Duration::from_millis;
        for (p99, budget) in [(None, 300), (Some(1), 300), (Some(40), 400), (Some(500), 1_000)] {
            assert_eq!(budget_of(p99.map(ms)), ms(budget), "{p99:?}");
        }
    }

    #[test]
    fn only_members_are_watched_and_what_they_say_is_kept() {
        let detector = Detector::new();
        detector.watch_only([2, 3].into_iter());
        detector.hear(2, &beat(7, 1));
        detector.hear(9, &beat(7, 1));
        assert_eq!(detector.level(2), Some(Level::Alive));
        assert_eq!(detector.level(3), Some(Level::Unheard));
        assert_eq!(detector.level(9), None);
        let said = detector.said(2).expect("it was heard");
        assert_eq!((said.term, said.leads, said.last), (3, true, (3, 9)));
        detector.watch_only([3].into_iter());
        assert!(detector.said(2).is_none() && detector.level(2).is_none());
    }

    #[test]
    fn a_process_whose_wall_clock_was_set_back_is_believed_in_the_end() {
        let detector = Detector::new();
        detector.watch_only([2].into_iter());
        detector.hear(2, &beat(100, 1));
        for sequence in 1..=u64::from(OLD_INCARNATIONS_MAX) {
            detector.hear(2, &beat(50, sequence));
        }
        let reading = detector.reading(2).expect("it is watched");
        assert_eq!((reading.incarnation, reading.heartbeats), (50, 1));
    }
}
