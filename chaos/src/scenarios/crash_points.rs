//! Crashes at the worst moments: between an append and its sync, a vote and its reply, a rename and
//! the sync of the folder, in the middle of a snapshot.

use super::{Scenario, usual};
use crate::{
    cluster::Shape,
    dice::Dice,
    story::{Story, Stuck},
    workload::Workload,
};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "crash-points",
    summary: "nodes lose power exactly between a write and its sync, a vote and its reply, a rename and its sync",
    shape,
    workload: busy,
    story,
};

/// Where a crash hurts most.
const SITES: &[&str] = &[
    "storage.before-write",
    "storage.before-sync",
    "storage.after-sync",
    "storage.before-vote-sync",
    "storage.after-vote-sync",
    "storage.after-segment-rename",
    "storage.before-seal-sync",
    "storage.after-seal-rename",
    "storage.snapshot-chunk",
    "storage.before-snapshot-rename",
    "storage.after-snapshot-rename",
    "consensus.before-apply",
];

fn shape(_dice: &mut Dice) -> Shape {
    Shape { log_bytes_min: 16 * 1024, ..Shape::default() }
}

fn busy(dice: &mut Dice) -> Workload {
    Workload { think_ms: 10..=60, value_len: 300, ..usual(dice) }
}

fn story(story: &mut Story) -> Result<(), Stuck> {
    for _round in 0..8 {
        let leader = story.begin()?;
        let site = *story.dice().pick(SITES);
        let votes = site.contains("vote");
        let victim =
            if !votes && story.dice().percent(60) { leader } else { story.another(leader) };
        story.set_trap(victim, site);
        if votes {
            // Votes come with elections.
            story.kill_process(leader);
            story.run_ms(700);
            story.restart(leader);
        } else if site.contains("seal") {
            // An end of the log is sealed at a start.
            story.kill_process(victim);
            story.restart(victim);
            story.set_trap(victim, site);
        }
        if story.wait_for_trap(victim, 1_500) {
            story.note(format!("node {victim} is at {site}"));
        }
        story.cut_power(victim);
        let down_ms = story.dice().between(1..=800);
        story.run_ms(down_ms);
        story.restart(victim);
    }
    story.wait_for_writes(10)
}
