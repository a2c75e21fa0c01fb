//! Building a store from the chunks of a snapshot.
//!
//! Nothing is taken on trust: each chunk has its checksum and its place, every row is looked at
//! before it is used, and at the end the hash of what was built must be the hash that the
//! snapshot's header states. Bytes that are not a snapshot give an error, never a panic and never
//! a store that is almost right.

use mainstay_codec::DecodeError;
use serde::de::DeserializeOwned;

use crate::{
    kept_outcome::KeptOutcome,
    key::Key,
    snapshot::{
        CHECKSUM_LEN, CHUNK_HEADER_LEN, ChunkKind, Header, IdempotencyRow, ImportRow, LeaseRow,
        ROW_HEADER_LEN, SNAPSHOT_FORMAT, SessionOutcomeRow, SessionRow,
    },
    store::Store,
    version::{Links, Position, Version, VersionRef},
};

/// More entries or revisions than any store lives to see; counting on from here cannot overflow.
const COUNT_MAX: u64 = u64::MAX / 2;

/// A store being built from a snapshot; see [`Store::snapshot_next`].
#[derive(Debug)]
pub struct StoreRestore {
    store: Store,
    header: Option<Header>,
    /// The number of the next chunk.
    next_chunk: u32,
    /// Kinds come in their order.
    kind: ChunkKind,
    last_position: Position,
    scratch: Vec<u8>,
}

/// Bytes that are not the next chunk of a snapshot, or not a whole one. What was built so far is
/// of no use: fetch the snapshot again, or another one.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Fewer bytes than every chunk has.
    #[error("{len} bytes are too few for a chunk of a snapshot")]
    Short {
        /// Bytes found.
        len: usize,
    },
    /// The checksum does not fit the bytes.
    #[error(
        "chunk {number} of the snapshot is damaged: checksum {found:#010x}, computed {computed:#010x}"
    )]
    Checksum {
        /// The number that was expected.
        number: u32,
        /// The checksum that the chunk carries.
        found: u32,
        /// The checksum of its bytes.
        computed: u32,
    },
    /// A chunk that is not the next one.
    #[error("chunk {found} of the snapshot came where chunk {expected} was due")]
    Order {
        /// The number that was expected.
        expected: u32,
        /// The number found.
        found: u32,
    },
    /// A chunk of a kind that does not belong there.
    #[error("chunk {number} of the snapshot has kind {kind}, which does not belong there")]
    Kind {
        /// The chunk.
        number: u32,
        /// Its kind.
        kind: u8,
    },
    /// Written by a newer version.
    #[error("snapshot format {found} is newer than this program knows ({SNAPSHOT_FORMAT})")]
    NewerFormat {
        /// The snapshot's format.
        found: u16,
    },
    /// A row that cannot be decoded.
    #[error("chunk {number} of the snapshot holds a malformed row")]
    Malformed {
        /// The chunk.
        number: u32,
        /// What the codec says.
        #[source]
        source: DecodeError,
    },
    /// A row that is cut off, or that contradicts what came before.
    #[error("chunk {number} of the snapshot holds a row that cannot be: {what}")]
    Contradiction {
        /// The chunk.
        number: u32,
        /// What is wrong.
        what: &'static str,
    },
    /// The last chunk is missing.
    #[error("the snapshot ends after {chunks} chunks, before its last")]
    Incomplete {
        /// Chunks seen.
        chunks: u32,
    },
    /// The state is not the one that the header describes.
    #[error("the snapshot's state has hash {computed:032x}, its header says {stated:032x}")]
    Hash {
        /// What the header says.
        stated: u128,
        /// The hash of what was built.
        computed: u128,
    },
}

impl StoreRestore {
    /// Waits for the first chunk.
    #[must_use]
    pub fn new() -> Self {
        Self {
            store: Store::new(),
            header: None,
            next_chunk: 0,
            kind: ChunkKind::Header,
            last_position: (0, 0),
            scratch: Vec::new(),
        }
    }

    /// Takes the next chunk, exactly as it was handed out.
    ///
    /// # Errors
    /// [`RestoreError`], after which the restore is of no use.
    pub fn push(&mut self, chunk: &[u8]) -> Result<(), RestoreError> {
        let Some((head, rows)) = chunk.split_first_chunk::<CHUNK_HEADER_LEN>() else {
            return Err(RestoreError::Short { len: chunk.len() });
        };
        let word =
            |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let number = self.next_chunk;
        let (found, computed) = (word(0), mainstay_codec::checksum(0, &chunk[CHECKSUM_LEN..]));
        if found != computed {
            return Err(RestoreError::Checksum { number, found, computed });
        }
        if word(CHECKSUM_LEN) != number {
            return Err(RestoreError::Order { expected: number, found: word(CHECKSUM_LEN) });
        }
        let kind = self.next_kind(head[CHUNK_HEADER_LEN - 1])?;
        self.kind = kind;
        self.next_chunk += 1;
        let mut rows = Rows { number, rest: rows };
        while let Some(row) = rows.next()? {
            let what = match kind {
                ChunkKind::Header => self.header(rows.decode(row)?)?,
                ChunkKind::Import => self.import(rows.decode(row)?),
                ChunkKind::Leases => self.lease(rows.decode(row)?),
                ChunkKind::Sessions => self.session(rows.decode(row)?),
                ChunkKind::SessionOutcomes => self.session_outcome(rows.decode(row)?),
                ChunkKind::IdempotencyKeys => self.idempotency_key(rows.decode(row)?),
                ChunkKind::Versions => self.version(rows.decode(row)?),
                ChunkKind::End => Err("the last chunk has no rows"),
            };
            what.map_err(|what| RestoreError::Contradiction { number, what })?;
        }
        if kind == ChunkKind::Header && self.header.is_none() {
            let what = "the first chunk has no header";
            return Err(RestoreError::Contradiction { number, what });
        }
        Ok(())
    }

    /// The store, if it is whole and its hash is the one that was stated.
    ///
    /// # Errors
    /// [`RestoreError`]; the snapshot cannot be used.
    pub fn finish(self) -> Result<Store, RestoreError> {
        let incomplete = RestoreError::Incomplete { chunks: self.next_chunk };
        let Some(header) = self.header.filter(|_| self.kind == ChunkKind::End) else {
            return Err(incomplete);
        };
        let (stated, computed) = (header.hash, self.store.hash());
        if stated != computed {
            return Err(RestoreError::Hash { stated, computed });
        }
        Ok(self.store)
    }

    fn next_kind(&self, kind: u8) -> Result<ChunkKind, RestoreError> {
        // In their order.
        const KINDS: [ChunkKind; 8] = [
            ChunkKind::Header,
            ChunkKind::Import,
            ChunkKind::Leases,
            ChunkKind::Sessions,
            ChunkKind::SessionOutcomes,
            ChunkKind::IdempotencyKeys,
            ChunkKind::Versions,
            ChunkKind::End,
        ];
        let first = self.next_chunk == 0;
        let ended = !first && self.kind == ChunkKind::End;
        let place = |kind: u8| KINDS.iter().position(|known| *known as u8 == kind);
        let place_before = place(self.kind as u8);
        place(kind)
            .filter(|place| Some(*place) >= place_before && !ended)
            .map(|place| KINDS[place])
            .filter(|kind| first == (*kind == ChunkKind::Header))
            .ok_or(RestoreError::Kind { number: self.next_chunk, kind })
    }

    fn header(&mut self, header: Header) -> Result<Result<(), &'static str>, RestoreError> {
        if header.format > SNAPSHOT_FORMAT {
            return Err(RestoreError::NewerFormat { found: header.format });
        }
        if self.header.is_some() {
            return Ok(Err("there is a second header"));
        }
        if header.settings.check().is_err() {
            return Ok(Err("its settings contradict themselves"));
        }
        if header.compact_revision > header.revision {
            return Ok(Err("its revisions contradict each other"));
        }
        if header.sequence > COUNT_MAX || header.revision > COUNT_MAX {
            return Ok(Err("it counts further than any store can have come"));
        }
        self.store.keyspace.revision = header.revision;
        self.store.keyspace.compact_revision = header.compact_revision;
        self.store.keyspace.sweep = header.sweep;
        self.store.sequence = header.sequence;
        self.store.clock_ms = header.clock_ms;
        self.store.wall_ms = header.wall_ms;
        self.store.set_settings(header.settings.clone());
        self.header = Some(header);
        Ok(Ok(()))
    }

    fn import(&mut self, row: ImportRow) -> Result<(), &'static str> {
        match self.store.import_source.replace(row.source) {
            None => Ok(()),
            Some(_) => Err("there are two imports"),
        }
    }

    fn lease(&mut self, row: LeaseRow) -> Result<(), &'static str> {
        if row.id == 0 || self.store.leases.contains(row.id) {
            return Err("a lease has no id of its own");
        }
        self.store.leases.insert(row.id, row.ttl_ms, row.deadline_ms);
        Ok(())
    }

    fn session(&mut self, row: SessionRow) -> Result<(), &'static str> {
        if self.store.sessions.session_from(row.id).is_some() {
            return Err("sessions do not ascend");
        }
        self.store.sessions.insert(row.id, row.last_write_ms, row.lowest_awaited);
        Ok(())
    }

    fn session_outcome(&mut self, row: SessionOutcomeRow<KeptOutcome>) -> Result<(), &'static str> {
        let digest = row.kept.digest(&mut self.scratch);
        self.store
            .sessions
            .keep(row.session, row.number, row.kept, digest)
            .ok_or("an outcome has no session, or comes twice")
    }

    fn idempotency_key(&mut self, row: IdempotencyRow<KeptOutcome>) -> Result<(), &'static str> {
        if self.store.idempotency.sequence_of(&row.key).is_some() {
            return Err("an idempotency key comes twice");
        }
        let digest = row.kept.digest(&mut self.scratch);
        self.store
            .idempotency
            .keep(row.key, row.applied_ms, row.kept, digest)
            .ok_or("two idempotency keys have one sequence")
    }

    fn version(&mut self, version: Version) -> Result<(), &'static str> {
        let keyspace = &mut self.store.keyspace;
        let position = version.position();
        if position <= self.last_position || version.mod_revision > keyspace.revision {
            return Err("versions do not ascend, or lie in the future");
        }
        if version.version > version.mod_revision {
            return Err("a version counts more writes than there were");
        }
        self.last_position = position;
        let is_tombstone = version.is_tombstone();
        let (lease, bytes) = (version.lease, version.logical_bytes());
        let reference = VersionRef::new(keyspace.log.next_ordinal(), is_tombstone);
        let newest = keyspace.index.get_mut(&version.key);
        let previous = newest.map(|newest| std::mem::replace(newest, reference));
        let before = previous.and_then(|previous| keyspace.log.get(previous.ordinal()));
        let lease_before = before.map_or(0, |before| before.lease);
        let replaced = before.is_some_and(|before| !before.is_tombstone());
        let links = previous.map_or(Links::NONE, |before| keyspace.log.links_after(before));
        let version = Version {
            // Versions of a key share its bytes.
            key: before.map_or_else(|| version.key.clone(), |before| before.key.clone()),
            ..version
        };
        let version = version.linked(links);
        let key: Key = version.key.clone();
        keyspace.live_count += u64::from(!is_tombstone);
        keyspace.live_count -= u64::from(replaced);
        keyspace.bytes += bytes;
        keyspace.log.push(version);
        if previous.is_none() {
            keyspace.index.insert(key.clone(), reference);
        }
        // Leases that ended long ago are named only by versions that are not the newest.
        self.store.leases.detach(&key, lease_before);
        self.store.leases.attach(key, lease);
        Ok(())
    }
}

impl Default for StoreRestore {
    fn default() -> Self {
        Self::new()
    }
}

/// The rows of a chunk.
struct Rows<'a> {
    number: u32,
    rest: &'a [u8],
}

impl<'a> Rows<'a> {
    fn next(&mut self) -> Result<Option<&'a [u8]>, RestoreError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let row = self.rest.split_first_chunk::<ROW_HEADER_LEN>().and_then(|(len, rest)| {
            let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
            rest.split_at_checked(len)
        });
        let Some((row, rest)) = row else {
            let what = "it ends early";
            return Err(RestoreError::Contradiction { number: self.number, what });
        };
        self.rest = rest;
        Ok(Some(row))
    }

    fn decode<T: DeserializeOwned>(&self, row: &[u8]) -> Result<T, RestoreError> {
        let number = self.number;
        mainstay_codec::decode(row, row.len())
            .map_err(|source| RestoreError::Malformed { number, source })
    }
}
