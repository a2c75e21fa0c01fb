//! The write-ahead log, the vote and the snapshots of a node, on a [`mainstay_world::Disk`].
//!
//! The picture: one writer task takes everything that waits, writes it as one frame into a
//! preallocated segment, syncs once, and tells everybody (group commit). A task beside it keeps
//! the next segment ready. Snapshots are files of their own on a second lane of the disk. A start
//! reads everything, refuses what it cannot trust, and makes durable again what it found before
//! anybody hears of it.
//!
//! What always holds:
//!
//! - a callback fires, and a waiting call returns, only when what it asked for is durable
//! - what was acknowledged is there after any loss of power that the disk itself survives
//! - after a failed write or sync of a file nothing is ever written to that file again
//! - damaged bytes are never served, and never taken for a torn write if anything proves that they
//!   were synced
//! - a full disk is no failure; it is waited for
//!
//! It knows index, term and bytes: no Raft library, no commands, no network. `docs/storage-format.md`
//! has every byte.
//!
//! Start reading at [`Storage`], then `writer`, then `recovery`.

mod damage;
mod entry;
mod failure;
mod folder;
mod frame;
mod frame_index;
mod frame_writer;
mod identity;
mod inventory;
mod log_reader;
mod open;
mod open_error;
mod options;
mod outline;
mod reading;
mod record;
mod recovery;
mod replay;
mod seal;
mod segment;
mod segment_files;
mod shared;
mod snapshot;
mod snapshot_format;
mod snapshot_reader;
mod snapshot_writer;
mod storage;
mod supply;
mod sync_stats;
mod tail;
mod vote;
mod write_queue;
mod writer;

pub use damage::Damage;
pub use entry::{LogEntry, LogPosition};
pub use failure::{SpaceState, StorageFailure};
pub use folder::{FOLDER_NAME_BYTES_MAX, Folder, FolderReadError};
pub use identity::{ForeignFile, Identity};
pub use log_reader::ReadError;
pub use open::Recovered;
pub use open_error::OpenError;
pub use options::StorageOptions;
pub use reading::{FolderReading, FolderReadingError};
pub use recovery::TornTail;
pub use snapshot::SnapshotInfo;
pub use snapshot_format::{SNAPSHOT_CHUNK_BYTES_MAX, SNAPSHOT_META_BYTES_MAX};
pub use snapshot_reader::{SnapshotReadError, SnapshotReader};
pub use snapshot_writer::SnapshotWriter;
pub use storage::{ENTRY_BYTES_MAX, Progress, Storage};
pub use sync_stats::SyncStats;
pub use vote::Vote;
pub use write_queue::SyncCallback;
