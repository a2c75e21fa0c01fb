//! What every test needs: a folder on a faulty disk, small sizes, and entries.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use mainstay_storage::{
    Identity, LogEntry, LogPosition, OpenError, Recovered, Storage, StorageFailure, StorageOptions,
};
use mainstay_world::Buggify;
use tokio::sync::oneshot;

use crate::faulty_disk::FaultyDisk;

pub(crate) const OURS: Identity = Identity { cluster_id: 7, node_id: 3, epoch: 1 };

/// Sizes small enough that a few entries fill a segment.
pub(crate) fn small() -> StorageOptions {
    StorageOptions {
        segment_bytes: 16 * 1024,
        first_segment_bytes: 4 * 1024,
        preallocate_step_bytes: 2 * 1024,
        batch_bytes_max: 4 * 1024,
        cache_bytes: 2 * 1024,
        copy_bytes_max: 2 * 1024,
        probe_interval: Duration::from_secs(1),
        failure_report_delay: Duration::from_millis(200),
        space_check_interval: Duration::from_secs(1),
        snapshot_reserve_bytes: 8 * 1024,
        log_bytes_min: 4 * 1024,
        snapshot_sync_bytes: 1024,
    }
}

pub(crate) async fn open(disk: &FaultyDisk) -> Result<(Storage, Recovered), OpenError> {
    open_as(disk, OURS, small()).await
}

pub(crate) async fn open_as(
    disk: &FaultyDisk,
    identity: Identity,
    options: StorageOptions,
) -> Result<(Storage, Recovered), OpenError> {
    open_sabotaged(disk, identity, options, Buggify::none()).await
}

pub(crate) async fn open_sabotaged(
    disk: &FaultyDisk,
    identity: Identity,
    options: StorageOptions,
    buggify: Buggify,
) -> Result<(Storage, Recovered), OpenError> {
    let (log, side) = (disk.lane("log"), disk.lane("side"));
    Storage::open(log, side, identity, options, buggify).await
}

pub(crate) fn at(index: u64, term: u64) -> LogPosition {
    LogPosition { index, term }
}

/// The entry at this index and term: its payload follows from both, so it can be checked.
pub(crate) fn entry(index: u64, term: u64) -> LogEntry {
    let text = format!("entry {index} of term {term} ");
    let len = 20 + usize::try_from((index * 37 + term * 11) % 400).expect("is small");
    let payload: Vec<u8> = text.bytes().cycle().take(len).collect();
    LogEntry { index, term, payload: payload.into() }
}

pub(crate) fn entries(range: std::ops::RangeInclusive<u64>, term: u64) -> Vec<LogEntry> {
    range.map(|index| entry(index, term)).collect()
}

/// Appends and gives what the callback will say.
pub(crate) fn submit(
    storage: &Storage,
    entries: Vec<LogEntry>,
) -> oneshot::Receiver<Result<(), StorageFailure>> {
    let (answer, outcome) = oneshot::channel();
    storage.append(entries, Box::new(move |outcome| drop(answer.send(outcome))));
    outcome
}

/// Appends and waits until it is durable.
pub(crate) async fn append(
    storage: &Storage,
    entries: Vec<LogEntry>,
) -> Result<(), StorageFailure> {
    submit(storage, entries).await.expect("every callback is called")
}

/// Reads everything behind the purge point, in small steps.
pub(crate) async fn read_all(storage: &Storage) -> Vec<LogEntry> {
    let mut next = match storage.purged() {
        Some(purged) => purged.index + 1,
        None => 0,
    };
    // A log that was never purged may begin at 0 or at 1.
    if storage.purged().is_none() && storage.position_at(0).is_none() {
        next = 1;
    }
    let mut all: Vec<LogEntry> = Vec::new();
    loop {
        let read = storage.read(next..u64::MAX, 700).await.expect("reads");
        let Some(last) = read.last() else { return all };
        next = last.index + 1;
        all.extend(read);
    }
}

/// Writes a snapshot of some chunks and makes it current.
pub(crate) async fn snapshot(storage: &Storage, last: LogPosition) -> std::io::Result<()> {
    let meta = Bytes::from(format!("state at {last}"));
    let mut writer = storage.snapshot_writer(Some(last), meta).await?;
    for chunk in chunks(last) {
        writer.write(chunk).await?;
    }
    writer.finish().await.map(drop)
}

/// The chunks of the snapshot at this position.
pub(crate) fn chunks(last: LogPosition) -> Vec<Bytes> {
    (0..4 + last.index % 3).map(|chunk| entry(chunk, last.index).payload).collect()
}

/// Reads the current snapshot, all of it.
pub(crate) async fn read_snapshot(storage: &Storage) -> Option<Vec<Bytes>> {
    let mut reader = storage.snapshot_reader().await.expect("opens")?;
    let mut all = Vec::new();
    while let Some(chunk) = reader.next().await.expect("reads") {
        all.push(chunk);
    }
    Some(all)
}

/// Runs in a runtime of its own with its own time; everything spawned ends with it.
pub(crate) fn life<T>(body: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let scope = mainstay_world::Scope::simulated(1, Arc::new(mainstay_world::NodeClock::real()));
    runtime.block_on(scope.run(body))
}
