//! What a person may set of the detector.
//!
//! The two levels, and how soon this node counts as unwell or paused. The model's own numbers
//! stand in `model.rs`: they are multiples of the period that each sender announces, so one
//! configuration serves every network, and a person has nothing to tune per network.

use std::time::Duration;

use crate::tail::PHI_MAX;

/// The highest level: an unwell node doubles it, and phi must still be able to reach that.
const LEVEL_MAX: f64 = PHI_MAX / 2.0;

/// The settings of a detector.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Phi from which on a peer is suspected.
    pub suspect: f64,
    /// Phi from which on a peer has failed.
    pub failed: f64,
    /// How long a peer that was never heard may take to send its first heartbeat.
    pub join_wait: Duration,
    /// The longest time until the detector wants to be asked again.
    pub tick: Duration,
    /// A caller that comes back later than asked by this much was paused, and the silence of its
    /// peers may be its own.
    pub local_pause: Duration,
    /// Each such step of own scheduling lag raises the thresholds by an eighth of their level.
    pub scheduling_lag_step: Duration,
    /// Each such step of the own oldest sync's age raises the thresholds by an eighth of their
    /// level.
    pub sync_age_step: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            suspect: 8.0,
            failed: 16.0,
            join_wait: Duration::from_secs(1),
            tick: Duration::from_millis(25),
            local_pause: Duration::from_millis(50),
            scheduling_lag_step: Duration::from_millis(10),
            sync_age_step: Duration::from_millis(50),
        }
    }
}

impl Settings {
    pub(crate) fn check(&self) -> Result<(), SettingsError> {
        let (suspect, failed) = (self.suspect, self.failed);
        let levels = 1.0..=LEVEL_MAX;
        if !levels.contains(&suspect) || !levels.contains(&failed) || suspect >= failed {
            return Err(SettingsError::Levels { suspect, failed });
        }
        for (name, value) in [
            ("join_wait", self.join_wait),
            ("tick", self.tick),
            ("local_pause", self.local_pause),
            ("scheduling_lag_step", self.scheduling_lag_step),
            ("sync_age_step", self.sync_age_step),
        ] {
            if value.is_zero() {
                return Err(SettingsError::Zero { name });
            }
        }
        Ok(())
    }
}

/// The settings contradict themselves; no detector was made.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SettingsError {
    /// The levels are not in order or out of range.
    #[error(
        "the levels suspect {suspect} and failed {failed} must be from 1 to {LEVEL_MAX}, in this order"
    )]
    Levels {
        /// The suspect level as set.
        suspect: f64,
        /// The failed level as set.
        failed: f64,
    },
    /// A time is zero.
    #[error("{name} is zero: set it to the default or to a longer time")]
    Zero {
        /// The setting.
        name: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_the_two_levels_of_the_design() {
        let settings = Settings::default();
        assert_eq!((settings.suspect, settings.failed), (8.0, 16.0));
        assert_eq!(settings.check(), Ok(()));
    }

    #[test]
    fn levels_out_of_order_or_range_are_refused() {
        for (suspect, failed) in
            [(8.0, 8.0), (16.0, 8.0), (0.0, 8.0), (f64::NAN, 8.0), (8.0, 151.0), (8.0, f64::NAN)]
        {
            let settings = Settings { suspect, failed, ..Settings::default() };
            assert!(matches!(settings.check(), Err(SettingsError::Levels { .. })));
        }
    }

    #[test]
    fn a_time_of_zero_is_refused_by_name() {
        let settings = Settings { tick: Duration::ZERO, ..Settings::default() };
        assert_eq!(settings.check(), Err(SettingsError::Zero { name: "tick" }));
    }
}
