//! A bit flips at rest: the node serves what is true or refuses to start, and the others go on.

use super::{Scenario, three_nodes, usual};
use crate::story::{Story, Stuck};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "bit-rot",
    summary: "bits of one node's files flip, and the node is started again",
    shape: three_nodes,
    workload: usual,
    story,
};

fn story(story: &mut Story) -> Result<(), Stuck> {
    story.begin()?;
    story.run_ms(2_000);
    let node = story.any_node();
    for _bit in 0..3 {
        story.rot_disk(node);
    }
    story.run_ms(500);
    story.kill_process(node);
    story.run_ms(200);
    story.restart(node);
    story.run_ms(1_000);
    if let Some(why) = story.ended(node) {
        story.note(format!("node {node}: {why}"));
    }
    story.wait_for_writes(10)
}
