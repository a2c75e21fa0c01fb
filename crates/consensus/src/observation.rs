//! What openraft says of itself, in the few values that other tasks wait for.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use mainstay_world::Instant;
use openraft::{ServerState, async_runtime::WatchReceiver as _};
use tokio::sync::watch;
use tracing::{error, info};

use crate::{
    detection::Detector,
    peer::link::Links,
    status::Role,
    type_config::{RaftHandle, StoredMembership},
};

/// Who leads, as this node sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leadership {
    /// The term.
    pub(crate) term: u64,
    /// The leader, if one is known.
    pub(crate) leader: Option<u64>,
    /// Since when none is known, if one was before: an election is on, or more is wrong.
    pub(crate) lost_at: Option<Instant>,
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
        lost_at: None,
        leads: false,
        alone: false,
        role: Role::Outsider,
        changes: 0,
    };

    /// Whether there was a leader within this time, though none is known now.
    pub(crate) fn had_one_within(&self, time: Duration) -> bool {
        self.lost_at.is_some_and(|lost_at| lost_at.elapsed() <= time)
    }

    fn lost_at_when_next_is(&self, leader: Option<u64>) -> Option<Instant> {
        match (self.leader, leader) {
            (_, Some(_)) => None,
            (Some(_), None) => Some(Instant::now()),
            (None, None) => self.lost_at,
        }
    }
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
///
/// openraft takes over a new leader only once it has written that down. A node whose disk hangs
/// would name the old one, or itself, all the while; so what a peer says of itself counts as soon
/// as it is of a later term. Nothing safe hangs on it: whoever is asked wrongly says so.
pub(crate) async fn follow(
    raft: RaftHandle,
    node_id: u64,
    leadership: watch::Sender<Leadership>,
    membership: watch::Sender<Arc<StoredMembership>>,
    links: Arc<Links>,
    detector: Detector,
) {
    let mut metrics = raft.server_metrics();
    let mut claims = detector.claims();
    loop {
        let claim = *claims.borrow_and_update();
        let (next, members) = {
            let metrics = metrics.borrow_watched();
            let members = Arc::clone(&metrics.membership_config);
            let before = *leadership.borrow();
            let (mut term, mut leader) = (metrics.vote.leader_id.term, metrics.current_leader);
            let mut role = role(metrics.state, &members, node_id);
            if claim.term > term && members.get_node(&claim.leader).is_some() {
                (term, leader) = (claim.term, Some(claim.leader));
                if matches!(role, Role::Leader | Role::Candidate) {
                    role = Role::Follower;
                }
            }
            let changed = leader != before.leader;
            let next = Leadership {
                term,
                leader,
                lost_at: before.lost_at_when_next_is(leader),
                leads: role == Role::Leader,
                alone: members.voter_ids().all(|id| id == node_id),
                role,
                changes: before.changes + u64::from(changed && leader.is_some()),
            };
            (next, members)
        };
        if **membership.borrow() != *members {
            for (id, record) in members.nodes().filter(|(id, _record)| **id != node_id) {
                links.to(*id, record);
            }
            links.retain(|id| members.get_node(&id).is_some());
            links.announced().retain(
                |id| members.get_node(&id).is_some(),
                |address| members.nodes().any(|(_id, record)| record.peer_address == address),
            );
            let peers = members.nodes().map(|(id, _record)| *id);
            detector.watch_only(peers.filter(|id| *id != node_id));
            membership.send_replace(members);
        }
        let before = leadership.send_replace(next);
        if before.leader != next.leader {
            note_change(next);
        }
        tokio::select! {
            changed = metrics.changed() => if changed.is_err() { return },
            // The detector lives as long as this task.
            _changed = claims.changed() => {}
        }
    }
}

/// Consensus ended although nobody stopped it: the node must not fall silent.
pub(crate) fn note_end(raft: &RaftHandle, failure: &watch::Sender<Option<String>>) {
    let metrics = raft.metrics();
    let Err(fatal) = &metrics.borrow_watched().running_state else { return };
    failure.send_if_modified(|failure| {
        let is_news = failure.is_none();
        if is_news {
            error!(error = %fatal, "consensus has stopped");
            *failure = Some(format!("consensus has stopped and needs a restart: {fatal}"));
        }
        is_news
    });
}

fn note_change(now: Leadership) {
    match now.leader {
        Some(leader) => {
            info!(term = now.term, leader, "there is a leader");
        }
        None => info!(term = now.term, "there is no leader now"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_leader_that_was_lost_is_remembered_for_a_while_and_one_that_never_was_is_not() {
        let lease = Duration::from_millis(300);
        let follow = |before: Leadership, leader| Leadership {
            leader,
            lost_at: before.lost_at_when_next_is(leader),
            ..before
        };
        let never = follow(Leadership::UNKNOWN, None);
        assert!(!never.had_one_within(lease));
        let lost = follow(follow(never, Some(7)), None);
        tokio::time::advance(Duration::from_millis(200)).await;
        let still = follow(lost, None);
        assert!(still.had_one_within(lease));
        tokio::time::advance(Duration::from_millis(200)).await;
        assert!(!follow(still, None).had_one_within(lease));
        assert!(!follow(still, Some(8)).had_one_within(lease), "there is one");
    }
}
