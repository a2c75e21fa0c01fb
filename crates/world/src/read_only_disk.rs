//! A folder that is read and never changed: for looking at the data of a stopped node.
//!
//! Nothing that a caller does can create, change, rename or remove a file here, so whoever is given
//! this disk cannot harm what may be the last copy of somebody's data, and the folder may lie on a
//! file system that is mounted read-only. Syncs have nothing to do and succeed. How many bytes are
//! read is told as they are read, for a progress bar.

use std::{io, path::Path, sync::Arc};

use bytes::Bytes;

use crate::{
    disk::{Disk, DiskFuture, FileId},
    real_disk::RealDisk,
};

/// Hears of bytes that were read.
pub type OnRead = Arc<dyn Fn(u64) + Send + Sync>;

/// One folder of the file system, for reading only.
pub struct ReadOnlyDisk {
    disk: RealDisk,
    on_read: OnRead,
}

impl ReadOnlyDisk {
    /// Starts the thread for `folder`, which must exist. `on_read` is called with the length of
    /// each piece that was read.
    ///
    /// # Errors
    /// When the OS gives no thread.
    pub fn start(folder: &Path, thread_name: &str, on_read: OnRead) -> io::Result<Self> {
        Ok(Self { disk: RealDisk::start_reading(folder, thread_name)?, on_read })
    }
}

impl std::fmt::Debug for ReadOnlyDisk {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ReadOnlyDisk").field("disk", &self.disk).finish_non_exhaustive()
    }
}

fn refused<T: Send + 'static>() -> DiskFuture<T> {
    let text = "the folder is open for reading only";
    Box::pin(async move { Err(io::Error::new(io::ErrorKind::ReadOnlyFilesystem, text)) })
}

impl Disk for ReadOnlyDisk {
    fn create(&self, _name: &str) -> DiskFuture<FileId> {
        refused()
    }

    fn open(&self, name: &str) -> DiskFuture<FileId> {
        self.disk.open(name)
    }

    fn close(&self, file: FileId) -> DiskFuture<()> {
        self.disk.close(file)
    }

    fn write_at(&self, _file: FileId, _offset: u64, _data: Bytes) -> DiskFuture<()> {
        refused()
    }

    fn read_at(&self, file: FileId, offset: u64, len: usize) -> DiskFuture<Bytes> {
        let read = self.disk.read_at(file, offset, len);
        let on_read = Arc::clone(&self.on_read);
        Box::pin(async move {
            let bytes = read.await?;
            on_read(bytes.len() as u64);
            Ok(bytes)
        })
    }

    fn length(&self, file: FileId) -> DiskFuture<u64> {
        self.disk.length(file)
    }

    fn allocate(&self, _file: FileId, _len: u64) -> DiskFuture<()> {
        refused()
    }

    fn sync_data(&self, _file: FileId) -> DiskFuture<()> {
        Box::pin(async { Ok(()) })
    }

    fn sync_directory(&self) -> DiskFuture<()> {
        Box::pin(async { Ok(()) })
    }

    fn rename(&self, _from: &str, _to: &str) -> DiskFuture<()> {
        refused()
    }

    fn remove(&self, _name: &str) -> DiskFuture<()> {
        refused()
    }

    fn list(&self) -> DiskFuture<Vec<String>> {
        self.disk.list()
    }

    fn free_bytes(&self) -> DiskFuture<u64> {
        self.disk.free_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[tokio::test]
    async fn nothing_in_the_folder_can_be_changed() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("file"), b"what it holds").expect("is written");
        let read = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&read);
        let on_read: OnRead = Arc::new(move |bytes| {
            counter.fetch_add(bytes, Ordering::Relaxed);
        });
        let disk = ReadOnlyDisk::start(folder.path(), "test", on_read).expect("a thread");
        let file = disk.open("file").await.expect("opens");
        assert_eq!(disk.read_at(file, 8, 100).await.expect("reads"), "holds");
        assert_eq!(read.load(Ordering::Relaxed), 5);
        assert!(disk.create("other").await.is_err());
        assert!(disk.write_at(file, 0, Bytes::from_static(b"x")).await.is_err());
        assert!(disk.allocate(file, 100).await.is_err());
        assert!(disk.rename("file", "other").await.is_err());
        assert!(disk.remove("file").await.is_err());
        disk.sync_data(file).await.expect("nothing to do");
        assert_eq!(disk.list().await.expect("lists"), ["file"]);
        let content = std::fs::read(folder.path().join("file")).expect("reads");
        assert_eq!(content, b"what it holds");
    }
}
