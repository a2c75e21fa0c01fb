//! Links that work in one direction: a leader that is heard and hears nobody, and the other way.

use super::{Scenario, three_nodes, usual};
use crate::story::{Story, Stuck};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "one-way-cuts",
    summary: "the leader is deaf, then mute, then a follower is",
    shape: three_nodes,
    workload: usual,
    story,
};

fn story(story: &mut Story) -> Result<(), Stuck> {
    let leader = story.begin()?;
    let deaf = story.deafen(&[leader]);
    story.run_ms(3_000);
    story.end(deaf);
    story.wait_for_writes(10)?;
    let leader = story.wait_for_leader()?;
    let mute = story.mute(&[leader]);
    story.run_ms(3_000);
    story.end(mute);
    story.wait_for_writes(10)?;
    let leader = story.wait_for_leader()?;
    let follower = story.another(leader);
    let mute = story.mute(&[follower]);
    story.wait_for_writes(10)?;
    story.run_ms(2_000);
    story.end(mute);
    Ok(())
}
