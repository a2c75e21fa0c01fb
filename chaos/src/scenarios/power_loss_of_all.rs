//! The power of every node goes at the same moment: what was acknowledged must be on the disks.

use super::{Scenario, three_nodes, usual};
use crate::{
    dice::Dice,
    story::{Story, Stuck},
    workload::Workload,
};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "power-loss-of-all",
    summary: "all nodes lose their power at once, several times, under load",
    shape: three_nodes,
    workload: busy,
    story,
};

fn busy(dice: &mut Dice) -> Workload {
    Workload { think_ms: 5..=40, value_len: 200, ..usual(dice) }
}

fn story(story: &mut Story) -> Result<(), Stuck> {
    for _round in 0..4 {
        story.begin()?;
        let ms = story.dice().between(100..=1_500);
        story.run_ms(ms);
        story.cut_all_power();
        story.run_ms(100);
        for node in story.nodes() {
            story.restart(node);
        }
    }
    story.wait_for_writes(10)
}
