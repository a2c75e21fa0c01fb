//! The elections of a run, and whether each had a reason.
//!
//! A leader that is alive and reaches a majority must keep its title: an election without a fault
//! is a failure of the failure detector, in whatever scenario. Hardships such as a slow disk or
//! jitter come near it and are no excuse.

use super::{Rule, Violation};
use crate::timeline::{EventKind, FaultKind, Role, Timeline};

/// A node that began to lead in a term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Election {
    /// When, in simulated microseconds.
    pub at_us: u64,
    /// Who won.
    pub node: u32,
    /// The term.
    pub term: u64,
    /// Why there was one, as far as the timeline tells.
    pub reason: Option<Reason>,
}

/// Why there was an election.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// There was no leader before.
    Birth,
    /// Such a fault was on, or had ended not long before.
    Fault(FaultKind),
    /// A process had started or ended.
    Process,
    /// Leadership was handed over on purpose.
    Transfer,
}

impl Election {
    /// Whether nothing that happened explains it.
    #[must_use]
    pub const fn is_needless(&self) -> bool {
        self.reason.is_none()
    }
}

/// The elections that nothing excuses.
#[must_use]
pub fn check(elections: &[Election]) -> Vec<Violation> {
    elections
        .iter()
        .filter(|election| election.is_needless())
        .map(|election| Violation {
            at_us: election.at_us,
            rule: Rule::NeedlessElection,
            node: Some(election.node),
            what: format!(
                "it leads in term {}, and nothing happened to the leader before it",
                election.term
            ),
        })
        .collect()
}

/// How long after it ended something still explains an election, in simulated microseconds: a
/// detector must notice and a vote be taken, and a second one if the first is split.
const AFTERMATH_US: u64 = 3_000_000;

/// The elections of a run, in order.
#[must_use]
pub fn elections(timeline: &Timeline) -> Vec<Election> {
    let faults = timeline.faults();
    let mut elections: Vec<Election> = Vec::new();
    let mut last_process_us = None;
    let mut last_transfer_us = None;
    for event in timeline.events() {
        let at_us = event.at_us;
        let recent = |happened_us: Option<u64>| {
            happened_us.is_some_and(|happened_us| at_us <= happened_us + AFTERMATH_US)
        };
        match (&event.kind, event.node) {
            (EventKind::Started { .. } | EventKind::Stopped | EventKind::StorageFailed, _) => {
                last_process_us = Some(at_us);
            }
            (EventKind::LeadershipTransferred { .. }, _) => last_transfer_us = Some(at_us),
            (EventKind::Role { role: Role::Leader, term }, Some(node)) => {
                if elections.iter().any(|election| election.term == *term) {
                    continue;
                }
                let fault = faults.iter().find(|window| {
                    window.fault.kind.excuses_election()
                        && window.touches(at_us.saturating_sub(AFTERMATH_US), at_us)
                });
                let reason = if elections.is_empty() {
                    Some(Reason::Birth)
                } else if recent(last_transfer_us) {
                    Some(Reason::Transfer)
                } else if let Some(window) = fault {
                    Some(Reason::Fault(window.fault.kind))
                } else {
                    recent(last_process_us).then_some(Reason::Process)
                };
                elections.push(Election { at_us, node, term: *term, reason });
            }
            _ => {}
        }
    }
    elections
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timeline::Fault;

    const S: u64 = 1_000_000;

    fn lead(timeline: &mut Timeline, at_us: u64, node: u32, term: u64) {
        timeline.record(at_us, Some(node), EventKind::Role { role: Role::Leader, term });
    }

    fn began(id: u32, kind: FaultKind) -> EventKind {
        let detail = String::new();
        EventKind::FaultBegan(Fault { id, kind, nodes: vec![0], quorum_left: true, detail })
    }

    #[test]
    fn an_election_without_a_fault_is_needless() {
        let mut timeline = Timeline::default();
        lead(&mut timeline, S, 0, 1);
        timeline.record(10 * S, None, began(0, FaultKind::Partition));
        lead(&mut timeline, 11 * S, 1, 2);
        timeline.record(12 * S, None, EventKind::FaultEnded { id: 0 });
        lead(&mut timeline, 14 * S, 0, 3);
        lead(&mut timeline, 20 * S, 1, 4);
        let reasons: Vec<_> = elections(&timeline).iter().map(|one| one.reason).collect();
        let partition = Some(Reason::Fault(FaultKind::Partition));
        assert_eq!(reasons, [Some(Reason::Birth), partition, partition, None]);
        let violations = check(&elections(&timeline));
        assert_eq!(violations.len(), 1, "{violations:?}");
        assert_eq!((violations[0].rule, violations[0].at_us), (Rule::NeedlessElection, 20 * S));
    }

    #[test]
    fn a_hardship_does_not_excuse_an_election() {
        let mut timeline = Timeline::default();
        lead(&mut timeline, S, 0, 1);
        timeline.record(10 * S, None, began(0, FaultKind::SlowDisk));
        lead(&mut timeline, 11 * S, 1, 2);
        assert!(elections(&timeline)[1].is_needless());
    }

    #[test]
    fn a_restart_or_a_transfer_explains_an_election() {
        let mut timeline = Timeline::default();
        lead(&mut timeline, S, 0, 1);
        timeline.record(10 * S, Some(0), EventKind::Stopped);
        lead(&mut timeline, 11 * S, 1, 2);
        timeline.record(20 * S, Some(1), EventKind::LeadershipTransferred { to: 2 });
        lead(&mut timeline, 21 * S, 2, 3);
        // The same term again is no other election.
        lead(&mut timeline, 22 * S, 2, 3);
        let reasons: Vec<_> = elections(&timeline).iter().map(|one| one.reason).collect();
        assert_eq!(reasons, [Some(Reason::Birth), Some(Reason::Process), Some(Reason::Transfer)]);
    }
}
