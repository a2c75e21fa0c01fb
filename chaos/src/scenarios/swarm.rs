//! Random trouble: size, timings, load and the mix of faults all come from the seed.
//!
//! Each seed draws which kinds of faults it has at all, so that some seeds know only partitions and
//! some everything at once. Faults overlap. A majority of disks always survives.

use mainstay_node::Profile;

use super::Scenario;
use crate::{
    cluster::{FaultId, Shape},
    dice::Dice,
    story::{Story, Stuck},
    timeline::FaultKind,
    workload::{Protocol, Workload},
};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "swarm",
    summary: "random trouble, all drawn from the seed",
    shape,
    workload,
    story,
};

pub(super) const OVER_ETCD: Scenario = Scenario {
    name: "etcd-swarm",
    summary: "the swarm's trouble, all clients over etcd's protocol",
    shape,
    workload: over_etcd,
    story,
};

/// How many times something happens.
const ROUNDS: u64 = 14;

fn shape(dice: &mut Dice) -> Shape {
    Shape {
        nodes: if dice.percent(70) { 3 } else { 5 },
        profile: if dice.percent(80) { Profile::Lan } else { Profile::Wan },
        link_ms_min: dice.below(3),
        link_ms_max: dice.between(3..=15),
        log_bytes_min: *dice.pick(&[8 * 1024, 32 * 1024, 64 * 1024 * 1024]),
        clock_error_per_mille: 110,
        ..Shape::default()
    }
}

fn workload(dice: &mut Dice) -> Workload {
    Workload {
        workers: u32::try_from(dice.between(2..=5)).unwrap_or(2),
        keys: dice.between(2..=8),
        think_ms: *dice.pick(&[10, 40, 80])..=200,
        stale_percent: *dice.pick(&[0, 8, 30]),
        value_len: *dice.pick(&[8, 100, 600]),
        watchers: 1,
        holders: u32::try_from(dice.below(3)).unwrap_or(0),
        ..Workload::default()
    }
}

fn over_etcd(dice: &mut Dice) -> Workload {
    Workload { protocol: Protocol::Etcd, compactors: 1, past_readers: 1, ..workload(dice) }
}

/// The kinds of trouble that the swarm knows.
const KINDS: &[Trouble] = &[
    Trouble::Partition,
    Trouble::OneWay,
    Trouble::Bridge,
    Trouble::Links,
    Trouble::Hold,
    Trouble::Pause,
    Trouble::Kill,
    Trouble::Power,
    Trouble::AllPower,
    Trouble::Disk,
    Trouble::FailedSync,
    Trouble::IoError,
    Trouble::Clock,
    Trouble::LostDisk,
    Trouble::Rot,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Partition,
    OneWay,
    Bridge,
    Links,
    Hold,
    Pause,
    Kill,
    Power,
    AllPower,
    Disk,
    FailedSync,
    IoError,
    Clock,
    LostDisk,
    Rot,
}

fn story(story: &mut Story) -> Result<(), Stuck> {
    let mut kinds: Vec<_> = KINDS.to_vec();
    story.dice().shuffle(&mut kinds);
    let known = story.dice().between(2..=KINDS.len() as u64);
    kinds.truncate(usize::try_from(known).unwrap_or(KINDS.len()));
    if story.dice().percent(30) {
        story.delay_tasks(50);
    }
    story.begin()?;
    let mut open: Vec<FaultId> = Vec::new();
    let mut down: Vec<u32> = Vec::new();
    for _round in 0..ROUNDS {
        let kind = *story.dice().pick(&kinds);
        make(story, kind, &mut open, &mut down);
        let ms = story.dice().between(50..=1_500);
        story.run_ms(ms);
        while story.dice().percent(60) && !(open.is_empty() && down.is_empty()) {
            if let Some(fault) = open.pop() {
                story.end(fault);
            } else if let Some(node) = down.pop() {
                story.restart(node);
            }
        }
    }
    Ok(())
}

/// A node; often the leader, whom trouble hurts most.
fn victim(story: &mut Story) -> u32 {
    match story.leader() {
        Some(leader) if story.dice().percent(60) => leader,
        _ => story.any_node(),
    }
}

fn make(story: &mut Story, kind: Trouble, open: &mut Vec<FaultId>, down: &mut Vec<u32>) {
    let node = victim(story);
    match kind {
        Trouble::Partition => open.push(story.partition(&[node])),
        Trouble::OneWay if story.dice().percent(50) => open.push(story.mute(&[node])),
        Trouble::OneWay => open.push(story.deafen(&[node])),
        Trouble::Bridge => open.push(story.partition_but_for(node)),
        Trouble::Links => {
            let fault = match story.dice().below(3) {
                0 => story.slow_links(&[node], 40),
                1 => story.jittery_links(&[node], 150),
                _ => story.lossy_links(&[node], 30),
            };
            open.push(fault);
        }
        Trouble::Hold => open.push(story.hold(&[node])),
        Trouble::Pause if story.is_up(node) => open.push(story.pause(node)),
        Trouble::Pause => {}
        Trouble::Kill => {
            story.kill_process(node);
            down.push(node);
        }
        Trouble::Power => {
            story.cut_power(node);
            down.push(node);
        }
        Trouble::AllPower => {
            story.cut_all_power();
            story.run_ms(50);
            for node in story.nodes() {
                story.restart(node);
            }
        }
        Trouble::Disk => open.push(match story.dice().below(3) {
            0 => story.trouble_disk(node, FaultKind::DiskStall, "", |disk| disk.stalled = true),
            1 => story.trouble_disk(node, FaultKind::SlowDisk, "10 to 80 ms", |disk| {
                disk.sync_ms = 10..=80;
            }),
            _ => story.trouble_disk(node, FaultKind::DiskFull, "", |disk| disk.capacity_bytes = 0),
        }),
        Trouble::FailedSync => {
            let fault = story.trouble_disk(node, FaultKind::FailedSync, "the next sync", |disk| {
                disk.failing_syncs = 1;
            });
            story.run_ms(200);
            story.kill_process(node);
            story.end(fault);
            story.restart(node);
            let ms = story.dice().between(1..=300);
            story.run_ms(ms);
            story.cut_power(node);
            down.push(node);
        }
        Trouble::IoError => fail_calls(story, node),
        Trouble::Clock => {
            let ms = i64::try_from(story.dice().below(20_000)).unwrap_or(0) - 10_000;
            story.jump_clock(node, ms);
            let per_mille = story.dice().between(900..=1_100);
            open.push(story.bend_clock(node, per_mille));
        }
        Trouble::LostDisk => {
            if story.take_disk(node) {
                down.push(node);
            }
        }
        Trouble::Rot => {
            if story.rot_disk(node) {
                story.kill_process(node);
                down.push(node);
            }
        }
    }
}

/// A write fails while the node works, or a read while it starts; it is started once more after
/// that, as a supervisor would.
fn fail_calls(story: &mut Story, node: u32) {
    let writes = story.dice().percent(50);
    let (detail, ms) = if writes { ("the next write", 300) } else { ("the next read", 100) };
    let fault = story.trouble_disk(node, FaultKind::IoError, detail, |disk| {
        (disk.failing_writes, disk.failing_reads) = (u32::from(writes), u32::from(!writes));
    });
    if !writes {
        story.kill_process(node);
        story.restart(node);
    }
    story.run_ms(ms);
    story.kill_process(node);
    story.end(fault);
    story.restart(node);
}
