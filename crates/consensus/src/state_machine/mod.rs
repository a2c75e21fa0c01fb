//! The store as openraft's state machine: what openraft is told and what it asks for.
//!
//! [`shared_store`] is the store that readers and the one who applies share; [`snapshot`] writes it
//! down and reads it back. Here entries are applied, a batch under one hold of the lock, and an
//! installed snapshot takes the store's place: it is complete and checked against its hash before
//! it is here, so installing is one swap.

pub(crate) mod shared_store;
pub(crate) mod snapshot;

use std::{io, time::Duration};

use futures_util::{Stream, StreamExt};
use mainstay_kv::{Command, Envelope, EnvelopeError, Operation, Store, outcome::Applied};
use mainstay_storage::Storage;
use mainstay_world::{Buggify, Instant};
use openraft::{
    OptionalSend, StoredMembership as OpenraftMembership,
    storage::{ApplyResponder, RaftStateMachine},
};
use tokio::sync::watch;
use tracing::{error, info};

pub(crate) use self::{
    shared_store::SharedStore,
    snapshot::{
        SNAPSHOT_CHUNK_BYTES, SnapshotBuilder, SnapshotData, SnapshotMark, SnapshotWork, restore,
    },
};
use crate::{
    log_store::{entry_note, stored_entry},
    type_config::{
        Entry, EntryPayload, LogId, SnapshotMeta, StoredMembership, TypeConfig, position,
    },
    versions::{UnknownRules, Versions},
};

/// Entries applied under one hold of the lock.
const APPLY_BATCH_MAX: usize = 1024;

/// A batch that takes longer than this counts as slow.
const SLOW_APPLY: Duration = Duration::from_millis(100);

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

/// Whom openraft answers once an entry is applied.
type Responder = ApplyResponder<TypeConfig>;

/// A committed entry, read.
struct Committed {
    term: u64,
    /// Nothing for the entries that are Raft's own.
    envelope: Option<Envelope>,
    /// The one who proposed it, if it waits on this node.
    responder: Option<Responder>,
    /// See [`StateMachine::mark_of`].
    mark: Option<[u64; 3]>,
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
        let mark =
            SnapshotMark::new(self.last_applied, self.membership.clone(), self.store.removed());
        SnapshotWork::begin(self.store.clone(), self.storage.clone(), self.buggify.clone(), mark)
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
            self.store.note_removed(gone);
        }
        self.membership = next;
    }

    fn apply_batch(&mut self, batch: Vec<(Entry, Option<Responder>)>) -> io::Result<()> {
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
            commands.push(Committed { term, envelope, responder, mark });
        }
        if self.buggify.is_planted("apply-out-of-order") && commands.len() > 1 {
            commands.swap(0, 1);
        }
        let answers = self.apply_commands(commands);
        if let Some(last) = &self.last_applied {
            self.store.publish(last, false);
        }
        for (responder, applied) in answers {
            responder.send(applied);
        }
        if started.elapsed() > SLOW_APPLY {
            self.store.note_slow_apply();
        }
        failed.map_or(Ok(()), Err)
    }

    /// Applies what was read, under one hold of the lock; whom to answer, and what.
    fn apply_commands(&mut self, commands: Vec<Committed>) -> Vec<(Responder, Applied)> {
        let mut answers = Vec::with_capacity(commands.len());
        let shared = self.store.clone();
        let mut store = shared.lock_mut();
        let mut unread = shared.unread();
        for mut command in commands {
            self.misapply(&mut store, &mut command);
            let applied = match command.envelope {
                Some(envelope) => {
                    unread.before_command(&store, &envelope.proposal.command);
                    store.apply(envelope, command.term)
                }
                None => Applied {
                    sequence: store.sequence(),
                    revision: store.revision(),
                    repeated: false,
                    result: Ok(mainstay_kv::outcome::Outcome::Ticked),
                },
            };
            if let Some([index, term, checksum]) = command.mark {
                let (sequence, revision, hash) =
                    (store.sequence(), store.revision(), split(store.hash()));
                // Notes the entry, the store's position after it and its hash.
                self.buggify.note("store.applied", || {
                    [index, term, checksum, sequence, revision, hash[0], hash[1]]
                });
            }
            if let Some(responder) = command.responder {
                answers.push((responder, applied));
            }
        }
        answers
    }

    /// The planted bugs of applying, if one is planted.
    fn misapply(&mut self, store: &mut Store, command: &mut Committed) {
        if command.responder.is_none() && self.buggify.is_planted("forgive-compacted-read") {
            forgive_reads(command.envelope.as_mut());
        }
        if self.origin == StoreOrigin::Stored && command.envelope.is_some() {
            self.origin = StoreOrigin::Applied;
            if self.buggify.is_planted("apply-again-after-start") {
                command.envelope.clone().map(|envelope| store.apply(envelope, command.term));
            }
            if self.buggify.is_planted("skip-after-start") {
                command.envelope = None;
            }
        }
    }

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
        SnapshotBuilder::new(self.storage.clone())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        received: SnapshotData,
    ) -> Result<(), io::Error> {
        let (store, removed) = match received {
            // At start: storage has already brought log and snapshot into line.
            SnapshotData::Stored(reader) => {
                let restored = snapshot::restore_marked(reader, self.versions).await;
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
        self.store.replace_removed(removed);
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
        reader.map(snapshot::stored_snapshot).transpose()
    }
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

/// An error with its causes.
fn sentence(error: &io::Error) -> String {
    match error.get_ref() {
        Some(cause) => crate::peer::channel::chain(cause),
        None => error.to_string(),
    }
}
