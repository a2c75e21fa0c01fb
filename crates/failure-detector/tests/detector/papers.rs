//! What the papers claim of accrual detectors, as sentences.
//!
//! Hayashibara, Defago, Yared and Katayama, "The phi accrual failure detector" (SRDS 2004), and
//! Defago, Urban, Hayashibara and Katayama, "Definition and specification of accrual failure
//! detectors" (DSN 2005).

use std::time::Duration;

use mainstay_failure_detector::{Level, PHI_MAX, Settings};

use crate::pair::{PERIOD, Pair};

/// Intervals that are normally distributed around the period, by the sum of twelve uniform ones.
struct Normal(u64);

impl Normal {
    fn interval(&mut self, deviation: Duration) -> Duration {
        let mut sum = 0.0;
        for _uniform in 0..12 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            sum += (self.0 >> 11) as f64 / (1_u64 << 53) as f64;
        }
        let seconds = PERIOD.as_secs_f64() + (sum - 6.0) * deviation.as_secs_f64();
        Duration::from_secs_f64(seconds.max(0.0))
    }
}

#[test]
fn accruement_the_phi_of_a_dead_peer_grows_without_end_up_to_the_cap() {
    let mut pair = Pair::running();
    let mut last = -1.0;
    loop {
        let phi = pair.reading().phi.unwrap();
        if phi == PHI_MAX {
            break;
        }
        assert!(phi > last || phi == 0.0, "{phi} after {last}");
        last = phi;
        pair.pass(PERIOD / 2);
        assert!(pair.reading().silence < PERIOD * 200, "phi is {phi} and does not grow");
    }
}

#[test]
fn upper_bound_the_phi_of_a_peer_that_lives_stays_bounded() {
    let mut pair = Pair::running();
    let mut random = Normal(1);
    let mut highest: f64 = 0.0;
    for _beat in 0..20_000 {
        let interval = random.interval(PERIOD / 5);
        pair.pass(interval);
        highest = highest.max(pair.reading().phi.unwrap());
        pair.beat().unwrap();
    }
    assert!(highest < 8.0, "{highest}");
}

#[test]
fn a_level_bounds_the_rate_of_mistakes_while_the_model_holds() {
    for level in [1.0, 2.0, 3.0] {
        let settings = Settings { suspect: level, ..Settings::default() };
        let mut pair = Pair::with(settings);
        let mut random = Normal(2);
        let heartbeats = 50_000;
        for _beat in 0..heartbeats {
            let interval = random.interval(PERIOD / 4);
            pair.pass(interval);
            pair.beat().unwrap();
        }
        let rate = pair.reading().mistakes as f64 / f64::from(heartbeats);
        assert!(rate <= 10_f64.powf(-level), "at level {level}: {rate}");
    }
}

#[test]
fn a_higher_level_makes_fewer_mistakes_and_takes_longer() {
    let run = |suspect| {
        let mut pair = Pair::with(Settings { suspect, ..Settings::default() });
        let mut random = Normal(3);
        let mut waited = Duration::ZERO;
        for beat in 0..20_000_u64 {
            // Every fiftieth heartbeat is lost, and every five hundredth with the two after it.
            let lost = if beat % 500 == 0 { 3 } else { u32::from(beat % 50 == 0) };
            let interval = random.interval(PERIOD / 5) + PERIOD * lost;
            pair.pass(interval);
            pair.sent.sequence += u64::from(lost);
            pair.beat().unwrap();
            waited += pair.wait();
        }
        (pair.reading().mistakes, waited)
    };
    let runs = [1.0, 2.0, 4.0, 8.0].map(run);
    assert!(runs.iter().rev().map(|(mistakes, _)| mistakes).is_sorted(), "{runs:?}");
    assert!(runs.iter().map(|(_, waited)| waited).is_sorted(), "{runs:?}");
    assert!(runs[0].0 > 0, "the lowest level must make some for this to say anything");
}

#[test]
fn one_detector_serves_two_levels_of_caution() {
    let mut pair = Pair::running();
    let told: Vec<_> = pair.pass(PERIOD * 20).iter().map(|change| change.to).collect();
    assert_eq!(told, [Level::Suspect, Level::Failed]);
}
