//! Who asks, until when, and what an answer carries besides its content.

use std::time::Duration;

use mainstay_kv::Origin;
use mainstay_world::Instant;

/// Who asks for one operation, and on which terms.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The user; empty is root, as everybody is while authentication is off.
    pub principal: String,
    /// Revision of the permissions that the request was checked against.
    pub auth_revision: u64,
    /// The trace that the request belongs to; zero for none.
    pub trace_id: [u8; 16],
    /// When the caller stops waiting.
    pub deadline: Instant,
    /// What makes a repeated write recognisable.
    pub origin: Origin,
    /// How fresh a read must be.
    pub consistency: Consistency,
}

impl Caller {
    /// Root, with no trace and no number, reading linearizably.
    #[must_use]
    pub const fn root(deadline: Instant) -> Self {
        Self {
            principal: String::new(),
            auth_revision: 0,
            trace_id: [0; 16],
            deadline,
            origin: Origin::Unnumbered,
            consistency: Consistency::Linearizable,
        }
    }
}

/// How fresh a read must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consistency {
    /// It sees every write that was acknowledged before it was asked.
    Linearizable,
    /// It sees what this node has, and says how old that may be.
    Stale,
}

/// How fresh an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// As fresh as can be.
    Linearizable,
    /// At most this much behind; `None` if that cannot be bounded.
    Stale(Option<Duration>),
}

/// What a write came to, once it is committed and applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written<T> {
    /// What it did.
    pub outcome: T,
    /// The store's revision after it.
    pub revision: u64,
    /// Its position in the store's dense count.
    pub sequence: u64,
    /// Whether this is the answer to an earlier request with the same number or key.
    pub repeated: bool,
}

impl<T> Written<T> {
    /// The same place in history with another outcome.
    pub(crate) const fn with<U: Copy>(&self, outcome: U) -> Written<U> {
        Written {
            outcome,
            revision: self.revision,
            sequence: self.sequence,
            repeated: self.repeated,
        }
    }

    /// The same with another outcome.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Written<U> {
        Written {
            outcome: change(self.outcome),
            revision: self.revision,
            sequence: self.sequence,
            repeated: self.repeated,
        }
    }
}

/// What a read found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read<T> {
    /// What was found.
    pub answer: T,
    /// The store's revision when it was read, whichever revision was asked for.
    pub revision: u64,
    /// How fresh that is.
    pub freshness: Freshness,
}
