//! What one entry costs: puts of 16-byte keys and 256-byte values into stores of 100,000 and of
//! 1,000,000 keys, hash and session check included, and the common reads beside them.
//!
//! `cargo bench -p mainstay-kv`; the figures that the project promises are those of
//! `put/100000/1` and `put/100000/100`. Envelopes are made in rounds of 100, just before they are
//! applied, as the real thing decodes them; the time of the median round counts, so that what
//! else runs on the machine is left out as far as caches allow.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use mainstay_kv::{
    Command, ENVELOPE_FORMAT, Envelope, KeyRange, Origin, Outcome, Proposal, Put, RangeQuery,
    SortOrder, SortTarget, Stamp, Store,
};

/// As in the program that is shipped.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const KEY_COUNTS: [u64; 2] = [100_000, 1_000_000];
const VALUE_LEN: usize = 256;
const TERM: u64 = 1;

/// Calls that are timed together.
const ROUND: u64 = 100;

/// Puts after which the history is compacted, so that it does not grow without end.
const HISTORY_MAX: u64 = 100_000;

/// A store under load, and the next numbers of everything.
struct Load {
    store: Store,
    keys: u64,
    session: u64,
    number: u64,
    random: u64,
}

impl Load {
    fn new(keys: u64) -> Self {
        let mut store = Store::new();
        let opened = store.apply(envelope(Origin::Unnumbered, Command::SessionOpen), TERM);
        let Ok(Outcome::SessionOpened { session }) = opened.result else {
            panic!("the first session is opened")
        };
        for number in 0..keys {
            // Keys arrive in no order, as they do from many clients.
            let put = put(key(number * 618_033 % keys));
            store.apply(envelope(Origin::Unnumbered, put), TERM);
        }
        Self { store, keys, session, number: 0, random: 1 }
    }

    fn random_key(&mut self) -> Bytes {
        // Marsaglia's xorshift: cheap, and the same in every run.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        key(self.random % self.keys)
    }

    fn numbered_put(&mut self) -> Envelope {
        self.number += 1;
        let (session, number) = (self.session, self.number);
        let origin = Origin::Session { session, number, lowest_awaited: number };
        let key = self.random_key();
        envelope(origin, put(key))
    }

    fn forget_history(&mut self) {
        let revision = self.store.revision();
        self.store.apply(envelope(Origin::Unnumbered, Command::Compact { revision }), TERM);
        while self.store.next_deadline_ms() == Some(0) {
            self.store.apply(envelope(Origin::Unnumbered, Command::Tick), TERM);
        }
    }
}

fn key(number: u64) -> Bytes {
    Bytes::from(format!("key-{number:012}"))
}

fn put(key: Bytes) -> Command {
    let value = Some(Bytes::from(vec![b'v'; VALUE_LEN]));
    Command::Put(Put { key, value, lease: Some(0), want_previous: false })
}

fn envelope(origin: Origin, command: Command) -> Envelope {
    Envelope {
        format: ENVELOPE_FORMAT,
        epoch: 1,
        stamp: Stamp { term: TERM, time_ms: 1 },
        wall_ms: 1,
        proposal: Proposal { origin, ..Proposal::unattributed(command) },
    }
}

/// The time of `calls` by the median of rounds of `each` of them; `round` makes one and says how
/// long it took.
fn time(calls: u64, each: u64, mut round: impl FnMut() -> Duration) -> Duration {
    let rounds = calls.div_ceil(each);
    let mut times: Vec<Duration> = (0..rounds).map(|_| round()).collect();
    times.sort_unstable();
    let nanoseconds = times[times.len() / 2].as_nanos() * u128::from(calls) / u128::from(each);
    Duration::from_nanos(u64::try_from(nanoseconds).expect("a benchmark ends within centuries"))
}

fn time_puts(load: &mut Load, puts: u64) -> Duration {
    time(puts, ROUND, || {
        let envelopes: Vec<Envelope> = (0..ROUND).map(|_| load.numbered_put()).collect();
        #[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
        let start = Instant::now();
        for envelope in envelopes {
            black_box(load.store.apply(envelope, TERM));
        }
        let time = start.elapsed();
        if load.number.is_multiple_of(HISTORY_MAX) {
            load.forget_history();
        }
        time
    })
}

fn time_reads(reads: u64, each: u64, mut read: impl FnMut()) -> Duration {
    time(reads, each, || {
        #[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
        let start = Instant::now();
        (0..each).for_each(|_| read());
        start.elapsed()
    })
}

fn puts(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("put");
    group.sample_size(20);
    for keys in KEY_COUNTS {
        let mut load = Load::new(keys);
        for batch in [1, 100] {
            group.bench_function(BenchmarkId::new(keys.to_string(), batch), |bencher| {
                bencher.iter_custom(|iterations| time_puts(&mut load, batch * iterations));
            });
        }
    }
    group.finish();
}

fn reads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("read");
    group.sample_size(20);
    for keys in KEY_COUNTS {
        let mut load = Load::new(keys);
        group.bench_function(BenchmarkId::new("get", keys), |bencher| {
            bencher.iter_custom(|iterations| {
                time_reads(iterations, ROUND, || {
                    let query = RangeQuery::new(KeyRange::key(load.random_key()));
                    let _ = black_box(load.store.range(&query));
                })
            });
        });
        let prefix = KeyRange::prefix(Bytes::from_static(b"key-"));
        let limited = RangeQuery { limit: 100, ..RangeQuery::new(prefix.clone()) };
        let counted = RangeQuery { count_only: true, ..RangeQuery::new(prefix.clone()) };
        let oldest = RangeQuery {
            limit: 1,
            order: SortOrder::Ascend,
            target: SortTarget::CreateRevision,
            ..RangeQuery::new(prefix)
        };
        // The oldest is found by looking at all.
        let queries = [("page", limited, ROUND), ("count", counted, ROUND), ("oldest", oldest, 1)];
        for (name, query, each) in queries {
            group.bench_function(BenchmarkId::new(name, keys), |bencher| {
                bencher.iter_custom(|iterations| {
                    time_reads(iterations, each, || drop(black_box(load.store.range(&query))))
                });
            });
        }
        let last = load.store.revision();
        group.bench_function(BenchmarkId::new("changes", keys), |bencher| {
            bencher.iter_custom(|iterations| {
                time_reads(iterations, ROUND, || {
                    let _ = black_box(load.store.changes(last - 99, usize::MAX));
                })
            });
        });
    }
    group.finish();
}

criterion_group!(benches, puts, reads);
criterion_main!(benches);
