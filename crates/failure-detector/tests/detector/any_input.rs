//! Whatever is handed in, in whatever order and at whatever time: no panic, no NaN, no level that
//! was told and sinks without a sign of life, no deadline beyond reach, and an end of polling.

use std::{collections::BTreeMap, time::Duration};

use mainstay_failure_detector::{
    FailureDetector, Heartbeat, Level, OwnHealth, PHI_MAX, Reading, Settings,
};
use proptest::prelude::*;

/// Three peers, so that they also meet those that are not watched.
const PEERS: u64 = 3;

#[derive(Debug, Clone)]
enum Input {
    Watch(u64),
    Forget(u64),
    Heartbeat(u64, Heartbeat),
    Contact(u64),
    OwnHealth(OwnHealth),
    Poll,
}

fn duration() -> impl Strategy<Value = Duration> {
    prop_oneof![
        8 => (0..200_u64).prop_map(Duration::from_millis),
        2 => (0..100_000_000_u64).prop_map(Duration::from_nanos),
        1 => any::<u64>().prop_map(Duration::from_nanos),
        1 => Just(Duration::MAX),
    ]
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![6 => 0..50_u64, 1 => any::<u64>(), 1 => Just(u64::MAX)]
}

fn input() -> impl Strategy<Value = Input> {
    let heartbeat = (number(), number(), duration(), duration(), duration()).prop_map(
        |(incarnation, sequence, period, oldest_sync_age, scheduling_lag)| Heartbeat {
            incarnation: incarnation % 3,
            sequence,
            period,
            oldest_sync_age,
            scheduling_lag,
        },
    );
    prop_oneof![
        1 => (0..PEERS).prop_map(Input::Watch),
        1 => (0..PEERS).prop_map(Input::Forget),
        8 => (0..PEERS, heartbeat).prop_map(|(peer, heartbeat)| Input::Heartbeat(peer, heartbeat)),
        1 => (0..PEERS).prop_map(Input::Contact),
        1 => (duration(), duration()).prop_map(|(scheduling_lag, oldest_sync_age)| {
            Input::OwnHealth(OwnHealth { scheduling_lag, oldest_sync_age })
        }),
        4 => Just(Input::Poll),
    ]
}

fn sound(reading: &Reading) -> bool {
    let phi = reading.phi.unwrap_or(0.0);
    (0.0..=PHI_MAX).contains(&phi)
        && (1.0..=PHI_MAX).contains(&reading.suspect_threshold)
        && reading.suspect_threshold < reading.failed_threshold
        && (0.0..=1.0).contains(&reading.tail_share)
        && reading.mean >= reading.period
        && reading.samples <= 200
}

/// No wait is longer: 20 periods of a minute, at thresholds doubled.
const WAIT_MAX: Duration = Duration::from_secs(40 * 60);

/// Polls until nothing is told; there are at most two changes a peer.
fn drain(detector: &mut FailureDetector, now: Duration) -> Result<(), TestCaseError> {
    for _change in 0..=2 * PEERS {
        if detector.poll(now).change.is_none() {
            return Ok(());
        }
    }
    Err(TestCaseError::fail("the same is told again and again"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_order_of_inputs_at_no_time_does_harm(
        inputs in proptest::collection::vec((input(), duration(), any::<bool>()), 0..200),
    ) {
        let mut detector = FailureDetector::new(Settings::default(), Duration::ZERO).unwrap();
        let mut now = Duration::ZERO;
        let mut told = BTreeMap::new();
        for (input, time, backwards) in inputs {
            let odd = time > Duration::from_secs(1);
            now = match (odd, backwards) {
                (true, _) => time,
                (false, true) if time > Duration::from_millis(190) => now.saturating_sub(time),
                (false, _) => now.saturating_add(time),
            };
            // Forgetting is the one thing that does not look at the clock.
            let observed = !matches!(input, Input::Forget(_));
            match input {
                Input::Watch(peer) => detector.watch(peer, now).unwrap(),
                Input::Forget(peer) => {
                    detector.forget(peer);
                    told.remove(&peer);
                }
                Input::Heartbeat(peer, heartbeat) => {
                    if detector.heartbeat(peer, &heartbeat, now).is_ok() {
                        prop_assert_eq!(detector.level(peer, now), Some(Level::Alive));
                        told.remove(&peer);
                    }
                }
                Input::Contact(peer) => {
                    let heard = detector.reading(peer, now).is_some_and(|it| it.heartbeats > 0);
                    let was = detector.contact(peer, now);
                    if heard {
                        prop_assert!(was.is_some());
                        prop_assert_eq!(detector.level(peer, now), Some(Level::Alive));
                        told.remove(&peer);
                    }
                }
                Input::OwnHealth(own) => detector.own_health(own, now),
                Input::Poll => {
                    drain(&mut detector, now)?;
                    for peer in 0..PEERS {
                        told.extend(detector.level(peer, now).map(|level| (peer, level)));
                    }
                }
            }
            for reading in detector.readings(now) {
                prop_assert!(sound(&reading), "{:?}", reading);
                let told = told.get(&reading.peer).copied();
                prop_assert!(Some(reading.level) >= told, "{told:?} was told: {:?}", reading);
                if let (true, Some(deadlines)) = (observed, detector.deadlines(reading.peer)) {
                    prop_assert!(deadlines.suspect_at <= deadlines.failed_at);
                    // The detector's clock ends at half of its numbers.
                    let latest = now.min(Duration::from_nanos(u64::MAX / 2)) + WAIT_MAX;
                    prop_assert!(deadlines.failed_at <= latest, "{:?} at {now:?}", deadlines);
                }
            }
        }
    }

    #[test]
    fn levels_and_phi_only_grow_while_nothing_is_heard(
        heartbeats in 1..300_u64,
        jitter in proptest::collection::vec(0..60_u64, 1..20),
        mut silences in proptest::collection::vec(0..2_000_u64, 2..40),
        lag_ms in 0..100_u64,
    ) {
        let mut detector = FailureDetector::new(Settings::default(), Duration::ZERO).unwrap();
        detector.watch(0, Duration::ZERO).unwrap();
        let mut now = Duration::ZERO;
        for (sequence, jitter_ms) in (0..heartbeats).zip(jitter.iter().cycle()) {
            now += Duration::from_millis(20 + jitter_ms);
            let heartbeat = Heartbeat {
                incarnation: 0,
                sequence,
                period: Duration::from_millis(50),
                oldest_sync_age: Duration::ZERO,
                scheduling_lag: Duration::ZERO,
            };
            drain(&mut detector, now)?;
            detector.heartbeat(0, &heartbeat, now).unwrap();
        }
        let scheduling_lag = Duration::from_millis(lag_ms);
        detector.own_health(OwnHealth { scheduling_lag, ..OwnHealth::default() }, now);
        silences.sort_unstable();
        let mut before = (0.0, Level::Unheard);
        for silence in silences {
            let reading = detector.reading(0, now + Duration::from_millis(silence)).unwrap();
            let after = (reading.phi.unwrap(), reading.level);
            prop_assert!(after.0 >= before.0 && after.1 >= before.1, "{after:?} after {before:?}");
            // A level and phi agree, but for the last nanosecond.
            let (suspect, failed) = (reading.suspect_threshold, reading.failed_threshold);
            let expected = if after.0 > failed + 1e-5 {
                Some(Level::Failed)
            } else if after.0 > suspect + 1e-5 && after.0 < failed - 1e-5 {
                Some(Level::Suspect)
            } else if after.0 < suspect - 1e-5 {
                Some(Level::Alive)
            } else {
                None
            };
            prop_assert!(expected.is_none_or(|expected| expected == after.1), "{:?}", reading);
            before = after;
        }
    }

    #[test]
    fn phi_reaches_a_threshold_at_its_deadline_to_the_nanosecond(
        period in prop_oneof![
            Just(50_000_000_u64), 1_000_000..60_000_000_000_u64, Just(60_000_000_000)],
        intervals in proptest::collection::vec(prop_oneof![6 => 70..130_u64, 1 => 0..600_u64], 1..260),
        suspect in 1.0..149.0_f64,
        above in 0.01..1.0_f64,
        lag_ms in 0..100_u64,
    ) {
        let failed = suspect + above * (150.0 - suspect);
        let tick = Duration::from_secs(1 << 32);
        let settings = Settings { suspect, failed, tick, ..Settings::default() };
        let mut detector = FailureDetector::new(settings, Duration::ZERO).unwrap();
        detector.watch(0, Duration::ZERO).unwrap();
        let mut now = Duration::ZERO;
        for (sequence, percent) in (1..).zip(intervals) {
            now += Duration::from_nanos(period) * u32::try_from(percent).unwrap() / 100;
            let heartbeat = Heartbeat {
                incarnation: 0,
                sequence,
                period: Duration::from_nanos(period),
                oldest_sync_age: Duration::ZERO,
                scheduling_lag: Duration::ZERO,
            };
            detector.heartbeat(0, &heartbeat, now).unwrap();
        }
        let scheduling_lag = Duration::from_millis(lag_ms);
        detector.own_health(OwnHealth { scheduling_lag, ..OwnHealth::default() }, now);
        let reading = detector.reading(0, now).unwrap();
        let deadlines = detector.deadlines(0).unwrap();
        let nanosecond = Duration::from_nanos(1);
        for (at, threshold) in [
            (deadlines.suspect_at, reading.suspect_threshold),
            (deadlines.failed_at, reading.failed_threshold),
        ] {
            let before = detector.phi(0, at - nanosecond).unwrap();
            let after = detector.phi(0, at + nanosecond).unwrap();
            prop_assert!(before <= threshold && threshold <= after, "{before} {threshold} {after}");
        }
    }
}
