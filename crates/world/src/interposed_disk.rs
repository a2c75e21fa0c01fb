//! A disk with somebody in front of it who lets calls pass, fails them or has them wait.
//!
//! It is for tests and measurements that want trouble on a real disk: one that hangs, is full or
//! fails. It adds no trouble of its own, knows nothing of files, and no node that is shipped uses
//! it.

use std::{future::Future, io, pin::Pin, sync::Arc};

use bytes::Bytes;

use crate::disk::{Disk, DiskFuture, FileId};

/// What a call asks of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskCall {
    /// [`Disk::create`], [`Disk::open`], [`Disk::close`], [`Disk::rename`] or [`Disk::remove`].
    Name,
    /// [`Disk::read_at`], [`Disk::length`] or [`Disk::list`].
    Read,
    /// [`Disk::write_at`] or [`Disk::allocate`].
    Write,
    /// [`Disk::sync_data`].
    SyncData,
    /// [`Disk::sync_directory`].
    SyncDirectory,
    /// [`Disk::free_bytes`]; one that fails because the disk is full answers 0.
    FreeBytes,
}

/// What is done with a call.
pub enum Intervention {
    /// It goes to the disk.
    Pass,
    /// It never gets there; the caller is told this error.
    Fail(io::Error),
    /// It goes to the disk, and the caller is told when this is over too.
    Wait(Pin<Box<dyn Future<Output = ()> + Send>>),
}

impl std::fmt::Debug for Intervention {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pass => formatter.write_str("Pass"),
            Self::Fail(error) => formatter.debug_tuple("Fail").field(error).finish(),
            Self::Wait(_) => formatter.write_str("Wait"),
        }
    }
}

/// Decides what is done with each call, when it is made.
pub trait Interposer: Send + Sync + 'static {
    /// What is done with this one.
    fn intervene(&self, call: DiskCall) -> Intervention;
}

/// See the module comment.
pub struct InterposedDisk<I> {
    disk: Arc<dyn Disk>,
    interposer: I,
}

impl<I: Interposer> InterposedDisk<I> {
    /// `disk` with `interposer` in front of it.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, interposer: I) -> Self {
        Self { disk, interposer }
    }

    fn call<T: Send + 'static>(
        &self,
        call: DiskCall,
        make: impl FnOnce(&dyn Disk) -> DiskFuture<T>,
    ) -> DiskFuture<T> {
        match self.interposer.intervene(call) {
            Intervention::Pass => make(self.disk.as_ref()),
            Intervention::Fail(error) => Box::pin(std::future::ready(Err(error))),
            Intervention::Wait(wait) => {
                let done = make(self.disk.as_ref());
                Box::pin(async move {
                    wait.await;
                    done.await
                })
            }
        }
    }
}

impl<I> std::fmt::Debug for InterposedDisk<I> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("InterposedDisk").finish_non_exhaustive()
    }
}

impl<I: Interposer> Disk for InterposedDisk<I> {
    fn create(&self, name: &str) -> DiskFuture<FileId> {
        self.call(DiskCall::Name, |disk| disk.create(name))
    }

    fn open(&self, name: &str) -> DiskFuture<FileId> {
        self.call(DiskCall::Name, |disk| disk.open(name))
    }

    fn close(&self, file: FileId) -> DiskFuture<()> {
        self.call(DiskCall::Name, |disk| disk.close(file))
    }

    fn write_at(&self, file: FileId, offset: u64, data: Bytes) -> DiskFuture<()> {
        self.call(DiskCall::Write, |disk| disk.write_at(file, offset, data))
    }

    fn read_at(&self, file: FileId, offset: u64, len: usize) -> DiskFuture<Bytes> {
        self.call(DiskCall::Read, |disk| disk.read_at(file, offset, len))
    }

    fn length(&self, file: FileId) -> DiskFuture<u64> {
        self.call(DiskCall::Read, |disk| disk.length(file))
    }

    fn allocate(&self, file: FileId, len: u64) -> DiskFuture<()> {
        self.call(DiskCall::Write, |disk| disk.allocate(file, len))
    }

    fn sync_data(&self, file: FileId) -> DiskFuture<()> {
        self.call(DiskCall::SyncData, |disk| disk.sync_data(file))
    }

    fn sync_directory(&self) -> DiskFuture<()> {
        self.call(DiskCall::SyncDirectory, Disk::sync_directory)
    }

    fn rename(&self, from: &str, to: &str) -> DiskFuture<()> {
        self.call(DiskCall::Name, |disk| disk.rename(from, to))
    }

    fn remove(&self, name: &str) -> DiskFuture<()> {
        self.call(DiskCall::Name, |disk| disk.remove(name))
    }

    fn list(&self) -> DiskFuture<Vec<String>> {
        self.call(DiskCall::Read, Disk::list)
    }

    fn free_bytes(&self) -> DiskFuture<u64> {
        let free = self.call(DiskCall::FreeBytes, Disk::free_bytes);
        Box::pin(async move {
            match free.await {
                Err(error) if error.kind() == io::ErrorKind::StorageFull => Ok(0),
                free => free,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use super::*;
    use crate::real_disk::RealDisk;

    /// Writes fail for want of room, syncs wait until they are let go.
    struct FullAndSlow(watch::Receiver<bool>);

    impl Interposer for FullAndSlow {
        fn intervene(&self, call: DiskCall) -> Intervention {
            match call {
                DiskCall::Write | DiskCall::FreeBytes => {
                    Intervention::Fail(io::ErrorKind::StorageFull.into())
                }
                DiskCall::SyncData => {
                    let mut go_on = self.0.clone();
                    Intervention::Wait(Box::pin(async move {
                        drop(go_on.wait_for(|go_on| *go_on).await);
                    }))
                }
                _ => Intervention::Pass,
            }
        }
    }

    #[tokio::test]
    async fn calls_pass_fail_or_wait_as_whoever_stands_in_front_decides() {
        let folder = tempfile::tempdir().expect("a folder");
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::start(folder.path(), "disk").expect("starts"));
        let (go_on, waiting) = watch::channel(false);
        let disk = InterposedDisk::new(disk, FullAndSlow(waiting));
        let file = disk.create("a").await.expect("creates");
        let refused = disk.write_at(file, 0, Bytes::from_static(b"x")).await;
        assert_eq!(refused.expect_err("full").kind(), io::ErrorKind::StorageFull);
        assert_eq!(disk.length(file).await.expect("reads"), 0, "it got to the disk");
        assert_eq!(disk.free_bytes().await.expect("tells"), 0);
        let mut sync = disk.sync_data(file);
        tokio::select! {
            biased;
            _ended = &mut sync => panic!("the sync did not wait"),
            () = tokio::task::yield_now() => {}
        }
        go_on.send_replace(true);
        sync.await.expect("syncs");
    }
}
