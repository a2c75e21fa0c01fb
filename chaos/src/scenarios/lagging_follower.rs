//! A follower is away until the entries it needs are gone: it gets a snapshot.

use super::{Scenario, usual};
use crate::{
    cluster::Shape,
    dice::Dice,
    story::{Story, Stuck},
    workload::Workload,
};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "lagging-follower",
    summary: "a follower is away until it needs a snapshot, which is interrupted once",
    shape,
    workload: busy,
    story,
};

fn shape(_dice: &mut Dice) -> Shape {
    Shape { log_bytes_min: 8 * 1024, ..Shape::default() }
}

fn busy(dice: &mut Dice) -> Workload {
    Workload { think_ms: 5..=30, value_len: 400, ..usual(dice) }
}

fn story(story: &mut Story) -> Result<(), Stuck> {
    for _round in 0..2 {
        let leader = story.begin()?;
        let follower = story.another(leader);
        let cut = story.partition(&[follower]);
        story.run_ms(5_000);
        story.end(cut);
        if story.dice().percent(50) {
            let ms = story.dice().between(1..=600);
            story.run_ms(ms);
            story.cut_power(follower);
            story.run_ms(100);
            story.restart(follower);
        }
        story.run_ms(3_000);
    }
    story.wait_for_writes(10)
}
