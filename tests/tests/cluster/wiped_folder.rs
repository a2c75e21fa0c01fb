//! A node whose folder was lost. Under its old id it had promised to remember writes and votes, and
//! it remembers nothing: it must not be counted for anything.

use std::time::Duration;

use mainstay_tests::{Cluster, Signal, Writer, until};
use serde_json::Value;

use crate::PROGRAM;

const LOAD: usize = 24;
const SOME: usize = 300;

/// Waits until node `at` says in its health and in its log that its folder is new.
async fn says_that_its_folder_is_new(cluster: &Cluster, at: usize) {
    let node = &cluster[at];
    until("a node that says its folder is new", async || {
        let request = node.client().request("GET", "/health").within(Duration::from_secs(2));
        let answer = request.send().await.map_err(|error| error.to_string())?;
        let (text, log) = (answer.text(), node.log());
        if text.contains("folder") && text.contains("new") && log.contains("is new") {
            let health: Value = answer.json();
            assert_eq!(health["health"], "false", "a node that takes part in nothing: {health}");
            return Ok(());
        }
        Err(text)
    })
    .await;
}

#[tokio::test]
async fn a_wiped_node_says_so_and_changes_nothing_while_the_others_go_on() {
    let mut cluster = Cluster::three(PROGRAM).await;
    let writer = Writer::start(&cluster.clients(), "load", LOAD);
    writer.acknowledges(SOME).await;
    let wiped = 2;
    let survivors = [0, 1];
    cluster[wiped].kill().await;
    cluster[wiped].wipe();
    cluster.start(wiped);
    cluster[wiped].answers().await;
    says_that_its_folder_is_new(&cluster, wiped).await;
    writer.acknowledges(SOME).await;

    let stranger = cluster[wiped].client();
    let ready = stranger.request("GET", "/health/ready").answer().await;
    ready.expect_status(503);
    let refused = stranger.put("k", "v").timeout_ms(1_000).answer().await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!(refused.problem().expect("a problem").took_effect, "no");
    let read = stranger.get("harness/serves").timeout_ms(1_000).answer().await;
    assert_eq!(read.status, 503, "a node that knows nothing answers no reads: {}", read.text());

    let leader = cluster.leader_of(&survivors).await;
    let members = cluster[leader].client().cluster().await.expect("the leader answers").json();
    let own_id =
        stranger.cluster().await.map(|answer| answer.header("Mainstay-Member-Id").to_owned());
    let own_id = own_id.expect("the wiped node answers");
    let ids: Vec<_> = members["members"].as_array().into_iter().flatten().collect();
    assert_eq!(ids.len(), 3, "{members}");
    assert!(ids.iter().all(|member| member["id"] != own_id.as_str()), "{own_id} in {members}");

    let ledger = writer.stop().await;
    for at in survivors {
        ledger.assert_kept_by(cluster[at].client()).await;
    }
}

#[tokio::test]
async fn a_wiped_node_and_one_survivor_are_no_quorum() {
    let mut cluster = Cluster::three(PROGRAM).await;
    let writer = Writer::start(&cluster.clients(), "load", LOAD);
    writer.acknowledges(SOME).await;
    let ledger = writer.stop().await;

    // The leader dies with a disk that others may not have seen all of yet, the wiped node comes
    // back with nothing: if its vote counted, the survivor could lead without what it never had.
    let leader = cluster.leader().await;
    let [wiped, survivor] = cluster.others(leader)[..] else { panic!("three nodes") };
    cluster.kill_all().await;
    cluster[wiped].wipe();
    cluster.start(wiped);
    cluster.start(survivor);
    cluster[wiped].answers().await;
    cluster[survivor].answers().await;
    says_that_its_folder_is_new(&cluster, wiped).await;

    for at in [wiped, survivor] {
        let write = cluster[at].client().put("k", "v").timeout_ms(3_000).answer().await;
        let problem =
            write.problem().unwrap_or_else(|| panic!("a quorum of one: {}", write.text()));
        assert_eq!((write.status, problem.took_effect.as_str()), (503, "no"), "{problem:?}");
        let read = cluster[at].client().get("k").timeout_ms(1_000).answer().await;
        assert!(matches!(read.status, 503 | 504), "a read without a quorum: {}", read.text());
    }
    until("a survivor that knows of no leader", async || {
        let view = cluster[survivor].client().cluster().await.map_err(|error| error.to_string())?;
        let view = view.json();
        if view["leader"].is_null() { Ok(()) } else { Err(view.to_string()) }
    })
    .await;

    // With the third node there are two who remember.
    cluster.start(leader);
    cluster[leader].answers().await;
    cluster.leader_of(&[leader, survivor]).await;
    for at in [leader, survivor] {
        ledger.assert_kept_by(cluster[at].client()).await;
    }
    // The refused writes stay without effect.
    cluster[survivor].client().get("k").answer().await.expect_problem(404, "not_found");
}

#[tokio::test]
async fn three_wiped_nodes_are_a_new_cluster_and_say_so_by_its_id() {
    let mut cluster = Cluster::three(PROGRAM).await;
    let before = cluster[0].client().get("none").answer().await.number("Mainstay-Cluster-Id");
    for at in 0..3 {
        cluster[at].signal(Signal::Terminate);
        cluster[at].ended().await;
        cluster[at].wipe();
    }
    cluster.start_all();
    cluster.serves().await;
    let after = cluster[0].client().get("none").answer().await.number("Mainstay-Cluster-Id");
    assert_ne!(before, after, "a cluster without its data is another cluster");
}
