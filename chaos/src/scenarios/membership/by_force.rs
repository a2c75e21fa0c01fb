//! Rehearsals change nothing, force lowers what is tolerated, and not even force ends the writes.

use std::collections::BTreeSet;

use super::{ask, come_and_go::stays_away, voters};
use crate::{
    checkers::Rule,
    scenarios::{Scenario, three_nodes, usual},
    story::{Story, Stuck},
    workload::{Errand, ErrandOutcome},
};

pub(in crate::scenarios) const MEMBERS_BY_FORCE: Scenario = Scenario {
    name: "members-by-force",
    summary: "removals are rehearsed, refused and forced, with all nodes well and with one cut off",
    shape: three_nodes,
    workload: usual,
    story,
};

/// Long enough for everybody to notice that a node is cut off.
const NOTICED_MS: u64 = 3_000;

fn story(story: &mut Story) -> Result<(), Stuck> {
    story.begin()?;
    // Everybody must have answered everybody.
    story.run_ms(NOTICED_MS);
    rehearse(story)?;

    let leader = story.wait_for_leader()?;
    let cut_off = story.another(leader);
    let cut = story.partition(&[cut_off]);
    story.run_ms(NOTICED_MS);
    if let Some(well) = story.nodes().find(|node| *node != cut_off && Some(*node) != story.leader())
    {
        // What is left would be one that works and one that nobody hears.
        remove(story, well, true, false)?;
    }
    story.wait_for_writes(5)?;
    story.end(cut);
    story.run_ms(NOTICED_MS);

    let victim = story.any_node();
    remove(story, victim, false, false)?;
    let id = story.identity(victim);
    remove(story, victim, true, true)?;
    if let Some(id) = id {
        stays_away(story, victim, id)?;
    }
    story.wait_for_writes(10)
}

/// Asks what every removal would do; whatever is answered, the members stay.
fn rehearse(story: &mut Story) -> Result<(), Stuck> {
    let before = voters(story);
    for node in story.nodes() {
        let Some(id) = story.identity(node) else { continue };
        let through = story.any_node();
        let force = story.dice().percent(50);
        let errand = story.send(Errand::RehearseRemoval { through, id, force });
        let outcome = story.wait_for_errand(errand)?;
        story.note(format!("what removing node {node} would do, by force {force}: {outcome:?}"));
        let is_told = match &outcome {
            ErrandOutcome::Members { .. } => force,
            ErrandOutcome::Refused { .. } => !force,
            _ => false,
        };
        story.demand(is_told, Rule::ChangeTruth, || {
            format!("to remove one of three, by force {force}, was rehearsed as {outcome:?}")
        });
    }
    story.run_ms(1_000);
    demand_voters(story, &before, "removals were rehearsed");
    Ok(())
}

/// Has a member removed, and demands that it is done or refused, as it `should_go`.
fn remove(story: &mut Story, node: u32, force: bool, should_go: bool) -> Result<(), Stuck> {
    let before = voters(story);
    let Some(id) = story.identity(node) else { return Ok(()) };
    let through = super::another_that_runs(story, node);
    let outcome = ask(story, Errand::RemoveMember { through, id, force })?;
    let goes = matches!(outcome, ErrandOutcome::Members { .. });
    story.demand(goes == should_go, Rule::ChangeTruth, || {
        format!("node {node} should go: {should_go}, by force {force}, and it was {outcome:?}")
    });
    if !should_go {
        demand_voters(story, &before, "a removal was refused");
    }
    Ok(())
}

fn demand_voters(story: &Story, before: &BTreeSet<u64>, why: &str) {
    let now = voters(story);
    story.demand(now == *before, Rule::ChangeTruth, || {
        format!("{why}, and the voters went from {before:x?} to {now:x?}")
    });
}
