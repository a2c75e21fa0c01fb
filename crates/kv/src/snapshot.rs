//! Taking a snapshot without stopping the store.
//!
//! [`Store::snapshot_begin`] fixes the moment; [`Store::snapshot_next`] then hands out the state
//! of that moment in chunks, while further entries are applied. Versions and idempotency keys
//! never change, so they are read where they lie, up to the newest of that moment; what is freed
//! meanwhile is set aside until [`Store::snapshot_end`]. Sessions are shared, and copied by
//! whoever changes one first; leases are copied, three numbers each.
//!
//! A snapshot is a sequence of chunks. Each of them is, little endian:
//!
//! ```text
//! 0   CRC32C of everything behind it    u32
//! 4   number of the chunk, from 0       u32
//! 8   kind                              u8
//! 9   rows, each a length as u32 and that many bytes of codec
//! ```
//!
//! The first holds one row, a [`Header`], which says what the rest must add up to. While an import
//! lasts, a chunk with its source follows, and the format is 2 instead of 1. Then come leases by
//! id, sessions by id, their outcomes, idempotency keys by sequence, and versions by position. The
//! last chunk is empty and says that nothing is missing. Where the bytes are kept, and under what
//! file header, is not known here.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    key::Key, session::Session, settings::Settings, store::Store, version::Position,
    version_log::LogPin,
};

/// The newest snapshot format that this version writes and reads.
pub const SNAPSHOT_FORMAT: u16 = 2;

/// The format of a snapshot with nothing in it that came later.
const PLAIN_FORMAT: u16 = 1;

/// Length of what stands in front of a chunk's content.
pub(crate) const CHUNK_HEADER_LEN: usize = 9;

/// The checksum's part of it.
pub(crate) const CHECKSUM_LEN: usize = 4;

/// Length of what stands in front of a row.
pub(crate) const ROW_HEADER_LEN: usize = 4;

/// What a chunk holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChunkKind {
    Header = 0,
    Leases = 1,
    Sessions = 2,
    SessionOutcomes = 3,
    IdempotencyKeys = 4,
    Versions = 5,
    End = 6,
    /// After the header.
    Import = 7,
}

/// The first chunk: where the state stands, and what the rows must add up to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Header {
    pub(crate) format: u16,
    pub(crate) sequence: u64,
    pub(crate) revision: u64,
    pub(crate) compact_revision: u64,
    pub(crate) sweep: Option<Position>,
    pub(crate) clock_ms: u64,
    pub(crate) wall_ms: u64,
    pub(crate) settings: Settings,
    pub(crate) hash: u128,
}

/// The import that is going on.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct ImportRow {
    pub(crate) source: u64,
}

/// A lease; its keys follow from the versions.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct LeaseRow {
    pub(crate) id: u64,
    pub(crate) ttl_ms: u64,
    pub(crate) deadline_ms: u64,
}

/// A session without its outcomes.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct SessionRow {
    pub(crate) id: u64,
    pub(crate) last_write_ms: u64,
    pub(crate) lowest_awaited: u64,
}

/// An outcome of a session; `K` is a kept outcome, or a reference to one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SessionOutcomeRow<K> {
    pub(crate) session: u64,
    pub(crate) number: u64,
    pub(crate) kept: K,
}

/// An idempotency key; the outcome knows its sequence.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct IdempotencyRow<K> {
    pub(crate) key: Key,
    pub(crate) applied_ms: u64,
    pub(crate) kept: K,
}

/// A snapshot on its way out; made by [`Store::snapshot_begin`].
#[derive(Debug)]
pub struct SnapshotWalk {
    /// Shared with the store's [`Pin`], which so knows its walk, and notices when it is gone.
    token: Arc<()>,
    log: LogPin,
    header: Header,
    bytes_estimate: u64,
    stage: Stage,
    chunk_number: u32,
    import_source: Option<u64>,
    leases: Vec<LeaseRow>,
    sessions: Vec<Arc<Session>>,
    /// How far the rows of the present stage are written.
    position: (u64, usize),
}

/// The store's side of a walk.
#[derive(Debug)]
pub(crate) struct Pin {
    token: Arc<()>,
    log: LogPin,
}

impl Pin {
    /// A pin of the log, and what its walk holds on to.
    pub(crate) fn new(log: LogPin) -> (Self, Arc<()>) {
        let token = Arc::new(());
        (Self { token: Arc::clone(&token), log }, token)
    }

    pub(crate) const fn log(&self) -> LogPin {
        self.log
    }

    /// Whether it is the one of a walk that holds `token`.
    pub(crate) fn is_of(&self, token: &Arc<()>) -> bool {
        Arc::ptr_eq(&self.token, token)
    }

    /// Whether its walk is gone.
    pub(crate) fn is_abandoned(&self) -> bool {
        Arc::strong_count(&self.token) == 1
    }
}

/// What the next chunk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Header,
    Import,
    Leases,
    Sessions,
    SessionOutcomes,
    IdempotencyKeys,
    Versions,
    End,
    Finished,
}

impl SnapshotWalk {
    /// The sequence that the snapshot is of.
    #[must_use]
    pub const fn sequence(&self) -> u64 {
        self.header.sequence
    }

    /// The revision that the snapshot is of.
    #[must_use]
    pub const fn revision(&self) -> u64 {
        self.header.revision
    }

    /// The hash of the state at that moment.
    #[must_use]
    pub const fn hash(&self) -> u128 {
        self.header.hash
    }

    /// Logical bytes of the state at that moment; the chunks are somewhat smaller together.
    #[must_use]
    pub const fn bytes_estimate(&self) -> u64 {
        self.bytes_estimate
    }

    /// Whether all chunks were handed out.
    #[must_use]
    pub const fn is_finished(&self) -> bool {
        matches!(self.stage, Stage::Finished)
    }
}

impl Store {
    /// Fixes this moment for a snapshot. From now on memory that compaction frees is kept until
    /// the walk is ended or dropped.
    ///
    /// # Panics
    /// If another walk of this store is still on: there is one at a time.
    pub fn snapshot_begin(&mut self) -> SnapshotWalk {
        self.release_abandoned_walk();
        assert!(self.pin.is_none(), "a store has one snapshot walk at a time");
        let log = self.keyspace.log.pin();
        let (pin, token) = Pin::new(log);
        self.pin = Some(pin);
        self.idempotency.pin(self.sequence);
        let lease = |(id, ttl_ms, deadline_ms)| LeaseRow { id, ttl_ms, deadline_ms };
        SnapshotWalk {
            token,
            log,
            header: Header {
                format: if self.import_source.is_some() { SNAPSHOT_FORMAT } else { PLAIN_FORMAT },
                sequence: self.sequence,
                revision: self.revision(),
                compact_revision: self.compact_revision(),
                sweep: self.keyspace.sweep,
                clock_ms: self.clock_ms,
                wall_ms: self.wall_ms,
                settings: self.settings().clone(),
                hash: self.hash(),
            },
            bytes_estimate: self.space().bytes,
            stage: Stage::Header,
            chunk_number: 0,
            import_source: self.import_source,
            leases: self.leases.rows().map(lease).collect(),
            sessions: self.sessions.share(),
            position: (0, 0),
        }
    }

    /// The next chunk, of about `bytes_budget` bytes and at least one row; `None` at the end, or
    /// if the walk is not one of this store (see [`SnapshotWalk::is_finished`]).
    pub fn snapshot_next(&self, walk: &mut SnapshotWalk, bytes_budget: usize) -> Option<Bytes> {
        if !self.is_walked_by(walk) {
            return None;
        }
        loop {
            let chunk = self.chunk(walk, bytes_budget.max(1));
            let next = match (walk.stage, &chunk) {
                (Stage::Finished, _) => return None,
                (Stage::Header, _) => Stage::Import,
                (Stage::Import, _) => Stage::Leases,
                (Stage::Leases, None) => Stage::Sessions,
                (Stage::Sessions, None) => Stage::SessionOutcomes,
                (Stage::SessionOutcomes, None) => Stage::IdempotencyKeys,
                (Stage::IdempotencyKeys, None) => Stage::Versions,
                (Stage::Versions, None) => Stage::End,
                (Stage::End, _) => Stage::Finished,
                (stage, Some(_)) => stage,
            };
            if next != walk.stage {
                walk.stage = next;
                walk.position = (0, 0);
            }
            if chunk.is_some() {
                walk.chunk_number += 1;
                return chunk;
            }
        }
    }

    /// Ends a walk, finished or not, and frees what was kept for it.
    #[expect(clippy::needless_pass_by_value, reason = "an ended walk must not go on")]
    pub fn snapshot_end(&mut self, walk: SnapshotWalk) {
        if self.is_walked_by(&walk) {
            self.release_walk();
        }
    }

    pub(crate) fn release_abandoned_walk(&mut self) {
        if self.pin.as_ref().is_some_and(Pin::is_abandoned) {
            self.release_walk();
        }
    }

    fn release_walk(&mut self) {
        let Some(pin) = self.pin.take() else { return };
        self.keyspace.log.unpin(pin.log);
        self.idempotency.unpin();
    }

    fn is_walked_by(&self, walk: &SnapshotWalk) -> bool {
        self.pin.as_ref().is_some_and(|pin| pin.is_of(&walk.token))
    }

    /// The next chunk of the present stage; `None` if it has no more rows.
    fn chunk(&self, walk: &mut SnapshotWalk, budget: usize) -> Option<Bytes> {
        let number = walk.chunk_number;
        let chunk = |kind| ChunkWriter::new(number, kind, budget);
        let (ordinal, index) = walk.position;
        match walk.stage {
            Stage::Header => {
                let mut chunk = chunk(ChunkKind::Header);
                chunk.push(&walk.header);
                Some(chunk.finish())
            }
            Stage::Import => {
                let row = walk.import_source.map(|source| ((), ImportRow { source }));
                chunk(ChunkKind::Import).rows(row.into_iter(), |()| ())
            }
            Stage::Leases => {
                let rows = walk.leases[index..].iter().enumerate();
                chunk(ChunkKind::Leases).rows(rows, |at| walk.position.1 = index + at + 1)
            }
            Stage::Sessions => {
                let rows = walk.sessions[index..].iter().map(|session| {
                    let (id, last_write_ms, lowest_awaited) = session.row();
                    SessionRow { id, last_write_ms, lowest_awaited }
                });
                let rows = rows.enumerate();
                chunk(ChunkKind::Sessions).rows(rows, |at| walk.position.1 = index + at + 1)
            }
            Stage::SessionOutcomes => {
                // The position is a session's index and the number of its outcomes written.
                let first = usize::try_from(ordinal).expect("an index into a vector");
                let rest = walk.sessions[first.min(walk.sessions.len())..].iter().enumerate();
                let rows = rest.flat_map(move |(at, session)| {
                    let written = if at == 0 { index } else { 0 };
                    let (id, ..) = session.row();
                    let outcomes = session.outcomes_from(written).enumerate();
                    outcomes.map(move |(place, (number, kept))| {
                        let row = SessionOutcomeRow { session: id, number, kept };
                        ((first + at, written + place + 1), row)
                    })
                });
                chunk(ChunkKind::SessionOutcomes)
                    .rows(rows, |(at, place)| walk.position = (at as u64, place))
            }
            Stage::IdempotencyKeys => {
                let rows = self.idempotency.pinned_from(ordinal).map(|(sequence, row)| {
                    let (key, applied_ms) = (row.key.clone(), row.applied_ms);
                    (sequence, IdempotencyRow { key, applied_ms, kept: &row.kept })
                });
                chunk(ChunkKind::IdempotencyKeys)
                    .rows(rows, |sequence| walk.position.0 = sequence + 1)
            }
            Stage::Versions => {
                let rows = self.keyspace.log.pinned_from(walk.log, ordinal);
                chunk(ChunkKind::Versions).rows(rows, |ordinal| walk.position.0 = ordinal + 1)
            }
            Stage::End => Some(chunk(ChunkKind::End).finish()),
            Stage::Finished => None,
        }
    }
}

/// One chunk being filled.
struct ChunkWriter {
    bytes: Vec<u8>,
    budget: usize,
}

impl ChunkWriter {
    fn new(number: u32, kind: ChunkKind, budget: usize) -> Self {
        let mut bytes = vec![0; CHECKSUM_LEN];
        bytes.extend(number.to_le_bytes());
        bytes.push(kind as u8);
        Self { bytes, budget }
    }

    /// Writes rows until the budget is used up and reports the place of each; `None` if there
    /// was none.
    fn rows<P, R: Serialize>(
        mut self,
        rows: impl Iterator<Item = (P, R)>,
        mut written: impl FnMut(P),
    ) -> Option<Bytes> {
        let mut rows = rows.peekable();
        rows.peek()?;
        for (place, row) in rows {
            self.push(&row);
            written(place);
            if self.bytes.len() >= self.budget {
                break;
            }
        }
        Some(self.finish())
    }

    fn push<R: Serialize>(&mut self, row: &R) {
        let at = self.bytes.len();
        self.bytes.extend([0; ROW_HEADER_LEN]);
        mainstay_codec::encode_into(row, &mut self.bytes)
            .expect("the store's types have no sequences of unknown length");
        let len = u32::try_from(self.bytes.len() - at - ROW_HEADER_LEN)
            .expect("a row is bounded by the limits on keys, values and answers");
        self.bytes[at..at + ROW_HEADER_LEN].copy_from_slice(&len.to_le_bytes());
    }

    fn finish(mut self) -> Bytes {
        let checksum = mainstay_codec::checksum(0, &self.bytes[CHECKSUM_LEN..]);
        self.bytes[..CHECKSUM_LEN].copy_from_slice(&checksum.to_le_bytes());
        Bytes::from(self.bytes)
    }
}
