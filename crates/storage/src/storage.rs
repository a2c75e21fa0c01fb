//! The handle by which everything above uses the log, the vote and the snapshots.

use std::{io, ops::Range, sync::Arc, time::Duration};

use bytes::Bytes;
use mainstay_world::{Buggify, Disk};
use tokio::sync::{oneshot, watch};

use crate::{
    entry::{LogEntry, LogPosition},
    failure::{SpaceState, StorageFailure},
    identity::Identity,
    log_reader::{self, ReadError},
    open::{self, Recovered},
    open_error::OpenError,
    options::StorageOptions,
    shared::{Phase, Shared, State},
    snapshot::SnapshotInfo,
    snapshot_reader::{SnapshotReadError, SnapshotReader},
    snapshot_writer::SnapshotWriter,
    sync_stats::SyncStats,
    vote::Vote,
    write_queue::{SyncCallback, WriteItem},
};

/// Largest payload of one entry in bytes.
pub const ENTRY_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Log, vote and snapshots of one data folder. Clones are handles of the same.
///
/// When the last handle is dropped, what is queued is still written and the tasks end;
/// [`Storage::shutdown`] waits for that.
#[derive(Clone)]
pub struct Storage {
    handle: Arc<Handle>,
}

/// Closes storage when the last handle goes.
struct Handle {
    shared: Arc<Shared>,
}

/// How far the disk has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The last position that is durable.
    pub synced: Option<LogPosition>,
    /// Age of the oldest write or sync of log, vote or probe that is not finished.
    pub oldest_unfinished: Option<Duration>,
}

impl Storage {
    /// Opens the data folder behind `log_disk`, or makes its first files. `side_disk` is the same
    /// folder through another lane, used for everything but writes to log and vote.
    ///
    /// Starts two tasks in the caller's scope. What [`Recovered`] says is durable.
    ///
    /// # Errors
    /// [`OpenError`]: the folder is another node's, is damaged, or cannot be read or written.
    ///
    /// # Panics
    /// If the options are out of bounds.
    pub async fn open(
        log_disk: Arc<dyn Disk>,
        side_disk: Arc<dyn Disk>,
        identity: Identity,
        options: StorageOptions,
        buggify: Buggify,
    ) -> Result<(Self, Recovered), OpenError> {
        open::open(log_disk, side_disk, identity, options, buggify).await
    }

    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { handle: Arc::new(Handle { shared }) }
    }

    /// Adds entries at the end of the log. They can be read at once; `on_synced` is called when
    /// they are durable, from the writer's task, so it must not wait.
    ///
    /// # Panics
    /// If the entries do not follow the log, or one is larger than [`ENTRY_BYTES_MAX`].
    pub fn append(&self, entries: Vec<LogEntry>, on_synced: SyncCallback) {
        let refused = {
            let mut state = self.shared().state();
            let refused = refusal(&state);
            if refused.is_none() {
                for entry in entries {
                    assert!(entry.payload.len() <= ENTRY_BYTES_MAX, "an entry is too large");
                    if let Err(gap) = state.log.append(entry.position()) {
                        panic!("entries are appended without gaps: {gap}");
                    }
                    state.tail.push(entry.clone());
                    state.queue.push(WriteItem::Entry(entry));
                }
            }
            match refused {
                Some(reason) => Some((on_synced, reason)),
                None => {
                    state.queue.push(WriteItem::Synced(on_synced));
                    None
                }
            }
        };
        match refused {
            Some((on_synced, reason)) => on_synced(Err(reason)),
            None => self.shared().work.notify_one(),
        }
    }

    /// The entries of `range`: at least one if its first is in the log, and then as many as fit
    /// into `bytes_max` of payload. Empty when `range` begins behind the end of the log.
    ///
    /// # Errors
    /// [`ReadError`]: purged, or the disk does not give what was written.
    pub async fn read(
        &self,
        range: Range<u64>,
        bytes_max: usize,
    ) -> Result<Vec<LogEntry>, ReadError> {
        log_reader::read(self.shared(), range, bytes_max).await
    }

    /// The last entry, durable or not, or the purge point if none follows it.
    #[must_use]
    pub fn last(&self) -> Option<LogPosition> {
        self.shared().state().log.last()
    }

    /// The last position that was purged.
    #[must_use]
    pub fn purged(&self) -> Option<LogPosition> {
        self.shared().state().log.purged()
    }

    /// The position at `index`, if the log holds it or was purged exactly up to it.
    #[must_use]
    pub fn position_at(&self, index: u64) -> Option<LogPosition> {
        self.shared().state().log.position_at(index)
    }

    /// Bytes of log behind the purge point, as they stand on disk.
    #[must_use]
    pub fn log_bytes(&self) -> u64 {
        self.shared().state().frames.bytes()
    }

    /// Bytes of log behind `index`, to the precision of a batch.
    #[must_use]
    pub fn bytes_since(&self, index: u64) -> u64 {
        self.shared().state().frames.bytes_since(index)
    }

    /// The largest index that has at least `bytes` of log behind it; `None` if the log is smaller.
    #[must_use]
    pub fn index_at_bytes_from_end(&self, bytes: u64) -> Option<u64> {
        self.shared().state().frames.index_at_bytes_from_end(bytes)
    }

    /// Saves the vote, after everything appended before; durable on return.
    ///
    /// # Errors
    /// [`StorageFailure`]: then nothing may be promised on the strength of this vote.
    pub async fn save_vote(&self, vote: Vote) -> Result<(), StorageFailure> {
        self.ask(|_state, done| vec![WriteItem::Vote(vote, done)]).await
    }

    /// The vote that is durable.
    #[must_use]
    pub fn vote(&self) -> Option<Vote> {
        self.shared().state().vote
    }

    /// Drops every entry after `index`, or all after the purge point. Readers do not see them any
    /// more at once; durable on return.
    ///
    /// # Errors
    /// [`StorageFailure`]: whether the entries come back after a restart is not known.
    pub async fn truncate_after(&self, index: Option<u64>) -> Result<(), StorageFailure> {
        self.ask(|state, done| {
            let before = state.log.last();
            state.log.truncate_after(index);
            let last = state.log.last();
            if last == before {
                return vec![WriteItem::Synced(done)];
            }
            state.tail.truncate_after(last.map(|last| last.index));
            let end = last.map(|last| last.index);
            if state.synced.map(|synced| synced.index) > end {
                state.synced = last;
            }
            vec![WriteItem::Truncate(last), WriteItem::Synced(done)]
        })
        .await
    }

    /// Forgets the entries up to `upto`, which a snapshot must cover; if the log does not hold
    /// that very entry it is emptied and goes on after it. Written with the next batch; whole
    /// segments are removed in the background.
    pub fn purge(&self, upto: LogPosition) {
        {
            let mut state = self.shared().state();
            if refusal(&state).is_some() || !purge(&mut state, upto) {
                return;
            }
            state.queue.push(WriteItem::Purge(upto));
        }
        self.shared().supply_work.notify_one();
    }

    /// After a snapshot was installed: purges the log up to its last entry, and empties the log if
    /// it does not hold that entry. Durable on return.
    ///
    /// # Errors
    /// [`StorageFailure`]. A start does the same by itself, so nothing needs to be undone.
    pub async fn install_mark(&self, last: LogPosition) -> Result<(), StorageFailure> {
        let outcome = self.ask(|state, done| {
            if purge(state, last) {
                vec![WriteItem::Purge(last), WriteItem::Synced(done)]
            } else {
                vec![WriteItem::Synced(done)]
            }
        });
        let outcome = outcome.await;
        self.shared().supply_work.notify_one();
        outcome
    }

    /// Notes the commit index. It goes with the next batch and is never synced for its own sake.
    pub fn save_committed(&self, committed: LogPosition) {
        self.shared().state().committed = Some(committed);
    }

    /// The commit index as last noted.
    #[must_use]
    pub fn committed(&self) -> Option<LogPosition> {
        self.shared().state().committed
    }

    /// How far the disk has come; never waits. Call it in the node's scope: ages are measured on
    /// its clock.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let state = self.shared().state();
        let oldest_unfinished = state.unfinished_since.map(mainstay_world::Instant::elapsed);
        Progress { synced: state.synced, oldest_unfinished }
    }

    /// How long syncs took.
    #[must_use]
    pub fn sync_stats(&self) -> SyncStats {
        self.shared().state().syncs.stats()
    }

    /// The failure that ended storage, published the moment it is known. Callbacks hear of it
    /// [`StorageOptions::failure_report_delay`] later.
    #[must_use]
    pub fn failure(&self) -> watch::Receiver<Option<StorageFailure>> {
        self.shared().failure.subscribe()
    }

    /// Whether the reserve is intact: the next segment, and room for a snapshot.
    #[must_use]
    pub fn space(&self) -> watch::Receiver<SpaceState> {
        self.shared().space.subscribe()
    }

    /// Begins a snapshot of the state after `last`; `meta` comes back with [`SnapshotInfo`].
    ///
    /// # Errors
    /// What the disk says; the older snapshot stays.
    ///
    /// # Panics
    /// If `meta` is larger than [`crate::SNAPSHOT_META_BYTES_MAX`].
    pub async fn snapshot_writer(
        &self,
        last: Option<LogPosition>,
        meta: Bytes,
    ) -> io::Result<SnapshotWriter> {
        SnapshotWriter::begin(Arc::clone(self.shared()), last, meta).await
    }

    /// The newest finished snapshot.
    #[must_use]
    pub fn snapshot(&self) -> Option<SnapshotInfo> {
        self.shared().state().snapshot.as_ref().map(|snapshot| snapshot.info.clone())
    }

    /// Opens the newest snapshot for reading; `None` if there is none. Its file stays until the
    /// reader is dropped.
    ///
    /// # Errors
    /// [`SnapshotReadError`]: the file cannot be read or is damaged.
    pub async fn snapshot_reader(&self) -> Result<Option<SnapshotReader>, SnapshotReadError> {
        let (snapshot, identity) = {
            let state = self.shared().state();
            (state.snapshot.clone(), state.identity)
        };
        let Some(snapshot) = snapshot else { return Ok(None) };
        let disk = Arc::clone(&self.shared().side_disk);
        SnapshotReader::open(disk, &identity, snapshot).await.map(Some)
    }

    /// From now on new files carry this identity: the folder was taken into a cluster.
    ///
    /// # Panics
    /// If the node is another one, or the folder is in a cluster already.
    pub fn set_identity(&self, identity: Identity) {
        let mut state = self.shared().state();
        let current = state.identity;
        assert!(
            current.node_id == identity.node_id && (current.cluster_id == 0 || current == identity),
            "a folder belongs to one node and one cluster for ever"
        );
        state.identity = identity;
    }

    /// Writes what is queued and ends the tasks. Later calls are refused as
    /// [`StorageFailure::Stopped`]. On a full disk what is queued is given up, unacknowledged.
    pub async fn shutdown(&self) {
        self.shared().close();
        let mut ended = self.shared().ended.subscribe();
        // The sender lives in what `self` holds, so there is always an answer.
        let _ = ended.wait_for(|ended| *ended).await;
    }

    /// Queues what `items` makes and waits until it is durable.
    async fn ask(
        &self,
        items: impl FnOnce(&mut State, SyncCallback) -> Vec<WriteItem>,
    ) -> Result<(), StorageFailure> {
        let (answer, outcome) = oneshot::channel();
        {
            let mut state = self.shared().state();
            if let Some(reason) = refusal(&state) {
                return Err(reason);
            }
            // Whoever asked may have given up; the work is done all the same.
            let done: SyncCallback = Box::new(move |outcome| drop(answer.send(outcome)));
            for item in items(&mut state, done) {
                state.queue.push(item);
            }
        }
        self.shared().work.notify_one();
        outcome.await.unwrap_or(Err(StorageFailure::Stopped))
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }
}

/// Why nothing is taken any more, if so.
fn refusal(state: &State) -> Option<StorageFailure> {
    match &state.phase {
        Phase::Running => None,
        Phase::Closing => Some(StorageFailure::Stopped),
        Phase::Ended(reason) => Some(reason.clone()),
    }
}

/// Purges the log as readers see it; whether that changed anything.
fn purge(state: &mut State, upto: LogPosition) -> bool {
    if state.log.purged().is_some_and(|purged| purged.index >= upto.index) {
        return false;
    }
    if state.log.purge(upto) {
        state.tail.purge(upto.index);
    } else {
        state.tail.truncate_after(None);
    }
    state.frames.purge(upto.index);
    true
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl std::fmt::Debug for Storage {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.shared().state();
        formatter
            .debug_struct("Storage")
            .field("purged", &state.log.purged())
            .field("last", &state.log.last())
            .field("synced", &state.synced)
            .finish_non_exhaustive()
    }
}
