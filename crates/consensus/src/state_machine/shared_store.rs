//! The store, shared between the one who applies and those who read.
//!
//! Applying takes the write lock for one batch, readers take the read lock for one question, and
//! neither goes through openraft. Beside the store stand what followed from applying: its position,
//! the term of the newest entry, the format in force, who was removed.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use mainstay_kv::{Changes, HistoryWalk, QueryError, Store, UnreadChanges};
use tokio::sync::watch;

use crate::{status::AppliedPosition, type_config::LogId, versions::FormatInForce};

/// The store, shared between the one who applies and those who read; cheap to clone.
#[derive(Clone)]
pub(crate) struct SharedStore {
    inner: Arc<Inner>,
}

struct Inner {
    store: RwLock<Store>,
    position: watch::Sender<AppliedPosition>,
    applied_index: watch::Sender<u64>,
    /// Term of the newest applied entry; a leader stamps only after an entry of its own term.
    applied_term: AtomicU64,
    slow_applies: AtomicU64,
    format: FormatInForce,
    /// Up to which index the log may hold entries of an older format, as far as is known.
    old_format_upto: AtomicU64,
    /// Nodes that were members and are not any more.
    removed: watch::Sender<BTreeSet<u64>>,
    /// What the one who follows all changes has not read yet. Locked after `store`, if both are.
    unread: Mutex<UnreadChanges>,
}

impl SharedStore {
    pub(crate) fn new() -> Self {
        let store = Store::new();
        // A store of nothing is at a revision already, and answers may name it.
        let position = AppliedPosition { revision: store.revision(), ..AppliedPosition::default() };
        Self {
            inner: Arc::new(Inner {
                store: RwLock::new(store),
                position: watch::Sender::new(position),
                applied_index: watch::Sender::new(0),
                applied_term: AtomicU64::new(0),
                slow_applies: AtomicU64::new(0),
                format: FormatInForce::default(),
                old_format_upto: AtomicU64::new(0),
                removed: watch::Sender::new(BTreeSet::new()),
                unread: Mutex::default(),
            }),
        }
    }

    /// Runs `read` on the store. Applying waits meanwhile, so keep it short.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Store) -> T) -> T {
        read(&self.lock())
    }

    /// The next changes for the one who follows them all; see [`UnreadChanges::read`].
    pub(crate) fn unread_changes(
        &self,
        from_revision: u64,
        bytes_max: usize,
    ) -> Result<Changes, QueryError> {
        self.read(|store| self.unread().read(store, from_revision, bytes_max))
    }

    /// As [`UnreadChanges::skip`].
    pub(crate) fn skip_changes(&self) -> u64 {
        self.read(|store| self.unread().skip(store))
    }

    pub(super) fn unread(&self) -> MutexGuard<'_, UnreadChanges> {
        self.inner.unread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pins the store for a walk through everything of this moment.
    pub(crate) fn begin_history(&self) -> HistoryWalk {
        self.lock_mut().history_begin()
    }

    /// Ends such a walk.
    pub(crate) fn end_history(&self, walk: HistoryWalk) {
        let released = self.lock_mut().history_end(walk);
        // Not under the lock: it may be much.
        drop(released);
    }

    /// The store's position, changed after each applied batch.
    pub(crate) fn position(&self) -> watch::Receiver<AppliedPosition> {
        self.inner.position.subscribe()
    }

    /// The newest applied log index.
    pub(crate) fn applied_index(&self) -> watch::Receiver<u64> {
        self.inner.applied_index.subscribe()
    }

    /// The term of the newest applied entry, 0 before the first.
    pub(crate) fn applied_term(&self) -> u64 {
        self.inner.applied_term.load(Ordering::Acquire)
    }

    /// Whether the node was a member once and is not any more, as far as this node has applied.
    pub(crate) fn is_removed(&self, node_id: u64) -> bool {
        self.inner.removed.borrow().contains(&node_id)
    }

    /// Nodes that were members once and are not any more.
    pub(crate) fn removed(&self) -> BTreeSet<u64> {
        self.inner.removed.borrow().clone()
    }

    /// Changed whenever a member was removed.
    pub(crate) fn removals(&self) -> watch::Receiver<BTreeSet<u64>> {
        self.inner.removed.subscribe()
    }

    /// The last index at which the log may hold an entry of an older format than the one in force;
    /// 0 if it holds none. The next release cannot follow those.
    pub(crate) fn old_format_upto(&self) -> u64 {
        self.inner.old_format_upto.load(Ordering::Relaxed)
    }

    pub(super) fn note_old_format(&self, upto: u64) {
        self.inner.old_format_upto.fetch_max(upto, Ordering::Relaxed);
    }

    /// Notes that nodes are members no more.
    pub(super) fn note_removed(&self, gone: impl IntoIterator<Item = u64>) {
        self.inner.removed.send_modify(|removed| removed.extend(gone));
    }

    /// Puts what a snapshot says of removed nodes in place of what was known.
    pub(super) fn replace_removed(&self, removed: BTreeSet<u64>) {
        self.inner.removed.send_replace(removed);
    }

    /// The format that the store follows.
    pub(crate) fn format(&self) -> FormatInForce {
        self.inner.format.clone()
    }

    pub(crate) fn slow_applies(&self) -> u64 {
        self.inner.slow_applies.load(Ordering::Relaxed)
    }

    pub(super) fn note_slow_apply(&self) {
        self.inner.slow_applies.fetch_add(1, Ordering::Relaxed);
    }

    // A panic inside `apply` ends the process's state machine task; whoever still reads sees the
    // state before the entry at worst, so the poison mark adds nothing.
    pub(super) fn lock(&self) -> RwLockReadGuard<'_, Store> {
        self.inner.store.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lock_mut(&self) -> RwLockWriteGuard<'_, Store> {
        self.inner.store.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells those who wait that everything up to `log_id` is applied; `replaced` by a snapshot.
    pub(super) fn publish(&self, log_id: &LogId, replaced: bool) {
        let (sequence, revision) = self.read(|store| {
            self.inner.format.note(store);
            (store.sequence(), store.revision())
        });
        self.inner.applied_term.store(*log_id.leader_id, Ordering::Release);
        self.inner.position.send_if_modified(|position| {
            let generation = position.generation + u64::from(replaced);
            let next = AppliedPosition { sequence, revision, generation };
            std::mem::replace(position, next) != next
        });
        self.inner.applied_index.send_replace(log_id.index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn before_anything_is_applied_the_position_is_that_of_an_empty_store() {
        let store = SharedStore::new();
        let position = *store.position().borrow();
        assert_eq!(position.revision, store.read(Store::revision));
        assert_eq!(position.sequence, 0);
    }
}
