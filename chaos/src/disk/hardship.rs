//! What a disk does to its users, as switches that a scenario turns.

use std::{ops::RangeInclusive, time::Duration};

use crate::dice::Dice;

/// The present behaviour of one disk.
#[derive(Debug, Clone)]
pub struct Hardship {
    /// How long a sync takes, in milliseconds.
    pub sync_ms: RangeInclusive<u64>,
    /// How many syncs of a thousand are slow.
    pub slow_syncs_per_mille: u64,
    /// How long a slow sync takes, in milliseconds.
    pub slow_sync_ms: RangeInclusive<u64>,
    /// While set, no sync ends.
    pub stalled: bool,
    /// How many of the next syncs of a file fail with `EIO`.
    pub failing_syncs: u32,
    /// How many of the next writes fail with `EIO`.
    pub failing_writes: u32,
    /// How many of the next reads fail with `EIO`.
    pub failing_reads: u32,
    /// Bytes that the folder can hold.
    pub capacity_bytes: u64,
}

impl Default for Hardship {
    fn default() -> Self {
        Self {
            sync_ms: 1..=2,
            slow_syncs_per_mille: 0,
            slow_sync_ms: 20..=80,
            stalled: false,
            failing_syncs: 0,
            failing_writes: 0,
            failing_reads: 0,
            capacity_bytes: 1 << 40,
        }
    }
}

impl Hardship {
    pub(super) fn sync_duration(&self, dice: &mut Dice) -> Duration {
        let slow = self.slow_syncs_per_mille > 0 && dice.per_mille(self.slow_syncs_per_mille);
        let range = if slow { &self.slow_sync_ms } else { &self.sync_ms };
        Duration::from_millis(dice.between(range.clone()))
    }
}

/// Counts one failure down; whether there was one left.
pub(super) const fn take_failure(left: &mut u32) -> bool {
    let fails = *left > 0;
    *left = left.saturating_sub(1);
    fails
}

/// A flipped bit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rot {
    /// The file.
    pub file: String,
    /// The byte in it.
    pub offset: u64,
}
