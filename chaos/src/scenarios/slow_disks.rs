//! All disks are slow at once, then all hang: nobody else would do better, so nobody moves.

use super::{Scenario, three_nodes, usual};
use crate::{
    cluster::FaultId,
    disk::Hardship,
    story::{Story, Stuck},
    timeline::FaultKind,
};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "slow-disks",
    summary: "all disks are slow at once, then all hang at once: nobody moves",
    shape: three_nodes,
    workload: usual,
    story,
};

fn story(story: &mut Story) -> Result<(), Stuck> {
    story.begin()?;
    story.run_ms(1_000);
    let title = story.title()?;
    let slow = everywhere(story, FaultKind::SlowDisk, "80 to 250 ms", |disk| {
        disk.sync_ms = 80..=250;
    });
    story.run_ms(10_000);
    story.demand_same_title(title, "all disks were slow");
    story.wait_for_writes(5)?;
    slow.into_iter().for_each(|fault| story.end(fault));
    story.run_ms(1_000);
    let hanging = everywhere(story, FaultKind::DiskStall, "", |disk| disk.stalled = true);
    story.run_ms(4_000);
    story.demand_same_title(title, "all disks hung");
    hanging.into_iter().for_each(|fault| story.end(fault));
    story.wait_for_writes(10)?;
    story.run_ms(2_000);
    story.demand_same_title(title, "all disks had hung");
    Ok(())
}

fn everywhere(
    story: &mut Story,
    kind: FaultKind,
    detail: &str,
    change: impl Fn(&mut Hardship),
) -> Vec<FaultId> {
    story.nodes().map(|node| story.trouble_disk(node, kind, detail, &change)).collect()
}
