//! The one batching task in front of openraft.
//!
//! Whatever waits when the task looks becomes one batch: stamped with the replicated clock, handed
//! to openraft in one call, answered entry by entry as it is applied. The next gathers while one is
//! on its way, and leaves when that is back, or is away for long; so under load batches grow, and
//! without load nobody lingers.
//!
//! The task is also the only one that stamps. While nobody writes it proposes a tick by itself when
//! something in the store is due, or when leases run and the store's clock fell behind; and it
//! proposes the settings as the first entry of a new cluster.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::TryStreamExt;
use mainstay_kv::{Envelope, Proposal, Settings, Stamp, command::Command, outcome::Applied};
use mainstay_storage::{SpaceState, Storage};
use mainstay_world::{self as world, Buggify, Instant};
use openraft::{async_runtime::WatchReceiver as _, errors::ClientWriteError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tracing::{debug, warn};

use crate::{
    observation::Leadership,
    replicated_clock::ReplicatedClock,
    state_machine::SharedStore,
    ticket::Ticket,
    type_config::{EncodedEnvelope, RaftHandle},
};

/// Proposals that may wait.
const WAITING_MAX: usize = 16 * 1024;

/// Bytes of proposals that may wait or be in flight, in KiB.
const BYTES_KIB_MAX: usize = 64 * 1024;

/// Entries of one batch.
const BATCH_ENTRIES_MAX: usize = 2048;

/// Bytes of one batch, after which no further proposal is added.
const BATCH_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Batches in flight.
const BATCHES_MAX: usize = 2;

/// A batch leaves while the one before it is on its way only if that takes longer than this: near
/// by, fewer and larger batches cost less; far away, nobody waits for two round trips.
const GATHERING_MAX: Duration = Duration::from_millis(10);

/// How often the clock is read while nobody writes, and so how late an expiry may be.
const CLOCK_INTERVAL: Duration = Duration::from_millis(50);

/// How far the store's clock may stay behind the leader's while leases run and nobody writes. A
/// new leader starts from the store's clock: this is what an election can give to a lease.
const CLOCK_LAG_MAX: Duration = Duration::from_secs(1);

/// What overloaded callers are told to wait.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// A proposal that was not applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unapplied {
    /// This node does not lead, or has no quorum; certainly not appended.
    NotLeader,
    /// Too much waits; certainly not appended.
    Overloaded {
        /// When to try again.
        retry_after: Duration,
    },
    /// The disk is nearly full; certainly not appended.
    DiskReserve,
    /// Appended perhaps.
    Unknown,
}

/// Where the outcome of one proposal goes.
pub(crate) type Reply = oneshot::Sender<Result<Applied, Unapplied>>;

/// Where the outcome of one proposal comes from.
type Outcome = oneshot::Receiver<Result<Applied, Unapplied>>;

/// A proposal that was queued.
pub(crate) struct Submitted {
    /// Its outcome.
    pub(crate) outcome: Outcome,
    /// To give it up with.
    pub(crate) ticket: Ticket,
}

/// A proposal in the queue.
struct Waiting {
    body: Bytes,
    reply: Reply,
    ticket: Ticket,
    _bytes: OwnedSemaphorePermit,
}

/// A handle to the task.
#[derive(Clone)]
pub(crate) struct Proposals {
    queue: mpsc::Sender<Waiting>,
    bytes: Arc<Semaphore>,
    places: Arc<Semaphore>,
    space: watch::Receiver<SpaceState>,
}

impl Proposals {
    /// Queues an encoded proposal; its outcome comes through the receiver.
    pub(crate) fn submit(&self, body: Bytes) -> Result<Submitted, Unapplied> {
        if *self.space.borrow() != SpaceState::Ok {
            return Err(Unapplied::DiskReserve);
        }
        let overloaded = || Unapplied::Overloaded { retry_after: RETRY_AFTER };
        let kib = u32::try_from(body.len() / 1024 + 1).unwrap_or(u32::MAX);
        let permit =
            Arc::clone(&self.bytes).try_acquire_many_owned(kib).map_err(|_| overloaded())?;
        let (reply, outcome) = oneshot::channel();
        let ticket = Ticket::new();
        self.queue
            .try_send(Waiting { body, reply, ticket: ticket.clone(), _bytes: permit })
            .map_err(|_full| overloaded())?;
        Ok(Submitted { outcome, ticket })
    }

    /// Returns when no batch is on its way; none leaves until the permit is dropped. What is
    /// proposed meanwhile waits.
    pub(crate) async fn hold(&self) -> OwnedSemaphorePermit {
        let all = u32::try_from(BATCHES_MAX).expect("a handful");
        let held = Arc::clone(&self.places).acquire_many_owned(all).await;
        held.expect("the semaphore is never closed")
    }
}

/// What the task works with.
pub(crate) struct BatchingTask {
    pub(crate) raft: RaftHandle,
    pub(crate) store: SharedStore,
    pub(crate) leadership: watch::Receiver<Leadership>,
    pub(crate) epoch: u64,
    pub(crate) lease: Duration,
    pub(crate) first_settings: Settings,
    pub(crate) counters: Arc<crate::observation::BatchCounters>,
    pub(crate) buggify: Buggify,
}

impl BatchingTask {
    /// Starts the task; it ends with the last handle.
    pub(crate) fn start(self, storage: &Storage) -> Proposals {
        let (queue, waiting) = mpsc::channel(WAITING_MAX);
        let places = Arc::new(Semaphore::new(BATCHES_MAX));
        let state = Batching {
            task: self,
            waiting,
            places: Arc::clone(&places),
            clock: None,
            wall_ms: 0,
            tick_under_way: None,
            settings_sent: None,
        };
        world::spawn(state.run());
        let bytes = Arc::new(Semaphore::new(BYTES_KIB_MAX));
        Proposals { queue, bytes, places, space: storage.space() }
    }
}

/// The task's own state.
struct Batching {
    task: BatchingTask,
    waiting: mpsc::Receiver<Waiting>,
    places: Arc<Semaphore>,
    clock: Option<ReplicatedClock>,
    wall_ms: u64,
    tick_under_way: Option<Outcome>,
    /// The term in which this leader proposed the settings.
    settings_sent: Option<u64>,
}

impl Batching {
    async fn run(mut self) {
        let mut next_look = Instant::now() + CLOCK_INTERVAL;
        loop {
            let tick_done = async {
                match &mut self.tick_under_way {
                    Some(outcome) => matches!(outcome.await, Ok(Ok(_applied))),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                first = self.waiting.recv() => {
                    let Some(first) = first else { return };
                    self.batch(first).await;
                }
                applied = tick_done => {
                    self.tick_under_way = None;
                    // More may be due than one entry ends. A tick that failed is not repeated at
                    // once: consensus that has stopped fails every one of them.
                    if applied {
                        self.look().await;
                    } else {
                        self.settings_sent = None;
                    }
                }
                () = world::sleep_until(next_look) => {
                    next_look = Instant::now() + CLOCK_INTERVAL;
                    self.look().await;
                }
            }
        }
    }

    /// Makes one batch of what waits and sends it on its way.
    async fn batch(&mut self, first: Waiting) {
        let place = self.place().await;
        self.task.buggify.pause("consensus.before-batch").await;
        let mut bytes = first.body.len();
        let mut batch = vec![first];
        while batch.len() < BATCH_ENTRIES_MAX && bytes < BATCH_BYTES_MAX {
            let Ok(next) = self.waiting.try_recv() else { break };
            bytes += next.body.len();
            batch.push(next);
        }
        if !self.ready_to_stamp().await {
            for waiting in batch {
                let _ = waiting.reply.send(Err(Unapplied::NotLeader));
            }
            return;
        }
        batch.retain(|waiting| waiting.ticket.claim());
        if batch.is_empty() {
            return;
        }
        // Whoever writes first may be faster than the first look.
        if let Some(settings) = self.first_settings()
            && let Some((settings, _outcome)) = own(settings).await
        {
            batch.insert(0, settings);
        }
        self.send(batch, place);
    }

    /// The settings, if this cluster has none yet: they are its first entry.
    fn first_settings(&mut self) -> Option<Command> {
        let term = self.clock.as_ref()?.term();
        let is_new = self.task.store.read(|store| store.sequence() == 0);
        (is_new && self.settings_sent.replace(term) != Some(term))
            .then(|| Command::Configure(self.task.first_settings.clone()))
    }

    /// Waits until a batch may leave.
    async fn place(&self) -> OwnedSemaphorePermit {
        let all = u32::try_from(BATCHES_MAX).expect("a handful");
        let alone = Arc::clone(&self.places).acquire_many_owned(all);
        if let Ok(alone) = world::timeout(GATHERING_MAX, alone).await {
            let mut places = alone.expect("the semaphore is never closed");
            return places.split(1).expect("there is one");
        }
        let place = Arc::clone(&self.places).acquire_owned().await;
        place.expect("the semaphore is never closed")
    }

    fn send(&mut self, batch: Vec<Waiting>, place: OwnedSemaphorePermit) {
        let Some(stamp) = self.stamp() else { return };
        let epoch = self.task.epoch;
        let wall_ms = self.wall_ms;
        let (envelopes, replies): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .map(|waiting| {
                let bytes = Envelope::stamp_bytes(epoch, stamp, wall_ms, &waiting.body);
                (EncodedEnvelope(bytes), (waiting.reply, waiting._bytes))
            })
            .unzip();
        self.task.counters.record(envelopes.len());
        world::spawn(write(self.task.raft.clone(), envelopes, replies, place));
    }

    /// Reads the clock, and proposes a tick if something is due.
    async fn look(&mut self) {
        if !self.read_clock() || self.tick_under_way.is_some() {
            return;
        }
        let Some(clock) = &self.clock else { return };
        let time_ms = clock.time_ms();
        let due = self.task.store.read(|store| {
            let due = store.next_deadline_ms().is_some_and(|deadline| deadline <= time_ms);
            let behind = Duration::from_millis(time_ms.saturating_sub(store.clock_ms()));
            let lagging = store.lease_count() > 0 && behind >= CLOCK_LAG_MAX;
            due || lagging
        });
        let command = match self.first_settings() {
            Some(settings) => settings,
            None if due => Command::Tick,
            None => return,
        };
        let Some((waiting, outcome)) = own(command).await else { return };
        self.tick_under_way = Some(outcome);
        self.batch(waiting).await;
    }

    /// Waits until this leader's first entry is applied, as the clock demands; `false` when this
    /// node does not lead, or has no quorum to lead with.
    async fn ready_to_stamp(&mut self) -> bool {
        let mut applied = self.task.store.applied_index();
        let give_up = Instant::now() + self.task.lease;
        loop {
            if self.read_clock() {
                return true;
            }
            let leadership = *self.task.leadership.borrow_and_update();
            if !leadership.leads {
                return false;
            }
            tokio::select! {
                changed = applied.changed() => if changed.is_err() { return false },
                changed = self.task.leadership.changed() => if changed.is_err() { return false },
                () = world::sleep_until(give_up) => return false,
            }
        }
    }

    /// Brings the clock up to now; `false` if this node does not lead or may not stamp yet.
    fn read_clock(&mut self) -> bool {
        let leadership = *self.task.leadership.borrow();
        if !leadership.leads {
            self.clock = None;
            return false;
        }
        if self.task.store.applied_term() != leadership.term {
            return false;
        }
        let now = Instant::now();
        let clock = match &mut self.clock {
            Some(clock) if clock.term() == leadership.term => clock,
            clock => {
                let (base_ms, wall_ms) =
                    self.task.store.read(|store| (store.clock_ms(), store.wall_ms()));
                let base_ms = if self.task.buggify.is_planted("lease-on-local-clock") {
                    base_ms.max(world::wall_clock_ms())
                } else {
                    base_ms
                };
                self.wall_ms = wall_ms;
                debug!(term = leadership.term, base_ms, "this leader takes over the clock");
                clock.insert(ReplicatedClock::take_over(leadership.term, base_ms, now))
            }
        };
        let acked = self.task.raft.data_metrics().borrow_watched().last_quorum_acked;
        let acked = if leadership.alone { Some(now) } else { acked.map(|at| at.0) };
        if let Some(acked) = acked {
            clock.observe(now, acked, self.task.lease);
        }
        true
    }

    fn stamp(&mut self) -> Option<Stamp> {
        let clock = self.clock.as_ref()?;
        self.wall_ms = self.wall_ms.max(world::wall_clock_ms());
        Some(Stamp { term: clock.term(), time_ms: clock.time_ms() })
    }
}

/// A proposal of the task's own, and where its outcome comes.
async fn own(command: Command) -> Option<(Waiting, Outcome)> {
    let body = Proposal::unattributed(command).to_bytes().ok()?;
    let (reply, outcome) = oneshot::channel();
    let permit = Arc::new(Semaphore::new(1)).acquire_owned().await;
    let permit = permit.expect("the semaphore is never closed");
    Some((Waiting { body, reply, ticket: Ticket::new(), _bytes: permit }, outcome))
}

/// Writes one batch and hands out its outcomes.
async fn write(
    raft: RaftHandle,
    envelopes: Vec<EncodedEnvelope>,
    replies: Vec<(Reply, OwnedSemaphorePermit)>,
    place: OwnedSemaphorePermit,
) {
    let mut replies = replies.into_iter();
    match raft.client_write_many(envelopes).await {
        Ok(mut outcomes) => loop {
            let outcome = match outcomes.try_next().await {
                Ok(Some(Ok(written))) => Ok(written.response),
                Ok(Some(Err(ClientWriteError::ForwardToLeader(_)))) => Err(Unapplied::NotLeader),
                Ok(Some(Err(_discarded))) => Err(Unapplied::Unknown),
                Ok(None) => break,
                Err(fatal) => {
                    warn!(error = %fatal, "consensus has stopped");
                    break;
                }
            };
            let Some((reply, _bytes)) = replies.next() else { break };
            // The caller may have given up.
            let _ = reply.send(outcome);
        },
        Err(fatal) => warn!(error = %fatal, "consensus has stopped"),
    }
    for (reply, _bytes) in replies {
        let _ = reply.send(Err(Unapplied::Unknown));
    }
    drop(place);
}
