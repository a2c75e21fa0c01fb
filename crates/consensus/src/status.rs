//! What a node knows of itself and its cluster, as one cheap value.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use mainstay_failure_detector::IgnoredCounts;
use serde::{Deserialize, Serialize};

use crate::versions::PeerVersions;

/// A member as the cluster records it; stored in the log and in snapshots.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRecord {
    /// The name that people use; one living member each.
    pub name: String,
    /// The data folder's id, which is the node id: a member id with another folder is refused.
    pub folder_id: u64,
    /// Where peers dial it, `host:port`.
    pub peer_address: String,
    /// Where clients find it.
    pub client_urls: Vec<String>,
    /// The failure zone, or empty.
    pub zone: String,
    /// The site, or empty.
    pub site: String,
    /// The program's version when it joined.
    pub version: String,
}

/// What a node is to the cluster right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Not in a cluster yet, or shut out of it.
    Outsider,
    /// Receives the log, has no vote.
    Learner,
    /// Follows a leader or waits for one.
    Follower,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}

/// One member as this node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberStatus {
    /// The node id.
    pub id: u64,
    /// What the cluster records about it.
    pub record: MemberRecord,
    /// Whether it has a vote.
    pub voter: bool,
    /// Whether it answered within the last second, or is this node and works.
    pub healthy: bool,
}

/// Why writes are refused although reads are served; the one list of reasons, whoever finds them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadOnlyReason {
    /// No quorum for one leader lease.
    NoQuorum,
    /// The store is at its quota.
    Quota,
    /// The disk is nearly full: the reserve is in use.
    DiskReserve,
    /// A write or sync failed, or an entry cannot be applied; only a restart helps.
    StorageFailed,
    /// An operator wants it so: the setting `read_only`.
    Operator,
    /// An import is filling the store.
    Import,
    /// The site has no permit to take writes: another one may have its title.
    DisasterRecovery,
}

impl ReadOnlyReason {
    /// The reason in one word, as the API shows it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoQuorum => "no_quorum",
            Self::Quota => "quota",
            Self::DiskReserve => "disk_reserve",
            Self::StorageFailed => "storage_failed",
            Self::Operator => "operator",
            Self::Import => "import",
            Self::DisasterRecovery => "disaster_recovery",
        }
    }

    /// All reasons.
    pub const ALL: [Self; 7] = [
        Self::NoQuorum,
        Self::Quota,
        Self::DiskReserve,
        Self::StorageFailed,
        Self::Operator,
        Self::Import,
        Self::DisasterRecovery,
    ];

    /// What happened, as a clause.
    #[must_use]
    pub const fn why(self) -> &'static str {
        match self {
            Self::NoQuorum => "no quorum has answered for a leader lease",
            Self::Quota => "the store is at its quota",
            Self::DiskReserve => "the disk is nearly full",
            Self::StorageFailed => "the storage of this node failed",
            Self::Operator => "an operator made the cluster read-only",
            Self::Import => "an import is filling the cluster",
            Self::DisasterRecovery => "this site has no permit to take writes",
        }
    }

    /// What to do, as a clause.
    #[must_use]
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::NoQuorum => "bring voters back, mainstay status shows who is missing",
            Self::Quota => "delete or compact to make room, or raise quota_bytes",
            Self::DiskReserve => "make room on the disk of the data folder",
            Self::StorageFailed => "restart this node, others may take writes meanwhile",
            Self::Operator => "mainstay read-only off lets writes in again",
            Self::Import => "it ends with the import: repeat mainstay import-etcd to go on with it",
            Self::DisasterRecovery => "write at the site that has the title",
        }
    }
}

/// A snapshot of what a node knows; cheap to clone.
#[derive(Debug, Clone)]
pub struct Status {
    /// The cluster, 0 before it is born.
    pub cluster_id: u64,
    /// The epoch, 0 before the cluster is born.
    pub epoch: u64,
    /// This node.
    pub node_id: u64,
    /// What this node is.
    pub role: Role,
    /// The term.
    pub term: u64,
    /// The leader, if one is known and answered this node within the last second.
    pub leader: Option<u64>,
    /// All members by id; empty before the cluster is born.
    pub members: Arc<BTreeMap<u64, MemberStatus>>,
    /// Index of the last entry in this node's log.
    pub last_log_index: u64,
    /// Index of the last committed entry this node knows of.
    pub committed_index: u64,
    /// Index of the last applied entry.
    pub applied_index: u64,
    /// Index of the last entry in the newest snapshot.
    pub snapshot_index: u64,
    /// Healthy voters minus quorum; negative when writes cannot succeed.
    pub failures_tolerated: i64,
    /// Why writes are refused, if they are, for reasons of this node (quota is the store's).
    pub read_only: Option<ReadOnlyReason>,
    /// How often this node saw the leader change since it started.
    pub leader_changes: u64,
    /// What keeps this node from serving, as a sentence, if anything does.
    pub trouble: Option<Arc<str>>,
}

/// Where a node stands; positions are log indexes, `None` before the first entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// What this node is.
    pub role: Role,
    /// The term.
    pub term: u64,
    /// The leader, if one is known.
    pub leader: Option<u64>,
    /// The last entry in this node's log.
    pub last: Option<u64>,
    /// The last committed entry this node knows of.
    pub committed: Option<u64>,
    /// The last applied entry.
    pub applied: Option<u64>,
    /// The last entry in the newest snapshot.
    pub snapshot: Option<u64>,
    /// The last entry that was purged.
    pub purged: Option<u64>,
}

/// How far the store of this node is, for those who wait for changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AppliedPosition {
    /// The store's sequence.
    pub sequence: u64,
    /// The store's revision.
    pub revision: u64,
    /// Raised whenever a snapshot replaced the whole store.
    pub generation: u64,
}

/// Counters of one node, for metrics.
#[derive(Debug, Clone, Default)]
pub struct Counters {
    /// Proposals that wait for their outcome on this node.
    pub proposals_pending: u64,
    /// Proposals refused or of unknown outcome.
    pub proposals_failed: u64,
    /// Proposals of this node that were committed.
    pub proposals_committed: u64,
    /// Read indexes that were asked for and not obtained.
    pub read_indexes_failed: u64,
    /// Batches whose apply took longer than 100 ms.
    pub slow_applies: u64,
    /// Entries in the newest batch and in all batches, to tell the mean batch.
    pub batches: u64,
    /// Entries in all batches.
    pub batched_entries: u64,
    /// Round trip of the newest answered ping, by peer.
    pub peer_round_trips: BTreeMap<u64, Duration>,
    /// What the members announced when they were last greeted, by member.
    pub peer_versions: BTreeMap<u64, PeerVersions>,
    /// Calls to a peer that failed, by peer.
    pub peer_failures: BTreeMap<u64, u64>,
    /// Elections that this node saw since it started, by the word of their cause.
    pub elections_by_cause: BTreeMap<&'static str, u64>,
    /// How often this node asked for a pre-vote.
    pub campaigns: u64,
    /// What this node did about the members by itself as the leader, by the word of the action.
    pub autopilot_actions: BTreeMap<&'static str, u64>,
    /// Hand-overs that this node refused as the leader.
    pub hand_overs_refused: u64,
    /// Heartbeats that this node sent, to all peers together.
    pub heartbeats_sent: u64,
    /// Heartbeats that were counted and not used, by peer.
    pub heartbeats_ignored: BTreeMap<u64, IgnoredCounts>,
}
