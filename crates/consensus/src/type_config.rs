//! openraft's types, chosen once.
//!
//! Node ids are random u64s that name a data folder for ever; a term has one leader
//! (`leader_id_std`), so a log id is (term, index) and a term serves as a fencing token. The
//! application data of an entry is an encoded envelope that openraft never looks into, and the
//! response is what the store made of it.

use std::fmt;

use bytes::Bytes;
use mainstay_kv::outcome::Applied;
use openraft::{Raft, RaftTypeConfig, impls::leader_id_std};

use crate::{runtime::NodeRuntime, state_machine::StateMachine, status::MemberRecord};

/// openraft's types for Mainstay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TypeConfig;

impl RaftTypeConfig for TypeConfig {
    type D = EncodedEnvelope;
    type R = Applied;
    type NodeId = u64;
    type Node = MemberRecord;
    type Term = u64;
    type LeaderId = leader_id_std::LeaderId<u64, u64>;
    type Vote = openraft::impls::Vote<Self::LeaderId>;
    type Payload = EntryPayload;
    type Entry = Entry;
    type AsyncRuntime = NodeRuntime;
    type Responder<T>
        = openraft::impls::ProgressResponder<Self, T>
    where
        T: Send + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: Send + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

pub(crate) type LogId = openraft::alias::LogIdOf<TypeConfig>;
pub(crate) type Vote = openraft::alias::VoteOf<TypeConfig>;
pub(crate) type EntryPayload = openraft::impls::EntryPayload<EncodedEnvelope, u64, MemberRecord>;
pub(crate) type Entry =
    openraft::impls::Entry<openraft::alias::CommittedLeaderIdOf<TypeConfig>, EntryPayload>;
pub(crate) type StoredMembership = openraft::alias::StoredMembershipOf<TypeConfig>;
pub(crate) type SnapshotMeta = openraft::alias::SnapshotMetaOf<TypeConfig>;
pub(crate) type RaftHandle = Raft<TypeConfig, StateMachine>;
pub(crate) type RpcError = openraft::errors::RPCError<TypeConfig>;

/// The bytes of an envelope, as they stand in the log.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct EncodedEnvelope(pub(crate) Bytes);

impl fmt::Debug for EncodedEnvelope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "envelope of {} bytes", self.0.len())
    }
}

impl fmt::Display for EncodedEnvelope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, formatter)
    }
}

/// A log id from a position of the storage.
pub(crate) fn log_id(position: mainstay_storage::LogPosition) -> LogId {
    LogId { leader_id: leader_id_of(position.term), index: position.index }
}

/// The storage's position of a log id.
pub(crate) fn position(log_id: &LogId) -> mainstay_storage::LogPosition {
    mainstay_storage::LogPosition { index: log_id.index, term: *log_id.leader_id }
}

fn leader_id_of(term: u64) -> openraft::alias::CommittedLeaderIdOf<TypeConfig> {
    use openraft::vote::RaftLeaderId;
    leader_id_std::LeaderId::new(term, 0).to_committed()
}

/// openraft's vote of a stored one.
pub(crate) fn vote(stored: mainstay_storage::Vote) -> Vote {
    if stored.committed {
        Vote::new_committed(stored.term, stored.node_id)
    } else {
        Vote::new(stored.term, stored.node_id)
    }
}

/// The stored form of openraft's vote.
pub(crate) fn stored_vote(vote: &Vote) -> mainstay_storage::Vote {
    mainstay_storage::Vote {
        term: vote.leader_id.term,
        node_id: vote.leader_id.voted_for,
        committed: vote.committed,
    }
}
