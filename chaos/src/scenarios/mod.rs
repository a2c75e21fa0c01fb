//! The scenarios, by name: each a short story about one kind of trouble, and the swarm, which draws
//! its trouble from the seed.
//!
//! A story says what happens between a healthy start and a healthy end; what must hold meanwhile is
//! the same for all of them and stands in the checkers.

mod bit_rot;
mod bridge;
mod cascading_failures;
mod clock_rates;
mod crash_points;
mod etcd;
mod failed_sync;
mod io_errors;
mod jitter;
mod lagging_follower;
mod leadership_transfers;
mod lost_disk;
mod maintenance;
mod membership;
mod one_way_cuts;
mod paused_leader;
mod power_loss_of_all;
mod raft_under_chaos;
mod resource_exhaustion;
mod restart_storm;
mod shaky_links;
mod skewed_clocks;
mod slow_disks;
mod slow_leader_links;
mod split_brain;
mod stale_reads;
mod stalled_disk;
mod stalled_leader;
mod steady;
mod swarm;
mod upgrade;

use crate::{
    cluster::Shape,
    dice::Dice,
    story::{Story, Stuck},
    workload::Workload,
};

/// A scenario.
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// What happens, in one line.
    pub summary: &'static str,
    /// What its cluster is like.
    pub shape: fn(&mut Dice) -> Shape,
    /// What its clients do.
    pub workload: fn(&mut Dice) -> Workload,
    /// What happens.
    pub story: fn(&mut Story) -> Result<(), Stuck>,
}

impl std::fmt::Debug for Scenario {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name)
    }
}

/// All of them but for the long ones.
pub const SCENARIOS: &[Scenario] = &[
    steady::SCENARIO,
    jitter::JITTER,
    split_brain::ISOLATE_THE_LEADER,
    split_brain::SPLIT_BRAIN,
    one_way_cuts::SCENARIO,
    bridge::SCENARIO,
    shaky_links::SCENARIO,
    paused_leader::SCENARIO,
    restart_storm::SCENARIO,
    power_loss_of_all::SCENARIO,
    crash_points::SCENARIO,
    failed_sync::SCENARIO,
    io_errors::SCENARIO,
    stalled_disk::SCENARIO,
    stalled_leader::SCENARIO,
    slow_disks::SCENARIO,
    slow_leader_links::SCENARIO,
    leadership_transfers::SCENARIO,
    stale_reads::SCENARIO,
    resource_exhaustion::SCENARIO,
    lost_disk::SCENARIO,
    bit_rot::SCENARIO,
    lagging_follower::SCENARIO,
    skewed_clocks::SCENARIO,
    clock_rates::SCENARIO,
    maintenance::ROLLING_RESTARTS,
    maintenance::MAINTENANCE,
    upgrade::SCENARIO,
    membership::MEMBERS_COME_AND_GO,
    membership::REPLACE_A_LOST_DISK,
    membership::CHANGE_INTERRUPTED,
    membership::JOIN_UNDER_LOAD,
    membership::MEMBERS_BY_FORCE,
    membership::DEAD_VOTER,
    membership::RESTLESS_LEADERS,
    etcd::STEADY,
    etcd::CRASHES,
    etcd::ALONE,
    etcd::PARTITIONS,
    etcd::PAUSES,
    etcd::TRANSFERS,
    etcd::YOUNG_LEADERS,
    etcd::SLOW_DISKS,
    etcd::SNAPSHOTS,
    etcd::SLOW_WATCHERS,
    swarm::OVER_ETCD,
    cascading_failures::SCENARIO,
    raft_under_chaos::SCENARIO,
    swarm::SCENARIO,
];

/// Those whose runs last for an hour or more; `all` does not mean them.
pub const LONG_SCENARIOS: &[Scenario] =
    &[jitter::JITTER_FOR_AN_HOUR, maintenance::MAINTENANCE_FOR_AN_HOUR];

/// The short and the long ones.
pub fn every() -> impl Iterator<Item = &'static Scenario> {
    SCENARIOS.iter().chain(LONG_SCENARIOS)
}

/// The scenario of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Scenario> {
    every().find(|scenario| scenario.name == name)
}

fn three_nodes(_dice: &mut Dice) -> Shape {
    Shape::default()
}

fn five_nodes(_dice: &mut Dice) -> Shape {
    Shape { nodes: 5, ..Shape::default() }
}

fn usual(_dice: &mut Dice) -> Workload {
    Workload::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_plants_name_scenarios_that_exist() {
        let names: std::collections::BTreeSet<_> = every().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), every().count());
        for plant in crate::plants::PLANTS {
            assert!(find(plant.scenario).is_some(), "{} is shown by no scenario", plant.name);
        }
    }
}
