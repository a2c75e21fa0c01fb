//! Read-only mode, as a client meets it.
//!
//! A refused write says why. What may pass by itself is waited for within the call's deadline: a
//! quorum that is away, and one node's failed storage, since another node may take the write. What
//! a person has to end (quota, a full disk, an operator's wish, a lost permit) is told at once.

use http::Method;
use serde::{Deserialize, Serialize};

use crate::{
    answer::Answer,
    call::Call,
    client::Client,
    error::{CallError, Problem},
    json::to_bytes,
    session::fresh_key,
};

/// Why writes are refused.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadOnly {
    /// No quorum answers. The client has waited for one.
    NoQuorum,
    /// The store is at its quota; deletes, compaction and leases are taken.
    Quota,
    /// The disk of the leader, or of this node, is nearly full.
    DiskReserve,
    /// The node's storage failed. The client has asked the others.
    StorageFailed,
    /// An operator wants the data to stay as it is.
    Operator,
    /// An import is filling the cluster.
    Import,
    /// The site has no permit to take writes.
    DisasterRecovery,
    /// A reason that this client does not know yet.
    Other(String),
}

impl ReadOnly {
    /// The reason of the API's word for it.
    fn of(word: &str) -> Self {
        match word {
            "no_quorum" => Self::NoQuorum,
            "quota" => Self::Quota,
            "disk_reserve" => Self::DiskReserve,
            "storage_failed" => Self::StorageFailed,
            "operator" => Self::Operator,
            "import" => Self::Import,
            "disaster_recovery" => Self::DisasterRecovery,
            other => Self::Other(other.to_owned()),
        }
    }

    /// Whether the same write may be taken shortly, here or at another node, without anybody doing
    /// anything about it.
    pub(crate) const fn passes(&self) -> bool {
        matches!(self, Self::NoQuorum | Self::StorageFailed)
    }
}

impl Problem {
    /// Why writes are refused, if that is what it says.
    #[must_use]
    pub fn read_only(&self) -> Option<ReadOnly> {
        let is_it = self.status == 503 && self.code == "read_only";
        is_it.then(|| ReadOnly::of(self.reason.as_deref().unwrap_or_default()))
    }
}

impl CallError {
    /// Why writes are refused, if that is what ended the call. Whether an attempt before took
    /// effect is in [`Self::took_effect`].
    #[must_use]
    pub fn read_only(&self) -> Option<ReadOnly> {
        self.problem().and_then(Problem::read_only)
    }
}

/// The operator's read-only mode after a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadOnlyChange {
    /// Whether writes are held back.
    pub read_only: bool,
}

impl Client {
    /// Has the cluster hold writes back, or take them again: a replicated setting, which stays
    /// until it is changed. Leases live on meanwhile.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn set_read_only(
        &self,
        read_only: bool,
    ) -> Result<Answer<ReadOnlyChange>, CallError> {
        let call = Call::write(Method::PUT, "/v1/cluster/settings".to_owned())
            .json(to_bytes(&ReadOnlyChange { read_only }))
            .origin(&fresh_key())?;
        self.call_json(&call).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_the_api_is_a_reason_and_a_new_one_is_kept() {
        for word in ["no_quorum", "quota", "disk_reserve", "storage_failed", "operator", "import"] {
            assert!(!matches!(ReadOnly::of(word), ReadOnly::Other(_)), "{word}");
        }
        assert_eq!(ReadOnly::of("disaster_recovery"), ReadOnly::DisasterRecovery);
        assert_eq!(ReadOnly::of("new"), ReadOnly::Other("new".to_owned()));
    }
}
