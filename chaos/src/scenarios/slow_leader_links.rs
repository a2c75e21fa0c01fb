//! Links that are slow to the leader alone: its followers hear it and would keep it, but the answers
//! to its heartbeats come too late to count. What is written meanwhile is answered and counts; in a
//! quiet cluster the leader soon may not write, and hands over to one whose links are quick.

use mainstay_consensus::ElectionCause;

use super::{Scenario, three_nodes, usual};
use crate::{
    checkers::Rule,
    dice::Dice,
    story::{Story, Stuck},
    workload::Workload,
};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "slow-leader-links",
    summary: "messages to and from the leader alone take 40 ms: it hands over and says why",
    shape: three_nodes,
    workload: quiet,
    story,
};

/// Some seconds until nobody writes for twice the leader lease, and a hand-over over those links.
const MOVED_WITHIN_MS: u64 = 6_000;

fn quiet(dice: &mut Dice) -> Workload {
    Workload { workers: 5, think_ms: 1_000..=3_000, holders: 0, ..usual(dice) }
}

fn story(story: &mut Story) -> Result<(), Stuck> {
    let leader = story.begin()?;
    story.run_ms(2_000);
    let slow = story.slow_links(&[leader], 40);
    let moved = story
        .run_until(MOVED_WITHIN_MS, |cluster| cluster.leader().is_some_and(|next| next != leader));
    story.demand(moved, Rule::TitleKept, || {
        format!("node {leader} cannot write over its slow links and still leads after {MOVED_WITHIN_MS} ms")
    });
    story.wait_for_writes(10)?;
    story.run_ms(4_000);
    let title = story.title()?;
    let cause = story.newest_election(title.leader).map(|election| election.cause);
    story.demand(
        title.leader != leader && matches!(cause, Some(ElectionCause::NoQuorum { .. })),
        Rule::TitleKept,
        || format!("node {leader} had slow links; node {} leads, {cause:?}", title.leader),
    );
    story.end(slow);
    story.wait_for_writes(10)
}
