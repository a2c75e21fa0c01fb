//! A leader that stands still and wakes up believing that it leads.

use super::{Scenario, three_nodes, usual};
use crate::story::{Story, Stuck};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "paused-leader",
    summary: "the leader's process stands still for seconds and goes on",
    shape: three_nodes,
    workload: usual,
    story,
};

fn story(story: &mut Story) -> Result<(), Stuck> {
    for _round in 0..3 {
        let leader = story.begin()?;
        let pause = story.pause(leader);
        story.wait_for_writes(10)?;
        let ms = story.dice().between(100..=3_000);
        story.run_ms(ms);
        story.end(pause);
        story.run_ms(1_000);
    }
    Ok(())
}
