//! The record of one run: what nodes did, what clients saw, what was found wrong.
//!
//! The world and the clients write into it as things happen; the checkers that sit beside the run
//! are told from here, the others read it at the end.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    checkers::{self, Configuration, Evidence, NodeEvent, NodeState, Violation},
    history::{Answer, Call, History, OperationId, Outcome},
    timeline::{EventKind, Timeline, Voter},
};

/// A record that the world and the clients share.
#[derive(Clone, Default)]
pub struct SharedRecord(Arc<Mutex<Record>>);

impl SharedRecord {
    /// The record, for a moment.
    pub fn lock(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The record, if nobody has it at this moment.
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, Record>> {
        self.0.try_lock().ok()
    }
}

/// See the module comment.
#[derive(Default)]
pub struct Record {
    /// What clients did and saw.
    pub history: History,
    /// What happened, for people.
    pub timeline: Timeline,
    /// What was found wrong so far.
    pub violations: Vec<Violation>,
    /// The rules of consensus, held against what the nodes do.
    consensus: Option<checkers::Cluster>,
    /// Acknowledgements that rest on what the nodes did in the present step.
    fresh: Vec<(u32, u64)>,
    /// Which node has which node id, as far as the world knows.
    pub members: BTreeMap<u64, u32>,
    /// The nodes that the operator runs.
    pub in_use: Vec<u32>,
    acknowledged: u64,
    newest_revision: u64,
    newest_deletion: u64,
    compacted: u64,
    streams: u32,
}

impl Record {
    /// A node did something.
    pub fn node_event(&mut self, at_us: u64, node: u32, event: NodeEvent) {
        if let Some(consensus) = &mut self.consensus {
            consensus.happened(at_us, node, event);
        }
    }

    /// A node stands somewhere else than before.
    pub fn node_state(&mut self, at_us: u64, node: u32, state: NodeState) {
        if let Some(consensus) = &mut self.consensus {
            consensus.stands(at_us, node, state);
        }
    }

    /// Holds the rules of consensus against the nodes from now on.
    pub fn watch_over(&mut self) {
        self.consensus = Some(checkers::Cluster::new(Evidence::Disks));
    }

    /// The configurations that decide now or may soon; empty before the first.
    #[must_use]
    pub fn configurations(&self) -> Vec<Configuration> {
        let consensus = self.consensus.as_ref();
        let configurations = consensus.map(checkers::Cluster::configurations).unwrap_or_default();
        configurations.into_iter().cloned().collect()
    }

    /// A step is over: every node has been looked at.
    pub fn step_ended(&mut self, at_us: u64) {
        let Some(consensus) = &mut self.consensus else { return };
        for (node, revision) in self.fresh.drain(..) {
            consensus.acknowledged(at_us, node, revision);
        }
        consensus.step_ended(at_us);
        for change in consensus.take_voter_changes() {
            let place = |id: &u64| self.members.get(id).map(|node| Voter { id: *id, node: *node });
            let places = |ids: &BTreeSet<u64>| ids.iter().filter_map(place).collect();
            let kind =
                EventKind::VotersChange { from: places(&change.from), to: places(&change.to) };
            self.timeline.record(at_us, Some(change.leader), kind);
        }
        for violation in consensus.take_violations() {
            let what = violation.to_string();
            self.timeline.record(at_us, violation.node, EventKind::Violation { what });
            self.violations.push(violation);
        }
    }

    /// Something for the timeline.
    pub fn happened(&mut self, at_us: u64, node: Option<u32>, kind: EventKind) {
        self.timeline.record(at_us, node, kind);
    }

    /// A client is about to call.
    pub fn invoked(&mut self, at_us: u64, client: u32, node: u32, call: Call) -> OperationId {
        self.history.invoked(at_us, client, node, call)
    }

    /// A call ended.
    pub fn returned(&mut self, at_us: u64, id: OperationId, node: Option<u32>, outcome: Outcome) {
        self.history.returned(at_us, id, outcome);
        let operation = self.history.operation_mut(id);
        if let Some(node) = node {
            operation.node = node;
        }
        if let Some((revision, answer)) = operation.answer() {
            self.newest_revision = self.newest_revision.max(revision);
            match (&operation.call, answer) {
                (_, Answer::Deleted { deleted: true }) => {
                    self.newest_deletion = self.newest_deletion.max(revision);
                }
                (Call::Compact { revision }, _) => self.compacted = self.compacted.max(*revision),
                _ => {}
            }
        }
        let (client, asked, invoked_us) = (operation.client, operation.node, operation.invoked_us);
        let is_read = matches!(operation.call, Call::Get { .. } | Call::LeaseTimeToLive { .. });
        if let Some(revision) = operation.wrote_at() {
            self.acknowledged += 1;
            self.fresh.push((asked, revision));
            let kind = EventKind::Acknowledged { client, invoked_us, revision };
            self.timeline.record(at_us, Some(asked), kind);
        } else if operation.outcome == Outcome::Unknown && !is_read {
            self.timeline.record(at_us, Some(asked), EventKind::OutcomeUnknown { client });
        }
    }

    /// The node with this node id.
    #[must_use]
    pub fn node_of(&self, member: u64) -> Option<u32> {
        self.members.get(&member).copied()
    }

    /// The highest revision that any answer carried.
    #[must_use]
    pub const fn newest_revision(&self) -> u64 {
        self.newest_revision
    }

    /// The revision of the newest acknowledged deletion; 0 before the first.
    #[must_use]
    pub const fn newest_deletion(&self) -> u64 {
        self.newest_deletion
    }

    /// The highest revision that was certainly compacted to; 0 before the first.
    #[must_use]
    pub const fn compacted(&self) -> u64 {
        self.compacted
    }

    /// A number for one more stream of watchers.
    pub const fn next_stream(&mut self) -> u32 {
        self.streams += 1;
        self.streams - 1
    }

    /// Acknowledged writes so far.
    #[must_use]
    pub const fn acknowledged(&self) -> u64 {
        self.acknowledged
    }
}
