//! Clocks that are off, run at different rates and jump, while leases live on the replicated one.

use super::Scenario;
use crate::{
    cluster::Shape,
    dice::Dice,
    story::{Story, Stuck},
    workload::Workload,
};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "skewed-clocks",
    summary: "every node has another time; leaders change, and no lease dies of it",
    shape,
    workload: many_leases,
    story,
};

fn shape(_dice: &mut Dice) -> Shape {
    Shape { clock_error_per_mille: 60, ..Shape::default() }
}

fn many_leases(_dice: &mut Dice) -> Workload {
    Workload { workers: 2, holders: 4, ..Workload::default() }
}

fn story(story: &mut Story) -> Result<(), Stuck> {
    for node in story.nodes() {
        let hours = i64::try_from(story.dice().below(48)).unwrap_or(0) - 24;
        story.jump_clock(node, hours * 3_600_000);
        let per_mille = story.dice().between(950..=1_050);
        let _bent = story.bend_clock(node, per_mille);
    }
    story.begin()?;
    for _round in 0..4 {
        story.run_ms(1_500);
        let leader = story.wait_for_leader()?;
        story.jump_clock(leader, 3_600_000);
        story.kill_process(leader);
        story.run_ms(1_000);
        story.restart(leader);
        story.wait_for_writes(3)?;
    }
    Ok(())
}
