//! A write fails, then reads fail at a start: a disk that says so is no reason to lose anything.

use super::{Scenario, three_nodes, usual};
use crate::{
    story::{Story, Stuck},
    timeline::FaultKind,
};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "io-errors",
    summary: "a write fails and the node starts again, then reads fail while it starts",
    shape: three_nodes,
    workload: usual,
    story,
};

fn story(story: &mut Story) -> Result<(), Stuck> {
    for _round in 0..3 {
        let leader = story.begin()?;
        let node = if story.dice().percent(50) { leader } else { story.another(leader) };
        let failing = story.trouble_disk(node, FaultKind::IoError, "the next write", |disk| {
            disk.failing_writes = 1;
        });
        story.run_ms(500);
        story.kill_process(node);
        story.end(failing);
        story.restart(node);
        story.wait_for_writes(5)?;
        let node = story.any_node();
        story.kill_process(node);
        let reads = u32::try_from(story.dice().between(1..=3)).unwrap_or(1);
        let detail = format!("the next {reads} reads");
        let failing = story.trouble_disk(node, FaultKind::IoError, &detail, |disk| {
            disk.failing_reads = reads;
        });
        story.restart(node);
        story.run_ms(500);
        if let Some(why) = story.ended(node) {
            story.note(format!("node {node}: {why}"));
        }
        story.kill_process(node);
        story.end(failing);
        story.restart(node);
        story.run_ms(500);
    }
    story.wait_for_writes(10)
}
