//! Reads while leaders change: linearizable ones never go back, stale ones say how stale they are.

use std::time::Duration;

use mainstay_tests::{Cluster, Observer, Writer, assert_never_back, until};

use crate::PROGRAM;

const LOAD: usize = 8;
const SOME: usize = 200;

#[tokio::test]
async fn linearizable_reads_never_go_back_whichever_node_answers() {
    let mut cluster = Cluster::three(PROGRAM).await;
    let clients = cluster.clients();
    let writer = Writer::start(&clients, "load", LOAD);
    let keys: Vec<_> = (0..LOAD).map(|number| writer.overwritten_key(number)).collect();
    let observer = Observer::start(&clients, &keys);
    for _round in 0..2 {
        writer.acknowledges(SOME).await;
        let leader = cluster.leader().await;
        cluster[leader].kill().await;
        for at in cluster.others(leader) {
            observer.reads(at, SOME).await;
        }
        cluster.start(leader);
        cluster.serves().await;
        // A node that has just replayed its log must not answer from it before it has caught up.
        observer.reads(leader, SOME).await;
    }
    let ledger = writer.stop().await;
    let observations = observer.stop().await;
    assert_never_back(&observations, &ledger);
}

#[tokio::test]
async fn stale_reads_say_how_stale_they_are_and_go_on_without_a_quorum() {
    let mut cluster = Cluster::three(PROGRAM).await;
    let leader = cluster.leader().await;
    let [lost, alone] = cluster.others(leader)[..] else { panic!("three nodes") };
    cluster[leader].client().put("k", "v").answer().await.expect_status(200);
    let follower = cluster[alone].client().clone();

    let fresh = follower.get("k").answer().await;
    assert_eq!(fresh.expect_status(200).header("Mainstay-Staleness-Ms"), "", "it is linearizable");
    let bounded = until("a stale read with its age", async || {
        let read = follower.get_stale("k").answer().await;
        let said = read.header("Mainstay-Staleness-Ms").parse::<u64>();
        said.map_err(|_error| format!("{:?} {}", read.headers, read.text()))
    })
    .await;
    assert!(bounded < 5_000, "a follower of a living leader is {bounded} ms behind");

    cluster[leader].kill().await;
    cluster[lost].kill().await;
    // Linearizable reads and writes need a quorum and say so.
    let read = follower.get("k").timeout_ms(1_500).answer().await;
    let problem = read.problem().unwrap_or_else(|| panic!("without a quorum: {}", read.text()));
    assert!(matches!(problem.status, 503 | 504) && problem.took_effect == "no", "{problem:?}");
    let write = follower.put("k", "w").timeout_ms(1_500).answer().await;
    let problem = write.problem().unwrap_or_else(|| panic!("without a quorum: {}", write.text()));
    assert!(matches!(problem.code.as_str(), "read_only" | "outcome_unknown"), "{problem:?}");
    if problem.code == "read_only" {
        let document = write.json();
        assert_eq!(
            (&document["reason"], &document["took_effect"]),
            (&"no_quorum".into(), &"no".into())
        );
    }

    let stale = follower.get_stale("k").answer().await;
    assert_eq!(stale.expect_status(200).text(), "v");
    let said = stale.header("Mainstay-Staleness-Ms");
    let ms = said.parse::<u64>();
    assert!(said == "unknown" || ms.as_ref().is_ok_and(|ms| *ms >= 1_000), "it says {said:?}");
    let page = follower.request("GET", "/v1/kv?prefix=k&consistency=stale").answer().await;
    assert_ne!(page.expect_status(200).header("Mainstay-Staleness-Ms"), "");
    // Stale reads are served, writes are not, and the health says so.
    until("a degraded node", async || {
        let health = follower.request("GET", "/health").answer().await;
        let health = health.expect_status(200).json();
        let told = (health["status"].as_str(), health["health"].as_str());
        if told == (Some("degraded"), Some("false")) { Ok(()) } else { Err(health) }
    })
    .await;
    follower.request("GET", "/health/live").answer().await.expect_status(200);
    until("the reason", async || {
        let told = follower.cluster().await.map_err(|error| error.to_string())?.json();
        let reason = told["node"]["read_only"].clone();
        if reason == "no_quorum" { Ok(()) } else { Err(reason.to_string()) }
    })
    .await;
    until("the reason in the log", async || {
        let log = cluster[alone].log();
        if log.contains("this node refuses writes: no quorum") { Ok(()) } else { Err("not yet") }
    })
    .await;

    cluster.start_all();
    cluster.serves().await;
    until("its end in the log", async || {
        let log = cluster[alone].log();
        if log.contains("this node takes writes again") { Ok(()) } else { Err("not yet") }
    })
    .await;
    let read = follower.get("k").within(Duration::from_secs(6)).answer().await;
    assert!(["v", "w"].contains(&read.expect_status(200).text().as_str()));
}
