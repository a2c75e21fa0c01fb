//! What the detector costs: a heartbeat, phi, adapted thresholds; beside them what it costs to
//! read the clock, the unit in which the bars are set.
//!
//! `cargo bench -p mainstay-failure-detector`; `docs/failure-detector.md` has what it printed.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock it compares with")]

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use criterion::{Criterion, criterion_group, criterion_main};
use mainstay_failure_detector::{FailureDetector, Heartbeat, OwnHealth, Settings};

const PERIOD: Duration = Duration::from_millis(50);

/// The others of a cluster of five.
const PEERS: u64 = 4;

/// A node that is never asked must not be taken for paused.
fn settings() -> Settings {
    Settings { tick: Duration::from_secs(1 << 30), ..Settings::default() }
}

fn heartbeat(sequence: u64) -> Heartbeat {
    Heartbeat {
        incarnation: 1,
        sequence,
        period: PERIOD,
        oldest_sync_age: Duration::ZERO,
        scheduling_lag: Duration::ZERO,
    }
}

/// When heartbeat `sequence` arrives: up to 8 ms late, and one in 64 lost.
fn arrival(sequence: u64) -> Duration {
    let noise = sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 41;
    PERIOD * u32::try_from(sequence).unwrap_or(u32::MAX) + Duration::from_nanos(noise)
}

/// A detector with full windows, and the sequence that comes next.
fn running() -> (FailureDetector, u64) {
    let mut detector =
        FailureDetector::new(settings(), Duration::ZERO).expect("the settings are in order");
    for peer in 1..=PEERS {
        detector.watch(peer, Duration::ZERO).expect("four peers are few");
        for sequence in (1..=1_000).filter(|sequence| sequence % 64 != 0) {
            detector.heartbeat(peer, &heartbeat(sequence), arrival(sequence)).expect("in order");
        }
    }
    (detector, 1_001)
}

fn costs(criterion: &mut Criterion) {
    let origin = Instant::now();
    criterion.bench_function("clock read", |bencher| bencher.iter(|| black_box(origin).elapsed()));

    let (mut detector, mut sequence) = running();
    criterion.bench_function("heartbeat, without its clock read", |bencher| {
        bencher.iter(|| {
            sequence += if sequence % 64 == 63 { 2 } else { 1 };
            detector.heartbeat(2, &heartbeat(sequence), arrival(sequence))
        });
    });

    let (mut detector, mut sequence) = running();
    criterion.bench_function("heartbeat, with its clock read", |bencher| {
        bencher.iter(|| {
            sequence += if sequence % 64 == 63 { 2 } else { 1 };
            black_box(origin.elapsed());
            detector.heartbeat(2, &heartbeat(sequence), arrival(sequence))
        });
    });

    let (detector, sequence) = running();
    let last = arrival(sequence - 1);
    for (name, silence) in [("expected", PERIOD), ("suspect", PERIOD * 5), ("failed", PERIOD * 10)]
    {
        criterion.bench_function(&format!("phi, {name} silence"), |bencher| {
            bencher.iter(|| detector.phi(black_box(2), black_box(last + silence)));
        });
    }
    criterion.bench_function("level", |bencher| {
        bencher.iter(|| detector.level(black_box(2), black_box(last + PERIOD)));
    });
    criterion.bench_function("reading", |bencher| {
        bencher.iter(|| detector.reading(black_box(2), black_box(last + PERIOD)));
    });

    let (mut detector, sequence) = running();
    let now = arrival(sequence - 1);
    let mut lag = 0;
    criterion.bench_function("adaptive threshold, changed for four peers", |bencher| {
        bencher.iter(|| {
            lag = if lag == 0 { 30 } else { 0 };
            let scheduling_lag = Duration::from_millis(lag);
            detector.own_health(OwnHealth { scheduling_lag, ..OwnHealth::default() }, now);
        });
    });
    criterion.bench_function("poll, nothing changed", |bencher| {
        bencher.iter(|| detector.poll(black_box(now)));
    });
}

criterion_group!(benches, costs);
criterion_main!(benches);
