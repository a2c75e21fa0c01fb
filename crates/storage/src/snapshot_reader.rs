//! Reading a snapshot, chunk by chunk, each one checked.
//!
//! A chunk is handed out only after its own checksum is right; that all of them were there, and
//! that the end counts the same, is known when [`SnapshotReader::next`] says `None`. So a state is
//! built beside the one in use and swapped in only then.

use std::{io, sync::Arc};

use bytes::Bytes;
use mainstay_codec::{FILE_HEADER_LEN, FileKind};
use mainstay_world::{Disk, FileId};

use crate::{
    damage::{Damage, DamageKind},
    identity::{ForeignFile, Identity},
    snapshot::{SnapshotFile, SnapshotInfo, chain_seed},
    snapshot_format::{
        RecordHead, SNAPSHOT_FORMAT, SNAPSHOT_RECORD_LEN, SnapshotEnd, SnapshotFault,
        SnapshotRecordKind, read_end,
    },
};

/// Reads one snapshot from front to back. Its file stays while a reader of it lives.
pub struct SnapshotReader {
    // Before `snapshot`: the file is closed before it may be removed.
    file: OpenFile,
    snapshot: Arc<SnapshotFile>,
    offset: u64,
    /// The next record's head, read together with the body before it.
    head: Bytes,
    chain: u32,
    seen: SnapshotEnd,
    is_done: bool,
}

/// A snapshot that cannot be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotReadError {
    /// The disk does not give the bytes.
    #[error("cannot read {file} at byte {offset}")]
    Read {
        /// The file's name.
        file: String,
        /// Where in the file, in bytes.
        offset: u64,
        /// What the disk says.
        #[source]
        source: io::Error,
    },
    /// The file belongs to another node, cluster or epoch, or is no snapshot.
    #[error("{file} cannot be used")]
    Foreign {
        /// The file's name.
        file: String,
        /// Whose it is.
        #[source]
        source: ForeignFile,
    },
    /// The bytes are not what was written.
    #[error(
        "{file} is damaged at byte {offset}; nothing of it may be used, \
         let this node join again with an empty folder"
    )]
    Damaged {
        /// The file's name.
        file: String,
        /// Where in the file, in bytes.
        offset: u64,
        /// What is wrong there.
        #[source]
        source: Damage,
    },
}

struct OpenFile {
    disk: Arc<dyn Disk>,
    id: FileId,
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        drop(self.disk.close(self.id));
    }
}

impl SnapshotReader {
    pub(crate) async fn open(
        disk: Arc<dyn Disk>,
        identity: &Identity,
        snapshot: Arc<SnapshotFile>,
    ) -> Result<Self, SnapshotReadError> {
        let name = &snapshot.info.file_name;
        let failed = |source| SnapshotReadError::Read { file: name.clone(), offset: 0, source };
        let id = disk.open(name).await.map_err(failed)?;
        let file = OpenFile { disk, id };
        let front_len = FILE_HEADER_LEN + SNAPSHOT_RECORD_LEN;
        let front = file.disk.read_at(id, 0, front_len).await.map_err(failed)?;
        identity
            .check(&front, FileKind::Snapshot, SNAPSHOT_FORMAT)
            .map_err(|source| SnapshotReadError::Foreign { file: name.clone(), source })?;
        let chain = chain_seed(&front[..FILE_HEADER_LEN]);
        let mut reader = Self {
            file,
            snapshot,
            offset: FILE_HEADER_LEN as u64,
            head: front.slice(FILE_HEADER_LEN..),
            chain,
            seen: SnapshotEnd::default(),
            is_done: false,
        };
        let (kind, _head) = reader.record().await?;
        if kind != SnapshotRecordKind::Head {
            return Err(reader.damaged(SnapshotFault::Head));
        }
        Ok(reader)
    }

    /// What is read.
    #[must_use]
    pub fn info(&self) -> &SnapshotInfo {
        &self.snapshot.info
    }

    /// The next chunk; `None` when all were there and the end agrees.
    ///
    /// # Errors
    /// [`SnapshotReadError`]: then nothing that was read may be used.
    pub async fn next(&mut self) -> Result<Option<Bytes>, SnapshotReadError> {
        if self.is_done {
            return Ok(None);
        }
        let (kind, body) = self.record().await?;
        match kind {
            SnapshotRecordKind::Chunk => {
                self.seen.chunks += 1;
                self.seen.bytes += body.len() as u64;
                Ok(Some(body))
            }
            SnapshotRecordKind::Head => Err(self.damaged(SnapshotFault::Head)),
            SnapshotRecordKind::End => {
                self.is_done = true;
                self.check_end(&body)?;
                Ok(None)
            }
        }
    }

    /// Reads and checks the record at the current offset.
    async fn record(&mut self) -> Result<(SnapshotRecordKind, Bytes), SnapshotReadError> {
        let head = RecordHead::read(&self.head).map_err(|fault| self.damaged(fault))?;
        let body_at = self.offset + SNAPSHOT_RECORD_LEN as u64;
        let wanted = head.body_len + SNAPSHOT_RECORD_LEN;
        let read = self.file.disk.read_at(self.file.id, body_at, wanted).await;
        let mut body = read.map_err(|source| SnapshotReadError::Read {
            file: self.info().file_name.clone(),
            offset: body_at,
            source,
        })?;
        if body.len() < head.body_len {
            return Err(self.damaged(SnapshotFault::Length));
        }
        let next = body.split_off(head.body_len);
        self.chain = head.check(self.chain, &body).map_err(|fault| self.damaged(fault))?;
        if head.kind == SnapshotRecordKind::End {
            let mut end = self.head.to_vec();
            end.extend_from_slice(&body);
            self.offset = body_at + body.len() as u64;
            return Ok((head.kind, end.into()));
        }
        self.offset = body_at + body.len() as u64;
        self.head = next;
        Ok((head.kind, body))
    }

    fn check_end(&self, record: &[u8]) -> Result<(), SnapshotReadError> {
        let end = read_end(record).map_err(|fault| self.damaged(fault))?;
        let counted = SnapshotEnd { synced_frame: end.synced_frame, ..self.seen };
        if end != counted || self.offset != self.info().bytes {
            return Err(self.damaged(SnapshotFault::Count));
        }
        Ok(())
    }

    fn damaged(&self, fault: SnapshotFault) -> SnapshotReadError {
        SnapshotReadError::Damaged {
            file: self.info().file_name.clone(),
            offset: self.offset,
            source: Damage(DamageKind::Snapshot(fault)),
        }
    }
}

impl std::fmt::Debug for SnapshotReader {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("SnapshotReader")
            .field("info", &self.info())
            .field("offset", &self.offset)
            .finish_non_exhaustive()
    }
}
