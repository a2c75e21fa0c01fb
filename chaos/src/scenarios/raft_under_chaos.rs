//! At every moment a fifth of the nodes fails in some way, for half a minute.

use super::{Scenario, five_nodes, usual};
use crate::{
    story::{Story, Stuck},
    timeline::FaultKind,
};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "raft-under-chaos",
    summary: "one of five nodes is always failing: cut off, killed, without power, paused or with a hanging disk",
    shape: five_nodes,
    workload: usual,
    story,
};

fn story(story: &mut Story) -> Result<(), Stuck> {
    story.begin()?;
    for _round in 0..12 {
        let node = story.any_node();
        let fault = match story.dice().below(5) {
            0 => Some(story.partition(&[node])),
            1 => Some(story.pause(node)),
            2 => Some(story.trouble_disk(node, FaultKind::DiskStall, "", |disk| {
                disk.stalled = true;
            })),
            3 => {
                story.kill_process(node);
                None
            }
            _ => {
                story.cut_power(node);
                None
            }
        };
        let ms = story.dice().between(500..=2_500);
        story.run_ms(ms);
        match fault {
            Some(fault) => story.end(fault),
            None => story.restart(node),
        }
        story.wait_for_writes(1)?;
    }
    Ok(())
}
