//! A voter dies: with no replacement it keeps its place, with one the leader lets it go by itself.

use super::{another_that_runs, come_and_go::stays_away, voters, wait_for_vote};
use crate::{
    checkers::Rule,
    cluster::Shape,
    dice::Dice,
    scenarios::Scenario,
    story::{Story, Stuck},
    workload::Workload,
};

pub(in crate::scenarios) const DEAD_VOTER: Scenario = Scenario {
    name: "dead-voter",
    summary: "a voter stays away for good; the leader removes it once a replacement has a vote",
    shape,
    workload: few_calls,
    story,
};

/// A voter that is silent for ten minutes is taken for dead.
pub(super) const DEAD_AFTER_MS: u64 = 600_000;

/// How much later the leader has acted, or has had the time to.
const ACTS_WITHIN_MS: u64 = 60_000;

fn shape(_dice: &mut Dice) -> Shape {
    Shape { spares: 1, ..Shape::default() }
}

pub(super) fn few_calls(_dice: &mut Dice) -> Workload {
    Workload { workers: 2, think_ms: 200..=1_000, holders: 1, ..Workload::default() }
}

fn story(story: &mut Story) -> Result<(), Stuck> {
    let leader = story.begin()?;
    let dead = if story.dice().percent(30) { leader } else { story.another(leader) };
    let id = story.identity(dead);
    story.kill_process(dead);
    story.run_ms(DEAD_AFTER_MS + ACTS_WITHIN_MS);
    let stays = id.is_some_and(|id| voters(story).contains(&id));
    story.demand(stays, Rule::ToleranceKept, || {
        format!("node {dead} is dead, nobody has taken its place, and it was let go")
    });

    let Some(node) = story.spares().first().copied() else { return Ok(()) };
    let through = another_that_runs(story, dead);
    story.start_to_join(node, through);
    wait_for_vote(story, node)?;
    let let_go = story.run_until(DEAD_AFTER_MS + ACTS_WITHIN_MS, |cluster| {
        let configurations = cluster.configurations();
        configurations
            .iter()
            .all(|configuration| id.is_none_or(|id| !configuration.members().contains(&id)))
    });
    story.demand(let_go, Rule::Liveness, || {
        format!("node {dead} is dead, node {node} has a vote, and node {dead} is still a member")
    });
    story.restart(dead);
    if let Some(id) = id {
        stays_away(story, dead, id)?;
    }
    story.wait_for_writes(10)
}
