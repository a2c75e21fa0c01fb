//! One version of one key: what a write left behind.
//!
//! Versions never change; they are appended by writes and freed by compaction. A deletion leaves
//! a tombstone, a version without value whose number is 0.

use serde::{Deserialize, Serialize};

use crate::{
    key::Key,
    query::KeyValue,
    state_hash::{RowHasher, RowKind, StateHash},
    value::Value,
};

/// What a version counts for beside its key and value, in logical bytes.
pub(crate) const ROW_OVERHEAD_BYTES: u64 = 64;

/// Where a version stands in the store's history: its revision, and its place in it.
pub(crate) type Position = (u64, u32);

/// A reference to a version in the log: its ordinal there, and whether it is a tombstone. It may
/// outlive its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct VersionRef(u64);

/// One version of one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Version {
    pub(crate) key: Key,
    pub(crate) value: Value,
    /// The revision that wrote it.
    pub(crate) mod_revision: u64,
    /// Its place among the writes of that revision, from 0.
    pub(crate) sub_revision: u32,
    /// The revision that created the key; 0 for a tombstone.
    pub(crate) create_revision: u64,
    /// The number of writes since the key was created; 0 for a tombstone.
    pub(crate) version: u64,
    /// The attached lease, 0 for none.
    pub(crate) lease: u64,
    /// The way to older versions of the key in this process's log, see [`Links`]; no part of the
    /// state.
    #[serde(skip)]
    pub(crate) previous: VersionRef,
    #[serde(skip)]
    pub(crate) skip: VersionRef,
    #[serde(skip)]
    pub(crate) chain_number: u32,
}

/// The way from a version to older ones of its key.
///
/// A plain chain would make reads of the past slow for keys with a long history, so there is a
/// second link that skips: the version with number `n` in its chain skips to `n` without its
/// lowest bit. Any older version is then at most a few links times the logarithm away. Numbers
/// only shape the skips; every link leads to an older version of the same key, or nowhere any
/// more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Links {
    /// The version before.
    pub(crate) previous: VersionRef,
    /// An older version, or the one before.
    pub(crate) skip: VersionRef,
    /// The version's number in its chain; wraps.
    pub(crate) chain_number: u32,
}

impl Default for VersionRef {
    fn default() -> Self {
        Self::NONE
    }
}

impl VersionRef {
    /// Leads nowhere.
    pub(crate) const NONE: Self = Self(u64::MAX);

    pub(crate) const fn new(ordinal: u64, is_tombstone: bool) -> Self {
        Self(ordinal << 1 | is_tombstone as u64)
    }

    pub(crate) const fn ordinal(self) -> u64 {
        self.0 >> 1
    }

    /// The ordinal, unless the version says that the key is gone.
    pub(crate) const fn live(self) -> Option<u64> {
        if self.0 & 1 == 1 { None } else { Some(self.ordinal()) }
    }
}

impl Links {
    /// Of the first version of a key.
    pub(crate) const NONE: Self =
        Self { previous: VersionRef::NONE, skip: VersionRef::NONE, chain_number: 0 };
}

impl Version {
    pub(crate) const fn tombstone(key: Key, position: Position, links: Links) -> Self {
        Self {
            key,
            value: Value::EMPTY,
            mod_revision: position.0,
            sub_revision: position.1,
            create_revision: 0,
            version: 0,
            lease: 0,
            previous: links.previous,
            skip: links.skip,
            chain_number: links.chain_number,
        }
    }

    /// As it is, but at this place in its chain.
    pub(crate) fn linked(self, links: Links) -> Self {
        let Links { previous, skip, chain_number } = links;
        Self { previous, skip, chain_number, ..self }
    }

    /// The next step from a version at or after the ordinal `end` to the newest before it.
    pub(crate) fn older_towards(&self, end: u64) -> VersionRef {
        // Whoever may read up to `end` may read what is younger: it was not freed.
        let skip_is_younger = self.skip != VersionRef::NONE && self.skip.ordinal() >= end;
        if skip_is_younger { self.skip } else { self.previous }
    }

    pub(crate) const fn is_tombstone(&self) -> bool {
        self.version == 0
    }

    pub(crate) const fn position(&self) -> Position {
        (self.mod_revision, self.sub_revision)
    }

    /// What it counts for against the quota.
    pub(crate) fn logical_bytes(&self) -> u64 {
        (self.key.len() + self.value.len()) as u64 + ROW_OVERHEAD_BYTES
    }

    /// Its summand in the hash of the state.
    pub(crate) fn hash(&self) -> StateHash {
        RowHasher::new(RowKind::Version)
            .bytes(self.key.as_slice())
            .bytes(self.value.as_slice())
            .word(self.mod_revision)
            .word(u64::from(self.sub_revision))
            .word(self.create_revision)
            .word(self.version)
            .word(self.lease)
            .finish()
    }

    /// The version as an answer shows it. Of a tombstone only key and revision mean something.
    pub(crate) fn pair(&self) -> KeyValue {
        KeyValue { value: self.value.to_bytes(), ..self.pair_without_value() }
    }

    /// As [`Self::pair`], with an empty value.
    pub(crate) fn pair_without_value(&self) -> KeyValue {
        KeyValue {
            key: self.key.to_bytes(),
            value: bytes::Bytes::new(),
            create_revision: self.create_revision,
            mod_revision: self.mod_revision,
            version: self.version,
            lease: self.lease,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn a_version_takes_112_bytes_in_memory() {
        assert_eq!(size_of::<Option<Version>>(), 112);
    }

    #[test]
    fn every_field_is_part_of_the_hash() {
        let version = Version {
            key: Key::new(b"k"),
            value: Value::new(Bytes::from_static(b"v")),
            mod_revision: 5,
            sub_revision: 1,
            create_revision: 3,
            version: 2,
            lease: 9,
            previous: VersionRef::NONE,
            skip: VersionRef::NONE,
            chain_number: 0,
        };
        let others = [
            Version { key: Key::new(b"kv"), value: Value::EMPTY, ..version.clone() },
            Version { value: Value::new(Bytes::from_static(b"w")), ..version.clone() },
            Version { mod_revision: 6, ..version.clone() },
            Version { sub_revision: 2, ..version.clone() },
            Version { create_revision: 4, ..version.clone() },
            Version { version: 3, ..version.clone() },
            Version { lease: 8, ..version.clone() },
        ];
        for other in others {
            assert_ne!(other.hash(), version.hash(), "{other:?}");
        }
    }
}
