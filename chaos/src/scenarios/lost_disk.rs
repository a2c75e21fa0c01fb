//! A disk is lost with all that was on it: the node that comes back is a new one.

use super::{Scenario, three_nodes, usual};
use crate::story::{Story, Stuck};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "lost-disk",
    summary: "a node comes back with an empty folder while another one is cut off",
    shape: three_nodes,
    workload: usual,
    story,
};

fn story(story: &mut Story) -> Result<(), Stuck> {
    let leader = story.begin()?;
    // One follower falls behind, the other one loses what it acknowledged.
    let behind = story.another(leader);
    let cut = story.partition(&[behind]);
    story.wait_for_writes(10)?;
    let victims: Vec<_> = story.nodes().filter(|node| ![leader, behind].contains(node)).collect();
    for victim in victims {
        story.take_disk(victim);
        story.run_ms(100);
        story.restart(victim);
    }
    // Now only the leader has it; the other two must not outvote it.
    let away = story.partition(&[leader]);
    story.end(cut);
    story.run_ms(4_000);
    story.end(away);
    story.wait_for_writes(5)
}
