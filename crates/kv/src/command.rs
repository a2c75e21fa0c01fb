//! What can be asked of the store, as it travels and as it is stored.
//!
//! The order of variants and fields is part of the log's format: new variants are added at the
//! end, and only together with a rule that says from which replicated format number on they may
//! be proposed.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{import::Import, query::RangeQuery, settings::Settings};

/// A command of the replicated state machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Moves the clock and expires what is due; changes nothing else.
    Tick,
    /// Writes one key.
    Put(Put),
    /// Deletes a range of keys.
    Delete(Delete),
    /// Compares, then does one of two lists of operations, all at one revision.
    Txn(Txn),
    /// Forgets versions that are not the newest of their key at `revision`.
    Compact {
        /// The lowest revision that stays readable.
        revision: u64,
    },
    /// Grants a lease.
    LeaseGrant {
        /// The wanted id, or 0 to have one made from the sequence.
        id: u64,
        /// Time to live in milliseconds; raised to the smallest allowed.
        ttl_ms: u64,
    },
    /// Ends a lease and deletes its keys, in one revision.
    LeaseRevoke {
        /// The lease.
        id: u64,
    },
    /// Renews leases, each to its full time to live.
    LeaseKeepAlive {
        /// The leases; answered one by one.
        ids: Vec<u64>,
    },
    /// Opens a session of numbered writes; its id is the sequence of this command.
    SessionOpen,
    /// Replaces the replicated settings; after the first ones the format stays as it is.
    Configure(Settings),
    /// Applies an envelope of a source site, with the source's revision; room for a standby site.
    Replicated {
        /// The source's epoch.
        source_epoch: u64,
        /// The source's sequence.
        source_sequence: u64,
        /// The source's revision after applying it.
        source_revision: u64,
        /// The source's envelope, encoded.
        envelope: Bytes,
    },
    /// Goes over to newer rules; see [`Settings::format`]. Nothing happens if they are in force.
    RaiseFormat {
        /// The number of the rules.
        format: u64,
    },
    /// A step of taking over another store; from format 2 on.
    Import(Import),
}

/// Writes one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Put {
    /// The key; not empty.
    pub key: Bytes,
    /// The new value; `None` keeps the present one, and the key must exist.
    pub value: Option<Bytes>,
    /// The lease to attach, 0 for none; `None` keeps the present one, and the key must exist.
    pub lease: Option<u64>,
    /// Whether the answer carries what was there before.
    pub want_previous: bool,
}

/// Deletes a range of keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delete {
    /// The keys.
    pub range: KeyRange,
    /// Whether the answer carries what was there before.
    pub want_previous: bool,
}

/// A transaction: if all compares hold then `success`, else `failure`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Txn {
    /// All must hold; an empty list holds.
    pub compares: Vec<Compare>,
    /// Done when they hold.
    pub success: Vec<Operation>,
    /// Done when one does not.
    pub failure: Vec<Operation>,
}

/// One operation of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation {
    /// Reads, seeing what earlier operations of the transaction wrote.
    Range(RangeQuery),
    /// Writes one key.
    Put(Put),
    /// Deletes a range.
    Delete(Delete),
    /// A transaction inside the transaction.
    Txn(#[serde(deserialize_with = "crate::nesting::deserialize_nested")] Txn),
}

/// One condition of a transaction. With a range, it must hold for every key in it, and it holds
/// for an empty range as for a key that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compare {
    /// The keys.
    pub range: KeyRange,
    /// How the key's attribute must relate to the operand.
    pub relation: Relation,
    /// The attribute and the operand.
    pub operand: Operand,
}

/// How an attribute must relate to its operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Relation {
    /// Equal.
    Equal,
    /// Greater than the operand.
    Greater,
    /// Less than the operand.
    Less,
    /// Not equal.
    NotEqual,
}

/// The attribute that a condition looks at, and what it is compared with.
///
/// A key that does not exist has version, revisions and lease 0; a condition on its value never
/// holds, whatever the relation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operand {
    /// The number of writes since the key was created.
    Version(i64),
    /// The revision that created the key.
    CreateRevision(i64),
    /// The revision that last wrote the key.
    ModRevision(i64),
    /// The value.
    Value(Bytes),
    /// The attached lease.
    Lease(i64),
}

/// A key, or a range of keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRange {
    /// The first key.
    pub start: Bytes,
    /// Where the range ends.
    pub end: RangeEnd,
}

/// Where a range of keys ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RangeEnd {
    /// The range is the one key.
    Single,
    /// Before this key.
    Before(Bytes),
    /// At the last key of the store.
    Unbounded,
}

impl Command {
    /// Whether it is refused while the setting `read_only` is on: whatever a client begins. What
    /// lives on by itself (leases that are renewed, ended or expire, sessions, the clock) and what
    /// operators do goes on.
    #[must_use]
    pub fn is_held_back(&self) -> bool {
        match self {
            Self::Put(_)
            | Self::Delete(_)
            | Self::Compact { .. }
            | Self::LeaseGrant { .. }
            | Self::Import(_)
            | Self::Replicated { .. } => true,
            Self::Txn(txn) => !txn.is_read_only(),
            Self::Tick
            | Self::LeaseRevoke { .. }
            | Self::LeaseKeepAlive { .. }
            | Self::SessionOpen
            | Self::Configure(_)
            | Self::RaiseFormat { .. } => false,
        }
    }
}

impl Txn {
    /// Whether no branch writes anything; such a transaction is a read and needs no log entry.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.success.iter().chain(&self.failure).all(|operation| match operation {
            Operation::Range(_) => true,
            Operation::Put(_) | Operation::Delete(_) => false,
            Operation::Txn(nested) => nested.is_read_only(),
        })
    }
}

impl KeyRange {
    /// The one key.
    #[must_use]
    pub const fn key(key: Bytes) -> Self {
        Self { start: key, end: RangeEnd::Single }
    }

    /// All keys of the store.
    #[must_use]
    pub const fn all() -> Self {
        Self { start: Bytes::new(), end: RangeEnd::Unbounded }
    }

    /// All keys that start with `prefix`; all keys if it is empty.
    #[must_use]
    pub fn prefix(prefix: Bytes) -> Self {
        // The end is the prefix with its last byte below 0xff raised by one and cut after it.
        let end = prefix.iter().rposition(|byte| *byte != 0xff).map_or(RangeEnd::Unbounded, |at| {
            let mut end = prefix[..=at].to_vec();
            end[at] += 1;
            RangeEnd::Before(Bytes::from(end))
        });
        Self { start: prefix, end }
    }

    /// Leaves out `key` and everything before it, so that a range that was read in part goes on.
    pub fn start_after(&mut self, key: &[u8]) {
        // The smallest key after a key is the key and a zero.
        self.start = [key, b"\0"].concat().into();
    }

    /// Whether `key` lies in the range.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            RangeEnd::Single => key == self.start,
            RangeEnd::Before(end) => key >= &self.start[..] && key < &end[..],
            RangeEnd::Unbounded => key >= &self.start[..],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_holds_its_own_keys_and_no_others() {
        let range = KeyRange::prefix(Bytes::from_static(b"a\xff"));
        assert_eq!(range.end, RangeEnd::Before(Bytes::from_static(b"b")));
        assert!(range.contains(b"a\xff") && range.contains(b"a\xff\xff"));
        assert!(!range.contains(b"a") && !range.contains(b"b"));
        assert_eq!(KeyRange::prefix(Bytes::from_static(b"\xff")).end, RangeEnd::Unbounded);
        assert!(KeyRange::prefix(Bytes::new()).contains(b"anything"));
    }
}
