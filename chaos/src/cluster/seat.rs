//! One place in a cluster: a machine with a disk and a clock, and the node process on it, if any.
//!
//! Everything here outlives the process: a restart finds the disk as the last process left it, and
//! the clock as wrong as it was.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

use mainstay_consensus::{Birth, Consensus, Versions};
use mainstay_node::{Config, Listeners, RunError, StorageOptions, run_observed};
use mainstay_world::{MemoryHistory, NodeClock, Scope, World};
use tokio::sync::{mpsc, oneshot};

use crate::{
    cluster::EPOCH_MS, dice::Dice, disk::SimulatedDisk, network::SimulatedNet,
    saboteur::NodeSaboteur, trace::Trace,
};

/// How often the tasks of a node may run in one step. Busy nodes need some thousands; one that
/// needs more does not let time go on.
const POLLS_OF_A_STEP_MAX: u64 = 300_000;

/// The machine and what is known of its process; clones are handles of the same.
#[derive(Clone)]
pub(crate) struct Seat {
    pub(crate) number: u32,
    pub(crate) disk: SimulatedDisk,
    pub(crate) saboteur: NodeSaboteur,
    inner: Arc<Inner>,
}

struct Inner {
    seed: u64,
    trace: Trace,
    config: Mutex<Config>,
    storage: StorageOptions,
    incarnation: AtomicU32,
    process: Mutex<Process>,
}

/// What is known of the process, and how its clock is wrong.
#[derive(Default)]
struct Process {
    consensus: Option<Consensus>,
    clock: Option<Arc<NodeClock>>,
    orders: Option<mpsc::UnboundedSender<Order>>,
    stop: Option<oneshot::Sender<()>>,
    ended: Option<String>,
    wall_offset_ms: i64,
    rate_per_mille: u64,
}

/// What only the process's own runtime can do, since it needs its time.
#[derive(Debug, Clone, Copy)]
enum Order {
    SetRate { per_mille: u64 },
}

impl Seat {
    pub(crate) fn new(
        seed: u64,
        config: Config,
        storage: StorageOptions,
        number: u32,
        planted: Option<&'static str>,
        trace: Trace,
        order: Arc<AtomicU64>,
    ) -> Self {
        Self {
            number,
            disk: SimulatedDisk::new(seed, number, trace.clone()),
            saboteur: NodeSaboteur::new(seed, number, planted, order),
            inner: Arc::new(Inner {
                seed,
                trace,
                config: Mutex::new(config),
                storage,
                incarnation: AtomicU32::new(0),
                process: Mutex::new(Process { rate_per_mille: 1000, ..Process::default() }),
            }),
        }
    }

    /// The life of one process. It never ends by itself: a process that gave up leaves a message
    /// and stays, as an empty machine would.
    pub(crate) async fn run(self) -> turmoil::Result {
        let incarnation = self.inner.incarnation.fetch_add(1, Ordering::Relaxed);
        let seed = Dice::derive(
            self.inner.seed,
            "process",
            u64::from(self.number) << 32 | u64::from(incarnation),
        )
        .next_u64();
        let (orders, mut waiting) = mpsc::unbounded_channel();
        let clock = {
            let mut process = self.process();
            let now_ms = turmoil::sim_elapsed()
                .map_or(0, |elapsed| u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX));
            let wall_ms = (EPOCH_MS + now_ms).saturating_add_signed(process.wall_offset_ms);
            let rate = per_mille_to_rate(process.rate_per_mille);
            let clock = Arc::new(NodeClock::simulated(wall_ms, rate));
            process.clock = Some(Arc::clone(&clock));
            process.orders = Some(orders);
            process.ended = None;
            clock
        };
        let scope = Scope::simulated(seed, Arc::clone(&clock));
        let life = scope.run(Box::pin(self.clone().live()));
        let mut life = std::pin::pin!(life);
        let ended = loop {
            tokio::select! {
                biased;
                Some(order) = waiting.recv() => match order {
                    Order::SetRate { per_mille } => clock.set_rate(per_mille_to_rate(per_mille)),
                },
                ended = &mut life => break ended,
            }
        };
        self.inner.trace.record("ended", self.number, &[], ended.as_bytes());
        let consensus = {
            let mut process = self.process();
            process.ended = Some(ended);
            process.consensus.take()
        };
        drop(consensus);
        std::future::pending().await
    }

    async fn live(self) -> String {
        let inner = &self.inner;
        let net = Arc::new(SimulatedNet::new(self.number, inner.trace.clone()));
        let world = World {
            log_disk: self.disk.lane(),
            snapshot_disk: self.disk.lane(),
            net,
            history: Arc::new(MemoryHistory::default()),
            buggify: self.saboteur.buggify(),
        };
        match Box::pin(self.serve(world)).await {
            Ok(reason) => format!("{reason:?}"),
            Err(error) => {
                let mut text = error.to_string();
                let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(&error);
                while let Some(error) = cause {
                    text = format!("{text}: {error}");
                    cause = error.source();
                }
                text
            }
        }
    }

    async fn serve(&self, world: World) -> Result<mainstay_node::ExitReason, RunError> {
        let inner = &self.inner;
        let config = self.config().clone();
        let listeners = Listeners::bind(world.net.as_ref(), &config).await?;
        let started = |consensus: &Consensus| self.process().consensus = Some(consensus.clone());
        let (stop, told_to_stop) = oneshot::channel();
        self.process().stop = Some(stop);
        let shutdown = async {
            if told_to_stop.await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let storage = inner.storage.clone();
        run_observed(world, listeners, config, storage, started, shutdown).await
    }

    /// From its next start on the node finds its cluster so.
    pub(crate) fn set_birth(&self, birth: Birth) {
        self.config().birth = birth;
    }

    /// From its next start on another version of the program runs here.
    pub(crate) fn set_versions(&self, versions: Versions) {
        self.config().versions = versions;
    }

    fn config(&self) -> MutexGuard<'_, Config> {
        self.inner.config.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The running process's consensus.
    pub(crate) fn consensus(&self) -> Option<Consensus> {
        self.process().consensus.clone()
    }

    /// Why the process ended by itself, if it did.
    pub(crate) fn ended(&self) -> Option<String> {
        self.process().ended.clone()
    }

    pub(crate) fn incarnation(&self) -> u32 {
        self.inner.incarnation.load(Ordering::Relaxed)
    }

    /// Lets go of the process, which is about to be killed.
    pub(crate) fn forget_process(&self) {
        let (consensus, clock, orders, stop) = {
            let mut process = self.process();
            let orders = (process.orders.take(), process.stop.take());
            (process.consensus.take(), process.clock.take(), orders.0, orders.1)
        };
        drop((consensus, clock, orders, stop));
    }

    /// Tells the process to stop in good order.
    pub(crate) fn tell_to_stop(&self) {
        let stop = self.process().stop.take();
        if let Some(stop) = stop {
            // One that has ended by itself has nobody who listens.
            let _ = stop.send(());
        }
    }

    /// A step of simulated time begins.
    pub(crate) fn step_begins(&self) {
        if let Some(clock) = &self.process().clock {
            clock.allow_polls(POLLS_OF_A_STEP_MAX);
        }
    }

    /// What the process said when it panicked, if it did.
    pub(crate) fn panicked(&self) -> Option<String> {
        self.process().clock.as_ref()?.panicked()
    }

    pub(crate) fn pause(&self) {
        if let Some(clock) = &self.process().clock {
            clock.pause();
        }
    }

    pub(crate) fn resume(&self) {
        let clock = self.process().clock.clone();
        if let Some(clock) = clock {
            clock.resume();
        }
    }

    /// Moves the wall clock, now and for all processes to come.
    pub(crate) fn jump_wall_ms(&self, by_ms: i64) {
        let mut process = self.process();
        process.wall_offset_ms += by_ms;
        if let Some(clock) = &process.clock {
            clock.jump_wall_ms(by_ms);
        }
    }

    /// Has the clock run at `per_mille` thousandths of true time, now and for all processes to
    /// come.
    pub(crate) fn set_rate_per_mille(&self, per_mille: u64) {
        let mut process = self.process();
        process.rate_per_mille = per_mille;
        if let Some(orders) = &process.orders {
            // A process that is gone has no clock.
            let _ = orders.send(Order::SetRate { per_mille });
        }
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.inner.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn per_mille_to_rate(per_mille: u64) -> f64 {
    let per_mille = u32::try_from(per_mille).unwrap_or(u32::MAX);
    f64::from(per_mille) / 1000.0
}
