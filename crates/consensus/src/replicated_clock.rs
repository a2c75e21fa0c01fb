//! The leader's reading of the replicated clock.
//!
//! The clock is a count of milliseconds in the store. A new leader takes it over as the store has
//! it after the first entry of its own term, and from there on adds the monotonic time that passes
//! while a quorum acknowledges it: up to the last acknowledgement plus one leader lease. Time in
//! which nobody followed is not counted, so an outage expires no lease, and a leader that lost its
//! quorum cannot run ahead. Counting too little is always safe here: leases then live longer.
//!
//! Pure: the caller brings the time.

use std::time::Duration;

use mainstay_world::Instant;

/// The clock of one leadership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReplicatedClock {
    /// The term it is valid for.
    term: u64,
    /// The store's clock when the leadership began, in milliseconds.
    base_ms: u64,
    /// Time that was covered since.
    covered: Duration,
    /// Up to here time was decided on, counted or not.
    seen_until: Instant,
    /// Up to here the acknowledgements seen so far cover time.
    covered_until: Instant,
}

impl ReplicatedClock {
    /// The clock of a leader of `term` that takes over at `base_ms`.
    pub(crate) const fn take_over(term: u64, base_ms: u64, now: Instant) -> Self {
        Self { term, base_ms, covered: Duration::ZERO, seen_until: now, covered_until: now }
    }

    /// The term the clock is valid for.
    pub(crate) const fn term(&self) -> u64 {
        self.term
    }

    /// Counts the time up to `now` that is covered by `quorum_acked`, the send time of the newest
    /// acknowledged round, plus one `lease`, or was covered by an earlier one.
    ///
    /// To be called several times a lease; acknowledgements that nobody looked at count nothing.
    pub(crate) fn observe(&mut self, now: Instant, quorum_acked: Instant, lease: Duration) {
        self.count(self.seen_until, self.covered_until.min(now));
        self.count(quorum_acked.max(self.seen_until), (quorum_acked + lease).min(now));
        self.covered_until = self.covered_until.max(quorum_acked + lease);
    }

    fn count(&mut self, from: Instant, until: Instant) {
        if until > from {
            self.covered += until.since(from);
            self.seen_until = until;
        }
    }

    /// Milliseconds of the replicated clock.
    pub(crate) fn time_ms(&self) -> u64 {
        let covered = u64::try_from(self.covered.as_millis()).unwrap_or(u64::MAX);
        self.base_ms.saturating_add(covered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_millis(300);

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[tokio::test]
    async fn covered_time_counts_and_goes_on_from_the_store() {
        let start = Instant::now();
        let mut clock = ReplicatedClock::take_over(3, 1_000, start);
        clock.observe(start, start, LEASE);
        for step in 1..=10 {
            let now = start + ms(50 * step);
            clock.observe(now, now - ms(5), LEASE);
        }
        assert_eq!((clock.term(), clock.time_ms()), (3, 1_500));
    }

    #[tokio::test]
    async fn without_a_quorum_time_stops_one_lease_after_the_last_acknowledgement() {
        let start = Instant::now();
        let mut clock = ReplicatedClock::take_over(1, 0, start);
        for step in 1..=100 {
            clock.observe(start + ms(50 * step), start, LEASE);
        }
        assert_eq!(clock.time_ms(), 300);
    }

    #[tokio::test]
    async fn an_outage_is_not_counted_when_the_quorum_comes_back() {
        let start = Instant::now();
        let mut clock = ReplicatedClock::take_over(1, 0, start);
        clock.observe(start + ms(100), start + ms(100), LEASE);
        for step in 1..=100 {
            clock.observe(start + ms(100 + 50 * step), start + ms(100), LEASE);
        }
        assert_eq!(clock.time_ms(), 400);
        let soon = start + ms(650);
        let mut early = clock.clone();
        early.observe(soon, start + ms(640), LEASE);
        assert_eq!(early.time_ms(), 410, "a short outage was counted");
        let back = start + ms(6_000);
        clock.observe(back + ms(20), back, LEASE);
        assert_eq!(clock.time_ms(), 420, "the outage was counted");
    }

    #[tokio::test]
    async fn time_never_goes_back() {
        let start = Instant::now();
        let mut clock = ReplicatedClock::take_over(1, 0, start);
        clock.observe(start + ms(100), start + ms(90), LEASE);
        let before = clock.time_ms();
        clock.observe(start + ms(50), start, LEASE);
        assert_eq!(clock.time_ms(), before);
    }
}
