//! What openraft says of itself, in the few values that other tasks wait for.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use mainstay_world::{self as world, History};
use openraft::{ServerState, async_runtime::WatchReceiver as _};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::info;

use crate::{
    peer::link::Links,
    status::Role,
    type_config::{RaftHandle, StoredMembership},
};

/// Kind of the history records about changes of leader.
pub(crate) const LEADER_CHANGES: &str = "leader-changes";

/// Changes of leader kept in the history.
const LEADER_CHANGES_KEPT: usize = 1_000;

/// Who leads, as this node sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leadership {
    /// The term.
    pub(crate) term: u64,
    /// The leader, if one is known.
    pub(crate) leader: Option<u64>,
    /// Whether it is this node.
    pub(crate) leads: bool,
    /// Whether this node is a quorum by itself.
    pub(crate) alone: bool,
    /// What this node is.
    pub(crate) role: Role,
    /// Changes of leader seen since the start.
    pub(crate) changes: u64,
}

impl Leadership {
    /// Before anything is known.
    pub(crate) const UNKNOWN: Self = Self {
        term: 0,
        leader: None,
        leads: false,
        alone: false,
        role: Role::Outsider,
        changes: 0,
    };
}

/// A change of leader, as it is kept in the history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderChange {
    /// The wall clock in milliseconds since 1970.
    pub wall_ms: u64,
    /// The term.
    pub term: u64,
    /// The new leader; `None` when there is none now.
    pub leader: Option<u64>,
}

/// Counts batches.
#[derive(Debug, Default)]
pub(crate) struct BatchCounters {
    batches: AtomicU64,
    entries: AtomicU64,
}

impl BatchCounters {
    pub(crate) fn record(&self, entries: usize) {
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.entries.fetch_add(entries as u64, Ordering::Relaxed);
    }

    /// Batches, and entries in them.
    pub(crate) fn totals(&self) -> (u64, u64) {
        (self.batches.load(Ordering::Relaxed), self.entries.load(Ordering::Relaxed))
    }
}

/// Follows openraft's metrics for as long as it runs.
pub(crate) async fn follow(
    raft: RaftHandle,
    node_id: u64,
    leadership: watch::Sender<Leadership>,
    membership: watch::Sender<Arc<StoredMembership>>,
    links: Arc<Links>,
    history: Arc<dyn History>,
) {
    let mut metrics = raft.server_metrics();
    loop {
        let (next, members) = {
            let metrics = metrics.borrow_watched();
            let members = Arc::clone(&metrics.membership_config);
            let before = *leadership.borrow();
            let role = role(metrics.state, &members, node_id);
            let changed = metrics.current_leader != before.leader;
            let next = Leadership {
                term: metrics.vote.leader_id.term,
                leader: metrics.current_leader,
                leads: role == Role::Leader,
                alone: members.voter_ids().all(|id| id == node_id),
                role,
                changes: before.changes + u64::from(changed && metrics.current_leader.is_some()),
            };
            (next, members)
        };
        if **membership.borrow() != *members {
            for (id, record) in members.nodes().filter(|(id, _record)| **id != node_id) {
                links.to(*id, record);
            }
            links.retain(|id| members.get_node(&id).is_some());
            membership.send_replace(members);
        }
        let before = leadership.send_replace(next);
        if before.leader != next.leader {
            note_change(&history, next);
        }
        if metrics.changed().await.is_err() {
            return;
        }
    }
}

fn note_change(history: &Arc<dyn History>, now: Leadership) {
    match now.leader {
        Some(leader) => {
            info!(term = now.term, leader = %format_args!("{leader:016x}"), "there is a leader");
        }
        None => info!(term = now.term, "there is no leader now"),
    }
    let change =
        LeaderChange { wall_ms: world::wall_clock_ms(), term: now.term, leader: now.leader };
    if let Ok(bytes) = mainstay_codec::encode(&change) {
        history.append(LEADER_CHANGES, Bytes::from(bytes), LEADER_CHANGES_KEPT);
    }
}

fn role(state: ServerState, members: &StoredMembership, node_id: u64) -> Role {
    match state {
        ServerState::Leader => Role::Leader,
        ServerState::Candidate => Role::Candidate,
        ServerState::Follower => Role::Follower,
        ServerState::Learner if members.get_node(&node_id).is_some() => Role::Learner,
        ServerState::Learner | ServerState::Shutdown => Role::Outsider,
    }
}
