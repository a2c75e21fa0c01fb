//! A disk in memory that does what disks do when the power fails, and what they do when they break.
//!
//! What was written is visible at once and durable after a sync, as with a page cache. A loss of
//! power keeps, drops or garbles each sector of each write that was not synced, in any mixture, and
//! keeps any subset of the changes of names since the last sync of the folder. A failed sync leaves
//! what was written visible and takes it off the list of what later syncs make durable, as Linux
//! does.

mod folder;

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use mainstay_world::{Disk, DiskFuture, FileId, sleep};
use tokio::sync::{Notify, oneshot};

pub(crate) use folder::{Call, Folder};

/// What the two lanes of one folder share, and what a test holds.
#[derive(Clone)]
pub(crate) struct FaultyDisk {
    shared: Arc<Shared>,
}

struct Shared {
    folder: Mutex<Folder>,
    died: Notify,
}

/// One lane: calls in order, all of them waiting behind one that is stalled.
struct Lane {
    shared: Arc<Shared>,
    /// Lanes of an earlier life reach nothing any more.
    life: u64,
    name: &'static str,
    stalled: Arc<Mutex<VecDeque<Job>>>,
}

type Job = Box<dyn FnOnce(&mut Folder) + Send>;

impl FaultyDisk {
    pub(crate) fn new(seed: u64) -> Self {
        let folder = Mutex::new(Folder::new(seed));
        Self { shared: Arc::new(Shared { folder, died: Notify::new() }) }
    }

    pub(crate) fn folder(&self) -> MutexGuard<'_, Folder> {
        lock(&self.shared.folder)
    }

    /// The lane named `log` or `side`, for the current life.
    pub(crate) fn lane(&self, name: &'static str) -> Arc<dyn Disk> {
        let stalled = Arc::new(Mutex::new(VecDeque::new()));
        let mut folder = self.folder();
        folder.lanes.push((name, Arc::clone(&stalled)));
        Arc::new(Lane { shared: Arc::clone(&self.shared), life: folder.life, name, stalled })
    }

    /// Returns when the disk has made its last call.
    pub(crate) async fn died(&self) {
        loop {
            let died = self.shared.died.notified();
            if self.folder().is_dead() {
                return;
            }
            died.await;
        }
    }

    /// Lets stalled calls happen.
    pub(crate) fn release(&self) {
        let lanes = {
            let mut folder = self.folder();
            folder.stall_next_sync = None;
            folder.lanes.clone()
        };
        for (_name, stalled) in lanes {
            loop {
                let Some(job) = lock(&stalled).pop_front() else { break };
                job(&mut self.folder());
            }
        }
    }
}

impl Lane {
    fn call<T: Send + 'static>(
        &self,
        call: Call,
        work: impl FnOnce(&mut Folder) -> io::Result<T> + Send + 'static,
    ) -> DiskFuture<T> {
        let mut folder = lock(&self.shared.folder);
        if folder.life != self.life || folder.is_dead() {
            return Box::pin(std::future::pending());
        }
        let is_sync = matches!(call, Call::SyncData(_));
        let is_stalled = is_sync && folder.stall_next_sync == Some(self.name);
        if is_stalled || !lock(&self.stalled).is_empty() {
            let (answer, outcome) = oneshot::channel();
            lock(&self.stalled).push_back(Box::new(move |folder| {
                let _ = answer
                    .send(folder.call(call, work).unwrap_or(Err(io::ErrorKind::Other.into())));
            }));
            return Box::pin(async move { outcome.await.expect("stalled calls are kept") });
        }
        let latency = folder.latency();
        let outcome = folder.call(call, work);
        drop(folder);
        let Some(outcome) = outcome else {
            self.shared.died.notify_waiters();
            return Box::pin(std::future::pending());
        };
        Box::pin(async move {
            if let Some(latency) = latency {
                sleep(latency).await;
            }
            outcome
        })
    }
}

impl Disk for Lane {
    fn create(&self, name: &str) -> DiskFuture<FileId> {
        let name = name.to_owned();
        self.call(Call::Create(name.clone()), move |folder| folder.create(&name))
    }

    fn open(&self, name: &str) -> DiskFuture<FileId> {
        let name = name.to_owned();
        self.call(Call::Open(name.clone()), move |folder| folder.open(&name))
    }

    fn close(&self, file: FileId) -> DiskFuture<()> {
        self.call(Call::Close, move |folder| folder.close(file))
    }

    fn write_at(&self, file: FileId, offset: u64, data: Bytes) -> DiskFuture<()> {
        self.call(Call::Write(file), move |folder| folder.write(file, offset, &data))
    }

    fn read_at(&self, file: FileId, offset: u64, len: usize) -> DiskFuture<Bytes> {
        self.call(Call::Read(file), move |folder| folder.read(file, offset, len))
    }

    fn length(&self, file: FileId) -> DiskFuture<u64> {
        self.call(Call::Read(file), move |folder| folder.length(file))
    }

    fn allocate(&self, file: FileId, len: u64) -> DiskFuture<()> {
        self.call(Call::Allocate(file), move |folder| folder.allocate(file, len))
    }

    fn sync_data(&self, file: FileId) -> DiskFuture<()> {
        self.call(Call::SyncData(file), move |folder| folder.sync_data(file))
    }

    fn sync_directory(&self) -> DiskFuture<()> {
        self.call(Call::SyncDirectory, Folder::sync_directory)
    }

    fn rename(&self, from: &str, to: &str) -> DiskFuture<()> {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.call(Call::Rename(to.clone()), move |folder| folder.rename(&from, &to))
    }

    fn remove(&self, name: &str) -> DiskFuture<()> {
        let name = name.to_owned();
        self.call(Call::Remove(name.clone()), move |folder| folder.remove(&name))
    }

    fn list(&self) -> DiskFuture<Vec<String>> {
        self.call(Call::List, |folder| Ok(folder.names()))
    }

    fn free_bytes(&self) -> DiskFuture<u64> {
        self.call(Call::FreeBytes, |folder| Ok(folder.free_bytes()))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
