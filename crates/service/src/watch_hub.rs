//! One reader of the store's changes for all watchers that are up to date.
//!
//! A single task wakes when something was applied, reads the changes since the last time in
//! slices, and puts each revision into the queues of those who watch one of its keys. It goes
//! through revisions in order and through each once, so every queue is ordered and without a gap,
//! whatever happens to leaders meanwhile; a snapshot that replaces the store brings its history
//! along, so the reading just goes on.
//!
//! The hub waits for nobody: a full queue ends its watch, or has it read again from the store what
//! it missed. It does not keep others waiting either: with ten thousand watchers of one key it
//! rests every few revisions.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use mainstay_consensus::AppliedPosition;
use mainstay_kv::{Changes, KeyRange, QueryError, RevisionChanges};
use mainstay_world::Buggify;
use tokio::sync::{Notify, watch};
use tracing::warn;

use crate::{
    admission::Admission,
    watch::{CancelReason, WatchRequest},
    watch_index::WatchIndex,
    watch_queue::{HeldBytes, HeldRevision, WatchEnd, WatchQueue, WatchedRevision, passes},
};

/// Bytes of changes that are read and handed out at a time.
const SLICE_BYTES: usize = 256 * 1024;

/// How much is put into queues before others have their turn.
const DELIVERIES_MAX: usize = 1_024;

/// How much space for finding watchers is kept from one revision to the next.
const WANTED_KEPT_MAX: usize = 32 * 1_024;

/// Where changes come from: this node's store.
pub(crate) trait ChangeSource: Send + Sync + 'static {
    /// Whole revisions of the keys of `range` from `from_revision` on, until about `bytes_max`.
    fn changes_of(
        &self,
        range: &KeyRange,
        from_revision: u64,
        bytes_max: usize,
    ) -> Result<Changes, QueryError>;

    /// The store's revision, and the lowest that it still tells of.
    fn bounds(&self) -> (u64, u64);

    /// The next changes for the hub, the one who follows them all: what it has not read yet is
    /// there although it may be compacted.
    fn unread_changes(&self, from_revision: u64, bytes_max: usize) -> Result<Changes, QueryError>;

    /// Has the hub go on with what comes after the present; the present revision.
    fn skip_changes(&self) -> u64;
}

/// All watches of one node.
pub(crate) struct WatchHub {
    source: Box<dyn ChangeSource>,
    admission: Arc<Admission>,
    followers: Mutex<Followers>,
    /// Everything up to this revision is in the queues.
    dispatched_revision: AtomicU64,
    held: HeldBytes,
    closing: Notify,
    slow_total: AtomicU64,
    buggify: Buggify,
}

struct Followers {
    /// Everything below was handed out.
    next_revision: u64,
    /// What was read and is still to be handed out, and the revision behind it.
    pending: VecDeque<RevisionChanges>,
    read_below: u64,
    by_id: BTreeMap<u64, Follower>,
    index: WatchIndex,
    next_id: u64,
    /// Who wants which event of a revision; empty between revisions, kept for its space.
    wanted: Vec<(u64, usize)>,
    closed: Option<CancelReason>,
}

struct Follower {
    request: WatchRequest,
    from_revision: u64,
    queue: Arc<WatchQueue>,
}

impl Follower {
    /// Ends a watch for whose queue `next_revision` is too much.
    fn end_slow(&self, next_revision: u64) {
        if self.request.catch_up_when_slow {
            self.queue.end_empty(next_revision);
        } else {
            let reason = CancelReason::Slow;
            self.queue.end(WatchEnd::Cancelled { reason, resume_revision: next_revision });
        }
    }
}

/// A watch that follows.
pub(crate) struct Followed {
    pub(crate) id: u64,
    /// The first revision that comes into the queue.
    pub(crate) next_revision: u64,
    pub(crate) queue: Arc<WatchQueue>,
}

/// The hub is already past the revision from which a watch wants to follow, that is compacted, or
/// the hub is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Behind {
    /// That revision.
    pub(crate) next_revision: u64,
}

impl WatchHub {
    pub(crate) fn new(
        source: Box<dyn ChangeSource>,
        admission: Arc<Admission>,
        buggify: Buggify,
    ) -> Self {
        let revision = source.skip_changes();
        Self {
            source,
            admission,
            followers: Mutex::new(Followers {
                next_revision: revision + 1,
                pending: VecDeque::new(),
                read_below: revision + 1,
                by_id: BTreeMap::new(),
                index: WatchIndex::default(),
                next_id: 1,
                wanted: Vec::new(),
                closed: None,
            }),
            dispatched_revision: AtomicU64::new(revision),
            held: HeldBytes::default(),
            closing: Notify::new(),
            slow_total: AtomicU64::new(0),
            buggify,
        }
    }

    /// Hands out what is applied, until consensus or the hub is closed.
    pub(crate) async fn run(self: Arc<Self>, mut applied: watch::Receiver<AppliedPosition>) {
        loop {
            while self.dispatch_slice() {
                tokio::task::yield_now().await;
            }
            tokio::select! {
                biased;
                () = self.closing.notified() => return,
                changed = applied.changed() => {
                    if changed.is_err() {
                        self.close(CancelReason::ShuttingDown);
                        return;
                    }
                }
            }
        }
    }

    /// Hands out some changes; whether there may be more.
    pub(crate) fn dispatch_slice(&self) -> bool {
        let Some(mut followers) = self.read_slice() else { return false };
        let mut deliveries = 0;
        while deliveries < DELIVERIES_MAX {
            let Some(revision) = followers.pending.pop_front() else { break };
            followers.next_revision = revision.revision + 1;
            deliveries += 1 + self.hand_out(&mut followers, revision);
        }
        if followers.pending.is_empty() {
            followers.next_revision = followers.read_below;
        }
        self.dispatched_revision.store(followers.next_revision - 1, Ordering::Release);
        true
    }

    /// Reads the next changes unless some are still to be handed out; `None` if there are none, or
    /// nobody wants them.
    fn read_slice(&self) -> Option<MutexGuard<'_, Followers>> {
        let mut followers = self.followers();
        if followers.by_id.is_empty() {
            // Whoever comes next reads by itself what it wants from before.
            self.skip(&mut followers);
            return None;
        }
        if !followers.pending.is_empty() {
            return Some(followers);
        }
        let from_revision = followers.next_revision;
        drop(followers);
        match self.source.unread_changes(from_revision, SLICE_BYTES) {
            Ok(changes) => {
                let mut followers = self.followers();
                followers.pending = changes.revisions.into();
                followers.read_below = changes.next_revision;
                (!followers.pending.is_empty()).then_some(followers)
            }
            Err(error) if self.end_those_behind(error) => self.read_slice(),
            Err(_nobody_is_left) => None,
        }
    }

    /// Puts a revision into the queues of those who want it; how many.
    fn hand_out(&self, followers: &mut Followers, revision: RevisionChanges) -> usize {
        let number = revision.revision;
        if self.buggify.is_planted("drop-watch-event") && number.is_multiple_of(16) {
            return 0;
        }
        let ignores_start = self.buggify.is_planted("watch-ignores-start");
        let mut wanted = std::mem::take(&mut followers.wanted);
        for (at, event) in revision.events.iter().enumerate() {
            followers.index.watching(&event.pair.key, &mut |id| {
                if let Some(follower) = followers.by_id.get(&id)
                    && (number >= follower.from_revision || ignores_start)
                    && passes(&follower.request, event)
                {
                    wanted.push((id, at));
                }
            });
        }
        if revision.events.len() > 1 {
            wanted.sort_unstable();
        }
        let revision = HeldRevision::new(revision, &self.held);
        let mut deliveries = 0;
        for wanted in wanted.chunk_by(|(one, _), (other, _)| one == other) {
            let [(id, _), ..] = wanted else { continue };
            let Some(follower) = followers.by_id.get(id) else { continue };
            let watched = WatchedRevision::new(&revision, wanted.iter().map(|(_, at)| *at));
            if follower.queue.push(watched, self.has_room()).is_err() {
                self.slow_total.fetch_add(1, Ordering::Relaxed);
                follower.end_slow(number);
                followers.remove(*id);
            }
            deliveries += 1;
        }
        wanted.clear();
        if wanted.capacity() <= WANTED_KEPT_MAX {
            followers.wanted = wanted;
        }
        deliveries
    }

    /// Whether more changes may wait.
    pub(crate) fn has_room(&self) -> bool {
        self.held.get() <= self.admission.limits().watch_changes_bytes_max
    }

    /// Counts changes for as long as somebody holds them.
    pub(crate) fn hold(&self, revision: RevisionChanges) -> Arc<HeldRevision> {
        HeldRevision::new(revision, &self.held)
    }

    /// Lets a watch that has told everything below `next_revision` follow from there; 0 is the
    /// revision after the present.
    pub(crate) fn follow(
        &self,
        request: &WatchRequest,
        next_revision: u64,
    ) -> Result<Followed, Behind> {
        let limits = self.admission.limits();
        let mut followers = self.followers();
        let (revision, compact_revision) = self.source.bounds();
        let next_revision = if next_revision == 0 { revision + 1 } else { next_revision };
        // What the hub has yet to read of what is compacted is for those who followed before.
        let compacted = next_revision < compact_revision;
        if followers.next_revision > next_revision || compacted || followers.closed.is_some() {
            return Err(Behind { next_revision });
        }
        let id = followers.next_id;
        followers.next_id += 1;
        let queue = Arc::new(WatchQueue::new(
            limits.watch_queue_revisions_max,
            limits.watch_queue_bytes_max,
        ));
        followers.index.insert(&request.range, id);
        let follower = Follower {
            request: request.clone(),
            from_revision: next_revision,
            queue: Arc::clone(&queue),
        };
        followers.by_id.insert(id, follower);
        Ok(Followed { id, next_revision, queue })
    }

    /// Forgets a watch that follows.
    pub(crate) fn leave(&self, id: u64) {
        self.followers().remove(id);
    }

    /// Gives the place of a watch back.
    pub(crate) fn watch_dropped(&self) {
        self.admission.watch_ended();
    }

    /// Ends all watches, and every one that is still to start.
    pub(crate) fn close(&self, reason: CancelReason) {
        let mut followers = self.followers();
        followers.closed.get_or_insert(reason);
        followers.end_all(|resume_revision| WatchEnd::Cancelled { reason, resume_revision });
        drop(followers);
        self.closing.notify_one();
    }

    /// Why no watch can run any more, if none can.
    pub(crate) fn closed(&self) -> Option<CancelReason> {
        self.followers().closed
    }

    /// Old changes for one watch.
    pub(crate) fn changes_of(
        &self,
        range: &KeyRange,
        from_revision: u64,
        bytes_max: usize,
    ) -> Result<Changes, QueryError> {
        self.source.changes_of(range, from_revision, bytes_max)
    }

    pub(crate) const fn buggify(&self) -> &Buggify {
        &self.buggify
    }

    pub(crate) fn dispatched_revision(&self) -> u64 {
        self.dispatched_revision.load(Ordering::Acquire)
    }

    /// Watches cancelled because they were too slow, since the start.
    pub(crate) fn slow_total(&self) -> u64 {
        self.slow_total.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(crate) fn admission(&self) -> &Admission {
        &self.admission
    }

    #[cfg(test)]
    pub(crate) fn held_bytes(&self) -> usize {
        self.held.get()
    }

    #[cfg(test)]
    pub(crate) fn followers_count(&self) -> usize {
        self.followers().by_id.len()
    }

    /// Ends the watches whose next changes cannot be read; whether others go on: who starts at or
    /// above what was compacted has missed nothing.
    fn end_those_behind(&self, error: QueryError) -> bool {
        let mut followers = self.followers();
        match error {
            QueryError::Compacted { compact_revision, .. } => followers.end_below(compact_revision),
            QueryError::Future { .. } => {
                let reason = CancelReason::StoreReplaced;
                followers
                    .end_all(|resume_revision| WatchEnd::Cancelled { reason, resume_revision });
            }
        }
        warn!(%error, left = followers.by_id.len(), "watches ended");
        match error {
            QueryError::Compacted { compact_revision, .. } if !followers.by_id.is_empty() => {
                followers.next_revision = compact_revision;
                followers.read_below = compact_revision;
                self.dispatched_revision.store(compact_revision - 1, Ordering::Release);
                true
            }
            _ => {
                self.skip(&mut followers);
                false
            }
        }
    }

    /// Goes on with what comes after the present.
    fn skip(&self, followers: &mut Followers) {
        let revision = self.source.skip_changes();
        followers.next_revision = revision + 1;
        followers.read_below = revision + 1;
        followers.pending.clear();
        self.dispatched_revision.store(revision, Ordering::Release);
    }

    fn followers(&self) -> MutexGuard<'_, Followers> {
        self.followers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for WatchHub {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let next_revision = self.followers().next_revision;
        formatter.debug_struct("WatchHub").field("next_revision", &next_revision).finish()
    }
}

impl Followers {
    fn remove(&mut self, id: u64) {
        if let Some(follower) = self.by_id.remove(&id) {
            self.index.remove(&follower.request.range, id);
        }
    }

    /// Ends every watch that needs something from below a revision that was compacted to.
    fn end_below(&mut self, compact_revision: u64) {
        let behind: Vec<u64> = self
            .by_id
            .iter()
            .filter(|(_id, follower)| follower.from_revision < compact_revision)
            .map(|(id, follower)| {
                follower.queue.end(WatchEnd::Compacted { compact_revision });
                *id
            })
            .collect();
        for id in behind {
            self.remove(id);
        }
    }

    /// Ends every watch; `end` is told the revision from which it would go on.
    fn end_all(&mut self, end: impl Fn(u64) -> WatchEnd) {
        for follower in self.by_id.values() {
            follower.queue.end(end(self.next_revision.max(follower.from_revision)));
        }
        self.by_id.clear();
        self.index = WatchIndex::default();
    }
}
