//! What is known of one node, and the promises that it keeps or breaks by itself.
//!
//! Promises outlive the process: a vote or an entry that the node said is on its disk must be there
//! when it starts again. Positions do not: the saved commit index may be lost with the power, so
//! committed and applied positions may only not go back while the process lives.

use super::{Findings, log::Log};
use crate::{
    checkers::{Ballot, EntryMark, Evidence, NodeState, Rule},
    timeline::Role,
};

/// What is known of one node.
#[derive(Debug, Default)]
pub(super) struct Node {
    /// The node id in its folder.
    pub(super) identity: Option<u64>,
    /// Where it said it stands, in this life of its process.
    pub(super) state: Option<NodeState>,
    /// Its log.
    pub(super) log: Log,
    /// The last entry that its store applied in this life, its sequence and its revision; set by a
    /// snapshot too. `None` until something is known.
    pub(super) applied: Option<Applied>,
    /// The highest term it has shown to know.
    pub(super) term: u64,
    /// The term it stood in last, or started with.
    stood_in: u64,
    /// The last entry that it said is on its disk.
    flushed: Option<u64>,
    /// The last entry that its disk holds.
    durable: Option<u64>,
    /// The last entry in a snapshot on its disk.
    snapshot: Option<u64>,
    /// The newest vote that it said is on its disk.
    ballot: Option<Ballot>,
    /// The last entry that its disk held before a bit of it flipped.
    held_before_rot: Option<u64>,
}

/// What a store applied last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Applied {
    /// The index of the entry.
    pub(super) index: u64,
    /// The store's sequence; `None` if only the index is known.
    pub(super) sequence: Option<u64>,
}

/// What a starting process read from its disk.
pub(super) struct Start {
    pub(super) identity: u64,
    pub(super) ballot: Option<Ballot>,
    pub(super) snapshot: Option<u64>,
    pub(super) purged: Option<u64>,
    pub(super) entries: Vec<EntryMark>,
}

impl Node {
    /// Takes over what the starting process read, after comparing it with what was promised.
    pub(super) fn start(&mut self, start: Start, evidence: Evidence, findings: &mut Findings) {
        let log = Log::new(start.purged, start.entries);
        let covered = start.snapshot.max(start.purged);
        if let Some(promised) = self.ballot
            && !start.ballot.is_some_and(|found| honours(found, promised))
        {
            findings.add(
                Rule::PromiseKept,
                format!(
                    "it promised {}, and started again with {}",
                    show_ballot(promised),
                    start.ballot.map_or_else(|| "no vote".to_owned(), show_ballot)
                ),
            );
        }
        self.compare_entries(&log, covered, findings);
        if covered < self.snapshot {
            findings.add(
                Rule::PromiseKept,
                format!("its snapshot of entry {} is gone after the start", show(self.snapshot)),
            );
        }
        let last = log.last().map(|last| last.index);
        if evidence == Evidence::Disks && last > self.durable && last > covered {
            findings.add(
                Rule::PromiseKept,
                format!(
                    "it started with entries up to {}, of which its disk holds those up to {}",
                    show(last),
                    show(self.durable)
                ),
            );
        }
        let ballot = start.ballot.max(self.ballot);
        *self = Self {
            identity: Some(start.identity),
            state: None,
            log,
            applied: start.snapshot.map(|index| Applied { index, sequence: None }),
            term: ballot.map_or(0, |ballot| ballot.term),
            stood_in: ballot.map_or(0, |ballot| ballot.term),
            flushed: last,
            durable: match evidence {
                Evidence::Disks => self.durable.min(last),
                Evidence::Promises => last,
            },
            snapshot: covered,
            ballot,
            held_before_rot: self.held_before_rot,
        };
    }

    fn compare_entries(&self, log: &Log, covered: Option<u64>, findings: &mut Findings) {
        let Some(flushed) = self.flushed else { return };
        let from = covered.map_or(0, |covered| covered + 1);
        let gone = (from..=flushed)
            .filter_map(|index| self.log.get(index))
            .find(|promised| log.get(promised.index) != Some(promised));
        if let Some(promised) = gone {
            let found = log.get(promised.index);
            findings.add(
                Rule::PromiseKept,
                format!(
                    "it promised to have {}, and started again with {}",
                    show_entry(*promised),
                    found.map_or_else(|| "nothing there".to_owned(), |found| show_entry(*found))
                ),
            );
        }
    }

    /// Forgets everything: the disk is gone. Returns the id that must not come back, and the last
    /// entry that its disk held.
    pub(super) fn lose_disk(&mut self) -> Option<(u64, Option<u64>)> {
        let held = self.durable.max(self.snapshot).max(self.held_before_rot);
        let identity = self.identity;
        *self = Self::default();
        identity.map(|identity| (identity, held))
    }

    /// Forgets what it promised, for nobody can tell what is left of it; what its disk held still
    /// counts for what was acknowledged.
    pub(super) fn rot(&mut self) {
        self.held_before_rot = self.durable.max(self.snapshot).max(self.held_before_rot);
        self.flushed = None;
        self.snapshot = None;
        self.ballot = None;
    }

    pub(super) fn flush(&mut self, through: u64, evidence: Evidence, findings: &mut Findings) {
        let on_disk = self.durable.max(self.snapshot);
        if evidence == Evidence::Disks && on_disk < Some(through) {
            findings.add(
                Rule::PromiseKept,
                format!(
                    "it promised to have entries up to {through}, of which its disk holds those \
                     up to {}",
                    show(on_disk)
                ),
            );
        }
        self.flushed = self.flushed.max(Some(through));
        if evidence == Evidence::Promises {
            self.durable = self.durable.max(Some(through));
        }
    }

    pub(super) fn durable(&mut self, through: u64) {
        self.durable = self.durable.max(Some(through));
    }

    pub(super) fn truncate(&mut self, from: u64) {
        self.log.truncate(from);
        let last = from.checked_sub(1);
        self.flushed = self.flushed.min(last);
        self.durable = self.durable.min(last);
    }

    pub(super) fn snapshot_saved(&mut self, index: u64) {
        self.snapshot = self.snapshot.max(Some(index));
    }

    pub(super) fn vote(&mut self, ballot: Ballot, findings: &mut Findings) {
        self.term = self.term.max(ballot.term);
        if let Some(before) = self.ballot
            && !honours(ballot, before)
        {
            let same_term = ballot.term == before.term;
            let rule = if same_term { Rule::OneVotePerTerm } else { Rule::Monotone };
            let what = format!("it saved {} after {}", show_ballot(ballot), show_ballot(before));
            findings.add(rule, what);
        }
        self.ballot = self.ballot.max(Some(ballot));
    }

    /// Whether its disk holds the entry, or held it until a bit flipped.
    pub(super) fn holds(&self, entry: &EntryMark) -> bool {
        let index = Some(entry.index);
        index <= self.snapshot
            || index <= self.held_before_rot
            || index <= self.durable && self.log.get(entry.index) == Some(entry)
    }

    /// The last entry that its disk holds.
    pub(super) fn held(&self) -> Option<u64> {
        self.durable.max(self.snapshot)
    }

    /// Whether its log has the entry, or a snapshot holds it.
    pub(super) fn has(&self, entry: &EntryMark) -> bool {
        let snapshot = self.state.and_then(|state| state.snapshot.max(state.purged));
        Some(entry.index) <= self.snapshot.max(snapshot) || self.log.get(entry.index) == Some(entry)
    }

    /// Compares where it stands with where it stood.
    ///
    /// A saved vote is not where it stands: openraft reports the term of the last I/O that it was
    /// told to be finished (`report_metrics` in its `core/raft_core.rs`), which comes after the
    /// save.
    pub(super) fn stand(&mut self, now: NodeState, findings: &mut Findings) {
        if now.term < self.stood_in {
            let what = format!("it is in term {}, after term {}", now.term, self.stood_in);
            findings.add(Rule::Monotone, what);
        }
        self.stood_in = self.stood_in.max(now.term);
        self.term = self.term.max(now.term);
        if let Some(before) = self.state {
            for (position, before, now) in [
                ("committed", before.committed, now.committed),
                ("applied", before.applied, now.applied),
                ("snapshot", before.snapshot, now.snapshot),
                ("purged", before.purged, now.purged),
            ] {
                if now < before {
                    let what = format!(
                        "its {position} position went back from {} to {}",
                        show(before),
                        show(now)
                    );
                    findings.add(Rule::Monotone, what);
                }
            }
        }
        // A log that failed holds less than was handed to it, and may say so.
        let last = now.last.max(self.log.last().map(|last| last.index));
        let pairs = [
            [("purged", now.purged), ("snapshot", now.snapshot)],
            [("applied", now.applied), ("committed", now.committed)],
            [("committed", now.committed), ("last", last)],
        ];
        for pair in pairs {
            if let [(lower, Some(low)), (higher, Some(high))] = pair
                && low > high
            {
                let what = format!("its {lower} position {low} is past its {higher} one {high}");
                findings.add(Rule::PositionOrder, what);
            }
        }
    }

    /// Whether it leads now and did not lead in this term before.
    pub(super) fn begins_to_lead(&self, now: &NodeState) -> bool {
        now.role == Role::Leader
            && self
                .state
                .is_none_or(|before| before.role != Role::Leader || before.term != now.term)
    }
}

/// Whether a node that promised the earlier vote may have the later one. Who follows the leader
/// that a term got writes that down over a vote for somebody else, and votes no more in this term:
/// the earlier vote stays the one that counts.
fn honours(later: Ballot, earlier: Ballot) -> bool {
    later.term > earlier.term
        || later.term == earlier.term
            && (earlier.voted_for.is_none()
                || later.voted_for.is_none()
                || later.voted_for == earlier.voted_for)
}

pub(super) fn show(position: Option<u64>) -> String {
    position.map_or_else(|| "none".to_owned(), |index| index.to_string())
}

pub(super) fn show_entry(entry: EntryMark) -> String {
    format!("entry {} of term {} ({:016x})", entry.index, entry.term, entry.hash)
}

fn show_ballot(ballot: Ballot) -> String {
    match ballot.voted_for {
        Some(node) => format!("its vote of term {} for node {node}", ballot.term),
        None => format!("term {} without a vote", ballot.term),
    }
}
