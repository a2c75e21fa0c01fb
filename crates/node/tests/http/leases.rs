//! Leases over HTTP, from grant to end.

use crate::harness::with_node;

#[test]
fn a_lease_is_granted_shown_kept_alive_and_revoked_with_its_keys() {
    with_node(async |node| {
        let granted = node.post("/v1/leases", r#"{"ttl_ms":60000,"id":"77"}"#).await;
        assert_eq!(granted.body, r#"{"id":"77","ttl_ms":60000,"revision":"1"}"#);
        let taken = node.post("/v1/leases", r#"{"ttl_ms":60000,"id":"77"}"#).await;
        assert_eq!((taken.status.as_u16(), taken.code().as_str()), (409, "lease_exists"));
        let short = node.post("/v1/leases", r#"{"ttl_ms":1}"#).await.json();
        assert_eq!(short["ttl_ms"], 1_000, "a time to live is raised to the smallest allowed");

        assert_eq!(node.put("/v1/kv/a?lease=77", "1").await.status, 200);
        assert_eq!(node.get("/v1/kv/a").await.header("mainstay-lease"), "77");
        let shown = node.get("/v1/leases/77").await.json();
        assert_eq!(shown["keys"], serde_json::json!(["YQ=="]));
        assert!(shown["remaining_ms"].as_u64().is_some_and(|ms| ms <= 60_000), "{shown}");
        let listed = node.get("/v1/leases").await.json();
        assert!(listed["leases"].as_array().is_some_and(|ids| ids.contains(&"77".into())));

        let kept = node.post("/v1/leases/77/keep-alive", "").await;
        assert_eq!(kept.body, r#"{"id":"77","ttl_ms":60000}"#);
        let revoked = node.delete("/v1/leases/77").await;
        assert_eq!(revoked.body, r#"{"deleted":"1","revision":"3"}"#);
        assert_eq!(node.get("/v1/kv/a").await.status, 404);
        assert_eq!(node.get("/v1/leases/77").await.code(), "lease_not_found");
        node
    });
}

#[test]
fn keep_alives_that_wait_together_are_answered_one_by_one() {
    with_node(async |node| {
        for id in 1..=20 {
            node.post("/v1/leases", format!(r#"{{"ttl_ms":60000,"id":"{id}"}}"#)).await;
        }
        let before = log_index(&node).await;
        let all = (1..=25).map(|id| {
            let node = &node;
            async move { node.post(&format!("/v1/leases/{id}/keep-alive"), "").await.status }
        });
        let statuses = futures_util::future::join_all(all).await;
        assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 20);
        assert_eq!(statuses.iter().filter(|status| **status == 404).count(), 5);
        assert!(log_index(&node).await - before < 20, "keep-alives share log entries");
        node
    });
}

async fn log_index(node: &crate::harness::Node) -> u64 {
    let cluster = node.get("/v1/cluster").await.json();
    cluster["node"]["last_log_index"].as_str().expect("is text").parse().expect("is a number")
}
