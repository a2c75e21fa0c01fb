//! Writing a snapshot: beside, in steps, and visible only when all of it is durable.
//!
//! Chunks are written as they come and synced every few MiB, so no single sync is large enough to
//! hold up the log's. [`SnapshotWriter::finish`] writes the end, syncs, renames, syncs the folder,
//! and only then the snapshot exists. A writer that is dropped before leaves nothing but a
//! temporary file on its way out.

use std::{io, sync::Arc};

use bytes::Bytes;
use mainstay_codec::FileKind;
use mainstay_world::FileId;

use crate::{
    entry::LogPosition,
    seal::TEMPORARY,
    shared::Shared,
    snapshot::{SnapshotFile, SnapshotInfo, chain_seed, snapshot_name},
    snapshot_format::{
        SNAPSHOT_CHUNK_BYTES_MAX, SNAPSHOT_FORMAT, SNAPSHOT_META_BYTES_MAX, SnapshotEnd,
        SnapshotHead, SnapshotRecordKind, end_record, record_head,
    },
};

/// A snapshot that is being written.
pub struct SnapshotWriter {
    file: TemporaryFile,
    info: SnapshotInfo,
    number: u64,
    chain: u32,
    end: SnapshotEnd,
    /// Bytes written since the last sync.
    unsynced: u64,
    /// A call failed: what is in the file is not known, and it is not touched again.
    is_broken: bool,
}

/// The file under its temporary name; gone when dropped.
struct TemporaryFile {
    shared: Arc<Shared>,
    id: FileId,
    name: String,
    /// Bytes that count as used of the room reserved for a snapshot.
    bytes: u64,
    is_renamed: bool,
}

impl SnapshotWriter {
    pub(crate) async fn begin(
        shared: Arc<Shared>,
        last: Option<LogPosition>,
        meta: Bytes,
    ) -> io::Result<Self> {
        assert!(
            meta.len() <= SNAPSHOT_META_BYTES_MAX,
            "a snapshot's meta record has at most {SNAPSHOT_META_BYTES_MAX} bytes"
        );
        let (number, identity, synced_frame) = {
            let mut state = shared.state();
            state.next_snapshot_number += 1;
            (state.next_snapshot_number - 1, state.identity, state.synced_frame)
        };
        let file_name = snapshot_name(last, number);
        let name = format!("{file_name}{TEMPORARY}");
        let id = shared.side_disk.create(&name).await?;
        let file = TemporaryFile { shared, id, name, bytes: 0, is_renamed: false };
        let header = identity.header(FileKind::Snapshot, SNAPSHOT_FORMAT).to_bytes();
        let head = mainstay_codec::encode(&SnapshotHead { last, meta: meta.clone() })
            .expect("a position and bytes have known lengths");
        let mut writer = Self {
            file,
            info: SnapshotInfo { last, meta, bytes: 0, file_name },
            number,
            chain: chain_seed(&header),
            end: SnapshotEnd { chunks: 0, bytes: 0, synced_frame },
            unsynced: 0,
            is_broken: false,
        };
        writer.put(Bytes::copy_from_slice(&header)).await?;
        writer.record(SnapshotRecordKind::Head, head.into()).await?;
        Ok(writer)
    }

    /// Adds a chunk.
    ///
    /// # Errors
    /// What the disk says; the snapshot is then worth nothing and every later call fails. A full
    /// disk shows as `StorageFull` or `QuotaExceeded`.
    ///
    /// # Panics
    /// If the chunk is larger than [`SNAPSHOT_CHUNK_BYTES_MAX`].
    pub async fn write(&mut self, chunk: Bytes) -> io::Result<()> {
        assert!(
            chunk.len() <= SNAPSHOT_CHUNK_BYTES_MAX,
            "a snapshot's chunk has at most {SNAPSHOT_CHUNK_BYTES_MAX} bytes"
        );
        self.end.chunks += 1;
        self.end.bytes += chunk.len() as u64;
        self.record(SnapshotRecordKind::Chunk, chunk).await?;
        self.file.shared.buggify.pause("storage.snapshot-chunk").await;
        if self.unsynced >= self.file.shared.options.snapshot_sync_bytes {
            self.sync().await?;
        }
        Ok(())
    }

    /// Makes the snapshot durable and the current one, unless a newer one came first.
    ///
    /// # Errors
    /// What the disk says; then the older snapshot stays the current one.
    pub async fn finish(mut self) -> io::Result<SnapshotInfo> {
        let end = end_record(&self.end, self.chain);
        self.put(end).await?;
        let shared = Arc::clone(&self.file.shared);
        let disk = &shared.side_disk;
        self.sync().await?;
        shared.buggify.pause("storage.before-snapshot-rename").await;
        disk.rename(&self.file.name, &self.info.file_name).await?;
        self.file.is_renamed = true;
        shared.buggify.pause("storage.after-snapshot-rename").await;
        shared.sync_directory(disk).await?;
        let finished =
            Arc::new(SnapshotFile::new(self.info.clone(), self.number, Arc::clone(disk)));
        let superseded = {
            let mut state = shared.state();
            match &state.snapshot {
                Some(current) if current.is_newer_than(&finished) => Some(finished),
                Some(_) | None => state.snapshot.replace(finished),
            }
        };
        if let Some(superseded) = superseded {
            superseded.supersede();
        }
        shared.supply_work.notify_one();
        Ok(self.info.clone())
    }

    /// Gives the snapshot up. Dropping the writer does the same.
    pub fn abort(self) {
        drop(self);
    }

    async fn record(&mut self, kind: SnapshotRecordKind, body: Bytes) -> io::Result<()> {
        self.refuse_if_broken()?;
        let (head, chain) = record_head(kind, self.chain, &body);
        self.chain = chain;
        // Submitted in this order; the second wait finds the first call done.
        let head = self.submit(Bytes::copy_from_slice(&head));
        let body = self.submit(body);
        let outcome = body.await.and(head.await);
        self.note(outcome)
    }

    async fn put(&mut self, bytes: Bytes) -> io::Result<()> {
        self.refuse_if_broken()?;
        let outcome = self.submit(bytes).await;
        self.note(outcome)
    }

    async fn sync(&mut self) -> io::Result<()> {
        self.unsynced = 0;
        let outcome = self.file.shared.side_disk.sync_data(self.file.id).await;
        self.note(outcome)
    }

    const fn note(&mut self, outcome: io::Result<()>) -> io::Result<()> {
        self.is_broken |= outcome.is_err();
        outcome
    }

    fn refuse_if_broken(&self) -> io::Result<()> {
        if self.is_broken {
            return Err(io::Error::other("an earlier part of the snapshot was not written"));
        }
        Ok(())
    }

    fn submit(&mut self, bytes: Bytes) -> mainstay_world::DiskFuture<()> {
        let offset = self.info.bytes;
        let len = bytes.len() as u64;
        self.info.bytes += len;
        self.unsynced += len;
        self.file.bytes += len;
        self.file.shared.state().snapshot_bytes_unfinished += len;
        self.file.shared.side_disk.write_at(self.file.id, offset, bytes)
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        self.shared.state().snapshot_bytes_unfinished -= self.bytes;
        // Submitted by the calls; what stays behind is removed at the next start.
        drop(self.shared.side_disk.close(self.id));
        if !self.is_renamed {
            drop(self.shared.side_disk.remove(&self.name));
        }
    }
}

impl std::fmt::Debug for SnapshotWriter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("SnapshotWriter").field("info", &self.info).finish_non_exhaustive()
    }
}
