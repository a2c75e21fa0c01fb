//! Reading a folder: what its files hold, and the refusal of what cannot be trusted.
//!
//! A start reads so before it writes anything, and [`FolderReading`] reads so for people who look
//! at the folder of a stopped node: the same checks, and nothing is written.

use std::{collections::BTreeMap, sync::Arc};

use mainstay_world::Disk;

use crate::{
    damage::DamageKind,
    entry::{LogEntry, LogPosition},
    folder::{Folder, FolderReadError},
    frame_index::FrameIndex,
    identity::Identity,
    inventory::Inventory,
    log_reader::{FramesRead, READ_BYTES_MAX, ReadError, read_frames},
    open_error::OpenError,
    outline::Outline,
    record::read_records,
    recovery::{FoundLog, ReadLimits, TornTail, read_log},
    segment::segment_name,
    snapshot::{SnapshotFile, SnapshotInfo, read_snapshot},
    snapshot_reader::{SnapshotReadError, SnapshotReader},
    vote::{Vote, VoteFault, VoteRecord, read_vote_file, vote_name},
};

/// Largest vote file that is read, in bytes; more than one ever has.
const VOTE_FILE_LEN_MAX: usize = 64 * 1024;

/// The folder through its two lanes.
#[derive(Clone, Copy)]
pub(crate) struct Lanes<'a> {
    pub(crate) log: &'a Arc<dyn Disk>,
    pub(crate) side: &'a Arc<dyn Disk>,
}

/// What the files of a folder hold.
pub(crate) struct FoundFiles {
    pub(crate) vote: VoteRecord,
    /// The newest snapshot.
    pub(crate) snapshot: Option<SnapshotFile>,
    pub(crate) older_snapshots: Vec<SnapshotFile>,
    pub(crate) log: FoundLog,
}

impl FoundFiles {
    /// What the newest snapshot covers.
    pub(crate) fn covered(&self) -> Option<LogPosition> {
        self.snapshot.as_ref().and_then(|file| file.info.last)
    }
}

/// Reads vote, snapshots and log; writes nothing. Of the snapshots head and end are read.
pub(crate) async fn read_files(
    lanes: Lanes<'_>,
    identity: &Identity,
    inventory: &Inventory,
    limits: ReadLimits,
) -> Result<FoundFiles, OpenError> {
    let vote = read_vote(lanes, identity, inventory).await?;
    let mut snapshots = BTreeMap::new();
    let mut proven = vote.synced_frame;
    for (number, name) in &inventory.snapshots {
        let (file, end) = read_snapshot(lanes.side, identity, name, *number).await?;
        proven = proven.max(end.synced_frame);
        snapshots.insert((file.info.last.map(|last| last.index), *number), file);
    }
    let snapshot = snapshots.pop_last().map(|(_rank, file)| file);
    let log = if inventory.segments.is_empty() {
        let present = if vote.vote.is_some() {
            Some("a vote")
        } else if snapshot.is_some() {
            Some("a snapshot")
        } else {
            None
        };
        if let Some(present) = present {
            return Err(OpenError::Missing { missing: "log", present });
        }
        FoundLog::empty(limits.cache_bytes)
    } else {
        read_log(lanes.log, identity, &inventory.segments, proven, limits).await?
    };
    let older_snapshots = snapshots.into_values().collect();
    let files = FoundFiles { vote, snapshot, older_snapshots, log };
    files.log.check_beginning(files.covered())?;
    Ok(files)
}

/// The vote of the newest vote file; a folder without any files has none.
async fn read_vote(
    lanes: Lanes<'_>,
    identity: &Identity,
    inventory: &Inventory,
) -> Result<VoteRecord, OpenError> {
    let Some(newest) = inventory.votes.last() else {
        let present = if !inventory.segments.is_empty() {
            "a log"
        } else if !inventory.snapshots.is_empty() {
            "a snapshot"
        } else {
            return Ok(VoteRecord { number: 0, vote: None, synced_frame: 0 });
        };
        return Err(OpenError::Missing { missing: "vote", present });
    };
    let name = vote_name(*newest);
    let failed = |source| OpenError::file("read", &name, source);
    let file = lanes.log.open(&name).await.map_err(failed)?;
    let bytes = lanes.log.read_at(file, 0, VOTE_FILE_LEN_MAX).await.map_err(failed)?;
    lanes.log.close(file).await.map_err(failed)?;
    read_vote_file(&bytes, identity).map_err(|fault| match fault {
        VoteFault::Foreign(source) => OpenError::foreign(&name, source),
        fault => OpenError::damaged(&name, 0, fault.into()),
    })
}

/// The folder of a stopped node, read and not changed.
///
/// Every frame of the log was read and checked; the chunks of the snapshot are checked by whoever
/// reads them ([`Self::snapshot_reader`]). What was found may not be durable: for as long as this
/// is used no node may run on the folder.
pub struct FolderReading {
    disk: Arc<dyn Disk>,
    folder: Folder,
    vote: Option<Vote>,
    outline: Outline,
    frames: FrameIndex,
    seeds: BTreeMap<u64, u32>,
    committed: Option<LogPosition>,
    snapshot: Option<Arc<SnapshotFile>>,
    torn_tail: Option<TornTail>,
}

/// A folder that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FolderReadingError {
    /// The record of whose it is cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderReadError),
    /// There is no record: no node ever ran on it.
    #[error("it holds no data of a node; give the folder that a node was started with")]
    Empty,
    /// Log, vote or snapshot cannot be used.
    #[error(transparent)]
    Files(#[from] OpenError),
}

impl FolderReading {
    /// Reads the folder behind `disk`, which may be one for reading only.
    ///
    /// # Errors
    /// [`FolderReadingError`]: what a start would refuse is refused here, too.
    pub async fn open(disk: Arc<dyn Disk>) -> Result<Self, FolderReadingError> {
        let folder = Folder::load(&disk).await?.ok_or(FolderReadingError::Empty)?;
        let identity = Self::identity_of(&folder);
        let listed = disk.list().await;
        let names = listed.map_err(|source| OpenError::file("list", "the folder", source))?;
        let lanes = Lanes { log: &disk, side: &disk };
        // Nothing is kept in memory but where each frame stands.
        let limits = ReadLimits { cache_bytes: 0, copy_bytes_max: 0 };
        let files = read_files(lanes, &identity, &Inventory::of(names), limits).await?;
        let covered = files.covered();
        let FoundFiles { vote, snapshot, log, .. } = files;
        let FoundLog { mut replay, segments, newest, torn, .. } = log;
        let mut seeds: BTreeMap<u64, u32> =
            segments.iter().map(|segment| (segment.id, segment.seed)).collect();
        if let Some(newest) = newest {
            let name = segment_name(newest.segment);
            seeds.insert(newest.segment, newest.seed);
            for (offset, len, payload) in newest.frames {
                read_records(payload)
                    .map_err(DamageKind::from)
                    .and_then(|records| replay.frame(newest.segment, offset, len, records))
                    .map_err(|damage| OpenError::damaged(&name, offset, damage))?;
            }
        }
        if let Some(covered) = covered.filter(|covered| replay.outline.ends_before(*covered)) {
            replay.purge(covered);
        }
        let (outline, frames) = (replay.outline, replay.frames);
        let last = outline.last().map(|last| last.index);
        let committed = replay.committed.filter(|committed| Some(committed.index) <= last);
        Ok(Self {
            folder,
            vote: vote.vote,
            outline,
            frames,
            seeds,
            committed,
            snapshot: snapshot.map(Arc::new),
            torn_tail: torn,
            disk,
        })
    }

    /// Whose folder it is.
    #[must_use]
    pub const fn folder(&self) -> &Folder {
        &self.folder
    }

    /// The vote; `None` if the node never voted.
    #[must_use]
    pub const fn vote(&self) -> Option<Vote> {
        self.vote
    }

    /// The last entry, or the purge point if none follows it.
    #[must_use]
    pub const fn last(&self) -> Option<LogPosition> {
        self.outline.last()
    }

    /// The last position that was purged.
    #[must_use]
    pub const fn purged(&self) -> Option<LogPosition> {
        self.outline.purged()
    }

    /// The commit index as last written; the real one may be later.
    #[must_use]
    pub const fn committed(&self) -> Option<LogPosition> {
        self.committed
    }

    /// The newest snapshot.
    #[must_use]
    pub fn snapshot(&self) -> Option<&SnapshotInfo> {
        self.snapshot.as_ref().map(|file| &file.info)
    }

    /// A write that was cut short, or rot in the very last batch, which looks the same.
    #[must_use]
    pub const fn torn_tail(&self) -> Option<&TornTail> {
        self.torn_tail.as_ref()
    }

    /// Bytes of log behind the purge point, as they stand on disk.
    #[must_use]
    pub const fn log_bytes(&self) -> u64 {
        self.frames.bytes()
    }

    /// Opens the newest snapshot for reading; `None` if there is none.
    ///
    /// # Errors
    /// [`SnapshotReadError`]: the file cannot be read or is damaged.
    pub async fn snapshot_reader(&self) -> Result<Option<SnapshotReader>, SnapshotReadError> {
        let Some(snapshot) = &self.snapshot else { return Ok(None) };
        let (disk, identity) = (Arc::clone(&self.disk), Self::identity_of(&self.folder));
        SnapshotReader::open(disk, &identity, Arc::clone(snapshot)).await.map(Some)
    }

    /// Some entries from `index` on, at least one if there is one; empty behind the last.
    ///
    /// # Errors
    /// [`ReadError`]: purged, or the disk does not give what it gave before.
    pub async fn entries(&self, index: u64) -> Result<Vec<LogEntry>, ReadError> {
        if let Some(purged) = self.outline.purged().filter(|purged| index <= purged.index) {
            return Err(ReadError::Purged { wanted: index, purged });
        }
        let end = self.outline.last().map_or(0, |last| last.index.saturating_add(1));
        if index >= end {
            return Ok(Vec::new());
        }
        let frames = self.frames.side_by_side(index..end, READ_BYTES_MAX);
        let Some(seed) = frames.first().and_then(|span| self.seeds.get(&span.segment)) else {
            return Ok(Vec::new());
        };
        let read = FramesRead { frames: &frames, seed: *seed, range: index..end };
        read_frames(&self.disk, &read, usize::MAX).await
    }

    const fn identity_of(folder: &Folder) -> Identity {
        Identity { cluster_id: folder.cluster_id, node_id: folder.node_id, epoch: folder.epoch }
    }
}

impl std::fmt::Debug for FolderReading {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("FolderReading")
            .field("folder", &self.folder)
            .field("last", &self.last())
            .finish_non_exhaustive()
    }
}
