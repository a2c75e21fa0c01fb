//! Whether a change of members lowered the number of failures that the cluster tolerates.
//!
//! Failures tolerated is the number of voters that work, minus a quorum. The node counts who answers
//! the leader at that moment; the timeline tells what was really so. It cannot tell what the leader
//! could know, so a voter whom anything troubled not long before is counted whichever way excuses
//! the change: not as one that worked before it, but as one that works after it. Who was down all
//! the while is counted as down. A drop by a fault is no change and no business of this rule, and
//! neither is the removal of those whom an operator has removed by force.

use std::collections::{BTreeMap, BTreeSet};

use super::{Rule, Violation};
use crate::timeline::{EventKind, FaultKind, FaultWindow, Timeline, Voter};

/// How long a voter must have been well to count as well for certain, in simulated microseconds: a
/// leader asks with a deadline of 300 ms, looks at what its peers said within the last second, and
/// then proposes.
const CERTAIN_US: u64 = 3_000_000;

/// What is known of a place at one moment.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    /// The node id in its folder.
    id: Option<u64>,
    /// Since when its process has been as it is.
    since_us: u64,
    up: bool,
    /// Whether its storage failed, in this life of its process.
    failed: bool,
}

/// Checks every change of voters.
#[must_use]
pub fn check(timeline: &Timeline) -> Vec<Violation> {
    let faults = timeline.faults();
    let mut places: BTreeMap<u32, Place> = BTreeMap::new();
    let mut forced = BTreeSet::new();
    let mut violations = Vec::new();
    for event in timeline.events() {
        let Some(node) = event.node else { continue };
        let place = places.entry(node).or_default();
        match &event.kind {
            EventKind::Started { .. } => {
                // The id is told anew; a lost folder has another one.
                *place = Place { up: true, since_us: event.at_us, ..Place::default() };
            }
            EventKind::Named { id } => (place.id, place.up) = (Some(*id), true),
            EventKind::Stopped => (place.up, place.since_us) = (false, event.at_us),
            EventKind::StorageFailed => place.failed = true,
            EventKind::RemovalForced { id } => {
                forced.insert(*id);
            }
            EventKind::VotersChange { from, to } if is_forced(from, to, &forced) => {}
            EventKind::VotersChange { from, to } => {
                let moment =
                    Moment { at_us: event.at_us, leader: node, places: &places, faults: &faults };
                let before = tolerated(from, |voter| moment.is_well_for_certain(voter));
                let after = tolerated(to, |voter| moment.may_be_well(voter));
                if after < before {
                    violations.push(Violation {
                        at_us: event.at_us,
                        rule: Rule::ToleranceKept,
                        node: Some(node),
                        what: format!(
                            "{before} failures or more were tolerated with the voters {}, and {after} \
                             at most are with {}",
                            show(from),
                            show(to)
                        ),
                    });
                }
            }
            _ => {}
        }
    }
    violations
}

struct Moment<'a> {
    at_us: u64,
    leader: u32,
    places: &'a BTreeMap<u32, Place>,
    faults: &'a [FaultWindow],
}

impl Moment<'_> {
    fn place(&self, voter: &Voter) -> Option<&Place> {
        self.places.get(&voter.node).filter(|place| place.id == Some(voter.id))
    }

    fn is_well_for_certain(&self, voter: &Voter) -> bool {
        let since_us = self.at_us.saturating_sub(CERTAIN_US);
        let is_well = |place: &Place| place.up && !place.failed && place.since_us <= since_us;
        let is_troubled = |window: &FaultWindow| {
            let fault = &window.fault;
            // A fault of links touches both of their ends.
            let concerns = fault.nodes.contains(&voter.node)
                || fault.nodes.contains(&self.leader)
                || fault.kind == FaultKind::BridgePartition;
            concerns && window.touches(since_us, self.at_us)
        };
        self.place(voter).is_some_and(is_well) && !self.faults.iter().any(is_troubled)
    }

    fn may_be_well(&self, voter: &Voter) -> bool {
        let since_us = self.at_us.saturating_sub(CERTAIN_US);
        let is_away = |window: &FaultWindow| {
            let away = matches!(window.fault.kind, FaultKind::Partition | FaultKind::Pause);
            away && window.fault.nodes == [voter.node]
                && window.began_us <= since_us
                && window.ended_us.is_none_or(|ended_us| ended_us > self.at_us)
        };
        self.place(voter).is_some_and(|place| place.up || place.since_us > since_us)
            && !self.faults.iter().any(is_away)
    }
}

/// Whether all that the change does is to take votes from those who are to go by force.
fn is_forced(from: &[Voter], to: &[Voter], forced: &BTreeSet<u64>) -> bool {
    let mut gone = from.iter().filter(|voter| !to.contains(voter)).peekable();
    let gains = to.iter().any(|voter| !from.contains(voter));
    gone.peek().is_some() && !gains && gone.all(|voter| forced.contains(&voter.id))
}

fn tolerated(voters: &[Voter], is_well: impl Fn(&Voter) -> bool) -> i64 {
    let well = voters.iter().filter(|voter| is_well(voter)).count();
    let quorum = voters.len() / 2 + 1;
    i64::try_from(well).unwrap_or(i64::MAX) - i64::try_from(quorum).unwrap_or(i64::MAX)
}

fn show(voters: &[Voter]) -> String {
    let shown: Vec<_> =
        voters.iter().map(|voter| format!("{} ({:016x})", voter.node, voter.id)).collect();
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timeline::Fault;

    const S: u64 = 1_000_000;

    /// Four nodes that have run for ten seconds.
    fn timeline() -> Timeline {
        let mut timeline = Timeline::default();
        for node in 0..4 {
            timeline.record(0, Some(node), EventKind::Named { id: 100 + u64::from(node) });
        }
        timeline
    }

    fn change(timeline: &mut Timeline, from: &[u32], to: &[u32]) {
        let voters = |nodes: &[u32]| {
            nodes.iter().map(|node| Voter { id: 100 + u64::from(*node), node: *node }).collect()
        };
        let kind = EventKind::VotersChange { from: voters(from), to: voters(to) };
        timeline.record(20 * S, Some(0), kind);
    }

    fn is_found(happened: impl FnOnce(&mut Timeline), from: &[u32], to: &[u32]) -> bool {
        let mut timeline = timeline();
        happened(&mut timeline);
        change(&mut timeline, from, to);
        !check(&timeline).is_empty()
    }

    fn fault(timeline: &mut Timeline, at_us: u64, kind: FaultKind, node: u32) {
        let detail = String::new();
        let fault = Fault { id: 0, kind, nodes: vec![node], quorum_left: true, detail };
        timeline.record(at_us, None, EventKind::FaultBegan(fault));
    }

    #[test]
    fn the_removal_of_a_voter_that_works_is_found_where_it_is_needed() {
        assert!(is_found(|_| {}, &[0, 1, 2], &[0, 1]));
        assert!(!is_found(|_| {}, &[0, 1, 2, 3], &[0, 1, 2]));
        assert!(!is_found(|_| {}, &[0, 1, 2], &[0, 1, 2, 3]));
    }

    #[test]
    fn force_excuses_the_removal_of_the_one_it_names_and_of_nobody_else() {
        let force = |timeline: &mut Timeline| {
            timeline.record(15 * S, Some(0), EventKind::RemovalForced { id: 102 });
        };
        assert!(!is_found(force, &[0, 1, 2], &[0, 1]));
        assert!(is_found(force, &[0, 1, 2], &[0, 2]));
    }

    #[test]
    fn a_voter_that_is_down_is_no_loss_and_one_that_takes_over_is_no_gain_if_it_is_down() {
        let stopped =
            |timeline: &mut Timeline| timeline.record(12 * S, Some(2), EventKind::Stopped);
        assert!(!is_found(stopped, &[0, 1, 2], &[0, 1]));
        assert!(is_found(stopped, &[0, 1, 3], &[0, 1, 2]));
    }

    #[test]
    fn another_folder_in_the_place_is_another_voter() {
        let replaced = |timeline: &mut Timeline| {
            timeline.record(12 * S, Some(2), EventKind::Stopped);
            timeline.record(13 * S, Some(2), EventKind::Started { incarnation: 1 });
            timeline.record(13 * S, Some(2), EventKind::Named { id: 7 });
        };
        assert!(!is_found(replaced, &[0, 1, 2], &[0, 1]));
    }

    #[test]
    fn trouble_excuses_what_the_leader_could_not_know() {
        let cut = |timeline: &mut Timeline| fault(timeline, 19 * S, FaultKind::Partition, 2);
        assert!(!is_found(cut, &[0, 1, 2], &[0, 1]), "it does not answer");
        assert!(!is_found(cut, &[0, 1, 3], &[0, 1, 2]), "it answered a moment ago");
        let cut_for_long =
            |timeline: &mut Timeline| fault(timeline, 12 * S, FaultKind::Partition, 2);
        assert!(is_found(cut_for_long, &[0, 1, 3], &[0, 1, 2]));
        let of_leader = |timeline: &mut Timeline| fault(timeline, 19 * S, FaultKind::LossyLinks, 0);
        assert!(!is_found(of_leader, &[0, 1, 2], &[0, 1]), "nobody answers for certain");
    }
}
