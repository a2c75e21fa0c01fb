//! One key: raw values, entity tags, conditions, the past, repeated writes.

use crate::harness::with_node;

#[test]
fn a_key_is_put_read_and_deleted() {
    with_node(async |node| {
        let put = node.put("/v1/kv/app/a", "one").await;
        assert_eq!(put.status, 200);
        assert_eq!(put.body, r#"{"revision":"2","created":true}"#);
        let again = node.put("/v1/kv/app/a", "two").await;
        assert_eq!(again.body, r#"{"revision":"3","created":false}"#);

        let got = node.get("/v1/kv/app/a").await;
        assert_eq!((got.status.as_u16(), &got.body[..]), (200, &b"two"[..]));
        assert_eq!(got.header("content-type"), "application/octet-stream");
        assert_eq!(got.header("etag"), "\"3\"");
        assert_eq!(got.header("mainstay-create-revision"), "2");
        assert_eq!(got.header("mainstay-mod-revision"), "3");
        assert_eq!(got.header("mainstay-version"), "2");
        assert_eq!(got.header("mainstay-lease"), "0");

        let deleted = node.delete("/v1/kv/app/a").await;
        assert_eq!(deleted.body, r#"{"deleted":"1","revision":"4"}"#);
        let missing = node.delete("/v1/kv/app/a").await;
        assert_eq!(
            (missing.status.as_u16(), &missing.body[..]),
            (200, &br#"{"deleted":"0","revision":"4"}"#[..])
        );
        let gone = node.get("/v1/kv/app/a").await;
        assert_eq!((gone.status.as_u16(), gone.code().as_str()), (404, "not_found"));
        assert_eq!(node.get("/v1/kv/app/a?revision=2").await.body, "one");
        node
    });
}

#[test]
fn every_answer_says_where_it_comes_from() {
    with_node(async |node| {
        node.put("/v1/kv/a", "1").await;
        for (method, path) in [
            ("GET", "/v1/kv/a"),
            ("GET", "/v1/kv/none"),
            ("PUT", "/v1/kv/a"),
            ("OPTIONS", "/v1/kv/a"),
            ("GET", "/v1/kv"),
            ("GET", "/v1/cluster"),
            ("GET", "/nowhere"),
            ("PATCH", "/v1/kv/a"),
            ("GET", "/health/live"),
        ] {
            let answer = node.send(method, path, &[], "1").await;
            for name in ["cluster-id", "member-id", "epoch", "revision", "term"] {
                let value = answer.header(&format!("mainstay-{name}"));
                assert!(
                    value.parse::<u64>().is_ok_and(|n| n > 0),
                    "{method} {path}: {name} {value:?}"
                );
            }
            assert_eq!(answer.header("mainstay-staleness-ms"), "", "{method} {path}");
            assert_eq!(answer.header("date"), "", "{method} {path}");
        }
        let stale = node.get("/v1/kv/a?consistency=stale").await;
        let staleness = stale.header("mainstay-staleness-ms");
        assert!(staleness == "unknown" || staleness.parse::<u64>().is_ok(), "{staleness:?}");
        node
    });
}

#[test]
fn a_key_may_be_any_bytes() {
    with_node(async |node| {
        for (path, base64) in [
            ("/v1/kv/%00%FF/x%2Fy", "AP8veC95"),
            ("/v1/kv//a", "L2E="),
            ("/v1/kv/?key_base64=Li4=", "Li4="),
            ("/v1/kv/?key_base64=-_8", "+/8="),
            ("/v1/kv/a+b%20c", "YStiIGM="),
        ] {
            assert_eq!(node.put(path, "1").await.status, 200, "{path}");
            let listed = node.get(&format!("/v1/kv?prefix_base64={base64}")).await.json();
            assert_eq!(listed["pairs"][0]["key"], base64, "{path}");
            assert_eq!(node.delete(path).await.json()["deleted"], "1", "{path}");
        }
        node
    });
}

#[test]
fn conditions_guard_writes() {
    with_node(async |node| {
        let put = async |header: (&str, &str)| node.send("PUT", "/v1/kv/a", &[header], "x").await;
        let absent = put(("if-match", "\"2\"")).await;
        assert_eq!((absent.status.as_u16(), absent.code().as_str()), (412, "compare_failed"));
        assert!(absent.json()["detail"].as_str().is_some_and(|d| d.contains("does not exist")));
        let created = put(("if-none-match", "*")).await;
        assert_eq!(created.body, r#"{"revision":"2","created":true}"#);
        let exists = put(("if-none-match", "*")).await;
        assert_eq!((exists.status.as_u16(), exists.code().as_str()), (409, "exists"));
        assert_eq!(exists.json()["detail"], "the key exists since revision 2; nothing was written");
        assert_eq!(put(("if-match", "\"2\"")).await.body, r#"{"revision":"3","created":false}"#);
        let moved = put(("if-match", "\"2\"")).await;
        assert_eq!(moved.json()["detail"], "the key is at revision 3; nothing was written");
        assert_eq!(moved.json()["took_effect"], "no");
        assert_eq!(put(("if-match", "*")).await.status, 200);

        let delete = async |tag| node.send("DELETE", "/v1/kv/a", &[("if-match", tag)], "").await;
        assert_eq!(delete("\"3\"").await.code(), "compare_failed");
        assert_eq!(delete("\"4\"").await.body, r#"{"deleted":"1","revision":"5"}"#);

        node.put("/v1/kv/a", "x").await;
        let known = node.send("GET", "/v1/kv/a", &[("if-none-match", "\"6\"")], "").await;
        assert_eq!((known.status.as_u16(), known.body.len()), (304, 0));
        node
    });
}

#[test]
fn a_repeated_write_is_answered_again_and_done_once() {
    with_node(async |node| {
        let key = [("idempotency-key", "k1")];
        let first = node.send("PUT", "/v1/kv/a", &key, "1").await;
        assert_eq!(first.header("mainstay-repeated"), "");
        let again = node.send("PUT", "/v1/kv/a", &key, "1").await;
        assert_eq!((again.header("mainstay-repeated"), &again.body), ("true", &first.body));
        let other = node.send("PUT", "/v1/kv/a", &key, "2").await;
        assert_eq!((other.status.as_u16(), other.code().as_str()), (422, "key_reused"));

        let session = node.post("/v1/sessions", "").await.json();
        assert_eq!(session["ttl_ms"], 600_000);
        let session = session["session"].as_str().expect("is an id").to_owned();
        let numbered = [("mainstay-session", session.as_str()), ("mainstay-session-number", "1")];
        let first = node.send("PUT", "/v1/kv/b", &numbered, "1").await;
        let again = node.send("PUT", "/v1/kv/b", &numbered, "1").await;
        assert_eq!((again.header("mainstay-repeated"), &again.body), ("true", &first.body));
        assert_eq!(node.get("/v1/kv/b").await.header("mainstay-version"), "1");

        let refused = [("idempotency-key", "k2"), ("if-none-match", "*")];
        for repeated in ["", "true"] {
            let exists = node.send("PUT", "/v1/kv/a", &refused, "1").await;
            assert_eq!(exists.code(), "exists");
            assert_eq!(exists.header("mainstay-repeated"), repeated);
        }
        for repeated in ["", "true"] {
            let lease = [("idempotency-key", "k3")];
            let missing = node.send("PUT", "/v1/kv/a?lease=9", &lease, "1").await;
            assert_eq!(missing.code(), "lease_not_found");
            assert_eq!(missing.header("mainstay-repeated"), repeated);
        }
        let ended = [("mainstay-session", "99999"), ("mainstay-session-number", "1")];
        let ended = node.send("PUT", "/v1/kv/b", &ended, "1").await;
        assert_eq!((ended.status.as_u16(), ended.code().as_str()), (409, "session_ended"));
        node
    });
}

#[test]
fn head_is_get_without_the_value_and_options_lists_the_methods() {
    with_node(async |node| {
        node.put("/v1/kv/a", "12345").await;
        let head = node.send("HEAD", "/v1/kv/a", &[], "").await;
        assert_eq!((head.header("content-length"), head.header("etag")), ("5", "\"2\""));
        assert!(head.body.is_empty());
        for path in ["/v1/kv/a", "/v1/txn", "/health"] {
            let options = node.send("OPTIONS", path, &[], "").await;
            assert_eq!(options.status, 204, "{path}");
            assert!(options.header("allow").contains("OPTIONS"), "{path}");
        }
        node
    });
}

#[test]
fn a_large_value_comes_back_whole() {
    with_node(async |node| {
        let value: Vec<u8> = (0..1024 * 1024 + 512 * 1024_u32).map(|n| (n % 251) as u8).collect();
        assert_eq!(node.put("/v1/kv/large", value.clone()).await.status, 200);
        assert_eq!(node.get("/v1/kv/large").await.body, value);
        node
    });
}

#[test]
fn old_revisions_go_by_themselves_when_the_settings_say_so_and_present_keys_stay() {
    for (setting, readable) in [
        // Revisions 2 to 31 are written; ten may be read, and one more may gather.
        (r#"{"compaction_revisions":"10"}"#, true),
        (r#"{"compaction_age_ms":"1000"}"#, false),
    ] {
        with_node(async move |node| {
            node.put("/v1/kv/oldest", "still here").await;
            for n in 0..29 {
                node.put("/v1/kv/a", n.to_string()).await;
            }
            assert_eq!(node.get("/v1/kv/a?revision=5").await.body, "2", "nothing is asked for yet");
            assert_eq!(node.put("/v1/cluster/settings", setting).await.status, 200);
            node.until("old revisions are gone", async |node| {
                let past = node.get("/v1/kv/a?revision=5").await;
                past.status == 410 && past.code() == "compacted"
            })
            .await;
            assert_eq!(node.get("/v1/kv/oldest").await.body, "still here");
            assert_eq!(node.get("/v1/kv/a").await.body, "28");
            if readable {
                assert_eq!(node.get("/v1/kv/a?revision=22").await.body, "19");
            }
            node
        });
    }
}
