//! How long after a fault the next write is acknowledged: the recovery time that users feel.
//!
//! It is measured as a client would: from the fault (from its end, if it left no quorum, for then
//! nobody could write) to the first acknowledgement of a write that was sent after it. An answer
//! that was under way when the fault struck does not count. Faults that strike while another one
//! is on are measured too, and kept apart: their time is not theirs alone.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use crate::{
    checkers::{Bounds, Rule, Violation},
    timeline::{EventKind, FaultKind, FaultWindow, Role, Seconds, Timeline},
};

/// What is compared with its like: a kind of fault, and whether the leader was among the nodes it
/// touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Blow {
    /// The kind of fault.
    pub kind: FaultKind,
    /// Whether it struck the leader.
    pub leader: bool,
}

impl fmt::Display for Blow {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.kind.as_str())?;
        if self.leader { formatter.write_str(", leader") } else { formatter.write_str(", others") }
    }
}

/// A fault and the recovery from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovery {
    /// What struck.
    pub blow: Blow,
    /// From when the time counts, in simulated microseconds.
    pub from_us: u64,
    /// When the first write sent after that was acknowledged; `None` if none was.
    pub recovered_us: Option<u64>,
    /// Whether no other fault was on until then.
    pub alone: bool,
}

impl Recovery {
    /// The time to recover in simulated microseconds.
    #[must_use]
    pub fn took_us(&self) -> Option<u64> {
        self.recovered_us.map(|recovered_us| recovered_us - self.from_us)
    }
}

/// The recoveries of a run, one for each fault, in the order of the faults. A fault that left no
/// quorum and never ended has none.
#[must_use]
pub fn recoveries(timeline: &Timeline) -> Vec<Recovery> {
    let faults = timeline.faults();
    let writes = Writes::of(timeline);
    let leaders = Leaders::of(timeline);
    let mut recoveries = Vec::new();
    for (number, window) in faults.iter().enumerate() {
        let from_us =
            if window.fault.quorum_left { Some(window.began_us) } else { window.ended_us };
        let Some(from_us) = from_us else { continue };
        let recovered_us = writes.first_sent_after(from_us);
        let until_us = recovered_us.unwrap_or(u64::MAX);
        let others = |other: &(usize, &FaultWindow)| {
            other.0 != number && other.1.touches(window.began_us, until_us)
        };
        let leader = leaders.at(window.began_us);
        recoveries.push(Recovery {
            blow: Blow {
                kind: window.fault.kind,
                leader: leader.is_some_and(|leader| window.fault.nodes.contains(&leader)),
            },
            from_us,
            recovered_us,
            alone: !faults.iter().enumerate().any(|other| others(&other)),
        });
    }
    recoveries
}

/// The recoveries that took longer than the bound, of faults that struck alone. A run that ends
/// before the bound is over says nothing about it.
#[must_use]
pub fn check(recoveries: &[Recovery], end_us: u64, bounds: &Bounds) -> Vec<Violation> {
    recoveries
        .iter()
        .filter(|recovery| recovery.alone)
        .filter_map(|recovery| {
            let bound_ms = match recovery.blow {
                Blow { kind: FaultKind::DiskStall, leader: true } => bounds.stalled_leader_ms,
                _ => bounds.recovery_ms,
            };
            let took_us = recovery.recovered_us.unwrap_or(end_us).saturating_sub(recovery.from_us);
            (took_us > bounds.longest_us(bound_ms)).then(|| Violation {
                at_us: recovery.recovered_us.unwrap_or(end_us),
                rule: Rule::RecoveryTime,
                node: None,
                what: format!(
                    "after {} at {} no write was acknowledged for {}; the bound is {bound_ms} ms",
                    recovery.blow,
                    Seconds(recovery.from_us),
                    Seconds(took_us),
                ),
            })
        })
        .collect()
}

/// Times to recover, sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Distribution(Vec<u64>);

impl Distribution {
    /// The distribution of these times.
    #[must_use]
    pub fn new(mut times_us: Vec<u64>) -> Self {
        times_us.sort_unstable();
        Self(times_us)
    }

    /// The times in ascending order, in simulated microseconds.
    #[must_use]
    pub fn times_us(&self) -> &[u64] {
        &self.0
    }

    /// The lowest time that at least `percent` of all times do not exceed, in simulated
    /// microseconds (nearest rank); `None` if there are none.
    #[must_use]
    pub fn percentile_us(&self, percent: usize) -> Option<u64> {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).copied()
    }

    /// The longest time; `None` if there are none.
    #[must_use]
    pub fn max_us(&self) -> Option<u64> {
        self.0.last().copied()
    }
}

/// The times of faults that struck alone, by what struck.
#[must_use]
pub fn distributions<'a>(
    recoveries: impl IntoIterator<Item = &'a Recovery>,
) -> BTreeMap<Blow, Distribution> {
    let mut times: BTreeMap<Blow, Vec<u64>> = BTreeMap::new();
    for recovery in recoveries {
        if let Some(took_us) = recovery.took_us().filter(|_took_us| recovery.alone) {
            times.entry(recovery.blow).or_default().push(took_us);
        }
    }
    times.into_iter().map(|(blow, times_us)| (blow, Distribution::new(times_us))).collect()
}

/// The percentiles as a Markdown table, times in milliseconds.
#[must_use]
pub fn table(distributions: &BTreeMap<Blow, Distribution>) -> String {
    use fmt::Write as _;
    let mut table = String::from(
        "| fault | struck | faults | p50 ms | p90 ms | p99 ms | max ms |\n\
         |---|---|---:|---:|---:|---:|---:|\n",
    );
    for (blow, times) in distributions {
        let percentile = |percent| times.percentile_us(percent).unwrap_or(0) / 1_000;
        // Writing to a string cannot fail.
        let _ = writeln!(
            table,
            "| {} | {} | {} | {} | {} | {} | {} |",
            blow.kind.as_str(),
            if blow.leader { "leader" } else { "others" },
            times.times_us().len(),
            percentile(50),
            percentile(90),
            percentile(99),
            times.max_us().unwrap_or(0) / 1_000
        );
    }
    table
}

/// Acknowledged writes by the time they were sent, and for each the first acknowledgement among
/// it and those sent later.
struct Writes(Vec<(u64, u64)>);

impl Writes {
    fn of(timeline: &Timeline) -> Self {
        let mut writes: Vec<_> = timeline
            .events()
            .iter()
            .filter_map(|event| match event.kind {
                EventKind::Acknowledged { invoked_us, .. } => Some((invoked_us, event.at_us)),
                _ => None,
            })
            .collect();
        writes.sort_unstable();
        let mut first_us = u64::MAX;
        for (_, acknowledged_us) in writes.iter_mut().rev() {
            first_us = first_us.min(*acknowledged_us);
            *acknowledged_us = first_us;
        }
        Self(writes)
    }

    fn first_sent_after(&self, at_us: u64) -> Option<u64> {
        let sent_before = self.0.partition_point(|(sent_us, _)| *sent_us < at_us);
        self.0.get(sent_before).map(|(_, acknowledged_us)| *acknowledged_us)
    }
}

/// Who led at any time: the last who began to.
struct Leaders(Vec<(u64, u32)>);

impl Leaders {
    fn of(timeline: &Timeline) -> Self {
        let changes = timeline.events().iter().filter_map(|event| match event.kind {
            EventKind::Role { role: Role::Leader, .. } => Some((event.at_us, event.node?)),
            _ => None,
        });
        Self(changes.collect())
    }

    fn at(&self, at_us: u64) -> Option<u32> {
        let begun = self.0.partition_point(|(began_us, _)| *began_us <= at_us);
        self.0[..begun].last().map(|(_, node)| *node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timeline::Fault;

    const MS: u64 = 1_000;

    fn began(id: u32, kind: FaultKind, nodes: &[u32], quorum_left: bool) -> EventKind {
        let nodes = nodes.to_vec();
        EventKind::FaultBegan(Fault { id, kind, nodes, quorum_left, detail: String::new() })
    }

    fn acknowledged(invoked_ms: u64) -> EventKind {
        EventKind::Acknowledged { client: 0, invoked_us: invoked_ms * MS, revision: 2 }
    }

    /// Events as (milliseconds, node, what).
    fn timeline(events: Vec<(u64, u32, EventKind)>) -> Timeline {
        let mut timeline = Timeline::default();
        timeline.record(0, Some(0), EventKind::Role { role: Role::Leader, term: 1 });
        for (at_ms, node, kind) in events {
            timeline.record(at_ms * MS, Some(node), kind);
        }
        timeline
    }

    #[test]
    fn the_time_runs_from_the_fault_to_the_answer_of_a_write_sent_after_it() {
        let recoveries = recoveries(&timeline(vec![
            (100, 0, began(0, FaultKind::ProcessKill, &[0], true)),
            // Under way when the fault struck.
            (101, 0, acknowledged(99)),
            (520, 1, acknowledged(130)),
            (530, 1, acknowledged(120)),
        ]));
        let [recovery] = recoveries[..] else { panic!("one fault, one recovery") };
        assert_eq!(recovery.took_us(), Some(420 * MS));
        assert!(recovery.alone && recovery.blow.leader);
        assert_eq!(recovery.blow.to_string(), "process-kill, leader");
    }

    #[test]
    fn without_a_quorum_the_time_runs_from_the_end_of_the_fault() {
        let fault = || (100, 0, began(0, FaultKind::RestartStorm, &[0, 1, 2], false));
        let ended = timeline(vec![
            fault(),
            (900, 0, EventKind::FaultEnded { id: 0 }),
            (1_000, 0, acknowledged(950)),
        ]);
        assert_eq!(recoveries(&ended)[0].took_us(), Some(100 * MS));
        assert_eq!(recoveries(&timeline(vec![fault()])), []);
    }

    #[test]
    fn faults_that_overlap_are_kept_apart() {
        let recoveries = recoveries(&timeline(vec![
            (100, 0, began(0, FaultKind::ProcessKill, &[1], true)),
            (200, 0, began(1, FaultKind::Pause, &[0], true)),
            (700, 0, acknowledged(300)),
        ]));
        assert!(recoveries.iter().all(|recovery| !recovery.alone));
        assert!(!recoveries[0].blow.leader && recoveries[1].blow.leader);
        assert!(distributions(&recoveries).is_empty());
    }

    #[test]
    fn a_recovery_past_the_bound_is_found() {
        let bounds = Bounds { recovery_ms: 400, ..Bounds::default() };
        let fault = || (100, 0, began(0, FaultKind::ProcessKill, &[0], true));
        let check = |events| {
            let timeline = timeline(events);
            check(&recoveries(&timeline), timeline.end_us(), &bounds).len()
        };
        assert_eq!(check(vec![fault(), (500, 1, acknowledged(120))]), 0);
        assert_eq!(check(vec![fault(), (501, 1, acknowledged(120))]), 1);
        assert_eq!(check(vec![fault(), (501, 1, EventKind::Healed)]), 1);
        assert_eq!(check(vec![fault(), (499, 1, EventKind::Healed)]), 0);
    }

    #[test]
    fn percentiles_are_those_of_the_nearest_rank() {
        let times = Distribution::new((1..=100).rev().collect());
        assert_eq!(times.percentile_us(50), Some(50));
        assert_eq!(times.percentile_us(99), Some(99));
        assert_eq!((times.percentile_us(0), times.max_us()), (Some(1), Some(100)));
        assert_eq!(Distribution::new(vec![7]).percentile_us(99), Some(7));
        assert_eq!(Distribution::default().percentile_us(50), None);
    }

    #[test]
    fn the_table_has_a_row_for_each_kind_of_blow() {
        let blow = Blow { kind: FaultKind::PowerLoss, leader: true };
        let distributions = BTreeMap::from([(blow, Distribution::new(vec![400 * MS, 500 * MS]))]);
        assert!(
            table(&distributions)
                .ends_with("| power-loss | leader | 2 | 400 | 500 | 500 | 500 |\n")
        );
    }
}
