//! Watches over HTTP: server-sent events.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};

use crate::harness::{Node, with_node};

/// The stream of a watch, read event by event.
struct Events {
    body: Incoming,
    buffer: String,
}

/// One event: its name, its id and its data.
#[derive(Debug, Clone, PartialEq)]
struct Event {
    name: String,
    id: Option<u64>,
    data: Value,
}

impl Events {
    async fn open(node: &Node, query: &str, headers: &[(&str, &str)]) -> Self {
        let path = format!("/v1/watch?{query}");
        let response = node.open("GET", &path, headers, Bytes::new()).await.expect("answers");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert!(response.headers().contains_key("mainstay-revision"));
        // It tells what this node has, which may be behind.
        assert!(response.headers().contains_key("mainstay-staleness-ms"));
        Self { body: response.into_body(), buffer: String::new() }
    }

    /// The next event; `None` at the end of the stream.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((event, rest)) = self.buffer.split_once("\n\n") {
                let event = parse(event);
                self.buffer = rest.to_owned();
                return Some(event);
            }
            let next = mainstay_world::timeout(Duration::from_secs(10), self.body.frame());
            let frame = next.await.expect("an event within 10 seconds")?.expect("reads");
            let data = frame.into_data().expect("is data");
            self.buffer.push_str(std::str::from_utf8(&data).expect("is text"));
        }
    }

    /// The next event that is no progress.
    async fn next_change(&mut self) -> Event {
        loop {
            let event = self.next().await.expect("the stream goes on");
            if event.name != "progress" {
                return event;
            }
        }
    }
}

fn parse(text: &str) -> Event {
    let field = |name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::to_owned)
    };
    Event {
        name: field("event").expect("has a name"),
        id: field("id").map(|id| id.parse().expect("is a number")),
        data: serde_json::from_str(&field("data").expect("has data")).expect("is JSON"),
    }
}

#[test]
fn a_watch_tells_every_revision_with_all_its_events() {
    with_node(async |node| {
        let mut events = Events::open(&node, "prefix=a&previous=true", &[]).await;
        node.put("/v1/kv/a1", "1").await;
        node.put("/v1/kv/b1", "1").await;
        let txn = json!({"success": [
            {"put": {"key": "YTI=", "value": "Mg=="}},
            {"put": {"key": "YjI=", "value": "Mg=="}},
            {"delete": {"key": "YTE="}},
        ]});
        node.post("/v1/txn", txn.to_string()).await;
        let first = events.next_change().await;
        assert_eq!((first.name.as_str(), first.id), ("change", Some(2)));
        assert_eq!(
            first.data,
            json!({"revision": "2", "events": [{
                "type": "put", "key": "YTE=", "value": "MQ==", "create_revision": "2",
                "mod_revision": "2", "version": "1", "lease": "0", "previous": null,
            }]})
        );
        let second = events.next_change().await;
        assert_eq!(second.id, Some(4));
        let told = second.data["events"].as_array().expect("is a list");
        assert_eq!(told.len(), 2, "{told:?}");
        assert_eq!(told[0]["key"], "YTI=");
        assert_eq!(
            (&told[1]["type"], &told[1]["key"], &told[1]["mod_revision"]),
            (&"delete".into(), &"YTE=".into(), &"4".into())
        );
        assert_eq!(told[1]["previous"]["value"], "MQ==");
        node
    });
}

#[test]
fn a_watch_resumes_after_the_last_event_it_was_told() {
    with_node(async |node| {
        for value in ["1", "2", "3"] {
            node.put("/v1/kv/a", value).await;
        }
        let mut all = Events::open(&node, "key=a&from_revision=1", &[]).await;
        for revision in 2..=4 {
            assert_eq!(all.next_change().await.id, Some(revision));
        }
        let mut resumed = Events::open(&node, "key=a", &[("last-event-id", "2")]).await;
        for revision in 3..=4 {
            assert_eq!(resumed.next_change().await.id, Some(revision));
        }
        let mut future = Events::open(&node, "key=a&from_revision=6", &[]).await;
        for value in ["4", "5"] {
            node.put("/v1/kv/a", value).await;
        }
        for revision in 5..=6 {
            assert_eq!(all.next_change().await.id, Some(revision));
            assert_eq!(resumed.next_change().await.id, Some(revision));
        }
        assert_eq!(future.next_change().await.id, Some(6));
        node
    });
}

#[test]
fn a_compacted_start_is_told_and_the_stream_ends() {
    with_node(async |node| {
        for value in ["1", "2", "3"] {
            node.put("/v1/kv/a", value).await;
        }
        node.post("/v1/compact", r#"{"revision":"4"}"#).await;
        let mut events = Events::open(&node, "key=a&from_revision=2", &[]).await;
        let told = events.next().await.expect("is told");
        assert_eq!(told.name, "compacted");
        assert_eq!(told.data, json!({"compact_revision": "4"}));
        assert_eq!(events.next().await, None);
        node
    });
}

#[test]
fn progress_tells_how_far_a_quiet_watch_is() {
    with_node(async |node| {
        let mut events = Events::open(&node, "key=quiet&progress_ms=100", &[]).await;
        assert_eq!(events.next().await.map(|event| event.id), Some(Some(1)));
        node.put("/v1/kv/other", "1").await;
        loop {
            let event = events.next().await.expect("goes on");
            assert_eq!(event.name, "progress");
            if event.id == Some(2) {
                break;
            }
        }
        node.put("/v1/kv/quiet", "1").await;
        assert_eq!(events.next_change().await.id, Some(3));
        node
    });
}

#[test]
fn filters_leave_puts_or_deletes_out() {
    with_node(async |node| {
        let mut puts = Events::open(&node, "key=a&filter=no_delete", &[]).await;
        let mut deletes = Events::open(&node, "key=a&filter=no_put", &[]).await;
        node.put("/v1/kv/a", "1").await;
        node.delete("/v1/kv/a").await;
        node.put("/v1/kv/a", "2").await;
        assert_eq!(puts.next_change().await.id, Some(2));
        assert_eq!(puts.next_change().await.id, Some(4));
        assert_eq!(deletes.next_change().await.id, Some(3));
        node
    });
}

#[test]
fn a_watch_is_told_when_the_node_stops() {
    with_node(async |mut node| {
        let mut events = Events::open(&node, "key=a", &[]).await;
        node.put("/v1/kv/a", "1").await;
        assert_eq!(events.next_change().await.id, Some(2));
        node.begin_to_stop();
        let told = events.next_change().await;
        assert_eq!(told.name, "cancelled");
        assert_eq!(told.data, json!({"reason": "shutting_down", "resume_revision": "3"}));
        assert_eq!(events.next().await, None);
        node
    });
}
