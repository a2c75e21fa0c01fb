//! How surprising a silence is: a normal body and an exponential tail.
//!
//! Two things delay a heartbeat. Timers and networks jitter: on-time intervals have a mean and a
//! deviation, and the chance that such an interval lasts longer than a silence is the upper tail
//! of a normal distribution (Hayashibara and others, "The phi accrual failure detector", SRDS
//! 2004). And now and then a heartbeat is lost, a process is not scheduled or a queue stands: a
//! share of the intervals is late, and their lateness beyond the period is taken as exponential
//! (Cassandra takes the whole interval so, which makes its level 8 a timeout of 18 periods).
//!
//! ```text
//! x      = silence - max(mean, period) - acceptable pause
//! chance = max( Q(x / deviation),  share * exp(-x / scale) )
//! phi    = -log10(chance)
//! ```
//!
//! Taking the greater chance instead of the sum costs at most log10(2) = 0.3 of phi, and lets both
//! directions be written down: phi of a silence, and the silence of a phi, without a search.
//!
//! A window shows few late intervals or none, so share and scale start from a prior, and the scale
//! is kept within bounds: unbounded, a handful of outliers would make the detector wait for
//! seconds. What follows for level 8 lies between 3 and 10 periods, for 16 between 6 and 20.

use std::f64::consts::LN_10;

use crate::{
    nanos::whole_nanos,
    tail::{PHI_MAX, deviations_of_phi, phi_of_deviations},
    window::Window,
};

/// The least deviation, in periods: a perfect network must not divide by zero, and no real one
/// stays perfect.
const DEVIATION_MIN: f64 = 0.1;

/// Bounds of the acceptable pause, in periods: one heartbeat may always be missing.
const PAUSE_MIN: u64 = 1;
const PAUSE_MAX: u64 = 2;

/// The acceptable pause in smoothed deviations from the period, as in TCP's timer (RFC 6298).
const PAUSE_PER_JITTER: u64 = 4;

/// Bounds of the tail's scale, in periods. The upper one is that of 5 % independent loss, where
/// the chance falls by 20 with every period.
const SCALE_MIN: f64 = 0.15;
const SCALE_MAX: f64 = 1.0 / 3.0;

/// The tail's scale that a window without a late interval suggests, in deviations of the body: a
/// network that jitters also has bursts.
const SCALE_PER_DEVIATION: f64 = 1.2;

/// How many late intervals the prior of the scale is worth.
const SCALE_PRIOR: f64 = 20.0;

/// The distribution of silences of one peer, in nanoseconds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Model {
    /// Mean of the on-time intervals, at least the period.
    pub(crate) mean: u64,
    /// What a silence may last beyond the mean without being held against the peer.
    pub(crate) pause: u64,
    /// Standard deviation of the on-time intervals, at least a tenth of the period.
    pub(crate) deviation: f64,
    /// The tail's scale: mean lateness of what is late.
    pub(crate) scale: f64,
    /// Natural logarithm of the share of intervals that are late.
    pub(crate) share_ln: f64,
}

impl Model {
    /// Follows a window in what moves with every heartbeat. `jitter` is the smoothed deviation
    /// from the period and `lag` by how much the sender says it may be late, both in nanoseconds.
    #[inline]
    pub(crate) fn center(&mut self, window: &Window, counts: &Counts, jitter: u64, lag: u64) {
        let period = window.period();
        let pause = jitter.saturating_mul(PAUSE_PER_JITTER).max(lag);
        self.pause = pause.clamp(period * PAUSE_MIN, period * PAUSE_MAX);
        let mean = (u128::from(window.sum()) * u128::from(counts.mean_factor)) >> u64::BITS;
        self.mean = u64::try_from(mean).unwrap_or(u64::MAX).max(period);
    }

    /// Follows a window in what stays the same while the network is quiet and as much is late.
    pub(crate) fn shape(&mut self, window: &Window, counts: &Counts) {
        let period = float(window.period());
        let deviation = float_wide(window.spread()).sqrt() * counts.per_on_time;
        self.deviation = greater(deviation, DEVIATION_MIN * period);
        let prior = greater(SCALE_PER_DEVIATION * self.deviation, SCALE_MIN * period);
        let scale = (prior * SCALE_PRIOR + float(window.excess())) * counts.per_late;
        let scale_max = SCALE_MAX * period;
        self.scale = if scale < scale_max { scale } else { scale_max };
        self.share_ln = counts.share_ln;
    }

    /// Phi of a silence in nanoseconds: from 0 to [`PHI_MAX`], growing with the silence.
    pub(crate) fn phi(&self, silence: u64) -> f64 {
        let excess = silence as f64 - float(self.expected());
        let body = phi_of_deviations(excess / self.deviation);
        let tail = (excess / self.scale - self.share_ln) / LN_10;
        body.min(tail).clamp(0.0, PHI_MAX)
    }

    /// The silence in nanoseconds that is expected and costs nothing.
    #[inline]
    pub(crate) fn expected(&self) -> u64 {
        self.mean + self.pause
    }

    /// The nanoseconds beyond [`expected`](Self::expected) at which phi reaches the threshold.
    pub(crate) fn margin(&self, threshold: &Threshold) -> u64 {
        let body = self.deviation * threshold.deviations;
        let tail = self.scale * (threshold.exponent + self.share_ln);
        whole_nanos(greater(body, tail))
    }
}

/// What follows from how many intervals are late and how many on time. Kept, because in a full
/// window the counts seldom change, and a logarithm and two divisions would be half of a heartbeat.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counts {
    late: u64,
    on_time: u64,
    excess: u64,
    /// Natural logarithm of the share of late intervals, (late + 1/2) / (all + 1): the estimator of
    /// Krichevsky and Trofimov, which is never zero.
    share_ln: f64,
    /// One by the number of on-time intervals; zero when there is none.
    per_on_time: f64,
    /// The same times 2^64, rounded down: with it a mean is a multiplication of whole numbers.
    mean_factor: u64,
    /// One by the number of late intervals and what the prior is worth.
    per_late: f64,
    /// The spread up to which the deviation is the least that it can be.
    pub(crate) quiet: u128,
}

impl Counts {
    /// Of a window.
    pub(crate) fn new(window: &Window) -> Self {
        let (late, on_time) = (window.late(), window.on_time());
        Self {
            late,
            on_time,
            excess: window.excess(),
            share_ln: libm::log((float(late) + 0.5) / (float(late + on_time) + 1.0)),
            per_on_time: if on_time == 0 { 0.0 } else { 1.0 / float(on_time) },
            mean_factor: u64::MAX.checked_div(on_time).unwrap_or(0),
            per_late: 1.0 / (SCALE_PRIOR + float(late)),
            quiet: u128::from(whole_nanos(DEVIATION_MIN * float(on_time * window.period()))).pow(2),
        }
    }

    /// Whether they are still those of the window.
    #[inline]
    pub(crate) fn are_of(&self, window: &Window) -> bool {
        self.late == window.late()
            && self.on_time == window.on_time()
            && self.excess == window.excess()
    }
}

/// Times and counts as floats. None reaches 63 bits, from where the way to a float is short.
#[inline]
fn float(whole: u64) -> f64 {
    whole as i64 as f64
}

/// The same for a spread, which is wider when the period is long and the network bad.
#[inline]
fn float_wide(whole: u128) -> f64 {
    #[expect(clippy::cast_possible_truncation, reason = "both halves of 126 bits are taken")]
    let (high, low) = ((whole >> 63) as u64, whole as u64 & (u64::MAX >> 1));
    if high == 0 { float(low) } else { float(high) * (1_u64 << 63) as f64 + float(low) }
}

/// The greater of two numbers. `f64::max` also looks for NaN, which takes as long again; there is
/// none here.
#[inline]
fn greater(a: f64, b: f64) -> f64 {
    if a > b { a } else { b }
}

/// A phi, with what it takes to find its silence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Threshold {
    /// The phi.
    pub(crate) phi: f64,
    /// The standard deviations at which the body's phi is that.
    deviations: f64,
    /// The same phi in natural logarithms.
    exponent: f64,
}

impl Threshold {
    /// Of a phi from 1 to [`PHI_MAX`].
    pub(crate) fn new(phi: f64) -> Self {
        Self { phi, deviations: deviations_of_phi(phi), exponent: phi * LN_10 }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PERIOD: u64 = 50_000_000;

    fn model_of(intervals: &[u64], jitter: u64, lag: u64) -> Model {
        let mut window = Window::new(PERIOD);
        for interval in intervals {
            window.push(*interval);
        }
        let mut model = Model::default();
        let counts = Counts::new(&window);
        model.center(&window, &counts, jitter, lag);
        model.shape(&window, &counts);
        model
    }

    fn silence(model: &Model, phi: f64) -> u64 {
        model.expected() + model.margin(&Threshold::new(phi))
    }

    /// Silences at levels 8 and 16, in periods.
    fn levels(model: &Model) -> (f64, f64) {
        let periods = |phi| silence(model, phi) as f64 / PERIOD as f64;
        (periods(8.0), periods(16.0))
    }

    #[test]
    fn a_clean_network_suspects_after_four_periods_and_fails_after_seven() {
        let (suspect, failed) = levels(&model_of(&[PERIOD; 200], 0, 0));
        assert!((3.5..4.0).contains(&suspect), "{suspect}");
        assert!((6.0..7.0).contains(&failed), "{failed}");
    }

    #[test]
    fn a_perfect_network_does_not_divide_by_zero() {
        let model = model_of(&[PERIOD; 400], 0, 0);
        assert_eq!(model.deviation, 0.1 * PERIOD as f64);
        assert!(model.phi(PERIOD).is_finite());
    }

    #[test]
    fn the_mean_is_never_below_the_period() {
        // A queue that empties: many heartbeats at once must not make the next wait short.
        assert_eq!(model_of(&[1_000; 200], 0, 0).mean, PERIOD);
    }

    #[test]
    fn the_greater_chance_is_within_log_two_of_the_sum_of_both() {
        let model = model_of(&[[PERIOD; 19].as_slice(), &[2 * PERIOD]].concat().repeat(10), 0, 0);
        for silence in (0..20).map(|n| n * PERIOD / 2) {
            let excess = silence as f64 - model.expected() as f64;
            let body = 0.5 * libm::erfc(excess / model.deviation / 2_f64.sqrt());
            let tail = (model.share_ln - excess / model.scale).exp().min(1.0);
            let sum = -(body + tail).min(1.0).log10();
            let difference = model.phi(silence) - sum;
            assert!((-1e-9..0.302).contains(&difference), "{difference} at {silence}");
        }
    }

    #[test]
    fn lost_heartbeats_lengthen_the_wait_and_one_of_them_does_so_less_than_ten() {
        let clean = levels(&model_of(&[PERIOD; 200], 0, 0)).0;
        let one = levels(&model_of(&[[PERIOD; 199].as_slice(), &[2 * PERIOD]].concat(), 0, 0)).0;
        let ten = [[PERIOD; 19].as_slice(), &[2 * PERIOD]].concat().repeat(10);
        let ten = levels(&model_of(&ten, 0, 0)).0;
        assert!(clean < one && one < ten, "{clean}, {one}, {ten}");
        assert!(ten > 6.5, "at 5 % loss, 10^-8 takes more than six losses in a row: {ten}");
    }

    #[test]
    fn the_pause_follows_jitter_and_the_lag_that_the_sender_announces_within_two_periods() {
        let pause = |jitter, lag| model_of(&[PERIOD; 200], jitter, lag).pause;
        assert_eq!(pause(0, 0), PERIOD);
        assert_eq!(pause(PERIOD / 4 + 1, 0), PERIOD + 4);
        assert_eq!(pause(0, PERIOD * 3 / 2), PERIOD * 3 / 2);
        assert_eq!(pause(u64::MAX, u64::MAX), PERIOD * 2);
    }

    proptest! {
        #[test]
        fn levels_are_bounded_whatever_arrives(
            intervals in proptest::collection::vec(
                prop_oneof![0..PERIOD * 3, Just(PERIOD * 3 / 2), any::<u64>()],
                0..400,
            ),
            jitter in any::<u64>(),
            lag in any::<u64>(),
        ) {
            let (suspect, failed) = levels(&model_of(&intervals, jitter, lag));
            prop_assert!((3.0..=10.0).contains(&suspect), "level 8 after {suspect} periods");
            prop_assert!((6.0..=20.0).contains(&failed), "level 16 after {failed} periods");
        }

        #[test]
        fn phi_grows_with_the_silence_and_is_never_nan(
            intervals in proptest::collection::vec(0..PERIOD * 30, 0..400),
            jitter in 0..PERIOD * 3,
            mut silences in proptest::collection::vec(
                prop_oneof![0..PERIOD * 30, any::<u64>()], 2..50),
        ) {
            let model = model_of(&intervals, jitter, 0);
            silences.sort_unstable();
            let phis: Vec<f64> = silences.iter().map(|silence| model.phi(*silence)).collect();
            prop_assert!(phis.is_sorted(), "{phis:?} at {silences:?}");
            prop_assert!(phis.iter().all(|phi| (0.0..=PHI_MAX).contains(phi)));
        }

        #[test]
        fn the_silence_of_a_phi_has_that_phi(
            intervals in proptest::collection::vec(0..PERIOD * 30, 0..400),
            jitter in 0..PERIOD * 3,
            phi in 1.0..256.0_f64,
        ) {
            let model = model_of(&intervals, jitter, 0);
            let found = model.phi(silence(&model, phi));
            prop_assert!((found - phi).abs() < 1e-5, "{found}, not {phi}");
        }
    }
}
