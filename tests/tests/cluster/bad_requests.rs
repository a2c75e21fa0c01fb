//! What bad requests get, over real sockets: a status, a code, a sentence, and nothing changed.

use mainstay_tests::{Client, Cluster, Request, base64};
use serde_json::{Value, json};

use crate::PROGRAM;

/// Longest key in bytes.
const KEY_MAX: usize = 8 * 1024;

/// Longest value in bytes: 1.5 MiB.
const VALUE_MAX: usize = 1_536 * 1024;

/// One bad request and what it gets. The sentence must have all of `words`.
struct Case {
    name: &'static str,
    request: Request,
    status: u16,
    code: &'static str,
    words: Vec<&'static str>,
}

fn case(name: &'static str, request: Request, status: u16, code: &'static str) -> Case {
    Case { name, request, status, code, words: Vec::new() }
}

impl Case {
    fn says(mut self, words: &[&'static str]) -> Self {
        self.words.extend(words);
        self
    }
}

fn put_operation(key: &str) -> Value {
    json!({"put": {"key": base64(key), "value": base64("v")}})
}

fn txn(client: &Client, operations: &[Value]) -> Request {
    client.post("/v1/txn", &json!({ "success": operations }))
}

/// Keys and values.
fn keys(client: &Client) -> Vec<Case> {
    let path = |query: &str| client.request("GET", &format!("/v1/kv/k{query}"));
    let long = "k".repeat(KEY_MAX + 1);
    vec![
        case("an empty key, written", client.request("PUT", "/v1/kv/").body("v"), 400, "key_empty"),
        case("an empty key, read", client.request("GET", "/v1/kv/"), 400, "key_empty"),
        case("an empty key, deleted", client.request("DELETE", "/v1/kv/"), 400, "key_empty"),
        case("an oversized key", client.put(&long, "v"), 400, "key_too_large").says(&["8192"]),
        case("an oversized value", client.put("k", vec![b'v'; VALUE_MAX + 1]), 413, "too_large")
            .says(&["1572864"]),
        case("a body far too large", client.put("k", vec![b'v'; 8 * VALUE_MAX]), 413, "too_large"),
        case("a stray percent", client.request("GET", "/v1/kv/a%zz"), 400, "bad_request")
            .says(&["%"]),
        case("an unknown parameter", path("?revison=1"), 400, "bad_parameter")
            .says(&["revison", "revision"]),
        case("a parameter twice", path("?revision=1&revision=2"), 400, "bad_parameter")
            .says(&["revision", "twice"]),
        case("a revision in words", path("?revision=seven"), 400, "bad_parameter")
            .says(&["revision"]),
        case("a negative revision", path("?revision=-1"), 400, "bad_parameter").says(&["revision"]),
        case("an unknown consistency", path("?consistency=fast"), 400, "bad_parameter").says(&[
            "consistency",
            "linearizable",
            "stale",
        ]),
        case("a future revision", path("?revision=999999999"), 400, "future_revision")
            .says(&["999999999"]),
        case("a compacted revision", path("?revision=1"), 410, "compacted"),
        case("no such key", client.get("nobody"), 404, "not_found"),
        case(
            "a lease that does not exist",
            client.request("PUT", "/v1/kv/k?lease=12345").body("v"),
            404,
            "lease_not_found",
        )
        .says(&["12345"]),
        case(
            "a lease in words",
            client.request("PUT", "/v1/kv/k?lease=mine").body("v"),
            400,
            "bad_parameter",
        )
        .says(&["lease"]),
    ]
}

/// Conditions and other headers.
fn headers(client: &Client) -> Vec<Case> {
    let put = |name: &str, value: &str| client.put("k", "new").header(name, value);
    let long = "x".repeat(65);
    vec![
        case("an existing key, created", put("If-None-Match", "*"), 409, "exists"),
        case("another revision", put("If-Match", "\"1\""), 412, "compare_failed"),
        case("a revision without quotes", put("If-Match", "1"), 400, "bad_header")
            .says(&["If-Match"]),
        case("an unknown condition", put("Mainstay-If-Version", "1"), 400, "bad_header")
            .says(&["mainstay-if-version"]),
        case("a timeout of nothing", put("Mainstay-Timeout-Ms", "0"), 400, "bad_header")
            .says(&["Mainstay-Timeout-Ms", "60000"]),
        case("an empty idempotency key", put("Idempotency-Key", ""), 400, "bad_header")
            .says(&["Idempotency-Key", "64"]),
        case("a long idempotency key", put("Idempotency-Key", &long), 400, "bad_header")
            .says(&["Idempotency-Key", "64"]),
        case("a used idempotency key", put("Idempotency-Key", "used"), 422, "key_reused"),
        case("a session without a number", put("Mainstay-Session", "1"), 400, "bad_header")
            .says(&["Mainstay-Session-Number"]),
        case("an unknown session", client.put("k", "new").session("999", 1), 409, "session_ended"),
    ]
}

/// Pages, and routes that do not exist.
fn routes(client: &Client) -> Vec<Case> {
    let get = |path: &str| client.request("GET", path);
    vec![
        case("an unknown route", get("/v1/kvs"), 404, "unknown_route").says(&["/v1/kvs"]),
        case("an unknown method", client.request("PATCH", "/v1/kv/k"), 405, "method_not_allowed")
            .says(&["PATCH"]),
        case("a method of another route", get("/v1/txn"), 405, "method_not_allowed").says(&["GET"]),
        case("a page of nothing", get("/v1/kv?prefix=a&limit=0"), 400, "bad_parameter")
            .says(&["limit", "10000"]),
        case("a page of everything", get("/v1/kv?prefix=a&limit=10001"), 400, "bad_parameter")
            .says(&["limit", "10000"]),
        case("a broken cursor", get("/v1/kv?prefix=a&cursor=abc"), 400, "bad_parameter")
            .says(&["cursor"]),
        case("a broken flag", get("/v1/kv?prefix=a&keys_only=maybe"), 400, "bad_parameter")
            .says(&["keys_only"]),
        case("broken base64", get("/v1/kv?prefix_base64=!!!"), 400, "bad_parameter")
            .says(&["prefix_base64", "base64"]),
        case("a page of the future", get("/v1/kv?revision=999999999"), 400, "future_revision"),
        case("a page of the past", get("/v1/kv?revision=1"), 410, "compacted"),
        case("too many elections", get("/v1/failure-detector?limit=1001"), 400, "bad_parameter")
            .says(&["limit", "1000"]),
        case("a watch of nothing", get("/v1/watch"), 400, "bad_parameter"),
        case("a watch with a wrong filter", get("/v1/watch?key=k&filter=no"), 400, "bad_parameter")
            .says(&["filter", "no_put"]),
        case("a watch in a hurry", get("/v1/watch?key=k&progress_ms=1"), 400, "bad_parameter")
            .says(&["progress_ms", "100"]),
        case("a watch from a word", get("/v1/watch?key=k&from_revision=x"), 400, "bad_parameter")
            .says(&["from_revision"]),
    ]
}

/// JSON bodies: transactions, leases, compaction.
fn documents(client: &Client) -> Vec<Case> {
    let post = |path: &str, text: &str| client.request("POST", path).body(text);
    let many: Vec<_> = (0..129).map(|number| put_operation(&format!("many/{number}"))).collect();
    let long = "k".repeat(KEY_MAX + 1);
    let value = base64("v".repeat(VALUE_MAX + 1));
    let nested = |inside: Value| json!({"txn": {"success": [inside]}});
    vec![
        case("malformed JSON", post("/v1/txn", "{\n  \"success\": [}"), 400, "malformed_json")
            .says(&["line 2", "column"]),
        case("half a document", post("/v1/txn", "{\"success\": ["), 400, "malformed_json")
            .says(&["line 1"]),
        case("an unknown field", post("/v1/txn", "{\"sucess\": []}"), 400, "malformed_json")
            .says(&["sucess"]),
        case(
            "a list for a number",
            post("/v1/compact", "{\"revision\": [7]}"),
            400,
            "malformed_json",
        ),
        case("129 operations", txn(client, &many), 400, "too_many_operations").says(&["128"]),
        case(
            "the same key twice",
            txn(client, &[put_operation("twice"), put_operation("twice")]),
            400,
            "duplicate_key",
        ),
        case(
            "the same key twice, once nested",
            txn(client, &[put_operation("twice"), nested(put_operation("twice"))]),
            400,
            "duplicate_key",
        ),
        case("an empty key in a transaction", txn(client, &[put_operation("")]), 400, "key_empty"),
        case(
            "an oversized key in a transaction",
            txn(client, &[put_operation(&long)]),
            400,
            "key_too_large",
        ),
        case(
            "an oversized value in a transaction",
            txn(client, &[json!({"put": {"key": base64("k"), "value": value}})]),
            413,
            "too_large",
        ),
        case(
            "a transaction with a lease that does not exist",
            txn(
                client,
                &[
                    put_operation("beside"),
                    json!({"put": {"key": base64("k"), "value": "", "lease": "12345"}}),
                ],
            ),
            404,
            "lease_not_found",
        ),
        case(
            "a lease that does not exist, kept alive",
            client.request("POST", "/v1/leases/12345/keep-alive"),
            404,
            "lease_not_found",
        ),
        case(
            "a lease that does not exist, revoked",
            client.request("DELETE", "/v1/leases/12345"),
            404,
            "lease_not_found",
        ),
        case(
            "a lease for ever",
            client.post("/v1/leases", &json!({"ttl_ms": u64::MAX / 2})),
            400,
            "lease_ttl_too_large",
        ),
        case(
            "compaction of the future",
            client.post("/v1/compact", &json!({"revision": "999999999"})),
            400,
            "future_revision",
        ),
        case(
            "compaction of what is compacted",
            client.post("/v1/compact", &json!({"revision": "1"})),
            410,
            "compacted",
        ),
    ]
}

/// Changes of leader in a cluster of one.
fn leaders(client: &Client) -> Vec<Case> {
    vec![
        case(
            "a leader that is none of the members",
            client.post("/v1/cluster/leader", &json!({"to": "nobody"})),
            404,
            "unknown_member",
        )
        .says(&["nobody", "n1", "the leader stays"]),
        case(
            "another leader where there is nobody else",
            client.request("POST", "/v1/cluster/leader"),
            409,
            "no_candidate",
        )
        .says(&["the leader stays"]),
        case(
            "a leader by two names",
            client.post("/v1/cluster/leader", &json!({"to": ["n1", "n2"]})),
            400,
            "malformed_json",
        )
        .says(&["name", "id"]),
        case(
            "a change of leader with an idempotency key",
            client.request("POST", "/v1/cluster/leader").key("once"),
            400,
            "bad_header",
        )
        .says(&["Idempotency-Key"]),
    ]
}

/// The revision, and all pairs, as one text.
async fn everything(client: &Client) -> String {
    let answer = client.request("GET", "/v1/kv?prefix=").answer().await;
    answer.expect_status(200).text()
}

#[tokio::test]
async fn a_bad_request_gets_a_status_a_code_a_sentence_and_changes_nothing() {
    let cluster = Cluster::one(PROGRAM).await;
    let client = cluster[0].client();
    for value in ["1", "2", "3"] {
        client.put("k", value).answer().await.expect_status(200);
    }
    let used = client.put("other", "1").key("used").answer().await;
    let compact = json!({"revision": used.expect_status(200).revision().to_string()});
    client.post("/v1/compact", &compact).answer().await.expect_status(200);
    let before = everything(client).await;

    let mut wrong = Vec::new();
    let cases = [keys(client), headers(client), routes(client), documents(client), leaders(client)];
    for case in cases.into_iter().flatten() {
        let answer = match case.request.send().await {
            Ok(answer) => answer,
            Err(error) => {
                wrong.push(format!("{}: {error}", case.name));
                continue;
            }
        };
        let Some(problem) = answer.problem() else {
            wrong.push(format!("{}: {} {}", case.name, answer.status, answer.text()));
            continue;
        };
        let is_right = answer.status == case.status
            && problem.status == u64::from(case.status)
            && problem.code == case.code
            && problem.took_effect == "no"
            && !problem.detail.is_empty()
            && case.words.iter().all(|word| problem.detail.contains(word))
            && (case.status != 405 || !answer.header("Allow").is_empty());
        if !is_right {
            let wanted = format!("{} {} {:?}", case.status, case.code, case.words);
            wrong
                .push(format!("{}: wanted {wanted}, got {} {problem:?}", case.name, answer.status));
        }
        let after = everything(client).await;
        assert_eq!(after, before, "{} changed something", case.name);
    }
    assert!(wrong.is_empty(), "{} cases are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn what_is_just_within_the_limits_is_taken() {
    let cluster = Cluster::three(PROGRAM).await;
    let client = cluster[0].client();
    let key = "k".repeat(KEY_MAX);
    client.put(&key, "v").answer().await.expect_status(200);
    client.put("large", vec![b'v'; VALUE_MAX]).answer().await.expect_status(200);
    for other in cluster.clients() {
        assert_eq!(other.get(&key).answer().await.expect_status(200).text(), "v");
        let read = other.get("large").answer().await;
        assert_eq!(read.expect_status(200).body.len(), VALUE_MAX);
    }
    let many: Vec<_> = (0..128).map(|number| put_operation(&format!("many/{number}"))).collect();
    let answer = txn(client, &many).answer().await;
    assert_eq!(answer.expect_status(200).json()["succeeded"], true);
    assert_eq!(client.pairs("many/").await.len(), 128);
}

#[tokio::test]
async fn a_connection_that_speaks_no_http_is_closed_and_the_node_goes_on() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let cluster = Cluster::one(PROGRAM).await;
    let address = cluster[0].plan.url();
    let address = address.strip_prefix("http://").expect("a URL").to_owned();
    for garbage in
        [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], &[0; 4096], b"HELO\r\n\r\n"]
    {
        let mut stream = tokio::net::TcpStream::connect(&address).await.expect("connects");
        stream.write_all(garbage).await.expect("sends");
        stream.shutdown().await.ok();
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        let ended = tokio::time::timeout(mainstay_tests::PATIENCE, read).await;
        assert!(ended.is_ok(), "the connection stays open");
    }
    cluster[0].client().get("harness/serves").answer().await.expect_status(200);
}
