//! A disk in memory that does what real disks do when they are not asked nicely.
//!
//! It lies outside the node: a killed process leaves its page cache behind, a loss of power takes
//! every un-synced write and name with it, each by a fate of its own. Its other hardships are
//! switched on from outside, through [`SimulatedDisk`]: bits that rot, calls that fail, a folder
//! that is full, syncs that fail, stall or are slow, and the loss of everything.
//!
//! Reads and writes of the page cache take no time; syncs do, and what is called on a lane after a
//! sync waits for it, as it would on the one thread of the real disk.

mod file;
mod folder;
mod hardship;
mod lane;
mod platter;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mainstay_world::Disk;
use tokio::sync::Notify;

use crate::{dice::Dice, trace::Trace};

pub use hardship::{Hardship, Rot};
pub use platter::DiskCounters;

use self::{lane::Lane, platter::Platter};

/// The disk of one node.
#[derive(Clone)]
pub struct SimulatedDisk {
    shared: Arc<Shared>,
}

struct Shared {
    platter: Mutex<Platter>,
    /// Woken when a stall ends.
    unstalled: Notify,
    trace: Trace,
    node: u32,
}

impl SimulatedDisk {
    /// An empty folder for `node`.
    #[must_use]
    pub fn new(seed: u64, node: u32, trace: Trace) -> Self {
        let platter = Platter::new(Dice::derive(seed, "disk", u64::from(node)));
        let platter = Mutex::new(platter);
        Self { shared: Arc::new(Shared { platter, unstalled: Notify::new(), trace, node }) }
    }

    /// A lane for a process that starts now. Call inside the process's runtime and scope; lanes of
    /// earlier processes answer with errors from then on, once [`Self::kill`] was called.
    #[must_use]
    pub fn lane(&self) -> Arc<dyn Disk> {
        Arc::new(Lane::start(Arc::clone(&self.shared)))
    }

    /// The process is gone; what it wrote stays readable.
    pub fn kill(&self) {
        self.shared.platter().kill();
    }

    /// The power is gone: what no sync has covered meets its fate.
    pub fn lose_power(&self) {
        let losses = self.shared.platter().lose_power();
        self.shared.trace.record("power-loss", self.shared.node, &losses, &[]);
    }

    /// The disk is replaced by an empty one.
    pub fn lose_everything(&self) {
        self.shared.platter().lose_everything();
        self.shared.trace.record("disk-lost", self.shared.node, &[], &[]);
    }

    /// Flips one bit of something that was synced; `None` while there is nothing.
    pub fn rot(&self) -> Option<Rot> {
        let rot = self.shared.platter().rot()?;
        self.shared.trace.record("rot", self.shared.node, &[rot.offset], rot.file.as_bytes());
        Some(rot)
    }

    /// Changes what the disk does to its users.
    pub fn set(&self, change: impl FnOnce(&mut Hardship)) {
        let mut platter = self.shared.platter();
        change(platter.hardship_mut());
        if !platter.hardship().stalled {
            self.shared.unstalled.notify_waiters();
        }
    }

    /// What the disk did so far.
    #[must_use]
    pub fn counters(&self) -> DiskCounters {
        self.shared.platter().counters()
    }
}

impl Shared {
    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.platter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for SimulatedDisk {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("SimulatedDisk")
            .field("node", &self.shared.node)
            .finish_non_exhaustive()
    }
}
