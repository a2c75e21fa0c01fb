//! The JSON gateway, as the callers that rely on it see it.

use std::time::Duration;

use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use crate::harness::{Node, with_node};

async fn call(node: &Node, path: &str, request: Value) -> Value {
    let answer = node.post(path, request.to_string()).await;
    assert_eq!(answer.status.as_u16(), 200, "{path}: {:?}", answer.body);
    assert_eq!(answer.header("content-type"), "application/json");
    answer.json()
}

#[test]
fn a_failover_manager_finds_what_it_needs() {
    with_node(async |node| {
        let version = node.get("/version").await.json();
        for name in ["etcdserver", "etcdcluster"] {
            let version = version[name].as_str().expect("is text");
            assert!(version.split('.').all(|number| number.parse::<u32>().is_ok()), "{version}");
        }
        let list = call(&node, "/v3/cluster/member/list", json!({})).await;
        assert_eq!(list["members"][0]["clientURLs"][0], format!("http://{}", node.address));
        assert!(list["header"]["raft_term"].is_string());
        let granted = call(&node, "/v3/lease/grant", json!({"TTL": 30})).await;
        let lease = granted["ID"].as_str().expect("is text");
        assert_eq!(granted["TTL"], "30");

        // Mine? Then renew it, else take it if nobody has it.
        let write = json!({"request_put": {"key": "bGVhZGVy", "value": "bWU=", "lease": lease}});
        let take = json!({
            "compare": [{"target": "VALUE", "key": "bGVhZGVy", "value": "bWU="}],
            "success": [write],
            "failure": [{"request_txn": {
                "compare": [{"target": "CREATE", "key": "bGVhZGVy", "create_revision": "0"}],
                "success": [write],
            }}],
        });
        let first = call(&node, "/v3/kv/txn", take.clone()).await;
        assert!(first.get("succeeded").is_none(), "{first}");
        assert_eq!(first["responses"][0]["response_txn"]["succeeded"], true);
        let again = call(&node, "/v3/kv/txn", take).await;
        assert_eq!(again["succeeded"], true);

        let range = json!({"key": "bGVhZGVy", "range_end": "bGVhZGVz", "serializable": true});
        let read = call(&node, "/v3/kv/range", range).await;
        let pair = &read["kvs"][0];
        assert_eq!((&pair["value"], &pair["lease"]), (&json!("bWU="), &json!(lease)));
        assert_eq!(pair["mod_revision"], again["header"]["revision"]);
        assert_eq!(read["count"], "1");

        let kept = call(&node, "/v3/lease/keepalive", json!({"ID": lease})).await;
        assert_eq!((&kept["result"]["TTL"], &kept["result"]["ID"]), (&json!("30"), &json!(lease)));
        // The older names of these paths are still called.
        call(&node, "/v3/kv/lease/revoke", json!({"ID": lease})).await;
        let dead = call(&node, "/v3beta/lease/keepalive", json!({"ID": lease})).await;
        assert!(dead["result"].get("TTL").is_none(), "{dead}");
        let shown = call(&node, "/v3/kv/lease/timetolive", json!({"ID": lease})).await;
        assert_eq!(shown["TTL"], "-1");
        let read = call(&node, "/v3/kv/range", json!({"key": "bGVhZGVy"})).await;
        assert!(read.get("kvs").is_none() && read.get("count").is_none(), "{read}");
        node
    });
}

#[test]
fn a_watch_tells_one_line_a_message() {
    with_node(async |node| {
        call(&node, "/v3/kv/put", json!({"key": "YQ==", "value": "MQ=="})).await;
        let request =
            json!({"create_request": {"key": "YQ==", "start_revision": "2", "filters": []}});
        let body = request.to_string().into();
        let response = node.open("POST", "/v3/watch", &[], body).await.expect("is answered");
        assert_eq!(response.status().as_u16(), 200);
        let mut body = response.into_body();
        let mut read = Vec::new();
        let mut next = async || loop {
            if let Some(end) = read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = read.drain(..=end).collect();
                return serde_json::from_slice::<Value>(&line).expect("is JSON");
            }
            let frame = mainstay_world::timeout(Duration::from_secs(10), body.frame()).await;
            let frame = frame.expect("comes in time").expect("has not ended").expect("goes on");
            read.extend_from_slice(&frame.into_data().expect("is data"));
        };
        assert_eq!(next().await["result"]["created"], true);
        let told = next().await;
        let event = &told["result"]["events"][0];
        assert!(event.get("type").is_none() && event["kv"]["value"] == "MQ==", "{told}");
        call(&node, "/v3/kv/deleterange", json!({"key": "YQ=="})).await;
        let told = next().await;
        assert_eq!(told["result"]["events"][0]["type"], "DELETE");
        assert_eq!(told["result"]["header"]["revision"], "3");
        node
    });
}

#[test]
fn what_fails_says_so_to_old_and_new_callers() {
    with_node(async |node| {
        let failed = async |path: &str, body: &'static str| {
            let answer = node.post(path, body).await;
            let document = answer.json();
            assert_eq!(document["error"], document["message"]);
            assert_eq!(document["details"], json!([]));
            let message = document["message"].as_str().expect("is text").to_owned();
            (answer.status.as_u16(), document["code"].as_i64().expect("is a number"), message)
        };
        let told = |status, code, message: &str| (status, code, message.to_owned());
        assert_eq!(
            failed("/v3/kv/range", "{}").await,
            told(400, 3, "etcdserver: key is not provided")
        );
        assert_eq!(failed("/v3/kv/put", "").await, told(400, 3, "etcdserver: key is not provided"));
        assert_eq!(
            failed("/v3/lease/revoke", r#"{"ID":"77"}"#).await,
            told(404, 5, "etcdserver: requested lease not found")
        );
        let far = failed("/v3/kv/range", r#"{"key":"YQ==","revision":"99"}"#).await;
        assert_eq!(far, told(400, 11, "etcdserver: mvcc: required revision is a future revision"));
        assert_eq!(
            failed("/v3/auth/authenticate", r#"{"name":"root","password":"x"}"#).await,
            told(400, 9, "etcdserver: authentication is not enabled")
        );
        for nonsense in
            ["{", "[]", "nonsense", r#"{"key":7}"#, r#"{"key":"?"}"#, r#"{"limit":"x"}"#]
        {
            let (status, code, message) = failed("/v3/kv/range", nonsense).await;
            assert_eq!((status, code), (400, 3), "{nonsense}: {message}");
        }
        let (status, code, message) = failed("/v3/watch", "{nonsense").await;
        assert_eq!((status, code), (400, 3), "{message}");
        assert_eq!(failed("/v3/nothing", "{}").await, told(404, 5, "Not Found"));
        let answer = node.get("/v3/kv/range").await;
        assert_eq!(answer.status.as_u16(), 501);
        node
    });
}
