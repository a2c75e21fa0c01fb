//! Trouble while every client speaks etcd's protocol: watchers resume and ask for progress, leases
//! are asked after when they are gone, and history is compacted under all of them.

use super::{Scenario, three_nodes};
use crate::{
    cluster::Shape,
    dice::Dice,
    story::{Story, Stuck},
    timeline::FaultKind,
    workload::{Errand, Protocol, Workload},
};

pub(super) const STEADY: Scenario = Scenario {
    name: "etcd-steady",
    summary: "no fault; watches, leases and compactions over etcd's protocol",
    shape: three_nodes,
    workload: usual,
    story: steady,
};

pub(super) const CRASHES: Scenario = Scenario {
    name: "etcd-crashes",
    summary: "nodes lose power in the midst of writes, snapshots and compactions",
    shape: small_log,
    workload: busy,
    story: crashes,
};

pub(super) const ALONE: Scenario = Scenario {
    name: "etcd-alone",
    summary: "a cluster of one node loses power again and again",
    shape: one_node,
    workload: usual,
    story: alone,
};

pub(super) const PARTITIONS: Scenario = Scenario {
    name: "etcd-partitions",
    summary: "nodes are cut off while clients reach all of them, and resume their watches elsewhere",
    shape: three_nodes,
    workload: usual,
    story: partitions,
};

pub(super) const PAUSES: Scenario = Scenario {
    name: "etcd-pauses",
    summary: "the leader's process stands still, another leads, and it comes back to its clients",
    shape: three_nodes,
    workload: eager,
    story: pauses,
};

pub(super) const TRANSFERS: Scenario = Scenario {
    name: "etcd-transfers",
    summary: "leadership is handed over and lost while leases are renewed and clients read",
    shape: three_nodes,
    workload: eager,
    story: transfers,
};

pub(super) const YOUNG_LEADERS: Scenario = Scenario {
    name: "etcd-young-leaders",
    summary: "leaders are lost before the others know what they acknowledged, and clients read on",
    shape: three_nodes,
    workload: crowd,
    story: young_leaders,
};

pub(super) const SLOW_DISKS: Scenario = Scenario {
    name: "etcd-slow-disks",
    summary: "disks are slow, hang and fail while watches go on",
    shape: three_nodes,
    workload: usual,
    story: slow_disks,
};

pub(super) const SNAPSHOTS: Scenario = Scenario {
    name: "etcd-snapshots",
    summary: "a node is away until it needs a snapshot, and again before it has rested",
    shape: small_log,
    workload: busy,
    story: snapshots,
};

pub(super) const SLOW_WATCHERS: Scenario = Scenario {
    name: "etcd-slow-watchers",
    summary: "watchers do not read for longer than a node keeps changes for them",
    shape: three_nodes,
    workload: flood,
    story: slow_watchers,
};

/// Everybody speaks etcd's protocol.
fn usual(_dice: &mut Dice) -> Workload {
    Workload {
        protocol: Protocol::Etcd,
        watchers: 2,
        compactors: 1,
        past_readers: 1,
        ..Workload::default()
    }
}

fn busy(dice: &mut Dice) -> Workload {
    Workload { think_ms: 5..=30, value_len: 400, ..usual(dice) }
}

fn eager(dice: &mut Dice) -> Workload {
    Workload { think_ms: 2..=20, ..usual(dice) }
}

/// So many that somebody reads what was just written whenever a leader is lost.
fn crowd(dice: &mut Dice) -> Workload {
    Workload { workers: 12, think_ms: 2..=8, ..usual(dice) }
}

fn flood(dice: &mut Dice) -> Workload {
    Workload {
        workers: 12,
        keys: 24,
        think_ms: 1..=2,
        value_len: 100,
        holders: 0,
        compactors: 0,
        naps_ms: 4_000..=6_000,
        ..usual(dice)
    }
}

fn small_log(_dice: &mut Dice) -> Shape {
    Shape { log_bytes_min: 8 * 1024, ..Shape::default() }
}

fn one_node(_dice: &mut Dice) -> Shape {
    Shape { nodes: 1, log_bytes_min: 16 * 1024, ..Shape::default() }
}

fn steady(story: &mut Story) -> Result<(), Stuck> {
    story.begin()?;
    story.run_ms(8_000);
    story.wait_for_writes(10)
}

fn slow_watchers(story: &mut Story) -> Result<(), Stuck> {
    story.begin()?;
    story.run_ms(10_000);
    story.wait_for_writes(10)
}

fn crashes(story: &mut Story) -> Result<(), Stuck> {
    for _round in 0..4 {
        let leader = story.begin()?;
        let node = if story.dice().percent(60) { leader } else { story.another(leader) };
        let ms = story.dice().between(200..=1_500);
        story.run_ms(ms);
        if story.dice().percent(70) {
            story.cut_power(node)
        } else {
            story.kill_process(node)
        }
        let ms = story.dice().between(50..=1_500);
        story.run_ms(ms);
        story.restart(node);
        story.wait_for_writes(10)?;
    }
    story.cut_all_power();
    story.run_ms(50);
    for node in story.nodes() {
        story.restart(node);
    }
    story.wait_for_writes(10)
}

fn alone(story: &mut Story) -> Result<(), Stuck> {
    for _round in 0..5 {
        let node = story.begin()?;
        let ms = story.dice().between(300..=1_500);
        story.run_ms(ms);
        story.cut_power(node);
        story.run_ms(100);
        story.restart(node);
        story.wait_for_writes(10)?;
    }
    Ok(())
}

fn partitions(story: &mut Story) -> Result<(), Stuck> {
    for _round in 0..4 {
        let leader = story.begin()?;
        let node = if story.dice().percent(50) { leader } else { story.another(leader) };
        let cut = story.partition(&[node]);
        let ms = story.dice().between(300..=2_500);
        story.run_ms(ms);
        story.wait_for_writes(5)?;
        story.end(cut);
        story.run_ms(800);
    }
    Ok(())
}

fn pauses(story: &mut Story) -> Result<(), Stuck> {
    for _round in 0..4 {
        let leader = story.begin()?;
        let pause = story.pause(leader);
        let ms = story.dice().between(300..=2_500);
        story.run_ms(ms);
        story.end(pause);
        story.run_ms(700);
    }
    story.wait_for_writes(10)
}

fn transfers(story: &mut Story) -> Result<(), Stuck> {
    for _round in 0..5 {
        let leader = story.begin()?;
        let to = story.another(leader);
        let through = story.any_node();
        let errand = story.send(Errand::Transfer { through, to: Some(to) });
        let _outcome = story.wait_for_errand(errand)?;
        let ms = story.dice().between(300..=1_200);
        story.run_ms(ms);
        let leader = story.wait_for_leader()?;
        // The first entry of the next leader takes its time, and clients read meanwhile.
        lose_while_others_are_slow(story, leader)?;
    }
    story.wait_for_writes(10)
}

fn young_leaders(story: &mut Story) -> Result<(), Stuck> {
    for _round in 0..5 {
        let leader = story.begin()?;
        // What it commits it tells its clients at once and the others a while later.
        let far = story.slow_links(&[leader], 15);
        let ms = story.dice().between(300..=1_200);
        story.run_ms(ms);
        // What is on its way to them is committed and acknowledged, and they never hear that it is.
        let mute = story.mute(&[leader]);
        story.run_ms(35);
        // Until the next leader's first entry is on slow disks it does not know either, and those
        // who wait for a leader ask it at once.
        lose_while_others_are_slow(story, leader)?;
        story.end(mute);
        story.end(far);
    }
    story.wait_for_writes(10)
}

/// Takes the leader's power away and makes the disks of the others slow, until writes are taken.
fn lose_while_others_are_slow(story: &mut Story, leader: u32) -> Result<(), Stuck> {
    let others: Vec<_> = story.nodes().filter(|node| *node != leader).collect();
    let slow: Vec<_> = others
        .into_iter()
        .map(|node| {
            story.trouble_disk(node, FaultKind::SlowDisk, "20 to 60 ms", |disk| {
                disk.sync_ms = 20..=60;
            })
        })
        .collect();
    story.cut_power(leader);
    story.wait_for_writes(5)?;
    slow.into_iter().for_each(|fault| story.end(fault));
    story.restart(leader);
    Ok(())
}

fn slow_disks(story: &mut Story) -> Result<(), Stuck> {
    for _round in 0..3 {
        let leader = story.begin()?;
        let node = if story.dice().percent(60) { leader } else { story.another(leader) };
        let slow = story.trouble_disk(node, FaultKind::SlowDisk, "20 to 150 ms", |disk| {
            disk.sync_ms = 20..=150;
        });
        story.run_ms(1_500);
        story.end(slow);
        let node = story.wait_for_leader()?;
        let stall = story.trouble_disk(node, FaultKind::DiskStall, "", |disk| disk.stalled = true);
        story.run_ms(2_000);
        story.end(stall);
        story.wait_for_writes(10)?;
    }
    Ok(())
}

fn snapshots(story: &mut Story) -> Result<(), Stuck> {
    for _round in 0..2 {
        let leader = story.begin()?;
        let follower = story.another(leader);
        for _again in 0..2 {
            let cut = story.partition(&[follower]);
            story.run_ms(3_000);
            story.end(cut);
            let ms = story.dice().between(50..=1_000);
            story.run_ms(ms);
        }
        if story.dice().percent(50) {
            story.cut_power(follower);
            story.run_ms(100);
            story.restart(follower);
        }
        story.run_ms(1_500);
    }
    story.wait_for_writes(10)
}
