//! Watches while nodes die: no change is missed, none comes twice.

use std::collections::BTreeMap;

use mainstay_tests::{Change, Cluster, Ledger, Message, PATIENCE, ResumingWatch, Watch, Writer};

use crate::PROGRAM;

const LOAD: usize = 16;
const SOME: usize = 300;

/// Each acknowledged write is in `changes` once, at its revision, and the changes are in order.
fn assert_complete(changes: &[Change], ledger: &Ledger) {
    for two in changes.windows(2) {
        assert!(two[0].revision < two[1].revision, "out of order or twice: {two:?}");
    }
    let by_revision: BTreeMap<_, _> =
        changes.iter().map(|change| (change.revision, change)).collect();
    for (write, revision) in ledger.revisions() {
        let change = by_revision.get(&revision).unwrap_or_else(|| panic!("{write:?} was missed"));
        let [event] = &change.events[..] else { panic!("one write, many events: {change:?}") };
        let told = (event.kind.as_str(), event.key.as_str(), event.value.as_str());
        assert_eq!(told, ("put", write.key.as_str(), write.value.as_str()));
    }
}

#[tokio::test]
async fn a_watch_goes_on_across_a_leader_change_without_gap_or_duplicate() {
    let mut cluster = Cluster::three(PROGRAM).await;
    let leader = cluster.leader().await;
    // One watch begins at the leader and must go on elsewhere, one at a follower.
    let clients = cluster.clients();
    let from_leader: Vec<_> = (0..3).map(|step| clients[(leader + step) % 3].clone()).collect();
    let from_follower: Vec<_> = (1..4).map(|step| clients[(leader + step) % 3].clone()).collect();
    let watches =
        [from_leader, from_follower].map(|order| ResumingWatch::start(&order, "load/", 1));

    let writer = Writer::start(&clients, "load", LOAD);
    writer.acknowledges(SOME).await;
    cluster[leader].kill().await;
    writer.acknowledges(SOME).await;
    cluster.start(leader);
    cluster.serves().await;
    let follower = cluster.others(cluster.leader().await)[0];
    cluster[follower].kill().await;
    writer.acknowledges(SOME).await;
    let ledger = writer.stop().await;

    let mut all = Vec::new();
    for watch in watches {
        watch.reaches(ledger.last_revision()).await;
        all.push(watch.stop());
    }
    assert!(all[0].1 > 0, "the watch at the killed leader had to go on elsewhere");
    for (changes, _resumed) in &all {
        assert_complete(changes, &ledger);
    }
    // A watch that was never interrupted tells the same.
    let survivor = cluster.others(follower)[0];
    let late = ResumingWatch::start(&[clients[survivor].clone()], "load/", 1);
    late.reaches(ledger.last_revision()).await;
    let (changes, _resumed) = late.stop();
    let upto = |changes: &[Change]| -> Vec<Change> {
        let last = ledger.last_revision();
        changes.iter().filter(|change| change.revision <= last).cloned().collect()
    };
    assert_eq!(upto(&changes), upto(&all[0].0));
    assert_eq!(upto(&changes), upto(&all[1].0));
}

#[tokio::test]
async fn a_watch_of_a_node_that_stops_is_told_so_and_goes_on_elsewhere_by_its_last_id() {
    let mut cluster = Cluster::three(PROGRAM).await;
    let client = cluster[0].client().clone();
    let mut watch = Watch::open(&client, "key=k&progress_ms=100", None).await.expect("opens");
    client.put("k", "1").answer().await.expect_status(200);
    let first = watch.change().await;
    cluster[0].signal(mainstay_tests::Signal::Terminate);
    let reason = loop {
        match watch.next(PATIENCE).await.expect("the node says why it ends the watch") {
            Message::Cancelled { reason } => break reason,
            Message::Progress { .. } => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(reason, "shutting_down");
    assert_eq!(cluster[0].ended().await, 0);

    cluster.leader_of(&[1, 2]).await;
    let other = cluster[1].client();
    let written = other.put("k", "2").answer().await.expect_status(200).revision();
    let mut watch =
        Watch::open(other, "key=k", Some(first.revision)).await.expect("opens elsewhere");
    let second = watch.change().await;
    assert_eq!((second.revision, second.events[0].value.as_str()), (written, "2"));
}

#[tokio::test]
async fn a_watch_survives_the_death_of_every_node_at_once() {
    let mut cluster = Cluster::three(PROGRAM).await;
    let watch = ResumingWatch::start(&cluster.clients(), "load/", 1);
    let writer = Writer::start(&cluster.clients(), "load", LOAD);
    writer.acknowledges(SOME).await;
    cluster.kill_all().await;
    cluster.start_all();
    cluster.serves().await;
    writer.acknowledges(SOME).await;
    let ledger = writer.stop().await;
    watch.reaches(ledger.last_revision()).await;
    let (changes, resumed) = watch.stop();
    assert!(resumed > 0, "every stream had to break");
    assert_complete(&changes, &ledger);
}

#[tokio::test]
async fn a_watch_that_starts_in_the_future_waits_and_one_that_is_compacted_says_so() {
    let cluster = Cluster::one(PROGRAM).await;
    let client = cluster[0].client();
    let now = client.put("k", "1").answer().await.revision();
    let query = format!("key=k&from_revision={}&progress_ms=100", now + 2);
    let mut future = Watch::open(client, &query, None).await.expect("opens");
    for value in ["2", "3"] {
        client.put("k", value).answer().await.expect_status(200);
    }
    assert_eq!(future.change().await.events[0].value, "3");

    let compacted = serde_json::json!({"revision": (now + 1).to_string()});
    client.post("/v1/compact", &compacted).answer().await.expect_status(200);
    let query = format!("key=k&from_revision={now}");
    let mut late = Watch::open(client, &query, None).await.expect("opens");
    let wanted = Message::Compacted { compact_revision: now + 1 };
    assert_eq!(late.next(PATIENCE).await, Ok(wanted));
    assert!(late.next(PATIENCE).await.is_err(), "the stream ends after it");
}
