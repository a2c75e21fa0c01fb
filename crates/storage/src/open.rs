//! Opening a folder: read everything, refuse what cannot be trusted, make the rest durable.
//!
//! The order matters, and a loss of power between any two steps leaves a folder that opens again:
//!
//! 1. read the vote, the snapshots' heads and ends, and the log; refuse what is foreign or damaged
//! 2. write the vote into a new file, sync it, rename it, sync the folder
//! 3. write the log's surviving tail into a new segment, sync it, rename it, sync the folder
//! 4. remove what was replaced
//!
//! Only then does anybody hear what the log holds. The vote comes before the log so that a folder
//! with a log and without a vote can only be one that lost its vote.

use std::sync::{Arc, Mutex};

use mainstay_world::{Buggify, Disk, spawn};
use tokio::sync::{Notify, watch};

use crate::{
    entry::LogPosition,
    failure::SpaceState,
    frame::SECTOR_LEN,
    identity::Identity,
    inventory::Inventory,
    open_error::OpenError,
    options::StorageOptions,
    reading::{FoundFiles, Lanes, read_files},
    record::Predecessor,
    recovery::{FoundLog, ReadLimits, TornTail},
    replay::Replay,
    seal::{ActiveSegment, SealPlace, TEMPORARY, seal, trust},
    segment::segment_name,
    shared::{Phase, SegmentRecord, Shared, State},
    snapshot::{SnapshotFile, SnapshotInfo},
    storage::Storage,
    supply::Supply,
    sync_stats::SyncRecorder,
    vote::{Vote, VoteFile, VoteRecord, vote_file_bytes, vote_name},
    write_queue::WriteQueue,
    writer::{Probe, Writer},
};

/// The small file that is written when nothing else is.
pub(crate) const PROBE: &str = "probe";

/// What a folder held when it was opened. All of it is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// The vote; `None` if the node never voted.
    pub vote: Option<Vote>,
    /// The last position that was purged.
    pub purged: Option<LogPosition>,
    /// The last entry, or the purge point if none follows it.
    pub last: Option<LogPosition>,
    /// The commit index as last written; the real one may be later.
    pub committed: Option<LogPosition>,
    /// The newest snapshot.
    pub snapshot: Option<SnapshotInfo>,
    /// A write that was cut short and was not acknowledged, for the log line.
    pub torn_tail: Option<TornTail>,
}

/// The two lanes, and what else every step needs.
struct Opening {
    log_disk: Arc<dyn Disk>,
    side_disk: Arc<dyn Disk>,
    identity: Identity,
    options: StorageOptions,
    buggify: Buggify,
}

/// Opens the folder and starts its tasks.
pub(crate) async fn open(
    log_disk: Arc<dyn Disk>,
    side_disk: Arc<dyn Disk>,
    identity: Identity,
    options: StorageOptions,
    buggify: Buggify,
) -> Result<(Storage, Recovered), OpenError> {
    options.assert_sound();
    let opening = Opening { log_disk, side_disk, identity, options, buggify };
    // On the heap, or every caller's future would be as large as all these steps.
    Box::pin(opening.run()).await
}

impl Opening {
    async fn run(self) -> Result<(Storage, Recovered), OpenError> {
        let names = self.log_disk.list().await;
        let names = names.map_err(|source| OpenError::file("list", "the folder", source))?;
        let inventory = Inventory::of(names);
        self.remove(inventory.leftovers.iter().cloned()).await;

        let lanes = Lanes { log: &self.log_disk, side: &self.side_disk };
        let limits = ReadLimits {
            cache_bytes: self.options.cache_bytes,
            copy_bytes_max: self.options.copy_bytes_max,
        };
        let files = read_files(lanes, &self.identity, &inventory, limits).await?;
        let covered = files.covered();
        let FoundFiles { vote, snapshot, older_snapshots, log: found } = files;
        // The old spare goes first: on a full disk it is the room for what comes next.
        let (unused, used): (Vec<u64>, Vec<u64>) =
            inventory.segments.iter().partition(|id| found.is_unused(**id));
        self.remove(unused.into_iter().map(segment_name)).await;

        let next_vote = inventory.votes.last().map_or(1, |newest| newest + 1);
        let (vote_file, vote) = self.renew_vote(next_vote, vote).await?;
        let torn_tail = found.torn.clone();
        let log = self.renew_log(found, covered, inventory.next_segment).await?;
        let probe = self.open_probe(inventory.has_probe).await?;

        let old_votes = inventory.votes.iter().map(|number| vote_name(*number));
        let old_segments = used.into_iter().filter(|id| !log.keeps(*id));
        let old_snapshots = older_snapshots.into_iter().map(|file| file.info.file_name.clone());
        let replaced = old_votes.chain(old_segments.map(segment_name)).chain(old_snapshots);
        self.remove(replaced).await;
        let recovered = Recovered {
            vote: vote.vote,
            purged: log.replay.outline.purged(),
            last: log.replay.outline.last(),
            committed: log.committed(),
            snapshot: snapshot.as_ref().map(|file| file.info.clone()),
            torn_tail,
        };
        let next_snapshot = inventory.snapshots.iter().map(|(number, _name)| number + 1).max();
        let snapshots = (snapshot.map(Arc::new), next_snapshot.unwrap_or(1));
        Ok((self.start(log, &recovered, snapshots, vote_file, probe), recovered))
    }

    /// Starts the writer and the supply on what is durable now.
    fn start(
        self,
        log: RenewedLog,
        recovered: &Recovered,
        (snapshot, next_snapshot_number): (Option<Arc<SnapshotFile>>, u64),
        vote_file: VoteFile,
        probe: Probe,
    ) -> Storage {
        let RenewedLog { replay, segments, active, end, next_id } = log;
        let written = replay.outline.clone();
        let state = State {
            queue: WriteQueue::default(),
            phase: Phase::Running,
            identity: self.identity,
            log: replay.outline,
            tail: replay.tail,
            frames: replay.frames,
            synced: recovered.last,
            synced_frame: end.sequence,
            committed: recovered.committed,
            vote: recovered.vote,
            segments: segments.into(),
            spare: None,
            spare_bytes: self.options.next_segment_bytes(active.len),
            snapshot,
            next_snapshot_number,
            snapshot_bytes_unfinished: 0,
            unfinished_since: None,
            syncs: SyncRecorder::default(),
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            log_disk: self.log_disk,
            side_disk: self.side_disk,
            options: self.options,
            buggify: self.buggify,
            work: Notify::new(),
            supply_work: Notify::new(),
            failure: watch::Sender::new(None),
            space: watch::Sender::new(SpaceState::Ok),
            ended: watch::Sender::new(false),
        });
        let committed = recovered.committed;
        let writer = Writer {
            shared: Arc::clone(&shared),
            active,
            end,
            written,
            committed,
            vote_file,
            probe,
        };
        drop(spawn(writer.run()));
        drop(spawn(Supply { shared: Arc::clone(&shared), next_id }.run()));
        Storage::new(shared)
    }

    /// Removes files that do not count. What cannot be removed does no harm.
    async fn remove(&self, names: impl Iterator<Item = String>) {
        for name in names {
            if let Err(error) = self.side_disk.remove(&name).await {
                tracing::warn!(%name, %error, "cannot remove a file that is not needed");
            }
        }
    }

    /// Writes the vote into a new file: what was read may not have been durable.
    async fn renew_vote(
        &self,
        file_number: u64,
        found: VoteRecord,
    ) -> Result<(VoteFile, VoteRecord), OpenError> {
        let record = VoteRecord { number: found.number + 1, ..found };
        let (bytes, seed) = vote_file_bytes(&self.identity, &record);
        let name = vote_name(file_number);
        let temporary = format!("{name}{TEMPORARY}");
        let failed = |source| OpenError::file("write", &name, source);
        let disk = &self.log_disk;
        let file = disk.create(&temporary).await.map_err(failed)?;
        disk.write_at(file, 0, bytes).await.map_err(failed)?;
        disk.sync_data(file).await.map_err(failed)?;
        disk.rename(&temporary, &name).await.map_err(failed)?;
        self.sync_directory().await?;
        let disk = Arc::clone(disk);
        Ok((VoteFile::new(disk, file, name, seed, record.number), record))
    }

    /// Makes the end of the log durable in a new segment.
    async fn renew_log(
        &self,
        found: FoundLog,
        covered: Option<LogPosition>,
        id: u64,
    ) -> Result<RenewedLog, OpenError> {
        let FoundLog { mut replay, unsealed, mut segments, outline, newest, .. } = found;
        let (active, end) = match newest {
            Some(newest) if self.buggify.is_planted("trust-recovered-tail") => {
                segments.retain(|segment| segment.id != newest.segment);
                trust(&self.log_disk, newest, &mut replay).await?
            }
            _ => {
                let restart_after = covered.filter(|covered| outline.ends_before(*covered));
                let place = SealPlace {
                    disk: &self.log_disk,
                    identity: &self.identity,
                    options: &self.options,
                    buggify: &self.buggify,
                    id,
                };
                let sealed = seal(&place, &unsealed, restart_after, &mut replay).await?;
                if let Some(last) = replay.outline.last() {
                    // Notes how far the disk really is: the last index.
                    self.buggify.note("storage.durable", || [last.index]);
                }
                sealed
            }
        };
        segments.push(SegmentRecord { id: active.id, seed: active.seed });
        Ok(RenewedLog { replay, segments, active, end, next_id: id + 1 })
    }

    async fn open_probe(&self, exists: bool) -> Result<Probe, OpenError> {
        let failed = |source| OpenError::file("make", PROBE, source);
        let disk = &self.log_disk;
        let file = if exists {
            disk.open(PROBE).await.map_err(failed)?
        } else {
            disk.create(PROBE).await.map_err(failed)?
        };
        disk.allocate(file, SECTOR_LEN as u64).await.map_err(failed)?;
        Ok(Probe { file, name: PROBE })
    }

    async fn sync_directory(&self) -> Result<(), OpenError> {
        if self.buggify.is_planted("skip-dir-sync") {
            return Ok(());
        }
        let synced = self.log_disk.sync_directory().await;
        synced.map_err(|source| OpenError::file("sync", "the folder", source))
    }
}

/// The log after its end was made durable.
struct RenewedLog {
    replay: Replay,
    /// Oldest first; the last one is being written.
    segments: Vec<SegmentRecord>,
    active: ActiveSegment,
    end: Predecessor,
    next_id: u64,
}

impl RenewedLog {
    fn keeps(&self, id: u64) -> bool {
        self.segments.iter().any(|segment| segment.id == id)
    }

    /// The saved commit index, as far as the log reaches.
    fn committed(&self) -> Option<LogPosition> {
        let last = self.replay.outline.last()?;
        self.replay.committed.filter(|committed| committed.index <= last.index)
    }
}
