//! The bytes of a snapshot file.
//!
//! A snapshot is a file header, a head, chunks, and an end; each of the last three is a record.
//! Layout of a record, little endian:
//!
//! ```text
//! 0   kind: 1 head, 2 chunk, 3 end   u8
//! 1   zeros                          3 bytes
//! 4   body length                    u32
//! 8   CRC32C                         u32, of bytes 0..8 and the body, continuing from the record
//!                                    before; the first continues from the file header's
//! 12  body
//! ```
//!
//! So a record that is lost, moved or repeated breaks the chain. The head's body is a
//! [`SnapshotHead`] in the codec's form; a chunk's body is bytes to this crate. The end stands in
//! the last 44 bytes of the file and can be checked without reading what lies before it; its body:
//!
//! ```text
//! 0   number of chunks               u64
//! 8   bytes of all chunks' bodies    u64
//! 16  a log frame known as synced    u64, 0 if none was: a proof that it was there
//! 24  zeros                          u32
//! 28  CRC32C of the record, its own chained checksum (bytes 8..12) left out
//! ```

use bytes::{Bytes, BytesMut};
use mainstay_codec::checksum;
use serde::{Deserialize, Serialize};

use crate::{entry::LogPosition, identity::ForeignFile};

/// The newest format of snapshots that this program reads, and the one it writes.
pub(crate) const SNAPSHOT_FORMAT: u16 = 1;
/// Bytes in front of a record's body.
pub(crate) const SNAPSHOT_RECORD_LEN: usize = 12;
/// Bytes of the whole end record.
pub(crate) const SNAPSHOT_END_LEN: usize = SNAPSHOT_RECORD_LEN + END_BODY_LEN;
/// Largest chunk in bytes.
pub const SNAPSHOT_CHUNK_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Largest meta record in bytes.
pub const SNAPSHOT_META_BYTES_MAX: usize = 1024 * 1024;

const END_BODY_LEN: usize = 32;
const OWN_CHECKSUM_AT: usize = SNAPSHOT_END_LEN - 4;
const KIND_HEAD: u8 = 1;
const KIND_CHUNK: u8 = 2;
const KIND_END: u8 = 3;

/// What a snapshot is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapshotHead {
    /// The last entry that the snapshot covers; `None` for the state before any entry.
    pub(crate) last: Option<LogPosition>,
    /// What the layers above put in.
    pub(crate) meta: Bytes,
}

/// What a snapshot ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct SnapshotEnd {
    pub(crate) chunks: u64,
    pub(crate) bytes: u64,
    pub(crate) synced_frame: u64,
}

/// Why a file is not the snapshot that it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SnapshotFault {
    #[error(transparent)]
    Foreign(#[from] ForeignFile),
    #[error("the end of the snapshot is missing or damaged")]
    End,
    #[error("the head of the snapshot is missing or damaged")]
    Head,
    #[error("a record's checksum is {found:#010x}, computed {computed:#010x}")]
    Checksum { found: u32, computed: u32 },
    #[error("a record of kind {0} that should not be here")]
    Kind(u8),
    #[error("a record that is longer than it may be")]
    Length,
    #[error("the chunks are not those that the end counts")]
    Count,
}

/// The head of a record, its body not read yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordHead {
    pub(crate) kind: SnapshotRecordKind,
    pub(crate) body_len: usize,
    checksum: u32,
}

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SnapshotRecordKind {
    Head,
    Chunk,
    End,
}

impl SnapshotRecordKind {
    const fn number(self) -> u8 {
        match self {
            Self::Head => KIND_HEAD,
            Self::Chunk => KIND_CHUNK,
            Self::End => KIND_END,
        }
    }

    const fn body_len_max(self) -> usize {
        match self {
            Self::Head => SNAPSHOT_META_BYTES_MAX + 64,
            Self::Chunk => SNAPSHOT_CHUNK_BYTES_MAX,
            Self::End => END_BODY_LEN,
        }
    }
}

impl RecordHead {
    /// Reads the head in front of `bytes`.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, SnapshotFault> {
        let Some(head) = bytes.first_chunk::<SNAPSHOT_RECORD_LEN>() else {
            return Err(SnapshotFault::Length);
        };
        let kind = match head[0] {
            KIND_HEAD => SnapshotRecordKind::Head,
            KIND_CHUNK => SnapshotRecordKind::Chunk,
            KIND_END => SnapshotRecordKind::End,
            unknown => return Err(SnapshotFault::Kind(unknown)),
        };
        let body_len = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        if head[1..4] != [0; 3] || body_len > kind.body_len_max() {
            return Err(SnapshotFault::Length);
        }
        let checksum = u32::from_le_bytes([head[8], head[9], head[10], head[11]]);
        Ok(Self { kind, body_len, checksum })
    }

    /// Checks the body against the chain so far, and gives the chain with it.
    pub(crate) fn check(&self, chain: u32, body: &[u8]) -> Result<u32, SnapshotFault> {
        let head = record_front(self.kind, body.len());
        let computed = checksum(checksum(chain, &head), body);
        if computed == self.checksum {
            Ok(computed)
        } else {
            Err(SnapshotFault::Checksum { found: self.checksum, computed })
        }
    }
}

/// The bytes in front of a body, and the chain with the record.
pub(crate) fn record_head(
    kind: SnapshotRecordKind,
    chain: u32,
    body: &[u8],
) -> ([u8; SNAPSHOT_RECORD_LEN], u32) {
    let front = record_front(kind, body.len());
    let chain = checksum(checksum(chain, &front), body);
    let mut head = [0; SNAPSHOT_RECORD_LEN];
    head[..8].copy_from_slice(&front);
    head[8..].copy_from_slice(&chain.to_le_bytes());
    (head, chain)
}

/// The whole end record.
pub(crate) fn end_record(end: &SnapshotEnd, chain: u32) -> Bytes {
    let mut record = BytesMut::zeroed(SNAPSHOT_END_LEN);
    record[..8].copy_from_slice(&record_front(SnapshotRecordKind::End, END_BODY_LEN));
    record[12..20].copy_from_slice(&end.chunks.to_le_bytes());
    record[20..28].copy_from_slice(&end.bytes.to_le_bytes());
    record[28..36].copy_from_slice(&end.synced_frame.to_le_bytes());
    let own = end_checksum(&record);
    record[OWN_CHECKSUM_AT..].copy_from_slice(&own.to_le_bytes());
    let (head, _chain) =
        record_head(SnapshotRecordKind::End, chain, &record[SNAPSHOT_RECORD_LEN..]);
    record[..SNAPSHOT_RECORD_LEN].copy_from_slice(&head);
    record.freeze()
}

/// Reads the last bytes of a snapshot by themselves.
pub(crate) fn read_end(record: &[u8]) -> Result<SnapshotEnd, SnapshotFault> {
    let Some(record) = record.first_chunk::<SNAPSHOT_END_LEN>() else {
        return Err(SnapshotFault::End);
    };
    let head = RecordHead::read(record).map_err(|_fault| SnapshotFault::End)?;
    let own = &record[OWN_CHECKSUM_AT..];
    if head.kind != SnapshotRecordKind::End
        || head.body_len != END_BODY_LEN
        || own != end_checksum(record).to_le_bytes()
    {
        return Err(SnapshotFault::End);
    }
    let word = |at: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&record[at..at + 8]);
        u64::from_le_bytes(word)
    };
    Ok(SnapshotEnd { chunks: word(12), bytes: word(20), synced_frame: word(28) })
}

fn end_checksum(record: &[u8]) -> u32 {
    checksum(checksum(0, &record[..8]), &record[SNAPSHOT_RECORD_LEN..OWN_CHECKSUM_AT])
}

fn record_front(kind: SnapshotRecordKind, body_len: usize) -> [u8; 8] {
    let len = u32::try_from(body_len).expect("bodies are bounded far below 4 GiB");
    let mut front = [0; 8];
    front[0] = kind.number();
    front[4..].copy_from_slice(&len.to_le_bytes());
    front
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes_of_a_chunk() {
        let (head, chain) = record_head(SnapshotRecordKind::Chunk, 7, b"abc");
        assert_eq!(head[..8], [2, 0, 0, 0, 3, 0, 0, 0]);
        assert_eq!(head[8..], chain.to_le_bytes());
        assert_eq!(chain, checksum(7, b"\x02\0\0\0\x03\0\0\0abc"));
        let read = RecordHead::read(&head).expect("reads");
        assert_eq!((read.kind, read.body_len), (SnapshotRecordKind::Chunk, 3));
        assert_eq!(read.check(7, b"abc"), Ok(chain));
        assert!(read.check(8, b"abc").is_err(), "the chain is part of the checksum");
    }

    #[test]
    fn golden_bytes_of_a_head() {
        let head = SnapshotHead {
            last: Some(LogPosition { index: 7, term: 300 }),
            meta: Bytes::from_static(b"ab"),
        };
        let golden = [1, 7, 251, 44, 1, 2, b'a', b'b'];
        assert_eq!(mainstay_codec::encode(&head).expect("encodes"), golden);
        assert_eq!(mainstay_codec::decode::<SnapshotHead>(&golden, 64).expect("decodes"), head);
    }

    #[test]
    fn golden_bytes_of_an_end() {
        let end = SnapshotEnd { chunks: 2, bytes: 300, synced_frame: 9 };
        let record = end_record(&end, 7);
        assert_eq!(record.len(), 44);
        assert_eq!(record[..8], [3, 0, 0, 0, 32, 0, 0, 0]);
        assert_eq!(record[12..20], [2, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(record[20..28], [44, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(record[28..40], [9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(read_end(&record), Ok(end));
        let head = RecordHead::read(&record).expect("reads");
        head.check(7, &record[SNAPSHOT_RECORD_LEN..]).expect("is chained too");
    }

    #[test]
    fn every_flipped_bit_of_an_end_is_noticed() {
        let record = end_record(&SnapshotEnd { chunks: 2, bytes: 300, synced_frame: 9 }, 7);
        for bit in 0..record.len() * 8 {
            let mut damaged = record.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let whole = RecordHead::read(&damaged)
                .and_then(|head| head.check(7, &damaged[SNAPSHOT_RECORD_LEN..]));
            assert!(read_end(&damaged).is_err() || whole.is_err(), "bit {bit} was not noticed");
        }
    }

    #[test]
    fn a_body_longer_than_allowed_is_refused_before_it_is_read() {
        let mut head = record_head(SnapshotRecordKind::Chunk, 0, b"").0;
        head[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(RecordHead::read(&head), Err(SnapshotFault::Length));
    }
}
