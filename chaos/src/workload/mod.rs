//! The clients of a run: what they do all the time while the scenario makes trouble.
//!
//! They speak the real HTTP API through the real Rust client over the simulated network, or etcd's
//! protocol over gRPC. Each notes every call before it is sent and when it ends. All live on one host, so that their calls
//! are noted in the order of time.

mod caller;
mod etcd;
mod holder;
mod operator;
mod watcher;
mod worker;

use std::{
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use mainstay_world::{self as world, Net, NodeClock, Scope};

pub use self::operator::{Errand, ErrandId, ErrandOutcome};
use self::{
    caller::Caller,
    operator::{Errands, Operator},
};
use crate::{
    cluster::EPOCH_MS, dice::Dice, network::SimulatedNet, record::SharedRecord, trace::Trace,
};

/// The number that stands for the clients' host in the trace.
const CLIENTS_IN_TRACE: u32 = 1000;

/// What the clients do.
#[derive(Debug, Clone)]
pub struct Workload {
    /// Clients that read and write keys.
    pub workers: u32,
    /// Keys that they share.
    pub keys: u64,
    /// How long a worker thinks between two calls, in milliseconds.
    pub think_ms: RangeInclusive<u64>,
    /// How many of a hundred calls of a worker are stale reads.
    pub stale_percent: u64,
    /// The length of a value in bytes, beside its unique part.
    pub value_len: usize,
    /// Clients that watch all keys.
    pub watchers: u32,
    /// Clients that compete for one lock, held by a lease.
    pub holders: u32,
    /// The protocol of all of them.
    pub protocol: Protocol,
    /// Clients of etcd's protocol that compact.
    pub compactors: u32,
    /// Clients of etcd's protocol that read keys as they were.
    pub past_readers: u32,
    /// How long a watcher of etcd's protocol does not read now and then, in milliseconds.
    pub naps_ms: RangeInclusive<u64>,
}

/// How clients speak to nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// The HTTP API.
    Native,
    /// The etcd v3 API.
    Etcd,
}

impl Default for Workload {
    fn default() -> Self {
        Self {
            workers: 4,
            keys: 6,
            think_ms: 40..=160,
            stale_percent: 8,
            value_len: 16,
            watchers: 1,
            holders: 2,
            protocol: Protocol::Native,
            compactors: 0,
            past_readers: 0,
            naps_ms: 200..=1_500,
        }
    }
}

/// What the scenario tells the clients, and they it.
#[derive(Clone, Default)]
pub struct Orders {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    stop: AtomicBool,
    check: AtomicBool,
    busy: AtomicU32,
    checked: AtomicU32,
    check_done: AtomicBool,
    errands: Errands,
}

impl Orders {
    /// The clients finish what they are at and stop.
    pub fn stop(&self) {
        self.inner.stop.store(true, Ordering::Relaxed);
    }

    /// Whether the clients are to stop.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.inner.stop.load(Ordering::Relaxed)
    }

    /// Clients that have not stopped yet.
    #[must_use]
    pub fn busy(&self) -> u32 {
        self.inner.busy.load(Ordering::Relaxed)
    }

    /// One client reads every key once more, through every node that is up.
    pub fn check(&self) {
        self.inner.check.store(true, Ordering::Relaxed);
    }

    /// Whether the last reads are over.
    #[must_use]
    pub fn is_checked(&self) -> bool {
        self.inner.check_done.load(Ordering::Relaxed)
    }

    /// Keys that were read at the end.
    #[must_use]
    pub fn checked(&self) -> u32 {
        self.inner.checked.load(Ordering::Relaxed)
    }
}

/// The whole life of the clients' host.
pub(crate) async fn run(
    seed: u64,
    workload: Workload,
    places: u32,
    orders: Orders,
    record: SharedRecord,
    trace: Trace,
) -> turmoil::Result {
    let clock = Arc::new(NodeClock::simulated(EPOCH_MS, 1.0));
    let net: Arc<dyn Net> = Arc::new(SimulatedNet::new(CLIENTS_IN_TRACE, trace));
    let seed_of_host = Dice::derive(seed, "clients", 0).next_u64();
    let scope = Scope::simulated(seed_of_host, Arc::clone(&clock));
    let life = async move {
        let caller = |client: u32| {
            let dice = Dice::derive(seed, "client", u64::from(client));
            let caller = Caller::new(client, places, dice, Arc::clone(&net), record.clone());
            match workload.protocol {
                Protocol::Native => caller,
                Protocol::Etcd => caller.over_etcd(places, Arc::clone(&net)),
            }
        };
        let mut client = 0;
        let mut next = || {
            client += 1;
            orders.inner.busy.fetch_add(1, Ordering::Relaxed);
            caller(client - 1)
        };
        for _worker in 0..workload.workers {
            world::spawn(worker::run(next(), workload.clone(), orders.clone()));
        }
        for _holder in 0..workload.holders {
            world::spawn(holder::run(next(), orders.clone()));
        }
        for _watcher in 0..workload.watchers {
            match workload.protocol {
                Protocol::Native => world::spawn(watcher::run(next(), orders.clone())),
                Protocol::Etcd => {
                    let naps_ms = workload.naps_ms.clone();
                    world::spawn(etcd::watcher::run(next(), naps_ms, orders.clone()))
                }
            };
        }
        for _compactor in 0..workload.compactors {
            world::spawn(etcd::compactor::run(next(), orders.clone()));
        }
        for _reader in 0..workload.past_readers {
            world::spawn(etcd::past_reader::run(next(), workload.keys, orders.clone()));
        }
        let operator = Operator::new(places, &net, record.clone(), orders.clone());
        while !orders.inner.check.load(Ordering::Relaxed) {
            while let Some(errand) = orders.next_errand() {
                world::spawn(operator.clone().carry_out(errand));
            }
            world::sleep(Duration::from_millis(10)).await;
        }
        worker::read_all(caller(client), &workload, &orders).await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        biased;
        text = panicked(&clock) => Err(text.into()),
        () = scope.run(Box::pin(life)) => Ok(()),
    }
}

/// Returns when a client panicked.
async fn panicked(clock: &NodeClock) -> String {
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        if let Some(text) = clock.panicked() {
            return text;
        }
    }
}

impl Orders {
    fn one_stopped(&self) {
        self.inner.busy.fetch_sub(1, Ordering::Relaxed);
    }

    fn check_ended(&self) {
        self.inner.check_done.store(true, Ordering::Relaxed);
    }

    fn one_checked(&self) {
        self.inner.checked.fetch_add(1, Ordering::Relaxed);
    }
}
