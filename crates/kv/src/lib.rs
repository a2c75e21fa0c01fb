//! The replicated state machine of Mainstay: keys with history, leases, transactions, sessions.
//!
//! The picture: a log entry carries an [`Envelope`], [`Store::apply`] turns it into an
//! [`Applied`], and every replica that applies the same entries holds the same state, down to
//! the [hash](Store::hash). What people know from etcd holds here: one revision for each writing
//! transaction, old revisions readable until compacted, watches from any readable revision.
//!
//! ```text
//!   Envelope --> Store::apply --> Applied          entries, in the order of the log
//!                  |
//!                  +-- range, read, changes, lease reads, while no entry is being applied
//!                  +-- snapshot_*, StoreRestore    the state as chunks of bytes, and back
//!                  +-- history_*                   every version of one moment, in order
//!                  +-- Scrub                       memory against the hash
//! ```
//!
//! Invariants:
//!
//! - `apply` looks at the entry and the state, at nothing else. Limits, quotas and retention are
//!   [`Settings`], which are state; time is the replicated clock, which stamps of entries move.
//! - It never fails and never panics, whatever the envelope: what cannot be done is a
//!   [`Refusal`], an outcome as good as any.
//! - A rule in `apply` changes only together with [`Settings::format`], never with the version
//!   of a program.
//!
//! This crate knows no network, disk, clock, thread, log line or permission, and no Raft: terms
//! are numbers to it.
//!
//! Start reading at `store.rs`, then `keyspace.rs`.

mod changes;
pub mod command;
mod compaction;
mod envelope;
mod epoch;
mod history;
mod idempotency;
mod import;
mod kept_outcome;
mod key;
mod keyspace;
mod lease;
mod nesting;
pub mod outcome;
pub mod query;
mod range;
mod restore;
mod scrub;
mod session;
mod settings;
mod snapshot;
mod space;
mod state_hash;
mod store;
mod transaction;
mod unread_changes;
mod validation;
mod value;
mod version;
mod version_log;

pub use changes::{Changes, Event, EventKind, RevisionChanges};
pub use command::{
    Command, Compare, Delete, KeyRange, Operand, Operation, Put, RangeEnd, Relation, Txn,
};
pub use envelope::{
    ENVELOPE_BYTES_MAX, ENVELOPE_FORMAT, Envelope, EnvelopeError, Origin, Proposal, Stamp,
};
pub use epoch::EPOCH_JUMP;
pub use history::{HistoryLost, HistoryVersion, HistoryWalk};
pub use idempotency::IDEMPOTENCY_KEY_LEN_MAX;
pub use import::{IMPORT_FORMAT, Import, ImportRefusal, ImportedLease};
pub use lease::{LEASE_TTL_MS_MAX, LEASES_MAX, LeaseView};
pub use nesting::TXN_DEPTH_MAX;
pub use outcome::{
    Applied, DeleteOutcome, KeepAlive, OperationOutcome, Outcome, PutOutcome, Refusal, TxnOutcome,
};
pub use query::{
    KeyValue, PartialCount, QueryError, RangeAnswer, RangeQuery, SortOrder, SortTarget,
};
pub use restore::{RestoreError, StoreRestore};
pub use scrub::{Scrub, ScrubDamage, ScrubProgress};
pub use session::{SESSION_BYTES_MAX, SESSION_OUTCOMES_MAX, SESSIONS_MAX};
pub use settings::{SETTINGS_FORMAT, Settings};
pub use snapshot::{SNAPSHOT_FORMAT, SnapshotWalk};
pub use space::Space;
pub use store::Store;
pub use transaction::ANSWER_BYTES_MAX;
pub use unread_changes::UnreadChanges;
pub use version_log::Released;
