//! The way a process reaches its disk: calls in the order they are made.
//!
//! A call that takes no time is carried out on the spot, unless one before it still waits. The
//! others go through a task, one after the other, whether or not anybody waits for the answer.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use mainstay_world::{self as world, Disk, DiskFuture, FileId};
use tokio::sync::{mpsc, oneshot};

use super::{Shared, folder::Inode, platter::Platter};

/// One process's lane.
pub(super) struct Lane {
    jobs: mpsc::UnboundedSender<Job>,
    state: Arc<LaneState>,
}

struct LaneState {
    shared: Arc<Shared>,
    process: u64,
    open: Mutex<BTreeMap<FileId, Inode>>,
    next_file: AtomicU64,
    waiting: AtomicU64,
}

/// One call.
struct Job {
    /// The file or folder to sync before `work` is done.
    sync: Option<Syncing>,
    work: Work,
}

#[derive(Debug, Clone, Copy)]
enum Syncing {
    File(FileId),
    Directory,
}

type Work = Box<dyn FnOnce(&LaneState, io::Result<()>) + Send>;

impl Lane {
    pub(super) fn start(shared: Arc<Shared>) -> Self {
        let process = shared.platter().process();
        let state = Arc::new(LaneState {
            shared,
            process,
            open: Mutex::default(),
            next_file: AtomicU64::new(1),
            waiting: AtomicU64::new(0),
        });
        let (jobs, queue) = mpsc::unbounded_channel();
        world::spawn(serve(Arc::clone(&state), queue));
        Self { jobs, state }
    }

    /// Carries out `work` now if nothing waits before it, else in its turn.
    fn submit<T: Send + 'static>(
        &self,
        work: impl FnOnce(&LaneState) -> io::Result<T> + Send + 'static,
    ) -> DiskFuture<T> {
        if self.state.waiting.load(Ordering::Relaxed) == 0 {
            return Box::pin(std::future::ready(
                self.state.alive().and_then(|()| work(&self.state)),
            ));
        }
        self.queue(None, move |state, _synced| work(state))
    }

    fn sync(&self, what: Syncing) -> DiskFuture<()> {
        self.queue(Some(what), |_state, synced| synced)
    }

    fn queue<T: Send + 'static>(
        &self,
        sync: Option<Syncing>,
        work: impl FnOnce(&LaneState, io::Result<()>) -> io::Result<T> + Send + 'static,
    ) -> DiskFuture<T> {
        let (answer, outcome) = oneshot::channel();
        let work: Work = Box::new(move |state, synced| {
            // The caller may have given up; the work is done all the same.
            let _ = answer.send(work(state, synced));
        });
        self.state.waiting.fetch_add(1, Ordering::Relaxed);
        let sent = self.jobs.send(Job { sync, work });
        Box::pin(async move {
            sent.map_err(|_closed| gone())?;
            outcome.await.map_err(|_closed| gone())?
        })
    }
}

/// Carries out what could not be done on the spot.
async fn serve(state: Arc<LaneState>, mut queue: mpsc::UnboundedReceiver<Job>) {
    while let Some(job) = queue.recv().await {
        let synced = match job.sync {
            Some(what) => state.sync(what).await,
            None => Ok(()),
        };
        state.waiting.fetch_sub(1, Ordering::Relaxed);
        let outcome = state.alive().and(synced);
        (job.work)(&state, outcome);
    }
}

impl LaneState {
    /// Only the process that runs now reaches the disk.
    fn alive(&self) -> io::Result<()> {
        if self.shared.platter().process() == self.process { Ok(()) } else { Err(gone()) }
    }

    async fn sync(&self, what: Syncing) -> io::Result<()> {
        self.alive()?;
        let inode = match what {
            Syncing::File(file) => Some(self.inode(file)?),
            Syncing::Directory => None,
        };
        let (number, duration) = {
            let mut platter = self.shared.platter();
            (platter.newest_number(), platter.sync_duration())
        };
        if !duration.is_zero() {
            tokio::time::sleep(duration).await;
        }
        loop {
            let woken = self.shared.unstalled.notified();
            if !self.shared.platter().hardship().stalled {
                break;
            }
            woken.await;
        }
        self.alive()?;
        let synced = match inode {
            Some(inode) => self.shared.platter().finish_sync(inode, number),
            None => {
                self.shared.platter().finish_directory_sync(number);
                Ok(())
            }
        };
        self.trace("sync", &[inode.unwrap_or(0), number, u64::from(synced.is_ok())], &[]);
        synced
    }

    fn inode(&self, file: FileId) -> io::Result<Inode> {
        self.open().get(&file).copied().ok_or_else(|| io::Error::other("the file is closed"))
    }

    fn hand_out(&self, inode: Inode) -> FileId {
        let file = FileId(self.next_file.fetch_add(1, Ordering::Relaxed));
        self.open().insert(file, inode);
        file
    }

    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.shared.platter()
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<FileId, Inode>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trace(&self, kind: &'static str, numbers: &[u64], bytes: &[u8]) {
        self.shared.trace.record(kind, self.shared.node, numbers, bytes);
    }
}

impl Disk for Lane {
    fn create(&self, name: &str) -> DiskFuture<FileId> {
        let name = name.to_owned();
        self.submit(move |state| {
            state.trace("create", &[], name.as_bytes());
            let inode = state.platter().create(&name)?;
            Ok(state.hand_out(inode))
        })
    }

    fn open(&self, name: &str) -> DiskFuture<FileId> {
        let name = name.to_owned();
        self.submit(move |state| {
            let inode = state.platter().open(&name)?;
            Ok(state.hand_out(inode))
        })
    }

    fn close(&self, file: FileId) -> DiskFuture<()> {
        self.submit(move |state| {
            state.open().remove(&file);
            Ok(())
        })
    }

    fn write_at(&self, file: FileId, offset: u64, data: Bytes) -> DiskFuture<()> {
        self.submit(move |state| {
            let inode = state.inode(file)?;
            state.trace("write", &[inode, offset], &data);
            state.platter().write(inode, offset, data)
        })
    }

    fn read_at(&self, file: FileId, offset: u64, len: usize) -> DiskFuture<Bytes> {
        self.submit(move |state| {
            let inode = state.inode(file)?;
            state.platter().read(inode, offset, len)
        })
    }

    fn length(&self, file: FileId) -> DiskFuture<u64> {
        self.submit(move |state| {
            let inode = state.inode(file)?;
            state.platter().len(inode)
        })
    }

    fn allocate(&self, file: FileId, len: u64) -> DiskFuture<()> {
        self.submit(move |state| {
            let inode = state.inode(file)?;
            state.trace("allocate", &[inode, len], &[]);
            state.platter().allocate(inode, len)
        })
    }

    fn sync_data(&self, file: FileId) -> DiskFuture<()> {
        self.sync(Syncing::File(file))
    }

    fn sync_directory(&self) -> DiskFuture<()> {
        self.sync(Syncing::Directory)
    }

    fn rename(&self, from: &str, to: &str) -> DiskFuture<()> {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.submit(move |state| {
            state.trace("rename", &[], to.as_bytes());
            state.platter().rename(&from, &to)
        })
    }

    fn remove(&self, name: &str) -> DiskFuture<()> {
        let name = name.to_owned();
        self.submit(move |state| {
            state.trace("remove", &[], name.as_bytes());
            state.platter().remove(&name)
        })
    }

    fn list(&self) -> DiskFuture<Vec<String>> {
        self.submit(|state| Ok(state.platter().list()))
    }

    fn free_bytes(&self) -> DiskFuture<u64> {
        self.submit(|state| Ok(state.platter().free_bytes()))
    }
}

fn gone() -> io::Error {
    io::Error::other("the process that used this disk has ended")
}
