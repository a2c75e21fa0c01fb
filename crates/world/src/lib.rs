//! The seams between Mainstay and the machine it runs on.
//!
//! The same node code runs in production and in the simulator; what differs is behind the seams
//! of this crate and nothing else: [`Disk`], [`Net`], the clock ([`Instant`], [`sleep`],
//! [`wall_clock_ms`]), entropy ([`random_u64`]), [`History`] and [`Buggify`]. Clock and entropy are
//! task-local: the whole node runs inside one [`Scope`], and [`spawn`] hands the scope on, so a
//! simulated node has its own seed and its own idea of time without passing them around.
//!
//! The real forms live here too ([`RealDisk`], [`RealNet`], [`SledHistory`]); the simulated ones
//! live in `chaos`. The crate knows nothing of logs, Raft, keys or HTTP.
//!
//! Seams are trait objects, not type parameters: see `docs/adr/0005-seams-are-objects.md`.
//!
//! Start reading at [`World`].

mod buggify;
mod clock;
mod disk;
mod history;
mod interposed_disk;
mod net;
mod read_only_disk;
mod real_disk;
mod real_net;
mod scope;
mod sled_history;

use std::sync::Arc;

pub use buggify::{Buggify, Saboteur};
pub use clock::{
    Elapsed, Instant, NodeClock, sleep, sleep_until, timeout, true_duration, wall_clock_ms,
};
pub use disk::{Disk, DiskFuture, FileId};
pub use history::{History, HistoryRecord, MemoryHistory};
pub use interposed_disk::{DiskCall, InterposedDisk, Interposer, Intervention};
pub use net::{Listener, Net, NetFuture, Stream, Transport};
pub use read_only_disk::{OnRead, ReadOnlyDisk};
pub use real_disk::{FolderError, FolderLock, RealDisk, free_bytes};
pub use real_net::RealNet;
pub use scope::{JoinHandle, Scope, random_bytes, random_u64, spawn};
pub use sled_history::SledHistory;

/// Everything a node needs from outside, as one value.
#[derive(Clone)]
pub struct World {
    /// The folder of log and vote. Calls on it are executed in the order they are made.
    pub log_disk: Arc<dyn Disk>,
    /// The same folder through a second lane, so that a snapshot never waits in front of a log
    /// write.
    pub snapshot_disk: Arc<dyn Disk>,
    /// The network.
    pub net: Arc<dyn Net>,
    /// Node-local records that no decision depends on.
    pub history: Arc<dyn History>,
    /// Planted bugs and delays; empty in production.
    pub buggify: Buggify,
}

impl std::fmt::Debug for World {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("World").field("buggify", &self.buggify).finish_non_exhaustive()
    }
}
