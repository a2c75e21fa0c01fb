//! A frame: one batch of records as it stands in a segment of the log.
//!
//! A frame is what one write and one sync make durable. It fills whole sectors, so that no write
//! ever touches a sector which an earlier sync protects, and it says where it belongs: segment,
//! sequence, offset, and the checksum of the frame before it. A frame that is read anywhere else
//! than where it was written, or after another frame than the one it followed, is not valid.
//! Layout, little endian:
//!
//! ```text
//! 0   magic "MFRM"                    4 bytes
//! 4   payload length in bytes         u32
//! 8   segment id                      u64
//! 16  sequence                        u64, one more than the frame before in the same segment
//! 24  offset of this frame            u64, in its file
//! 32  checksum of the frame before    u32, 0 for the first frame of a log
//! 36  checksum of this frame          u32, CRC32C of bytes 0..36 and 40..end, padding included,
//!                                     continuing from the segment header's checksum
//! 40  payload, then zeros up to a multiple of 512
//! ```
//!
//! The checksum continues from the segment header's, which holds a random salt: bytes that a
//! client stores as a value can never pass for a frame.

use bytes::Bytes;
use mainstay_codec::checksum;

/// What a disk writes whole or not at all, in bytes; every frame begins at a multiple of it.
pub(crate) const SECTOR_LEN: usize = 512;
/// What an operating system keeps of a file in memory as one piece, in bytes. A write that fills
/// the last such piece with zeros spares it from reading what it is to overwrite.
const PAGE_LEN: usize = 4096;
/// Bytes in front of a frame's payload.
pub(crate) const FRAME_HEADER_LEN: usize = 40;

const MAGIC: [u8; 4] = *b"MFRM";
const CHECKSUM_AT: usize = 36;

/// A frame that is ready to be written.
#[derive(Debug)]
pub(crate) struct SealedFrame {
    /// The frame, and behind it zeros up to the end of a page: what stands there already.
    pub(crate) bytes: Bytes,
    /// Bytes of the frame itself.
    pub(crate) len: usize,
    pub(crate) checksum: u32,
}

/// Where a frame belongs and what it follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FramePlace {
    pub(crate) segment: u64,
    pub(crate) sequence: u64,
    pub(crate) offset: u64,
    /// Checksum of the frame before.
    pub(crate) previous: u32,
}

/// The head of a frame whose payload has not been checked yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHead {
    pub(crate) place: FramePlace,
    pub(crate) payload_len: usize,
    pub(crate) checksum: u32,
}

/// Why bytes are not the frame they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameFault {
    #[error("no frame begins here")]
    Magic,
    #[error("the frame says that it belongs elsewhere")]
    Misplaced,
    #[error("the frame is longer than its file")]
    Length,
    #[error("the frame's checksum is {found:#010x}, computed {computed:#010x}")]
    Checksum { found: u32, computed: u32 },
    #[error("the frame does not follow the one before it")]
    Chain,
}

/// Builds a frame around the payload that is written into it.
pub(crate) struct FrameBuilder {
    bytes: Vec<u8>,
}

impl FrameBuilder {
    pub(crate) fn with_capacity(payload_len: usize) -> Self {
        let mut bytes = Vec::with_capacity(frame_len(payload_len) + PAGE_LEN);
        bytes.resize(FRAME_HEADER_LEN, 0);
        Self { bytes }
    }

    /// A frame of records that are encoded already.
    pub(crate) fn holding(records: &[u8]) -> Self {
        let mut builder = Self::with_capacity(records.len());
        builder.bytes.extend_from_slice(records);
        builder
    }

    /// The records written so far.
    pub(crate) fn records(&self) -> &[u8] {
        &self.bytes[FRAME_HEADER_LEN..]
    }

    /// Where the records go, one after the other.
    pub(crate) const fn payload(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Bytes that the frame takes in the file.
    pub(crate) fn frame_len(&self) -> usize {
        frame_len(self.bytes.len() - FRAME_HEADER_LEN)
    }

    /// The frame as it is written. `seed` is the checksum of the segment's header, `file_len` the
    /// length of its file.
    pub(crate) fn seal(mut self, place: FramePlace, seed: u32, file_len: u64) -> SealedFrame {
        let payload_len = self.bytes.len() - FRAME_HEADER_LEN;
        let payload_len = u32::try_from(payload_len).expect("batches are far below 4 GiB");
        self.bytes.resize(self.frame_len(), 0);
        let head = &mut self.bytes[..FRAME_HEADER_LEN];
        head[0..4].copy_from_slice(&MAGIC);
        head[4..8].copy_from_slice(&payload_len.to_le_bytes());
        head[8..16].copy_from_slice(&place.segment.to_le_bytes());
        head[16..24].copy_from_slice(&place.sequence.to_le_bytes());
        head[24..32].copy_from_slice(&place.offset.to_le_bytes());
        head[32..36].copy_from_slice(&place.previous.to_le_bytes());
        let sum = frame_checksum(&self.bytes, seed);
        self.bytes[CHECKSUM_AT..FRAME_HEADER_LEN].copy_from_slice(&sum.to_le_bytes());
        let len = self.bytes.len();
        let end = place.offset + len as u64;
        let padding = end.next_multiple_of(PAGE_LEN as u64).min(file_len).saturating_sub(end);
        let padding = usize::try_from(padding).expect("less than a page");
        self.bytes.resize(len + padding, 0);
        SealedFrame { bytes: self.bytes.into(), len, checksum: sum }
    }
}

impl FrameHead {
    /// Reads the head in front of `bytes`.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, FrameFault> {
        if bytes.len() < FRAME_HEADER_LEN || bytes[0..4] != MAGIC {
            return Err(FrameFault::Magic);
        }
        let word = |at: usize| u64::from_le_bytes(array(bytes, at));
        let place = FramePlace {
            segment: word(8),
            sequence: word(16),
            offset: word(24),
            previous: u32::from_le_bytes(array(bytes, 32)),
        };
        let payload_len = u32::from_le_bytes(array(bytes, 4)) as usize;
        let checksum = u32::from_le_bytes(array(bytes, CHECKSUM_AT));
        Ok(Self { place, payload_len, checksum })
    }

    /// Bytes that the whole frame takes in the file.
    pub(crate) const fn frame_len(&self) -> usize {
        frame_len(self.payload_len)
    }

    /// Checks the whole frame, which `frame` must hold, and gives its payload.
    pub(crate) fn payload(&self, frame: &Bytes, seed: u32) -> Result<Bytes, FrameFault> {
        if frame.len() != self.frame_len() {
            return Err(FrameFault::Length);
        }
        let computed = frame_checksum(frame, seed);
        if computed != self.checksum {
            return Err(FrameFault::Checksum { found: self.checksum, computed });
        }
        Ok(frame.slice(FRAME_HEADER_LEN..FRAME_HEADER_LEN + self.payload_len))
    }
}

/// Bytes that a frame of this payload takes in its file.
pub(crate) const fn frame_len(payload_len: usize) -> usize {
    (FRAME_HEADER_LEN + payload_len).next_multiple_of(SECTOR_LEN)
}

fn frame_checksum(frame: &[u8], seed: u32) -> u32 {
    checksum(checksum(seed, &frame[..CHECKSUM_AT]), &frame[FRAME_HEADER_LEN..])
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut part = [0; N];
    part.copy_from_slice(&bytes[at..at + N]);
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: FramePlace = FramePlace { segment: 2, sequence: 9, offset: 1024, previous: 5 };

    fn sealed(payload: &[u8], file_len: u64) -> SealedFrame {
        let mut builder = FrameBuilder::with_capacity(payload.len());
        builder.payload().extend_from_slice(payload);
        builder.seal(PLACE, 77, file_len)
    }

    fn frame(payload: &[u8]) -> Bytes {
        let sealed = sealed(payload, 0);
        assert_eq!(sealed.bytes.len(), sealed.len, "nothing is written behind the file's end");
        sealed.bytes
    }

    fn read(bytes: &Bytes) -> Result<(FramePlace, Bytes), FrameFault> {
        let head = FrameHead::read(bytes)?;
        Ok((head.place, head.payload(bytes, 77)?))
    }

    #[test]
    fn golden_bytes_of_a_frame() {
        let frame = frame(b"abc");
        assert_eq!(frame.len(), SECTOR_LEN);
        assert_eq!(&frame[..8], b"MFRM\x03\0\0\0");
        assert_eq!(
            &frame[8..32],
            [2, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0]
        );
        assert_eq!(&frame[32..40], [5, 0, 0, 0, 84, 42, 120, 195]);
        assert_eq!(&frame[40..44], b"abc\0");
        assert_eq!(read(&frame), Ok((PLACE, Bytes::from_static(b"abc"))));
    }

    #[test]
    fn a_frame_fills_whole_sectors() {
        for (payload, len) in [(0, 512), (472, 512), (473, 1024), (984, 1024), (985, 1536)] {
            assert_eq!(frame(&vec![1; payload]).len(), len, "payload of {payload} bytes");
        }
    }

    #[test]
    fn zeros_fill_the_page_behind_a_frame_but_never_go_past_the_file() {
        for (file_len, written) in [(1 << 20, 4096 - 1024), (2048, 1024), (1536, 512)] {
            let sealed = sealed(b"abc", file_len);
            assert_eq!((sealed.bytes.len(), sealed.len), (written, 512));
            assert_eq!(sealed.bytes[..512], frame(b"abc"));
            assert!(sealed.bytes[512..].iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn every_flipped_bit_of_a_frame_is_noticed_padding_included() {
        let whole = frame(b"abc");
        for bit in 0..whole.len() * 8 {
            let mut damaged = whole.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&damaged.into()).is_err(), "bit {bit} was not noticed");
        }
    }

    #[test]
    fn a_frame_is_not_valid_in_a_segment_with_another_salt() {
        let whole = frame(b"abc");
        let head = FrameHead::read(&whole).expect("the head is sound");
        assert!(matches!(head.payload(&whole, 78), Err(FrameFault::Checksum { .. })));
    }
}
