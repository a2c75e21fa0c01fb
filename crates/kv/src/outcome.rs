//! What applying a command comes to.

use serde::{Deserialize, Serialize};

use crate::{
    import::ImportRefusal,
    query::{KeyValue, QueryError, RangeAnswer},
};

/// The result of applying one envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The position of the envelope in the store's dense count. For a repeated request: of its
    /// first application.
    pub sequence: u64,
    /// The store's revision after it. For a repeated request: of its first application.
    pub revision: u64,
    /// Whether this answers a repeated request from the tables, without applying it again.
    pub repeated: bool,
    /// What it came to.
    pub result: Result<Outcome, Refusal>,
}

/// What a command did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Of a tick: nothing but time.
    Ticked,
    /// Of a put.
    Put(PutOutcome),
    /// Of a delete.
    Deleted(DeleteOutcome),
    /// Of a transaction.
    Txn(TxnOutcome),
    /// Of a compaction.
    Compacted {
        /// The lowest readable revision from now on.
        compact_revision: u64,
    },
    /// Of a lease grant.
    LeaseGranted {
        /// The lease.
        id: u64,
        /// The time to live that was granted, in milliseconds.
        ttl_ms: u64,
    },
    /// Of a lease revocation.
    LeaseRevoked {
        /// How many keys went with it.
        deleted: u64,
    },
    /// Of a batch of keep-alives, in the order asked.
    KeptAlive(Vec<KeepAlive>),
    /// Of opening a session.
    SessionOpened {
        /// The session's id.
        session: u64,
    },
    /// Of a change of settings.
    Configured,
    /// Of a command of a source site.
    Replicated,
    /// Of a step of an import.
    Imported {
        /// Keys in the store now.
        keys: u64,
        /// Leases in the store now.
        leases: u64,
    },
}

/// What a put did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutOutcome {
    /// Whether the key did not exist before.
    pub created: bool,
    /// What was there before, if asked for.
    pub previous: Option<KeyValue>,
}

/// What a delete did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteOutcome {
    /// How many keys were deleted.
    pub deleted: u64,
    /// What was there before, if asked for.
    pub previous: Vec<KeyValue>,
}

/// What a transaction did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TxnOutcome {
    /// Whether all compares held.
    pub succeeded: bool,
    /// The outcomes of the list that was chosen, in its order.
    pub operations: Vec<OperationOutcome>,
}

/// What one operation of a transaction did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum OperationOutcome {
    /// Of a read.
    Range(RangeAnswer),
    /// Of a put.
    Put(PutOutcome),
    /// Of a delete.
    Deleted(DeleteOutcome),
    /// Of a nested transaction.
    Txn(#[serde(deserialize_with = "crate::nesting::deserialize_nested")] TxnOutcome),
}

/// The fate of one keep-alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeepAlive {
    /// The lease.
    pub id: u64,
    /// Its time to live from now on in milliseconds; `None` if there is no such lease.
    pub ttl_ms: Option<u64>,
}

/// A command that was not carried out, by the rules. It changed nothing but time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Refusal {
    /// A key of no bytes.
    #[error("the key is empty")]
    KeyEmpty,
    /// A key over the limit.
    #[error("the key has {len} bytes, more than the {limit} allowed")]
    KeyTooLarge {
        /// Bytes of the key.
        len: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// A value over the limit.
    #[error("the value has {len} bytes, more than the {limit} allowed")]
    ValueTooLarge {
        /// Bytes of the value.
        len: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// Keeping the present value or lease of a key that does not exist.
    #[error("there is no such key whose value or lease could be kept")]
    KeyNotFound,
    /// A transaction of too many operations.
    #[error("the transaction has {count} operations, more than the {limit} allowed")]
    TooManyOperations {
        /// Operations of the longest list.
        count: u64,
        /// Operations allowed.
        limit: u64,
    },
    /// A transaction that writes a key twice, or writes and deletes it.
    #[error("the transaction changes the same key twice")]
    DuplicateKey,
    /// A transaction nested too deep.
    #[error("transactions are nested more than {limit} deep")]
    TooDeep {
        /// Levels allowed.
        limit: u64,
    },
    /// A read, or a compaction, of a revision that cannot be read.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// A lease that does not exist.
    #[error("there is no lease {id}")]
    LeaseNotFound {
        /// The lease asked for.
        id: u64,
    },
    /// A lease id that is taken.
    #[error("lease {id} exists already")]
    LeaseExists {
        /// The lease asked for.
        id: u64,
    },
    /// A time to live over the limit.
    #[error("a time to live of {ttl_ms} ms is longer than the {limit_ms} ms allowed")]
    LeaseTtlTooLarge {
        /// What was asked for.
        ttl_ms: u64,
        /// What is allowed.
        limit_ms: u64,
    },
    /// The store is at its quota and the command would make it grow.
    #[error(
        "the store holds {bytes} bytes of a quota of {quota_bytes}; the data is safe, delete or compact to make room"
    )]
    SpaceExceeded {
        /// Bytes in the store.
        bytes: u64,
        /// Bytes allowed.
        quota_bytes: u64,
    },
    /// A session that ended or never was.
    #[error("session {session} has ended; open a new one and find out what its last writes did")]
    SessionEnded {
        /// The session asked for.
        session: u64,
    },
    /// A numbered write whose outcome the client said it no longer awaits.
    #[error("write {number} of the session was already answered and forgotten")]
    SessionNumberForgotten {
        /// The number.
        number: u64,
    },
    /// More outcomes awaited than a session keeps.
    #[error("the session awaits the outcomes of more than {limit} writes")]
    SessionWindowExceeded {
        /// Outcomes kept.
        limit: u64,
    },
    /// An idempotency key or session number used for another request.
    #[error("the idempotency key or number was used for another request")]
    KeyReused,
    /// An idempotency key that is empty or over 64 bytes.
    #[error("an idempotency key has 1 to 64 bytes, not {len}")]
    IdempotencyKeyLength {
        /// Bytes found.
        len: u64,
    },
    /// The table of idempotency keys is at its share of the quota.
    #[error("the table of idempotency keys is full; retry after {retry_after_ms} ms")]
    IdempotencyTableFull {
        /// When the oldest key is forgotten, in milliseconds.
        retry_after_ms: u64,
    },
    /// Settings that contradict themselves.
    #[error("the setting {name} cannot be {value}: {why}")]
    InvalidSetting {
        /// The setting.
        name: String,
        /// What was asked for.
        value: u64,
        /// What is wrong with it.
        why: String,
    },
    /// A command that this cluster's format does not have yet.
    #[error("this cluster does not have that command")]
    Unsupported,
    /// More sessions than a store holds.
    #[error("there are {limit} sessions already; retry when some have ended")]
    TooManySessions {
        /// Sessions allowed.
        limit: u64,
    },
    /// More leases than a store holds.
    #[error("there are {limit} leases already; retry when some have ended")]
    TooManyLeases {
        /// Leases allowed.
        limit: u64,
    },
    /// A command whose answer would be too large to be carried and kept. It changed nothing.
    #[error("the answer would hold more than {limit} bytes; ask for less at once")]
    AnswerTooLarge {
        /// Bytes allowed.
        limit: u64,
    },
    /// The setting `read_only` is on.
    #[error(
        "an operator made the cluster read-only; the data is safe, reads go on, and writes are \
         taken again when an operator ends it: mainstay read-only off"
    )]
    ReadOnly,
    /// A step of an import that cannot be taken.
    #[error(transparent)]
    Import(#[from] ImportRefusal),
    /// An import is going on.
    #[error(
        "an import is filling this cluster; the data is safe, reads show what has arrived so far, \
         and writes are taken when it has ended: repeat mainstay import-etcd to go on with it, or \
         give it up with --abandon"
    )]
    Importing,
}
