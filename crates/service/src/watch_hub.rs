//! One reader of the store's changes for all watchers that are up to date.
//!
//! A single task wakes when something was applied, reads the changes since the last time in
//! slices, and puts each revision into the queues of those who watch one of its keys. It goes
//! through revisions in order and through each once, so every queue is ordered and without a gap,
//! whatever happens to leaders meanwhile; a snapshot that replaces the store brings its history
//! along, so the reading just goes on.
//!
//! The hub waits for nobody: a full queue ends its watch.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use mainstay_consensus::AppliedPosition;
use mainstay_kv::{Changes, QueryError, RevisionChanges};
use mainstay_world::Buggify;
use tokio::sync::{Notify, Semaphore, SemaphorePermit, watch};
use tracing::warn;

use crate::{
    admission::Admission,
    watch::{CancelReason, WatchRequest},
    watch_index::WatchIndex,
    watch_queue::{WatchEnd, WatchQueue, WatchedRevision, passes},
};

/// Bytes of changes that are read and handed out at a time.
const SLICE_BYTES: usize = 256 * 1024;

/// Where changes come from: this node's store.
pub(crate) trait ChangeSource: Send + Sync + 'static {
    /// Whole revisions from `from_revision` on, until about `bytes_max`.
    fn changes(&self, from_revision: u64, bytes_max: usize) -> Result<Changes, QueryError>;

    /// The store's revision.
    fn revision(&self) -> u64;
}

/// All watches of one node.
pub(crate) struct WatchHub {
    source: Box<dyn ChangeSource>,
    admission: Arc<Admission>,
    followers: Mutex<Followers>,
    /// Everything up to this revision is in the queues.
    dispatched_revision: AtomicU64,
    catching_up: Semaphore,
    closing: Notify,
    slow_total: AtomicU64,
    buggify: Buggify,
}

struct Followers {
    /// Everything below was handed out.
    next_revision: u64,
    by_id: BTreeMap<u64, Follower>,
    index: WatchIndex,
    next_id: u64,
    closed: Option<CancelReason>,
}

struct Follower {
    request: WatchRequest,
    from_revision: u64,
    queue: Arc<WatchQueue>,
}

/// The hub is already past the revision from which a watch wants to follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Behind;

impl WatchHub {
    pub(crate) fn new(
        source: Box<dyn ChangeSource>,
        admission: Arc<Admission>,
        buggify: Buggify,
    ) -> Self {
        let revision = source.revision();
        let catching_up = Semaphore::new(admission.limits().watches_catching_up_max);
        Self {
            source,
            admission,
            followers: Mutex::new(Followers {
                next_revision: revision + 1,
                by_id: BTreeMap::new(),
                index: WatchIndex::default(),
                next_id: 1,
                closed: None,
            }),
            dispatched_revision: AtomicU64::new(revision),
            catching_up,
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

    /// Hands out one slice of changes; whether there is more.
    pub(crate) fn dispatch_slice(&self) -> bool {
        let from_revision = {
            let mut followers = self.followers();
            if followers.by_id.is_empty() {
                // Whoever comes next reads by itself what it wants from before.
                followers.next_revision = self.source.revision() + 1;
                self.dispatched_revision.store(followers.next_revision - 1, Ordering::Release);
                return false;
            }
            followers.next_revision
        };
        let revision = self.source.revision();
        let changes = if revision + 1 < from_revision {
            Err(QueryError::Future { wanted: from_revision, revision })
        } else {
            self.source.changes(from_revision, SLICE_BYTES)
        };
        let changes = match changes {
            Ok(changes) => changes,
            Err(error) => {
                self.end_all(error);
                return false;
            }
        };
        let more = !changes.revisions.is_empty();
        let mut followers = self.followers();
        for revision in changes.revisions {
            self.hand_out(&mut followers, revision);
        }
        followers.next_revision = changes.next_revision;
        self.dispatched_revision.store(followers.next_revision - 1, Ordering::Release);
        more
    }

    fn hand_out(&self, followers: &mut Followers, revision: RevisionChanges) {
        let number = revision.revision;
        if self.buggify.is_planted("drop-watch-event") && number.is_multiple_of(16) {
            return;
        }
        let revision = Arc::new(revision);
        let mut wanted: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        for (at, event) in revision.events.iter().enumerate() {
            followers.index.watching(&event.pair.key, &mut |id| {
                if let Some(follower) = followers.by_id.get(&id)
                    && number >= follower.from_revision
                    && passes(&follower.request, event)
                {
                    wanted.entry(id).or_default().push(at);
                }
            });
        }
        for (id, wanted) in wanted {
            let Some(follower) = followers.by_id.get(&id) else { continue };
            if follower.queue.push(WatchedRevision::new(&revision, &wanted)).is_err() {
                self.slow_total.fetch_add(1, Ordering::Relaxed);
                let reason = CancelReason::Slow;
                follower.queue.end(WatchEnd::Cancelled { reason, resume_revision: number });
                followers.remove(id);
            }
        }
    }

    /// Lets a watch that has told everything below `next_revision` follow from there.
    pub(crate) fn follow(
        &self,
        request: &WatchRequest,
        next_revision: u64,
    ) -> Result<(u64, Arc<WatchQueue>), Behind> {
        let limits = self.admission.limits();
        let mut followers = self.followers();
        if followers.next_revision > next_revision || followers.closed.is_some() {
            return Err(Behind);
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
        Ok((id, queue))
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

    /// Waits until this watch may read old changes.
    pub(crate) async fn turn_to_catch_up(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed; if it were, everybody could go on at once.
        self.catching_up.acquire().await.ok()
    }

    pub(crate) fn changes(
        &self,
        from_revision: u64,
        bytes_max: usize,
    ) -> Result<Changes, QueryError> {
        self.source.changes(from_revision, bytes_max)
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
    pub(crate) fn followers_count(&self) -> usize {
        self.followers().by_id.len()
    }

    /// Ends all watches because the changes they need cannot be read.
    fn end_all(&self, error: QueryError) {
        let mut followers = self.followers();
        warn!(%error, watches = followers.by_id.len(), "watches ended");
        let end = |resume_revision| match error {
            QueryError::Compacted { compact_revision, .. } => {
                WatchEnd::Compacted { compact_revision }
            }
            QueryError::Future { .. } => {
                WatchEnd::Cancelled { reason: CancelReason::StoreReplaced, resume_revision }
            }
        };
        followers.end_all(end);
        followers.next_revision = self.source.revision() + 1;
        self.dispatched_revision.store(followers.next_revision - 1, Ordering::Release);
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

    /// Ends every watch; `end` is told the revision from which it would go on.
    fn end_all(&mut self, end: impl Fn(u64) -> WatchEnd) {
        for follower in self.by_id.values() {
            follower.queue.end(end(self.next_revision.max(follower.from_revision)));
        }
        self.by_id.clear();
        self.index = WatchIndex::default();
    }
}
