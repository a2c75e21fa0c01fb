//! All checks that need the whole run, in one call.

use super::{
    Bounds, Coverage, Violation,
    durability::{self, Loss, Replica},
    elections::{self, Election},
    etcd, leases, linearizability, liveness, revisions, staleness, tolerance, watches,
};
use crate::{
    history::History,
    recovery_time::{self, Recovery},
    timeline::Timeline,
};

/// What the whole run comes to.
#[derive(Debug, Clone, Default)]
pub struct Judgement {
    /// What was wrong, by time.
    pub violations: Vec<Violation>,
    /// What the run really had.
    pub coverage: Coverage,
    /// The elections, and why.
    pub elections: Vec<Election>,
    /// The faults and the recoveries from them.
    pub recoveries: Vec<Recovery>,
    /// What acknowledged writes were lost.
    pub loss: Loss,
}

/// Judges a run that is over. `replicas` are all nodes that should have everything; without any,
/// nothing is said about loss.
#[must_use]
pub fn judge(
    history: &History,
    timeline: &Timeline,
    replicas: &[Replica],
    bounds: &Bounds,
) -> Judgement {
    let ends_us = leases::earliest_ends_us(history, bounds);
    let order = linearizability::check(history, &ends_us, bounds.search_steps);
    let (loss, lost) = durability::check(history, replicas);
    let recoveries = recovery_time::recoveries(timeline);
    let disturbed_us = timeline.disturbed_us(1_000 * bounds.recovery_ms);
    let mut violations = revisions::check(history);
    violations.extend(order.violations);
    violations.extend(watches::check(history));
    violations.extend(etcd::check(history));
    violations.extend(leases::check(history, bounds, &disturbed_us));
    violations.extend(staleness::check(history, bounds));
    violations.extend(lost);
    violations.extend(liveness::check(timeline, history, replicas, bounds));
    violations.extend(recovery_time::check(&recoveries, timeline.end_us(), bounds));
    violations.extend(tolerance::check(timeline));
    let elections = elections::elections(timeline);
    violations.extend(elections::check(&elections));
    violations.sort();
    violations.dedup();
    let mut coverage = Coverage::of(timeline, history, &elections);
    coverage.add("keys-searched", order.keys_settled);
    coverage.add("keys-given-up", order.keys_given_up);
    Judgement { violations, coverage, elections, recoveries, loss }
}
