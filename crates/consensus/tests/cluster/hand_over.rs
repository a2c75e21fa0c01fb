//! Leadership that is given away: by an operator, by a leader that cannot write, at a shutdown.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use mainstay_consensus::{ElectionCause, HandOverError, Level};
use mainstay_world::Instant;

use crate::node::{Cluster, DEADLINE, block_on, wait_for};

/// The newest election that node `at` knows, once its cause is known.
fn told(cluster: &Cluster, at: usize, leader: usize) -> ElectionCause {
    let leader = cluster.node(leader).status().node_id;
    wait_for("an election whose cause is told", || {
        let newest = cluster.node(at).elections(1).pop()?;
        (newest.leader == leader && newest.cause != ElectionCause::Untold).then_some(newest.cause)
    })
}

#[test]
fn an_operator_chooses_the_next_leader_through_any_node_and_no_write_is_lost() {
    let cluster = Cluster::three();
    let old = cluster.leader();
    let others: Vec<usize> = (0..3).filter(|at| *at != old).collect();
    let (through, wanted) = (others[0], others[1]);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut written = 0;
            while !done.load(Ordering::Relaxed) {
                cluster.put(through, &format!("k{written}"), "v").expect("a write goes through");
                written += 1;
            }
            written
        });
        wait_for("some writes", || {
            (cluster.node(old).counters().batched_entries > 20).then_some(())
        });
        let wanted_id = cluster.node(wanted).status().node_id;
        let deadline = Instant::now() + DEADLINE;
        let outcome = block_on(cluster.node(through).hand_over(Some(wanted_id), deadline));
        let outcome = outcome.expect("it is handed over");
        assert_eq!((outcome.wanted, outcome.leader), (wanted_id, wanted_id));
        assert_eq!(outcome.from, cluster.node(old).status().node_id);
        done.store(true, Ordering::Relaxed);
        let written = writer.join().expect("the writer ends");
        assert_eq!(cluster.leader(), wanted);
        for number in 0..written {
            let key = format!("k{number}");
            assert_eq!(cluster.get(wanted, &key).as_deref(), Some("v"), "{key}");
        }
    });
    for at in 0..3 {
        assert_eq!(told(&cluster, at, wanted), ElectionCause::Operator);
    }
}

#[test]
fn a_hand_over_to_whom_cannot_lead_is_refused_and_the_leader_carries_on() {
    let mut cluster = Cluster::three();
    let leader = cluster.leader();
    let dead = cluster.follower();
    let (leader_id, dead_id) =
        (cluster.node(leader).status().node_id, cluster.node(dead).status().node_id);
    let term = cluster.node(leader).status().term;
    cluster.kill(dead);
    let ask = |to| {
        let deadline = Instant::now() + DEADLINE;
        block_on(cluster.node(leader).hand_over(Some(to), deadline)).expect_err("it is refused")
    };
    assert_eq!(ask(leader_id), HandOverError::AlreadyLeads { id: leader_id });
    assert_eq!(ask(7), HandOverError::UnknownMember { id: 7 });
    // Right after its death it is still taken for alive: then it is asked, and does not answer.
    let refusal = ask(dead_id);
    assert!(matches!(refusal, HandOverError::NotHealthy { .. }), "{refusal}");
    wait_for("the dead node to be suspected", || {
        let peers = cluster.node(leader).detection()?.peers;
        peers.iter().any(|peer| peer.peer == dead_id && peer.level > Level::Alive).then_some(())
    });
    let refusal = ask(dead_id);
    assert!(refusal.to_string().contains("not heard"), "{refusal}");
    cluster.put(leader, "k", "v").expect("the leader carries on");
    assert_eq!(cluster.node(leader).status().term, term);
}

#[test]
fn a_leader_whose_disk_hangs_hands_over_and_the_cluster_writes_on() {
    let cluster = Cluster::three();
    let old = cluster.leader();
    cluster.put(old, "before", "v").expect("is written");
    cluster.stall(old, true);
    let old_id = cluster.node(old).status().node_id;
    let new = wait_for("another leader", || {
        (0..3).find(|at| {
            *at != old && {
                let status = cluster.node(*at).status();
                status.leader == Some(status.node_id)
            }
        })
    });
    cluster.put(new, "during", "v").expect("is written");
    let cause = wait_for("the cause", || {
        let newest = cluster.node(new).elections(1).pop()?;
        (newest.previous == Some(old_id)).then_some(newest.cause)
    });
    assert!(matches!(cause, ElectionCause::Stall { .. }), "{cause}");
    wait_for("the stalled node to name the new leader", || {
        let status = cluster.node(old).status();
        (status.leader == Some(cluster.node(new).status().node_id)).then_some(())
    });
    cluster.put(old, "through the stalled node", "v").expect("is passed on and written");
    cluster.stall(old, false);
    assert_eq!(cluster.leader(), new);
    for key in ["before", "during", "through the stalled node"] {
        assert_eq!(cluster.get(old, key).as_deref(), Some("v"), "{key}");
    }
}

#[test]
fn when_all_disks_hang_nobody_moves() {
    let cluster = Cluster::three();
    let leader = cluster.leader();
    let term = cluster.node(leader).status().term;
    for at in 0..3 {
        cluster.stall(at, true);
    }
    let budget = cluster.node(leader).detection().expect("in a cluster").stall_budget;
    for at in 0..3 {
        wait_for("every node to be past its stall budget", || {
            let own = cluster.node(at).detection()?.own_health;
            (own.oldest_sync_age > budget * 2).then_some(())
        });
    }
    let status = cluster.node(leader).status();
    assert_eq!((status.term, status.leader), (term, Some(status.node_id)));
    for at in 0..3 {
        cluster.stall(at, false);
    }
    assert_eq!(cluster.leader(), leader);
    cluster.put(leader, "k", "v").expect("is written");
    assert_eq!(cluster.node(leader).status().term, term, "there was an election");
}

#[test]
fn a_leader_that_shuts_down_hands_over_first() {
    let mut cluster = Cluster::three();
    let old = cluster.leader();
    cluster.put(old, "k", "v").expect("is written");
    block_on(cluster.node(old).shutdown());
    cluster.kill(old);
    let new = cluster.leader();
    assert_eq!(told(&cluster, new, new), ElectionCause::Shutdown);
    assert_eq!(cluster.get(new, "k").as_deref(), Some("v"));
}
