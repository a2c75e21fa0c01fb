//! Leaders that die, come back, and what openraft is relied on for.

use mainstay_consensus::ElectionCause;

use crate::node::{Cluster, wait_for};

#[test]
fn a_dead_leader_is_replaced_and_every_acknowledged_write_is_there() {
    let mut cluster = Cluster::three();
    let old = cluster.leader();
    for number in 0..50 {
        cluster.put(old, &format!("k{number}"), "v").expect("is written");
    }
    let (term, old_id) = (cluster.node(old).status().term, cluster.node(old).status().node_id);
    cluster.kill(old);
    let new = cluster.leader();
    let election = wait_for("the election to be explained", || {
        cluster.node(new).elections(1).pop().filter(|newest| newest.phases.ready_ms.is_some())
    });
    assert_eq!(election.previous, Some(old_id));
    let ElectionCause::Silence { phi, threshold } = election.cause else {
        panic!("{}", election.cause)
    };
    assert!(phi >= threshold && election.phases.silence_ms.is_some(), "{election:?}");
    assert!(cluster.node(new).status().term > term);
    for number in 0..50 {
        assert_eq!(cluster.get(new, &format!("k{number}")).as_deref(), Some("v"), "k{number}");
    }
}

#[test]
fn a_returning_leader_follows_and_catches_up() {
    let mut cluster = Cluster::three();
    let old = cluster.leader();
    cluster.kill(old);
    let new = cluster.leader();
    cluster.put(new, "while away", "v").expect("is written");
    cluster.start(old);
    cluster.leader();
    assert_eq!(cluster.get(old, "while away").as_deref(), Some("v"));
}

#[test]
fn a_node_that_was_away_does_not_depose_the_leader_when_it_returns() {
    let mut cluster = Cluster::three();
    let away = cluster.follower();
    let leader = cluster.leader();
    let term = cluster.node(leader).status().term;
    cluster.kill(away);
    cluster.put(leader, "k", "v").expect("is written");
    cluster.start(away);
    wait_for("the node to follow again", || {
        (cluster.node(away).status().leader == Some(cluster.node(leader).status().node_id))
            .then_some(())
    });
    assert_eq!(cluster.node(leader).status().term, term, "the returning node caused an election");
}
