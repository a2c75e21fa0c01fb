//! The leader is lost at the moment when both sides of a change decide: the next one completes the
//! change, or it never was.

use super::{
    another_that_runs, ask, demand_that_it_ends, has_vote, is_half_done, settle, wait_for_vote,
};
use crate::{
    cluster::Shape,
    dice::Dice,
    scenarios::{Scenario, usual},
    story::{Story, Stuck},
    timeline::FaultKind,
    workload::Errand,
};

pub(in crate::scenarios) const CHANGE_INTERRUPTED: Scenario = Scenario {
    name: "change-interrupted",
    summary: "the leader is lost between the two halves of a change of voters",
    shape,
    workload: usual,
    story,
};

/// An autopilot gives a vote after ten seconds.
const BEGINS_WITHIN_MS: u64 = 30_000;

fn shape(_dice: &mut Dice) -> Shape {
    Shape { spares: 2, ..Shape::default() }
}

fn story(story: &mut Story) -> Result<(), Stuck> {
    for round in 0..5 {
        story.begin()?;
        let joins = match round {
            // Three voters, four, three, the same three with another disk, four.
            0 | 4 => story.spares().first().copied(),
            1 => {
                remove_one(story);
                None
            }
            _ => {
                let victim = story.any_node();
                story.take_disk(victim).then_some(victim)
            }
        };
        if let Some(node) = joins {
            let through = another_that_runs(story, node);
            story.start_to_join(node, through);
        }
        story.run_until(BEGINS_WITHIN_MS, |cluster| {
            let configurations = cluster.configurations();
            configurations.iter().any(|configuration| configuration.voters.len() > 1)
        });
        let ms = story.dice().below(4);
        story.run_ms(ms);
        if let Some(leader) = story.leader() {
            let half = if is_half_done(story) { "half done" } else { "over" };
            story.note(format!("the change is {half}"));
            lose(story, leader)?;
        }
        demand_that_it_ends(story);
        if let Some(node) = joins {
            wait_for_vote(story, node)?;
        }
        story.wait_for_writes(5)?;
    }
    settle(story)
}

/// Has a voter removed that leaves as many failures tolerated, and does not wait for the answer.
fn remove_one(story: &mut Story) {
    let leader = story.leader();
    let others: Vec<_> =
        story.nodes().filter(|node| Some(*node) != leader && has_vote(story, *node)).collect();
    let victim = (others.len() == 3).then(|| *story.dice().pick(&others));
    if let Some(id) = victim.and_then(|node| story.identity(node)) {
        let through = leader.unwrap_or(others[0]);
        let _nobody_waits = story.send(Errand::RemoveMember { through, id, force: false });
    }
}

/// The leader is gone for a while, in whatever way.
fn lose(story: &mut Story, leader: u32) -> Result<(), Stuck> {
    let fault = match story.dice().below(4) {
        0 => {
            story.cut_power(leader);
            None
        }
        1 => {
            story.kill_process(leader);
            None
        }
        2 => Some(story.partition(&[leader])),
        _ => Some(story.trouble_disk(leader, FaultKind::DiskStall, "", |disk| disk.stalled = true)),
    };
    let ms = story.dice().between(500..=5_000);
    story.run_ms(ms);
    if let Some(fault) = fault {
        story.end(fault);
    }
    story.restart(leader);
    super::revive(story);
    if story.dice().percent(50) {
        // Whatever became of it, a person asks again.
        let learner = story.nodes().find(|node| !has_vote(story, *node));
        if let Some(id) = learner.and_then(|node| story.identity(node)) {
            let through = story.any_node();
            ask(story, Errand::PromoteMember { through, id })?;
        }
    }
    Ok(())
}
