//! The leader's disk hangs for ten seconds: it gives its title away, writes flow again within the
//! bound on its recovery, and it comes back as a follower.

use mainstay_consensus::ElectionCause;

use super::{Scenario, three_nodes, usual};
use crate::{
    checkers::Rule,
    story::{Story, Stuck},
    timeline::{FaultKind, Role},
};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "stalled-leader",
    summary: "the leader's disk hangs for 10 s: another one leads, writes flow, the old one follows",
    shape: three_nodes,
    workload: usual,
    story,
};

/// The stall budget is at most a second, and a hand-over takes some round trips.
const MOVED_WITHIN_MS: u64 = 1_500;

fn story(story: &mut Story) -> Result<(), Stuck> {
    for round in 0..2 {
        if round > 0 {
            // A leader that took over from one in trouble keeps the title for a while.
            story.run_ms(10_000);
        }
        let leader = story.begin()?;
        story.run_ms(500);
        let stall = story.trouble_disk(leader, FaultKind::DiskStall, "", |disk| {
            disk.stalled = true;
        });
        let moved = story.run_until(MOVED_WITHIN_MS, |cluster| {
            cluster.leader().is_some_and(|next| next != leader)
        });
        story.demand(moved, Rule::TitleKept, || {
            format!("the disk of node {leader} hangs for {MOVED_WITHIN_MS} ms and it still leads")
        });
        story.run_ms(10_000 - MOVED_WITHIN_MS);
        let title = story.title()?;
        let cause = story.newest_election(title.leader).map(|election| election.cause);
        story.demand(matches!(cause, Some(ElectionCause::Stall { .. })), Rule::TitleKept, || {
            format!("node {leader} handed over as its disk hung, and the cause is {cause:?}")
        });
        story.end(stall);
        story.wait_for_writes(10)?;
        story.wait_for_agreement()?;
        story.run_ms(4_000);
        story.demand_same_title(title, "the old leader came back");
        let role = story.state(leader).map(|state| state.role);
        story.demand(role == Some(Role::Follower), Rule::TitleKept, || {
            format!("node {leader} came back from its stall as {role:?}")
        });
    }
    Ok(())
}
