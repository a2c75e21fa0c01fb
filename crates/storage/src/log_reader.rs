//! Reading the log back: from memory where it is, from the segments where it is not.
//!
//! What comes from disk is checked again, frame by frame; a frame that was sound once and is not
//! now stops the node, since the disk does not keep what it is given.

use std::{io, ops::Range, sync::Arc};

use bytes::Bytes;
use mainstay_world::Disk;

use crate::{
    damage::{Damage, DamageKind},
    entry::{LogEntry, LogPosition},
    failure::StorageFailure,
    frame::{FrameFault, FrameHead},
    frame_index::FrameSpan,
    record::{Record, read_records},
    segment::segment_name,
    shared::{Shared, State},
};

/// Entries that cannot be given.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The log begins later.
    #[error("entry {wanted} is gone, the log begins after {purged}; send a snapshot instead")]
    Purged {
        /// The first index asked for.
        wanted: u64,
        /// The purge point.
        purged: LogPosition,
    },
    /// The disk does not give the bytes.
    #[error("cannot read {file} at byte {offset}")]
    Read {
        /// The segment's file name.
        file: String,
        /// Where in the file, in bytes.
        offset: u64,
        /// What the disk says.
        #[source]
        source: io::Error,
    },
    /// The bytes are not what was written.
    #[error("{file} is damaged at byte {offset}; nothing of it is served, restart the node")]
    Damaged {
        /// The segment's file name.
        file: String,
        /// Where in the file, in bytes.
        offset: u64,
        /// What is wrong there.
        #[source]
        source: Damage,
    },
}

/// Largest read from disk in bytes, unless a single frame is larger.
pub(crate) const READ_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How often a reader looks again after the log changed under it.
const ATTEMPTS_MAX: usize = 4;

/// Where wanted entries are.
enum Source {
    Memory(Vec<LogEntry>),
    Disk { frames: Vec<FrameSpan>, seed: u32, range: Range<u64> },
}

/// The entries of `range`, at least one if the first is there, about `bytes_max` at most.
pub(crate) async fn read(
    shared: &Shared,
    range: Range<u64>,
    bytes_max: usize,
) -> Result<Vec<LogEntry>, ReadError> {
    for _ in 0..ATTEMPTS_MAX {
        let source = locate(&shared.state(), range.clone(), bytes_max)?;
        let (frames, seed, wanted) = match source {
            Source::Memory(entries) => return Ok(entries),
            Source::Disk { frames, seed, range } => (frames, seed, range),
        };
        let wanted = FramesRead { frames: &frames, seed, range: wanted };
        let read = read_frames(&shared.side_disk, &wanted, bytes_max).await;
        let state = shared.state();
        if is_purged(&state, range.start).is_some() {
            continue;
        }
        let mut entries = read.inspect_err(|error| {
            if let Some(failure) = as_failure(error) {
                shared.fail(failure);
            }
        })?;
        // What was cut off meanwhile is not served.
        let held = entries.iter().take_while(|entry| state.log.holds(entry.position())).count();
        entries.truncate(held);
        if !entries.is_empty() {
            return Ok(entries);
        }
    }
    // Only a log that is cut again and again under the reader comes here: it may ask again.
    Ok(Vec::new())
}

fn is_purged(state: &State, index: u64) -> Option<LogPosition> {
    state.log.purged().filter(|purged| index <= purged.index)
}

fn locate(state: &State, range: Range<u64>, bytes_max: usize) -> Result<Source, ReadError> {
    let last = state.log.last().map_or(0, |last| last.index.saturating_add(1));
    let range = range.start..range.end.min(last);
    if range.is_empty() {
        return Ok(Source::Memory(Vec::new()));
    }
    if let Some(purged) = is_purged(state, range.start) {
        return Err(ReadError::Purged { wanted: range.start, purged });
    }
    if let Some(entries) = state.tail.read(range.clone(), bytes_max) {
        return Ok(Source::Memory(entries));
    }
    // Frames that stand side by side are read with one call.
    let frames = state.frames.side_by_side(range.clone(), bytes_max.min(READ_BYTES_MAX));
    let segment = frames.first().map(|span| span.segment);
    let record = state.segments.iter().find(|record| Some(record.id) == segment);
    // Without a frame or a segment the log has just begun anew; the reader looks again.
    Ok(record.map_or(Source::Memory(Vec::new()), |record| Source::Disk {
        seed: record.seed,
        frames,
        range,
    }))
}

/// Frames of one segment that stand side by side, and which of their entries are wanted.
pub(crate) struct FramesRead<'a> {
    pub(crate) frames: &'a [FrameSpan],
    /// Seed of the segment's checksums.
    pub(crate) seed: u32,
    pub(crate) range: Range<u64>,
}

/// The wanted entries: at least one if the first is there, about `bytes_max` at most.
pub(crate) async fn read_frames(
    disk: &Arc<dyn Disk>,
    wanted: &FramesRead<'_>,
    bytes_max: usize,
) -> Result<Vec<LogEntry>, ReadError> {
    let FramesRead { frames, seed, range } = wanted;
    let [first, ..] = frames else { return Ok(Vec::new()) };
    let name = segment_name(first.segment);
    let len = frames.iter().map(|span| span.len).sum();
    let failed = |source| ReadError::Read { file: name.clone(), offset: first.offset, source };
    let file = disk.open(&name).await.map_err(failed)?;
    let read = disk.read_at(file, first.offset, len);
    drop(disk.close(file));
    let mut bytes = read.await.map_err(failed)?;
    let mut entries: Vec<LogEntry> = Vec::new();
    let mut entry_bytes = 0_usize;
    for span in *frames {
        let found = frame_entries(&mut bytes, span, *seed).map_err(|damage| {
            ReadError::Damaged { file: name.clone(), offset: span.offset, source: Damage(damage) }
        })?;
        for entry in found.into_iter().filter(|entry| range.contains(&entry.index)) {
            entry_bytes = entry_bytes.saturating_add(entry.payload.len());
            if !entries.is_empty() && entry_bytes > bytes_max {
                return Ok(entries);
            }
            entries.push(entry);
        }
    }
    Ok(entries)
}

/// Takes one frame off `bytes` and gives its entries that still count.
fn frame_entries(
    bytes: &mut Bytes,
    span: &FrameSpan,
    seed: u32,
) -> Result<Vec<LogEntry>, DamageKind> {
    if bytes.len() < span.len {
        return Err(FrameFault::Length.into());
    }
    let frame = bytes.split_to(span.len);
    let head = FrameHead::read(&frame)?;
    if head.place.segment != span.segment || head.place.offset != span.offset {
        return Err(FrameFault::Misplaced.into());
    }
    let entries: Vec<LogEntry> = read_records(head.payload(&frame, seed)?)?
        .into_iter()
        .filter_map(|record| match record {
            Record::Entry(entry) if entry.index <= span.last => Some(entry),
            _ => None,
        })
        .collect();
    if entries.first().is_none_or(|entry| entry.index != span.first) {
        return Err(DamageKind::EntryMissing);
    }
    Ok(entries)
}

/// What a failed read means for the whole of storage.
fn as_failure(error: &ReadError) -> Option<StorageFailure> {
    match error {
        ReadError::Purged { .. } => None,
        ReadError::Read { file, source, .. } => {
            let source = io::Error::new(source.kind(), source.to_string());
            Some(StorageFailure::file("read", file, source))
        }
        ReadError::Damaged { file, offset, source } => Some(StorageFailure::Damaged {
            file: file.clone(),
            offset: *offset,
            source: source.clone(),
        }),
    }
}
