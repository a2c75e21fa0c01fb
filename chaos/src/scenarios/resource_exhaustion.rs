//! Disks that fill up: writes are refused, nothing is lost, and all is well when there is room.

use super::{Scenario, three_nodes, usual};
use crate::{
    dice::Dice,
    story::{Story, Stuck},
    timeline::FaultKind,
    workload::Workload,
};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "resource-exhaustion",
    summary: "one disk is full, then all are, then there is room again",
    shape: three_nodes,
    workload: busy,
    story,
};

fn busy(dice: &mut Dice) -> Workload {
    Workload { think_ms: 5..=30, value_len: 800, ..usual(dice) }
}

fn story(story: &mut Story) -> Result<(), Stuck> {
    story.begin()?;
    let node = story.any_node();
    let full = fill(story, node);
    // A leader without room refuses writes and keeps its title.
    story.run_ms(3_000);
    story.end(full);
    story.run_ms(2_000);
    let full: Vec<_> = story.nodes().map(|node| fill(story, node)).collect();
    story.run_ms(5_000);
    full.into_iter().for_each(|fault| story.end(fault));
    story.wait_for_writes(20)
}

fn fill(story: &mut Story, node: u32) -> crate::cluster::FaultId {
    story.trouble_disk(node, FaultKind::DiskFull, "", |disk| disk.capacity_bytes = 0)
}
