//! Watches: what they tell, and how they go on elsewhere.

use mainstay_client::{EventKind, WatchError, WatchMessage, WatchRequest};

use crate::node::{Node, Reply, client, problem};

fn change(revision: u64) -> String {
    format!(
        "event: change\nid: {revision}\ndata: {{\"revision\":\"{revision}\",\"events\":[{{\"type\":\"put\",\"key\":\"YQ==\",\"value\":\"MQ==\",\"create_revision\":\"2\",\"mod_revision\":\"{revision}\",\"version\":\"3\",\"lease\":\"0\",\"previous\":null}}]}}\n\n"
    )
}

fn from(revision: u64) -> WatchRequest {
    WatchRequest { from_revision: Some(revision), ..WatchRequest::prefix("a") }
}

async fn revisions(watch: &mut mainstay_client::Watch, count: usize) -> Vec<u64> {
    let mut revisions = Vec::new();
    while revisions.len() < count {
        if let WatchMessage::Change(change) = watch.next().await.expect("the watch goes on") {
            revisions.push(change.revision);
        }
    }
    revisions
}

#[tokio::test]
async fn a_watch_tells_changes_and_progress() {
    let delete = "event: change\nid: 8\ndata: {\"revision\":\"8\",\"events\":[{\"type\":\"delete\",\"key\":\"YQ==\",\"mod_revision\":\"8\"}]}\n\n";
    let progress = "event: progress\nid: 12\ndata: {}\n\n";
    let node = Node::start([Reply::EventsThenSilence(change(7) + delete + progress)]).await;
    let mut watch = client(&[&node.endpoint]).watch(from(3)).await.expect("a watch");
    let WatchMessage::Change(put) = watch.next().await.expect("a message") else {
        panic!("a change")
    };
    assert_eq!((put.revision, put.events[0].kind), (7, EventKind::Put));
    assert_eq!(&put.events[0].pair.value[..], b"1");
    let WatchMessage::Change(delete) = watch.next().await.expect("a message") else {
        panic!("a change")
    };
    assert_eq!((delete.revision, delete.events[0].kind), (8, EventKind::Delete));
    let progress = watch.next().await.expect("a message");
    assert_eq!(progress, WatchMessage::Progress { revision: 12 });
    assert_eq!(watch.next_revision(), 13);
    let line = &node.seen()[0].line;
    assert_eq!(
        line,
        "GET /v1/watch?prefix_base64=YQ%3D%3D&progress_ms=100&from_revision=3 HTTP/1.1"
    );
}

#[tokio::test]
async fn a_watch_goes_on_elsewhere_without_gap_or_duplicate() {
    let cancelled = "event: cancelled\ndata: {\"reason\":\"slow\",\"resume_revision\":\"8\"}\n\n";
    let first = Node::start([
        Reply::EventsThenClose(change(5)),
        Reply::EventsThenClose(change(7) + cancelled),
    ])
    .await;
    let second = Node::start([
        // Silence on an open connection is a failure as well; so is half a message.
        Reply::EventsThenSilence(change(6) + &change(7)[..40]),
        Reply::EventsThenSilence(change(7) + &change(8)),
    ])
    .await;
    let client = client(&[&first.endpoint, &second.endpoint]);
    let mut watch = client.watch(from(5)).await.expect("a watch");
    assert_eq!(revisions(&mut watch, 4).await, [5, 6, 7, 8]);
    let resumed: Vec<_> = [&first, &second]
        .iter()
        .flat_map(|node| node.seen())
        .map(|seen| seen.headers.get("last-event-id").cloned().unwrap_or_default())
        .collect();
    assert_eq!(resumed, ["", "6", "5", "7"]);
}

#[tokio::test]
async fn a_watch_without_a_start_begins_after_what_was_acknowledged_before() {
    let present = problem(404, "not_found", "no", "");
    let node = Node::start([present, Reply::EventsThenSilence(change(10))]).await;
    let mut watch = client(&[&node.endpoint]).watch(WatchRequest::key("a")).await.expect("a watch");
    assert_eq!(revisions(&mut watch, 1).await, [10]);
    assert!(node.seen()[1].line.contains("?key_base64=YQ%3D%3D"));
    assert!(node.seen()[1].line.contains("&from_revision=10 "));
}

#[tokio::test]
async fn a_compacted_start_ends_the_watch() {
    let event = "event: compacted\ndata: {\"compact_revision\":\"100\"}\n\n".to_owned();
    let refusal = problem(410, "compacted", "no", r#","compact_revision":"100""#);
    for reply in [Reply::EventsThenClose(event), refusal] {
        let node = Node::start([reply]).await;
        let mut watch = client(&[&node.endpoint]).watch(from(3)).await.expect("a watch");
        let error = watch.next().await.expect_err("compacted");
        assert!(matches!(error, WatchError::Compacted { compact_revision: 100 }), "{error}");
    }
}

#[tokio::test]
async fn a_store_that_was_restored_ends_the_watch() {
    let event =
        "event: cancelled\ndata: {\"reason\":\"store_replaced\",\"resume_revision\":\"9\"}\n\n";
    let node = Node::start([Reply::EventsThenClose(event.to_owned())]).await;
    let mut watch = client(&[&node.endpoint]).watch(from(3)).await.expect("a watch");
    let error = watch.next().await.expect_err("replaced");
    assert!(matches!(error, WatchError::StoreReplaced), "{error}");
}

#[tokio::test]
async fn a_watch_that_is_refused_for_good_ends() {
    let node = Node::start([problem(400, "bad_parameter", "no", "")]).await;
    let mut watch = client(&[&node.endpoint]).watch(from(3)).await.expect("a watch");
    let error = watch.next().await.expect_err("refused");
    let WatchError::Ended { next_revision: 3, source } = error else { panic!("{error}") };
    assert_eq!(source.code(), Some("bad_parameter"));
}

#[tokio::test]
async fn a_watch_that_nobody_serves_ends_when_its_patience_does() {
    let no_leader = || problem(503, "not_ready", "no", "");
    let node = Node::start(std::iter::repeat_with(no_leader).take(100)).await;
    let mut watch = client(&[&node.endpoint]).watch(from(3)).await.expect("a watch");
    let error = watch.next().await.expect_err("nobody serves it");
    assert!(matches!(error, WatchError::Ended { next_revision: 3, .. }));
    assert!(node.seen().len() > 3, "it tried several times");
}

#[tokio::test]
async fn a_dropped_wait_loses_nothing() {
    let node = Node::start([Reply::EventsThenSilence(change(5) + &change(6))]).await;
    let mut watch = client(&[&node.endpoint]).watch(from(5)).await.expect("a watch");
    let mut told = Vec::new();
    while told.len() < 2 {
        let step = std::time::Duration::from_millis(1);
        if let Ok(message) = mainstay_world::timeout(step, watch.next()).await
            && let WatchMessage::Change(change) = message.expect("the watch goes on")
        {
            told.push(change.revision);
        }
    }
    assert_eq!(told, [5, 6]);
}
