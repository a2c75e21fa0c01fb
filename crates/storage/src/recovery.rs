//! Reading the log at start: what counts, what was torn, and what is damaged.
//!
//! Each segment says in its first frame where the log ended in the segment before, so the reader
//! goes from the newest segment back to the oldest that is left, and then forward through all
//! frames. Whatever stands behind a segment's stated end does not count; nothing is ever cut off
//! an existing file.
//!
//! Only the newest segment has no stated end. There the log ends where no sound frame stands. That
//! is a torn tail if nothing proves that the missing frame was synced: no sound frame behind it, no
//! later segment in use, no synced frame number in the vote or a snapshot that lies beyond. (The
//! saved commit index needs no rule of its own: it is written behind the entry that it names, so
//! it is a later frame or the same one.) Otherwise the log is damaged, and the node does not start.
//!
//! Nothing here writes: making the surviving tail durable is the business of `seal`.

use std::sync::Arc;

use bytes::Bytes;
use mainstay_world::Disk;

use crate::{
    damage::DamageKind,
    entry::LogPosition,
    frame::FrameFault,
    identity::Identity,
    open_error::OpenError,
    outline::Outline,
    record::{Base, Predecessor, Record, read_records},
    replay::Replay,
    segment::{FRAMES_AT, segment_name},
    segment_files::{Fault, ReadFrame, SegmentFiles},
    shared::SegmentRecord,
};

/// Bytes behind the end of the log that were not a frame: a write that a power loss or a kill cut
/// short. It was never acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornTail {
    /// The segment's file name.
    pub file: String,
    /// Where the log ends in it, in bytes.
    pub offset: u64,
}

/// The log as it was found.
pub(crate) struct FoundLog {
    /// Everything but the last frames, which are still to be made durable.
    pub(crate) replay: Replay,
    /// The frames to copy, and what their new segment begins with.
    pub(crate) unsealed: Unsealed,
    /// The log with all its frames.
    pub(crate) outline: Outline,
    /// Segments that hold parts of `replay`, oldest first.
    pub(crate) segments: Vec<SegmentRecord>,
    pub(crate) torn: Option<TornTail>,
    /// The newest segment in use, for the planted bug that goes on writing to it.
    pub(crate) newest: Option<Newest>,
}

/// Frames that were read and are not known to be durable.
pub(crate) struct Unsealed {
    pub(crate) base: Base,
    /// The records' bytes of each frame, without a segment's base.
    pub(crate) payloads: Vec<Bytes>,
    /// The last sequence in use.
    pub(crate) sequence: u64,
}

/// The end of the newest segment.
pub(crate) struct Newest {
    pub(crate) segment: u64,
    pub(crate) len: u64,
    pub(crate) seed: u32,
    pub(crate) end: Predecessor,
    /// The last frames in their place, to replay them there.
    pub(crate) frames: Vec<(u64, usize, Bytes)>,
}

/// Reads the segments with these ids. `proven` is the highest frame known to have been synced.
pub(crate) async fn read_log(
    disk: &Arc<dyn Disk>,
    identity: &Identity,
    ids: &[u64],
    proven: u64,
    limits: ReadLimits,
) -> Result<FoundLog, OpenError> {
    let files = SegmentFiles::open(disk, identity, ids).await?;
    let found = LogReading { files, limits }.read(proven).await;
    found.map_err(|fault| fault.into_open_error())
}

/// What a start holds in memory at most.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadLimits {
    pub(crate) cache_bytes: usize,
    pub(crate) copy_bytes_max: u64,
}

struct LogReading {
    files: SegmentFiles,
    limits: ReadLimits,
}

impl LogReading {
    async fn read(mut self, proven: u64) -> Result<FoundLog, Fault> {
        let (newest, later_used) = self.newest().await?;
        let chain = self.chain(newest).await?;
        let mut replay: Option<Replay> = None;
        let (last, older) = chain.split_last().expect("the chain holds the newest segment");
        for (at, link) in older.iter().enumerate() {
            let next = &chain[at + 1];
            let end = next.base.predecessor.expect("links are made of predecessors");
            let replay = self.begin(&mut replay, link)?;
            self.read_closed(link.segment, end, replay).await?;
        }
        self.begin(&mut replay, last)?;
        let replay = replay.expect("it was begun");
        let open_end = OpenEnd { base: last.base, later_used, proven };
        let mut found = self.read_open(last.segment, open_end, replay).await?;
        let newest = found.keeps(last.segment).then_some(last);
        let kept = older.iter().chain(newest).map(|link| link.segment);
        found.segments = kept.map(|id| SegmentRecord { id, seed: self.files.seed(id) }).collect();
        Ok(found)
    }

    /// The newest segment with a frame, and whether a later one was written to.
    async fn newest(&mut self) -> Result<(u64, bool), Fault> {
        let mut later_used = false;
        let mut first_fault = None;
        for id in self.files.ids().into_iter().rev() {
            match self.files.frame(id, FRAMES_AT).await? {
                Ok(_frame) => return Ok((id, later_used)),
                Err(fault) => {
                    let rest = self.files.rest(id, FRAMES_AT).await?;
                    if let Some(frame_at) = rest.frame_at {
                        let damage = DamageKind::FrameFollows { fault, frame_at };
                        return Err(Fault::damage(id, FRAMES_AT, damage));
                    }
                    later_used |= rest.used;
                    first_fault = Some((id, fault));
                }
            }
        }
        // The first segment of a folder is made with a frame in it, so one frame always is.
        let (id, fault) = first_fault.expect("a log has at least one segment");
        Err(Fault::damage(id, FRAMES_AT, fault))
    }

    /// The segments that make up the log, oldest first.
    async fn chain(&mut self, newest: u64) -> Result<Vec<Link>, Fault> {
        let mut links = Vec::new();
        let mut segment = newest;
        loop {
            let frame = self.files.frame(segment, FRAMES_AT).await?;
            let frame = frame.map_err(|fault| Fault::damage(segment, FRAMES_AT, fault))?;
            let Some(base) = frame.base else {
                return Err(Fault::damage(segment, FRAMES_AT, DamageKind::NoBase));
            };
            let previous = base.predecessor.map_or(0, |predecessor| predecessor.checksum);
            if frame.place.previous != previous {
                return Err(Fault::damage(segment, FRAMES_AT, FrameFault::Chain));
            }
            links.push(Link { segment, base });
            let Some(before) = base.predecessor else { break };
            if before.segment >= segment || before.sequence >= frame.place.sequence {
                return Err(Fault::damage(segment, FRAMES_AT, FrameFault::Chain));
            }
            segment = before.segment;
            if !self.files.contains(segment) {
                break;
            }
        }
        links.reverse();
        Ok(links)
    }

    /// The replay at the beginning of a segment.
    fn begin<'a>(
        &self,
        replay: &'a mut Option<Replay>,
        link: &Link,
    ) -> Result<&'a mut Replay, Fault> {
        let replay =
            replay.get_or_insert_with(|| Replay::starting_at(&link.base, self.limits.cache_bytes));
        if replay.outline.last() != link.base.last {
            return Err(Fault::damage(link.segment, FRAMES_AT, DamageKind::OtherBase));
        }
        Ok(replay)
    }

    /// Reads a segment whose end a later one states.
    async fn read_closed(
        &mut self,
        segment: u64,
        end: Predecessor,
        replay: &mut Replay,
    ) -> Result<(), Fault> {
        let mut offset = FRAMES_AT;
        let mut before: Option<ReadFrame> = None;
        while offset < end.end {
            let frame = self.files.frame(segment, offset).await?;
            let frame = frame.map_err(|fault| Fault::damage(segment, offset, fault))?;
            follows(before.as_ref(), &frame)
                .map_err(|fault| Fault::damage(segment, offset, fault))?;
            apply(replay, segment, offset, &frame)?;
            offset += frame.len as u64;
            before = Some(frame);
        }
        let ends = before.is_some_and(|frame| {
            frame.place.sequence == end.sequence && frame.checksum == end.checksum
        });
        if offset != end.end || !ends {
            return Err(Fault::damage(segment, offset, DamageKind::OtherEnd));
        }
        Ok(())
    }

    /// Reads the newest segment, up to where no sound frame stands.
    async fn read_open(
        &mut self,
        segment: u64,
        open: OpenEnd,
        mut replay: Replay,
    ) -> Result<FoundLog, Fault> {
        let mut held: Vec<ReadFrame> = Vec::new();
        let mut offset = FRAMES_AT;
        // Where the log ends in what is applied already, if some of this segment is.
        let mut applied: Option<Predecessor> = None;
        let fault = loop {
            let frame = match self.files.frame(segment, offset).await? {
                Ok(frame) => frame,
                Err(fault) => break fault,
            };
            follows(held.last(), &frame).map_err(|fault| Fault::damage(segment, offset, fault))?;
            offset += frame.len as u64;
            held.push(frame);
            if applied.is_some() || offset - FRAMES_AT > self.limits.copy_bytes_max {
                let kept = held.len() - 1;
                for frame in held.drain(..kept) {
                    apply(&mut replay, segment, frame.place.offset, &frame)?;
                    applied = Some(frame.end(segment));
                }
            }
        };
        let last = held.last().expect("the newest segment has a frame").end(segment);
        let torn = self.judge_end(segment, last, fault, open).await?;
        let base = Base {
            predecessor: applied.or(open.base.predecessor),
            purged: replay.outline.purged(),
            last: replay.outline.last(),
            committed: replay.committed,
        };
        let mut outline = replay.outline.clone();
        for frame in &held {
            outline_after(&mut outline, &frame.records)
                .map_err(|damage| Fault::damage(segment, frame.place.offset, damage))?;
        }
        let frames =
            held.iter().map(|frame| (frame.place.offset, frame.len, frame.records.clone()));
        Ok(FoundLog {
            newest: Some(Newest {
                segment,
                len: self.files.len(segment),
                seed: self.files.seed(segment),
                end: last,
                frames: frames.collect(),
            }),
            unsealed: Unsealed {
                base,
                sequence: last.sequence,
                payloads: held.into_iter().map(|frame| frame.records).collect(),
            },
            replay,
            outline,
            segments: Vec::new(),
            torn,
        })
    }

    /// Whether the log may end behind `last`, and whether something was torn there.
    async fn judge_end(
        &mut self,
        segment: u64,
        last: Predecessor,
        fault: FrameFault,
        open: OpenEnd,
    ) -> Result<Option<TornTail>, Fault> {
        let rest = self.files.rest(segment, last.end).await?;
        let damage = if let Some(frame_at) = rest.frame_at {
            Some(DamageKind::FrameFollows { fault, frame_at })
        } else if rest.used && open.later_used {
            Some(DamageKind::SegmentFollows { fault })
        } else if last.sequence < open.proven {
            let proven = open.proven;
            Some(DamageKind::SyncedFrameMissing { last: last.sequence, proven })
        } else {
            None
        };
        match damage {
            Some(damage) => Err(Fault::damage(segment, last.end, damage)),
            None => Ok((rest.used || open.later_used)
                .then(|| TornTail { file: segment_name(segment), offset: last.end })),
        }
    }
}

/// A segment of the log and what it begins with.
struct Link {
    segment: u64,
    base: Base,
}

/// What is known about the newest segment before it is read.
#[derive(Clone, Copy)]
struct OpenEnd {
    base: Base,
    /// A later segment was written to.
    later_used: bool,
    /// The highest frame known to have been synced.
    proven: u64,
}

impl FoundLog {
    /// The log of a folder that never had one.
    pub(crate) fn empty(cache_bytes: usize) -> Self {
        let base = Base { predecessor: None, purged: None, last: None, committed: None };
        Self {
            replay: Replay::starting_at(&base, cache_bytes),
            unsealed: Unsealed { base, payloads: Vec::new(), sequence: 0 },
            outline: Outline::default(),
            segments: Vec::new(),
            torn: None,
            newest: None,
        }
    }

    /// What is gone from the log must be in the snapshot: nobody purges anything else.
    pub(crate) fn check_beginning(&self, covered: Option<LogPosition>) -> Result<(), OpenError> {
        match self.outline.purged() {
            Some(purged) if covered.is_none_or(|covered| covered.index < purged.index) => {
                Err(OpenError::BeginningMissing { purged, covered })
            }
            _ => Ok(()),
        }
    }

    /// Whether the segment was made ahead and no frame in it counts.
    pub(crate) fn is_unused(&self, id: u64) -> bool {
        self.newest.as_ref().is_some_and(|newest| id > newest.segment)
    }

    /// Whether the newest segment, which ends in `unsealed`, still holds frames that count.
    fn keeps(&self, newest: u64) -> bool {
        self.unsealed.base.predecessor.is_some_and(|end| end.segment == newest)
    }
}

fn follows(before: Option<&ReadFrame>, frame: &ReadFrame) -> Result<(), FrameFault> {
    let Some(before) = before else { return Ok(()) };
    let next = before.place.sequence.checked_add(1);
    if next == Some(frame.place.sequence) && before.checksum == frame.place.previous {
        Ok(())
    } else {
        Err(FrameFault::Chain)
    }
}

/// The outline with the records of one more frame.
fn outline_after(outline: &mut Outline, records: &Bytes) -> Result<(), DamageKind> {
    for record in read_records(records.clone())? {
        match record {
            Record::Base(_) => return Err(DamageKind::BaseInside),
            Record::Entry(entry) => outline.append(entry.position())?,
            Record::Truncate(last) => outline.truncate_to(last),
            Record::Purge(upto) => {
                outline.purge(upto);
            }
            Record::Committed(_) => {}
        }
    }
    Ok(())
}

fn apply(replay: &mut Replay, segment: u64, offset: u64, frame: &ReadFrame) -> Result<(), Fault> {
    read_records(frame.records.clone())
        .map_err(DamageKind::from)
        .and_then(|records| replay.frame(segment, offset, frame.len, records))
        .map_err(|damage| Fault::damage(segment, offset, damage))
}
