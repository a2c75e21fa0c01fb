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

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        command::{Command, Put},
        envelope::{ENVELOPE_FORMAT, Envelope, Origin, Proposal, Stamp},
        key::Key,
        value::Value,
    };

    fn apply(store: &mut Store, origin: Origin, command: Command) {
        let envelope = Envelope {
            format: ENVELOPE_FORMAT,
            epoch: 1,
            stamp: Stamp { term: 1, time_ms: 1 },
            wall_ms: 1,
            proposal: Proposal { origin, ..Proposal::unattributed(command) },
        };
        store.apply(envelope, 1).result.expect("it is carried out");
    }

    fn put(number: u64) -> Command {
        let key = Bytes::from(format!("key{number}"));
        let value = Some(Bytes::from(format!("a value of some length, for key {number}")));
        Command::Put(Put { key, value, lease: Some(0), want_previous: false })
    }

    /// A store with something of everything.
    fn store() -> Store {
        let mut store = Store::new();
        apply(&mut store, Origin::Unnumbered, Command::SessionOpen);
        apply(&mut store, Origin::Unnumbered, Command::LeaseGrant { id: 5, ttl_ms: 9_000 });
        for number in 1..20 {
            let origin = Origin::Session { session: 1, number, lowest_awaited: 1 };
            apply(&mut store, origin, put(number));
            apply(&mut store, Origin::Key(Bytes::from(number.to_string())), put(number));
        }
        store
    }

    fn run(store: &Store, bytes_budget: u64) -> ScrubProgress {
        let mut scrub = Scrub::begin(store);
        loop {
            match scrub.step(store, bytes_budget) {
                ScrubProgress::Running { .. } => {}
                end => return end,
            }
        }
    }

    #[test]
    fn an_undamaged_store_is_sound_whatever_the_slices() {
        for budget in [0, 1, 500, u64::MAX] {
            assert!(matches!(
                run(&store(), budget),
                ScrubProgress::Sound { bytes } if bytes > 38 * ROW_OVERHEAD_BYTES
            ));
        }
    }

    #[test]
    fn a_slice_looks_at_about_its_budget() {
        let mut store = store();
        for number in 0..5_000 {
            apply(&mut store, Origin::Unnumbered, put(number));
        }
        let mut scrub = Scrub::begin(&store);
        let ScrubProgress::Running { bytes } = scrub.step(&store, 1_000) else {
            panic!("there is more than that")
        };
        assert!((1_000..200_000).contains(&bytes), "one chunk of the log, not {bytes} bytes");
    }

    #[test]
    fn every_kind_of_damage_is_found_and_named() {
        type Damage = fn(&mut Store);
        let cases: [(Damage, ScrubDamage); 9] = [
            (
                |store| store.keyspace.log.damage(7, |it| it.value = Value::EMPTY),
                ScrubDamage::Versions { from_revision: 2 },
            ),
            (
                |store| store.keyspace.log.damage(37, |it| it.version ^= 4),
                ScrubDamage::Versions { from_revision: 2 },
            ),
            (
                |store| store.keyspace.log.damage(5, |it| it.key = Key::new(b"nobody")),
                ScrubDamage::Index { revision: 7 },
            ),
            (
                |store| store.keyspace.log.damage(5, |it| it.previous = VersionRef::NONE),
                ScrubDamage::Index { revision: 6 },
            ),
            (
                |store| store.keyspace.index.retain(|key, _| key.as_slice() != b"key3"),
                ScrubDamage::Index { revision: 6 },
            ),
            (|store| store.sessions.damage(1), ScrubDamage::Session { id: 1 }),
            (|store| store.idempotency.damage(4), ScrubDamage::IdempotencyKey { sequence: 4 }),
            (|store| store.leases.damage(5), ScrubDamage::Sums),
            (|store| store.sessions.damage_sum(), ScrubDamage::Sums),
        ];
        for (damage, expected) in cases {
            let mut store = store();
            damage(&mut store);
            assert_eq!(run(&store, 100), ScrubProgress::Damaged(expected));
        }
    }
}
