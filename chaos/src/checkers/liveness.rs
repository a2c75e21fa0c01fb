//! Whether the cluster is well again after the last fault: it has one leader, serves fresh writes
//! and reads, and all its replicas are the same.

use super::{Bounds, Rule, Violation, durability::Replica};
use crate::{
    history::{Answer, History},
    timeline::{EventKind, Role, Timeline},
};

/// Checks the time from healing on; a run that never says that it healed is not judged.
#[must_use]
pub fn check(
    timeline: &Timeline,
    history: &History,
    replicas: &[Replica],
    bounds: &Bounds,
) -> Vec<Violation> {
    let healed = timeline.events().iter().rfind(|event| event.kind == EventKind::Healed);
    let Some(healed_us) = healed.map(|event| event.at_us) else { return Vec::new() };
    let mut violations = serves(history, healed_us, bounds);
    violations.extend(one_leader(timeline));
    violations.extend(same_replicas(timeline.end_us(), replicas));
    violations
}

/// Enough calls that were sent after healing were answered in time.
fn serves(history: &History, healed_us: u64, bounds: &Bounds) -> Vec<Violation> {
    let until_us = healed_us + 1_000 * bounds.liveness_ms;
    let (mut writes, mut reads) = (0, 0);
    let sent_after = history.operations.partition_point(|sent| sent.invoked_us < healed_us);
    for operation in &history.operations[sent_after..] {
        if operation.settled_us() > until_us {
            continue;
        }
        if operation.wrote_at().is_some() {
            writes += 1;
        } else if let Some((_, Answer::Got { staleness: None, .. })) = operation.answer() {
            reads += 1;
        }
    }
    [("writes were acknowledged", writes), ("linearizable reads were answered", reads)]
        .into_iter()
        .filter(|(_what, count)| *count < bounds.liveness_calls)
        .map(|(what, count)| Violation {
            at_us: until_us,
            rule: Rule::Liveness,
            node: None,
            what: format!(
                "only {count} {what} in the {} ms after the last fault, of at least {}",
                bounds.liveness_ms, bounds.liveness_calls
            ),
        })
        .collect()
}

/// At the end one node leads, in the highest term.
fn one_leader(timeline: &Timeline) -> Option<Violation> {
    let mut roles = std::collections::BTreeMap::new();
    for event in timeline.events() {
        match (&event.kind, event.node) {
            (EventKind::Role { role, term }, Some(node)) => {
                roles.insert(node, (*role, *term));
            }
            (EventKind::Stopped, Some(node)) => {
                roles.remove(&node);
            }
            _ => {}
        }
    }
    let newest = roles.values().map(|(_, term)| *term).max();
    let leaders: Vec<_> = roles
        .iter()
        .filter(|(_, (role, term))| *role == Role::Leader && Some(*term) == newest)
        .map(|(node, _)| *node)
        .collect();
    (leaders.len() != 1).then(|| Violation {
        at_us: timeline.end_us(),
        rule: Rule::Liveness,
        node: None,
        what: format!("at the end {leaders:?} lead in the newest term {newest:?}"),
    })
}

/// All replicas are at the same sequence, with the same state.
fn same_replicas(at_us: u64, replicas: &[Replica]) -> Vec<Violation> {
    let Some((first, others)) = replicas.split_first() else { return Vec::new() };
    let described = |replica: &Replica| {
        format!(
            "sequence {}, revision {}, hash {:032x}",
            replica.sequence, replica.revision, replica.state_hash
        )
    };
    others
        .iter()
        .filter(|other| described(other) != described(first) || other.pairs != first.pairs)
        .map(|other| {
            let behind = other.sequence != first.sequence;
            Violation {
                at_us,
                rule: if behind { Rule::Liveness } else { Rule::SameState },
                node: Some(other.node),
                what: format!(
                    "at the end its store is at {}; that of node {} at {}",
                    described(other),
                    first.node,
                    described(first)
                ),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::story::{created, found, get, history, put};

    const BOUNDS: Bounds = Bounds {
        clock_error_per_mille: 0,
        lease_end_ms: 0,
        recovery_ms: 0,
        stalled_leader_ms: 0,
        liveness_ms: 1_000,
        liveness_calls: 1,
        search_steps: 0,
    };

    fn timeline(roles: &[(u32, Role, u64)]) -> Timeline {
        let mut timeline = Timeline::default();
        timeline.record(1_000_000, None, EventKind::Healed);
        for (node, role, term) in roles {
            let kind = EventKind::Role { role: *role, term: *term };
            timeline.record(2_000_000, Some(*node), kind);
        }
        timeline
    }

    fn served(written_us: u64) -> History {
        history(vec![
            (1_000_000, written_us, put("a", "1"), created(2)),
            (1_100_000, 1_200_000, get("a"), found(2, "1", 2)),
        ])
    }

    fn replica(node: u32, sequence: u64, state_hash: u128) -> Replica {
        Replica {
            node,
            sequence,
            revision: 2,
            state_hash,
            pairs: std::collections::BTreeMap::new(),
        }
    }

    fn rules(timeline: &Timeline, history: &History, replicas: &[Replica]) -> Vec<Rule> {
        let violations = check(timeline, history, replicas, &BOUNDS);
        violations.into_iter().map(|violation| violation.rule).collect()
    }

    const WELL: &[(u32, Role, u64)] =
        &[(0, Role::Leader, 3), (1, Role::Follower, 3), (2, Role::Follower, 3)];

    #[test]
    fn a_cluster_that_is_well_again_holds() {
        let replicas = [replica(0, 5, 1), replica(1, 5, 1)];
        assert_eq!(rules(&timeline(WELL), &served(1_100_000), &replicas), []);
        // A deposed leader that has not heard of it yet is no second one.
        let old = [(0, Role::Leader, 3), (1, Role::Leader, 2)];
        assert_eq!(rules(&timeline(&old), &served(1_100_000), &replicas), []);
    }

    #[test]
    fn a_cluster_that_serves_too_late_is_found() {
        assert_eq!(rules(&timeline(WELL), &served(2_100_000), &[]), [Rule::Liveness]);
        assert_eq!(rules(&timeline(WELL), &History::default(), &[]), [Rule::Liveness; 2]);
    }

    #[test]
    fn a_cluster_without_a_leader_is_found() {
        let none = [(0, Role::Follower, 3), (1, Role::Candidate, 4)];
        assert_eq!(rules(&timeline(&none), &served(1_100_000), &[]), [Rule::Liveness]);
        let two = [(0, Role::Leader, 3), (1, Role::Leader, 3)];
        assert_eq!(rules(&timeline(&two), &served(1_100_000), &[]), [Rule::Liveness]);
    }

    #[test]
    fn replicas_that_differ_at_the_end_are_found() {
        let at = |other| rules(&timeline(WELL), &served(1_100_000), &[replica(0, 5, 1), other]);
        assert_eq!(at(replica(1, 4, 1)), [Rule::Liveness]);
        assert_eq!(at(replica(1, 5, 9)), [Rule::SameState]);
    }
}
