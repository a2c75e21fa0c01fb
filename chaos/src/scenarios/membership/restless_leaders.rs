//! Leadership moves more often than a voter that is gone is taken for dead.
//!
//! A voter that goes away and comes back keeps its vote, however long it was away in all; one that
//! stays away is let go as if one leader had watched it all the time. There are four voters, so one
//! is more than is needed, and its replacement is there from the beginning.

use super::{
    come_and_go::stays_away,
    dead_voter::{DEAD_AFTER_MS, few_calls},
    voters,
};
use crate::{
    checkers::Rule,
    cluster::Shape,
    dice::Dice,
    scenarios::{
        Scenario,
        maintenance::{stop, transfer},
    },
    story::{Story, Stuck},
};

pub(in crate::scenarios) const RESTLESS_LEADERS: Scenario = Scenario {
    name: "restless-leaders",
    summary: "a voter of four comes and goes, then stays away, while leadership moves every minute",
    shape,
    workload: few_calls,
    story,
};

/// How often it is away, and for how long each time: more in all than makes a dead one.
const ABSENCES: u64 = 2;
const ABSENCE_MS: u64 = 330_000;

/// For how long it is back.
const BACK_MS: u64 = 20_000;

/// What the time without a leader, or without a quorum, may add.
const LATE_MS: u64 = 180_000;

fn shape(_dice: &mut Dice) -> Shape {
    Shape { nodes: 4, ..Shape::default() }
}

fn story(story: &mut Story) -> Result<(), Stuck> {
    story.begin()?;
    let node = story.any_node();
    let Some(id) = story.identity(node) else { return Ok(()) };
    for _absence in 0..ABSENCES {
        story.kill_process(node);
        lead_in_turn(story, node, ABSENCE_MS, |_story| false)?;
        keeps_its_vote(story, node, id, "comes back in time");
        story.restart(node);
        story.run_ms(BACK_MS);
    }
    story.wait_for_writes(1)?;
    story.kill_process(node);
    lead_in_turn(story, node, DEAD_AFTER_MS - 10_000, |_story| false)?;
    keeps_its_vote(story, node, id, "is not away for long enough");
    let is_gone = move |story: &Story| !voters(story).contains(&id);
    lead_in_turn(story, node, LATE_MS, is_gone)?;
    story.demand(is_gone(story), Rule::Liveness, || {
        format!(
            "node {node} is dead for {} ms, more failures would be tolerated without it, and it is \
             still a member",
            DEAD_AFTER_MS - 10_000 + LATE_MS
        )
    });
    story.restart(node);
    stays_away(story, node, id)?;
    story.wait_for_writes(10)
}

/// Leadership moves every now and then for so long, or until there is an end.
fn lead_in_turn(
    story: &mut Story,
    away: u32,
    ms: u64,
    ends: impl Fn(&Story) -> bool,
) -> Result<(), Stuck> {
    let until_us = story.now_us() + 1_000 * ms;
    while story.now_us() < until_us && story.broken().is_none() && !ends(story) {
        let left_ms = (until_us - story.now_us()) / 1_000;
        let pause_ms = story.dice().between(20_000..=90_000);
        story.run_ms(pause_ms.min(left_ms));
        let Some(leader) = story.leader().filter(|_leader| pause_ms < left_ms) else { continue };
        match story.dice().below(4) {
            0 => {
                stop(story, leader, false);
                story.restart(leader);
            }
            1 => {
                story.kill_process(leader);
                story.run_ms(500);
                story.restart(leader);
            }
            _ => transfer(story)?,
        }
        debug_assert_ne!(leader, away, "who is away does not lead");
    }
    Ok(())
}

fn keeps_its_vote(story: &Story, node: u32, id: u64, why: &str) {
    story.demand(voters(story).contains(&id), Rule::ToleranceKept, || {
        format!("node {node} {why}, and was let go")
    });
}
