//! The faults: what a scenario can do to a cluster, each noted with its beginning and its end.
//!
//! Cutting a link drops what travels on it; a dial into a cut link fails at once, one to a machine
//! without power hangs. What a fault did is undone by [`Cluster::end`], or all at once by
//! [`Cluster::heal`].

use std::collections::{BTreeMap, BTreeSet};

use super::{CLIENTS, Cluster, at, host_name};
use crate::{
    checkers::NodeEvent,
    disk::Hardship,
    timeline::{EventKind, Fault, FaultKind},
};

/// A fault that is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[must_use = "a fault lasts until it is ended"]
pub struct FaultId(u32);

/// How the links are broken at present.
#[derive(Debug, Default)]
pub(super) struct Links {
    /// From, to: nothing arrives.
    cut: BTreeSet<(u32, u32)>,
    /// Both ways, the smaller number first: everything waits.
    held: BTreeSet<(u32, u32)>,
}

/// How to undo what is on.
#[derive(Debug, Default)]
pub(super) struct OpenFaults {
    by_id: BTreeMap<FaultId, Undo>,
    /// The nodes that each touches.
    nodes: BTreeMap<FaultId, Vec<u32>>,
    /// The faults that end when their node is started.
    pub(super) down: BTreeMap<u32, FaultId>,
}

#[derive(Debug)]
enum Undo {
    Join(Vec<(u32, u32)>),
    Release(Vec<(u32, u32)>),
    Latency(Vec<(u32, u32)>),
    Loss(Vec<(u32, u32)>),
    Resume(u32),
    Disk(u32),
    ClockRate(u32),
    Nothing,
}

impl Cluster {
    /// Cuts `group` off from all other nodes, both ways. Clients still reach everybody.
    pub fn partition(&mut self, group: &[u32]) -> FaultId {
        let pairs = self.pairs_across(group);
        let both: Vec<_> = pairs.iter().flat_map(|&(a, b)| [(a, b), (b, a)]).collect();
        let undo = Undo::Join(self.cut(&both));
        self.begin(FaultKind::Partition, group, "", undo)
    }

    /// Loses everything that `group` sends to the other nodes.
    pub fn mute(&mut self, group: &[u32]) -> FaultId {
        let pairs = self.pairs_across(group);
        let undo = Undo::Join(self.cut(&pairs));
        self.begin(FaultKind::OneWayPartition, group, "nothing it sends arrives", undo)
    }

    /// Loses everything that the other nodes send to `group`.
    pub fn deafen(&mut self, group: &[u32]) -> FaultId {
        let pairs: Vec<_> = self.pairs_across(group).iter().map(|&(a, b)| (b, a)).collect();
        let undo = Undo::Join(self.cut(&pairs));
        self.begin(FaultKind::OneWayPartition, group, "nothing arrives there", undo)
    }

    /// Splits the nodes into two groups that only `bridge` can reach both of.
    pub fn partition_but_for(&mut self, bridge: u32) -> FaultId {
        let mut others: Vec<_> = self.nodes().filter(|node| *node != bridge).collect();
        self.dice().shuffle(&mut others);
        let (left, right) = others.split_at(others.len() / 2);
        let both: Vec<_> =
            left.iter().flat_map(|&a| right.iter().flat_map(move |&b| [(a, b), (b, a)])).collect();
        let undo = Undo::Join(self.cut(&both));
        self.begin(FaultKind::BridgePartition, &[bridge], "only it reaches both", undo)
    }

    /// Keeps back all messages between `group` and the other nodes, to deliver them at the end.
    pub fn hold(&mut self, group: &[u32]) -> FaultId {
        let pairs: Vec<_> =
            self.pairs_across(group).into_iter().map(|(a, b)| (a.min(b), a.max(b))).collect();
        for &(a, b) in &pairs {
            self.sim.hold(host_name(a), host_name(b));
            self.links.held.insert((a, b));
        }
        self.begin(FaultKind::HeldLinks, group, "", Undo::Release(pairs))
    }

    /// Makes every message between `group` and the other nodes take `ms` milliseconds.
    pub fn slow_links(&mut self, group: &[u32], ms: u64) -> FaultId {
        let pairs = self.pairs_across(group);
        for &(a, b) in &pairs {
            self.set_latency(a, b, ms, ms);
        }
        self.begin(FaultKind::SlowLinks, group, &format!("{ms} ms"), Undo::Latency(pairs))
    }

    /// Makes messages between `group` and the other nodes take up to `ms_max` milliseconds, each
    /// another time.
    pub fn jittery_links(&mut self, group: &[u32], ms_max: u64) -> FaultId {
        let pairs = self.pairs_across(group);
        for &(a, b) in &pairs {
            self.set_latency(a, b, self.shape.link_ms_min, ms_max);
        }
        let detail = format!("up to {ms_max} ms");
        self.begin(FaultKind::JitteryLinks, group, &detail, Undo::Latency(pairs))
    }

    /// Loses `per_mille` of a thousand messages between `group` and the other nodes. A stream that
    /// lost one never goes on.
    pub fn lossy_links(&mut self, group: &[u32], per_mille: u32) -> FaultId {
        let pairs = self.pairs_across(group);
        for &(a, b) in &pairs {
            self.sim.set_link_fail_rate(host_name(a), host_name(b), f64::from(per_mille) / 1000.0);
        }
        let detail = format!("{per_mille} of a thousand");
        self.begin(FaultKind::LossyLinks, group, &detail, Undo::Loss(pairs))
    }

    /// Has the process stand still.
    pub fn pause(&mut self, node: u32) -> FaultId {
        self.seats[at(node)].pause();
        self.paused[at(node)] = true;
        self.begin(FaultKind::Pause, &[node], "", Undo::Resume(node))
    }

    /// Tells the process to stop, as SIGTERM does; the fault ends when it is started.
    pub fn tell_to_stop(&mut self, node: u32) {
        self.seats[at(node)].tell_to_stop();
        self.down_with(FaultKind::OrderlyStop, node, "");
    }

    /// Kills the process; the fault ends when it is started.
    pub fn kill_process(&mut self, node: u32) {
        self.kill(node);
        self.down_with(FaultKind::ProcessKill, node, "");
    }

    /// Takes the power away; the fault ends when the node is started.
    pub fn cut_power(&mut self, node: u32) {
        self.lose_power(node);
        self.down_with(FaultKind::PowerLoss, node, "");
    }

    /// Takes the power of all nodes away at once.
    pub fn cut_all_power(&mut self) {
        for node in self.nodes() {
            self.lose_power(node);
        }
        for node in self.nodes() {
            self.down_with(FaultKind::PowerLoss, node, "of all nodes at once");
        }
    }

    /// Takes the disk away for good, if that leaves a majority of disks; whether it did. The node
    /// is down afterwards.
    pub fn take_disk(&mut self, node: u32) -> bool {
        if !self.may_lose_disk(node) {
            return false;
        }
        if self.up[at(node)] {
            self.kill(node);
        }
        self.lose_disk(node);
        self.down_with(FaultKind::LostDisk, node, "");
        true
    }

    /// Flips a bit of what the node has synced, if losing its disk would leave a majority of
    /// disks; whether it did.
    pub fn rot_disk(&mut self, node: u32) -> bool {
        if !self.may_lose_disk(node) {
            return false;
        }
        let Some(rot) = self.seats[at(node)].disk.rot() else { return false };
        self.lost_ids.extend(self.identity(node));
        let now_us = self.now_us();
        self.record.lock().node_event(now_us, node, NodeEvent::DiskRotted);
        let detail = format!("{} at {}", rot.file, rot.offset);
        let fault = self.begin(FaultKind::BitRot, &[node], &detail, Undo::Nothing);
        self.end(fault);
        true
    }

    /// Changes how the node's disk behaves.
    pub fn trouble_disk(
        &mut self,
        node: u32,
        kind: FaultKind,
        detail: &str,
        change: impl FnOnce(&mut Hardship),
    ) -> FaultId {
        self.seats[at(node)].disk.set(change);
        self.begin(kind, &[node], detail, Undo::Disk(node))
    }

    /// Moves the node's wall clock.
    pub fn jump_clock(&mut self, node: u32, by_ms: i64) {
        self.seats[at(node)].jump_wall_ms(by_ms);
        let detail = format!("{by_ms} ms");
        let fault = self.begin(FaultKind::ClockJump, &[node], &detail, Undo::Nothing);
        self.end(fault);
    }

    /// Has the node's clock run at `per_mille` thousandths of true time.
    pub fn bend_clock(&mut self, node: u32, per_mille: u64) -> FaultId {
        self.seats[at(node)].set_rate_per_mille(per_mille);
        let detail = format!("{per_mille}/1000");
        self.begin(FaultKind::ClockRate, &[node], &detail, Undo::ClockRate(node))
    }

    /// Holds tasks up at random places where order matters, on all nodes.
    pub fn delay_tasks(&mut self, per_mille: u64) {
        for seat in &self.seats {
            seat.saboteur.delay(per_mille);
        }
    }

    /// The next task of the node that passes `site` stands still there; see [`Cluster::sprung`].
    pub fn set_trap(&mut self, node: u32, site: &'static str) {
        self.seats[at(node)].saboteur.set_trap(site);
    }

    /// Undoes what the fault did.
    pub fn end(&mut self, fault: FaultId) {
        let Some(undo) = self.open_faults.by_id.remove(&fault) else { return };
        self.open_faults.nodes.remove(&fault);
        match undo {
            Undo::Join(pairs) => self.join(&pairs),
            Undo::Release(pairs) => {
                for (a, b) in pairs {
                    self.links.held.remove(&(a, b));
                    self.sim.release(host_name(a), host_name(b));
                    self.set_link(a, b);
                }
            }
            Undo::Latency(pairs) => {
                for (a, b) in pairs {
                    self.set_latency(a, b, self.shape.link_ms_min, self.shape.link_ms_max);
                }
            }
            Undo::Loss(pairs) => {
                for (a, b) in pairs {
                    self.sim.set_link_fail_rate(host_name(a), host_name(b), 0.0);
                    self.set_link(a, b);
                }
            }
            Undo::Resume(node) => {
                self.seats[at(node)].resume();
                self.paused[at(node)] = false;
            }
            Undo::Disk(node) => self.seats[at(node)].disk.set(|disk| *disk = Hardship::default()),
            Undo::ClockRate(node) => self.seats[at(node)].set_rate_per_mille(1000),
            Undo::Nothing => {}
        }
        self.happened(None, EventKind::FaultEnded { id: fault.0 });
    }

    /// Ends every fault and starts every node. A process that ended by itself is started once
    /// more, as a supervisor would.
    pub fn heal(&mut self) {
        let open: Vec<_> = self.open_faults.by_id.keys().copied().collect();
        for fault in open {
            if !self.open_faults.down.values().any(|down| *down == fault) {
                self.end(fault);
            }
        }
        self.delay_tasks(0);
        for node in self.nodes() {
            self.seats[at(node)].disk.set(|disk| *disk = Hardship::default());
            if self.was_removed(node) {
                // Whoever runs it has read its last words.
                self.retire(node);
                continue;
            }
            if self.ended(node).is_some() {
                self.kill(node);
            }
            self.restart(node);
        }
        if self.broken.is_none() {
            self.happened(None, EventKind::Healed);
        }
    }

    /// Whether a fault is on that touches the node.
    #[must_use]
    pub fn is_troubled(&self, node: u32) -> bool {
        self.open_faults.nodes.values().any(|nodes| nodes.contains(&node))
    }

    /// Starts the node and ends the fault that took it down.
    pub fn restart(&mut self, node: u32) {
        if let Some(fault) = self.open_faults.down.remove(&node) {
            self.end(fault);
        }
        self.start(node);
    }

    /// Whether a disk may be lost without losing what a majority holds, of whatever decides now or
    /// may soon.
    #[must_use]
    pub fn may_lose_disk(&self, node: u32) -> bool {
        let Some(id) = self.identity(node) else { return true };
        let is_gone = |voter: &&u64| **voter == id || self.lost_ids.contains(voter);
        let bears = |voters: &BTreeSet<u64>| {
            // Whoever has no vote may be given one at this moment.
            let joins = usize::from(!voters.contains(&id));
            let gone = voters.iter().filter(is_gone).count() + joins;
            gone * 2 < voters.len() + joins
        };
        let configurations = self.record.lock().configurations();
        self.lost_ids.contains(&id)
            || configurations.iter().flat_map(|configuration| &configuration.voters).all(bears)
    }

    pub(super) fn restore_links(&mut self) {
        for a in self.places() {
            // Links to clients are never cut for long.
            self.sim.repair(host_name(a), CLIENTS);
            for b in self.places().skip(at(a) + 1) {
                self.set_link(a, b);
            }
        }
    }

    fn begin(&mut self, kind: FaultKind, nodes: &[u32], detail: &str, undo: Undo) -> FaultId {
        let id = FaultId(self.next_fault);
        self.next_fault += 1;
        self.open_faults.by_id.insert(id, undo);
        self.open_faults.nodes.insert(id, nodes.to_vec());
        let fault = Fault {
            id: id.0,
            kind,
            nodes: nodes.to_vec(),
            quorum_left: self.has_quorum(if kind == FaultKind::DiskStall { nodes } else { &[] }),
            detail: detail.to_owned(),
        };
        self.happened(None, EventKind::FaultBegan(fault));
        id
    }

    fn down_with(&mut self, kind: FaultKind, node: u32, detail: &str) {
        let fault = self.begin(kind, &[node], detail, Undo::Nothing);
        if let Some(before) = self.open_faults.down.insert(node, fault) {
            self.end(before);
        }
    }

    /// Whether some node reaches, both ways, a majority of voters that work and whose disks do not
    /// hang.
    fn has_quorum(&self, hang: &[u32]) -> bool {
        let works =
            |node: u32| self.up[at(node)] && !self.paused[at(node)] && !hang.contains(&node);
        let reach = |a: u32, b: u32| {
            a == b
                || !self.links.cut.contains(&(a, b))
                    && !self.links.cut.contains(&(b, a))
                    && !self.links.held.contains(&(a.min(b), a.max(b)))
        };
        let configurations = self.record.lock().configurations();
        self.nodes().filter(|node| works(*node)).any(|node| {
            let reached = |id: u64| {
                self.place_of(id)
                    .is_some_and(|other| works(other) && reach(node, other) && self.is_whole(other))
            };
            configurations.iter().all(|configuration| configuration.has_majority(reached))
        })
    }

    fn pairs_across(&self, group: &[u32]) -> Vec<(u32, u32)> {
        group
            .iter()
            .flat_map(|&inside| {
                self.places().filter(|node| !group.contains(node)).map(move |other| (inside, other))
            })
            .collect()
    }

    /// Cuts what is not cut already, and returns that.
    fn cut(&mut self, pairs: &[(u32, u32)]) -> Vec<(u32, u32)> {
        let new: Vec<_> =
            pairs.iter().copied().filter(|pair| self.links.cut.insert(*pair)).collect();
        for &(from, to) in &new {
            self.sim.partition_oneway(host_name(from), host_name(to));
        }
        new
    }

    fn join(&mut self, pairs: &[(u32, u32)]) {
        for &(from, to) in pairs {
            if self.links.cut.remove(&(from, to)) {
                self.sim.repair_oneway(host_name(from), host_name(to));
            }
        }
    }

    /// Brings a link into the state it should have, whatever it was in.
    fn set_link(&mut self, a: u32, b: u32) {
        let (one, other) = (host_name(a), host_name(b));
        self.sim.repair(one.as_str(), other.as_str());
        if self.links.held.contains(&(a.min(b), a.max(b))) {
            self.sim.hold(one.as_str(), other.as_str());
        }
        for (from, to) in [(a, b), (b, a)] {
            if self.links.cut.contains(&(from, to)) {
                self.sim.partition_oneway(host_name(from), host_name(to));
            }
        }
    }

    fn set_latency(&mut self, a: u32, b: u32, ms_min: u64, ms_max: u64) {
        use std::time::Duration;
        let (one, other) = (host_name(a), host_name(b));
        self.sim.set_link_latency(one.as_str(), other.as_str(), Duration::from_millis(ms_min));
        self.sim.set_link_max_message_latency(
            one.as_str(),
            other.as_str(),
            Duration::from_millis(ms_max),
        );
    }
}
