//! A node joins a busy cluster whose log begins long after its beginning: it is sent a snapshot, and
//! one of both ends is disturbed meanwhile.

use super::{another_that_runs, settle, wait_for_vote};
use crate::{
    cluster::Shape,
    dice::Dice,
    scenarios::{Scenario, maintenance::trouble, usual},
    story::{Story, Stuck},
    workload::{Errand, Workload},
};

pub(in crate::scenarios) const JOIN_UNDER_LOAD: Scenario = Scenario {
    name: "join-under-load",
    summary: "nodes join a busy cluster by a snapshot, while a node is in trouble and history is compacted",
    shape,
    workload,
    story,
};

fn shape(_dice: &mut Dice) -> Shape {
    Shape { spares: 2, log_bytes_min: 16 * 1024, ..Shape::default() }
}

fn workload(dice: &mut Dice) -> Workload {
    Workload { workers: 6, think_ms: 5..=40, value_len: 600, ..usual(dice) }
}

fn story(story: &mut Story) -> Result<(), Stuck> {
    story.begin()?;
    story.wait_for_writes(300)?;
    for node in story.spares() {
        let through = another_that_runs(story, node);
        story.start_to_join(node, through);
        // Before it is a member, while it is sent a snapshot, or a little later.
        let ms = story.dice().between(1..=600);
        story.run_ms(ms);
        let disturbed = if story.dice().percent(60) { node } else { story.any_node() };
        let fault = if story.dice().percent(70) { trouble(story, disturbed) } else { None };
        let compact = story.send(Errand::Compact { through });
        let ms = story.dice().between(100..=6_000);
        story.run_ms(ms);
        if let Some(fault) = fault {
            story.end(fault);
        }
        super::revive(story);
        story.restart(disturbed);
        story.wait_for_errand(compact)?;
        wait_for_vote(story, node)?;
        let snapshot = story.state(node).and_then(|state| state.snapshot);
        story.note(format!("node {node} has a vote, and a snapshot at entry {snapshot:?}"));
        story.wait_for_writes(20)?;
    }
    settle(story)
}
