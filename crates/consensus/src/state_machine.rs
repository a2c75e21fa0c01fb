//! The store as openraft's state machine: apply, snapshot, install.
//!
//! The store itself is shared: applying takes the write lock for one batch, readers take the read
//! lock for one question, and neither goes through openraft. A snapshot pins the store's position,
//! then walks it in slices between which applying goes on. An installed snapshot is complete and
//! checked against its hash before it is here; installing is one swap.

use std::{
    collections::BTreeSet,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use mainstay_kv::{
    Changes, Command, Envelope, EnvelopeError, Operation, QueryError, Store, StoreRestore,
    UnreadChanges, outcome::Applied,
};
use mainstay_storage::{SnapshotReader, Storage};
use mainstay_world::{Buggify, Instant};
use openraft::{
    OptionalSend, RaftSnapshotBuilder, StoredMembership as OpenraftMembership,
    storage::{ApplyResponder, RaftStateMachine},
};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::{debug, error, info};

use crate::{
    log_store::{entry_note, stored_entry},
    status::AppliedPosition,
    type_config::{
        Entry, EntryPayload, LogId, SnapshotMeta, StoredMembership, TypeConfig, position,
    },
    versions::{FormatInForce, UnknownRules, Versions},
};

/// Entries applied under one hold of the lock.
const APPLY_BATCH_MAX: usize = 1024;

/// Bytes of one chunk of a snapshot: of small keys a quarter of a millisecond's work.
pub(crate) const SNAPSHOT_CHUNK_BYTES: usize = 64 * 1024;

/// A snapshot rests for [`SNAPSHOT_REST`] whenever it has worked for this long. Taking turns alone
/// is not enough where the nodes share few cores: each hop of a write would wait for a chunk.
const SNAPSHOT_WORK: Duration = Duration::from_micros(500);

/// See [`SNAPSHOT_WORK`].
const SNAPSHOT_REST: Duration = Duration::from_millis(1);

/// The largest meta record of a snapshot in bytes.
const SNAPSHOT_META_BYTES_MAX: usize = 1024 * 1024;

/// The format of what a snapshot says of itself.
const SNAPSHOT_MARK_FORMAT: u16 = 1;

/// A batch that takes longer than this counts as slow.
const SLOW_APPLY: Duration = Duration::from_millis(100);

/// The store, shared between the one that applies and those who read.
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

    fn unread(&self) -> MutexGuard<'_, UnreadChanges> {
        self.inner.unread.lock().unwrap_or_else(PoisonError::into_inner)
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

    fn note_old_format(&self, upto: u64) {
        self.inner.old_format_upto.fetch_max(upto, Ordering::Relaxed);
    }

    /// The format that the store follows.
    pub(crate) fn format(&self) -> FormatInForce {
        self.inner.format.clone()
    }

    pub(crate) fn slow_applies(&self) -> u64 {
        self.inner.slow_applies.load(Ordering::Relaxed)
    }

    // A panic inside `apply` ends the process's state machine task; whoever still reads sees the
    // state before the entry at worst, so the poison mark adds nothing.
    fn lock(&self) -> RwLockReadGuard<'_, Store> {
        self.inner.store.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_mut(&self) -> RwLockWriteGuard<'_, Store> {
        self.inner.store.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, log_id: &LogId, replaced: bool) {
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

/// openraft's view of the shared store.
pub(crate) struct StateMachine {
    store: SharedStore,
    storage: Storage,
    buggify: Buggify,
    versions: Versions,
    /// Who hears when a committed entry or a snapshot cannot be applied: openraft ends for good
    /// then, and the node must say why.
    failure: watch::Sender<Option<String>>,
    last_applied: Option<LogId>,
    membership: StoredMembership,
    /// Where the store came from, for bugs that are planted.
    origin: StoreOrigin,
}

/// Where the store of a process came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StoreOrigin {
    /// It grew from nothing, or has applied entries since.
    Applied,
    /// From this node's own snapshot, and nothing was applied since.
    Stored,
    /// From the leader.
    Received,
}

/// A committed entry that this program cannot apply. It goes no further: another replica would
/// make something else of it.
#[derive(Debug, thiserror::Error)]
enum ApplyError {
    /// It switches rules on that are not known here.
    #[error("entry {index} of the log cannot be applied")]
    Rules {
        /// The entry.
        index: u64,
        /// What it switches on.
        #[source]
        source: UnknownRules,
    },
    /// It cannot be read.
    #[error(
        "entry {index} of the log cannot be read by this program; start this node with the version \
         of mainstay that the other members run, the data is safe"
    )]
    Envelope {
        /// The entry.
        index: u64,
        /// What is wrong with it.
        #[source]
        source: EnvelopeError,
    },
}

impl StateMachine {
    pub(crate) fn new(
        store: SharedStore,
        storage: Storage,
        buggify: Buggify,
        versions: Versions,
        failure: watch::Sender<Option<String>>,
    ) -> Self {
        Self {
            store,
            storage,
            buggify,
            versions,
            failure,
            last_applied: None,
            membership: OpenraftMembership::default(),
            origin: StoreOrigin::Applied,
        }
    }

    /// Pins the store for a snapshot of everything applied so far.
    pub(crate) fn begin_snapshot(&self) -> SnapshotWork {
        SnapshotWork {
            store: self.store.clone(),
            storage: self.storage.clone(),
            buggify: self.buggify.clone(),
            walk: Some(self.store.lock_mut().snapshot_begin()),
            mark: SnapshotMark::new(
                self.last_applied,
                self.membership.clone(),
                self.store.removed(),
            ),
        }
    }

    /// Takes in a membership entry. Whoever was a member before it and is not after it was removed,
    /// for ever: every replica finds the same, from the same entries.
    fn take_membership(&mut self, next: StoredMembership) {
        let gone: Vec<u64> = self
            .membership
            .nodes()
            .map(|(id, _record)| *id)
            .filter(|id| next.get_node(id).is_none())
            .collect();
        if !gone.is_empty() && !self.buggify.is_planted("forget-removed") {
            self.store.inner.removed.send_modify(|removed| removed.extend(gone));
        }
        self.membership = next;
    }

    fn apply_batch(
        &mut self,
        batch: Vec<(Entry, Option<ApplyResponder<TypeConfig>>)>,
    ) -> io::Result<()> {
        let started = Instant::now();
        let mut commands = Vec::with_capacity(batch.len());
        // What stands before an entry that cannot be applied is applied all the same: it is what
        // this node serves from then on.
        let mut failed = None;
        for (entry, responder) in batch {
            let term = *entry.log_id.leader_id;
            let mark = self.mark_of(&entry)?;
            let envelope = match entry.payload {
                EntryPayload::Blank => None,
                EntryPayload::Normal(encoded) => match self.read(&encoded.0, entry.log_id.index) {
                    Ok(envelope) => Some(envelope),
                    Err(error) => {
                        failed = Some(io::Error::other(error));
                        break;
                    }
                },
                EntryPayload::Membership(membership) => {
                    self.take_membership(StoredMembership::new(Some(entry.log_id), membership));
                    None
                }
            };
            self.last_applied = Some(entry.log_id);
            commands.push((term, envelope, responder, mark));
        }
        if self.buggify.is_planted("apply-out-of-order") && commands.len() > 1 {
            commands.swap(0, 1);
        }
        let mut answers = Vec::with_capacity(commands.len());
        {
            let mut store = self.store.lock_mut();
            let mut unread = self.store.unread();
            for (term, mut envelope, responder, mark) in commands {
                if responder.is_none() && self.buggify.is_planted("forgive-compacted-read") {
                    forgive_reads(envelope.as_mut());
                }
                if self.origin == StoreOrigin::Stored && envelope.is_some() {
                    self.origin = StoreOrigin::Applied;
                    if self.buggify.is_planted("apply-again-after-start") {
                        envelope.clone().map(|envelope| store.apply(envelope, term));
                    }
                    if self.buggify.is_planted("skip-after-start") {
                        envelope = None;
                    }
                }
                let applied = match envelope {
                    Some(envelope) => {
                        unread.before_command(&store, &envelope.proposal.command);
                        store.apply(envelope, term)
                    }
                    None => Applied {
                        sequence: store.sequence(),
                        revision: store.revision(),
                        repeated: false,
                        result: Ok(mainstay_kv::outcome::Outcome::Ticked),
                    },
                };
                if let Some([index, term, checksum]) = mark {
                    let (sequence, revision, hash) =
                        (store.sequence(), store.revision(), split(store.hash()));
                    // Notes the entry, the store's position after it and its hash.
                    self.buggify.note("store.applied", || {
                        [index, term, checksum, sequence, revision, hash[0], hash[1]]
                    });
                }
                if let Some(responder) = responder {
                    answers.push((responder, applied));
                }
            }
        }
        if let Some(last) = &self.last_applied {
            self.store.publish(last, false);
        }
        for (responder, applied) in answers {
            responder.send(applied);
        }
        if started.elapsed() > SLOW_APPLY {
            self.store.inner.slow_applies.fetch_add(1, Ordering::Relaxed);
        }
        failed.map_or(Ok(()), Err)
    }
}

impl StateMachine {
    /// Reads the envelope of a committed entry, if this program can do what it says.
    fn read(&self, bytes: &[u8], index: u64) -> Result<Envelope, ApplyError> {
        let envelope =
            Envelope::from_bytes(bytes).map_err(|source| ApplyError::Envelope { index, source })?;
        let is_empty = || self.store.read(|store| store.sequence() == 0);
        let command = &envelope.proposal.command;
        self.versions
            .check_command(command, is_empty)
            .map_err(|source| ApplyError::Rules { index, source })?;
        if matches!(command, Command::RaiseFormat { .. }) {
            self.store.note_old_format(index);
        }
        Ok(envelope)
    }

    /// Passes an error on, after everybody has heard of it.
    fn tell(&self, what: &str, error: io::Error) -> io::Error {
        let why = format!("{what}: {}", sentence(&error));
        error!(failure = %why, "this node cannot go on applying the log");
        self.failure.send_replace(Some(why));
        error
    }

    /// What a watcher recognises the entry by; `None` if nobody watches.
    fn mark_of(&self, entry: &Entry) -> io::Result<Option<[u64; 3]>> {
        if !self.buggify.is_watched() {
            return Ok(None);
        }
        Ok(Some(entry_note(&stored_entry(entry.clone())?)))
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.last_applied, self.membership.clone()))
    }

    async fn apply<Strm>(&mut self, entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<openraft::storage::EntryResponder<TypeConfig>, io::Error>>
            + Unpin
            + OptionalSend,
    {
        let mut batches = entries.ready_chunks(APPLY_BATCH_MAX);
        while let Some(batch) = batches.next().await {
            self.buggify.pause("consensus.before-apply").await;
            let batch = batch.into_iter().collect::<io::Result<_>>()?;
            self.apply_batch(batch).map_err(|error| self.tell("a committed entry", error))?;
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<SnapshotBuilder> {
        Some(self.get_snapshot_builder().await)
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder { storage: self.storage.clone() }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotData,
    ) -> Result<(), io::Error> {
        let (store, removed) = match snapshot {
            // At start: storage has already brought log and snapshot into line.
            SnapshotData::Stored(reader) => {
                let restored = restore_marked(reader, self.versions).await;
                let restored = restored.map_err(|error| self.tell("the newest snapshot", error))?;
                // The raise may have happened before it; what it covers can go.
                if restored.0.settings().format > self.versions.formats.0
                    && let Some(last) = &meta.last_log_id
                {
                    self.store.note_old_format(last.index);
                }
                self.origin = StoreOrigin::Stored;
                restored
            }
            SnapshotData::Received { store, removed } => {
                let second = std::mem::replace(&mut self.origin, StoreOrigin::Received)
                    == StoreOrigin::Received;
                assert!(
                    !second || !self.buggify.is_planted("one-snapshot-only"),
                    "a snapshot came while another one was being dealt with"
                );
                if let Some(last) = &meta.last_log_id {
                    self.storage.install_mark(position(last)).await.map_err(io::Error::other)?;
                }
                (*store, removed)
            }
        };
        let old = {
            let mut present = self.store.lock_mut();
            self.store.unread().before_compaction(&present, store.compact_revision());
            std::mem::replace(&mut *present, store)
        };
        drop(old);
        self.last_applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.store.inner.removed.send_replace(removed);
        if let Some(last) = &self.last_applied {
            let (sequence, revision, hash) =
                self.store.read(|store| (store.sequence(), store.revision(), split(store.hash())));
            // Notes the last index in the snapshot, the store's position and its hash.
            self.buggify
                .note("snapshot.installed", || [last.index, sequence, revision, hash[0], hash[1]]);
            self.store.publish(last, true);
        }
        info!(snapshot = %meta, "a snapshot was installed");
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<openraft::alias::SmSnapshotOf<TypeConfig, Self>>, io::Error> {
        let reader = self.storage.snapshot_reader().await.map_err(io::Error::other)?;
        reader.map(stored_snapshot).transpose()
    }
}

/// The content of a snapshot.
pub(crate) enum SnapshotData {
    /// A file of this node.
    Stored(SnapshotReader),
    /// Received from the leader, restored and checked; its file is in place already.
    Received {
        /// The store.
        store: Box<Store>,
        /// Nodes that were members once and are not any more.
        removed: BTreeSet<u64>,
    },
}

/// What a snapshot says of itself: openraft's meta data, and who was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapshotMark {
    /// [`SNAPSHOT_MARK_FORMAT`].
    pub(crate) format: u16,
    /// The last entry in it.
    pub(crate) last: Option<LogId>,
    /// The members as of that entry.
    pub(crate) membership: StoredMembership,
    /// Nodes that were members once and are not any more.
    pub(crate) removed: BTreeSet<u64>,
}

impl SnapshotMark {
    pub(crate) const fn new(
        last: Option<LogId>,
        membership: StoredMembership,
        removed: BTreeSet<u64>,
    ) -> Self {
        Self { format: SNAPSHOT_MARK_FORMAT, last, membership, removed }
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> io::Result<Self> {
        let mark: Self =
            mainstay_codec::decode(bytes, SNAPSHOT_META_BYTES_MAX).map_err(io::Error::other)?;
        if mark.format == SNAPSHOT_MARK_FORMAT {
            Ok(mark)
        } else {
            let format = mark.format;
            Err(io::Error::other(format!(
                "the snapshot's members are written in format {format}, this version knows \
                 {SNAPSHOT_MARK_FORMAT}; run a newer version of mainstay"
            )))
        }
    }

    pub(crate) fn to_bytes(&self) -> io::Result<Bytes> {
        mainstay_codec::encode(self).map(Bytes::from).map_err(io::Error::other)
    }

    pub(crate) fn into_meta(self) -> SnapshotMeta {
        SnapshotMeta { last_log_id: self.last, last_membership: self.membership }
    }
}

/// A snapshot in the making: the store's position is pinned, its content is yet to be walked.
///
/// The file is written outside openraft, which would end for good on the first full disk; openraft
/// is told of a snapshot when its file is in place (see [`SnapshotBuilder`]).
pub(crate) struct SnapshotWork {
    store: SharedStore,
    storage: Storage,
    buggify: Buggify,
    walk: Option<mainstay_kv::SnapshotWalk>,
    mark: SnapshotMark,
}

impl SnapshotWork {
    /// Writes the snapshot file; its last log index.
    ///
    /// # Errors
    /// What the disk says. Nothing is left behind but a file that the next start removes.
    pub(crate) async fn write(mut self) -> io::Result<u64> {
        let last = self.mark.last.as_ref().map(position);
        let mut writer = self.storage.snapshot_writer(last, self.mark.to_bytes()?).await?;
        let mut bytes = 0;
        let mut worked = Duration::ZERO;
        loop {
            let begun = Instant::now();
            let chunk = match &mut self.walk {
                Some(walk) => self.store.lock().snapshot_next(walk, SNAPSHOT_CHUNK_BYTES),
                None => None,
            };
            worked += begun.elapsed();
            let Some(chunk) = chunk else { break };
            bytes += chunk.len();
            writer.write(chunk).await?;
            self.buggify.pause("consensus.snapshot-chunk").await;
            if worked < SNAPSHOT_WORK {
                tokio::task::yield_now().await;
            } else {
                mainstay_world::sleep(SNAPSHOT_REST).await;
                worked = Duration::ZERO;
            }
        }
        writer.finish().await?;
        debug!(bytes, "a snapshot was taken");
        let index = last.map_or(0, |last| last.index);
        // Notes the last index in it.
        self.buggify.note("snapshot.saved", || [index]);
        Ok(index)
    }
}

impl Drop for SnapshotWork {
    fn drop(&mut self) {
        if let Some(walk) = self.walk.take() {
            self.store.lock_mut().snapshot_end(walk);
        }
    }
}

/// Tells openraft of the newest snapshot file.
pub(crate) struct SnapshotBuilder {
    storage: Storage,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(
        &mut self,
    ) -> Result<openraft::alias::SnapshotOf<TypeConfig, SnapshotData>, io::Error> {
        let reader = self.storage.snapshot_reader().await.map_err(io::Error::other)?;
        let reader = reader.ok_or_else(|| io::Error::other("there is no snapshot yet"))?;
        stored_snapshot(reader)
    }
}

fn stored_snapshot(
    reader: SnapshotReader,
) -> io::Result<openraft::alias::SnapshotOf<TypeConfig, SnapshotData>> {
    let mark = SnapshotMark::from_bytes(&reader.info().meta)?;
    Ok(openraft::Snapshot { meta: mark.into_meta(), snapshot: SnapshotData::Stored(reader) })
}

/// A planted bug: followers do not see that a transaction reads what was compacted.
fn forgive_reads(envelope: Option<&mut Envelope>) {
    let command = envelope.map(|envelope| &mut envelope.proposal.command);
    if let Some(Command::Txn(txn)) = command {
        txn.success.retain(|operation| !matches!(operation, Operation::Range(_)));
    }
}

/// A hash as two numbers, the lower half first.
#[expect(clippy::cast_possible_truncation, reason = "the two halves are what is wanted")]
const fn split(hash: u128) -> [u64; 2] {
    [hash as u64, (hash >> 64) as u64]
}

/// Reads a snapshot file of this node into a store, with the nodes that were removed.
async fn restore_marked(
    reader: SnapshotReader,
    versions: Versions,
) -> io::Result<(Store, BTreeSet<u64>)> {
    let mark = SnapshotMark::from_bytes(&reader.info().meta)?;
    Ok((restore(reader, versions).await?, mark.removed))
}

/// An error with its causes.
fn sentence(error: &io::Error) -> String {
    match error.get_ref() {
        Some(cause) => crate::peer::channel::chain(cause),
        None => error.to_string(),
    }
}

/// Reads a whole snapshot file into a store.
pub(crate) async fn restore(mut reader: SnapshotReader, versions: Versions) -> io::Result<Store> {
    let mut restore = StoreRestore::new();
    while let Some(chunk) = reader.next().await.map_err(io::Error::other)? {
        restore.push(&chunk).map_err(io::Error::other)?;
    }
    let store = restore.finish().map_err(io::Error::other)?;
    versions.check_store(&store).map_err(io::Error::other)?;
    Ok(store)
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
