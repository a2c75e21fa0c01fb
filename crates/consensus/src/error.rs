//! How proposing, reading and starting can fail.

use std::time::Duration;

use crate::status::ReadOnlyReason;

/// A proposal without an outcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// It was certainly not appended anywhere; repeating it is safe.
    #[error(transparent)]
    NotTaken(#[from] NotTaken),
    /// It may or may not have been, or yet be, applied.
    #[error("the outcome is unknown: {why}")]
    OutcomeUnknown {
        /// What happened, as a clause.
        why: &'static str,
    },
}

/// Why a proposal was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// No leader is known, or the leader cannot reach a quorum.
    #[error("there is no leader right now")]
    NoLeader,
    /// This node is not in a cluster.
    #[error("this node is not a member of a cluster yet")]
    NotReady,
    /// Too much waits already.
    #[error("too many writes wait; retry after {} ms", retry_after.as_millis())]
    Overloaded {
        /// When to try again.
        retry_after: Duration,
    },
    /// The envelope is larger than any the log takes.
    #[error("the request has {len} bytes, more than the {limit} a log entry takes")]
    TooLarge {
        /// Bytes of the proposal.
        len: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// Writes are refused for now.
    #[error(
        "writes are refused: {} ({}); the data is safe, reads go on; {}",
        reason.why(), reason.as_str(), reason.remedy()
    )]
    ReadOnly {
        /// Why.
        reason: ReadOnlyReason,
    },
    /// The node is stopping.
    #[error("this node is shutting down")]
    ShuttingDown,
}

/// A read index that was not obtained.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadIndexError {
    /// No leader, or it cannot reach a quorum.
    #[error("there is no leader right now")]
    NoLeader,
    /// This node is not in a cluster, or its store is not readable.
    #[error("this node is not a member of a cluster yet")]
    NotReady,
    /// The deadline passed.
    #[error("no read index came within the deadline")]
    Timeout,
    /// The node is stopping.
    #[error("this node is shutting down")]
    ShuttingDown,
}

/// A node that cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The folder's record of itself cannot be read.
    #[error("the data folder cannot be read")]
    Folder(#[from] mainstay_storage::FolderReadError),
    /// The folder's record of itself cannot be written.
    #[error("the data folder cannot be written")]
    FolderWrite(#[source] std::io::Error),
    /// The folder belongs to a node of another name.
    #[error(
        "the data folder belongs to node {folder}, not to {wanted}; give {wanted} a folder of its own, or start it as {folder}"
    )]
    OtherNode {
        /// The name in the folder.
        folder: String,
        /// The name the node was started with.
        wanted: String,
    },
    /// The folder belongs to another cluster than the nodes of the bootstrap list.
    #[error(
        "the data folder belongs to cluster {folder}, but {peer} of the bootstrap list is in cluster {found}; start this node with a folder of that cluster, or with the list of its own"
    )]
    OtherCluster {
        /// The cluster in the folder.
        folder: u64,
        /// A node of the list.
        peer: String,
        /// The cluster that node is in.
        found: u64,
    },
    /// The node was removed from its cluster.
    #[error(
        "the node of this data folder was removed from its cluster; start it with an empty folder to join again as a new node"
    )]
    Removed,
    /// An empty folder and no word about a cluster.
    #[error(
        "the data folder is empty; say with --bootstrap which nodes form the cluster, or with --join which one to join"
    )]
    NoCluster,
    /// The log, vote or snapshot cannot be used.
    #[error("the data folder cannot be opened")]
    Storage(#[from] mainstay_storage::OpenError),
    /// What is in the log or the snapshot cannot be applied by this program.
    #[error("the data folder cannot be used by this program: {why}")]
    Unusable {
        /// What cannot be applied, and what to do.
        why: String,
    },
    /// Timings that contradict each other.
    #[error(
        "the timings contradict each other: heartbeat must be below the shortest election timeout, and that below the longest"
    )]
    Timings(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// openraft refuses what it found.
    #[error("consensus cannot start on this data folder")]
    Consensus(#[source] Box<dyn std::error::Error + Send + Sync>),
}
