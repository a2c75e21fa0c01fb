//! What the handle, the writer and the supply of segments know together.
//!
//! One mutex around plain values, held for moments and never across a wait. The log stands here
//! twice over: as its readers see it, which is at once (`log`, `tail`), and as it stands on disk,
//! which follows (`frames`, `synced`).

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use mainstay_world::{Buggify, Disk, Instant};
use tokio::sync::{Notify, watch};

use crate::{
    entry::LogPosition,
    failure::{SpaceState, StorageFailure},
    frame_index::FrameIndex,
    identity::Identity,
    options::StorageOptions,
    outline::Outline,
    snapshot::SnapshotFile,
    supply::Spare,
    sync_stats::SyncRecorder,
    tail::Tail,
    vote::Vote,
    write_queue::WriteQueue,
};

/// Everything behind a [`crate::Storage`].
pub(crate) struct Shared {
    pub(crate) state: Mutex<State>,
    /// Log and vote: writes only, so that nothing ever stands in front of them.
    pub(crate) log_disk: Arc<dyn Disk>,
    /// Everything else: snapshots, reads of old segments, making and removing segments.
    pub(crate) side_disk: Arc<dyn Disk>,
    pub(crate) options: StorageOptions,
    pub(crate) buggify: Buggify,
    /// Wakes the writer.
    pub(crate) work: Notify,
    /// Wakes the supply.
    pub(crate) supply_work: Notify,
    pub(crate) failure: watch::Sender<Option<StorageFailure>>,
    pub(crate) space: watch::Sender<SpaceState>,
    /// Whether the writer has ended.
    pub(crate) ended: watch::Sender<bool>,
}

/// The part that changes.
pub(crate) struct State {
    pub(crate) queue: WriteQueue,
    pub(crate) phase: Phase,
    pub(crate) identity: Identity,
    /// The log as its readers see it.
    pub(crate) log: Outline,
    pub(crate) tail: Tail,
    /// The log as it stands on disk.
    pub(crate) frames: FrameIndex,
    pub(crate) synced: Option<LogPosition>,
    pub(crate) synced_frame: u64,
    pub(crate) committed: Option<LogPosition>,
    /// The vote that is durable.
    pub(crate) vote: Option<Vote>,
    /// Segments on disk, oldest first; the last one is being written.
    pub(crate) segments: VecDeque<SegmentRecord>,
    pub(crate) spare: Option<Spare>,
    /// How large the next spare segment must be, in bytes.
    pub(crate) spare_bytes: u64,
    pub(crate) snapshot: Option<Arc<SnapshotFile>>,
    pub(crate) next_snapshot_number: u64,
    /// Bytes of snapshots that are not finished.
    pub(crate) snapshot_bytes_unfinished: u64,
    /// Since when the writer waits for the disk.
    pub(crate) unfinished_since: Option<Instant>,
    pub(crate) syncs: SyncRecorder,
}

/// A segment on disk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SegmentRecord {
    pub(crate) id: u64,
    /// Seed of its frames' checksums.
    pub(crate) seed: u32,
}

/// How far the writer's life has come.
#[derive(Debug, Clone)]
pub(crate) enum Phase {
    Running,
    /// What is queued is still written.
    Closing,
    /// Nothing is written any more, and why.
    Ended(StorageFailure),
}

impl Shared {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // A panic while the lock is held leaves plain values behind, not broken ones.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes a failure, the first one only, and stops the writer and the supply.
    pub(crate) fn fail(&self, failure: StorageFailure) {
        self.failure.send_if_modified(|published| {
            let is_first = published.is_none();
            if is_first {
                tracing::error!(error = &failure as &dyn std::error::Error, "storage failed");
                *published = Some(failure);
            }
            is_first
        });
        self.work.notify_one();
        self.supply_work.notify_one();
    }

    /// The failure that was published, if any.
    pub(crate) fn failed(&self) -> Option<StorageFailure> {
        self.failure.borrow().clone()
    }

    /// Asks the writer to write what is queued and to end.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        if matches!(state.phase, Phase::Running) {
            state.phase = Phase::Closing;
        }
        drop(state);
        self.work.notify_one();
        self.supply_work.notify_one();
    }

    /// The names of the folder are durable after this, unless a simulation wants otherwise.
    pub(crate) async fn sync_directory(&self, disk: &Arc<dyn Disk>) -> std::io::Result<()> {
        if self.buggify.is_planted("skip-dir-sync") {
            return Ok(());
        }
        disk.sync_directory().await
    }
}

impl State {
    pub(crate) const fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running)
    }

    /// The durable end of the log, as far as the log has not been cut back since.
    pub(crate) fn note_synced(&mut self, position: Option<LogPosition>) {
        match position {
            // What is durable was cut off meanwhile: the cut is on its way to the disk.
            Some(position) if !self.log.holds(position) => {}
            position => self.synced = position,
        }
    }
}
