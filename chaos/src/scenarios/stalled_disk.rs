//! A disk that hangs for seconds, and disks that are merely slow.

use super::{Scenario, three_nodes, usual};
use crate::{
    story::{Story, Stuck},
    timeline::FaultKind,
};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "stalled-disk",
    summary: "a follower's disk hangs, then the leader's; then all disks are slow",
    shape: three_nodes,
    workload: usual,
    story,
};

fn story(story: &mut Story) -> Result<(), Stuck> {
    let leader = story.begin()?;
    let follower = story.another(leader);
    for node in [follower, leader] {
        let stall = story.trouble_disk(node, FaultKind::DiskStall, "", |disk| disk.stalled = true);
        let ms = story.dice().between(500..=4_000);
        story.run_ms(ms);
        story.end(stall);
        story.wait_for_writes(5)?;
    }
    let slow: Vec<_> = story
        .nodes()
        .map(|node| {
            story.trouble_disk(node, FaultKind::SlowDisk, "10 to 60 ms", |disk| {
                disk.sync_ms = 10..=60;
            })
        })
        .collect();
    story.run_ms(3_000);
    slow.into_iter().for_each(|fault| story.end(fault));
    story.wait_for_writes(5)
}
