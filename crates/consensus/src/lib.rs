//! Consensus (documentation follows).
#![allow(missing_docs, clippy::todo, clippy::allow_attributes_without_reason, unused_variables)]

mod error;
mod status;

use std::{sync::Arc, time::Duration};

use mainstay_kv::{Proposal, Settings, outcome::Applied};
use mainstay_storage as _;
use mainstay_world::{Instant, Listener, World};
use tokio::sync::watch;

pub use error::{NotTaken, ProposeError, ReadIndexError};
pub use status::{
    AppliedPosition, Counters, MemberRecord, MemberStatus, ReadOnlyReason, Role, Status,
};

/// How a node finds its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Birth {
    /// The same list on every node, the first creates the cluster.
    Bootstrap(Vec<BootstrapPeer>),
    /// Ask a member, by its client URL, to be let in.
    Join(String),
    /// The folder knows.
    Resume,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootstrapPeer {
    pub name: String,
    pub peer_address: String,
}

#[derive(Debug, Clone)]
pub struct Options {
    pub name: String,
    /// Where peers dial this node.
    pub peer_address: String,
    pub client_urls: Vec<String>,
    pub zone: String,
    pub site: String,
    pub version: String,
    pub birth: Birth,
    /// First values of the replicated settings, if this node creates the cluster.
    pub settings: Settings,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("placeholder")]
    Placeholder,
}

/// A handle; cheap to clone.
#[derive(Clone)]
pub struct Consensus(Arc<()>);

impl Consensus {
    /// Opens the folder, replays what is committed, starts all tasks and answers; the birth of
    /// the cluster goes on in the background (see `Status::trouble`, `Status::cluster_id`).
    pub async fn start(
        options: Options,
        world: World,
        peer_listener: Box<dyn Listener>,
    ) -> Result<Self, StartError> {
        todo!()
    }
    /// Commits and applies `proposal`; follower nodes pass it on to the leader. Answers when it is
    /// applied on the node that led.
    pub async fn propose(
        &self,
        proposal: &Proposal,
        deadline: Instant,
    ) -> Result<Applied, ProposeError> {
        todo!()
    }
    /// Returns when this node's store holds everything that was committed when this was called.
    pub async fn read_index(&self, deadline: Instant) -> Result<(), ReadIndexError> {
        todo!()
    }
    /// Runs `read` on the store. Keep it short: applying waits meanwhile.
    pub fn read<T>(&self, read: impl FnOnce(&mainstay_kv::Store) -> T) -> T {
        todo!()
    }
    pub fn status(&self) -> Status {
        todo!()
    }
    /// Woken at each change of leader, term, role, membership, read-only state.
    pub fn status_changes(&self) -> watch::Receiver<u64> {
        todo!()
    }
    /// The store's position, changed after each applied batch.
    pub fn applied(&self) -> watch::Receiver<AppliedPosition> {
        todo!()
    }
    /// How far this node's store may be behind: now minus the send time of the leader's message that
    /// carried the last applied commit index; `None` if it cannot be bounded.
    pub fn staleness(&self) -> Option<Duration> {
        todo!()
    }
    pub fn counters(&self) -> Counters {
        todo!()
    }
    /// The storage, for metrics of syncs and space.
    pub fn storage(&self) -> Option<mainstay_storage::Storage> {
        todo!()
    }
    /// Takes a snapshot now; its last log index.
    pub async fn take_snapshot(&self) -> Result<u64, NotTaken> {
        todo!()
    }
    /// Set once when the storage failed for good; the process should then exit with code 74 (see design).
    pub fn storage_failure(&self) -> watch::Receiver<Option<String>> {
        todo!()
    }
    /// Refuses new proposals, hands over leadership if it leads, stops all tasks, closes the storage.
    pub async fn shutdown(&self) {
        todo!()
    }
}
