//! Linearizable reads by read index (Ongaro's thesis, section 6.4), batched twice.
//!
//! On the leader, everybody who waits for an index shares one confirmation of leadership by a
//! quorum. A few rounds may be on their way, so that those who come after one has started need not
//! wait for it to be through; when there are as many as may be, whoever comes shares the next. On
//! every node, the readers that wait share one question to the leader and one wait until the local
//! store has applied that index. There is no read by lease: a restarted follower forgets that it
//! granted one. Whether a quorum confirmed is not taken from openraft alone, see
//! [`Contact`](crate::peer::contact::Contact).

use std::{sync::Arc, time::Duration};

use mainstay_world::{self as world, Buggify};
use openraft::{ReadPolicy, async_runtime::WatchReceiver};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tracing::debug;

use crate::{
    error::ReadIndexError,
    observation::Leadership,
    peer::{
        link::Links,
        message::{Answer, Call},
    },
    state_machine::SharedStore,
    type_config::RaftHandle,
};

/// Readers that may wait on one node.
const READERS_MAX: usize = 64 * 1024;

/// Rounds on their way: of questions from one node, and of confirmations by a leader.
const ROUNDS_MAX: usize = 8;

/// The longest wait for the leader's answer; readers ask again after it.
const ROUND_DEADLINE: Duration = Duration::from_secs(1);

/// The pause before a node without a leader asks again, unless one appears sooner.
const PAUSE: Duration = Duration::from_millis(20);

/// Hands out read indexes on the leader.
#[derive(Clone)]
pub(crate) struct LeaderReads {
    queue: mpsc::Sender<oneshot::Sender<Option<u64>>>,
}

/// What the task that confirms leadership works with.
pub(crate) struct LeaderReadTask {
    pub(crate) raft: RaftHandle,
    pub(crate) node_id: u64,
    pub(crate) links: Arc<Links>,
    pub(crate) store: SharedStore,
    pub(crate) buggify: Buggify,
}

impl LeaderReads {
    /// Starts the task that confirms leadership.
    pub(crate) fn start(task: LeaderReadTask) -> Self {
        let (queue, waiting) = mpsc::channel(READERS_MAX);
        world::spawn(confirm(Arc::new(task), waiting));
        Self { queue }
    }

    /// The index that a linearizable read must see; `None` if this node cannot tell.
    pub(crate) async fn index(&self) -> Option<u64> {
        let (answer, index) = oneshot::channel();
        self.queue.try_send(answer).ok()?;
        index.await.ok().flatten()
    }
}

async fn confirm(
    task: Arc<LeaderReadTask>,
    mut waiting: mpsc::Receiver<oneshot::Sender<Option<u64>>>,
) {
    let rounds = Arc::new(Semaphore::new(ROUNDS_MAX));
    while let Some((place, round)) = next_round(&rounds, &mut waiting).await {
        let task = Arc::clone(&task);
        world::spawn(async move {
            let index = if task.buggify.is_planted("read-without-index") {
                Some(*task.store.applied_index().borrow())
            } else {
                world::timeout(ROUND_DEADLINE, confirmed_index(&task)).await.ok().flatten()
            };
            for answer in round {
                let _ = answer.send(index);
            }
            drop(place);
        });
    }
}

/// Everybody who waits, as soon as somebody does and a round may start; `None` when nobody can come
/// any more. The round is on its way until the place is dropped.
async fn next_round<T>(
    rounds: &Arc<Semaphore>,
    waiting: &mut mpsc::Receiver<T>,
) -> Option<(OwnedSemaphorePermit, Vec<T>)> {
    let first = waiting.recv().await?;
    let place = Arc::clone(rounds).acquire_owned().await;
    let place = place.expect("the semaphore is never closed");
    let mut round = vec![first];
    while let Ok(next) = waiting.try_recv() {
        round.push(next);
    }
    Some((place, round))
}

/// The commit index, once a quorum has confirmed that this node still leads.
async fn confirmed_index(task: &LeaderReadTask) -> Option<u64> {
    let LeaderReadTask { raft, node_id, links, store, buggify } = task;
    // A planted bug takes what is known now. A young leader knows what is committed only when its
    // own first entry is.
    let planted =
        buggify.is_planted("index-before-first-entry").then(|| *store.applied_index().borrow());
    let began = links.contact.draw();
    let linearizer = match raft.get_read_linearizer(ReadPolicy::ReadIndex).await {
        Ok(linearizer) => linearizer,
        Err(error) => {
            debug!(%error, "no read index");
            return None;
        }
    };
    let read = linearizer.read_log_id();
    let membership = Arc::clone(&raft.server_metrics().borrow_watched().membership_config);
    let voters = membership.get_joint_config();
    links.contact.quorum_since(began, **read.committed_leader_id(), *node_id, voters).await;
    Some(planted.unwrap_or_else(|| read.index()))
}

/// A reader in the queue.
type Reader = oneshot::Sender<Result<(), ReadIndexError>>;

/// Brings this node's store up to date for its readers.
#[derive(Clone)]
pub(crate) struct Reads {
    queue: mpsc::Sender<Reader>,
}

/// What the task works with.
pub(crate) struct ReadTask {
    pub(crate) leader_reads: LeaderReads,
    pub(crate) links: Arc<Links>,
    pub(crate) store: SharedStore,
    pub(crate) leadership: watch::Receiver<Leadership>,
}

impl Reads {
    /// Starts the task; it ends with the last handle.
    pub(crate) fn start(task: ReadTask) -> Self {
        let (queue, waiting) = mpsc::channel(READERS_MAX);
        world::spawn(gather(Arc::new(task), waiting));
        Self { queue }
    }

    /// Returns when the local store holds all that was committed when this was called. The caller
    /// brings the deadline.
    pub(crate) async fn catch_up(&self) -> Result<(), ReadIndexError> {
        let (answer, outcome) = oneshot::channel();
        self.queue.try_send(answer).map_err(|_full| ReadIndexError::Timeout)?;
        outcome.await.map_err(|_ended| ReadIndexError::ShuttingDown)?
    }
}

async fn gather(task: Arc<ReadTask>, mut waiting: mpsc::Receiver<Reader>) {
    let rounds = Arc::new(Semaphore::new(ROUNDS_MAX));
    while let Some((place, readers)) = next_round(&rounds, &mut waiting).await {
        let task = Arc::clone(&task);
        world::spawn(async move {
            round(&task, readers).await;
            drop(place);
        });
    }
}

/// Asks until there is an answer or nobody waits any more, then waits for the local store.
async fn round(task: &ReadTask, mut readers: Vec<Reader>) {
    let mut leadership = task.leadership.clone();
    loop {
        readers.retain(|reader| !reader.is_closed());
        if readers.is_empty() {
            return;
        }
        let seen = *leadership.borrow_and_update();
        if let Some(index) = ask(task, seen).await {
            let mut applied = task.store.applied_index();
            let outcome = match applied.wait_for(|applied| *applied >= index).await {
                Ok(_applied) => Ok(()),
                Err(_ended) => Err(ReadIndexError::ShuttingDown),
            };
            for reader in readers {
                let _ = reader.send(outcome.clone());
            }
            return;
        }
        tokio::select! {
            changed = leadership.changed() => if changed.is_err() { return },
            () = world::sleep(PAUSE) => {}
        }
    }
}

async fn ask(task: &ReadTask, seen: Leadership) -> Option<u64> {
    if seen.leads {
        return task.leader_reads.index().await;
    }
    let link = task.links.find(seen.leader?)?;
    match link.forward.call(&Call::ReadIndex, ROUND_DEADLINE).await {
        Ok(Answer::ReadIndex(index)) => index,
        Ok(_other) => None,
        Err(error) => {
            debug!(%error, "the leader gave no read index");
            None
        }
    }
}
