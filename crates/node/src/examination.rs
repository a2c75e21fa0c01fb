//! The data folder of a stopped node, checked from front to back and not changed.
//!
//! Every frame of the log, every chunk of the snapshot and every entry is read, checked and
//! applied: what passes here is what a start would make of the folder, and more than a start looks
//! at.

use std::{path::Path, sync::Arc};

use mainstay_consensus::Survivor;
use mainstay_storage::{FolderReading, LogPosition};
use mainstay_world::{FolderError, FolderLock};

use crate::recovery::{
    FolderFinding, Progress, RecoveryError, finding_of, read_only, readable_bytes,
};

/// A sound data folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examination {
    /// Whose it is, and how far its log goes.
    pub folder: FolderFinding,
    /// The cluster.
    pub cluster_id: u64,
    /// Its epoch.
    pub epoch: u64,
    /// How many members the cluster had.
    pub members: usize,
    /// Bytes of log.
    pub log_bytes: u64,
    /// What the snapshot covers.
    pub snapshot: Option<LogPosition>,
    /// Its length in bytes; `None` without one.
    pub snapshot_bytes: Option<u64>,
    /// Entries on top of the snapshot.
    pub entries: u64,
    /// Keys in the store after the last entry.
    pub keys: u64,
    /// The store's revision after the last entry.
    pub revision: u64,
}

/// A folder that is not sound, or cannot be looked at.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct ExaminationError(#[from] RecoveryError);

impl ExaminationError {
    /// Whether a running process holds the folder: then nothing is known about it.
    #[must_use]
    pub const fn is_in_use(&self) -> bool {
        matches!(self.0, RecoveryError::Folder(FolderError::InUse { .. }))
    }
}

impl Examination {
    /// Reads and checks everything in the folder.
    ///
    /// # Errors
    /// [`ExaminationError`]: what is wrong, by file and offset.
    pub async fn of(path: &Path, progress: &Arc<dyn Progress>) -> Result<Self, ExaminationError> {
        let _lock = FolderLock::take_existing(path).map_err(RecoveryError::from)?;
        progress.begin(format!("checking the log of {}", path.display()), readable_bytes(path));
        let reading = FolderReading::open(read_only(path, progress)?).await;
        progress.end();
        let owned = || path.to_path_buf();
        let reading =
            reading.map_err(|source| RecoveryError::Unreadable { path: owned(), source })?;
        progress.begin(format!("applying {}", path.display()), readable_bytes(path));
        let survivor = Survivor::of(&reading).await;
        progress.end();
        let survivor =
            survivor.map_err(|source| RecoveryError::Unusable { path: owned(), source })?;
        let snapshot = reading.snapshot();
        Ok(Self {
            folder: finding_of(path, &reading),
            cluster_id: reading.folder().cluster_id,
            epoch: reading.folder().epoch,
            members: survivor.members.len(),
            log_bytes: reading.log_bytes(),
            snapshot: snapshot.and_then(|snapshot| snapshot.last),
            snapshot_bytes: snapshot.map(|snapshot| snapshot.bytes),
            entries: survivor.entries,
            keys: survivor.store.key_count(),
            revision: survivor.store.revision(),
        })
    }
}
