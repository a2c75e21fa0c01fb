//! Snapshots as files: their names, what is known of each, and when one may be removed.
//!
//! A snapshot is written under a temporary name, synced, and renamed to
//! `snapshot-<index>-<term>-<number>`; from then on it never changes. The number grows with every
//! snapshot of the folder, so two of the same position have different names. Only the newest is
//! kept. One that is being read is removed when its last reader is done.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use mainstay_codec::{FILE_HEADER_LEN, FileKind, checksum};
use mainstay_world::Disk;

use crate::{
    damage::DamageKind,
    entry::LogPosition,
    identity::Identity,
    open_error::OpenError,
    snapshot_format::{
        RecordHead, SNAPSHOT_END_LEN, SNAPSHOT_FORMAT, SNAPSHOT_RECORD_LEN, SnapshotEnd,
        SnapshotFault, SnapshotHead, SnapshotRecordKind, read_end,
    },
};

const PREFIX: &str = "snapshot-";

/// A finished snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// The last entry that it covers; `None` for the state before any entry.
    pub last: Option<LogPosition>,
    /// What the layers above put in when they began it.
    pub meta: Bytes,
    /// Length of the file in bytes.
    pub bytes: u64,
    /// Name of the file.
    pub file_name: String,
}

/// The name of a snapshot's file.
pub(crate) fn snapshot_name(last: Option<LogPosition>, number: u64) -> String {
    match last {
        Some(LogPosition { index, term }) => {
            format!("{PREFIX}{index:020}-{term:020}-{number:010}")
        }
        None => format!("{PREFIX}none-none-{number:010}"),
    }
}

/// The number of the snapshot with this file name.
pub(crate) fn snapshot_number(name: &str) -> Option<u64> {
    let mut parts = name.strip_prefix(PREFIX)?.split('-');
    let (_index, _term, number) = (parts.next()?, parts.next()?, parts.next()?);
    let sound = parts.next().is_none() && number.bytes().all(|byte| byte.is_ascii_digit());
    if sound { number.parse().ok() } else { None }
}

/// A finished snapshot's file, removed when it is superseded and nobody reads it.
pub(crate) struct SnapshotFile {
    pub(crate) info: SnapshotInfo,
    pub(crate) number: u64,
    disk: Arc<dyn Disk>,
    superseded: AtomicBool,
}

impl SnapshotFile {
    pub(crate) const fn new(info: SnapshotInfo, number: u64, disk: Arc<dyn Disk>) -> Self {
        Self { info, number, disk, superseded: AtomicBool::new(false) }
    }

    /// Lets the file go when its last reader does.
    pub(crate) fn supersede(&self) {
        self.superseded.store(true, Ordering::Relaxed);
    }

    /// Whether this snapshot covers more of the log than `other`, or the same and is younger.
    pub(crate) fn is_newer_than(&self, other: &Self) -> bool {
        let rank = |file: &Self| (file.info.last.map(|last| last.index), file.number);
        rank(self) > rank(other)
    }
}

impl Drop for SnapshotFile {
    fn drop(&mut self) {
        if self.superseded.load(Ordering::Relaxed) {
            // Submitted by the call; a file that stays behind is removed at the next start.
            drop(self.disk.remove(&self.info.file_name));
        }
    }
}

/// The seed of the chain of checksums.
pub(crate) fn chain_seed(file_header: &[u8]) -> u32 {
    checksum(0, file_header)
}

/// Reads what a snapshot is of; its chunks are checked by whoever reads them.
pub(crate) async fn read_snapshot(
    disk: &Arc<dyn Disk>,
    identity: &Identity,
    name: &str,
    number: u64,
) -> Result<(SnapshotFile, SnapshotEnd), OpenError> {
    let failed = |action| {
        let file = name.to_owned();
        move |source| OpenError::File { action, file, source }
    };
    let damaged = |offset: u64| {
        move |fault: SnapshotFault| match fault {
            SnapshotFault::Foreign(source) => OpenError::foreign(name, source),
            fault => OpenError::damaged(name, offset, DamageKind::Snapshot(fault)),
        }
    };
    let file = disk.open(name).await.map_err(failed("open"))?;
    let bytes = disk.length(file).await.map_err(failed("measure"))?;
    let front_len = FILE_HEADER_LEN + SNAPSHOT_RECORD_LEN;
    let front = disk.read_at(file, 0, front_len).await.map_err(failed("read"))?;
    identity
        .check(&front, FileKind::Snapshot, SNAPSHOT_FORMAT)
        .map_err(SnapshotFault::from)
        .map_err(damaged(0))?;
    let (header, record) = front.split_at(FILE_HEADER_LEN);
    let record = RecordHead::read(record).map_err(damaged(header.len() as u64))?;
    let body = disk.read_at(file, front_len as u64, record.body_len).await;
    let body = body.map_err(failed("read"))?;
    let head =
        read_head(record, chain_seed(header), &body).map_err(damaged(header.len() as u64))?;
    let end_at = bytes.saturating_sub(SNAPSHOT_END_LEN as u64);
    let end = disk.read_at(file, end_at, SNAPSHOT_END_LEN).await.map_err(failed("read"))?;
    let end = read_end(&end).map_err(damaged(end_at))?;
    disk.close(file).await.map_err(failed("close"))?;
    let info = SnapshotInfo { last: head.last, meta: head.meta, bytes, file_name: name.to_owned() };
    Ok((SnapshotFile::new(info, number, Arc::clone(disk)), end))
}

fn read_head(record: RecordHead, seed: u32, body: &[u8]) -> Result<SnapshotHead, SnapshotFault> {
    if record.kind != SnapshotRecordKind::Head || body.len() != record.body_len {
        return Err(SnapshotFault::Head);
    }
    record.check(seed, body)?;
    mainstay_codec::decode(body, body.len()).map_err(|_malformed| SnapshotFault::Head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_carry_position_and_number() {
        let name = snapshot_name(Some(LogPosition { index: 7, term: 2 }), 3);
        assert_eq!(name, "snapshot-00000000000000000007-00000000000000000002-0000000003");
        assert_eq!(snapshot_number(&name), Some(3));
        assert_eq!(snapshot_number(&snapshot_name(None, 4)), Some(4));
        for foreign in ["snapshot-1-2", "snapshot-1-2-3.tmp", "snapshot-1-2-3-4", "log-1-2-3"] {
            assert_eq!(snapshot_number(foreign), None, "{foreign}");
        }
    }
}
