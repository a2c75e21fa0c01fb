//! Who decides: the configurations that the entries of the log name, and the rules of changing them.
//!
//! A configuration is in force on a node from the moment that its log has the entry (Raft paper, 6).
//! So what decides about an entry is the last configuration in front of it, or a later one that its
//! leader had in its log by then. Members are node ids here, not places: a place whose disk was lost
//! is another member when it comes back.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::Findings;
use crate::checkers::{Configuration, Rule};

/// Terms whose votes are remembered.
const TERMS_MAX: usize = 64;

/// Who is given a vote holds what was committed so long ago. The node itself looks four times a
/// second and asks for less than this.
const BEHIND_MAX_US: u64 = 3_000_000;

/// Who is given a vote was a member for so long: ten seconds of keeping up are asked for, by a clock
/// that may run a little fast.
const LEARNS_AT_LEAST_US: u64 = 8_500_000;

/// The place of a configuration in the logs.
pub(super) type Place = (u64, u64);

/// See the module comment.
#[derive(Debug, Default)]
pub(super) struct Members {
    /// By the index and the term of their entries.
    told: BTreeMap<Place, Configuration>,
    /// The indexes and terms of those that are committed.
    committed: BTreeMap<u64, u64>,
    /// Members once, and not any more.
    removed: BTreeSet<u64>,
    /// Node ids whose disks are lost, with the last entry that they held.
    lost: BTreeMap<u64, Option<u64>>,
    /// Who voted for whom, by term.
    votes: BTreeMap<u64, BTreeMap<u32, BTreeSet<u64>>>,
    /// Configurations that were proposed in this step, each with the one before it.
    proposed: Vec<(u32, Place, Place)>,
    /// When each member was proposed first, in simulated microseconds.
    pub(super) since_us: BTreeMap<u64, u64>,
    /// When what was committed.
    progress: VecDeque<(u64, u64)>,
}

impl Members {
    /// What the entry at this place says.
    pub(super) fn tell(&mut self, place: Place, configuration: Configuration) {
        self.told.insert(place, configuration);
    }

    pub(super) fn at(&self, place: Place) -> Option<&Configuration> {
        self.told.get(&place)
    }

    /// The last configuration below `index` in a log, whose terms `term_at` knows.
    pub(super) fn before(
        &self,
        index: u64,
        term_at: impl Fn(u64) -> Option<u64>,
    ) -> Option<(Place, &Configuration)> {
        let mut earlier = self.told.range(..(index, 0)).rev();
        let found = earlier.find(|((index, term), _)| term_at(*index) == Some(*term));
        found.map(|(place, configuration)| (*place, configuration))
    }

    /// Configurations above `index`, of this term or later ones.
    pub(super) fn above(
        &self,
        index: u64,
        term: u64,
    ) -> impl Iterator<Item = (Place, &Configuration)> {
        let later = self.told.range((index + 1, 0)..);
        later
            .map(|(place, configuration)| (*place, configuration))
            .filter(move |found| found.0.1 >= term)
    }

    /// The newest configuration that is committed.
    pub(super) fn newest_committed(&self) -> Option<(Place, &Configuration)> {
        let (index, term) = self.committed.last_key_value()?;
        Some(((*index, *term), self.told.get(&(*index, *term))?))
    }

    /// A disk is gone with what it held.
    pub(super) fn lose(&mut self, id: u64, held: Option<u64>) {
        self.lost.insert(id, held);
    }

    pub(super) fn is_lost(&self, id: u64) -> bool {
        self.lost.contains_key(&id)
    }

    /// Whether a disk that is lost held the entry.
    pub(super) fn held(&self, id: u64, index: u64) -> bool {
        self.lost.get(&id).is_some_and(|held| *held >= Some(index))
    }

    /// The node `id` gave its vote to a candidate.
    pub(super) fn vote(&mut self, term: u64, candidate: u32, id: u64) {
        self.votes.entry(term).or_default().entry(candidate).or_default().insert(id);
        while self.votes.len() > TERMS_MAX {
            self.votes.pop_first();
        }
    }

    /// A leader was elected by a majority of the configuration in its log, and has a vote itself.
    pub(super) fn elected(
        &self,
        leader: u32,
        id: Option<u64>,
        term: u64,
        configuration: &Configuration,
        findings: &mut Findings,
    ) {
        let nobody = BTreeSet::new();
        let votes = self.votes.get(&term).and_then(|votes| votes.get(&leader)).unwrap_or(&nobody);
        if !id.is_some_and(|id| configuration.is_voter(id)) {
            let what =
                format!("it leads in term {term} and has no vote in {}", show(configuration));
            findings.add(Rule::ElectedByMajority, what);
        }
        if !configuration.has_majority(|id| votes.contains(&id)) {
            let votes: Vec<_> = votes.iter().map(|id| format!("{id:016x}")).collect();
            let what = format!(
                "it leads in term {term} with the votes of {}, of {}",
                votes.join(", "),
                show(configuration)
            );
            findings.add(Rule::ElectedByMajority, what);
        }
    }

    /// A leader proposed the configuration at `next`, with the one at `before` in force.
    pub(super) fn propose(
        &mut self,
        leader: u32,
        before: Place,
        next: Place,
        findings: &mut Findings,
    ) {
        let (Some(old), Some(new)) = (self.told.get(&before), self.told.get(&next)) else { return };
        if !may_follow(old, new) {
            let what = format!("it changed {} into {} in one step", show(old), show(new));
            findings.add(Rule::JointChange, what);
        }
        let known = old.members();
        let is_gone = |id: &&u64| {
            self.removed.contains(*id) || self.lost.contains_key(*id) && !known.contains(*id)
        };
        for id in new.members().iter().filter(is_gone) {
            let what =
                format!("it admits node {id:016x} again, which was removed or lost its disk");
            findings.add(Rule::IdentityReused, what);
        }
        let at_us = findings.at_us;
        for id in new.members() {
            let since_us = *self.since_us.entry(id).or_insert(at_us);
            let is_promoted = new.is_voter(id) && !old.is_voter(id);
            if is_promoted && at_us < since_us + LEARNS_AT_LEAST_US {
                let ms = (at_us - since_us) / 1_000;
                let what = format!("it gives node {id:016x} a vote after {ms} ms as a member");
                findings.add(Rule::VoterKeepsUp, what);
            }
        }
        self.proposed.push((leader, before, next));
    }

    /// Whoever gets a vote by the configuration at `next`, and the entry that it must have.
    pub(super) fn promoted(&self, at_us: u64, before: Place, next: Place) -> Vec<(u64, u64)> {
        let (Some(old), Some(new)) = (self.told.get(&before), self.told.get(&next)) else {
            return Vec::new();
        };
        let long_ago = at_us.saturating_sub(BEHIND_MAX_US);
        let committed = self.progress.iter().rev().find(|(told_us, _)| *told_us <= long_ago);
        let Some((_, wanted)) = committed else { return Vec::new() };
        let fresh = new.voters.iter().flatten().filter(|id| !old.is_voter(**id));
        fresh.map(|id| (*id, *wanted)).collect()
    }

    /// The configuration at this place is committed. Whoever was a member by the one before it and
    /// is none by it was removed.
    pub(super) fn commit(&mut self, place: Place) {
        let Some(new) = self.told.get(&place) else { return };
        let before = self.committed.range(..place.0).next_back();
        if let Some(old) = before.and_then(|(index, term)| self.told.get(&(*index, *term))) {
            let members = new.members();
            self.removed.extend(old.members().into_iter().filter(|id| !members.contains(id)));
        }
        self.committed.insert(place.0, place.1);
    }

    /// A step is over, in which entries up to `committed` became known to be committed.
    pub(super) fn step_ended(&mut self, at_us: u64, committed: Option<u64>) -> Vec<Findings> {
        if let Some(committed) = committed
            && self.progress.back().is_none_or(|(_, known)| *known < committed)
        {
            self.progress.push_back((at_us, committed));
            while self.progress.get(1).is_some_and(|(told_us, _)| told_us + BEHIND_MAX_US < at_us) {
                self.progress.pop_front();
            }
        }
        let mut all = Vec::new();
        for (leader, before, next) in self.proposed.drain(..) {
            if self.committed.get(&before.0) != Some(&before.1) {
                let mut findings = Findings::new(at_us, leader);
                let what = format!(
                    "it proposed the members of entry {} before those of entry {} were committed",
                    next.0, before.0
                );
                findings.add(Rule::OneChangeAtATime, what);
                all.push(findings);
            }
        }
        all
    }
}

/// Whether the second configuration may be proposed where the first is in force: voters change by
/// way of a joint configuration (Raft paper, 6), which is then left for one of its two sides.
fn may_follow(old: &Configuration, new: &Configuration) -> bool {
    match (&old.voters[..], &new.voters[..]) {
        ([before], [after]) => before == after,
        ([before], [from, to]) => before == from && from != to,
        ([from, to], [after]) => after == from || after == to,
        _ => false,
    }
}

fn show(configuration: &Configuration) -> String {
    let show = |set: &BTreeSet<u64>| {
        let ids: Vec<_> = set.iter().map(|id| format!("{id:016x}")).collect();
        format!("{{{}}}", ids.join(" "))
    };
    let sets: Vec<_> = configuration.voters.iter().map(show).collect();
    let voters = sets.join(" and ");
    match configuration.learners.is_empty() {
        true => format!("voters {voters}"),
        false => format!("voters {voters}, learners {}", show(&configuration.learners)),
    }
}
