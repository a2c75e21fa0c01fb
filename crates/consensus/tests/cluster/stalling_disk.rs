//! A disk whose syncs hang for as long as a test wants.

use std::sync::Arc;

use bytes::Bytes;
use mainstay_world::{Disk, DiskFuture, FileId};
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
}

/// A disk whose syncs of data wait while it is stalled.
pub(crate) struct StallingDisk {
    disk: Arc<dyn Disk>,
    stall: Stall,
}

impl StallingDisk {
    pub(crate) fn new(disk: Arc<dyn Disk>, stall: Stall) -> Self {
        Self { disk, stall }
    }
}

impl Disk for StallingDisk {
    fn create(&self, name: &str) -> DiskFuture<FileId> {
        self.disk.create(name)
    }

    fn open(&self, name: &str) -> DiskFuture<FileId> {
        self.disk.open(name)
    }

    fn close(&self, file: FileId) -> DiskFuture<()> {
        self.disk.close(file)
    }

    fn write_at(&self, file: FileId, offset: u64, data: Bytes) -> DiskFuture<()> {
        self.disk.write_at(file, offset, data)
    }

    fn read_at(&self, file: FileId, offset: u64, len: usize) -> DiskFuture<Bytes> {
        self.disk.read_at(file, offset, len)
    }

    fn length(&self, file: FileId) -> DiskFuture<u64> {
        self.disk.length(file)
    }

    fn allocate(&self, file: FileId, len: u64) -> DiskFuture<()> {
        self.disk.allocate(file, len)
    }

    fn sync_data(&self, file: FileId) -> DiskFuture<()> {
        let (synced, mut stalled) = (self.disk.sync_data(file), self.stall.0.subscribe());
        Box::pin(async move {
            // A dropped switch stalls nothing.
            drop(stalled.wait_for(|stalled| !*stalled).await);
            synced.await
        })
    }

    fn sync_directory(&self) -> DiskFuture<()> {
        self.disk.sync_directory()
    }

    fn rename(&self, from: &str, to: &str) -> DiskFuture<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> DiskFuture<()> {
        self.disk.remove(name)
    }

    fn list(&self) -> DiskFuture<Vec<String>> {
        self.disk.list()
    }

    fn free_bytes(&self) -> DiskFuture<u64> {
        self.disk.free_bytes()
    }
}
