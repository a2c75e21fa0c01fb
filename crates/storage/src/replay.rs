//! The log as it follows from its records, one frame after the other.
//!
//! The same steps are taken when a start reads frames and when it writes copies of them.

use bytes::Bytes;

use crate::{
    damage::DamageKind,
    entry::{LogEntry, LogPosition},
    frame_index::FrameIndex,
    outline::Outline,
    record::{Base, Record},
    tail::Tail,
};

/// What the frames read so far amount to.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    pub(crate) outline: Outline,
    pub(crate) committed: Option<LogPosition>,
    pub(crate) frames: FrameIndex,
    pub(crate) tail: Tail,
    /// Entries kept in memory, in bytes.
    cache_bytes: usize,
}

impl Replay {
    /// Begins with the first segment that is left.
    pub(crate) fn starting_at(base: &Base, cache_bytes: usize) -> Self {
        Self {
            outline: Outline::starting_after(base.last),
            committed: base.committed,
            cache_bytes,
            ..Self::default()
        }
    }

    /// Takes the records of one frame, without the base of its segment.
    pub(crate) fn frame(
        &mut self,
        segment: u64,
        offset: u64,
        len: usize,
        records: Vec<Record>,
    ) -> Result<(), DamageKind> {
        let mut run: Option<(u64, u64)> = None;
        for record in records {
            match record {
                Record::Base(_) => return Err(DamageKind::BaseInside),
                Record::Entry(entry) => {
                    self.outline.append(entry.position())?;
                    let first = run.map_or(entry.index, |(first, _last)| first);
                    run = Some((first, entry.index));
                    // A slice would keep the whole frame in memory for as long as the entry.
                    let payload = Bytes::copy_from_slice(&entry.payload);
                    self.tail.push(LogEntry { payload, ..entry });
                }
                Record::Truncate(last) => {
                    let index = last.map(|last| last.index);
                    self.outline.truncate_to(last);
                    self.tail.truncate_after(index);
                    self.frames.truncate_after(index);
                }
                Record::Purge(upto) => self.purge(upto),
                Record::Committed(committed) => self.committed = Some(committed),
            }
        }
        match run {
            Some((first, last)) => self.frames.push(segment, offset, len, first, last),
            None => self.frames.push_empty(len),
        }
        self.tail.evict(self.cache_bytes, Some(u64::MAX));
        Ok(())
    }

    /// Forgets the entries up to `upto`, and all of them if the log does not hold that very entry.
    pub(crate) fn purge(&mut self, upto: LogPosition) {
        if self.outline.purge(upto) {
            self.tail.purge(upto.index);
        } else {
            self.tail.truncate_after(None);
            self.frames.truncate_after(None);
        }
        self.frames.purge(upto.index);
    }
}
