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

/// The heartbeats that follow those of [`running`], for as long as a benchmark likes. Their times
/// are made up beforehand: making one up would cost a quarter of the heartbeat.
struct Arrivals {
    steps: Vec<(u64, Duration)>,
    next: usize,
    sequence: u64,
    now: Duration,
}

impl Arrivals {
    fn new() -> Self {
        let used = |sequence: &u64| !sequence.is_multiple_of(64);
        let sequences: Vec<u64> = (RUNNING..RUNNING + (1 << 12)).filter(used).collect();
        let step = |pair: &[u64]| (pair[1] - pair[0], arrival(pair[1]) - arrival(pair[0]));
        let steps = sequences.windows(2).map(step).collect();
        Self { steps, next: 0, sequence: RUNNING, now: arrival(RUNNING) }
    }

    #[inline]
    fn next(&mut self) -> (Heartbeat, Duration) {
        let (sequences, time) = self.steps[self.next];
        self.next = if self.next + 1 < self.steps.len() { self.next + 1 } else { 0 };
        self.sequence += sequences;
        self.now += time;
        (heartbeat(self.sequence), self.now)
    }
}

/// The last heartbeat that a detector has heard when a benchmark begins.
const RUNNING: u64 = 1_001;

/// A detector with full windows.
fn running() -> FailureDetector {
    let mut detector =
        FailureDetector::new(settings(), Duration::ZERO).expect("the settings are in order");
    for peer in 1..=PEERS {
        detector.watch(peer, Duration::ZERO).expect("four peers are few");
        for sequence in (1..=RUNNING).filter(|sequence| sequence % 64 != 0) {
            detector.heartbeat(peer, &heartbeat(sequence), arrival(sequence)).expect("in order");
        }
    }
    detector
}

fn costs(criterion: &mut Criterion) {
    let origin = Instant::now();
    criterion.bench_function("clock read", |bencher| bencher.iter(|| black_box(origin).elapsed()));

    let (mut detector, mut arrivals) = (running(), Arrivals::new());
    criterion.bench_function("heartbeat, without its clock read", |bencher| {
        bencher.iter(|| {
            let (heartbeat, now) = arrivals.next();
            detector.heartbeat(black_box(2), &heartbeat, now).expect("in order")
        });
    });

    let (mut detector, mut arrivals) = (running(), Arrivals::new());
    criterion.bench_function("heartbeat, with its clock read", |bencher| {
        bencher.iter(|| {
            let (heartbeat, now) = arrivals.next();
            black_box(origin.elapsed());
            detector.heartbeat(black_box(2), &heartbeat, now).expect("in order")
        });
    });

    let detector = running();
    let last = arrival(RUNNING);
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

    let mut detector = running();
    let now = arrival(RUNNING);
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
