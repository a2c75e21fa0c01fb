//! Messages that take any time up to 30 % of a heartbeat period, all the while, between everybody:
//! the weather of a busy network and no fault, so that any election is needless.

use super::{Scenario, usual};
use crate::{
    cluster::Shape,
    dice::Dice,
    story::{Story, Stuck},
    workload::Workload,
};

pub(super) const JITTER: Scenario = Scenario {
    name: "jitter",
    summary: "every message takes up to 30 % of a heartbeat period: nobody loses a title over it",
    shape,
    workload: usual,
    story: |story| keep_the_title(story, 60_000),
};

/// Twenty of them are a day.
pub(super) const JITTER_FOR_AN_HOUR: Scenario = Scenario {
    name: "jitter-for-an-hour",
    summary: "72 minutes of the same with few clients; 20 seeds are a day",
    shape,
    workload: few_calls,
    story: |story| keep_the_title(story, 72 * 60_000),
};

/// 30 % of the 50 ms between two heartbeats of the profile `lan`; the round trip stays below what
/// a leader's links may take.
const DELAY_MS_MAX: u64 = 15;

fn shape(_dice: &mut Dice) -> Shape {
    Shape { link_ms_max: DELAY_MS_MAX, link_curve: 1.0, ..Shape::default() }
}

fn few_calls(dice: &mut Dice) -> Workload {
    Workload { workers: 2, think_ms: 500..=4_000, holders: 1, ..usual(dice) }
}

fn keep_the_title(story: &mut Story, ms: u64) -> Result<(), Stuck> {
    story.begin()?;
    // Births may take more than one vote.
    story.run_ms(3_000);
    let title = story.title()?;
    story.run_ms(ms);
    story.demand_same_title(title, "links jittered by 30 % of a heartbeat period");
    story.wait_for_writes(1)
}
