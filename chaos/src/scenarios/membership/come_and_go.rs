//! Nodes are added, removed and replaced at random while one of them is in trouble.

use super::{another_that_runs, ask, has_vote, revive, settle, voters};
use crate::{
    checkers::Rule,
    cluster::Shape,
    dice::Dice,
    scenarios::{Scenario, maintenance::trouble, usual},
    story::{Story, Stuck},
    workload::{Errand, ErrandOutcome},
};

pub(in crate::scenarios) const MEMBERS_COME_AND_GO: Scenario = Scenario {
    name: "members-come-and-go",
    summary: "nodes join, are removed and take the places of lost ones under cuts, crashes and restarts",
    shape,
    workload: usual,
    story,
};

/// How many changes are tried.
const ROUNDS: u64 = 8;

/// As many voters as there are in the end, at most.
const VOTERS_MAX: usize = 5;

fn shape(dice: &mut Dice) -> Shape {
    let log_bytes_min = *dice.pick(&[16 * 1024, 64 * 1024 * 1024]);
    Shape { spares: 3, log_bytes_min, ..Shape::default() }
}

fn story(story: &mut Story) -> Result<(), Stuck> {
    story.begin()?;
    for _round in 0..ROUNDS {
        if story.broken().is_some() {
            break;
        }
        let node = story.any_node();
        let fault = if story.dice().percent(60) { trouble(story, node) } else { None };
        change(story)?;
        let ms = story.dice().between(200..=8_000);
        story.run_ms(ms);
        if let Some(fault) = fault {
            story.end(fault);
        }
        revive(story);
        for node in story.nodes() {
            story.restart(node);
        }
        story.wait_for_writes(1)?;
        let ms = story.dice().between(1_000..=14_000);
        story.run_ms(ms);
    }
    settle(story)
}

/// One change of members, whichever the seed draws; it may well be refused.
pub(in crate::scenarios) fn change(story: &mut Story) -> Result<(), Stuck> {
    let spares = story.spares();
    let room = story.nodes().count() < VOTERS_MAX;
    match story.dice().below(10) {
        0..4 if room && !spares.is_empty() => {
            let node = *story.dice().pick(&spares);
            let through = another_that_runs(story, node);
            story.note(format!("node {node} joins through node {through}"));
            story.start_to_join(node, through);
        }
        0..7 => remove(story)?,
        7 | 8 => replace(story),
        _ => promote(story)?,
    }
    Ok(())
}

/// Somebody is to go: as it runs, after it was stopped in good order, or while it cannot be reached.
fn remove(story: &mut Story) -> Result<(), Stuck> {
    let node = story.any_node();
    let Some(id) = story.identity(node) else { return Ok(()) };
    // Two voters tolerate nothing, and a single one stops the writes with each of its troubles.
    if voters(story).len() <= 3 && story.dice().percent(70) {
        return Ok(());
    }
    let mut stops = false;
    let cut = match story.dice().below(4) {
        0 => {
            stops = true;
            story.tell_to_stop(node);
            story.run_until(35_000, |cluster| cluster.ended(node).is_some());
            None
        }
        1 => {
            let cut = story.partition(&[node]);
            // Long enough for everybody to notice.
            story.run_ms(2_000);
            Some(cut)
        }
        _ => None,
    };
    let through = another_that_runs(story, node);
    let outcome = ask(story, Errand::RemoveMember { through, id, force: false })?;
    let removed = matches!(&outcome, ErrandOutcome::Members { change, .. } if change == "removed");
    if let Some(cut) = cut {
        story.end(cut);
    }
    if removed {
        stays_away(story, node, id)?;
    } else if stops {
        story.kill(node);
        story.restart(node);
    }
    Ok(())
}

/// A node that was removed is not admitted again, ends by itself, and does not start again.
pub(super) fn stays_away(story: &mut Story, node: u32, id: u64) -> Result<(), Stuck> {
    if story.ended(node).is_none() {
        let through = another_that_runs(story, node);
        let outcome = ask(story, Errand::AddMember { through, node })?;
        let is_back = matches!(outcome, ErrandOutcome::Members { .. });
        story.demand(!is_back, Rule::IdentityReused, || {
            format!("node {node} was removed, and is added again under its id: {outcome:?}")
        });
        let ended =
            story.run_until(super::REMOVED_ENDS_WITHIN_MS, |cluster| cluster.ended(node).is_some());
        let can_be_told = story.is_up(node) && !story.is_troubled(node);
        story.demand(ended || !can_be_told, Rule::ChangeTruth, || {
            format!(
                "node {node} was removed and runs on after {} ms",
                super::REMOVED_ENDS_WITHIN_MS
            )
        });
    }
    if story.dice().percent(50) {
        story.kill(node);
        story.restart(node);
        story.run_ms(3_000);
        let is_voter = voters(story).contains(&id);
        story.demand(!is_voter, Rule::IdentityReused, || {
            format!("node {node} was removed, and its old id has a vote again")
        });
    }
    story.retire(node);
    Ok(())
}

/// The disk of a node is lost; a new node takes its place, if that is not too much.
fn replace(story: &mut Story) {
    let node = story.any_node();
    if !story.take_disk(node) {
        return;
    }
    let ms = story.dice().between(50..=4_000);
    story.run_ms(ms);
    let through = another_that_runs(story, node);
    story.start_to_join(node, through);
}

/// A person is less patient than the leader.
fn promote(story: &mut Story) -> Result<(), Stuck> {
    let learners: Vec<_> = story.nodes().filter(|node| !has_vote(story, *node)).collect();
    let Some(id) = learners.first().and_then(|node| story.identity(*node)) else { return Ok(()) };
    let through = story.any_node();
    ask(story, Errand::PromoteMember { through, id })?;
    Ok(())
}
