//! One run: a scenario and a seed, from the birth of the cluster to the last check.
//!
//! A run has two phases. In the first the scenario makes trouble and nothing wrong may happen. In
//! the second every fault is over, and the cluster must agree, serve and still have every
//! acknowledged write, within a bound.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use mainstay_node::Profile;
use serde::{Deserialize, Serialize};

use crate::{
    checkers::{self, Bounds, Coverage, Rule, Violation, durability::Loss},
    cluster::{Cluster, Shape},
    dice::Dice,
    history::History,
    record::SharedRecord,
    recovery_time::Recovery,
    report,
    scenarios::Scenario,
    story::{Story, Stuck},
    timeline::{EventKind, Timeline},
    trace::Trace,
    watchdog,
    workload::{self, Orders},
};

/// The longest time from the last fault to ten acknowledged writes, in milliseconds.
const LIVENESS_MS: u64 = 20_000;

/// The longest time in which clients finish what they are at, in milliseconds.
const DRAIN_MS: u64 = 20_000;

/// The count of the coverage that says how long a run was, in milliseconds of simulated time.
pub const SIMULATED_MS: &str = "simulated-ms";

/// Which run.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// The scenario.
    pub scenario: &'static Scenario,
    /// The seed.
    pub seed: u64,
    /// The bug that is planted, if any.
    pub planted: Option<&'static str>,
    /// Whether the trace keeps a line for each event.
    pub log: bool,
}

/// What became of it.
#[derive(Debug, Clone)]
pub struct RunReport {
    /// The scenario.
    pub scenario: &'static str,
    /// The seed.
    pub seed: u64,
    /// The bug that was planted, if any.
    pub planted: Option<&'static str>,
    /// The hash of everything that happened.
    pub trace_hash: u128,
    /// What was found wrong, by time.
    pub violations: Vec<Violation>,
    /// What the run really had.
    pub coverage: Coverage,
    /// The faults and the recoveries from them.
    pub recoveries: Vec<Recovery>,
    /// What acknowledged writes were lost.
    pub loss: Loss,
    /// What happened, for people.
    pub timeline: Timeline,
    /// What clients did and saw.
    pub history: History,
    /// Simulated time in milliseconds.
    pub simulated_ms: u64,
    /// The lines of the trace, if they were asked for.
    pub log: String,
}

/// A run in the form of the JSON document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunJson {
    /// The scenario.
    pub scenario: String,
    /// The seed.
    pub seed: u64,
    /// The hash of everything that happened, in hexadecimal.
    pub trace_hash: String,
    /// What was found wrong, as sentences.
    pub violations: Vec<String>,
    /// What the run really had.
    pub coverage: BTreeMap<String, u64>,
}

impl RunReport {
    /// The run as the JSON document has it.
    #[must_use]
    pub fn to_json(&self) -> RunJson {
        RunJson {
            scenario: self.scenario.to_owned(),
            seed: self.seed,
            trace_hash: format!("{:032x}", self.trace_hash),
            violations: self.violations.iter().map(ToString::to_string).collect(),
            coverage: self.coverage.iter().map(|(name, count)| (name.to_owned(), count)).collect(),
        }
    }

    /// The run as the HTML report has it.
    #[must_use]
    pub fn into_page(self) -> report::Run {
        report::Run {
            scenario: self.scenario.to_owned(),
            seed: self.seed,
            planted: self.planted.map(str::to_owned),
            trace_hash: self.trace_hash,
            simulated_ms: self.simulated_ms,
            violations: self.violations,
            coverage: self.coverage,
            recoveries: self.recoveries,
            loss: self.loss,
            timeline: Some(self.timeline),
        }
    }
}

/// Held by the run of this process: tokio counts its tasks over the whole process, and a second run
/// beside it would change the order in which a crash ends them (see `cluster::task_ids`).
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Carries out a run. Those of one process wait for each other.
#[must_use]
pub fn run(plan: Plan) -> RunReport {
    // A run that panicked leaves nothing behind that another could see.
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let Plan { scenario, seed, planted, log } = plan;
    let trace = if log { Trace::with_log() } else { Trace::default() };
    let record = SharedRecord::default();
    watchdog::run_begins(scenario.name, seed, &record);
    let orders = Orders::default();
    let mut dice = Dice::derive(seed, "shape", 0);
    let mut shape = (scenario.shape)(&mut dice);
    shape.planted = planted;
    let workload = (scenario.workload)(&mut dice);
    let bounds = bounds(&shape);
    let places = shape.nodes + shape.spares;
    let mut cluster = Cluster::new(seed, shape, trace.clone(), record.clone());
    cluster.add_clients(workload::run(
        seed,
        workload,
        places,
        orders.clone(),
        record.clone(),
        trace.clone(),
    ));
    let mut story = Story::new(cluster, record.clone(), orders);
    let outcome = (scenario.story)(&mut story).and_then(|()| recover(&mut story));
    if let Some(panic) = story.broken() {
        violate(&record, story.now_us(), Rule::NodePanicked, panic.to_owned());
    } else if let Err(stuck) = &outcome {
        violate(&record, story.now_us(), Rule::Liveness, stuck.to_string());
    }
    // A run that broke off says nothing of what would have come.
    let ended = story.broken().is_none() && outcome.is_ok();
    let replicas: Vec<_> = story
        .nodes()
        .filter(|node| ended && story.takes_part(*node))
        .filter_map(|node| story.replica(node))
        .collect();
    let counters = world_counters(&story);
    let simulated_ms = story.now_us() / 1000;
    drop(story);
    watchdog::run_ended();
    let record = std::mem::take(&mut *record.lock());
    let mut judgement = checkers::judge(&record.history, &record.timeline, &replicas, &bounds);
    let mut violations = record.violations;
    violations.append(&mut judgement.violations);
    violations.sort();
    judgement.coverage.add(SIMULATED_MS, simulated_ms);
    for (name, count) in counters {
        judgement.coverage.add(name, count);
    }
    RunReport {
        scenario: scenario.name,
        seed,
        planted,
        trace_hash: trace.hash(),
        violations,
        coverage: judgement.coverage,
        recoveries: judgement.recoveries,
        loss: judgement.loss,
        timeline: record.timeline,
        history: record.history,
        simulated_ms,
        log: trace.log(),
    }
}

/// What the checkers allow for in a cluster of this shape.
fn bounds(shape: &Shape) -> Bounds {
    let (recovery_ms, stalled_leader_ms) = match shape.profile {
        Profile::Lan => (6_000, 1_500),
        Profile::Wan => (15_000, 15_000),
    };
    Bounds {
        clock_error_per_mille: shape.clock_error_per_mille,
        recovery_ms,
        stalled_leader_ms,
        liveness_ms: LIVENESS_MS,
        ..Bounds::default()
    }
}

/// The second phase.
fn recover(story: &mut Story) -> Result<(), Stuck> {
    story.heal();
    let wanted = story.acknowledged() + 10;
    story.wait("ten acknowledged writes after the last fault", LIVENESS_MS, |story| {
        story.acknowledged() >= wanted
    })?;
    story.orders().stop();
    story.wait("end of all calls", DRAIN_MS, |story| story.orders().busy() == 0)?;
    story.wait_for_agreement()?;
    story.orders().check();
    story.wait("end of the last reads", DRAIN_MS, |story| story.orders().is_checked())?;
    story.wait_for_agreement()
}

fn violate(record: &SharedRecord, at_us: u64, rule: Rule, what: String) {
    let mut record = record.lock();
    let violation = Violation { at_us, rule, node: None, what };
    record.timeline.record(at_us, None, EventKind::Violation { what: violation.to_string() });
    record.violations.push(violation);
}

/// What the disks really had, and where nodes were when they fell.
fn world_counters(story: &Story) -> BTreeMap<&'static str, u64> {
    let mut counters = BTreeMap::new();
    let mut add = |name, count| *counters.entry(name).or_insert(0) += count;
    for node in story.nodes() {
        let disk = story.disk_counters(node);
        add("syncs", disk.syncs);
        add("failed-syncs", disk.failed_syncs);
        add("dropped-writes", disk.dropped_writes);
        add("torn-writes", disk.torn_writes);
        add("lost-names", disk.lost_names);
        add("refused-for-space", disk.refused_for_space);
        add("failed-disk-calls", disk.failed_calls);
    }
    add("reads-at-the-end", u64::from(story.orders().checked()));
    add("delays", story.nodes().map(|node| story.delays(node)).sum());
    for (site, count) in story.crash_points() {
        add(site, *count);
    }
    counters
}
