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
        let again = node.post("/v1/compact", r#"{"revision":"3"}"#).await;
        assert_eq!(again.code(), "compacted");
        let detail = again.json()["detail"].as_str().expect("is text").to_owned();
        assert_eq!(detail, "everything below revision 4 is compacted already; nothing was done");
        node
    });
}

#[test]
fn what_is_no_http_gets_an_error_and_does_no_harm() {
    with_node(async |node| {
        let long = format!("GET /v1/kv/a HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(64 * 1024));
        let many = format!("GET /v1/kv/a HTTP/1.1\r\n{}\r\n", "x: 1\r\n".repeat(200));
        for (garbage, status) in [
            (&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], "400"),
            (b"GET\r\n\r\n", "400"),
            (b"GET /v1/kv/a b HTTP/1.1\r\n\r\n", "400"),
            (b"\0\0\0\0\0\0\0\0\r\n\r\n", "400"),
            (b"PUT /v1/kv/a HTTP/1.1\r\ntransfer-encoding: gzip\r\n\r\nx", "400"),
            (b"GET /v1/kv/a HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx", "400"),
            (many.as_bytes(), "431"),
            (long.as_bytes(), "431"),
        ] {
            let answer = String::from_utf8(answer_to(&node.address, garbage).await);
            let answer = answer.expect("an answer is text");
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{garbage:?}: {answer:?}");
        }
        assert_eq!(node.get("/health/live").await.status, 200);
        node
    });
}

/// What comes back until the node closes the connection.
async fn answer_to(address: &str, bytes: &[u8]) -> Vec<u8> {
    let mut stream = RealNet.connect(address).await.expect("connects");
    // The node may refuse it before all of it is written.
    let _written = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _broken = stream.read_to_end(&mut answer).await;
    answer
}

#[test]
fn an_answer_does_not_wait_for_the_rest_of_the_next_request() {
    with_node(async |node| {
        let mut stream = RealNet.connect(&node.address).await.expect("connects");
        let one_and_a_half = b"GET /livez HTTP/1.1\r\nhost: node\r\n\r\nGET /livez HT";
        stream.write_all(one_and_a_half).await.expect("writes");
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.expect("is answered");
        assert_eq!(&answer, b"HTTP/1.1 200");
        node
    });
}

#[test]
fn a_header_that_says_two_things_is_refused() {
    with_node(async |node| {
        for (name, one, other) in [
            ("if-match", "\"1\"", "\"2\""),
            ("if-none-match", "*", "*"),
            ("idempotency-key", "a", "b"),
            ("mainstay-timeout-ms", "1000", "2000"),
        ] {
            let answer = node.send("PUT", "/v1/kv/a", &[(name, one), (name, other)], "x").await;
            assert_eq!(
                (answer.status.as_u16(), answer.code().as_str()),
                (400, "bad_header"),
                "{name}"
            );
            let detail = answer.json()["detail"].as_str().expect("is text").to_owned();
            assert!(detail.contains("is given twice"), "{detail}");
        }
        assert_eq!(node.get("/v1/kv/a").await.status, 404);
        node
    });
}

#[test]
fn what_is_wrong_with_a_document_is_told_in_words_of_the_api() {
    with_node(async |node| {
        let one_of = "expected an object with one of put, delete, range, txn";
        for (path, body, says) in [
            ("/v1/txn", "null", "expected an object"),
            ("/v1/txn", r#"{"success":[{}]}"#, one_of),
            (
                "/v1/txn",
                r#"{"success":[{"range":{"key":"YQ=="},"delete":{"key":"YQ=="}}]}"#,
                one_of,
            ),
            ("/v1/txn", r#"{"success":["put"]}"#, one_of),
            ("/v1/txn", r#"{"success":[{"put":7}]}"#, "expected an object"),
            ("/v1/leases", r#"{"ttl_ms":"10000"}"#, "expected a whole number that is not negative"),
            ("/v1/leases", r#"{"ttl_ms":-1}"#, "expected a whole number that is not negative"),
        ] {
            let answer = node.post(path, body).await;
            assert_eq!(answer.code(), "malformed_json", "{body}");
            let detail = answer.json()["detail"].as_str().expect("is text").to_owned();
            assert!(detail.contains(says), "{body}: {detail}");
            for inner in ["struct", "enum", "u64", "Form"] {
                assert!(!detail.contains(inner), "{body}: {detail}");
            }
        }
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
