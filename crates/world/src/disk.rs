//! The disk: one folder, flat names, positional reads and writes, and the two syncs.
//!
//! The trait is narrow on purpose: it is what a simulated disk must be able to break. Each call
//! is *submitted when it is made*, not when its future is first polled, and the calls of one disk
//! value are executed in that order; so a caller may submit a write and its sync together and wait
//! once. Dropping a future does not undo the call.
//!
//! What is durable: the content of a file, after [`Disk::sync_data`] on it returned; its name
//! (created, renamed or removed), after [`Disk::sync_directory`] returned. Nothing else. After a
//! failed sync nothing is known about the file: it must not be written or synced again (Rebello et
//! al., "Can Applications Recover from fsync Failures?", 2020).

use std::{future::Future, io, pin::Pin};

use bytes::Bytes;

/// The future of one call, already submitted.
pub type DiskFuture<T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send>>;

/// An open file of one [`Disk`]; names a file of that disk value only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u64);

/// One folder of files. Names are plain file names without a separator.
///
/// Errors are `io::Error`s as the OS gives them, with `raw_os_error` set where there is one: code
/// above tells a full disk (`StorageFull`, `QuotaExceeded`) from one that fails.
pub trait Disk: Send + Sync + 'static {
    /// Creates an empty file for reading and writing; `AlreadyExists` if the name is taken.
    fn create(&self, name: &str) -> DiskFuture<FileId>;

    /// Opens an existing file for reading and writing.
    fn open(&self, name: &str) -> DiskFuture<FileId>;

    /// Closes a file. Writes that were not synced stay that way.
    fn close(&self, file: FileId) -> DiskFuture<()>;

    /// Writes all of `data` at `offset`, extending the file if needed.
    fn write_at(&self, file: FileId, offset: u64, data: Bytes) -> DiskFuture<()>;

    /// Reads up to `len` bytes from `offset`; fewer only at the end of the file.
    fn read_at(&self, file: FileId, offset: u64, len: usize) -> DiskFuture<Bytes>;

    /// The length of the file in bytes.
    fn length(&self, file: FileId) -> DiskFuture<u64>;

    /// Extends the file to `len` bytes of zeros, with blocks assigned and written, so that later
    /// writes inside it need no new space and a sync of them no metadata. Call before any write.
    fn allocate(&self, file: FileId, len: u64) -> DiskFuture<()>;

    /// Makes the file's content durable (`fdatasync`).
    fn sync_data(&self, file: FileId) -> DiskFuture<()>;

    /// Makes created, renamed and removed names durable.
    fn sync_directory(&self) -> DiskFuture<()>;

    /// Renames a file, replacing the target.
    fn rename(&self, from: &str, to: &str) -> DiskFuture<()>;

    /// Removes a file; `NotFound` if there is none.
    fn remove(&self, name: &str) -> DiskFuture<()>;

    /// The names of all files, sorted.
    fn list(&self) -> DiskFuture<Vec<String>>;

    /// Bytes that can still be written.
    fn free_bytes(&self) -> DiskFuture<u64>;
}
