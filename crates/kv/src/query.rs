//! Reads: what can be asked of a range of keys, and what comes back.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::command::KeyRange;

/// A question about a range of keys at one revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeQuery {
    /// The keys.
    pub range: KeyRange,
    /// The revision to read at; 0 is the present one.
    pub revision: u64,
    /// The most pairs to return; 0 is no limit.
    pub limit: u64,
    /// The order of the answer.
    pub order: SortOrder,
    /// What to sort by.
    pub target: SortTarget,
    /// Leave the values out.
    pub keys_only: bool,
    /// Return the count alone.
    pub count_only: bool,
    /// Only pairs last written at or after this revision; 0 is no bound.
    pub min_mod_revision: u64,
    /// Only pairs last written at or before this revision; 0 is no bound.
    pub max_mod_revision: u64,
    /// Only pairs created at or after this revision; 0 is no bound.
    pub min_create_revision: u64,
    /// Only pairs created at or before this revision; 0 is no bound.
    pub max_create_revision: u64,
}

impl RangeQuery {
    /// Everything in `range` at the present revision, by key.
    #[must_use]
    pub const fn new(range: KeyRange) -> Self {
        Self {
            range,
            revision: 0,
            limit: 0,
            order: SortOrder::None,
            target: SortTarget::Key,
            keys_only: false,
            count_only: false,
            min_mod_revision: 0,
            max_mod_revision: 0,
            min_create_revision: 0,
            max_create_revision: 0,
        }
    }

    /// Whether the answer is the range in the order of its keys with nothing left out, so that it
    /// can be read in parts.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.target == SortTarget::Key && self.order != SortOrder::Descend && !self.has_filters()
    }

    pub(crate) const fn has_filters(&self) -> bool {
        self.min_mod_revision != 0
            || self.max_mod_revision != 0
            || self.min_create_revision != 0
            || self.max_create_revision != 0
    }
}

/// The order of an answer.
///
/// As in etcd: with `None` and a target other than the key the answer is sorted ascending, but the
/// limit is applied before the sort; with the other two it is applied after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SortOrder {
    /// As stored: ascending by key.
    None,
    /// Ascending.
    Ascend,
    /// Descending.
    Descend,
}

/// What an answer is sorted by; equal pairs stay in the order of their keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SortTarget {
    /// The key.
    Key,
    /// The number of writes since creation.
    Version,
    /// The revision of creation.
    CreateRevision,
    /// The revision of the last write.
    ModRevision,
    /// The value.
    Value,
}

/// What a range holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeAnswer {
    /// The pairs, as many as were asked for.
    pub pairs: Vec<KeyValue>,
    /// Whether the limit cut the answer.
    pub more: bool,
    /// All keys of the range at that revision, whatever limit and filters say.
    pub count: u64,
}

/// What a part of a count came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartialCount {
    /// The keys counted.
    pub count: u64,
    /// The last key that was looked at, when there may be more behind it.
    pub last_key: Option<Bytes>,
}

/// A key with its value and its history in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyValue {
    /// The key.
    pub key: Bytes,
    /// The value; empty when only keys were asked for.
    pub value: Bytes,
    /// The revision that created the key.
    pub create_revision: u64,
    /// The revision of this write.
    pub mod_revision: u64,
    /// The number of writes since creation, 1 for the first.
    pub version: u64,
    /// The attached lease, 0 for none.
    pub lease: u64,
}

/// A read that cannot be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum QueryError {
    /// The revision was compacted.
    #[error("revision {wanted} is compacted; the oldest readable one is {compact_revision}")]
    Compacted {
        /// The revision asked for.
        wanted: u64,
        /// The lowest readable revision.
        compact_revision: u64,
    },
    /// The revision does not exist yet.
    #[error("revision {wanted} lies in the future; the store is at {revision}")]
    Future {
        /// The revision asked for.
        wanted: u64,
        /// The store's revision.
        revision: u64,
    },
}
