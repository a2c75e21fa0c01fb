//! Turns what a node notes, and where it stands, into what the checkers and the timeline want.
//!
//! Notes are read after every simulated step, in the order in which they were taken. A process is
//! told of as started once its storage can be read; what it noted about its log before that is
//! part of what is read then.

use std::collections::BTreeMap;

use futures_util::FutureExt;
use mainstay_consensus::{Consensus, Role as NodeRole};
use mainstay_storage::Storage;

use crate::{
    checkers::{Ballot, Configuration, EntryMark, NodeEvent, NodeState},
    saboteur::Note,
    timeline::{EventKind, Role},
};

/// What is remembered of one node between steps.
#[derive(Debug, Default)]
pub(crate) struct Observation {
    /// The process that was told of as started.
    started: Option<u32>,
    /// The process whose node id is known.
    named: Option<u32>,
    waiting: Vec<Note>,
    identity: u64,
    state: Option<NodeState>,
    storage_failed: bool,
}

/// What a look at a node brought.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// With their order among the events of all nodes.
    pub(crate) events: Vec<(u64, NodeEvent)>,
    pub(crate) state: Option<NodeState>,
    pub(crate) kinds: Vec<EventKind>,
}

impl Observation {
    /// The process is gone.
    pub(crate) fn stopped(&mut self) -> Vec<NodeEvent> {
        let was_started = self.started.take().is_some();
        self.waiting.clear();
        self.state = None;
        self.storage_failed = false;
        if was_started { vec![NodeEvent::Stopped] } else { Vec::new() }
    }

    /// The folder is gone with its id.
    pub(crate) const fn forget_folder(&mut self) {
        self.identity = 0;
    }

    /// The last state that was seen of the process that runs.
    pub(crate) const fn state(&self) -> Option<NodeState> {
        self.state
    }

    /// The node id in the folder, 0 before it is known.
    pub(crate) const fn identity(&self) -> u64 {
        self.identity
    }

    /// Looks at the process `incarnation` after a step.
    pub(crate) fn look(
        &mut self,
        incarnation: u32,
        consensus: Option<&Consensus>,
        notes: Vec<Note>,
        seats: &BTreeMap<u64, u32>,
    ) -> Seen {
        let mut seen = Seen::default();
        self.waiting.extend(notes);
        if let Some(consensus) = consensus {
            if self.named != Some(incarnation) {
                self.identity = consensus.status().node_id;
                self.named = Some(incarnation);
                seen.kinds.push(EventKind::Named { id: self.identity });
            }
            if self.started != Some(incarnation) {
                self.start(incarnation, consensus, seats, &mut seen);
            }
        }
        if self.started == Some(incarnation) {
            // Those of a process that has just ended count too: what it promised, it promised.
            for note in std::mem::take(&mut self.waiting) {
                self.translate(&note, seats, &mut seen);
            }
            if let Some(consensus) = consensus {
                self.stand(consensus, &mut seen);
            }
        }
        seen
    }

    fn start(
        &mut self,
        incarnation: u32,
        consensus: &Consensus,
        seats: &BTreeMap<u64, u32>,
        seen: &mut Seen,
    ) {
        let Some(storage) = consensus.storage() else { return };
        let Some(entries) = read_log(&storage) else { return };
        let vote = storage.vote();
        self.started = Some(incarnation);
        // What was appended since it started is not on the disk yet.
        let synced = storage.progress().synced.map(|synced| synced.index);
        let (entries, fresh): (Vec<_>, Vec<_>) = entries
            .into_iter()
            .partition(|entry| synced.is_some_and(|synced| entry.index <= synced));
        let order = self.waiting.first().map_or(0, |note| note.order);
        // What was read is made durable before anybody is told of it.
        for note in &self.waiting {
            if let ("storage.durable", &[through]) = (note.step, note.numbers.as_slice()) {
                seen.events.push((order, NodeEvent::Durable { through }));
            }
        }
        let event = NodeEvent::Started {
            identity: self.identity,
            ballot: vote.map(|vote| self.told(vote.term, vote.node_id, vote.committed, seats)),
            snapshot: storage.snapshot().and_then(|info| info.last).map(|last| last.index),
            purged: storage.purged().map(|purged| purged.index),
            entries,
        };
        seen.events.push((order, event));
        if !fresh.is_empty() {
            seen.events.push((order, NodeEvent::Appended(fresh)));
        }
        self.waiting.retain(|note| {
            !matches!(
                note.step,
                "log.appended"
                    | "log.truncated"
                    | "log.purged"
                    | "snapshot.saved"
                    | "log.vote-saved"
            )
        });
    }

    /// A vote as the checkers want it: a follower that takes over the vote by which another node
    /// already leads has not voted, it has only seen the term.
    fn told(
        &self,
        term: u64,
        candidate: u64,
        committed: bool,
        seats: &BTreeMap<u64, u32>,
    ) -> Ballot {
        let only_seen = committed && candidate != self.identity;
        let voted_for = if only_seen { None } else { seats.get(&candidate).copied() };
        Ballot { term, voted_for }
    }

    fn translate(&mut self, note: &Note, seats: &BTreeMap<u64, u32>, seen: &mut Seen) {
        let order = note.order;
        let events = &mut seen.events;
        match (note.step, note.numbers.as_slice()) {
            ("log.appended", &[index, term, hash]) => {
                let mark = EntryMark { index, term, hash };
                match events.last_mut() {
                    Some((_order, NodeEvent::Appended(marks)))
                        if marks.last().is_some_and(|last| last.index + 1 == index) =>
                    {
                        marks.push(mark);
                    }
                    _ => events.push((order, NodeEvent::Appended(vec![mark]))),
                }
            }
            ("log.membership", [index, term, sets, rest @ ..]) => {
                let (index, term) = (*index, *term);
                let configuration = configuration(*sets, rest);
                events.push((order, NodeEvent::Configured { index, term, configuration }));
            }
            ("log.truncated", &[from]) => events.push((order, NodeEvent::Truncated { from })),
            ("log.purged", &[through]) => events.push((order, NodeEvent::Purged { through })),
            ("log.flushed", &[through]) => events.push((order, NodeEvent::Flushed { through })),
            ("storage.durable", &[through]) => events.push((order, NodeEvent::Durable { through })),
            ("log.vote-saved", &[term, candidate, committed]) => {
                let ballot = self.told(term, candidate, committed == 1, seats);
                events.push((order, NodeEvent::VoteSaved(ballot)));
            }
            ("store.applied", &[index, term, hash, sequence, revision, low, high]) => {
                let event = NodeEvent::Applied {
                    entry: EntryMark { index, term, hash },
                    sequence,
                    revision,
                    state_hash: Some(joined(low, high)),
                };
                events.push((order, event));
            }
            ("snapshot.saved", &[index]) => {
                events.push((order, NodeEvent::SnapshotSaved { index }));
                seen.kinds.push(EventKind::SnapshotTaken { index });
            }
            ("snapshot.installed", &[index, sequence, _revision, low, high]) => {
                events.push((order, NodeEvent::SnapshotSaved { index }));
                let state_hash = joined(low, high);
                let event = NodeEvent::SnapshotInstalled { index, sequence, state_hash };
                events.push((order, event));
                seen.kinds.push(EventKind::SnapshotInstalled { index });
            }
            ("proposal.forwarded", _) => seen.kinds.push(EventKind::Forwarded),
            ("storage.torn-tail", _) => seen.kinds.push(EventKind::TornTail { bytes: 0 }),
            _ => {}
        }
    }

    fn stand(&mut self, consensus: &Consensus, seen: &mut Seen) {
        let standing = consensus.standing();
        let state = NodeState {
            role: role(standing.role),
            term: standing.term,
            last: standing.last,
            committed: standing.committed,
            applied: standing.applied,
            snapshot: standing.snapshot,
            purged: standing.purged,
        };
        let before = self.state.replace(state);
        if before.is_none_or(|before| (before.role, before.term) != (state.role, state.term)) {
            seen.kinds.push(EventKind::Role { role: state.role, term: state.term });
        }
        if before != Some(state) {
            seen.state = Some(state);
        }
        let failed = consensus.storage_failure().borrow().is_some();
        if failed && !std::mem::replace(&mut self.storage_failed, true) {
            seen.kinds.push(EventKind::StorageFailed);
        }
    }
}

/// The whole log as it can be read; `None` while the disk has not given it yet.
fn read_log(storage: &Storage) -> Option<Vec<EntryMark>> {
    let mut marks = Vec::new();
    let mut next = storage.purged().map_or(0, |purged| purged.index + 1);
    loop {
        let entries = storage.read(next..u64::MAX, usize::MAX).now_or_never()?.ok()?;
        let Some(last) = entries.last() else { return Some(marks) };
        next = last.index + 1;
        marks.extend(entries.iter().map(|entry| EntryMark {
            index: entry.index,
            term: entry.term,
            hash: u64::from(mainstay_codec::checksum(0, &entry.payload)),
        }));
    }
}

/// The members as `log_store` notes them.
fn configuration(sets: u64, mut numbers: &[u64]) -> Configuration {
    let mut next = || {
        let (len, rest) = numbers.split_first()?;
        let (ids, rest) = rest.split_at_checked(usize::try_from(*len).ok()?)?;
        numbers = rest;
        Some(ids.iter().copied().collect())
    };
    let voters = (0..sets).filter_map(|_set| next()).collect();
    Configuration { voters, learners: next().unwrap_or_default() }
}

const fn role(role: NodeRole) -> Role {
    match role {
        NodeRole::Outsider => Role::Outsider,
        NodeRole::Learner => Role::Learner,
        NodeRole::Follower => Role::Follower,
        NodeRole::Candidate => Role::Candidate,
        NodeRole::Leader => Role::Leader,
    }
}

fn joined(low: u64, high: u64) -> u128 {
    u128::from(high) << 64 | u128::from(low)
}
