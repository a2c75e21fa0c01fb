//! What a client does without being asked: a session for its writes, and the members' endpoints.

use std::{sync::Arc, time::Duration};

use mainstay_client::{Client, ClientOptions, PutRequest, TookEffect};
use mainstay_world::RealNet;

use crate::node::{Node, Reply, dead_endpoint, json, options, problem};

const SESSION: &str = r#"{"session":"77","ttl_ms":600000}"#;
const WRITTEN: &str = r#"{"revision":"9","created":true}"#;

/// A client of this node as programs have it.
fn client(node: &Node) -> Client {
    let options = ClientOptions { sessions: true, ..options(&[&node.endpoint]) };
    Client::new(Arc::new(RealNet), options)
}

#[tokio::test]
async fn writes_are_numbered_in_one_session_that_is_opened_with_the_first() {
    let node = Node::start([json(SESSION), json(WRITTEN), Reply::Drop, json(WRITTEN)]).await;
    let client = client(&node);
    client.put(PutRequest::new("a", "1")).await.expect("written");
    client.clone().put(PutRequest::new("a", "2")).await.expect("written when asked again");
    let seen = node.seen();
    let lines: Vec<_> = seen.iter().map(|request| request.line.as_str()).collect();
    let put = "PUT /v1/kv/a HTTP/1.1";
    assert_eq!(lines, ["POST /v1/sessions HTTP/1.1", put, put, put]);
    let numbers: Vec<_> = seen[1..]
        .iter()
        .map(|request| request.headers["mainstay-session-number"].as_str())
        .collect();
    assert_eq!(numbers, ["1", "2", "2"], "what is repeated keeps its number");
    assert!(seen[1..].iter().all(|request| request.headers["mainstay-session"] == "77"));
}

#[tokio::test]
async fn a_session_that_ended_is_replaced_when_the_write_had_no_effect() {
    let ended = || problem(409, "session_ended", "no", "");
    let script = [json(SESSION), json(WRITTEN), ended(), json(SESSION), json(WRITTEN)];
    let node = Node::start(script).await;
    let client = client(&node);
    for value in ["1", "2"] {
        client.put(PutRequest::new("a", value)).await.expect("written");
    }
    assert_eq!(node.seen().len(), 5);

    // A write that may have arrived before is not written anew.
    let node = Node::start([json(SESSION), Reply::Drop, ended(), json(WRITTEN)]).await;
    let error = self::client(&node).put(PutRequest::new("a", "1")).await.expect_err("nobody knows");
    assert_eq!((error.code(), error.took_effect), (Some("session_ended"), TookEffect::Unknown));
    assert_eq!(node.seen().len(), 3);
}

#[tokio::test]
async fn when_an_endpoint_fails_the_members_are_asked_for_and_the_leader_is_preferred() {
    // A document that answers both questions: which of the two comes first is not said.
    let members = |urls: &str| {
        json(&format!(
            r#"{{"cluster_id":"9","epoch":"1","term":"2","leader":"12","revision":"9",
            "failures_tolerated":0,"members":[{{"id":"12","name":"n2","role":"leader",
            "voter":true,"peer_address":"","client_urls":[{urls}],"healthy":true}}],"leases":[]}}"#
        ))
    };
    let dead = dead_endpoint().await;
    let leader = Node::start(std::iter::repeat_n(members(""), 1_000)).await;
    let url = format!(r#""http://{}""#, leader.endpoint.address());
    let follower = Node::start(std::iter::repeat_n(members(&url), 1_000)).await;
    let options = ClientOptions { discover: true, ..options(&[&dead, &follower.endpoint]) };
    let client = Client::new(Arc::new(RealNet), options);
    let found = mainstay_world::timeout(Duration::from_secs(10), async {
        while client.endpoints().len() < 3 {
            client.leases().await.expect("the second endpoint answers");
            mainstay_world::sleep(Duration::from_millis(20)).await;
        }
    });
    found.await.expect("the leader was found");
    assert_eq!(client.endpoints(), [dead, follower.endpoint.clone(), leader.endpoint.clone()]);
    client.leases().await.expect("the leader answers");
    assert_eq!(leader.seen().last().expect("it was asked").line, "GET /v1/leases HTTP/1.1");
    let asked = follower.seen().iter().filter(|seen| seen.line.contains("/v1/cluster")).count();
    assert_eq!(asked, 1);
}
