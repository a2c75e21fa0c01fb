//! How well this node itself is, and how far it therefore raises its thresholds.
//!
//! A node that is slow sees everybody else late. Lifeguard (Dadgar and others, 2018; in
//! HashiCorp's memberlist) gives every node a score of its own health and scales its patience by
//! it; here the score, 0 for well to 8 for unwell, raises both thresholds by an eighth of their
//! level a step, so that at worst they are doubled. Stepwise, because what belongs to a threshold
//! is then computed once and for all.
//!
//! Whether an unwell node should campaign is not decided here: the score is there to be asked.

use std::time::Duration;

use crate::{
    model::Threshold,
    nanos::nanos,
    settings::{Settings, SettingsError},
};

/// The score of a node that is as unwell as counts.
pub const SCORE_MAX: u8 = 8;

/// The score of a node from which more than half of its peers are silent at once.
const SCORE_ALONE: u8 = 4;

/// What a node knows of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OwnHealth {
    /// By how much its timers are late.
    pub scheduling_lag: Duration,
    /// How long its oldest unfinished sync has been under way; zero when none is.
    pub oldest_sync_age: Duration,
}

/// How far thresholds are raised, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Adaptation {
    /// From 0, thresholds as set, to [`SCORE_MAX`], thresholds doubled.
    pub score: u8,
    /// What gave the score.
    pub reason: Reason,
}

/// Why thresholds are raised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// They are not: this node is well.
    Well,
    /// This node's timers are late.
    SchedulingLag,
    /// This node's oldest sync is slow.
    SyncAge,
    /// More than half of the peers are silent at once: likelier this node is cut off.
    Alone,
}

impl Adaptation {
    /// Of a node that is well.
    pub(crate) const WELL: Self = Self { score: 0, reason: Reason::Well };

    /// The worst that its own health and its view of the others say.
    pub(crate) fn of(settings: &Settings, own: OwnHealth, silent: usize, peers: usize) -> Self {
        let score = |value: Duration, step: Duration| {
            let steps = nanos(value) / nanos(step).max(1);
            u8::try_from(steps).unwrap_or(u8::MAX).min(SCORE_MAX)
        };
        let alone = if peers > 1 && silent * 2 > peers { SCORE_ALONE } else { 0 };
        [
            (score(own.scheduling_lag, settings.scheduling_lag_step), Reason::SchedulingLag),
            (score(own.oldest_sync_age, settings.sync_age_step), Reason::SyncAge),
            (alone, Reason::Alone),
        ]
        .into_iter()
        .fold(
            Self::WELL,
            |worst, (score, reason)| {
                if score > worst.score { Self { score, reason } } else { worst }
            },
        )
    }
}

/// The thresholds of both levels, for every score.
#[derive(Debug, Clone)]
pub(crate) struct Thresholds([Levels; SCORE_MAX as usize + 1]);

/// The thresholds in force at one score.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Levels {
    pub(crate) suspect: Threshold,
    pub(crate) failed: Threshold,
}

impl Thresholds {
    /// Of checked settings.
    pub(crate) fn new(settings: &Settings) -> Result<Self, SettingsError> {
        settings.check()?;
        Ok(Self(std::array::from_fn(|score| {
            let factor = 1.0 + score as f64 / f64::from(SCORE_MAX);
            Levels {
                suspect: Threshold::new(settings.suspect * factor),
                failed: Threshold::new(settings.failed * factor),
            }
        })))
    }

    /// Those in force under an adaptation.
    pub(crate) fn in_force(&self, adaptation: Adaptation) -> Levels {
        self.0[usize::from(adaptation.score.min(SCORE_MAX))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adaptation(lag_ms: u64, sync_age_ms: u64, silent: usize, peers: usize) -> Adaptation {
        let own = OwnHealth {
            scheduling_lag: Duration::from_millis(lag_ms),
            oldest_sync_age: Duration::from_millis(sync_age_ms),
        };
        Adaptation::of(&Settings::default(), own, silent, peers)
    }

    #[test]
    fn a_well_node_raises_nothing() {
        assert_eq!(adaptation(9, 49, 1, 2), Adaptation::WELL);
        assert_eq!(adaptation(0, 0, 0, 0), Adaptation::WELL);
    }

    #[test]
    fn the_worst_of_its_troubles_decides_and_is_named() {
        let lag = Adaptation { score: 3, reason: Reason::SchedulingLag };
        assert_eq!(adaptation(30, 100, 0, 4), lag);
        let sync = Adaptation { score: 6, reason: Reason::SyncAge };
        assert_eq!(adaptation(30, 300, 0, 4), sync);
        let worst = Adaptation { score: SCORE_MAX, reason: Reason::SchedulingLag };
        assert_eq!(adaptation(u64::MAX, u64::MAX, 4, 4), worst);
    }

    #[test]
    fn a_node_that_hears_less_than_half_of_the_others_doubts_itself() {
        let alone = Adaptation { score: SCORE_ALONE, reason: Reason::Alone };
        assert_eq!(adaptation(0, 0, 2, 4), Adaptation::WELL);
        assert_eq!(adaptation(0, 0, 3, 4), alone);
        assert_eq!(adaptation(0, 0, 2, 2), alone);
        // With one other node there is no majority to compare with.
        assert_eq!(adaptation(0, 0, 1, 1), Adaptation::WELL);
    }

    #[test]
    fn the_worst_score_doubles_both_thresholds() {
        let thresholds = Thresholds::new(&Settings::default()).unwrap();
        let phi = |score| {
            let levels = thresholds.in_force(Adaptation { score, reason: Reason::SyncAge });
            (levels.suspect.phi, levels.failed.phi)
        };
        assert_eq!(phi(0), (8.0, 16.0));
        assert_eq!(phi(4), (12.0, 24.0));
        assert_eq!(phi(SCORE_MAX), (16.0, 32.0));
        assert_eq!(phi(u8::MAX), (16.0, 32.0));
    }
}
