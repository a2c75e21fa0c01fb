//! What bad input gets: one clear sentence, a proper status, and nothing changed.

use bytes::Bytes;
use mainstay_world::{History, Net, RealNet};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::with_node;

#[test]
fn bad_requests_are_refused_with_their_code() {
    with_node(async |node| {
        node.put("/v1/kv/a", "1").await;
        let long_key = format!("/v1/kv/{}", "k".repeat(8 * 1024 + 1));
        let large: Bytes = vec![0; 1024 * 1024 + 512 * 1024 + 1].into();
        let many = [r#"{"range":{"key":"YQ=="}}"#; 129].join(",");
        let many = format!(r#"{{"success":[{many}]}}"#);
        let twice =
            r#"{"success":[{"put":{"key":"YQ==","value":""}},{"put":{"key":"YQ==","value":""}}]}"#;
        let table: Vec<(&str, &str, Bytes, u16, &str)> = vec![
            ("PUT", "/v1/kv/", "x".into(), 400, "key_empty"),
            ("GET", "/v1/kv/", "".into(), 400, "key_empty"),
            ("DELETE", "/v1/kv/", "".into(), 400, "key_empty"),
            ("PUT", &long_key, "x".into(), 400, "key_too_large"),
            ("GET", &long_key, "".into(), 400, "key_too_large"),
            ("PUT", "/v1/kv/a", large, 413, "too_large"),
            ("PUT", "/v1/kv/a%2", "x".into(), 400, "bad_request"),
            ("PUT", "/v1/kv/a?lease=77", "x".into(), 404, "lease_not_found"),
            ("PUT", "/v1/kv/a?lease=x", "x".into(), 400, "bad_parameter"),
            ("PUT", "/v1/kv/a?leese=1", "x".into(), 400, "bad_parameter"),
            ("PUT", "/v1/kv/a?key_base64=YQ==", "x".into(), 400, "bad_parameter"),
            ("GET", "/v1/kv/a?revision=99", "".into(), 400, "future_revision"),
            ("GET", "/v1/kv/a?consistency=eventual", "".into(), 400, "bad_parameter"),
            ("PATCH", "/v1/kv/a", "".into(), 405, "method_not_allowed"),
            ("POST", "/v1/kv", "".into(), 405, "method_not_allowed"),
            ("GET", "/v1/txn", "".into(), 405, "method_not_allowed"),
            ("GET", "/v1/nothing", "".into(), 404, "unknown_route"),
            ("GET", "/", "".into(), 404, "unknown_route"),
            ("GET", "/v1/kv?limit=0", "".into(), 400, "bad_parameter"),
            ("GET", "/v1/kv?limit=10001", "".into(), 400, "bad_parameter"),
            ("GET", "/v1/kv?cursor=AAAA", "".into(), 400, "bad_parameter"),
            ("POST", "/v1/txn", "{\"success\": [}".into(), 400, "malformed_json"),
            ("POST", "/v1/txn", "{\"sucess\": []}".into(), 400, "malformed_json"),
            ("POST", "/v1/txn", many.into(), 400, "too_many_operations"),
            ("POST", "/v1/txn", twice.into(), 400, "duplicate_key"),
            ("POST", "/v1/compact", "{}".into(), 400, "malformed_json"),
            ("POST", "/v1/compact", r#"{"revision":"99"}"#.into(), 400, "future_revision"),
            ("POST", "/v1/leases", "{}".into(), 400, "malformed_json"),
            ("POST", "/v1/leases", r#"{"ttl_ms":-1}"#.into(), 400, "malformed_json"),
            (
                "POST",
                "/v1/leases",
                r#"{"ttl_ms":9000000000001}"#.into(),
                400,
                "lease_ttl_too_large",
            ),
            ("GET", "/v1/leases/x", "".into(), 400, "bad_request"),
            ("GET", "/v1/leases/77", "".into(), 404, "lease_not_found"),
            ("DELETE", "/v1/leases/77", "".into(), 404, "lease_not_found"),
            ("POST", "/v1/leases/77/keep-alive", "".into(), 404, "lease_not_found"),
            ("POST", "/v1/sessions", "[1]".into(), 400, "malformed_json"),
            ("GET", "/v1/watch", "".into(), 400, "bad_parameter"),
            ("GET", "/v1/watch?key=a&prefix=a", "".into(), 400, "bad_parameter"),
            ("GET", "/v1/watch?key=a&progress_ms=1", "".into(), 400, "bad_parameter"),
            ("GET", "/v1/watch?key=", "".into(), 400, "key_empty"),
            ("POST", "/v1/cluster/leader", r#"{"too":"n1"}"#.into(), 400, "malformed_json"),
            ("POST", "/v1/cluster/leader", r#"{"to":["n1"]}"#.into(), 400, "malformed_json"),
            ("POST", "/v1/cluster/leader", r#"["n1"]"#.into(), 400, "malformed_json"),
            ("POST", "/v1/cluster/leader", "n1".into(), 400, "malformed_json"),
            ("POST", "/v1/cluster/leader?to=n1", "".into(), 400, "bad_parameter"),
            ("PUT", "/v1/cluster/leader", "".into(), 405, "method_not_allowed"),
            ("POST", "/v1/failure-detector", "".into(), 405, "method_not_allowed"),
            ("PUT", "/v1/cluster/settings", r#"{"format":"2"}"#.into(), 400, "malformed_json"),
            (
                "PUT",
                "/v1/cluster/settings",
                r#"{"quota_warning_percent":101}"#.into(),
                400,
                "bad_setting",
            ),
        ];
        for (method, path, body, status, code) in table {
            let answer = node.send(method, path, &[], body).await;
            let shown = &path[..path.len().min(60)];
            assert_eq!(answer.status.as_u16(), status, "{method} {shown}: {:?}", answer.body);
            assert_eq!(answer.code(), code, "{method} {shown}");
            assert_eq!(answer.json()["took_effect"], "no", "{method} {shown}");
            if status == 405 {
                assert!(!answer.header("allow").is_empty(), "{method} {shown}");
            }
        }
        assert_eq!(node.get("/v1/kv/a").await.header("mainstay-version"), "1");
        assert_eq!(node.get("/v1/cluster").await.json()["revision"], "2");
        node
    });
}

#[test]
fn bad_headers_are_refused() {
    with_node(async |node| {
        for (name, value) in [
            ("mainstay-timeout-ms", "0"),
            ("mainstay-timeout-ms", "soon"),
            ("mainstay-sesion", "1"),
            ("mainstay-session", "1"),
            ("if-match", "7"),
            ("if-none-match", "\"7\""),
        ] {
            let answer = node.send("PUT", "/v1/kv/a", &[(name, value)], "x").await;
            assert_eq!(
                (answer.status.as_u16(), answer.code().as_str()),
                (400, "bad_header"),
                "{name}"
            );
        }
        node
    });
}

#[test]
fn malformed_json_is_told_with_its_place() {
    with_node(async |node| {
        let answer = node.post("/v1/txn", "{\n  \"success\": [{\"putt\": {}}]\n}").await;
        let detail = answer.json()["detail"].as_str().expect("is text").to_owned();
        assert!(detail.contains("line 2, column 21: unknown variant `putt`"), "{detail}");
        node
    });
}

#[test]
fn a_compacted_revision_is_gone_and_says_which_is_not() {
    with_node(async |node| {
        for value in ["1", "2", "3"] {
            node.put("/v1/kv/a", value).await;
        }
        let compacted = node.post("/v1/compact", r#"{"revision":"4"}"#).await;
        assert_eq!(compacted.body, r#"{"revision":"4","compact_revision":"4"}"#);
        let gone = node.get("/v1/kv/a?revision=2").await;
        assert_eq!((gone.status.as_u16(), gone.code().as_str()), (410, "compacted"));
        assert_eq!(gone.json()["compact_revision"], "4");
        assert_eq!(node.post("/v1/compact", r#"{"revision":"3"}"#).await.code(), "compacted");
        node
    });
}

#[test]
fn what_is_no_http_gets_an_error_and_does_no_harm() {
    with_node(async |node| {
        for garbage in [&b"\x16\x03\x01\x02\x00"[..], b"GET\r\n\r\n", b"\0\0\0\0\0\0\0\0\r\n\r\n"] {
            let mut stream = RealNet.connect(&node.address).await.expect("connects");
            stream.write_all(garbage).await.expect("writes");
            stream.shutdown().await.expect("ends");
            let mut answer = Vec::new();
            let _broken = stream.read_to_end(&mut answer).await;
            assert!(!answer.starts_with(b"HTTP/1.1 2"), "{answer:?}");
        }
        assert_eq!(node.get("/health/live").await.status, 200);
        node
    });
}

#[test]
fn refused_writes_are_kept_in_the_history() {
    with_node(async |node| {
        node.put("/v1/kv/a?lease=77", "a secret value").await;
        let records = node.history.newest("refused", 10);
        assert_eq!(records.len(), 1);
        let text = String::from_utf8_lossy(&records[0].bytes);
        assert!(text.contains("put") && text.contains("there is no lease 77"), "{text}");
        assert!(!text.contains("secret"), "{text}");
        node
    });
}
