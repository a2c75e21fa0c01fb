//! What the log holds: entries, and positions among them.
//!
//! Index and term mean what they mean in the Raft paper (Ongaro and Ousterhout 2014, section 5.3):
//! two logs that hold an entry of the same index and term are equal up to it. The payload is bytes
//! to this crate.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// One entry of the log. Cheap to clone: the payload is shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Log index, one more than the entry before.
    pub index: u64,
    /// Term of the leader that made the entry.
    pub term: u64,
    /// What the layers above put in.
    pub payload: Bytes,
}

/// One place in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPosition {
    /// Log index.
    pub index: u64,
    /// Term of the entry there.
    pub term: u64,
}

impl LogEntry {
    /// Where the entry stands.
    #[must_use]
    pub const fn position(&self) -> LogPosition {
        LogPosition { index: self.index, term: self.term }
    }
}

impl std::fmt::Display for LogPosition {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "index {} of term {}", self.index, self.term)
    }
}
