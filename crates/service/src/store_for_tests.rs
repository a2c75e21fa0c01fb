//! A store without consensus: what is done to it is applied at once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use mainstay_consensus::AppliedPosition;
use mainstay_kv::{
    Applied, Changes, Command, Delete, ENVELOPE_FORMAT, Envelope, KeyRange, Proposal, Put,
    QueryError, Stamp, Store, UnreadChanges,
};
use tokio::sync::watch;

use crate::{reads::Replica, watch_hub::ChangeSource};

/// A store of one node; cheap to clone.
#[derive(Clone)]
pub(crate) struct TestStore {
    store: Arc<Mutex<Store>>,
    unread: Arc<Mutex<UnreadChanges>>,
    applied: Arc<watch::Sender<AppliedPosition>>,
}

impl TestStore {
    pub(crate) fn new() -> Self {
        let applied = watch::Sender::new(AppliedPosition::default());
        Self {
            store: Arc::new(Mutex::new(Store::new())),
            unread: Arc::default(),
            applied: Arc::new(applied),
        }
    }

    fn unread(&self) -> MutexGuard<'_, UnreadChanges> {
        self.unread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn apply(&self, command: Command) -> Applied {
        let envelope = Envelope {
            format: ENVELOPE_FORMAT,
            epoch: 1,
            stamp: Stamp { term: 1, time_ms: 0 },
            wall_ms: 0,
            proposal: Proposal::unattributed(command),
        };
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        self.unread().before_command(&store, &envelope.proposal.command);
        let applied = store.apply(envelope, 1);
        let (sequence, revision) = (store.sequence(), store.revision());
        self.applied.send_replace(AppliedPosition { sequence, revision, generation: 0 });
        applied
    }

    /// Takes over what another store holds, as from a snapshot of the leader.
    pub(crate) fn install(&self, leader: &Self) {
        let mut leader = leader.store.lock().unwrap_or_else(PoisonError::into_inner);
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        self.unread().before_compaction(&store, leader.compact_revision());
        std::mem::swap(&mut *store, &mut *leader);
    }

    /// Writes a key; the revision.
    pub(crate) fn put(&self, key: &str, value: &str) -> u64 {
        let (key, value) =
            (Bytes::copy_from_slice(key.as_bytes()), Bytes::copy_from_slice(value.as_bytes()));
        let put = Put { key, value: Some(value), lease: Some(0), want_previous: false };
        self.apply(Command::Put(put)).revision
    }

    /// Deletes a key; the revision.
    pub(crate) fn delete(&self, key: &str) -> u64 {
        let range = KeyRange::key(Bytes::copy_from_slice(key.as_bytes()));
        self.apply(Command::Delete(Delete { range, want_previous: false })).revision
    }

    pub(crate) fn compact(&self, revision: u64) {
        let applied = self.apply(Command::Compact { revision });
        assert!(applied.result.is_ok(), "the revision can be compacted");
        // What is compacted is freed with the entries that follow.
        for _ in 0..100 {
            self.apply(Command::Tick);
        }
    }

    /// As after a restore: another, older store takes the place of this one.
    pub(crate) fn replace_by_new(&self) {
        *self.store.lock().unwrap_or_else(PoisonError::into_inner) = Store::new();
    }

    pub(crate) fn applied(&self) -> watch::Receiver<AppliedPosition> {
        self.applied.subscribe()
    }
}

impl Replica for TestStore {
    fn read<T>(&self, read: impl FnOnce(&Store) -> T) -> T {
        read(&self.store.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ChangeSource for TestStore {
    fn changes_of(
        &self,
        range: &KeyRange,
        from_revision: u64,
        bytes_max: usize,
    ) -> Result<Changes, QueryError> {
        self.read(|store| store.changes_of(range, from_revision, bytes_max))
    }

    fn unread_changes(&self, from_revision: u64, bytes_max: usize) -> Result<Changes, QueryError> {
        self.read(|store| self.unread().read(store, from_revision, bytes_max))
    }

    fn bounds(&self) -> (u64, u64) {
        self.read(|store| (store.revision(), store.compact_revision()))
    }

    fn skip_changes(&self) -> u64 {
        self.read(|store| self.unread().skip(store))
    }
}
