//! Transfers while things go wrong: one that is refused changes nothing, and one that was begun ends
//! with a leader, whoever it is.

use super::{Scenario, three_nodes, usual};
use crate::{
    checkers::Rule,
    dice::Dice,
    story::{Story, Stuck, Title},
    timeline::FaultKind,
    workload::{Errand, ErrandOutcome, Workload},
};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "leadership-transfers",
    summary: "leadership is handed to a node that works, lags, is dead, is silent, or dies meanwhile",
    shape: three_nodes,
    workload: busy,
    story,
};

fn busy(dice: &mut Dice) -> Workload {
    Workload { think_ms: 5..=30, ..usual(dice) }
}

fn story(story: &mut Story) -> Result<(), Stuck> {
    to_one_that_works(story)?;
    for refused in [to_one_that_lags, to_a_dead_one, to_a_silent_one] {
        story.run_ms(4_000);
        refused(story)?;
    }
    for _round in 0..2 {
        story.run_ms(4_000);
        to_one_that_dies(story)?;
    }
    Ok(())
}

/// Asked through any node, it is done.
fn to_one_that_works(story: &mut Story) -> Result<(), Stuck> {
    let leader = story.begin()?;
    story.run_ms(2_000);
    let (through, to) = (story.any_node(), story.another(leader));
    let errand = story.send(Errand::Transfer { through, to: Some(to) });
    let outcome = story.wait_for_errand(errand)?;
    story.demand(outcome == ErrandOutcome::Leads(Some(to)), Rule::TransferTruth, || {
        format!("leadership was to go from node {leader} to {to}, which works; {outcome:?}")
    });
    story.wait_for_writes(10)
}

/// Its disk has hung for too short a time to be noticed, and long enough to lag.
fn to_one_that_lags(story: &mut Story) -> Result<(), Stuck> {
    let title = story.title()?;
    let to = story.another(title.leader);
    let stall = story.trouble_disk(to, FaultKind::DiskStall, "", |disk| disk.stalled = true);
    story.wait_for_writes(2)?;
    refused(story, title, to, "its disk hangs and it lags")?;
    story.end(stall);
    story.wait_for_writes(10)
}

fn to_a_dead_one(story: &mut Story) -> Result<(), Stuck> {
    let title = story.title()?;
    let to = story.another(title.leader);
    story.kill_process(to);
    // At once, while it is still taken for alive, and when its silence is known.
    refused(story, title, to, "it has just died")?;
    story.run_ms(1_000);
    refused(story, title, to, "it is dead")?;
    story.restart(to);
    story.wait_for_writes(10)
}

fn to_a_silent_one(story: &mut Story) -> Result<(), Stuck> {
    let title = story.title()?;
    let to = story.another(title.leader);
    let cut = if story.dice().percent(50) { story.mute(&[to]) } else { story.deafen(&[to]) };
    let ms = story.dice().between(0..=600);
    story.run_ms(ms);
    refused(story, title, to, "its links work in one direction")?;
    story.end(cut);
    story.wait_for_writes(10)
}

/// The target dies when it has just been told to take over: an ordinary election decides.
fn to_one_that_dies(story: &mut Story) -> Result<(), Stuck> {
    let title = story.title()?;
    let to = story.another(title.leader);
    story.set_trap(to, "consensus.before-takeover");
    let errand = story.send(Errand::Transfer { through: title.leader, to: Some(to) });
    let begun = story.wait_for_trap(to, 2_000);
    story.demand(begun, Rule::TransferTruth, || {
        format!("leadership was to go from node {} to {to}, which works", title.leader)
    });
    story.cut_power(to);
    story.wait_for_writes(5)?;
    let outcome = story.wait_for_errand(errand)?;
    let leads = story.wait_for_leader()?;
    let told = match outcome {
        ErrandOutcome::Leads(told) => told == Some(leads),
        ErrandOutcome::Unknown => true,
        _ => false,
    };
    story.demand(told && leads != to, Rule::TransferTruth, || {
        format!("node {to} died while it took over, node {leads} leads; {outcome:?}")
    });
    story.restart(to);
    story.wait_for_writes(10)
}

/// Asks, and demands that the answer is no and nothing has changed.
fn refused(story: &mut Story, title: Title, to: u32, why: &str) -> Result<(), Stuck> {
    let errand = story.send(Errand::Transfer { through: title.leader, to: Some(to) });
    let outcome = story.wait_for_errand(errand)?;
    let no = matches!(outcome, ErrandOutcome::Refused { .. });
    story.demand(no, Rule::TransferTruth, || {
        format!("leadership was to go to node {to}, but {why}; {outcome:?}")
    });
    story.demand_same_title(title, "a transfer was refused");
    story.wait_for_writes(5)?;
    story.demand_same_title(title, "a transfer had been refused");
    Ok(())
}
