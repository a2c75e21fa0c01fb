//! When to try again, and how often in all.
//!
//! Waits double from attempt to attempt and are drawn from the upper half of the interval, so that
//! clients which failed together do not come back together. A budget keeps retries a small share of
//! the calls: when a cluster is in trouble, a client must not make its load a multiple (the retry
//! budget of Finagle). Both answer questions and take the time and the random number from outside.

use std::time::Duration;

use mainstay_world::Instant;

/// Waits between the attempts of one call.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    next: Duration,
    max: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, max: Duration) -> Self {
        Self { next: first.min(max), max }
    }

    /// How long to wait before the next attempt.
    pub(crate) fn wait(&mut self, random: u64) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(self.max);
        let half = whole / 2;
        let span = u64::try_from(half.as_micros()).unwrap_or(u64::MAX).saturating_add(1);
        half + Duration::from_micros(random % span)
    }
}

/// Tokens that retries cost: a steady trickle, and a share of every call.
#[derive(Debug)]
pub(crate) struct Budget {
    tokens: f64,
    filled_at: Instant,
}

/// A client alone in its trouble may retry this often.
const TOKENS_PER_SECOND: f64 = 10.0;
/// Every call pays for this share of a retry.
const TOKENS_PER_CALL: f64 = 0.2;
/// What a quiet client may save up.
const TOKENS_MAX: f64 = 50.0;

impl Budget {
    pub(crate) const fn new(now: Instant) -> Self {
        Self { tokens: TOKENS_MAX, filled_at: now }
    }

    /// Notes that a call begins.
    pub(crate) fn deposit(&mut self) {
        self.tokens = (self.tokens + TOKENS_PER_CALL).min(TOKENS_MAX);
    }

    /// Pays for one retry; false when the budget is spent.
    pub(crate) fn withdraw(&mut self, now: Instant) -> bool {
        let trickle = now.since(self.filled_at).as_secs_f64() * TOKENS_PER_SECOND;
        self.tokens = (self.tokens + trickle).min(TOKENS_MAX);
        self.filled_at = now;
        let affordable = self.tokens >= 1.0;
        if affordable {
            self.tokens -= 1.0;
        }
        affordable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_limit_and_stay_in_the_upper_half() {
        for random in [0, 1, 12_345, u64::MAX] {
            let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(100));
            for whole in [20, 40, 80, 100, 100] {
                let whole = Duration::from_millis(whole);
                let wait = backoff.wait(random);
                assert!(wait >= whole / 2 && wait <= whole, "{wait:?} of {whole:?}");
            }
        }
    }

    #[test]
    fn a_burst_of_failures_spends_the_budget_and_time_refills_it() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        let burst = (0..1000).filter(|_| budget.withdraw(start)).count();
        assert_eq!(burst, 50);
        let later = start + Duration::from_secs(1);
        let refilled = (0..1000).filter(|_| budget.withdraw(later)).count();
        assert_eq!(refilled, 10);
    }

    #[test]
    fn five_calls_pay_for_one_retry() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        while budget.withdraw(start) {}
        for _ in 0..6 {
            budget.deposit();
        }
        assert!(budget.withdraw(start));
        assert!(!budget.withdraw(start));
    }
}
