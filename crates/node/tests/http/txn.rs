//! Transactions over HTTP, as JSON goes in and out.

use serde_json::json;

use crate::harness::with_node;

#[test]
fn a_transaction_compares_and_writes_at_one_revision() {
    with_node(async |node| {
        let txn = json!({
            "compares": [{"key": "YQ==", "target": "version", "relation": "equal", "operand": "0"}],
            "success": [
                {"put": {"key": "YQ==", "value": "MQ=="}},
                {"put": {"key": "Yg==", "value": "Mg=="}},
                {"range": {"prefix": ""}},
            ],
            "failure": [{"delete": {"key": "YQ==", "want_previous": true}}],
        });
        let first = node.post("/v1/txn", txn.to_string()).await;
        assert_eq!(first.status, 200);
        let done = first.json();
        assert_eq!((&done["revision"], &done["succeeded"]), (&"2".into(), &true.into()));
        assert_eq!(done["operations"][0], json!({"put": {"created": true, "previous": null}}));
        assert_eq!(done["operations"][2]["range"]["count"], "2");
        let second = node.post("/v1/txn", txn.to_string()).await.json();
        assert_eq!((&second["revision"], &second["succeeded"]), (&"3".into(), &false.into()));
        assert_eq!(second["operations"][0]["delete"]["deleted"], "1");
        assert_eq!(second["operations"][0]["delete"]["previous"][0]["value"], "MQ==");
        node
    });
}

#[test]
fn a_transaction_that_only_reads_is_a_read() {
    with_node(async |node| {
        node.put("/v1/kv/a", "1").await;
        let txn = json!({
            "compares": [{"key": "YQ==", "target": "value", "relation": "equal", "operand": "MQ=="}],
            "success": [{"range": {"key": "YQ=="}}],
        });
        // Going over to the newest format is an entry, too.
        node.until("the newest format", async |node| {
            let told = node.get("/v1/node").await.json();
            told["formats"]["in_force"] == told["formats"]["newest"]
        })
        .await;
        let before = node.get("/v1/cluster").await.json()["node"]["last_log_index"].clone();
        let stale = node.post("/v1/txn?consistency=stale", txn.to_string()).await;
        assert_ne!(stale.header("mainstay-staleness-ms"), "");
        let read = node.post("/v1/txn", txn.to_string()).await;
        assert_eq!(read.header("mainstay-staleness-ms"), "");
        assert_eq!(read.json()["operations"][0]["range"]["pairs"][0]["value"], "MQ==");
        let after = node.get("/v1/cluster").await.json()["node"]["last_log_index"].clone();
        assert_eq!(before, after, "a read costs no log entry");
        node
    });
}
