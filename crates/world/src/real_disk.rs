//! A folder of the file system, driven by one dedicated thread.
//!
//! Callers never wait on the runtime's thread: each call becomes a job in the thread's queue and
//! the answer comes back through a oneshot. One thread means one order, which is what
//! [`Disk`] promises. The queue is unbounded by itself; it is bounded by its users, who wait for
//! what they submit.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
};

use bytes::{Bytes, BytesMut};
use rustix::fs::statvfs;
#[cfg(target_os = "linux")]
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use tokio::sync::oneshot;

use crate::disk::{Disk, DiskFuture, FileId};

/// Zeros written per call while a file is allocated.
static ZEROS: Zeros = Zeros([0; 1024 * 1024]);

/// Zeros where direct writes want their bytes to lie.
#[repr(align(4096))]
struct Zeros([u8; 1024 * 1024]);

/// What direct writes want offsets and lengths to be a multiple of, in bytes.
#[cfg(target_os = "linux")]
const BLOCK: u64 = 4096;

type Job = Box<dyn FnOnce(&mut Folder) + Send>;

/// The thread's own state.
struct Folder {
    path: PathBuf,
    files: BTreeMap<FileId, File>,
    next_file: u64,
    /// Files are opened for reading only.
    is_read_only: bool,
}

/// One folder of the file system.
#[derive(Debug)]
pub struct RealDisk {
    jobs: mpsc::Sender<Job>,
}

impl RealDisk {
    /// Starts the thread for `folder`, which must exist.
    ///
    /// # Errors
    /// When the OS gives no thread.
    pub fn start(folder: &Path, thread_name: &str) -> io::Result<Self> {
        Self::start_thread(folder, thread_name, false)
    }

    /// As [`Self::start`], but opens files for reading only; see [`crate::ReadOnlyDisk`].
    pub(crate) fn start_reading(folder: &Path, thread_name: &str) -> io::Result<Self> {
        Self::start_thread(folder, thread_name, true)
    }

    fn start_thread(folder: &Path, thread_name: &str, is_read_only: bool) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let mut folder = Folder {
            path: folder.to_path_buf(),
            files: BTreeMap::new(),
            next_file: 0,
            is_read_only,
        };
        thread::Builder::new().name(thread_name.to_owned()).spawn(move || {
            while let Ok(job) = queue.recv() {
                job(&mut folder);
            }
        })?;
        Ok(Self { jobs })
    }

    fn submit<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Folder) -> io::Result<T> + Send + 'static,
    ) -> DiskFuture<T> {
        let (answer, outcome) = oneshot::channel();
        let job: Job = Box::new(move |folder| {
            // The caller may have given up; the work is done all the same.
            let _ = answer.send(work(folder));
        });
        let sent = self.jobs.send(job);
        Box::pin(async move {
            let gone = || io::Error::other("the disk thread has ended");
            sent.map_err(|_closed| gone())?;
            outcome.await.map_err(|_closed| gone())?
        })
    }
}

impl Disk for RealDisk {
    fn create(&self, name: &str) -> DiskFuture<FileId> {
        let name = name.to_owned();
        self.submit(move |folder| {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create_new(true);
            folder.open(&name, &options)
        })
    }

    fn open(&self, name: &str) -> DiskFuture<FileId> {
        let name = name.to_owned();
        self.submit(move |folder| {
            let writes = !folder.is_read_only;
            folder.open(&name, OpenOptions::new().read(true).write(writes))
        })
    }

    fn close(&self, file: FileId) -> DiskFuture<()> {
        self.submit(move |folder| {
            folder.files.remove(&file);
            Ok(())
        })
    }

    fn write_at(&self, file: FileId, offset: u64, data: Bytes) -> DiskFuture<()> {
        self.submit(move |folder| folder.file(file)?.write_all_at(&data, offset))
    }

    fn read_at(&self, file: FileId, offset: u64, len: usize) -> DiskFuture<Bytes> {
        self.submit(move |folder| read_up_to(folder.file(file)?, offset, len))
    }

    fn length(&self, file: FileId) -> DiskFuture<u64> {
        self.submit(move |folder| Ok(folder.file(file)?.metadata()?.len()))
    }

    fn allocate(&self, file: FileId, len: u64) -> DiskFuture<()> {
        self.submit(move |folder| {
            let file = folder.file(file)?;
            let begun = file.metadata()?.len();
            let filled = fill_past_the_cache(file, begun, len)?;
            fill(file, filled, len)
        })
    }

    fn sync_data(&self, file: FileId) -> DiskFuture<()> {
        self.submit(move |folder| folder.file(file)?.sync_data())
    }

    fn sync_directory(&self) -> DiskFuture<()> {
        self.submit(|folder| File::open(&folder.path)?.sync_all())
    }

    fn rename(&self, from: &str, to: &str) -> DiskFuture<()> {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.submit(move |folder| std::fs::rename(folder.path.join(from), folder.path.join(to)))
    }

    fn remove(&self, name: &str) -> DiskFuture<()> {
        let name = name.to_owned();
        self.submit(move |folder| std::fs::remove_file(folder.path.join(name)))
    }

    fn list(&self) -> DiskFuture<Vec<String>> {
        self.submit(|folder| {
            let mut names = Vec::new();
            for entry in std::fs::read_dir(&folder.path)? {
                let entry = entry?;
                if entry.file_type()?.is_file() {
                    names.push(entry.file_name().to_string_lossy().into_owned());
                }
            }
            names.sort_unstable();
            Ok(names)
        })
    }

    fn free_bytes(&self) -> DiskFuture<u64> {
        self.submit(|folder| free_bytes(&folder.path))
    }
}

impl Folder {
    fn open(&mut self, name: &str, options: &OpenOptions) -> io::Result<FileId> {
        let file = options.open(self.path.join(name))?;
        let id = FileId(self.next_file);
        self.next_file += 1;
        self.files.insert(id, file);
        Ok(id)
    }

    fn file(&self, id: FileId) -> io::Result<&File> {
        self.files.get(&id).ok_or_else(|| io::Error::other(format!("file {} is closed", id.0)))
    }
}

fn read_up_to(file: &File, offset: u64, len: usize) -> io::Result<Bytes> {
    let mut buffer = BytesMut::zeroed(len);
    let mut filled = 0;
    while filled < len {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    buffer.truncate(filled);
    Ok(buffer.freeze())
}

/// Writes zeros from `at` up to `end`.
fn fill(file: &File, mut at: u64, end: u64) -> io::Result<()> {
    while at < end {
        let part = usize::try_from(end - at).unwrap_or(usize::MAX).min(ZEROS.0.len());
        file.write_all_at(&ZEROS.0[..part], at)?;
        at += part as u64;
    }
    Ok(())
}

/// Writes the whole blocks between `at` and `end` without copying zeros into the page cache, which
/// costs a node under load a tenth of its processor. Returns how far it came: where the file
/// system takes no direct writes, not a step.
#[cfg(target_os = "linux")]
fn fill_past_the_cache(file: &File, at: u64, end: u64) -> io::Result<u64> {
    let blocks_end = end - end % BLOCK;
    if !at.is_multiple_of(BLOCK) || at >= blocks_end {
        return Ok(at);
    }
    let flags = fcntl_getfl(file)?;
    if fcntl_setfl(file, flags | OFlags::DIRECT).is_err() {
        return Ok(at);
    }
    let filled = fill(file, at, blocks_end);
    fcntl_setfl(file, flags)?;
    match filled {
        Ok(()) => Ok(blocks_end),
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(at),
        Err(error) => Err(error),
    }
}

#[cfg(not(target_os = "linux"))]
fn fill_past_the_cache(_file: &File, at: u64, _end: u64) -> io::Result<u64> {
    Ok(at)
}

/// Bytes that an unprivileged process can still write in the file system of `path`.
///
/// # Errors
/// What `statvfs` says.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let stat = statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// A data folder that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Another running process holds the folder.
    #[error("{} is in use by a running process; stop it, or give this node a folder of its own", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// There is no such folder, or it cannot be read.
    #[error("{} cannot be read; give the data folder of a node", path.display())]
    NotReadable {
        /// The folder.
        path: PathBuf,
        /// What the OS says.
        #[source]
        source: io::Error,
    },
    /// Something else has the folder's name.
    #[error("{} is not a folder; name another place for the data", path.display())]
    NotAFolder {
        /// What is in its place.
        path: PathBuf,
    },
    /// The folder cannot be created or written.
    #[error("{} cannot be created or written", path.display())]
    NotWritable {
        /// The folder.
        path: PathBuf,
        /// What the OS says.
        #[source]
        source: io::Error,
    },
}

/// The exclusive right to a data folder, given back when dropped or when the process ends.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
}

impl FolderLock {
    /// Creates `folder` if needed and takes the right to it (`flock` on a file `LOCK`).
    ///
    /// # Errors
    /// [`FolderError`]: in use, or not writable.
    pub fn take(folder: &Path) -> Result<Self, FolderError> {
        let not_writable = |source| FolderError::NotWritable { path: folder.to_path_buf(), source };
        if std::fs::metadata(folder).is_ok_and(|found| !found.is_dir()) {
            return Err(FolderError::NotAFolder { path: folder.to_path_buf() });
        }
        std::fs::create_dir_all(folder).map_err(not_writable)?;
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(folder.join("LOCK"))
            .map_err(not_writable)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(std::fs::TryLockError::WouldBlock) => {
                Err(FolderError::InUse { path: folder.to_path_buf() })
            }
            Err(std::fs::TryLockError::Error(source)) => Err(not_writable(source)),
        }
    }

    /// Takes the right to a folder that is there, and changes nothing in it: for looking at the
    /// data of a stopped node. `None` if no node ever ran on it, so that there is nothing to take.
    ///
    /// # Errors
    /// [`FolderError`]: in use, or not readable.
    pub fn take_existing(folder: &Path) -> Result<Option<Self>, FolderError> {
        let not_readable = |source| FolderError::NotReadable { path: folder.to_path_buf(), source };
        std::fs::read_dir(folder).map_err(not_readable)?;
        let file = match File::open(folder.join("LOCK")) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(not_readable(source)),
        };
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(std::fs::TryLockError::WouldBlock) => {
                Err(FolderError::InUse { path: folder.to_path_buf() })
            }
            Err(std::fs::TryLockError::Error(source)) => Err(not_readable(source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> (tempfile::TempDir, RealDisk) {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = RealDisk::start(folder.path(), "disk").expect("a thread");
        (folder, disk)
    }

    #[tokio::test]
    async fn what_is_written_is_read_back_and_reads_stop_at_the_end() {
        let (_folder, disk) = disk();
        let file = disk.create("a").await.expect("creates");
        disk.write_at(file, 3, Bytes::from_static(b"abc")).await.expect("writes");
        assert_eq!(disk.read_at(file, 2, 100).await.expect("reads"), &b"\0abc"[..]);
        assert_eq!(disk.length(file).await.expect("has a length"), 6);
    }

    #[tokio::test]
    async fn calls_are_executed_in_the_order_they_are_made_even_if_nobody_waits() {
        let (_folder, disk) = disk();
        let file = disk.create("a").await.expect("creates");
        drop(disk.write_at(file, 0, Bytes::from_static(b"first")));
        drop(disk.write_at(file, 0, Bytes::from_static(b"second")));
        assert_eq!(disk.read_at(file, 0, 6).await.expect("reads"), &b"second"[..]);
    }

    #[tokio::test]
    async fn names_are_listed_in_order_and_an_existing_name_is_not_created_again() {
        let (_folder, disk) = disk();
        for name in ["b", "a"] {
            disk.create(name).await.expect("creates");
        }
        disk.rename("b", "c").await.expect("renames");
        disk.sync_directory().await.expect("syncs");
        assert_eq!(disk.list().await.expect("lists"), ["a", "c"]);
        let error = disk.create("a").await.expect_err("the name is taken");
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        disk.remove("a").await.expect("removes");
        assert_eq!(disk.list().await.expect("lists"), ["c"]);
    }

    #[tokio::test]
    async fn an_allocated_file_is_zeros_of_the_wanted_length() {
        let (_folder, disk) = disk();
        let file = disk.create("a").await.expect("creates");
        let len = ZEROS.0.len() as u64 + 5;
        disk.allocate(file, len).await.expect("allocates");
        assert_eq!(disk.length(file).await.expect("has a length"), len);
        let tail = disk.read_at(file, len - 7, 100).await.expect("reads");
        assert_eq!(tail, vec![0; 7]);
    }

    #[test]
    fn a_folder_has_one_owner_at_a_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let lock = FolderLock::take(folder.path()).expect("is free");
        assert!(matches!(FolderLock::take(folder.path()), Err(FolderError::InUse { .. })));
        drop(lock);
        FolderLock::take(folder.path()).expect("is free again");
    }
}
