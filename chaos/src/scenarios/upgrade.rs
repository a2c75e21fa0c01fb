//! A cluster is upgraded, one node at a time, while clients write and a node may be in trouble.
//!
//! The newer program speaks a peer protocol that the older one does not, and knows a format that it
//! cannot follow. It comes into force when the
//! last member was upgraded, not before, so that until then every node can go back; from then on
//! none can, and one that tries says so and loses nothing.

use mainstay_consensus::Versions;

use super::{
    Scenario,
    maintenance::{compact, stop, transfer, trouble},
    usual,
};
use crate::{
    checkers::Rule,
    cluster::Shape,
    dice::Dice,
    story::{Story, Stuck},
};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "rolling-upgrade",
    summary: "every node in turn gets a newer program, some go back and come again",
    shape,
    workload: usual,
    story,
};

/// The leader looks every second, and asks a member that was away again.
const IN_FORCE_WITHIN_MS: u64 = 30_000;

/// A node that cannot go on serves what it has for a minute before it exits.
const GIVES_UP_WITHIN_MS: u64 = 75_000;

/// The program from before the upgrade.
fn older() -> Versions {
    let newer = Versions::default();
    let (formats, protocols) = (newer.formats, newer.protocols);
    Versions { formats: (formats.0, formats.1 - 1), protocols: (protocols.0, protocols.1 - 1) }
}

fn shape(dice: &mut Dice) -> Shape {
    let log_bytes_min = *dice.pick(&[16 * 1024, 64 * 1024 * 1024]);
    let nodes = if dice.percent(70) { 3 } else { 5 };
    Shape { nodes, log_bytes_min, versions: older(), ..Shape::default() }
}

fn story(story: &mut Story) -> Result<(), Stuck> {
    story.begin()?;
    let mut waiting: Vec<u32> = story.nodes().collect();
    let mut goes_back = story.dice().percent(50).then(|| story.any_node());
    while !waiting.is_empty() {
        demand_format(story, older().formats.1);
        let turn = usize::try_from(story.dice().below(waiting.len() as u64)).unwrap_or_default();
        let node = waiting.swap_remove(turn);
        let other = story.another(node);
        let fault = if story.dice().percent(40) { trouble(story, other) } else { None };
        start_with(story, node, Versions::default());
        let ms = story.dice().between(200..=3_000);
        story.run_ms(ms);
        if let Some(fault) = fault {
            story.end(fault);
        }
        story.restart(other);
        story.wait_for_writes(5)?;
        if story.dice().percent(40) {
            transfer(story)?;
        }
        if goes_back == Some(node) && !waiting.is_empty() {
            goes_back = None;
            start_with(story, node, older());
            waiting.push(node);
            story.wait_for_writes(5)?;
        }
        if story.dice().percent(30) {
            compact(story)?;
        }
    }
    let newest = Versions::default().formats.1;
    let in_force = story.run_until(IN_FORCE_WITHIN_MS, |cluster| {
        cluster.nodes().all(|node| cluster.format(node) == Some(newest))
    });
    story.demand(in_force, Rule::FormatInForce, || {
        format!("all members apply format {newest}, and it is not in force everywhere")
    });
    story.wait_for_writes(10)?;
    too_late_to_go_back(story)?;
    demand_format(story, newest);
    story.wait_for_writes(10)
}

/// Stops the node in good order and starts it with this version of the program.
fn start_with(story: &mut Story, node: u32, versions: Versions) {
    stop(story, node, false);
    story.set_versions(node, versions);
    story.note(format!("node {node} goes on with formats {:?}", versions.formats));
    story.restart(node);
}

/// One that is started with the older program says why it cannot go on, and goes on with the newer
/// one as if nothing had happened.
fn too_late_to_go_back(story: &mut Story) -> Result<(), Stuck> {
    let node = story.any_node();
    start_with(story, node, older());
    // Before its first moment the end that is known is that of the process before.
    story.run_ms(10);
    let gave_up = story.run_until(GIVES_UP_WITHIN_MS, |cluster| cluster.ended(node).is_some());
    let why = story.ended(node).unwrap_or_default();
    story.demand(gave_up && why.contains("start this node with"), Rule::FormatInForce, || {
        format!("node {node} cannot follow the format in force, and says {why:?}")
    });
    story.wait_for_writes(5)?;
    story.kill(node);
    story.set_versions(node, Versions::default());
    story.restart(node);
    story.wait_for_agreement()
}

/// Demands that no node that runs follows another format.
fn demand_format(story: &Story, format: u64) {
    let others: Vec<_> = story
        .nodes()
        .filter_map(|node| {
            Some((node, story.format(node).filter(|_| story.ended(node).is_none())?))
        })
        .filter(|(_node, found)| *found != format)
        .collect();
    story.demand(others.is_empty(), Rule::FormatInForce, || {
        format!("format {format} is what all members follow, but (node, format) {others:?}")
    });
}
