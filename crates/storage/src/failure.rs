//! How storage fails for good, and how a full disk is told apart.

use std::{io, sync::Arc};

use crate::damage::Damage;

/// Why storage cannot take writes any more. Nothing is written or synced after it; the remedy is
/// a restart, which trusts only what it can sync again.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StorageFailure {
    /// A write failed. Whether it took effect is not known.
    #[error("cannot write {file} at byte {offset}; the outcome is unknown, restart the node")]
    Write {
        /// The file's name.
        file: String,
        /// Where in the file, in bytes.
        offset: u64,
        /// What the disk says.
        #[source]
        source: Arc<io::Error>,
    },
    /// A sync failed. What was written since the one before may be durable or not.
    #[error("cannot sync {file}; what was last written may be lost, restart the node")]
    Sync {
        /// The file's name, or the folder.
        file: String,
        /// What the disk says.
        #[source]
        source: Arc<io::Error>,
    },
    /// A file of the log cannot be made, opened or read.
    #[error("cannot {action} {file}; nothing was changed, restart the node")]
    File {
        /// What was tried: a verb.
        action: &'static str,
        /// The file's name.
        file: String,
        /// What the disk says.
        #[source]
        source: Arc<io::Error>,
    },
    /// A part of the log that was sound is damaged now.
    #[error(
        "{file} is damaged at byte {offset}; the disk does not keep what it is given, \
         replace it and let this node join again with an empty folder"
    )]
    Damaged {
        /// The file's name.
        file: String,
        /// Where in the file, in bytes.
        offset: u64,
        /// What is wrong there.
        #[source]
        source: Damage,
    },
    /// Storage was shut down before this could be written. It had no effect.
    #[error("storage has been shut down; nothing was written")]
    Stopped,
}

impl StorageFailure {
    pub(crate) fn write(file: &str, offset: u64, source: io::Error) -> Self {
        Self::Write { file: file.to_owned(), offset, source: Arc::new(source) }
    }

    pub(crate) fn sync(file: &str, source: io::Error) -> Self {
        Self::Sync { file: file.to_owned(), source: Arc::new(source) }
    }

    pub(crate) fn file(action: &'static str, file: &str, source: io::Error) -> Self {
        Self::File { action, file: file.to_owned(), source: Arc::new(source) }
    }
}

/// Whether the error says that there is no room: the one error of a disk that can pass.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Whether there is room to go on writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpaceState {
    /// The next segment is ready and a snapshot would fit.
    Ok,
    /// The reserve is being used up: take no new proposals until it is back.
    ReserveUsed,
}
