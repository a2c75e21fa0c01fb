//! The last intervals between heartbeats of one peer, and their sums.
//!
//! An interval is *on time* up to one and a half periods and *late* beyond. The two are kept apart
//! because they have different causes: on-time intervals show the jitter of timers and network,
//! late ones are lost heartbeats, scheduling and stalls. One late interval among the others would
//! widen their deviation for ten seconds and say nothing about the next late one.
//!
//! All sums are whole nanoseconds, so they are exact however long the window lives: running float
//! sums drift, and a variance that drifts below zero is NaN. It deliberately knows no time of day,
//! no sequence and no reason why an interval was long.

/// How many intervals are remembered.
pub const WINDOW: usize = 200;

/// How many made-up intervals a new window starts with: an eighth of it, in whole pairs.
const SYNTHETIC: usize = 26;

/// The longest interval that counts as such, in periods; what is longer counts as this long.
const INTERVAL_PERIODS_MAX: u64 = 20;

/// The last [`WINDOW`] intervals under one period.
#[derive(Debug, Clone)]
pub(crate) struct Window {
    intervals: [u64; WINDOW],
    oldest: usize,
    len: usize,
    synthetic: usize,
    period: u64,
    on_time: u64,
    sum: u64,
    sum_of_squares: u128,
    late: u64,
    excess: u64,
}

impl Window {
    /// A window for a period in nanoseconds, filled as if a few heartbeats had come a quarter of a
    /// period early and late in turn: a new peer is judged with doubt, not by a single interval.
    pub(crate) fn new(period: u64) -> Self {
        let mut window = Self {
            intervals: [0; WINDOW],
            oldest: 0,
            len: 0,
            synthetic: 0,
            period,
            on_time: 0,
            sum: 0,
            sum_of_squares: 0,
            late: 0,
            excess: 0,
        };
        for pair in 0..SYNTHETIC {
            window.push(if pair % 2 == 0 { period - period / 4 } else { period + period / 4 });
        }
        window.synthetic = SYNTHETIC;
        window
    }

    /// Takes in one interval in nanoseconds. The oldest leaves when the window is full, and a
    /// made-up one leaves for each of the first real ones.
    #[inline]
    pub(crate) fn push(&mut self, interval: u64) {
        if self.len == WINDOW || self.synthetic > 0 {
            self.synthetic = self.synthetic.saturating_sub(1);
            self.remove_oldest();
        }
        let interval = interval.min(self.period.saturating_mul(INTERVAL_PERIODS_MAX));
        let free = self.oldest + self.len;
        let free = if free < WINDOW { free } else { free - WINDOW };
        self.intervals[free] = interval;
        self.len += 1;
        if self.is_late(interval) {
            self.late += 1;
            self.excess += interval - self.period;
        } else {
            self.on_time += 1;
            self.sum += interval;
            self.sum_of_squares += u128::from(interval) * u128::from(interval);
        }
    }

    fn remove_oldest(&mut self) {
        let interval = self.intervals[self.oldest];
        self.oldest = if self.oldest + 1 < WINDOW { self.oldest + 1 } else { 0 };
        self.len -= 1;
        if self.is_late(interval) {
            self.late -= 1;
            self.excess -= interval - self.period;
        } else {
            self.on_time -= 1;
            self.sum -= interval;
            self.sum_of_squares -= u128::from(interval) * u128::from(interval);
        }
    }

    fn is_late(&self, interval: u64) -> bool {
        interval > self.period + self.period / 2
    }

    /// The period in nanoseconds.
    pub(crate) fn period(&self) -> u64 {
        self.period
    }

    /// How many intervals were measured; the others are made up.
    pub(crate) fn measured(&self) -> usize {
        self.len - self.synthetic
    }

    /// How many were on time.
    pub(crate) fn on_time(&self) -> u64 {
        self.on_time
    }

    /// How many were late.
    pub(crate) fn late(&self) -> u64 {
        self.late
    }

    /// By how much the late ones exceeded the period, together, in nanoseconds.
    pub(crate) fn excess(&self) -> u64 {
        self.excess
    }

    /// The sum of the on-time ones in nanoseconds: their mean by their number.
    pub(crate) fn sum(&self) -> u64 {
        self.sum
    }

    /// The variance of the on-time ones in square nanoseconds, times the square of their number.
    #[inline]
    pub(crate) fn spread(&self) -> u128 {
        // Exact, and never below zero (Cauchy and Schwarz).
        u128::from(self.on_time) * self.sum_of_squares - u128::from(self.sum) * u128::from(self.sum)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PERIOD: u64 = 50_000_000;

    /// The same window by the book: all intervals in a list, everything computed from scratch.
    struct Naive(Vec<u64>);

    impl Naive {
        fn on_time(&self) -> Vec<i128> {
            let late = |interval: &&u64| **interval > PERIOD + PERIOD / 2;
            self.0.iter().filter(|interval| !late(interval)).map(|i| i128::from(*i)).collect()
        }

        /// From the differences themselves, so that nothing cancels.
        fn spread(&self) -> i128 {
            let on_time = self.on_time();
            let pairs = on_time.iter().flat_map(|a| on_time.iter().map(move |b| (a - b) * (a - b)));
            pairs.sum::<i128>() / 2
        }

        fn excess(&self) -> u64 {
            self.0.iter().filter(|i| **i > PERIOD + PERIOD / 2).map(|i| i - PERIOD).sum()
        }
    }

    proptest! {
        #[test]
        fn a_window_agrees_with_one_computed_from_scratch(
            intervals in proptest::collection::vec(
                prop_oneof![8 => 0..PERIOD * 3 / 2 + 2, 1 => 0..PERIOD * 30],
                0..700,
            ),
        ) {
            let mut window = Window::new(PERIOD);
            for (count, interval) in intervals.iter().enumerate() {
                window.push(*interval);
                let made_up = SYNTHETIC.saturating_sub(count + 1);
                let first = (count + 1).saturating_sub(WINDOW);
                let mut naive = Naive(
                    (SYNTHETIC - made_up..SYNTHETIC)
                        .map(|n| if n % 2 == 0 { PERIOD * 3 / 4 } else { PERIOD * 5 / 4 })
                        .collect(),
                );
                naive.0.extend(intervals[first..=count].iter().map(|i| (*i).min(PERIOD * 20)));
                prop_assert_eq!(window.measured(), naive.0.len() - made_up);
                let late = naive.0.len() - naive.on_time().len();
                prop_assert_eq!(window.late(), late as u64);
                prop_assert_eq!(window.excess(), naive.excess());
                prop_assert_eq!(window.on_time(), naive.on_time().len() as u64);
                prop_assert_eq!(i128::from(window.sum()), naive.on_time().iter().sum::<i128>());
                // Twenty thousand differences at every step would take the test minutes.
                if count % 37 == 0 || count + 1 == intervals.len() {
                    prop_assert_eq!(i128::try_from(window.spread()), Ok(naive.spread()));
                }
            }
        }
    }

    #[test]
    fn a_variance_that_running_float_sums_would_lose_is_exact() {
        let period = 60_000_000_000;
        let mut window = Window::new(period);
        for count in 0..10_000_u64 {
            window.push(period + count % 2);
        }
        assert_eq!(window.spread(), (WINDOW as u128 / 2).pow(2));
    }

    #[test]
    fn a_new_window_is_in_doubt_by_a_quarter_of_the_period() {
        let window = Window::new(PERIOD);
        assert_eq!(window.sum(), PERIOD * window.on_time());
        assert_eq!(window.spread(), u128::from(PERIOD / 4 * window.on_time()).pow(2));
        assert_eq!(window.measured(), 0);
    }
}
