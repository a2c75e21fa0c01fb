//! A disk is lost, and a new node takes the place of the old one: one command, one change.

use super::{another_that_runs, demand_that_it_ends, voters, wait_for_vote};
use crate::{
    checkers::Rule,
    scenarios::{Scenario, maintenance::trouble, three_nodes, usual},
    story::{Story, Stuck},
};

pub(in crate::scenarios) const REPLACE_A_LOST_DISK: Scenario = Scenario {
    name: "replace-a-lost-disk",
    summary: "nodes lose their disks one after the other, and new ones take their places",
    shape: three_nodes,
    workload: usual,
    story,
};

fn story(story: &mut Story) -> Result<(), Stuck> {
    for round in 0..4 {
        let leader = story.begin()?;
        // The leader, too.
        let victim = if round % 2 == 0 { leader } else { story.another(leader) };
        let before = voters(story);
        let old = story.identity(victim);
        if !story.take_disk(victim) {
            continue;
        }
        let ms = story.dice().between(1..=3_000);
        story.run_ms(ms);
        let through = another_that_runs(story, victim);
        story.start_to_join(victim, through);
        if story.dice().percent(30) {
            // It is lost again before it has a vote.
            let ms = story.dice().between(100..=12_000);
            story.run_ms(ms);
            if story.take_disk(victim) {
                let through = another_that_runs(story, victim);
                story.start_to_join(victim, through);
            }
        }
        if story.dice().percent(60) {
            // With one of three disks gone nothing more is tolerated: this stops the writes.
            let other = another_that_runs(story, victim);
            let fault = trouble(story, other);
            let ms = story.dice().between(100..=4_000);
            story.run_ms(ms);
            if let Some(fault) = fault {
                story.end(fault);
            }
            story.restart(other);
        }
        wait_for_vote(story, victim)?;
        demand_that_it_ends(story);
        let (now, new) = (voters(story), story.identity(victim));
        let is_replaced = now.len() == before.len()
            && old.is_none_or(|old| !now.contains(&old))
            && new.is_some_and(|new| now.contains(&new) && !before.contains(&new));
        story.demand(is_replaced, Rule::ChangeTruth, || {
            format!(
                "node {victim} lost its disk and came back: {old:x?} was to be replaced by \
                 {new:x?}, and the voters went from {before:x?} to {now:x?}"
            )
        });
        story.wait_for_writes(5)?;
    }
    Ok(())
}
