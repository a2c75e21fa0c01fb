//! The records inside a frame.
//!
//! Each is `kind u8, length u32 (little endian), body`. An entry's body is `index u64, term u64,
//! payload`, laid out by hand so that a payload is written once and read without a copy; the other
//! bodies are small and go through [`mainstay_codec`]. Kinds once written are permanent.
//!
//! In one frame every [`Record::Truncate`] and [`Record::Purge`] stands before the entries, so the
//! entries of a frame are one run of indexes.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::entry::{LogEntry, LogPosition};

/// Bytes in front of a record's body.
pub(crate) const RECORD_HEADER_LEN: usize = 5;
/// Bytes of an entry's body in front of its payload.
const ENTRY_HEADER_LEN: usize = 16;
/// The longest body of the records that go through the codec.
const SMALL_BODY_MAX: usize = 256;

/// One fact about the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record {
    /// Where the log stood when the segment began: the first record of each segment.
    Base(Base),
    /// One entry.
    Entry(LogEntry),
    /// Everything after this position is gone; `None`: everything after the purge point.
    Truncate(Option<LogPosition>),
    /// Everything up to this position is gone; if the log does not hold it, everything is.
    Purge(LogPosition),
    /// The commit index as the layers above knew it. Follows the entry that it names.
    Committed(LogPosition),
}

/// The log at the beginning of a segment, so that the segments before it can be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Base {
    /// The frame that the segment follows; `None` in the first segment of a folder.
    pub(crate) predecessor: Option<Predecessor>,
    pub(crate) purged: Option<LogPosition>,
    pub(crate) last: Option<LogPosition>,
    pub(crate) committed: Option<LogPosition>,
}

/// Where the log ends in an older segment. What stands behind it there does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Predecessor {
    pub(crate) segment: u64,
    pub(crate) sequence: u64,
    /// Offset behind the last frame that counts.
    pub(crate) end: u64,
    pub(crate) checksum: u32,
}

/// A payload whose checksum is right and whose records are not: a fault of the program that wrote
/// it, or of a newer one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RecordFault {
    #[error("a record of unknown kind {0}; it was written by a newer version")]
    Kind(u8),
    #[error("a record that is cut short")]
    Short,
    #[error("a record of kind {0} that cannot be decoded")]
    Body(u8),
}

const KIND_BASE: u8 = 1;
const KIND_ENTRY: u8 = 2;
const KIND_TRUNCATE: u8 = 3;
const KIND_PURGE: u8 = 4;
const KIND_COMMITTED: u8 = 5;

impl Record {
    /// More bytes than any record but an entry takes.
    pub(crate) const SMALL_LEN_MAX: usize = 128;

    /// Bytes that [`Record::write`] appends, at most.
    pub(crate) fn len_max(&self) -> usize {
        match self {
            Self::Entry(entry) => entry_record_len(entry),
            Self::Base(_) | Self::Truncate(_) | Self::Purge(_) | Self::Committed(_) => {
                Self::SMALL_LEN_MAX
            }
        }
    }

    /// Appends the record to a frame's payload.
    pub(crate) fn write(&self, payload: &mut Vec<u8>) {
        match self {
            Self::Base(base) => write_small(KIND_BASE, base, payload),
            Self::Entry(entry) => write_entry(entry, payload),
            Self::Truncate(last) => write_small(KIND_TRUNCATE, last, payload),
            Self::Purge(upto) => write_small(KIND_PURGE, upto, payload),
            Self::Committed(committed) => write_small(KIND_COMMITTED, committed, payload),
        }
    }

    /// Takes the next record off a frame's payload; the entry's payload shares its memory.
    pub(crate) fn read(payload: &mut Bytes) -> Result<Self, RecordFault> {
        if payload.len() < RECORD_HEADER_LEN {
            return Err(RecordFault::Short);
        }
        let head = payload.split_to(RECORD_HEADER_LEN);
        let kind = head[0];
        let len = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if payload.len() < len {
            return Err(RecordFault::Short);
        }
        let body = payload.split_to(len);
        match kind {
            KIND_BASE => Ok(Self::Base(read_small(kind, &body)?)),
            KIND_ENTRY => read_entry(body).map(Self::Entry),
            KIND_TRUNCATE => Ok(Self::Truncate(read_small(kind, &body)?)),
            KIND_PURGE => Ok(Self::Purge(read_small(kind, &body)?)),
            KIND_COMMITTED => Ok(Self::Committed(read_small(kind, &body)?)),
            unknown => Err(RecordFault::Kind(unknown)),
        }
    }
}

/// All records of a frame's payload.
pub(crate) fn read_records(mut payload: Bytes) -> Result<Vec<Record>, RecordFault> {
    let mut records = Vec::new();
    while !payload.is_empty() {
        records.push(Record::read(&mut payload)?);
    }
    Ok(records)
}

/// Bytes that an entry takes inside a frame.
pub(crate) const fn entry_record_len(entry: &LogEntry) -> usize {
    RECORD_HEADER_LEN + ENTRY_HEADER_LEN + entry.payload.len()
}

fn write_entry(entry: &LogEntry, payload: &mut Vec<u8>) {
    write_head(KIND_ENTRY, ENTRY_HEADER_LEN + entry.payload.len(), payload);
    payload.extend_from_slice(&entry.index.to_le_bytes());
    payload.extend_from_slice(&entry.term.to_le_bytes());
    payload.extend_from_slice(&entry.payload);
}

fn read_entry(mut body: Bytes) -> Result<LogEntry, RecordFault> {
    let Some((index, rest)) = body.split_first_chunk() else { return Err(RecordFault::Short) };
    let Some((term, _payload)) = rest.split_first_chunk() else { return Err(RecordFault::Short) };
    let (index, term) = (u64::from_le_bytes(*index), u64::from_le_bytes(*term));
    Ok(LogEntry { index, term, payload: body.split_off(ENTRY_HEADER_LEN) })
}

fn write_small<T: Serialize>(kind: u8, body: &T, payload: &mut Vec<u8>) {
    let body = mainstay_codec::encode(body).expect("the small records have no sequences");
    write_head(kind, body.len(), payload);
    payload.extend_from_slice(&body);
}

fn read_small<T: for<'de> Deserialize<'de>>(kind: u8, body: &[u8]) -> Result<T, RecordFault> {
    mainstay_codec::decode(body, SMALL_BODY_MAX).map_err(|_malformed| RecordFault::Body(kind))
}

fn write_head(kind: u8, len: usize, payload: &mut Vec<u8>) {
    let len = u32::try_from(len).expect("an entry is far below 4 GiB: appends are checked");
    payload.push(kind);
    payload.extend_from_slice(&len.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: LogPosition = LogPosition { index: 7, term: 3 };

    fn samples() -> Vec<(Record, &'static [u8])> {
        let base = Base {
            predecessor: Some(Predecessor { segment: 1, sequence: 2, end: 1024, checksum: 255 }),
            purged: None,
            last: Some(AT),
            committed: Some(AT),
        };
        let entry = LogEntry { index: 7, term: 3, payload: Bytes::from_static(b"ab") };
        vec![
            (
                Record::Base(base),
                &[1, 16, 0, 0, 0, 1, 1, 2, 251, 0, 4, 251, 255, 0, 0, 1, 7, 3, 1, 7, 3],
            ),
            (
                Record::Entry(entry),
                &[2, 18, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, b'a', b'b'],
            ),
            (Record::Truncate(Some(AT)), &[3, 3, 0, 0, 0, 1, 7, 3]),
            (Record::Truncate(None), &[3, 1, 0, 0, 0, 0]),
            (Record::Purge(AT), &[4, 2, 0, 0, 0, 7, 3]),
            (Record::Committed(AT), &[5, 2, 0, 0, 0, 7, 3]),
        ]
    }

    #[test]
    fn golden_bytes_of_every_record() {
        for (record, golden) in samples() {
            let mut payload = Vec::new();
            record.write(&mut payload);
            assert_eq!(payload, golden, "{record:?}");
            assert!(payload.len() <= record.len_max());
            assert_eq!(read_records(Bytes::from_static(golden)), Ok(vec![record]));
        }
    }

    #[test]
    fn every_prefix_of_a_record_is_refused() {
        for (record, golden) in samples() {
            for end in 1..golden.len() {
                assert!(read_records(Bytes::from_static(&golden[..end])).is_err(), "{record:?}");
            }
        }
    }

    #[test]
    fn an_unknown_kind_is_named() {
        assert_eq!(read_records(Bytes::from_static(&[9, 0, 0, 0, 0])), Err(RecordFault::Kind(9)));
    }
}
