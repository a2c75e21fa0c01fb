//! Members that come, go and move: what is left of them, and what survives snapshots and restarts.

use mainstay_consensus::{
    MemberChange, MemberChangeKind, MemberRequest, MemberWish, MembershipError, StartError,
};
use mainstay_kv::{Proposal, Settings, command::Command};
use mainstay_world::Instant;

use crate::node::{Cluster, DEADLINE, Node, block_on, wait_for};

/// Asks node `at` for a change; one that is under way is waited for.
fn change(
    cluster: &Cluster,
    at: usize,
    wish: &MemberWish,
) -> Result<MemberChange, MembershipError> {
    wait_for("a change that nothing else delays", || {
        let request = MemberRequest { wish: wish.clone(), force: false, dry_run: false };
        let deadline = Instant::now() + DEADLINE;
        match block_on(cluster.node(at).change_members(&request, deadline)) {
            Err(MembershipError::Busy) => None,
            outcome => Some(outcome),
        }
    })
}

/// Has learners promoted as soon as they keep up.
fn promote_at_once(cluster: &Cluster, at: usize) {
    let settings = Settings { learner_stable_ms: 1, ..Settings::default() };
    let configure = Proposal::unattributed(Command::Configure(settings));
    let applied = block_on(cluster.node(at).propose(&configure, Instant::now() + DEADLINE));
    applied.expect("is taken").result.expect("is valid");
}

#[test]
fn a_node_that_was_removed_stays_out_over_snapshots_and_restarts() {
    let mut cluster = Cluster::three();
    let leader = cluster.leader();
    promote_at_once(&cluster, leader);
    cluster.put(leader, "before", "v").expect("is written");
    let fourth = cluster.start_waiting("n4");
    let id = cluster.node(fourth).own_record().folder_id;
    let peer_address = cluster.list[fourth].peer_address.clone();
    let through = (leader + 1) % 3;
    let other = MemberWish::Add { peer_address: peer_address.clone(), id: Some(id ^ 1) };
    let error = change(&cluster, through, &other).expect_err("another node answers there");
    assert_eq!(error.code(), "other_node");
    let wish = MemberWish::Add { peer_address, id: Some(id) };
    let added = change(&cluster, through, &wish).expect("it is added");
    assert_eq!((added.kind, added.id), (MemberChangeKind::Added, id));
    let again = change(&cluster, through, &wish).expect("it is so already");
    assert_ne!(again.kind, MemberChangeKind::Added);
    wait_for("the fourth node to get a vote", || {
        cluster.node(leader).status().members.get(&id)?.voter.then_some(())
    });
    assert_eq!(cluster.leader(), leader);
    assert_eq!(cluster.get(fourth, "before").as_deref(), Some("v"));

    let removed = change(&cluster, through, &MemberWish::Remove { id }).expect("it is a spare one");
    assert_eq!(removed.kind, MemberChangeKind::Removed);
    wait_for("the fourth node to hear of it", || {
        (*cluster.node(fourth).removal().borrow()).then_some(())
    });
    cluster.kill(fourth);
    let started = Node::start(cluster.folders[fourth].path(), "n4", &cluster.list);
    assert!(matches!(started, Err(StartError::Removed)), "its folder is of no use any more");

    // Who was removed is in the snapshots, and in the log after them.
    for at in 0..3 {
        block_on(cluster.node(at).take_snapshot()).expect("a snapshot is taken");
    }
    for at in 0..3 {
        cluster.kill(at);
    }
    for at in 0..3 {
        cluster.start(at);
    }
    let leader = cluster.leader();
    let refused = change(&cluster, leader, &MemberWish::Promote { id });
    assert_eq!(refused, Err(MembershipError::Removed { id }));
}

#[test]
fn a_member_that_moved_is_found_where_it_is_now() {
    let mut cluster = Cluster::three();
    let leader = cluster.leader();
    let moved = cluster.follower();
    let id = cluster.node(moved).status().node_id;
    cluster.kill(moved);
    cluster.put(leader, "while it moves", "v").expect("the other two go on");
    cluster.move_to_another_port(moved);
    cluster.start(moved);
    let address = cluster.list[moved].peer_address.clone();
    wait_for("its new address to be recorded", || {
        let members = cluster.node(leader).status().members;
        (members.get(&id)?.record.peer_address == address).then_some(())
    });
    assert_eq!(cluster.leader(), leader);
    assert_eq!(cluster.get(moved, "while it moves").as_deref(), Some("v"));
    wait_for("one failure to be tolerated", || {
        (cluster.node(leader).status().failures_tolerated == 1).then_some(())
    });
}
