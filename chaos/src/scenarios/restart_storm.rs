//! Processes that end and start again and again, all at once and one by one.

use super::{Scenario, three_nodes, usual};
use crate::story::{Story, Stuck};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "restart-storm",
    summary: "all processes are killed at once, then nodes restart in quick turns, power and all",
    shape: three_nodes,
    workload: usual,
    story,
};

fn story(story: &mut Story) -> Result<(), Stuck> {
    story.begin()?;
    let nodes: Vec<_> = story.nodes().collect();
    for &node in &nodes {
        story.kill_process(node);
    }
    story.run_ms(200);
    for &node in &nodes {
        story.restart(node);
    }
    story.wait_for_writes(5)?;
    for _round in 0..12 {
        let node = story.any_node();
        if story.dice().percent(50) {
            story.cut_power(node);
        } else {
            story.kill_process(node);
        }
        let down_ms = story.dice().between(1..=400);
        story.run_ms(down_ms);
        story.restart(node);
        let up_ms = story.dice().between(1..=600);
        story.run_ms(up_ms);
    }
    story.wait_for_writes(5)
}
