//! How much the checkers allow for: clocks that run wrong, and the time that things may take.

/// What the checkers allow for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// How much any node's clock may run too fast or too slow, in thousandths.
    pub clock_error_per_mille: u64,
    /// How long after its time a lease of a healthy cluster may live on, in milliseconds.
    pub lease_end_ms: u64,
    /// How long after a fault the first write must be acknowledged, in milliseconds.
    pub recovery_ms: u64,
    /// The same after the disk of the leader, and of nobody else, began to hang.
    pub stalled_leader_ms: u64,
    /// How long after the last fault the cluster must be well again, in milliseconds.
    pub liveness_ms: u64,
    /// How many writes and how many reads must succeed in that time.
    pub liveness_calls: u64,
    /// How many steps the search for an order of the calls on one key may take.
    pub search_steps: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            clock_error_per_mille: 0,
            lease_end_ms: 2_000,
            recovery_ms: 5_000,
            stalled_leader_ms: 1_500,
            liveness_ms: 20_000,
            liveness_calls: 3,
            search_steps: 300_000,
        }
    }
}

impl Bounds {
    /// The shortest simulated time, in microseconds, in which a node's clock can count `ms`.
    #[must_use]
    pub const fn shortest_us(&self, ms: u64) -> u64 {
        ms.saturating_mul(1_000_000) / (1_000 + self.clock_error_per_mille)
    }

    /// The longest simulated time, in microseconds, in which a node's clock can count `ms`.
    ///
    /// # Panics
    /// If a clock may stand still: then nothing is bounded.
    #[must_use]
    pub const fn longest_us(&self, ms: u64) -> u64 {
        assert!(self.clock_error_per_mille < 1_000, "a clock that stands still bounds nothing");
        ms.saturating_mul(1_000_000).div_ceil(1_000 - self.clock_error_per_mille)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_may_run_wrong_by_the_stated_part() {
        let exact = Bounds::default();
        assert_eq!((exact.shortest_us(10), exact.longest_us(10)), (10_000, 10_000));
        let wrong = Bounds { clock_error_per_mille: 250, ..exact };
        assert_eq!((wrong.shortest_us(10), wrong.longest_us(10)), (8_000, 13_334));
    }
}
