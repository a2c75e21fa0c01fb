//! Clocks that run up to a tenth too fast or too slow: whoever hurries does not take the title from
//! whoever dawdles.

use super::{Scenario, usual};
use crate::{
    cluster::Shape,
    dice::Dice,
    story::{Story, Stuck},
};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "clock-rates",
    summary: "the leader's clock runs a tenth too slow and the others' too fast: it keeps its title",
    shape,
    workload: usual,
    story,
};

fn shape(_dice: &mut Dice) -> Shape {
    Shape { clock_error_per_mille: 110, ..Shape::default() }
}

fn story(story: &mut Story) -> Result<(), Stuck> {
    story.begin()?;
    for rates in [[900, 1_100], [1_100, 900]] {
        story.run_ms(1_000);
        let title = story.title()?;
        let bent: Vec<_> = story
            .nodes()
            .map(|node| story.bend_clock(node, rates[usize::from(node != title.leader)]))
            .collect();
        story.run_ms(15_000);
        story.demand_same_title(title, "clocks ran at different rates");
        bent.into_iter().for_each(|fault| story.end(fault));
    }
    story.wait_for_writes(5)
}
