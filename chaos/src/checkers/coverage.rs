//! What a run really had: a run in which nothing happened proves nothing.

use std::collections::BTreeMap;

use serde::Serialize;

use super::elections::Election;
use crate::{
    history::{Answer, Call, Consistency, History, Outcome, StreamMessage, WatchMessage},
    timeline::{EventKind, Timeline},
};

/// Counts of what happened in a run, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Coverage(BTreeMap<&'static str, u64>);

impl Coverage {
    /// Counts what the timeline and the history tell.
    #[must_use]
    pub fn of(timeline: &Timeline, history: &History, elections: &[Election]) -> Self {
        let mut coverage = Self::default();
        for name in NAMES {
            coverage.add(name, 0);
        }
        for event in timeline.events() {
            if let Some(name) = event_name(&event.kind) {
                coverage.add(name, 1);
            }
            if let EventKind::FaultBegan(fault) = &event.kind {
                coverage.add(fault.kind.as_str(), 1);
            }
        }
        coverage.add("elections", elections.len() as u64);
        let needless = elections.iter().filter(|election| election.is_needless()).count();
        coverage.add("false-elections", needless as u64);
        coverage.count_history(history);
        coverage
    }

    /// Adds to a count.
    pub fn add(&mut self, name: &'static str, count: u64) {
        *self.0.entry(name).or_default() += count;
    }

    /// A count; 0 if there is none of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// All counts, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.iter().map(|(name, count)| (*name, *count))
    }

    /// Adds all counts of another run.
    pub fn merge(&mut self, other: &Self) {
        for (name, count) in other.iter() {
            self.add(name, count);
        }
    }

    fn count_history(&mut self, history: &History) {
        for operation in &history.operations {
            let name = match (&operation.call, &operation.outcome) {
                (_, Outcome::Refused { .. }) => "refused-calls",
                (_, Outcome::Unknown) => "unanswered-calls",
                (_, Outcome::Ok { repeated: true, .. }) => "repeated-writes",
                (Call::Get { consistency: Consistency::Linearizable, .. }, _) => "reads",
                (Call::Get { consistency: Consistency::Stale, .. }, _) => "stale-reads",
                (_, Outcome::Ok { answer: Answer::Compared { succeeded: false }, .. }) => {
                    "failed-compares"
                }
                (Call::Get { consistency: Consistency::Past(_), .. }, _) => "reads-of-the-past",
                (Call::CompareAndSet { .. }, _) => "succeeded-compares",
                (Call::LeaseGrant { .. }, _) => "leases-granted",
                (_, Outcome::Ok { answer: Answer::LeaseKeptAlive { ttl_ms: None }, .. }) => {
                    "leases-found-ended"
                }
                (Call::LeaseKeepAlive { .. }, _) => "leases-kept-alive",
                (Call::LeaseRevoke { .. }, _) => "leases-revoked",
                (Call::LeaseTimeToLive { .. }, _) => "leases-asked-after",
                (Call::Compact { .. }, _) => "compactions",
                (Call::Put { .. } | Call::Delete { .. }, _) => continue,
            };
            self.add(name, 1);
        }
        self.add("operations", history.operations.len() as u64);
        for streamed in &history.streamed {
            let name = match streamed.message {
                StreamMessage::Created { .. } => "etcd-watchers",
                StreamMessage::Events(_) => "etcd-events",
                StreamMessage::Progress => "etcd-progress",
                StreamMessage::Compacted { .. } => "etcd-watchers-compacted",
                StreamMessage::Cancelled => "etcd-watchers-cancelled",
            };
            self.add(name, 1);
        }
        if !history.statuses.is_empty() {
            self.add("etcd-refusals", history.statuses.len() as u64);
        }
        for watched in &history.watched {
            self.add("watch-messages", 1);
            self.add("watch-resumptions", u64::from(watched.resumed_from.is_some()));
            if let WatchMessage::Compacted { .. } = watched.message {
                self.add("watch-compactions", 1);
            }
        }
    }
}

/// What every run is asked for; the others appear when they happen.
const NAMES: [&str; 12] = [
    "acknowledged-writes",
    "elections",
    "false-elections",
    "faults",
    "forwarded-writes",
    "repeated-writes",
    "restarts",
    "snapshots-installed",
    "snapshots-taken",
    "torn-tails",
    "unknown-outcomes",
    "watch-messages",
];

const fn event_name(kind: &EventKind) -> Option<&'static str> {
    Some(match kind {
        EventKind::Started { incarnation: 0 } => "starts",
        EventKind::Started { .. } => "restarts",
        EventKind::Stopped => "stops",
        EventKind::FaultBegan(_) => "faults",
        EventKind::Acknowledged { .. } => "acknowledged-writes",
        EventKind::OutcomeUnknown { .. } => "unknown-outcomes",
        EventKind::Forwarded => "forwarded-writes",
        EventKind::SnapshotTaken { .. } => "snapshots-taken",
        EventKind::SnapshotInstalled { .. } => "snapshots-installed",
        EventKind::TornTail { .. } => "torn-tails",
        EventKind::StorageFailed => "storage-failures",
        EventKind::LeadershipTransferred { .. } => "leadership-transfers",
        EventKind::VotersChange { .. } => "voter-changes",
        EventKind::RemovalForced { .. } => "forced-removals",
        EventKind::Role { .. }
        | EventKind::Named { .. }
        | EventKind::FaultEnded { .. }
        | EventKind::Healed
        | EventKind::Violation { .. }
        | EventKind::Note(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::story::{created, get, history, nothing, put};

    #[test]
    fn what_happened_is_counted_and_what_did_not_is_zero() {
        let mut timeline = Timeline::default();
        timeline.record(1, Some(0), EventKind::Started { incarnation: 0 });
        timeline.record(2, Some(0), EventKind::Started { incarnation: 1 });
        timeline.record(3, Some(0), EventKind::TornTail { bytes: 7 });
        let calls = history(vec![(0, 1, put("a", "1"), created(2)), (0, 1, get("a"), nothing(1))]);
        let mut coverage = Coverage::of(&timeline, &calls, &[]);
        assert_eq!(coverage.get("torn-tails"), 1);
        assert_eq!(coverage.get("restarts"), 1);
        assert_eq!((coverage.get("operations"), coverage.get("reads")), (2, 1));
        assert!(coverage.iter().any(|count| count == ("snapshots-installed", 0)));
        coverage.merge(&coverage.clone());
        assert_eq!(coverage.get("torn-tails"), 2);
    }
}
