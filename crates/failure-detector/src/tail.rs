//! The upper tail of the normal distribution as phi, and back.
//!
//! Phi is the negative decimal logarithm of the tail Q(z). Taking it as `1 - cdf` ends at phi
//! 15.95, where the difference falls below the spacing of floats, and jumps to infinity from there;
//! `erfc` keeps its relative precision down to the smallest normal float, so phi is right up to
//! [`PHI_MAX`], where it is capped: JSON has no infinity. `libm` gives the same bits on every host.

use std::f64::consts::FRAC_1_SQRT_2;

/// The largest phi that is ever told.
pub const PHI_MAX: f64 = 300.0;

/// The tail that belongs to [`PHI_MAX`].
const TAIL_MIN: f64 = 1e-300;

/// More deviations than [`PHI_MAX`] lies at.
const DEVIATIONS_MAX: f64 = 40.0;

/// Phi of a normally distributed value `deviations` standard deviations above its mean: from 0 to
/// [`PHI_MAX`], never NaN.
pub(crate) fn phi_of_deviations(deviations: f64) -> f64 {
    let tail = 0.5 * libm::erfc(deviations * FRAC_1_SQRT_2);
    if tail > TAIL_MIN { 0.0 - libm::log10(tail) } else { PHI_MAX }
}

/// How many standard deviations above the mean phi reaches `phi`, which is at least log10(2).
///
/// By bisection: it runs when a detector is made, not when a heartbeat arrives.
pub(crate) fn deviations_of_phi(phi: f64) -> f64 {
    let (mut low, mut high) = (0.0, DEVIATIONS_MAX);
    // Each step halves 40 deviations; 64 steps end below the spacing of floats.
    for _step in 0..64 {
        let middle = 0.5 * (low + high);
        if phi_of_deviations(middle) < phi { low = middle } else { high = middle }
    }
    high
}

#[cfg(test)]
mod tests {
    use std::f64::consts::{LOG10_E, PI};

    use super::*;

    /// The same by another way: Mills' ratio as a continued fraction (Laplace), for z from 2 up.
    fn phi_by_continued_fraction(z: f64) -> f64 {
        let mut fraction = 0.0;
        for k in (1..=2_000_u32).rev() {
            fraction = f64::from(k) / (z + fraction);
        }
        (0.5 * z * z + (z + fraction).ln() + 0.5 * (2.0 * PI).ln()) * LOG10_E
    }

    #[test]
    fn phi_has_the_published_values() {
        for (z, phi) in [
            (3.0, 2.870),
            (5.612, 8.000),
            (7.0, 11.893),
            (8.2, 15.920),
            (8.222, 16.000),
            (8.3, 16.284),
            (22.0, 106.8),
        ] {
            let found = phi_of_deviations(z);
            assert!((found - phi).abs() < 0.06_f64.min(phi * 5e-4), "phi at {z} is {found}");
        }
    }

    #[test]
    fn phi_is_exact_far_beyond_the_precision_of_one_minus_the_cdf() {
        let mut z = 2.0;
        while z < 37.0 {
            let (found, expected) = (phi_of_deviations(z), phi_by_continued_fraction(z));
            assert!((found / expected - 1.0).abs() < 1e-12, "phi at {z}: {found}, not {expected}");
            z += 0.01;
        }
        assert!(phi_of_deviations(37.0) > 299.0);
    }

    #[test]
    fn phi_is_capped_and_never_nan() {
        for z in [37.1, 40.0, 1e9, f64::MAX, f64::INFINITY, f64::NAN] {
            assert_eq!(phi_of_deviations(z), PHI_MAX, "phi at {z}");
        }
        assert_eq!(phi_of_deviations(f64::NEG_INFINITY), 0.0);
        assert!((phi_of_deviations(0.0) - 2_f64.log10()).abs() < 1e-15);
    }

    #[test]
    fn the_inverse_has_the_published_values_and_finds_every_phi_again() {
        for (phi, z) in [(1.0, 1.2816), (3.0, 3.0902), (8.0, 5.6120), (16.0, 8.2221)] {
            assert!((deviations_of_phi(phi) - z).abs() < 5e-5);
        }
        for phi in 1..=256 {
            let phi = f64::from(phi);
            assert!((phi_of_deviations(deviations_of_phi(phi)) / phi - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn phi_never_sinks_by_a_rounding_where_the_series_change() {
        let mut last = 0.0;
        for step in -1_200_000..1_200_000_i32 {
            let phi = phi_of_deviations(f64::from(step) * 1e-5);
            assert!(phi >= last, "{phi} after {last} at step {step}");
            last = phi;
        }
    }
}
