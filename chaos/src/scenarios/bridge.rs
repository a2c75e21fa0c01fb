//! Two groups that meet only in one node: a majority exists, and it is easy to quarrel over it.

use super::{Scenario, five_nodes, usual};
use crate::story::{Story, Stuck};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "bridge",
    summary: "only one node of five reaches both halves",
    shape: five_nodes,
    workload: usual,
    story,
};

fn story(story: &mut Story) -> Result<(), Stuck> {
    for _round in 0..2 {
        story.begin()?;
        let bridge = story.any_node();
        let cut = story.partition_but_for(bridge);
        story.run_ms(4_000);
        story.wait_for_writes(5)?;
        story.end(cut);
        story.run_ms(1_000);
    }
    Ok(())
}
