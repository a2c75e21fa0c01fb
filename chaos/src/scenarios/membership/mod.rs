//! Members that come and go while clients write, through the same API that people have.
//!
//! What must hold stands in the checkers: whoever decides follows the entries of the log, voters
//! change in joint steps and one at a time, no id comes back, nobody gets a vote who lags, and no
//! change lowers the number of failures that are tolerated. Here stands what operators do, and that
//! what they are answered is true.

mod by_force;
mod come_and_go;
mod dead_voter;
mod interrupted;
mod join_under_load;
mod replace;
mod restless_leaders;

use std::collections::BTreeSet;

pub(super) use self::{
    by_force::MEMBERS_BY_FORCE,
    come_and_go::{MEMBERS_COME_AND_GO, change},
    dead_voter::DEAD_VOTER,
    interrupted::CHANGE_INTERRUPTED,
    join_under_load::JOIN_UNDER_LOAD,
    replace::REPLACE_A_LOST_DISK,
    restless_leaders::RESTLESS_LEADERS,
};
use crate::{
    checkers::Rule,
    story::{Story, Stuck},
    workload::{Errand, ErrandOutcome},
};

/// A learner keeps up for ten seconds before it gets a vote; a node that joins tries for sixty, and
/// may have been pointed to a member that was about to go.
const VOTE_WITHIN_MS: u64 = 120_000;

/// A change that lost its leader is ended by the next one, as soon as there is one.
const CHANGE_ENDS_WITHIN_MS: u64 = 15_000;

/// How long a removed node may take to end, once it can be told.
const REMOVED_ENDS_WITHIN_MS: u64 = 20_000;

/// The node ids that have a vote by the newest configuration that is committed; empty before one
/// is.
pub(super) fn voters(story: &Story) -> BTreeSet<u64> {
    let configurations = story.configurations();
    let committed = configurations.first();
    committed
        .map(|committed| committed.voters.iter().flatten().copied().collect())
        .unwrap_or_default()
}

/// Whether the folder in this place has a vote, and no change is half done.
pub(super) fn has_vote(story: &Story, node: u32) -> bool {
    story.identity(node).is_some_and(|id| voters(story).contains(&id)) && !is_half_done(story)
}

/// Whether a change of voters was begun and has not ended.
pub(super) fn is_half_done(story: &Story) -> bool {
    story.configurations().iter().any(|configuration| configuration.voters.len() > 1)
}

/// A node that runs, other than this one if there is one.
pub(super) fn another_that_runs(story: &mut Story, node: u32) -> u32 {
    let runs = |other: &u32| *other != node && story.is_up(*other) && story.ended(*other).is_none();
    let others: Vec<_> = story.nodes().filter(runs).collect();
    if others.is_empty() { node } else { *story.dice().pick(&others) }
}

/// What a supervisor does: a process that ended by itself is started again. One that was removed is
/// not, its place is free; and one that could not join is pointed to another member, as a person
/// would.
pub(super) fn revive(story: &mut Story) {
    for node in story.nodes() {
        let Some(why) = story.ended(node) else { continue };
        if story.was_removed(node) {
            story.retire(node);
            continue;
        }
        story.kill(node);
        if why.contains("join") {
            let through = another_that_runs(story, node);
            story.start_to_join(node, through);
        } else {
            story.restart(node);
        }
    }
}

/// Sends an errand about members and demands that its answer is true.
pub(super) fn ask(story: &mut Story, errand: Errand) -> Result<ErrandOutcome, Stuck> {
    let sent = story.send(errand);
    let outcome = story.wait_for_errand(sent)?;
    story.note(format!("{errand:?}: {outcome:?}"));
    let configurations = story.configurations();
    let Some(committed) = configurations.first() else { return Ok(outcome) };
    let members = committed.members();
    let is_true = match &outcome {
        ErrandOutcome::Members { change, id, replaces } => match change.as_str() {
            "removed" => !members.contains(id),
            "promoted" => committed.is_voter(*id),
            "replaced" => {
                committed.is_voter(*id) && replaces.is_none_or(|old| !members.contains(&old))
            }
            "added" | "described" => members.contains(id),
            _ => true,
        },
        ErrandOutcome::Refused { code } => match errand {
            Errand::RemoveMember { id, .. } => {
                members.contains(&id) || matches!(code.as_str(), "removed" | "unknown_member")
            }
            _ => true,
        },
        _ => true,
    };
    story.demand(is_true, Rule::ChangeTruth, || {
        format!("{errand:?} was answered with {outcome:?}, and the members are {committed:?}")
    });
    Ok(outcome)
}

/// Waits until the node has a vote; a supervisor starts it again meanwhile where it must.
pub(super) fn wait_for_vote(story: &mut Story, node: u32) -> Result<(), Stuck> {
    for _second in 0..VOTE_WITHIN_MS / 1_000 {
        if has_vote(story, node) {
            return Ok(());
        }
        revive(story);
        story.run_ms(1_000);
        if story.broken().is_some() {
            break;
        }
    }
    if has_vote(story, node) {
        Ok(())
    } else {
        Err(Stuck { what: "vote for a node that joins", ms: VOTE_WITHIN_MS })
    }
}

/// Demands that no change stays half done: whoever leads completes it or leaves it undone.
pub(super) fn demand_that_it_ends(story: &mut Story) {
    let ended = story.run_until(CHANGE_ENDS_WITHIN_MS, |cluster| {
        let configurations = cluster.configurations();
        configurations.iter().all(|configuration| configuration.voters.len() == 1)
    });
    story.demand(ended, Rule::ChangeEnds, || {
        format!("a change of voters is half done after {CHANGE_ENDS_WITHIN_MS} ms without a fault")
    });
}

/// When all is well again every node that is run has a vote in the end, and nobody else has.
pub(super) fn settle(story: &mut Story) -> Result<(), Stuck> {
    story.heal();
    demand_that_it_ends(story);
    for node in story.nodes() {
        if story.nodes().any(|used| used == node) {
            wait_for_vote(story, node)?;
        }
    }
    let ids: BTreeSet<u64> = story.nodes().filter_map(|node| story.identity(node)).collect();
    // Who lost its disk and was not replaced is let go by the leader after ten minutes of silence;
    // an operator need not wait for that.
    for id in voters(story).difference(&ids).copied() {
        let through = story.wait_for_leader()?;
        ask(story, Errand::RemoveMember { through, id, force: false })?;
    }
    demand_that_it_ends(story);
    let voters = voters(story);
    story.demand(voters == ids, Rule::ChangeTruth, || {
        format!("the nodes that are run are {ids:x?}, and the voters are {voters:x?}")
    });
    story.wait_for_writes(10)
}
