//! Nothing happens: the cluster serves, and nobody loses a title over nothing.

use super::{Scenario, three_nodes, usual};
use crate::story::{Story, Stuck};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "steady",
    summary: "no fault at all; the baseline of every figure",
    shape: three_nodes,
    workload: usual,
    story,
};

fn story(story: &mut Story) -> Result<(), Stuck> {
    story.begin()?;
    story.run_ms(10_000);
    story.wait_for_writes(10)
}
