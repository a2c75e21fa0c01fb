//! The rules of Raft and of replication, held against what the nodes do, as they do it.
//!
//! [`Cluster`] sits beside the run. It is told of every event on every node and, as often as the
//! world likes, where each node stands; a violation is found at the event that makes it true. It
//! keeps its own copy of every log (marks, not bytes), of what was committed, and of the state of
//! the store at each sequence.
//!
//! The rules are those of the Raft paper (Ongaro and Ousterhout 2014, figure 3) with disks taken
//! seriously: what counts is not what a node has, but what its disk would still have after a power
//! loss. It does not know openraft, frames or files.

mod log;
mod members;
mod node;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use self::{
    members::Members,
    node::{Applied, Node, Start, show_entry},
};
use super::{Ballot, Configuration, EntryMark, Evidence, NodeEvent, NodeState, Rule, Violation};
use crate::timeline::Role;

/// A run that goes wrong is told so often at most.
const VIOLATIONS_MAX: usize = 50;

/// Watches over a cluster while it runs.
#[derive(Debug)]
pub struct Cluster {
    evidence: Evidence,
    members: Members,
    nodes: BTreeMap<u32, Node>,
    /// What is committed at each index, and who said so first.
    committed: BTreeMap<u64, (EntryMark, u32)>,
    /// By index and term: the hash of the entry, the term of the one before, and whose log it was.
    entries: BTreeMap<(u64, u64), (u64, Option<u64>, u32)>,
    /// Who led, or proposed, in each term.
    leaders: BTreeMap<u64, u32>,
    /// The store at each sequence.
    stores: BTreeMap<u64, StoreMark>,
    /// The first entry that brought the store to a revision.
    revisions: BTreeMap<u64, u64>,
    /// The last acknowledged index.
    acknowledged: Option<u64>,
    /// Changes of voters since they were asked for last.
    voter_changes: Vec<VoterChange>,
    violations: Vec<Violation>,
    /// How many violations were told, those that were taken out too.
    told: usize,
}

/// A leader that begins to change who has a vote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VoterChange {
    /// The leader.
    pub leader: u32,
    /// The voters before, by node id.
    pub from: BTreeSet<u64>,
    /// The voters after.
    pub to: BTreeSet<u64>,
}

/// What a store was like after its so-many-th command, and who said so first.
#[derive(Debug, Clone, Copy)]
struct StoreMark {
    revision: Option<u64>,
    state_hash: Option<u128>,
    node: u32,
}

/// Collects what is wrong with one node at one moment.
pub(super) struct Findings {
    at_us: u64,
    node: u32,
    violations: Vec<Violation>,
}

impl Findings {
    const fn new(at_us: u64, node: u32) -> Self {
        Self { at_us, node, violations: Vec::new() }
    }

    fn add(&mut self, rule: Rule, what: String) {
        let (at_us, node) = (self.at_us, Some(self.node));
        self.violations.push(Violation { at_us, rule, node, what });
    }
}

impl Cluster {
    /// Watches over a cluster, whose members the entries of its log tell.
    #[must_use]
    pub fn new(evidence: Evidence) -> Self {
        Self {
            evidence,
            members: Members::default(),
            nodes: BTreeMap::new(),
            committed: BTreeMap::new(),
            entries: BTreeMap::new(),
            leaders: BTreeMap::new(),
            stores: BTreeMap::new(),
            revisions: BTreeMap::new(),
            acknowledged: None,
            voter_changes: Vec::new(),
            violations: Vec::new(),
            told: 0,
        }
    }

    /// The configurations that decide now or may soon: the newest one that is committed, and those
    /// after it that some log has.
    #[must_use]
    pub fn configurations(&self) -> Vec<&Configuration> {
        let Some(((index, term), newest)) = self.members.newest_committed() else {
            return Vec::new();
        };
        let later = self.members.above(index, term);
        let later = later.filter(|(place, _)| self.is_in_a_log(*place));
        [newest].into_iter().chain(later.map(|(_, configuration)| configuration)).collect()
    }

    /// Takes out the changes of voters that began since the last time.
    pub fn take_voter_changes(&mut self) -> Vec<VoterChange> {
        std::mem::take(&mut self.voter_changes)
    }

    /// What was found so far, in order.
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// Takes out what was found since the last time.
    pub fn take_violations(&mut self) -> Vec<Violation> {
        std::mem::take(&mut self.violations)
    }

    /// Takes note of where a node stands.
    pub fn stands(&mut self, at_us: u64, number: u32, now: NodeState) {
        let node = self.nodes.entry(number).or_default();
        if node.state == Some(now) {
            return;
        }
        let mut findings = Findings::new(at_us, number);
        let begins = node.begins_to_lead(&now);
        let committed_before = node.state.and_then(|state| state.committed);
        node.stand(now, &mut findings);
        node.state = Some(now);
        self.installs_committed(now, &mut findings);
        if begins {
            self.leads(number, now.term, &mut findings);
            self.is_elected(number, now.term, &mut findings);
            self.has_all_committed(number, now.term, &mut findings);
        }
        if let Some(committed) = now.committed.filter(|_index| now.committed > committed_before) {
            // While a snapshot is installed, the entries it covers are committed, and those in the
            // log may be others that it replaces: openraft moves the commit index first and purges
            // the log last (`install_full_snapshot` in its `following_handler/mod.rs`).
            let installing = now.snapshot.filter(|_index| now.snapshot > now.applied);
            let known = committed_before.max(installing);
            self.commit_up_to(number, known, committed, &mut findings);
        }
        self.keep(findings);
    }

    /// Takes note of what a node did.
    pub fn happened(&mut self, at_us: u64, number: u32, event: NodeEvent) {
        let mut findings = Findings::new(at_us, number);
        let evidence = self.evidence;
        let node = self.nodes.entry(number).or_default();
        match event {
            NodeEvent::Started { identity, ballot, snapshot, purged, entries } => {
                if self.members.is_lost(identity) {
                    let what = format!("node id {identity:016x} is back after its disk was lost");
                    findings.add(Rule::IdentityReused, what);
                }
                let found = entries.clone();
                let start = Start { identity, ballot, snapshot, purged, entries };
                node.start(start, evidence, &mut findings);
                self.votes(number, ballot);
                let mut term_before = None;
                for entry in found {
                    self.match_logs(number, entry, term_before, &mut findings);
                    term_before = Some(entry.term);
                }
            }
            NodeEvent::Stopped => node.state = None,
            NodeEvent::DiskLost => {
                if let Some((id, held)) = node.lose_disk() {
                    self.members.lose(id, held);
                }
            }
            NodeEvent::DiskRotted => node.rot(),
            NodeEvent::Configured { index, term, configuration } => {
                self.members.tell((index, term), configuration);
            }
            NodeEvent::Appended(entries) => {
                for entry in entries {
                    self.append(number, entry, &mut findings);
                }
            }
            NodeEvent::Truncated { from } => self.truncate(number, from, &mut findings),
            NodeEvent::Flushed { through } => node.flush(through, evidence, &mut findings),
            NodeEvent::Durable { through } => node.durable(through),
            NodeEvent::VoteSaved(ballot) => {
                node.vote(ballot, &mut findings);
                self.votes(number, Some(ballot));
            }
            NodeEvent::Purged { through } => node.log.purge(through),
            NodeEvent::SnapshotSaved { index } => node.snapshot_saved(index),
            NodeEvent::SnapshotInstalled { index, sequence, state_hash } => {
                if node.log.next() <= index {
                    node.log.purge(index);
                }
                node.applied = Some(Applied { index, sequence: Some(sequence) });
                let store =
                    StoreMark { revision: None, state_hash: Some(state_hash), node: number };
                self.compare_store(sequence, store, &mut findings);
            }
            NodeEvent::Applied { entry, sequence, revision, state_hash } => {
                self.apply(number, entry, sequence, &mut findings);
                let store = StoreMark { revision: Some(revision), state_hash, node: number };
                self.compare_store(sequence, store, &mut findings);
                self.revisions.entry(revision).or_insert(entry.index);
            }
        }
        self.keep(findings);
    }

    /// Takes note that every node has been looked at.
    pub fn step_ended(&mut self, at_us: u64) {
        let committed = self.committed.last_key_value().map(|(index, _)| *index);
        for findings in self.members.step_ended(at_us, committed) {
            self.keep(findings);
        }
    }

    /// Takes note that a client was told that its write is done, at this revision, by a node.
    pub fn acknowledged(&mut self, at_us: u64, number: u32, revision: u64) {
        let mut findings = Findings::new(at_us, number);
        // An entry can take the store over several revisions.
        match self.revisions.range(revision..).next() {
            None => findings.add(
                Rule::DurableOnMajority,
                format!("it acknowledged revision {revision}, which no store has applied"),
            ),
            Some((_, index)) => {
                self.acknowledged = self.acknowledged.max(Some(*index));
                let entry = self.committed.get(index).map(|(entry, _)| *entry);
                if let Some(entry) = entry.filter(|entry| !self.majority_holds(number, entry)) {
                    findings.add(
                        Rule::DurableOnMajority,
                        format!(
                            "it acknowledged revision {revision}, {}, which only the disks of {:?} hold",
                            show_entry(entry),
                            self.holders(&entry)
                        ),
                    );
                }
            }
        }
        self.keep(findings);
    }

    fn keep(&mut self, findings: Findings) {
        let room = VIOLATIONS_MAX - self.told;
        let before = self.violations.len();
        self.violations.extend(findings.violations.into_iter().take(room));
        self.told += self.violations.len() - before;
    }

    fn leads(&mut self, number: u32, term: u64, findings: &mut Findings) {
        let leader = *self.leaders.entry(term).or_insert(number);
        if leader != number {
            let what = format!("it leads in term {term}, in which node {leader} led before");
            findings.add(Rule::OneLeaderPerTerm, what);
        }
    }

    /// A ballot with a name on it is a vote of the node id that the place has.
    fn votes(&mut self, number: u32, ballot: Option<Ballot>) {
        let id = self.nodes.get(&number).and_then(|node| node.identity);
        if let Some(Ballot { term, voted_for: Some(candidate) }) = ballot
            && let Some(id) = id
        {
            self.members.vote(term, candidate, id);
        }
    }

    fn is_elected(&self, number: u32, term: u64, findings: &mut Findings) {
        let id = self.nodes[&number].identity;
        let term_at = |index| self.term_at(number, index);
        if let Some((_, configuration)) = self.members.before(u64::MAX, term_at) {
            self.members.elected(number, id, term, configuration, findings);
        }
    }

    /// The term of an entry that a node has, in its log or behind its beginning.
    fn term_at(&self, number: u32, index: u64) -> Option<u64> {
        let node = self.nodes.get(&number)?;
        if let Some(entry) = node.log.get(index) {
            return Some(entry.term);
        }
        let committed = || self.committed.get(&index).map(|(entry, _)| entry.term);
        if index < node.log.next() { committed() } else { None }
    }

    fn is_in_a_log(&self, (index, term): (u64, u64)) -> bool {
        self.nodes.values().any(|node| node.log.get(index).is_some_and(|mark| mark.term == term))
    }

    /// A leader proposes other members.
    fn propose_members(&mut self, number: u32, entry: EntryMark, findings: &mut Findings) {
        let next = (entry.index, entry.term);
        let term_at = |index| self.term_at(number, index);
        let Some(before) = self.members.before(entry.index, term_at).map(|(place, _)| place) else {
            return;
        };
        self.members.propose(number, before, next, findings);
        for (id, wanted) in self.members.promoted(findings.at_us, before, next) {
            let node = self.nodes.values().find(|node| node.identity == Some(id));
            let held = node.and_then(Node::held);
            if held < Some(wanted) {
                let what = format!(
                    "it gives node {id:016x} a vote, whose disk holds entries up to {}; what was \
                     committed long before ends with entry {wanted}",
                    node::show(held)
                );
                findings.add(Rule::VoterKeepsUp, what);
            }
        }
        if let (Some(old), Some(new)) = (self.members.at(before), self.members.at(next))
            && let ([from], Some(to)) = (&old.voters[..], new.voters.last())
            && from != to
        {
            let change = VoterChange { leader: number, from: from.clone(), to: to.clone() };
            self.voter_changes.push(change);
        }
    }

    /// Leader completeness: what was committed in earlier terms is in the log of a new leader.
    fn has_all_committed(&self, number: u32, term: u64, findings: &mut Findings) {
        let node = &self.nodes[&number];
        let lacks = self
            .committed
            .values()
            .map(|(entry, _)| entry)
            .find(|entry| entry.term < term && !node.has(entry));
        if let Some(entry) = lacks {
            let acknowledged = Some(entry.index) <= self.acknowledged;
            findings.add(
                Rule::LeaderCompleteness,
                format!(
                    "it leads in term {term} without {}, which is committed{}",
                    show_entry(*entry),
                    if acknowledged { " and acknowledged" } else { "" }
                ),
            );
        }
    }

    /// A snapshot that a leader sent is on the disk before the store is replaced by it (figure 13 of
    /// the extended Raft paper: saved in step 5, taken over in step 8). Until then its position is
    /// past the applied one, of a node that leads no more, and everything in it is committed.
    fn installs_committed(&self, now: NodeState, findings: &mut Findings) {
        let Some(snapshot) = now.snapshot.filter(|_index| now.snapshot > now.applied) else {
            return;
        };
        let committed = self.committed.last_key_value().map(|(index, _)| *index);
        // Who is deposed by the snapshot still says that it leads until its vote is saved.
        let leads = now.role == Role::Leader
            && self.leaders.last_key_value().is_none_or(|(newest, _)| *newest <= now.term);
        if leads || Some(snapshot) > committed {
            let what = format!(
                "its snapshot position {snapshot} is past its applied one {}",
                node::show(now.applied)
            );
            findings.add(Rule::PositionOrder, what);
        }
    }

    /// Log matching, by induction: the same index and term mean the same entry after the same one.
    fn append(&mut self, number: u32, entry: EntryMark, findings: &mut Findings) {
        let Some(node) = self.nodes.get_mut(&number) else { return };
        let before = entry.index.checked_sub(1).and_then(|before| node.log.get(before));
        let term_before = before.map(|before| before.term);
        if !node.log.append(entry) {
            let what = format!("{} does not follow the end of its log", show_entry(entry));
            findings.add(Rule::LogMatching, what);
        }
        // An entry is in the log of its leader before it is in any other one.
        let is_proposed = !self.entries.contains_key(&(entry.index, entry.term));
        if is_proposed {
            if node.term > entry.term {
                let what = format!("it proposed {} in term {}", show_entry(entry), node.term);
                findings.add(Rule::NoProposalBelowTerm, what);
            }
            self.leads(number, entry.term, findings);
        }
        if is_proposed && self.members.at((entry.index, entry.term)).is_some() {
            self.propose_members(number, entry, findings);
        }
        self.match_logs(number, entry, term_before, findings);
    }

    /// The step of the induction: what is known of the entry, and of the one before it.
    fn match_logs(
        &mut self,
        number: u32,
        entry: EntryMark,
        term_before: Option<u64>,
        findings: &mut Findings,
    ) {
        let known = self.entries.entry((entry.index, entry.term)).or_insert((
            entry.hash,
            term_before,
            number,
        ));
        // A log that begins with this entry does not tell what was before it.
        if known.1.is_none() {
            known.1 = term_before;
        }
        let (hash, known_before, owner) = *known;
        if hash != entry.hash || term_before.is_some() && term_before != known_before {
            let what = format!(
                "{} after term {term_before:?} is another one in the log of node {owner}: \
                 {hash:016x} after term {known_before:?}",
                show_entry(entry)
            );
            findings.add(Rule::LogMatching, what);
        }
    }

    fn truncate(&mut self, number: u32, from: u64, findings: &mut Findings) {
        let Some(node) = self.nodes.get_mut(&number) else { return };
        let last = node.log.next();
        let committed = (from..last)
            .filter_map(|index| Some((node.log.get(index)?, self.committed.get(&index)?)))
            .find(|(entry, (committed, _))| *entry == committed);
        if let Some((entry, _)) = committed {
            let what = format!("it removed {}, which is committed", show_entry(*entry));
            findings.add(Rule::OneEntryPerIndex, what);
        }
        node.truncate(from);
    }

    fn commit_up_to(
        &mut self,
        number: u32,
        before: Option<u64>,
        committed: u64,
        findings: &mut Findings,
    ) {
        for index in before.map_or(0, |before| before + 1)..=committed {
            if let Some(entry) = self.nodes[&number].log.get(index).copied() {
                self.commit(number, entry, findings);
            }
        }
    }

    fn commit(&mut self, number: u32, entry: EntryMark, findings: &mut Findings) {
        if let Some((known, owner)) = self.committed.get(&entry.index) {
            if *known != entry {
                let what = format!(
                    "{} is committed, where node {owner} committed {}",
                    show_entry(entry),
                    show_entry(*known)
                );
                findings.add(Rule::OneEntryPerIndex, what);
            }
            return;
        }
        self.committed.insert(entry.index, (entry, number));
        self.members.commit((entry.index, entry.term));
        if !self.majority_holds(number, &entry) {
            let what = format!(
                "{} is committed, which only the disks of {:?} hold",
                show_entry(entry),
                self.holders(&entry)
            );
            findings.add(Rule::DurableOnMajority, what);
        }
    }

    fn apply(&mut self, number: u32, entry: EntryMark, sequence: u64, findings: &mut Findings) {
        let Some(node) = self.nodes.get_mut(&number) else { return };
        let before = node.applied.replace(Applied { index: entry.index, sequence: Some(sequence) });
        let in_log = node.log.get(entry.index).copied();
        if let Some(before) = before
            && entry.index != before.index + 1
        {
            let what = format!("it applied {} after entry {}", show_entry(entry), before.index);
            findings.add(Rule::ApplyOrder, what);
        }
        if let Some(before) = before.and_then(|before| before.sequence)
            && !(before..=before + 1).contains(&sequence)
        {
            let what = format!("its sequence went from {before} to {sequence} with one entry");
            findings.add(Rule::ApplyOrder, what);
        }
        if let Some(in_log) = in_log.filter(|in_log| *in_log != entry) {
            let what = format!("it applied {}, but has {}", show_entry(entry), show_entry(in_log));
            findings.add(Rule::ApplyOrder, what);
        }
        self.commit(number, entry, findings);
    }

    /// State machine safety: the same sequence means the same state.
    fn compare_store(&mut self, sequence: u64, store: StoreMark, findings: &mut Findings) {
        let known = self.stores.entry(sequence).or_insert(store);
        let same_revision = agree(&mut known.revision, store.revision);
        let same_hash = agree(&mut known.state_hash, store.state_hash);
        if !same_revision || !same_hash {
            let what = format!(
                "its store at sequence {sequence} is at revision {:?} with hash {:x?}; that of node \
                 {} was at revision {:?} with hash {:x?}",
                store.revision, store.state_hash, known.node, known.revision, known.state_hash
            );
            findings.add(Rule::SameState, what);
        }
    }

    /// Whether the disks of a majority hold the entry: of the last configuration in front of it, or
    /// of a later one that a leader may have had in its log when it decided.
    fn majority_holds(&self, number: u32, entry: &EntryMark) -> bool {
        // What is in front of it is committed too; the log of whoever says so may be an old one.
        let term_at = |index| {
            let committed = self.committed.get(&index).map(|(entry, _)| entry.term);
            committed.or_else(|| self.term_at(number, index))
        };
        let in_front = self.members.before(entry.index + 1, term_at);
        let later = self.members.above(entry.index, entry.term);
        let later = later.filter(|(place, _)| self.is_in_a_log(*place));
        let mut configurations = in_front.into_iter().chain(later);
        configurations.any(|(_, configuration)| {
            configuration.has_majority(|id| {
                let holds = |node: &Node| node.identity == Some(id) && node.holds(entry);
                self.nodes.values().any(holds) || self.members.held(id, entry.index)
            })
        })
    }

    fn holders(&self, entry: &EntryMark) -> Vec<u32> {
        let holders = self.nodes.iter().filter(|(_, node)| node.holds(entry));
        holders.map(|(number, _)| *number).collect()
    }
}

/// Whether two words on the same thing agree; what was not known becomes known.
fn agree<T: Copy + PartialEq>(known: &mut Option<T>, told: Option<T>) -> bool {
    match (*known, told) {
        (Some(known), Some(told)) => known == told,
        (None, told) => {
            *known = told;
            true
        }
        (Some(_), None) => true,
    }
}
