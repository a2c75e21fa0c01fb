//! Linearizable reads by read index (Ongaro's thesis, section 6.4), batched twice.
//!
//! On the leader, everybody who waits for an index shares one confirmation of leadership by a
//! quorum. On every node, the readers that wait share one question to the leader and one wait until
//! the local store has applied that index. Whoever comes while a round is on its way shares the
//! next. It starts when that one is through, so that rounds are few where they are quick, or a
//! moment after it, so that nobody waits for two of them where they are slow.
//!
//! A question says whom the asking node follows, as its durable vote has it: it has promised nobody
//! else anything when it asks, which is after its readers came. That is what a confirmation is, so
//! where leader and follower are a quorum, as in a cluster of three, the leader answers at once.
//!
//! There is no read by lease: a restarted follower forgets that it granted one. Whether a quorum
//! confirmed is not taken from openraft alone, see [`Contact`](crate::peer::contact::Contact).

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, future};
use mainstay_storage::Storage;
use mainstay_world::{self as world, Buggify};
use openraft::{ReadPolicy, async_runtime::WatchReceiver};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tracing::debug;

use crate::{
    error::ReadIndexError,
    membership::rules::has_quorum,
    observation::Leadership,
    peer::{
        link::Links,
        message::{Answer, Call},
    },
    state_machine::SharedStore,
    type_config::{RaftHandle, StoredMembership},
    versions::CONFIRMATIONS_SINCE,
};

/// Readers that may wait on one node.
const READERS_MAX: usize = 64 * 1024;

/// Rounds on their way: of questions from one node, and of confirmations by a leader.
const ROUNDS_MAX: u32 = 8;

/// How long a round holds up the next.
const STAGGER: Duration = Duration::from_millis(5);

/// The longest wait for the leader's answer; readers ask again after it.
const ROUND_DEADLINE: Duration = Duration::from_secs(1);

/// The pause before a node without a leader asks again, unless one appears sooner.
const PAUSE: Duration = Duration::from_millis(20);

/// Whom a node follows, by its durable vote: it has answered no vote and no append of anybody who
/// came later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Following {
    term: u64,
    leader: u64,
}

impl Following {
    /// Whom the node of `storage` follows; `None` before its first vote.
    pub(crate) fn of(storage: &Storage) -> Option<Self> {
        storage.vote().map(|vote| Self { term: vote.term, leader: vote.node_id })
    }

    /// Whether the leader and one that follows it are a quorum by themselves.
    fn is_quorum_with(self, follower: u64, voters: &[BTreeSet<u64>]) -> bool {
        has_quorum(voters, |member| member == self.leader || member == follower)
    }
}

/// Hands out read indexes on the leader.
#[derive(Clone)]
pub(crate) struct LeaderReads {
    queue: mpsc::Sender<oneshot::Sender<Option<u64>>>,
    task: Arc<LeaderReadTask>,
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
        let task = Arc::new(task);
        world::spawn(confirm(Arc::clone(&task), waiting));
        Self { queue, task }
    }

    /// The index that a linearizable read must see; `None` if this node cannot tell.
    pub(crate) async fn index(&self) -> Option<u64> {
        let (answer, index) = oneshot::channel();
        self.queue.try_send(answer).ok()?;
        index.await.ok().flatten()
    }

    /// As [`Self::index`], for `node`, which says whom it follows. It waits for nobody where the
    /// two are a quorum.
    pub(crate) async fn index_for(&self, node: u64, following: Following) -> Option<u64> {
        let answered = world::timeout(ROUND_DEADLINE, self.task.index_for(node, following)).await;
        match answered.ok().flatten() {
            Some(index) => Some(index),
            None => self.index().await,
        }
    }
}

async fn confirm(
    task: Arc<LeaderReadTask>,
    mut waiting: mpsc::Receiver<oneshot::Sender<Option<u64>>>,
) {
    let rounds = Arc::new(Semaphore::new(ROUNDS_MAX as usize));
    while let Some((place, round)) = next_round(&rounds, &mut waiting).await {
        let task = Arc::clone(&task);
        world::spawn(async move {
            let index = if task.buggify.is_planted("read-without-index") {
                Some(*task.store.applied_index().borrow())
            } else {
                world::timeout(ROUND_DEADLINE, task.confirmed_index()).await.ok().flatten()
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
    let all = Arc::clone(rounds).acquire_many_owned(ROUNDS_MAX);
    let place = match world::timeout(STAGGER, all).await {
        Ok(all) => all.ok().and_then(|mut all| all.split(1)),
        Err(_elapsed) => Arc::clone(rounds).acquire_owned().await.ok(),
    };
    let place = place.expect("the semaphore is never closed");
    let mut round = vec![first];
    while let Ok(next) = waiting.try_recv() {
        round.push(next);
    }
    Some((place, round))
}

impl LeaderReadTask {
    /// The commit index for a follower that is a quorum with this node. The lease only spares
    /// openraft a round: it is the question that proves that nobody else led when it was asked.
    async fn index_for(&self, follower: u64, following: Following) -> Option<u64> {
        let read = self.read(ReadPolicy::LeaseRead).await?;
        let here = Following { term: read.term, leader: self.node_id };
        let voters = read.membership.get_joint_config();
        (following == here && here.is_quorum_with(follower, voters)).then_some(read.index)
    }

    /// The commit index, once a quorum has confirmed that this node still leads.
    async fn confirmed_index(&self) -> Option<u64> {
        let began = self.links.contact.draw();
        let Some(read) = self.read(ReadPolicy::LeaseRead).await else {
            return self.index_by_heartbeats(began).await;
        };
        let here = Following { term: read.term, leader: self.node_id };
        let voters = read.membership.voter_ids().filter(|voter| *voter != self.node_id);
        let asked = future::join_all(voters.map(|voter| self.ask_voter(voter, here)));
        tokio::select! {
            biased;
            () = self.confirmed(began, &read) => Some(read.index),
            index = asked.then(|_all| self.index_by_heartbeats(began)) => index,
        }
    }

    /// As [`Self::confirmed_index`], by a round of openraft's heartbeats: for a leader that has
    /// heard of no quorum lately, and for peers of an older version.
    async fn index_by_heartbeats(&self, began: u64) -> Option<u64> {
        let read = self.read(ReadPolicy::ReadIndex).await?;
        self.confirmed(began, &read).await;
        Some(read.index)
    }

    /// Asks a voter whether it still follows this leader.
    async fn ask_voter(&self, voter: u64, here: Following) {
        if !self.links.announced().speaks(voter, CONFIRMATIONS_SINCE) {
            return;
        }
        let number = self.links.contact.draw();
        let Some(link) = self.links.find(voter) else { return };
        let answer = link.control.call(&Call::Confirm(here), ROUND_DEADLINE).await;
        if matches!(answer, Ok(Answer::Confirmed(true))) {
            self.links.contact.answered(voter, here.term, number);
        }
    }

    /// Returns when a quorum has followed this leader since `began`.
    async fn confirmed(&self, began: u64, read: &LeaderRead) {
        let voters = read.membership.get_joint_config();
        self.links.contact.quorum_since(began, read.term, self.node_id, voters).await;
    }

    /// What openraft, leading, has committed.
    async fn read(&self, policy: ReadPolicy) -> Option<LeaderRead> {
        // A planted bug takes what is known now. A young leader knows what is committed only when
        // its own first entry is.
        let is_planted = self.buggify.is_planted("index-before-first-entry");
        let planted = is_planted.then(|| *self.store.applied_index().borrow());
        let linearizer = match self.raft.get_read_linearizer(policy).await {
            Ok(linearizer) => linearizer,
            Err(error) => {
                debug!(%error, "no read index");
                return None;
            }
        };
        let read = linearizer.read_log_id();
        Some(LeaderRead {
            term: **read.committed_leader_id(),
            index: planted.unwrap_or_else(|| read.index()),
            membership: Arc::clone(&self.raft.server_metrics().borrow_watched().membership_config),
        })
    }
}

/// What a leader has committed, to be confirmed.
struct LeaderRead {
    term: u64,
    /// Of its first entry at least.
    index: u64,
    membership: Arc<StoredMembership>,
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
    pub(crate) storage: Storage,
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
    let rounds = Arc::new(Semaphore::new(ROUNDS_MAX as usize));
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
    let leader = seen.leader?;
    let link = task.links.find(leader)?;
    let says = task.links.announced().speaks(leader, CONFIRMATIONS_SINCE);
    let following = if says { Following::of(&task.storage) } else { None };
    let call = following.map_or(Call::ReadIndex, Call::ReadIndexFor);
    match link.forward.call(&call, ROUND_DEADLINE).await {
        Ok(Answer::ReadIndex(index)) => index,
        Ok(_other) => None,
        Err(error) => {
            debug!(%error, "the leader gave no read index");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_and_who_follows_it_are_a_quorum_of_three_voters_and_of_no_more() {
        let here = Following { term: 7, leader: 1 };
        let is_quorum = |follower, sets: &[&[u64]]| {
            let sets: Vec<BTreeSet<u64>> =
                sets.iter().map(|set| set.iter().copied().collect()).collect();
            here.is_quorum_with(follower, &sets)
        };
        assert!(is_quorum(2, &[&[1, 2, 3]]));
        assert!(!is_quorum(4, &[&[1, 2, 3]]), "a learner has no vote");
        assert!(!is_quorum(2, &[&[2, 3, 4]]), "the leader is on its way out");
        assert!(!is_quorum(2, &[&[1, 2, 3, 4, 5]]));
        assert!(!is_quorum(2, &[&[1, 2, 3], &[1, 3, 4]]), "a quorum of both halves is needed");
        assert!(is_quorum(3, &[&[1, 2, 3], &[1, 3, 4]]));
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_while_a_round_is_on_its_way_shares_the_next_one() {
        let rounds = Arc::new(Semaphore::new(ROUNDS_MAX as usize));
        let (queue, mut waiting) = mpsc::channel(8);
        let mut next = async || next_round(&rounds, &mut waiting).await.expect("somebody waits");
        let put =
            |numbers: &[u64]| numbers.iter().for_each(|number| queue.try_send(*number).unwrap());
        let began = world::Instant::now();
        put(&[1, 2]);
        let (first, round) = next().await;
        assert_eq!((round, began.elapsed()), (vec![1, 2], Duration::ZERO));
        // The first is slow: the next waits for it no longer than a moment.
        put(&[3, 4]);
        let (second, round) = next().await;
        assert_eq!((round, began.elapsed()), (vec![3, 4], STAGGER));
        drop((first, second));
        put(&[5]);
        let (_third, round) = next().await;
        assert_eq!((round, began.elapsed()), (vec![5], STAGGER));
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_rounds_than_may_be_are_on_their_way() {
        let rounds = Arc::new(Semaphore::new(ROUNDS_MAX as usize));
        let (queue, mut waiting) = mpsc::channel(64);
        let mut places = Vec::new();
        for number in 0..ROUNDS_MAX {
            queue.try_send(number).unwrap();
            places.push(next_round(&rounds, &mut waiting).await.expect("somebody waits").0);
        }
        queue.try_send(ROUNDS_MAX).unwrap();
        let another = world::timeout(Duration::from_secs(1), next_round(&rounds, &mut waiting));
        assert!(another.await.is_err(), "every place is taken");
    }
}
