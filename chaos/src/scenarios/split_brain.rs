//! The leader is cut off while clients reach both sides: one side may acknowledge, and one only.

use super::{Scenario, five_nodes, three_nodes, usual};
use crate::story::{Story, Stuck};

pub(super) const ISOLATE_THE_LEADER: Scenario = Scenario {
    name: "isolate-the-leader",
    summary: "the leader loses its followers, clients write on both sides, the link heals",
    shape: three_nodes,
    workload: usual,
    story: isolate_the_leader,
};

pub(super) const SPLIT_BRAIN: Scenario = Scenario {
    name: "split-brain",
    summary: "five nodes fall apart again and again, the leader always with the minority",
    shape: five_nodes,
    workload: usual,
    story: split_brain,
};

fn isolate_the_leader(story: &mut Story) -> Result<(), Stuck> {
    for _round in 0..3 {
        let leader = story.begin()?;
        let cut = story.partition(&[leader]);
        story.run_ms(500);
        story.wait_for_writes(10)?;
        story.run_ms(1_500);
        story.end(cut);
        story.wait_for_writes(10)?;
    }
    Ok(())
}

fn split_brain(story: &mut Story) -> Result<(), Stuck> {
    for _round in 0..4 {
        let leader = story.begin()?;
        let companion = story.another(leader);
        let cut = story.partition(&[leader, companion]);
        story.wait_for_writes(10)?;
        let ms = story.dice().between(500..=3_000);
        story.run_ms(ms);
        story.end(cut);
        story.run_ms(500);
    }
    Ok(())
}
