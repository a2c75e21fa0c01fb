//! Single calls: what is sent, what is sent again, and what is given up.

use bytes::Bytes;
use mainstay_client::{
    Condition, Failure, Origin, PageRequest, PutRequest, TookEffect, TxnRequest, txn_from_json,
};

use crate::node::{Node, Reply, answer, client, dead_endpoint, json, options, problem};

const WRITTEN: &str = r#"{"revision":"7","created":true}"#;

fn put() -> PutRequest {
    PutRequest::new("a", "1")
}

fn recognised_put() -> PutRequest {
    PutRequest { origin: Origin::Key(Bytes::from_static(b"once")), ..put() }
}

#[tokio::test]
async fn a_key_is_read_with_its_history() {
    let headers = [
        ("mainstay-cluster-id", "5"),
        ("mainstay-revision", "9"),
        ("mainstay-create-revision", "2"),
        ("mainstay-mod-revision", "7"),
        ("mainstay-version", "3"),
        ("mainstay-lease", "77"),
    ];
    let node = Node::start([Reply::Answer(answer(200, &headers, "value"))]).await;
    let answer = client(&[&node.endpoint]).get("dir/a b").await.expect("an answer");
    let pair = answer.value.expect("there is such a key");
    assert_eq!((&pair.key[..], &pair.value[..]), (&b"dir/a b"[..], &b"value"[..]));
    assert_eq!((pair.create_revision, pair.mod_revision, pair.version), (2, 7, 3));
    assert_eq!((pair.lease, answer.header.revision, answer.header.cluster_id), (77, 9, 5));
    let seen = &node.seen()[0];
    assert_eq!(seen.line, "GET /v1/kv/dir/a%20b HTTP/1.1");
    assert_eq!(seen.headers["host"], node.endpoint.address());
}

#[tokio::test]
async fn no_key_is_an_answer_and_no_route_is_an_error() {
    let replies = [problem(404, "not_found", "no", ""), problem(404, "unknown_route", "no", "")];
    let node = Node::start(replies).await;
    let client = client(&[&node.endpoint]);
    assert_eq!(client.get("a").await.expect("an answer").value, None);
    assert!(client.get("a").await.is_err());
}

#[tokio::test]
async fn conditions_and_leases_travel_with_a_put() {
    let node = Node::start([json(WRITTEN), json(WRITTEN)]).await;
    let client = client(&[&node.endpoint]);
    let request = PutRequest { lease: 77, condition: Some(Condition::ModRevision(6)), ..put() };
    let written = client.put(request).await.expect("written").value;
    assert_eq!((written.revision, written.created), (7, true));
    client.put(PutRequest { condition: Some(Condition::Absent), ..put() }).await.expect("written");
    let seen = node.seen();
    assert_eq!(seen[0].line, "PUT /v1/kv/a?lease=77 HTTP/1.1");
    assert_eq!((seen[0].headers["if-match"].as_str(), seen[0].body.as_str()), ("\"6\"", "1"));
    assert_eq!(seen[1].headers["if-none-match"], "*");
}

#[tokio::test]
async fn calls_share_a_connection() {
    let node = Node::start([json(WRITTEN), json(WRITTEN)]).await;
    let client = client(&[&node.endpoint]);
    for _ in 0..2 {
        client.put(put()).await.expect("written");
    }
    assert_eq!(node.seen().iter().map(|seen| seen.connection).max(), Some(0));
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_costs_a_write_nothing() {
    let closing = Reply::AnswerThenClose(answer(200, &[], WRITTEN));
    let node = Node::start([closing, json(WRITTEN)]).await;
    let client = client(&[&node.endpoint]);
    for _ in 0..2 {
        client.put(put()).await.expect("written");
    }
    let connections: Vec<_> = node.seen().iter().map(|seen| seen.connection).collect();
    assert_eq!(connections, [0, 1]);
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_reached_is_passed_over_and_then_left_alone() {
    let dead = dead_endpoint().await;
    let node = Node::start([json(WRITTEN), json(WRITTEN)]).await;
    let client = client(&[&dead, &node.endpoint]);
    client.put(put()).await.expect("written");
    client.put(put()).await.expect("written");
    assert_eq!(node.seen().len(), 2);
}

#[tokio::test]
async fn nobody_at_home_is_said_soon_and_had_no_effect() {
    let (one, other) = (dead_endpoint().await, dead_endpoint().await);
    let error = client(&[&one, &other]).put(put()).await.expect_err("nobody is there");
    assert_eq!(error.took_effect, TookEffect::No);
    assert!(matches!(error.failure, Failure::Unreachable { .. }));
    assert!(error.attempts >= 2);
}

#[tokio::test]
async fn a_bare_write_that_lost_its_answer_is_not_sent_again() {
    for lost in [Reply::Drop, Reply::Silence] {
        let first = Node::start([lost]).await;
        let second = Node::start([json(WRITTEN)]).await;
        let client = client(&[&first.endpoint, &second.endpoint]);
        let error = client.put(put()).await.expect_err("the answer is lost");
        assert_eq!(error.took_effect, TookEffect::Unknown);
        assert_eq!((first.seen().len(), second.seen().len()), (1, 0));
    }
}

#[tokio::test]
async fn a_recognised_write_that_lost_its_answer_is_sent_again_as_the_same() {
    for lost in [Reply::Drop, Reply::Silence, problem(504, "outcome_unknown", "unknown", "")] {
        let first = Node::start([lost]).await;
        let second = Node::start([json(WRITTEN)]).await;
        let client = client(&[&first.endpoint, &second.endpoint]);
        let written = client.put(recognised_put()).await.expect("written").value;
        assert_eq!(written.revision, 7);
        assert_eq!(first.seen()[0].headers["idempotency-key"], "once");
        assert_eq!(second.seen()[0].headers["idempotency-key"], "once");
    }
}

#[tokio::test]
async fn any_write_that_was_refused_for_now_is_sent_again() {
    for refusal in [
        problem(503, "no_leader", "no", r#","retry_after_ms":1000"#),
        problem(503, "shutting_down", "no", ""),
        problem(503, "read_only", "no", r#","reason":"no_quorum""#),
        problem(503, "read_only", "no", r#","reason":"storage_failed""#),
        problem(429, "overloaded", "no", r#","retry_after_ms":10"#),
    ] {
        let node = Node::start([refusal, json(WRITTEN)]).await;
        client(&[&node.endpoint]).put(put()).await.expect("written at the second attempt");
        assert_eq!(node.seen().len(), 2);
    }
}

#[tokio::test]
async fn what_waiting_cannot_cure_is_not_sent_again() {
    for refusal in [
        problem(412, "compare_failed", "no", ""),
        problem(503, "read_only", "no", r#","reason":"quota","retry_after_ms":1000"#),
        problem(503, "read_only", "no", r#","reason":"operator","retry_after_ms":1000"#),
        problem(503, "read_only", "no", r#","reason":"disk_reserve""#),
        problem(503, "read_only", "no", r#","reason":"a word of the future""#),
        problem(429, "idempotency_full", "no", r#","retry_after_ms":60000"#),
        problem(504, "outcome_unknown", "unknown", ""),
        problem(503, "no_leader", "yes", ""),
    ] {
        let node = Node::start([refusal, json(WRITTEN)]).await;
        client(&[&node.endpoint]).put(put()).await.expect_err("final");
        assert_eq!(node.seen().len(), 1);
    }
}

#[tokio::test]
async fn a_refusal_in_read_only_mode_has_a_type() {
    let refusal = problem(503, "read_only", "no", r#","reason":"operator""#);
    let node = Node::start([refusal]).await;
    let error = client(&[&node.endpoint]).put(put()).await.expect_err("refused");
    assert_eq!(error.read_only(), Some(mainstay_client::ReadOnly::Operator));
    assert_eq!(error.took_effect, TookEffect::No);
}

#[tokio::test]
async fn what_an_earlier_attempt_left_unknown_stays_so_unless_it_is_settled() {
    let full = problem(429, "idempotency_full", "no", r#","retry_after_ms":60000"#);
    let settled = problem(412, "compare_failed", "no", "");
    for (last, expected) in [(full, TookEffect::Unknown), (settled, TookEffect::No)] {
        let node = Node::start([Reply::Drop, last]).await;
        let error = client(&[&node.endpoint]).put(recognised_put()).await.expect_err("refused");
        assert_eq!((error.took_effect, error.attempts), (expected, 2));
    }
}

#[tokio::test]
async fn reads_are_repeated_whatever_happened_and_never_have_an_effect() {
    let page = json(r#"{"revision":"8","count":"0","pairs":[],"cursor":null}"#);
    let unknown = problem(504, "timeout", "unknown", "");
    let node = Node::start([Reply::Drop, unknown, Reply::Silence, page]).await;
    let client = client(&[&node.endpoint]);
    client.page(&PageRequest::default()).await.expect("an answer at the fourth attempt");
    let error = client.page(&PageRequest::default()).await.expect_err("only silence is left");
    assert_eq!(error.took_effect, TookEffect::No);
}

#[tokio::test]
async fn something_that_is_no_node_is_reported_as_such() {
    let node = Node::start([Reply::Answer(answer(200, &[], "<html>"))]).await;
    let error = client(&[&node.endpoint]).cluster().await.expect_err("no JSON");
    assert!(matches!(error.failure, Failure::Malformed { .. }));
}

#[tokio::test]
async fn all_pages_are_read_with_the_cursor_of_the_one_before() {
    let pair = r#"{"key":"YQ==","value":"MQ==","create_revision":"2","mod_revision":"7","version":"3","lease":"0"}"#;
    let page = |cursor: &str| {
        json(&format!(r#"{{"revision":"8","count":"2","pairs":[{pair}],"cursor":{cursor}}}"#))
    };
    let node = Node::start([page(r#""c+1""#), page("null")]).await;
    let request =
        PageRequest { prefix: Bytes::from_static(b"a"), limit: Some(1), ..PageRequest::default() };
    let mut pages = client(&[&node.endpoint]).pages(request);
    let mut pairs = 0;
    while let Some(page) = pages.next().await.expect("a page") {
        pairs += page.pairs.len();
    }
    assert_eq!(pairs, 2);
    let seen = node.seen();
    assert_eq!(seen[0].line, "GET /v1/kv?prefix_base64=YQ%3D%3D&limit=1 HTTP/1.1");
    assert!(seen[1].line.contains("&cursor=c%2B1 "), "{}", seen[1].line);
}

#[tokio::test]
async fn a_transaction_that_only_reads_is_repeated_like_a_read() {
    let outcome = r#"{"revision":"9","succeeded":true,"operations":[{"range":{"pairs":[],"more":false,"count":"0"}}]}"#;
    let node = Node::start([Reply::Drop, json(outcome), Reply::Drop]).await;
    let client = client(&[&node.endpoint]);
    let reads = txn_from_json(br#"{"success":[{"range":{"key":"YQ=="}}]}"#).expect("a txn");
    let answer = client.txn(TxnRequest::new(reads)).await.expect("an answer").value;
    assert!(answer.outcome.succeeded && answer.revision == 9);
    let writes = txn_from_json(br#"{"success":[{"delete":{"key":"YQ=="}}]}"#).expect("a txn");
    let error = client.txn(TxnRequest::new(writes)).await.expect_err("the answer is lost");
    assert_eq!(error.took_effect, TookEffect::Unknown);
}

#[tokio::test]
async fn a_session_numbers_its_writes() {
    let opened = json(r#"{"session":"12","ttl_ms":600000}"#);
    let node = Node::start([opened, Reply::Drop, json(WRITTEN), json(WRITTEN)]).await;
    let session = client(&[&node.endpoint]).open_session().await.expect("a session");
    session.put(put()).await.expect("written");
    session.put(put()).await.expect("written");
    let numbers: Vec<_> = node.seen()[1..]
        .iter()
        .map(|seen| {
            let header = |name: &str| seen.headers[name].clone();
            assert_eq!(header("mainstay-session"), "12");
            (header("mainstay-session-number"), header("mainstay-session-lowest-awaited"))
        })
        .collect();
    let pair = |number: &str| (number.to_owned(), number.to_owned());
    assert_eq!(numbers, [pair("1"), pair("1"), pair("2")]);
}

#[tokio::test]
async fn leases_are_granted_renewed_looked_at_and_revoked() {
    let node = Node::start([
        json(r#"{"id":"77","ttl_ms":10000,"revision":"9"}"#),
        json(r#"{"id":"77","ttl_ms":10000}"#),
        json(r#"{"id":"77","ttl_ms":10000,"remaining_ms":8200,"keys":["YQ=="],"revision":"9"}"#),
        json(r#"{"revision":"9","leases":["77"]}"#),
        json(r#"{"deleted":"1","revision":"10"}"#),
    ])
    .await;
    let client = client(&[&node.endpoint]);
    assert_eq!(client.lease_grant(10_000, 0).await.expect("granted").value.id, 77);
    assert_eq!(client.lease_keep_alive(77).await.expect("renewed").value.ttl_ms, 10_000);
    let lease = client.lease(77).await.expect("a lease").value;
    assert_eq!((lease.remaining_ms, &lease.keys[0][..]), (8200, &b"a"[..]));
    assert_eq!(client.leases().await.expect("a list").value, [77]);
    assert_eq!(client.lease_revoke(77).await.expect("revoked").value.deleted, 1);
    assert_eq!(node.seen()[0].body, r#"{"ttl_ms":10000,"id":"0"}"#);
}

#[tokio::test]
async fn a_sick_node_still_tells_its_health() {
    let body = r#"{"status":"unhealthy","health":"false","reason":"no disk","checks":[{"name":"disk","ok":false,"detail":""}]}"#;
    let node = Node::start([Reply::Answer(answer(503, &[], body))]).await;
    let health = client(&[&node.endpoint]).health().await.expect("an answer").value;
    assert_eq!((health.status.as_str(), health.checks[0].ok), ("unhealthy", false));
}

#[tokio::test]
async fn nodes_are_told_to_give_up_before_the_client_does() {
    let node = Node::start([json(WRITTEN)]).await;
    let client = mainstay_client::Client::new(
        std::sync::Arc::new(mainstay_world::RealNet),
        options(&[&node.endpoint]),
    );
    client.put(put()).await.expect("written");
    let told: u64 = node.seen()[0].headers["mainstay-timeout-ms"].parse().expect("a number");
    assert!((1000..=1400).contains(&told), "{told}");
}
