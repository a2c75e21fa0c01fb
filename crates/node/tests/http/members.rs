//! Changes of members that a cluster of one refuses, and with which words.

use crate::harness::with_node;

#[test]
fn a_change_of_members_that_cannot_be_is_refused_with_what_would_work() {
    with_node(async |node| {
        let before = node.get("/v1/cluster").await.json()["members"].clone();
        let id = before[0]["id"].as_str().expect("is text").to_owned();
        let closed = r#"{"peer_address":"127.0.0.1:1"}"#;
        let own = format!("{{\"peer_address\":{}}}", before[0]["peer_address"]);
        let members = "/v1/cluster/members";
        for (method, path, body, status, code, word) in [
            ("POST", members.to_owned(), closed, 409, "unreachable", "start it first"),
            ("POST", members.to_owned(), &own, 409, "unreachable", "this node itself"),
            (
                "POST",
                members.to_owned(),
                r#"{"peer_address":"n2"}"#,
                400,
                "bad_request",
                "host:port",
            ),
            (
                "POST",
                members.to_owned(),
                r#"{"peer":"a:1"}"#,
                400,
                "malformed_json",
                "peer_address",
            ),
            ("DELETE", format!("{members}/n1"), "", 409, "last_voter", "add another node first"),
            ("DELETE", format!("{members}/{id}?force=true"), "", 409, "last_voter", "n1"),
            ("DELETE", format!("{members}/n1?dry_run=true"), "", 409, "last_voter", "n1"),
            ("DELETE", format!("{members}/n9"), "", 404, "unknown_member", "member list"),
            ("POST", format!("{members}/99/promote"), "", 404, "unknown_member", "99"),
            ("DELETE", format!("{members}/n1?dry_run=maybe"), "", 400, "bad_parameter", "dry_run"),
        ] {
            let answer = node.send(method, &path, &[], body.to_owned()).await;
            assert_eq!(answer.status.as_u16(), status, "{method} {path}: {:?}", answer.body);
            assert_eq!(answer.code(), code, "{method} {path}");
            let document = answer.json();
            assert_eq!(document["took_effect"], "no", "{document}");
            let detail = document["detail"].as_str().expect("is text");
            assert!(detail.contains(word), "{method} {path}: {detail}");
        }
        let keyed = [("idempotency-key", "once")];
        let answer = node.send("DELETE", &format!("{members}/n1"), &keyed, "").await;
        assert_eq!(answer.code(), "bad_header");
        let promoted = node.post(&format!("{members}/n1/promote"), "").await;
        assert_eq!(promoted.status, 200, "{:?}", promoted.body);
        assert_eq!(promoted.json()["change"], "unchanged", "it has a vote already");
        assert_eq!(node.get("/v1/cluster").await.json()["members"], before);
        node
    });
}
