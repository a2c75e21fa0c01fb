//! The slow check of what lies in memory against the hash that is kept up to date.
//!
//! `apply` keeps the hash of the state by adding and removing rows, and never looks at the rest
//! again: a bit that flips in a row stays unnoticed. A scrub hashes all rows anew, a slice at a
//! time, while the store goes on changing between the slices. That works because the hash is a
//! sum whose parts are known: every chunk of the log, every session and every idempotency key
//! carries the sum of its own rows. A slice compares some of these parts with their rows, in one
//! moment; the last slice compares the sum of all parts with the hash of the state, in one moment
//! too. Leases are few words each and are summed up in that last slice.
//!
//! Each version is also looked up by its key, so damage to the index does not pass.

use crate::{
    state_hash::StateHash,
    store::Store,
    version::{ROW_OVERHEAD_BYTES, VersionRef},
};

/// A check in progress; it may be dropped at any time.
#[derive(Debug)]
pub struct Scrub {
    stage: Stage,
    bytes: u64,
    scratch: Vec<u8>,
}

/// How far a check has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScrubProgress {
    /// Nothing wrong so far, and more to look at.
    Running {
        /// Logical bytes looked at.
        bytes: u64,
    },
    /// Everything was looked at, and nothing is wrong.
    Sound {
        /// Logical bytes looked at.
        bytes: u64,
    },
    /// Memory does not hold what was applied. The store must not be served from any more.
    Damaged(ScrubDamage),
}

/// Where memory does not hold what was applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScrubDamage {
    /// In versions of keys.
    Versions {
        /// The revision of the first version of the part where the damage is.
        from_revision: u64,
    },
    /// In the index: a version is not found by its key.
    Index {
        /// The revision of the version.
        revision: u64,
    },
    /// In a session.
    Session {
        /// The session.
        id: u64,
    },
    /// In an idempotency key.
    IdempotencyKey {
        /// The sequence of its first application.
        sequence: u64,
    },
    /// In the leases, or in the sums themselves.
    Sums,
}

/// What is looked at next.
#[derive(Debug, Clone, Copy)]
enum Stage {
    /// The chunk at or after an ordinal.
    Versions(u64),
    /// The session at or after an id.
    Sessions(u64),
    /// The row at or after a sequence.
    IdempotencyKeys(u64),
    Sums,
}

impl Scrub {
    /// Begins a check of a store, or of whatever store is given to [`Self::step`] later.
    #[must_use]
    pub const fn begin(_store: &Store) -> Self {
        Self { stage: Stage::Versions(0), bytes: 0, scratch: Vec::new() }
    }

    /// Looks at about `bytes_budget` logical bytes of rows, at least at one part.
    pub fn step(&mut self, store: &Store, bytes_budget: u64) -> ScrubProgress {
        let end = self.bytes.saturating_add(bytes_budget.max(1));
        while self.bytes < end {
            let slice = match self.stage {
                Stage::Versions(ordinal) => self.versions(store, ordinal),
                Stage::Sessions(id) => self.session(store, id),
                Stage::IdempotencyKeys(sequence) => self.idempotency_key(store, sequence),
                Stage::Sums => {
                    let bytes = self.bytes;
                    return if sums_agree(store) {
                        ScrubProgress::Sound { bytes }
                    } else {
                        ScrubProgress::Damaged(ScrubDamage::Sums)
                    };
                }
            };
            if let Err(damage) = slice {
                return ScrubProgress::Damaged(damage);
            }
        }
        ScrubProgress::Running { bytes: self.bytes }
    }

    fn versions(&mut self, store: &Store, ordinal: u64) -> Result<(), ScrubDamage> {
        let keyspace = &store.keyspace;
        let Some(chunk) = keyspace.log.chunk_from(ordinal) else {
            self.stage = Stage::Sessions(0);
            return Ok(());
        };
        let mut sum = StateHash::default();
        let mut from_revision = None;
        let mut next = ordinal;
        for (ordinal, version) in chunk.versions() {
            let revision = version.mod_revision;
            from_revision.get_or_insert(revision);
            sum += version.hash();
            self.bytes += version.logical_bytes();
            let reference = VersionRef::new(ordinal, version.is_tombstone());
            let newest = keyspace.index.get(&version.key).copied();
            let found = newest.and_then(|newest| keyspace.log.newest_before(newest, ordinal + 1));
            if found != Some(reference) {
                return Err(ScrubDamage::Index { revision });
            }
            next = ordinal + 1;
        }
        if sum != chunk.hash() {
            return Err(ScrubDamage::Versions { from_revision: from_revision.unwrap_or(0) });
        }
        self.stage = Stage::Versions(next);
        Ok(())
    }

    fn session(&mut self, store: &Store, id: u64) -> Result<(), ScrubDamage> {
        let Some(session) = store.sessions.session_from(id) else {
            self.stage = Stage::IdempotencyKeys(0);
            return Ok(());
        };
        let (id, ..) = session.row();
        if !session.is_sound(&mut self.scratch) {
            return Err(ScrubDamage::Session { id });
        }
        self.bytes += session.logical_bytes();
        self.stage = Stage::Sessions(id.saturating_add(1));
        Ok(())
    }

    fn idempotency_key(&mut self, store: &Store, sequence: u64) -> Result<(), ScrubDamage> {
        let Some((sequence, row)) = store.idempotency.rows_from(sequence).next() else {
            self.stage = Stage::Sums;
            return Ok(());
        };
        if !row.is_sound(&mut self.scratch)
            || store.idempotency.sequence_of(&row.key) != Some(sequence)
        {
            return Err(ScrubDamage::IdempotencyKey { sequence });
        }
        self.bytes += self.scratch.len() as u64 + ROW_OVERHEAD_BYTES;
        self.stage = Stage::IdempotencyKeys(sequence + 1);
        Ok(())
    }
}

/// Whether the parts add up to the hash of the state, right now.
fn sums_agree(store: &Store) -> bool {
    store.keyspace.log.hash_of_chunks() == store.keyspace.log.hash()
        && store.leases.computed_hash() == store.leases.hash()
        && store.sessions.computed_hash() == store.sessions.hash()
        && store.idempotency.computed_hash() == store.idempotency.hash()
}
