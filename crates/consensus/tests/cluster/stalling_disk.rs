//! A disk whose syncs hang for as long as a test wants.

use std::sync::Arc;

use mainstay_world::{Disk, DiskCall, InterposedDisk, Interposer, Intervention};
use tokio::sync::watch;

/// Whether a disk is stalled; shared by a test and the disk.
#[derive(Clone)]
pub(crate) struct Stall(watch::Sender<bool>);

impl Default for Stall {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl Stall {
    pub(crate) fn set(&self, stalled: bool) {
        self.0.send_replace(stalled);
    }

    /// `disk`, whose syncs of data wait while this is set.
    pub(crate) fn of(&self, disk: Arc<dyn Disk>) -> InterposedDisk<Self> {
        InterposedDisk::new(disk, self.clone())
    }
}

impl Interposer for Stall {
    fn intervene(&self, call: DiskCall) -> Intervention {
        if call != DiskCall::SyncData {
            return Intervention::Pass;
        }
        let mut stalled = self.0.subscribe();
        Intervention::Wait(Box::pin(async move {
            // A dropped switch stalls nothing.
            drop(stalled.wait_for(|stalled| !*stalled).await);
        }))
    }
}
