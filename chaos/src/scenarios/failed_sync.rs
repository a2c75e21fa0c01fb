//! A sync fails, the process is started again and finds its file readable, then the power goes.

use super::{Scenario, three_nodes, usual};
use crate::{
    dice::Dice,
    story::{Story, Stuck},
    timeline::FaultKind,
    workload::Workload,
};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "failed-sync-then-power-loss",
    summary: "a sync fails, the process restarts and reads what the disk does not hold, the power goes",
    shape: three_nodes,
    workload: busy,
    story,
};

fn busy(dice: &mut Dice) -> Workload {
    Workload { think_ms: 5..=40, ..usual(dice) }
}

fn story(story: &mut Story) -> Result<(), Stuck> {
    story.begin()?;
    for _round in 0..3 {
        // A majority is hit, so that what it wrongly believes can be acknowledged.
        let leader = story.wait_for_leader()?;
        let other = story.another(leader);
        let faults = [leader, other].map(|node| {
            story.trouble_disk(node, FaultKind::FailedSync, "the next sync", |disk| {
                disk.failing_syncs = 1;
            })
        });
        story.run_ms(300);
        for (fault, node) in faults.into_iter().zip([leader, other]) {
            story.kill_process(node);
            story.end(fault);
            story.restart(node);
        }
        let ms = story.dice().between(20..=800);
        story.run_ms(ms);
        story.cut_all_power();
        for node in story.nodes() {
            story.restart(node);
        }
        story.wait_for_writes(5)?;
    }
    Ok(())
}
