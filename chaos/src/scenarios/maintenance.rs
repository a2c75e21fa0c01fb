//! What operators do for years, in an hour: nodes are told to stop and started again in turn,
//! leadership is moved, history is compacted, and now and then something breaks meanwhile.
//!
//! In the hour members come and go as well; in the short ones nobody may: whatever happens, every
//! voter keeps its vote.

use super::{Scenario, membership, usual};
use crate::{
    checkers::Rule,
    cluster::{FaultId, Shape},
    dice::Dice,
    story::{Story, Stuck},
    timeline::FaultKind,
    workload::{Errand, ErrandOutcome, Workload},
};

pub(super) const ROLLING_RESTARTS: Scenario = Scenario {
    name: "rolling-restarts",
    summary: "all nodes are told to stop and started again, one after the other, under load",
    shape,
    workload: busy,
    story: rolling_restarts,
};

pub(super) const MAINTENANCE: Scenario = Scenario {
    name: "maintenance",
    summary: "restarts in good order, transfers and compactions while a node is in trouble",
    shape,
    workload: usual,
    story: |story| maintenance(story, 90_000, false),
};

/// Twenty of them are a day.
pub(super) const MAINTENANCE_FOR_AN_HOUR: Scenario = Scenario {
    name: "maintenance-for-an-hour",
    summary: "72 minutes of the same with members that come and go; 20 seeds are a day",
    shape: |dice| Shape { spares: 3, ..shape(dice) },
    workload: few_calls,
    story: |story| maintenance(story, 72 * 60_000, true),
};

/// Small logs, so that snapshots are taken and sent all the while.
fn shape(dice: &mut Dice) -> Shape {
    let nodes = if dice.percent(70) { 3 } else { 5 };
    Shape { nodes, log_bytes_min: 16 * 1024, ..Shape::default() }
}

fn busy(dice: &mut Dice) -> Workload {
    Workload { think_ms: 5..=40, value_len: 300, ..usual(dice) }
}

fn few_calls(dice: &mut Dice) -> Workload {
    // Often enough, and by enough of them, that silence after a fault is the cluster's and not the
    // clients': two may both be reading from the node whose disk hangs, while others could write.
    Workload { workers: 4, think_ms: 200..=1_000, value_len: 300, holders: 1, ..usual(dice) }
}

fn rolling_restarts(story: &mut Story) -> Result<(), Stuck> {
    story.begin()?;
    let voters = story.voters();
    for _round in 0..2 {
        for node in story.nodes() {
            restart(story, node, false);
            story.wait_for_writes(10)?;
            story.run_ms(1_000);
        }
        compact(story)?;
    }
    keep_their_votes(story, voters);
    Ok(())
}

fn maintenance(story: &mut Story, ms: u64, changes_members: bool) -> Result<(), Stuck> {
    story.begin()?;
    let voters = story.voters();
    let until_us = story.now_us() + 1_000 * ms;
    while story.now_us() < until_us && story.broken().is_none() {
        let node = story.any_node();
        let trouble = if story.dice().percent(50) { trouble(story, node) } else { None };
        match story.dice().below(if changes_members { 9 } else { 5 }) {
            // Whoever is in trouble is what operators restart.
            0 | 1 => restart(story, node, trouble.is_some()),
            2 => transfer(story)?,
            3 => compact(story)?,
            4 => {}
            _ => membership::change(story)?,
        }
        let ms = story.dice().between(200..=5_000);
        story.run_ms(ms);
        if let Some(fault) = trouble {
            story.end(fault);
        }
        if changes_members {
            membership::revive(story);
        }
        for node in story.nodes() {
            story.restart(node);
        }
        story.wait_for_writes(1)?;
        let ms = story.dice().between(1_000..=20_000);
        story.run_ms(ms);
        if !changes_members {
            keep_their_votes(story, voters);
        }
    }
    if changes_members { membership::settle(story) } else { Ok(()) }
}

/// Something that one node suffers, and that a quorum bears; `None` for what its start ends.
pub(super) fn trouble(story: &mut Story, node: u32) -> Option<FaultId> {
    match story.dice().below(7) {
        0 => Some(story.partition(&[node])),
        1 => Some(story.deafen(&[node])),
        2 => Some(story.slow_links(&[node], 15)),
        3 => Some(story.trouble_disk(node, FaultKind::DiskStall, "", |disk| disk.stalled = true)),
        4 => Some(story.trouble_disk(node, FaultKind::SlowDisk, "10 to 60 ms", |disk| {
            disk.sync_ms = 10..=60;
        })),
        5 => {
            story.kill_process(node);
            None
        }
        _ => {
            story.cut_power(node);
            None
        }
    }
}

/// Tells the node to stop, waits for its end and starts it again; one that is down is started.
fn restart(story: &mut Story, node: u32, hangs: bool) {
    stop(story, node, hangs);
    story.restart(node);
}

/// Tells the node to stop, if it is up, and waits for its end. One whose disk hangs may have to be
/// killed.
pub(super) fn stop(story: &mut Story, node: u32, hangs: bool) {
    if story.is_up(node) {
        story.tell_to_stop(node);
        let ended = story.run_until(STOPS_WITHIN_MS, |cluster| cluster.ended(node).is_some());
        if !ended {
            // A supervisor would not wait for a hanging disk either.
            story.note(format!("node {node} was told to stop and does not end"));
        }
        story.demand(ended || hangs, Rule::Liveness, || {
            format!("node {node} was told to stop and runs after {STOPS_WITHIN_MS} ms")
        });
        story.kill(node);
        let ms = story.dice().between(0..=1_000);
        story.run_ms(ms);
    }
}

/// The limit that a node gives running work, and some time to end.
const STOPS_WITHIN_MS: u64 = 35_000;

pub(super) fn transfer(story: &mut Story) -> Result<(), Stuck> {
    let through = story.any_node();
    let to = if story.dice().percent(50) { Some(story.any_node()) } else { None };
    let errand = story.send(Errand::Transfer { through, to });
    let outcome = story.wait_for_errand(errand)?;
    story.note(format!("transfer through node {through} to {to:?}: {outcome:?}"));
    Ok(())
}

/// Forgets what is old; it may be refused, and when nothing is wrong it is not.
pub(super) fn compact(story: &mut Story) -> Result<(), Stuck> {
    let through = story.any_node();
    let errand = story.send(Errand::Compact { through });
    let outcome = story.wait_for_errand(errand)?;
    if let ErrandOutcome::Compacted(revision) = outcome {
        story.note(format!("compacted below revision {revision}"));
    }
    Ok(())
}

fn keep_their_votes(story: &Story, voters: Option<usize>) {
    let now = story.voters();
    story.demand(now.is_none() || now == voters, Rule::ToleranceKept, || {
        format!("there were {voters:?} voters, now {now:?}, and nobody removed one")
    });
}
