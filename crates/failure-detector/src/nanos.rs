//! Durations as whole nanoseconds, the unit in which the detector counts.
//!
//! 64 bits hold 584 years; what is longer is taken for that. Nothing here can fail.

use std::time::Duration;

/// `duration` in nanoseconds, at most `u64::MAX`.
pub(crate) fn nanos(duration: Duration) -> u64 {
    duration
        .as_secs()
        .saturating_mul(1_000_000_000)
        .saturating_add(u64::from(duration.subsec_nanos()))
}

/// `nanos` rounded to a whole number; nothing below zero, NaN is zero.
pub(crate) fn whole_nanos(nanos: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "this cast saturates at both ends and takes NaN to zero, which is what is meant"
    )]
    let whole = (nanos + 0.5) as u64;
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_beyond_584_years_is_the_longest_time() {
        assert_eq!(nanos(Duration::MAX), u64::MAX);
        assert_eq!(nanos(Duration::new(3, 7)), 3_000_000_007);
    }

    #[test]
    fn no_float_is_too_odd_to_become_a_time() {
        assert_eq!(whole_nanos(f64::NAN), 0);
        assert_eq!(whole_nanos(-1e300), 0);
        assert_eq!(whole_nanos(f64::INFINITY), u64::MAX);
        assert_eq!(whole_nanos(2.6), 3);
    }
}
