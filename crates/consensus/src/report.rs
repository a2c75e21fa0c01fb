//! What a node tells of itself: status, standing, counters, and whether it takes writes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use mainstay_storage::SpaceState;
use openraft::async_runtime::WatchReceiver as _;

use crate::{
    Consensus,
    detection::{self, Detection},
    election::Election,
    membership,
    observation::Leadership,
    running::Running,
    status::{Counters, MemberStatus, ReadOnlyReason, Standing, Status},
    type_config::LogId,
};

impl Consensus {
    /// What this node knows of itself and its cluster.
    #[must_use]
    pub fn status(&self) -> Status {
        let introduction = self.core.introduction();
        let leadership = *self.core.leadership.borrow();
        let running = self.core.running();
        let members = self.members(introduction.node_id, running.as_deref());
        let voters = self.core.membership.borrow().get_joint_config().clone();
        let failures_tolerated = membership::rules::failures_tolerated(&voters, |id| {
            members.get(&id).is_some_and(|member| member.healthy)
        });
        let mut status = Status {
            cluster_id: introduction.cluster_id,
            epoch: introduction.epoch,
            node_id: introduction.node_id,
            role: leadership.role,
            term: leadership.term,
            leader: leader_that_answers(leadership, running.as_deref()),
            members: Arc::new(members),
            last_log_index: 0,
            committed_index: 0,
            applied_index: *self.core.store.applied_index().borrow(),
            snapshot_index: 0,
            failures_tolerated,
            read_only: self.read_only(leadership, running.as_deref()),
            leader_changes: leadership.changes,
            trouble: self.core.trouble.borrow().clone(),
        };
        if let Some(running) = running {
            if status.leader.is_none() {
                // A node that no peer talks to says why.
                status.trouble = status.trouble.or_else(|| running.links.announced().obstacle());
            }
            let metrics = running.raft.data_metrics();
            let metrics = metrics.borrow_watched();
            let index = |id: &Option<LogId>| id.as_ref().map_or(0, |id| id.index);
            status.last_log_index = index(&metrics.last_log);
            status.committed_index = index(&metrics.cluster_committed);
            status.snapshot_index = index(&metrics.snapshot);
        }
        status
    }

    /// Where this node stands: the part of [`Self::status`] that costs a few loads, for those who
    /// ask all the time.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let leadership = *self.core.leadership.borrow();
        let mut standing = Standing {
            role: leadership.role,
            term: leadership.term,
            leader: leadership.leader,
            last: None,
            committed: None,
            applied: None,
            snapshot: None,
            purged: None,
        };
        if let Some(running) = self.core.running() {
            // What openraft has written down, which may be behind what a peer said of itself.
            standing.term = running.raft.server_metrics().borrow_watched().vote.leader_id.term;
            let metrics = running.raft.data_metrics();
            let metrics = metrics.borrow_watched();
            let index = |id: &Option<LogId>| id.as_ref().map(|id| id.index);
            standing.last = running.storage.last().map(|last| last.index);
            standing.committed = index(&metrics.local_committed);
            standing.applied = index(&metrics.last_applied);
            standing.snapshot =
                running.storage.snapshot().and_then(|info| info.last).map(|last| last.index);
            standing.purged = running.storage.purged().map(|purged| purged.index);
        }
        standing
    }

    /// How far this node's store may be behind the cluster; `None` if it cannot be bounded.
    ///
    /// On a follower: the age of the newest question to the leader whose answer's commit index is
    /// applied here, plus the time since a quorum had confirmed that leader when it answered. It
    /// needs no synchronised clocks.
    #[must_use]
    pub fn staleness(&self) -> Option<Duration> {
        let running = self.core.running()?;
        let leadership = *self.core.leadership.borrow();
        if leadership.leads {
            // What earlier leaders committed is here once an entry of this term is.
            let has_all = self.core.store.applied_term() == leadership.term;
            let age_ms = running.pong().quorum_age_ms.filter(|_age| has_all);
            return age_ms.map(Duration::from_millis);
        }
        let pulse = running.links.find(leadership.leader?)?.pulse();
        let (asked_at, pong) = (pulse.asked_at?, pulse.pong?);
        let applied = *self.core.store.applied_index().borrow();
        if !pong.leads || pong.committed_index > applied {
            return None;
        }
        Some(asked_at.elapsed() + Duration::from_millis(pong.quorum_age_ms?))
    }

    /// Counters for metrics.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let mut counters = Counters {
            proposals_pending: self.counters.pending.load(Relaxed),
            proposals_failed: self.counters.failed.load(Relaxed),
            proposals_committed: self.counters.committed.load(Relaxed),
            read_indexes_failed: self.counters.read_indexes_failed.load(Relaxed),
            slow_applies: self.core.store.slow_applies(),
            ..Counters::default()
        };
        if let Some(running) = self.core.running() {
            (counters.batches, counters.batched_entries) = running.batch_counters.totals();
            counters.elections_by_cause = running.elections.counts();
            counters.campaigns = running.campaigns.load(Relaxed);
            counters.hand_overs_refused = running.hand_overs.refused();
            counters.autopilot_actions = running.autopilot.counts();
            counters.heartbeats_sent = running.detector.sent();
            counters.heartbeats_ignored = running.detector.ignored();
            counters.peer_versions = running.links.announced().all();
            for link in running.links.all() {
                counters.peer_round_trips.insert(link.node_id, link.pulse().round_trip);
                let failures = link.control.failures() + link.forward.failures();
                counters.peer_failures.insert(link.node_id, failures);
            }
        }
        counters
    }

    /// What this node makes of the others and of itself; `None` before it is in a cluster.
    #[must_use]
    pub fn detection(&self) -> Option<Detection> {
        let running = self.core.running()?;
        Some(running.detector.tell(detection::stall_budget(&running.storage)))
    }

    /// The newest elections that this node knows of, at most `limit`, newest first; those before
    /// its last start included.
    #[must_use]
    pub fn elections(&self, limit: usize) -> Vec<Election> {
        self.core.running().map(|running| running.elections.newest(limit)).unwrap_or_default()
    }

    /// Why this node refuses writes, as far as quorum and disk go.
    #[must_use]
    pub fn read_only_reason(&self) -> Option<ReadOnlyReason> {
        let leadership = *self.core.leadership.borrow();
        self.read_only(leadership, self.core.running().as_deref())
    }

    fn members(&self, node_id: u64, running: Option<&Running>) -> BTreeMap<u64, MemberStatus> {
        let membership = Arc::clone(&self.core.membership.borrow());
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        membership
            .nodes()
            .map(|(id, record)| {
                let healthy = if *id == node_id {
                    !self.core.is_storage_failed()
                } else {
                    running
                        .and_then(|running| running.links.find(*id))
                        .is_some_and(|link| link.is_healthy())
                };
                let voter = voters.contains(id);
                (*id, MemberStatus { id: *id, record: record.clone(), voter, healthy })
            })
            .collect()
    }

    fn read_only(
        &self,
        leadership: Leadership,
        running: Option<&Running>,
    ) -> Option<ReadOnlyReason> {
        if self.core.is_storage_failed() {
            return Some(ReadOnlyReason::StorageFailed);
        }
        let running = running?;
        if *running.storage.space().borrow() != SpaceState::Ok {
            return Some(ReadOnlyReason::DiskReserve);
        }
        let lease = Duration::from_millis(self.core.options().settings.election_timeout_ms_max);
        let confirmed = if leadership.leads {
            running.pong().quorum_age_ms.is_some_and(|age| Duration::from_millis(age) <= lease)
        } else {
            // An election is no reason yet.
            leadership.had_one_within(lease)
                || leader_that_answers(leadership, Some(running)).is_some()
        };
        (!confirmed).then_some(ReadOnlyReason::NoQuorum)
    }
}

/// The leader, if it is this node or answers: openraft names the last one until there is another,
/// and after a restart the one that this node voted for.
fn leader_that_answers(leadership: Leadership, running: Option<&Running>) -> Option<u64> {
    leadership.leader.filter(|leader| {
        let link = running.and_then(|running| running.links.find(*leader));
        leadership.leads || link.is_some_and(|link| link.pulse().leads(leadership.term))
    })
}
