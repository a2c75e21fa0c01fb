//! How an operation at the door can fail, in families that say whether anything took effect.

use std::time::Duration;

use mainstay_consensus::{HandOverError, MembershipError, NotTaken, ProposeError, ReadIndexError};
use mainstay_kv::{QueryError, Refusal};

use crate::{authorization::Denied, gate::GateClosed};

/// When a caller that was turned away should come back.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// An operation without the wanted outcome.
///
/// All but [`DoorError::OutcomeUnknown`] mean that nothing took effect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DoorError {
    /// The caller may not.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The rules of the store say no; asking again unchanged gives the same.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The same, told again to a request that was refused before and is repeated.
    #[error(transparent)]
    RefusedBefore(Refusal),
    /// A read that cannot be answered.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// Too much is going on.
    #[error("too many {what} are running; retry after {} ms", retry_after.as_millis())]
    Overloaded {
        /// What there is too much of.
        what: &'static str,
        /// When to try again.
        retry_after: Duration,
    },
    /// An answer that would be too large to hold.
    #[error("the answer has more than {limit} bytes; ask for fewer keys at a time with a limit")]
    AnswerTooLarge {
        /// Bytes allowed.
        limit: usize,
    },
    /// The write was certainly not taken by the log.
    #[error(transparent)]
    NotTaken(#[from] NotTaken),
    /// Writes are held on this node.
    #[error(transparent)]
    Held(#[from] GateClosed),
    /// The write may or may not take effect.
    #[error("the outcome is unknown: {why}; it may or may not take effect")]
    OutcomeUnknown {
        /// What happened, as a clause.
        why: &'static str,
    },
    /// A read that was not answered in time.
    #[error("the read was not answered within its deadline")]
    ReadTimeout,
}

/// A snapshot that was not taken. The log is kept until one succeeds.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The caller may not.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The disk failed, or the node is not in a cluster.
    #[error("no snapshot was taken")]
    Disk(#[from] std::io::Error),
}

/// A hand-over of the leadership that did not happen, or whose outcome is unknown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// The caller may not.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The leader refused, or nobody saw who leads now.
    #[error(transparent)]
    HandOver(#[from] HandOverError),
}

/// A change of members that did not happen, or whose outcome is unknown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MembersError {
    /// The caller may not.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The leader refused, or it is not known what became of it.
    #[error(transparent)]
    Membership(#[from] MembershipError),
}

impl TransferError {
    /// Whether somebody said no; a leader that is to lead has nothing to refuse.
    pub(crate) const fn is_refusal(&self) -> bool {
        !matches!(
            self,
            Self::HandOver(HandOverError::AlreadyLeads { .. } | HandOverError::OutcomeUnknown)
        )
    }
}

impl DoorError {
    /// There is too much `what`; come back soon.
    pub(crate) const fn overloaded(what: &'static str) -> Self {
        Self::Overloaded { what, retry_after: RETRY_AFTER }
    }
}

impl From<ProposeError> for DoorError {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::NotTaken(not_taken) => Self::NotTaken(not_taken),
            ProposeError::OutcomeUnknown { why } => Self::OutcomeUnknown { why },
        }
    }
}

impl From<ReadIndexError> for DoorError {
    fn from(error: ReadIndexError) -> Self {
        match error {
            ReadIndexError::NoLeader => Self::NotTaken(NotTaken::NoLeader),
            ReadIndexError::NotReady => Self::NotTaken(NotTaken::NotReady),
            ReadIndexError::Timeout => Self::ReadTimeout,
            ReadIndexError::ShuttingDown => Self::NotTaken(NotTaken::ShuttingDown),
        }
    }
}
