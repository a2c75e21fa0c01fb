//! Processes that end, in every way they can, while clients write: nothing acknowledged is lost.

use std::collections::BTreeSet;

use mainstay_tests::{Cluster, Ledger, Signal, Writer, until};

use crate::PROGRAM;

/// Logical clients of a load.
const LOAD: usize = 24;

/// Acknowledged writes before and after something happens.
const SOME: usize = 300;

/// Every node holds what `ledger` was promised.
async fn assert_kept(cluster: &Cluster, ledger: &Ledger) {
    assert!(ledger.acknowledged() >= SOME, "the load wrote next to nothing");
    for client in cluster.clients() {
        ledger.assert_kept_by(&client).await;
    }
}

#[tokio::test]
async fn a_killed_leader_loses_no_acknowledged_write() {
    let mut cluster = Cluster::three(PROGRAM).await;
    let writer = Writer::start(&cluster.clients(), "load", LOAD);
    writer.acknowledges(SOME).await;

    let leader = cluster.leader().await;
    cluster[leader].kill().await;
    writer.acknowledges(SOME).await;
    let survivors = cluster.others(leader);
    assert!(survivors.contains(&cluster.leader_of(&survivors).await));

    cluster.start(leader);
    cluster.serves().await;
    writer.acknowledges(SOME).await;
    assert_kept(&cluster, &writer.stop().await).await;
}

#[tokio::test]
async fn a_killed_follower_disturbs_nobody_and_comes_back_whole() {
    let mut cluster = Cluster::three(PROGRAM).await;
    let writer = Writer::start(&cluster.clients(), "load", LOAD);
    writer.acknowledges(SOME).await;

    let leader = cluster.leader().await;
    let term = cluster[leader].client().get("none").answer().await.number("Mainstay-Term");
    let follower = cluster.others(leader)[0];
    cluster[follower].kill().await;
    writer.acknowledges(SOME).await;
    let answer = cluster[leader].client().get("none").answer().await;
    assert_eq!(answer.number("Mainstay-Term"), term, "a follower's death made an election");

    cluster.start(follower);
    cluster.serves().await;
    writer.acknowledges(SOME).await;
    assert_kept(&cluster, &writer.stop().await).await;
}

#[tokio::test]
async fn all_three_killed_at_once_come_back_with_every_acknowledged_write() {
    let mut cluster = Cluster::three(PROGRAM).await;
    let writer = Writer::start(&cluster.clients(), "load", LOAD);
    for _round in 0..2 {
        writer.acknowledges(SOME).await;
        cluster.kill_all().await;
        cluster.start_all();
        cluster.serves().await;
    }
    writer.acknowledges(SOME).await;
    assert_kept(&cluster, &writer.stop().await).await;
}

#[tokio::test]
async fn nodes_killed_and_started_in_turn_lose_nothing() {
    let mut cluster = Cluster::three(PROGRAM).await;
    let writer = Writer::start(&cluster.clients(), "load", LOAD);
    for at in 0..cluster.len() {
        writer.acknowledges(SOME).await;
        cluster[at].kill().await;
        writer.acknowledges(SOME).await;
        cluster.start(at);
        cluster.serves().await;
    }
    assert_kept(&cluster, &writer.stop().await).await;
}

#[tokio::test]
async fn a_node_told_to_stop_under_load_ends_in_good_order() {
    let mut cluster = Cluster::three(PROGRAM).await;
    let writer = Writer::start(&cluster.clients(), "load", LOAD);
    writer.acknowledges(SOME).await;
    // The leader first: the others must go on without it.
    let leader = cluster.leader().await;
    cluster[leader].signal(Signal::Terminate);
    assert_eq!(cluster[leader].ended().await, 0, "SIGTERM is not an error");
    writer.acknowledges(SOME).await;

    for at in cluster.others(leader) {
        cluster[at].signal(Signal::Terminate);
    }
    for at in cluster.others(leader) {
        assert_eq!(cluster[at].ended().await, 0, "SIGTERM is not an error without a quorum either");
    }
    let ledger = writer.stop().await;
    cluster.start_all();
    cluster.serves().await;
    assert_kept(&cluster, &ledger).await;
}

#[tokio::test]
async fn a_paused_leader_that_wakes_neither_writes_nor_reads_from_the_past() {
    let mut cluster = Cluster::three(PROGRAM).await;
    let leader = cluster.leader().await;
    let old = cluster[leader].client().clone();
    old.put("k", "before").answer().await.expect_status(200);

    cluster[leader].signal(Signal::Stop);
    let survivors = cluster.others(leader);
    let successor = cluster.leader_of(&survivors).await;
    let written = cluster[successor].client().put("k", "after").answer().await;
    let revision = written.expect_status(200).revision();

    cluster[leader].signal(Signal::Continue);
    let read = old.get("k").answer().await;
    if read.status == 200 {
        assert_eq!(read.text(), "after", "a read of the old leader is from the past");
    } else {
        let problem = read.problem().expect("an answer is a value or a problem");
        assert_eq!(problem.took_effect, "no");
    }
    cluster.serves().await;
    let read = old.get("k").answer().await;
    assert_eq!(read.expect_status(200).text(), "after");
    assert_eq!(read.number("Mainstay-Mod-Revision"), revision);
}

#[tokio::test]
async fn a_new_cluster_takes_its_first_write_and_every_node_shows_it() {
    let cluster = Cluster::three(PROGRAM).await;
    let mut ids = BTreeSet::new();
    let mut clusters = BTreeSet::new();
    for client in cluster.clients() {
        let read = client.get("harness/serves").answer().await;
        assert_eq!(read.expect_status(200).text(), "yes");
        ids.insert(read.number("Mainstay-Member-Id"));
        clusters.insert(read.number("Mainstay-Cluster-Id"));
        assert!(read.number("Mainstay-Revision") > 0 && read.number("Mainstay-Term") > 0);
        let members = client.cluster().await.expect("the node answers").json();
        assert_eq!(members["members"].as_array().map(Vec::len), Some(3));
        until("three healthy nodes", async || {
            let view = client.cluster().await.map_err(|error| error.to_string())?.json();
            if view["failures_tolerated"] == 1 { Ok(()) } else { Err(view.to_string()) }
        })
        .await;
        client.request("GET", "/health/ready").answer().await.expect_status(200);
    }
    assert_eq!((ids.len(), clusters.len()), (3, 1), "three nodes of one cluster");
    assert!(!ids.contains(&0) && !clusters.contains(&0), "ids are never 0");
}
