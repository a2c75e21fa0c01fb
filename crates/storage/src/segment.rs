//! A segment: one file of the log, its name, its first sector, and how it is read.
//!
//! A segment is made under a temporary name, filled with zeros, given its header, synced, and only
//! then renamed to `log-<id>`; so a file of that name always has a sound header, whatever moment
//! the power fails. Ids only grow and are never used twice. The first sector, little endian:
//!
//! ```text
//! 0    file header, kind "WAL "   64 bytes
//! 64   segment id                 u64
//! 72   salt                       u64, random; part of every frame's checksum
//! 80   zeros
//! 508  CRC32C of bytes 0..508     u32; the seed of the frames' checksums
//! ```
//!
//! Frames follow, each at a multiple of 512; behind the last one are zeros.

use std::{io, sync::Arc};

use bytes::{Bytes, BytesMut};
use mainstay_codec::{FileKind, checksum};
use mainstay_world::{Disk, FileId};

use crate::{
    frame::{FRAME_HEADER_LEN, FrameFault, FrameHead, SECTOR_LEN},
    identity::{ForeignFile, Identity},
};

/// The newest format of segments that this program reads, and the one it writes.
pub(crate) const SEGMENT_FORMAT: u16 = 1;
/// Where the first frame stands.
pub(crate) const FRAMES_AT: u64 = SECTOR_LEN as u64;

const PREFIX: &str = "log-";
const CHECKSUM_AT: usize = SECTOR_LEN - 4;
/// Bytes read from the disk at once.
const WINDOW_LEN: usize = 1024 * 1024;
const ZEROS: [u8; SECTOR_LEN] = [0; SECTOR_LEN];

/// The name of a segment's file.
pub(crate) fn segment_name(id: u64) -> String {
    format!("{PREFIX}{id:020}")
}

/// The id of the segment with this file name.
pub(crate) fn segment_id(name: &str) -> Option<u64> {
    let id = name.strip_prefix(PREFIX)?.parse().ok()?;
    (segment_name(id) == name).then_some(id)
}

/// The first sector of a segment, and the seed of its frames' checksums.
pub(crate) fn segment_header(identity: &Identity, id: u64, salt: u64) -> (Bytes, u32) {
    let mut sector = BytesMut::zeroed(SECTOR_LEN);
    let header = identity.header(FileKind::LogSegment, SEGMENT_FORMAT).to_bytes();
    sector[..header.len()].copy_from_slice(&header);
    sector[64..72].copy_from_slice(&id.to_le_bytes());
    sector[72..80].copy_from_slice(&salt.to_le_bytes());
    let seed = checksum(0, &sector[..CHECKSUM_AT]);
    sector[CHECKSUM_AT..].copy_from_slice(&seed.to_le_bytes());
    (sector.freeze(), seed)
}

/// A segment's first sector that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SegmentHeaderFault {
    #[error(transparent)]
    Foreign(#[from] ForeignFile),
    #[error("the first sector is damaged")]
    Damaged,
    #[error("the file says that it is segment {0}")]
    OtherSegment(u64),
}

/// Checks a first sector and gives the seed of the frames' checksums.
pub(crate) fn read_segment_header(
    sector: &Bytes,
    identity: &Identity,
    id: u64,
) -> Result<u32, SegmentHeaderFault> {
    identity.check(sector, FileKind::LogSegment, SEGMENT_FORMAT)?;
    let (Some(found), Some(sum), Some(name)) = (
        sector.get(..CHECKSUM_AT),
        sector.get(CHECKSUM_AT..).and_then(|sum| sum.first_chunk()),
        sector.get(64..).and_then(|id| id.first_chunk()),
    ) else {
        return Err(SegmentHeaderFault::Damaged);
    };
    let seed = u32::from_le_bytes(*sum);
    if checksum(0, found) != seed {
        return Err(SegmentHeaderFault::Damaged);
    }
    let named = u64::from_le_bytes(*name);
    if named != id {
        return Err(SegmentHeaderFault::OtherSegment(named));
    }
    Ok(seed)
}

/// Reads a segment from front to back, a window at a time.
pub(crate) struct SegmentReader {
    disk: Arc<dyn Disk>,
    file: FileId,
    len: u64,
    seed: u32,
    window_at: u64,
    window: Bytes,
}

/// A sound frame.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) head: FrameHead,
    pub(crate) payload: Bytes,
}

impl SegmentReader {
    pub(crate) const fn new(disk: Arc<dyn Disk>, file: FileId, len: u64, seed: u32) -> Self {
        Self { disk, file, len, seed, window_at: 0, window: Bytes::new() }
    }

    pub(crate) const fn len(&self) -> u64 {
        self.len
    }

    /// Bytes `offset..offset + len`, fewer only at the end of the file.
    async fn bytes(&mut self, offset: u64, len: usize) -> io::Result<Bytes> {
        let len = len.min(usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX));
        let within = offset.checked_sub(self.window_at).and_then(|at| usize::try_from(at).ok());
        if let Some(at) = within
            && let Some(end) = at.checked_add(len)
            && end <= self.window.len()
        {
            return Ok(self.window.slice(at..end));
        }
        let wanted = len.max(WINDOW_LEN);
        self.window = self.disk.read_at(self.file, offset, wanted).await?;
        self.window_at = offset;
        if self.window.len() < len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(self.window.slice(..len))
    }

    /// The frame at `offset`, checked by itself: its place, its length, its checksum. Whether it
    /// follows the frame before is the caller's question.
    pub(crate) async fn frame(
        &mut self,
        segment: u64,
        offset: u64,
    ) -> io::Result<Result<Frame, FrameFault>> {
        let head = self.bytes(offset, FRAME_HEADER_LEN).await?;
        let head = match FrameHead::read(&head) {
            Ok(head) => head,
            Err(fault) => return Ok(Err(fault)),
        };
        if head.place.segment != segment || head.place.offset != offset {
            return Ok(Err(FrameFault::Misplaced));
        }
        if head.frame_len() as u64 > self.len.saturating_sub(offset) {
            return Ok(Err(FrameFault::Length));
        }
        let frame = self.bytes(offset, head.frame_len()).await?;
        Ok(head.payload(&frame, self.seed).map(|payload| Frame { head, payload }))
    }

    /// What stands at and behind `from`, where no sound frame does.
    pub(crate) async fn rest(&mut self, segment: u64, from: u64) -> io::Result<Rest> {
        let mut rest = Rest { used: false, frame_at: None };
        let mut offset = from;
        while offset < self.len {
            let sector = self.bytes(offset, SECTOR_LEN).await?;
            if sector[..] != ZEROS[..sector.len()] {
                rest.used = true;
                if self.frame(segment, offset).await?.is_ok() {
                    rest.frame_at = Some(offset);
                    return Ok(rest);
                }
            }
            offset += SECTOR_LEN as u64;
        }
        Ok(rest)
    }
}

/// What stands behind the last frame of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rest {
    /// Something other than zeros.
    pub(crate) used: bool,
    /// A sound frame, and where.
    pub(crate) frame_at: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Identity = Identity { cluster_id: 7, node_id: 3, epoch: 1 };

    #[test]
    fn names_and_ids_agree() {
        assert_eq!(segment_name(12), "log-00000000000000000012");
        assert_eq!(segment_id("log-00000000000000000012"), Some(12));
        for foreign in
            ["log-12", "log-00000000000000000012.tmp", "vote-1", "log-+0000000000000000012"]
        {
            assert_eq!(segment_id(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn golden_bytes_of_a_first_sector() {
        let (sector, seed) = segment_header(&OURS, 2, 0x0102_0304_0506_0708);
        assert_eq!(sector.len(), 512);
        assert_eq!(&sector[..14], b"MAINSTAYWAL \x01\x00");
        assert_eq!(sector[64..80], [2, 0, 0, 0, 0, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1]);
        assert!(sector[80..508].iter().all(|byte| *byte == 0));
        assert_eq!(sector[508..], seed.to_le_bytes());
        assert_eq!(read_segment_header(&sector, &OURS, 2), Ok(seed));
        assert_eq!(
            read_segment_header(&sector, &OURS, 3),
            Err(SegmentHeaderFault::OtherSegment(2))
        );
    }

    #[test]
    fn every_flipped_bit_of_a_first_sector_is_refused() {
        let (sector, _seed) = segment_header(&OURS, 2, 9);
        for bit in 0..sector.len() * 8 {
            let mut damaged = sector.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(read_segment_header(&damaged.into(), &OURS, 2).is_err(), "bit {bit}");
        }
    }
}
