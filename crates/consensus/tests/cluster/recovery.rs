//! Restarts, snapshots and nodes that were away for long.

use crate::node::{Cluster, block_on, wait_for};

#[test]
fn all_nodes_killed_at_once_come_back_with_every_acknowledged_write() {
    let mut cluster = Cluster::three();
    let leader = cluster.leader();
    let mut last = 0;
    for number in 0..100 {
        last = cluster.put(leader, &format!("k{number}"), "v").expect("is written").revision;
    }
    for at in 0..3 {
        cluster.kill(at);
    }
    for at in 0..3 {
        cluster.start(at);
    }
    let leader = cluster.leader();
    for number in 0..100 {
        assert_eq!(cluster.get(leader, &format!("k{number}")).as_deref(), Some("v"), "k{number}");
    }
    let revision = cluster.put(leader, "after", "v").expect("is written").revision;
    assert!(revision > last, "revisions went back: {revision} after {last}");
}

#[test]
fn a_restart_from_a_snapshot_gives_the_same_store() {
    let mut cluster = Cluster::three();
    let leader = cluster.leader();
    for number in 0..100 {
        cluster.put(leader, &format!("k{number}"), "v").expect("is written");
    }
    let index = block_on(cluster.node(leader).take_snapshot()).expect("a snapshot is taken");
    cluster.put(leader, "after the snapshot", "v").expect("is written");
    assert_eq!(cluster.node(leader).status().snapshot_index, index);
    let before = cluster.node(leader).read(|store| (store.sequence(), store.hash()));
    cluster.kill(leader);
    cluster.start(leader);
    wait_for("the restarted node to hold what it held", || {
        cluster.node(leader).read(|store| store.sequence() >= before.0).then_some(())
    });
    cluster.leader();
    for key in ["k0", "k99", "after the snapshot"] {
        assert_eq!(cluster.get(leader, key).as_deref(), Some("v"), "{key}");
    }
}
