//! Read-only mode as clients meet it: what is refused, with which words, and what goes on.

use crate::harness::{Answer, Node, with_node};

const SETTINGS: &str = "/v1/cluster/settings";

/// The reason of a refusal in read-only mode, which must say all that people need.
fn refusal(answer: &Answer) -> String {
    assert_eq!(answer.status, 503, "{:?}", answer.body);
    assert_eq!(answer.code(), "read_only");
    assert_ne!(answer.header("retry-after"), "");
    let document = answer.json();
    assert_eq!(document["took_effect"], "no");
    let detail = document["detail"].as_str().expect("is text");
    assert!(detail.contains("the data is safe"), "{detail}");
    document["reason"].as_str().expect("is text").to_owned()
}

/// A number out of the metrics.
async fn metric(node: &Node, name: &str) -> String {
    let page = node.get("/metrics").await;
    let page = String::from_utf8(page.body.to_vec()).expect("is text");
    let line = page.lines().find(|line| line.starts_with(name));
    let line = line.unwrap_or_else(|| panic!("no {name} in {page}"));
    line.rsplit(' ').next().expect("a line has a number").to_owned()
}

async fn lease(node: &Node, ttl_ms: u64) -> String {
    let granted = node.post("/v1/leases", format!(r#"{{"ttl_ms":{ttl_ms}}}"#)).await;
    assert_eq!(granted.status, 200, "{:?}", granted.body);
    granted.json()["id"].as_str().expect("is text").to_owned()
}

#[test]
fn an_operator_holds_writes_back_and_lets_them_in_again_while_leases_live_on() {
    with_node(async |node| {
        let kept = lease(&node, 60_000).await;
        let short = lease(&node, 1_000).await;
        node.put(&format!("/v1/kv/short?lease={short}"), "1").await;
        node.put("/v1/kv/a", "1").await;
        let keyed = [("idempotency-key", "once")];
        assert_eq!(node.send("PUT", "/v1/kv/b", &keyed, "1").await.status, 200);

        let switched = node.put(SETTINGS, r#"{"read_only":true}"#).await;
        assert_eq!((switched.status.as_u16(), &switched.json()["read_only"]), (200, &true.into()));
        let txn = r#"{"success":[{"put":{"key":"YQ==","value":"MQ=="}}]}"#;
        for refused in [
            node.put("/v1/kv/a", "2").await,
            node.delete("/v1/kv/a").await,
            node.post("/v1/txn", txn).await,
            node.post("/v1/compact", r#"{"revision":"2"}"#).await,
            node.post("/v1/leases", r#"{"ttl_ms":60000}"#).await,
            node.send("PUT", "/v1/kv/c", &[("idempotency-key", "new")], "1").await,
        ] {
            assert_eq!(refusal(&refused), "operator");
        }
        // What was done before is told again, not refused.
        assert_eq!(node.send("PUT", "/v1/kv/b", &keyed, "1").await.status, 200);
        assert_eq!(node.get("/v1/kv/a").await.body, "1");
        let renewed = node.post(&format!("/v1/leases/{kept}/keep-alive"), "").await;
        assert_eq!(renewed.status, 200, "{:?}", renewed.body);
        node.until("a lease that ends and takes its key with it", async |node| {
            node.get("/v1/kv/short").await.status == 404
        })
        .await;
        assert_eq!(node.delete(&format!("/v1/leases/{kept}")).await.status, 200);

        let health = node.get("/health").await;
        assert_eq!((health.status.as_u16(), &health.json()["status"]), (200, &"degraded".into()));
        assert_eq!(health.json()["health"], "false");
        assert_eq!(node.get("/health/ready").await.status, 200, "it serves reads");
        let cluster = node.get("/v1/cluster").await.json();
        assert_eq!(cluster["node"]["read_only"], "operator");
        assert_eq!(metric(&node, "mainstay_read_only ").await, "1");
        let reason = "mainstay_read_only_reason{reason=\"operator\"}";
        assert_eq!(metric(&node, reason).await, "1.0");

        assert_eq!(node.put(SETTINGS, r#"{"read_only":false}"#).await.status, 200);
        assert_eq!(node.put("/v1/kv/a", "2").await.status, 200);
        let retried = node.send("PUT", "/v1/kv/c", &[("idempotency-key", "new")], "1").await;
        assert_eq!(retried.status, 200, "a refusal is not remembered: {:?}", retried.body);
        assert_eq!(metric(&node, reason).await, "0.0");
        node
    });
}

#[test]
fn at_the_quota_what_makes_room_is_taken_and_the_rest_passes_by_itself() {
    with_node(async |node| {
        let living = lease(&node, 60_000).await;
        node.put("/v1/kv/a", "x".repeat(2_000)).await;
        assert_eq!(node.put(SETTINGS, r#"{"quota_bytes":"1000"}"#).await.status, 200);
        let refused = node.put("/v1/kv/b", "1").await;
        assert_eq!(refusal(&refused), "quota");
        assert_eq!(node.get("/v1/cluster").await.json()["node"]["read_only"], "quota");
        assert_eq!(node.get("/v1/kv/a").await.status, 200);
        assert_eq!(node.post(&format!("/v1/leases/{living}/keep-alive"), "").await.status, 200);
        lease(&node, 60_000).await;
        assert_eq!(node.delete(&format!("/v1/leases/{living}")).await.status, 200);
        let deleted = node.delete("/v1/kv/a").await;
        assert_eq!(deleted.status, 200, "{:?}", deleted.body);
        let revision = deleted.json()["revision"].as_str().expect("is text").to_owned();
        let compacted = node.post("/v1/compact", format!(r#"{{"revision":"{revision}"}}"#)).await;
        assert_eq!(compacted.status, 200, "{:?}", compacted.body);
        node.until("writes that are taken again", async |node| {
            node.put("/v1/kv/b", "1").await.status == 200
        })
        .await;
        assert_eq!(
            node.get("/v1/cluster").await.json()["node"]["read_only"],
            serde_json::Value::Null
        );
        node
    });
}
