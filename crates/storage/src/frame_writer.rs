//! How a batch gets from the writer's queue onto the disk: as one frame, in a segment with room.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use mainstay_world::Instant;

use crate::{
    entry::LogPosition,
    failure::{SpaceState, StorageFailure, is_full},
    frame::{FRAME_HEADER_LEN, FrameBuilder, FramePlace, SealedFrame},
    record::{Base, Predecessor, Record},
    seal::ActiveSegment,
    segment::{FRAMES_AT, segment_name},
    shared::SegmentRecord,
    write_queue::SyncCallback,
    writer::Writer,
};

/// A batch in the form that goes to disk.
pub(crate) struct Prepared {
    frame: FrameBuilder,
    /// What the segment begins with, should it be a new one.
    base: Base,
    /// First and last index of the entries.
    run: Option<(u64, u64)>,
    cuts: Vec<Cut>,
}

/// What a record does to the index of frames.
enum Cut {
    After(Option<u64>),
    UpTo(u64),
    Everything,
}

/// What a frame's write and sync came to.
enum FrameOutcome {
    Synced(Duration),
    NoRoom,
}

impl Writer {
    /// Takes the records into the log as written, and encodes them.
    pub(crate) fn prepare(&mut self, records: Vec<Record>) -> Prepared {
        let len: usize = records.iter().map(Record::len_max).sum();
        let mut prepared = Prepared {
            frame: FrameBuilder::with_capacity(len + Record::SMALL_LEN_MAX),
            base: Base {
                predecessor: Some(self.end),
                purged: self.written.purged(),
                last: self.written.last(),
                committed: self.committed,
            },
            run: None,
            cuts: Vec::new(),
        };
        for record in &records {
            record.write(prepared.frame.payload());
            match record {
                Record::Entry(entry) => {
                    let appended = self.written.append(entry.position());
                    appended.expect("entries are checked before they are queued");
                    let first = prepared.run.map_or(entry.index, |(first, _last)| first);
                    prepared.run = Some((first, entry.index));
                }
                Record::Truncate(last) => {
                    self.written.truncate_to(*last);
                    prepared.cuts.push(Cut::After(last.map(|last| last.index)));
                }
                Record::Purge(upto) => {
                    let rest_stays = self.written.purge(*upto);
                    let cut = if rest_stays { Cut::UpTo(upto.index) } else { Cut::Everything };
                    prepared.cuts.push(cut);
                }
                Record::Base(_) | Record::Committed(_) => {
                    unreachable!("nobody queues what the writer adds by itself")
                }
            }
        }
        if let Some(committed) = self.noted_commit() {
            Record::Committed(committed).write(prepared.frame.payload());
            self.committed = Some(committed);
        }
        prepared
    }

    /// The commit index, if it is new and everything up to it is written.
    pub(crate) fn noted_commit(&self) -> Option<LogPosition> {
        let noted = self.shared.state().committed;
        noted.filter(|noted| Some(*noted) != self.committed && self.written.holds(*noted))
    }

    /// Makes a batch durable, in a new segment if there is no room in this one.
    pub(crate) async fn store(
        &mut self,
        prepared: Prepared,
        callbacks: &mut Vec<SyncCallback>,
    ) -> Result<(), StorageFailure> {
        let Prepared { mut frame, base, run, cuts } = prepared;
        let mut base_len = 0;
        loop {
            let is_begun = self.active.id == self.end.segment;
            if !is_begun || self.active.offset + frame.frame_len() as u64 > self.active.len {
                (frame, base_len) = with_base(base, &frame.records()[base_len..]);
                self.next_segment(frame.frame_len() as u64).await?;
            }
            let offset = self.active.offset;
            let sequence = self.end.sequence + 1;
            let previous = self.end.checksum;
            let place = FramePlace { segment: self.active.id, sequence, offset, previous };
            let records_len = frame.records().len();
            let sealed = frame.seal(place, self.active.seed, self.active.len);
            let SealedFrame { bytes, len, checksum } = sealed;
            match self.write_frame(bytes.clone(), callbacks).await? {
                FrameOutcome::Synced(took) => {
                    self.active.offset = offset + len as u64;
                    let end = self.active.offset;
                    self.end = Predecessor { segment: self.active.id, sequence, end, checksum };
                    self.publish(offset, len, run, &cuts, took);
                    return Ok(());
                }
                FrameOutcome::NoRoom => {
                    // What was written of it cannot be known, so the file is left as it is.
                    self.active.offset = self.active.len;
                    frame = FrameBuilder::holding(&bytes[FRAME_HEADER_LEN..][..records_len]);
                }
            }
        }
    }

    /// Submits write and sync together and waits once.
    async fn write_frame(
        &mut self,
        frame: Bytes,
        callbacks: &mut Vec<SyncCallback>,
    ) -> Result<FrameOutcome, StorageFailure> {
        let shared = Arc::clone(&self.shared);
        let (file, name) = (self.active.file, self.active.name.as_str());
        shared.buggify.pause("storage.before-write").await;
        let started = Instant::now();
        shared.state().unfinished_since = Some(started);
        let written = shared.log_disk.write_at(file, self.active.offset, frame);
        if shared.buggify.is_planted("ack-before-sync") {
            callbacks.drain(..).for_each(|callback| callback(Ok(())));
        }
        shared.buggify.pause("storage.before-sync").await;
        // Waited for first: when the sync is done the write is too, and one wakeup serves both.
        let synced = shared.log_disk.sync_data(file).await;
        match written.await {
            Ok(()) => {}
            Err(error) if is_full(&error) => return Ok(FrameOutcome::NoRoom),
            Err(error) => return Err(StorageFailure::write(name, self.active.offset, error)),
        }
        synced.map_err(|error| StorageFailure::sync(name, error))?;
        let took = started.elapsed();
        shared.buggify.pause("storage.after-sync").await;
        Ok(FrameOutcome::Synced(took))
    }

    /// Lets readers know what is durable now.
    fn publish(
        &self,
        offset: u64,
        len: usize,
        run: Option<(u64, u64)>,
        cuts: &[Cut],
        took: Duration,
    ) {
        let mut state = self.shared.state();
        for cut in cuts {
            match *cut {
                Cut::After(index) => state.frames.truncate_after(index),
                Cut::UpTo(index) => state.frames.purge(index),
                Cut::Everything => state.frames.truncate_after(None),
            }
        }
        match run {
            Some((first, last)) => state.frames.push(self.active.id, offset, len, first, last),
            None => state.frames.push_empty(len),
        }
        if state.segments.back().is_none_or(|segment| segment.id != self.active.id) {
            let ActiveSegment { id, seed, .. } = self.active;
            state.segments.push_back(SegmentRecord { id, seed });
        }
        state.note_synced(self.written.last());
        // Notes how far the disk really is: the last index.
        let last = self.written.last().map_or(0, |last| last.index);
        self.shared.buggify.note("storage.durable", || [last]);
        state.synced_frame = self.end.sequence;
        state.unfinished_since = None;
        state.syncs.record(took, len as u64);
        let synced = state.synced.map(|synced| synced.index);
        state.tail.evict(self.shared.options.cache_bytes, synced);
    }

    /// Goes on in the spare segment, which must hold a frame of `frame_len`; waits until there is
    /// one. While the disk is full that is until there is room again.
    async fn next_segment(&mut self, frame_len: u64) -> Result<(), StorageFailure> {
        let needed = FRAMES_AT + frame_len;
        let waiting_since = Instant::now();
        let spare = loop {
            if let Some(failure) = self.shared.failed() {
                return Err(failure);
            }
            let is_full = *self.shared.space.borrow() != SpaceState::Ok;
            {
                let mut state = self.shared.state();
                if let Some(spare) = state.spare.take_if(|spare| spare.len >= needed) {
                    state.spare_bytes = self.shared.options.next_segment_bytes(spare.len);
                    break spare;
                }
                if !state.is_running() && is_full {
                    return Err(StorageFailure::Stopped);
                }
                state.spare_bytes = state.spare_bytes.max(needed);
                // A full disk is not a stalled one.
                state.unfinished_since = (!is_full).then_some(waiting_since);
            }
            self.shared.supply_work.notify_one();
            self.shared.work.notified().await;
        };
        self.shared.supply_work.notify_one();
        drop(self.shared.log_disk.close(self.active.file));
        if self.active.id != self.end.segment {
            // No good frame was ever in it.
            drop(self.shared.side_disk.remove(&self.active.name));
        }
        self.active = ActiveSegment {
            id: spare.id,
            name: segment_name(spare.id),
            file: spare.file,
            len: spare.len,
            seed: spare.seed,
            offset: FRAMES_AT,
        };
        Ok(())
    }
}

/// The same records behind the base of a new segment, and the length of that base.
fn with_base(base: Base, records: &[u8]) -> (FrameBuilder, usize) {
    let mut frame = FrameBuilder::with_capacity(Record::SMALL_LEN_MAX + records.len());
    Record::Base(base).write(frame.payload());
    let base_len = frame.records().len();
    frame.payload().extend_from_slice(records);
    (frame, base_len)
}
