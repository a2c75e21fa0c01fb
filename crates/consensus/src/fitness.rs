//! Whether this node is fit to lead: its disk, its timers, and who answers it.
//!
//! A node that is not well does not ask to lead, and a leader that cannot write gives leadership
//! away. What follows from the answers is decided in `campaign`.

use std::time::Duration;

use mainstay_failure_detector::OwnHealth;
use openraft::async_runtime::WatchReceiver as _;

use crate::{
    detection::{STALL_BUDGET_MIN, stall_budget},
    election::ElectionCause,
    running::Parts,
};

/// A node whose timers are later than this is unwell.
const LAG_UNWELL: Duration = Duration::from_millis(100);

/// A leader whose timers are later than this, on average over a second or so, cannot lead.
const LAG_MEAN_MAX: Duration = Duration::from_millis(150);

/// What is known of this node's own state.
pub(crate) struct Fitness {
    parts: Parts,
    lease: Duration,
    lag: Lag,
}

impl Fitness {
    pub(crate) fn new(parts: &Parts, lease: Duration) -> Self {
        Self { parts: parts.clone(), lease, lag: Lag::default() }
    }

    /// Notes by how much a timer was late.
    pub(crate) fn timer_fired(&mut self, late: Duration) {
        self.lag.record(late);
    }

    /// How this node is, for the detector.
    pub(crate) fn own_health(&self) -> OwnHealth {
        OwnHealth { scheduling_lag: self.lag.recent, oldest_sync_age: self.oldest_sync() }
    }

    /// Whether it may ask to lead.
    pub(crate) fn is_well(&self) -> bool {
        let oldest = self.oldest_sync();
        // The smallest budget first: the budget itself takes some reckoning.
        let slow =
            oldest * 2 >= STALL_BUDGET_MIN && oldest * 2 >= stall_budget(&self.parts.storage);
        !slow && self.lag.recent < LAG_UNWELL
    }

    /// What keeps it, as the leader, from writing.
    pub(crate) fn trouble(&self, storage_failed: bool, alone: bool) -> Option<ElectionCause> {
        if storage_failed {
            return Some(ElectionCause::StorageFailed);
        }
        let oldest = self.oldest_sync();
        if oldest >= STALL_BUDGET_MIN {
            let budget = stall_budget(&self.parts.storage);
            if oldest >= budget {
                return Some(ElectionCause::Stall {
                    oldest_sync_ms: milliseconds(oldest),
                    budget_ms: milliseconds(budget),
                });
            }
        }
        if self.lag.mean >= LAG_MEAN_MAX {
            return Some(ElectionCause::Lag { lag_ms: milliseconds(self.lag.mean) });
        }
        // Its followers may hear it well and keep it, while their answers come too late to count:
        // then it can neither write nor will it be replaced.
        let metrics = self.parts.raft.data_metrics();
        let acked = metrics.borrow_watched().last_quorum_acked.map(|acked| acked.0);
        let quorum_age = acked.map_or(Duration::ZERO, |acked| acked.elapsed());
        (!alone && quorum_age >= 2 * self.lease)
            .then(|| ElectionCause::NoQuorum { quorum_age_ms: milliseconds(quorum_age) })
    }

    fn oldest_sync(&self) -> Duration {
        self.parts.storage.progress().oldest_unfinished.unwrap_or_default()
    }
}

/// By how much this node's timers are late.
#[derive(Debug, Default)]
struct Lag {
    /// The newest lateness, forgotten by an eighth at each look.
    recent: Duration,
    /// The mean of the last second or so.
    mean: Duration,
}

impl Lag {
    fn record(&mut self, late: Duration) {
        self.recent = late.max(self.recent * 7 / 8);
        self.mean = (self.mean * 31 + late) / 32;
    }
}

/// A duration in whole milliseconds.
pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_late_timer_is_remembered_for_a_moment_and_weighs_little_in_the_mean() {
        let mut lag = Lag::default();
        lag.record(Duration::from_millis(200));
        assert_eq!(lag.recent, Duration::from_millis(200));
        assert!(lag.mean < Duration::from_millis(10));
        for _ in 0..16 {
            lag.record(Duration::ZERO);
        }
        assert!(lag.recent < Duration::from_millis(25));
    }

    #[test]
    fn timers_that_stay_late_make_a_leader_hand_over() {
        let mut lag = Lag::default();
        for _ in 0..32 {
            assert!(lag.mean < LAG_MEAN_MAX);
            lag.record(Duration::from_millis(220));
        }
        for _ in 0..32 {
            lag.record(Duration::from_millis(220));
        }
        assert!(lag.mean >= LAG_MEAN_MAX);
    }
}
