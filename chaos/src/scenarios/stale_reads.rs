//! Reads that may be old, while leaders are so young that they do not know what is committed.

use super::{Scenario, three_nodes, usual};
use crate::{
    dice::Dice,
    story::{Story, Stuck},
    workload::Workload,
};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "stale-reads",
    summary: "many stale reads while leaders change and everybody forgets what was committed",
    shape: three_nodes,
    workload: stale,
    story,
};

fn stale(dice: &mut Dice) -> Workload {
    Workload { stale_percent: 60, think_ms: 2..=12, ..usual(dice) }
}

fn story(story: &mut Story) -> Result<(), Stuck> {
    for _round in 0..5 {
        let leader = story.begin()?;
        story.cut_all_power();
        story.run_ms(50);
        for node in story.nodes() {
            story.restart(node);
        }
        // The new leader's first entry takes its time to be committed.
        let slow = story.slow_links(&[leader], 15);
        story.wait_for_writes(5)?;
        let leader = story.wait_for_leader()?;
        let cut = story.partition(&[leader]);
        story.wait_for_writes(5)?;
        story.end(cut);
        story.end(slow);
    }
    Ok(())
}
