//! One failure pulls the next after it: of five nodes, leader after leader falls until two are
//! left, and the first to come back brings the majority.

use super::{Scenario, five_nodes, usual};
use crate::story::{Story, Stuck};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "cascading-failures",
    summary: "three leaders of five fail one after the other, then come back",
    shape: five_nodes,
    workload: usual,
    story,
};

fn story(story: &mut Story) -> Result<(), Stuck> {
    let mut fallen = Vec::new();
    for _failure in 0..2 {
        let leader = story.begin()?;
        story.cut_power(leader);
        fallen.push(leader);
        story.wait_for_writes(5)?;
    }
    let leader = story.wait_for_leader()?;
    story.kill_process(leader);
    story.run_ms(2_000);
    story.restart(leader);
    story.wait_for_writes(5)?;
    for node in fallen {
        story.restart(node);
        story.run_ms(300);
    }
    story.wait_for_writes(5)
}
