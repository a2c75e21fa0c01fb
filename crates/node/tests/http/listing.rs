//! Pages of keys, all of one moment.

use crate::harness::with_node;

#[test]
fn pages_are_of_one_moment_whatever_is_written_meanwhile() {
    with_node(async |node| {
        for key in ["a1", "a2", "a3", "a4", "a5", "b1"] {
            node.put(&format!("/v1/kv/{key}"), key).await;
        }
        let first = node.get("/v1/kv?prefix=a&limit=2").await.json();
        assert_eq!((&first["revision"], &first["count"]), (&"7".into(), &"5".into()));
        assert_eq!(first["pairs"].as_array().map(Vec::len), Some(2));
        assert_eq!(
            first["pairs"][0],
            serde_json::json!({
                "key": "YTE=", "value": "YTE=", "create_revision": "2", "mod_revision": "2",
                "version": "1", "lease": "0",
            })
        );
        node.put("/v1/kv/a3", "changed").await;
        node.delete("/v1/kv/a4").await;
        node.put("/v1/kv/a6", "new").await;

        let mut keys = Vec::new();
        let mut page = first;
        loop {
            assert_eq!((&page["revision"], &page["count"]), (&"7".into(), &"5".into()));
            for pair in page["pairs"].as_array().expect("is a list") {
                assert_eq!(pair["key"], pair["value"], "the value is of the first page's moment");
                keys.push(pair["key"].as_str().expect("is text").to_owned());
            }
            let Some(cursor) = page["cursor"].as_str() else { break };
            page = node.get(&format!("/v1/kv?limit=2&cursor={cursor}")).await.json();
        }
        assert_eq!(keys, ["YTE=", "YTI=", "YTM=", "YTQ=", "YTU="]);
        node
    });
}

#[test]
fn keys_and_counts_can_be_had_alone() {
    with_node(async |node| {
        node.put("/v1/kv/a", "1").await;
        node.put("/v1/kv/b", "2").await;
        let keys = node.get("/v1/kv?keys_only=true").await.json();
        assert_eq!(keys["pairs"][1]["key"], "Yg==");
        assert_eq!(keys["pairs"][1]["value"], "");
        let count = node.get("/v1/kv?count_only").await.json();
        assert_eq!((&count["count"], &count["pairs"]), (&"2".into(), &serde_json::json!([])));
        let past = node.get("/v1/kv?revision=2").await.json();
        assert_eq!((&past["count"], &past["revision"]), (&"1".into(), &"2".into()));
        node
    });
}

#[test]
fn a_cursor_belongs_to_its_listing_and_ends_with_a_compaction() {
    with_node(async |node| {
        for key in ["a1", "a2", "b1"] {
            node.put(&format!("/v1/kv/{key}"), key).await;
        }
        let page = node.get("/v1/kv?prefix=a&limit=1").await.json();
        let cursor = page["cursor"].as_str().expect("there is more").to_owned();
        let with = async |more: &str| node.get(&format!("/v1/kv?cursor={cursor}{more}")).await;
        assert_eq!(with("&prefix=b").await.code(), "bad_parameter");
        assert_eq!(with("&revision=2").await.code(), "bad_parameter");
        assert_eq!(with("&prefix=a&revision=4").await.json()["pairs"][0]["key"], "YTI=");
        node.put("/v1/kv/a1", "x").await;
        node.post("/v1/compact", r#"{"revision":"5"}"#).await;
        assert_eq!(with("").await.code(), "compacted");
        node
    });
}
