//! The segments of a folder, open for reading, and how trouble with them is told.

use std::{collections::BTreeMap, io, sync::Arc};

use bytes::Bytes;
use mainstay_world::{Disk, FileId};

use crate::{
    damage::{Damage, DamageKind},
    frame::{FrameFault, FramePlace, SECTOR_LEN},
    identity::Identity,
    open_error::OpenError,
    record::{Base, Predecessor, Record},
    segment::{
        FRAMES_AT, Frame, Rest, SegmentHeaderFault, SegmentReader, read_segment_header,
        segment_name,
    },
};

/// The segments of a folder by their ids.
pub(crate) struct SegmentFiles(BTreeMap<u64, SegmentFile>);

impl SegmentFiles {
    /// Opens the segments and refuses those of others.
    pub(crate) async fn open(
        disk: &Arc<dyn Disk>,
        identity: &Identity,
        ids: &[u64],
    ) -> Result<Self, OpenError> {
        let mut files = BTreeMap::new();
        for &id in ids {
            files.insert(id, SegmentFile::open(disk, identity, id).await?);
        }
        Ok(Self(files))
    }

    /// The ids, oldest first.
    pub(crate) fn ids(&self) -> Vec<u64> {
        self.0.keys().copied().collect()
    }

    pub(crate) fn contains(&self, id: u64) -> bool {
        self.0.contains_key(&id)
    }

    /// Seed of the segment's checksums.
    pub(crate) fn seed(&self, id: u64) -> u32 {
        self.0[&id].seed
    }

    /// Length of the segment's file in bytes.
    pub(crate) fn len(&self, id: u64) -> u64 {
        self.0[&id].reader.len()
    }

    /// The frame at `offset`, if a sound one stands there.
    pub(crate) async fn frame(
        &mut self,
        segment: u64,
        offset: u64,
    ) -> Result<Result<ReadFrame, FrameFault>, Fault> {
        let failed = |error| Fault { segment, offset, cause: FaultCause::Io(error) };
        let file = self.0.get_mut(&segment).expect("only segments that exist are read");
        let Frame { head, mut payload } = match file.reader.frame(segment, offset).await {
            Ok(Ok(frame)) => frame,
            Ok(Err(fault)) => return Ok(Err(fault)),
            Err(error) => return Err(failed(error)),
        };
        let mut base = None;
        if offset == FRAMES_AT {
            let first = Record::read(&mut payload)
                .map_err(|fault| Fault::damage(segment, offset, fault))?;
            let Record::Base(found) = first else {
                return Err(Fault::damage(segment, offset, DamageKind::NoBase));
            };
            base = Some(found);
        }
        Ok(Ok(ReadFrame {
            place: head.place,
            checksum: head.checksum,
            len: head.frame_len(),
            records: payload,
            base,
        }))
    }

    /// What stands at and behind `offset`, where no sound frame does.
    pub(crate) async fn rest(&mut self, segment: u64, offset: u64) -> Result<Rest, Fault> {
        let file = self.0.get_mut(&segment).expect("only segments that exist are read");
        let rest = file.reader.rest(segment, offset).await;
        rest.map_err(|error| Fault { segment, offset, cause: FaultCause::Io(error) })
    }
}

/// A frame with its records still encoded, base taken off.
pub(crate) struct ReadFrame {
    pub(crate) place: FramePlace,
    pub(crate) checksum: u32,
    pub(crate) len: usize,
    pub(crate) records: Bytes,
    pub(crate) base: Option<Base>,
}

impl ReadFrame {
    /// Where the log ends with this frame.
    pub(crate) const fn end(&self, segment: u64) -> Predecessor {
        Predecessor {
            segment,
            sequence: self.place.sequence,
            end: self.place.offset + self.len as u64,
            checksum: self.checksum,
        }
    }
}

/// What is wrong, and where.
pub(crate) struct Fault {
    segment: u64,
    offset: u64,
    cause: FaultCause,
}

enum FaultCause {
    Damage(DamageKind),
    Io(io::Error),
}

impl Fault {
    pub(crate) fn damage(segment: u64, offset: u64, damage: impl Into<DamageKind>) -> Self {
        Self { segment, offset, cause: FaultCause::Damage(damage.into()) }
    }

    pub(crate) fn into_open_error(self) -> OpenError {
        let file = segment_name(self.segment);
        match self.cause {
            FaultCause::Damage(damage) => {
                OpenError::Damaged { file, offset: self.offset, source: Damage(damage) }
            }
            FaultCause::Io(source) => OpenError::File { action: "read", file, source },
        }
    }
}

/// One segment, open, with a sound header.
struct SegmentFile {
    disk: Arc<dyn Disk>,
    file: FileId,
    reader: SegmentReader,
    seed: u32,
}

impl SegmentFile {
    async fn open(disk: &Arc<dyn Disk>, identity: &Identity, id: u64) -> Result<Self, OpenError> {
        let name = segment_name(id);
        let failed = |action| {
            let name = name.clone();
            move |source| OpenError::File { action, file: name, source }
        };
        let file = disk.open(&name).await.map_err(failed("open"))?;
        let len = disk.length(file).await.map_err(failed("measure"))?;
        let sector = disk.read_at(file, 0, SECTOR_LEN).await.map_err(failed("read"))?;
        let seed = read_segment_header(&sector, identity, id).map_err(|fault| match fault {
            SegmentHeaderFault::Foreign(source) => OpenError::foreign(&name, source),
            SegmentHeaderFault::Damaged | SegmentHeaderFault::OtherSegment(_) => {
                OpenError::damaged(&name, 0, fault.into())
            }
        })?;
        let reader = SegmentReader::new(Arc::clone(disk), file, len, seed);
        Ok(Self { disk: Arc::clone(disk), file, reader, seed })
    }
}

impl Drop for SegmentFile {
    fn drop(&mut self) {
        drop(self.disk.close(self.file));
    }
}
