//! Slow, jittery and lossy links, and links that keep everything back for a while.

use super::{Scenario, three_nodes, usual};
use crate::story::{Story, Stuck};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "shaky-links",
    summary: "links are slow, then jittery, then lossy, then keep messages back",
    shape: three_nodes,
    workload: usual,
    story,
};

fn story(story: &mut Story) -> Result<(), Stuck> {
    let leader = story.begin()?;
    let slow = story.slow_links(&[leader], 20);
    story.run_ms(3_000);
    story.end(slow);
    let jitter = story.jittery_links(&[leader], 60);
    story.run_ms(3_000);
    story.end(jitter);
    let node = story.any_node();
    let lossy = story.lossy_links(&[node], 20);
    story.run_ms(4_000);
    story.end(lossy);
    let leader = story.wait_for_leader()?;
    let held = story.hold(&[leader]);
    story.run_ms(2_000);
    story.end(held);
    story.wait_for_writes(10)
}
