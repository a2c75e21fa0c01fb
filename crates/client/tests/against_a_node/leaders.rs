//! Changes of leader, and what a node tells of the others.

use mainstay_client::{ElectionPhases, TookEffect};

use crate::node::{Node, Reply, client, dead_endpoint, json, problem};

const CHANGED: &str = r#"{"changed":true,"from":"11","from_name":"n1","leader":"12","leader_name":"n2","term":"5","took_ms":12,"wanted":"12","wanted_name":"n2"}"#;

#[tokio::test]
async fn another_node_leads_by_name_or_by_nobodys_wish() {
    let dead = dead_endpoint().await;
    let node = Node::start([json(CHANGED), json(CHANGED)]).await;
    let client = client(&[&dead, &node.endpoint]);
    let change = client.transfer_leadership(Some("n2")).await.expect("changed").value;
    assert_eq!((change.leader, change.leader_name.as_deref()), (12, Some("n2")));
    assert_eq!((change.changed, change.term, change.took_ms), (true, 5, 12));
    client.transfer_leadership(None).await.expect("changed");
    let seen = node.seen();
    assert_eq!(seen[0].line, "POST /v1/cluster/leader HTTP/1.1");
    assert_eq!((seen[0].body.as_str(), seen[1].body.as_str()), (r#"{"to":"n2"}"#, "{}"));
}

#[tokio::test]
async fn a_transfer_of_unknown_outcome_is_not_asked_for_again() {
    for lost in [Reply::Drop, Reply::Silence, problem(504, "outcome_unknown", "unknown", "")] {
        let first = Node::start([lost]).await;
        let second = Node::start([json(CHANGED)]).await;
        let client = client(&[&first.endpoint, &second.endpoint]);
        let error = client.transfer_leadership(Some("n2")).await.expect_err("nobody knows");
        assert_eq!(error.took_effect, TookEffect::Unknown);
        assert_eq!((first.seen().len(), second.seen().len()), (1, 0));
    }
}

#[tokio::test]
async fn a_refused_transfer_ends_and_one_without_a_leader_waits_for_it() {
    for code in ["lagging", "not_healthy", "not_a_voter", "no_candidate", "busy"] {
        let more = r#","retry_after_ms":1000"#;
        let node = Node::start([problem(409, code, "no", more), json(CHANGED)]).await;
        let error = client(&[&node.endpoint]).transfer_leadership(None).await.expect_err(code);
        assert_eq!((error.code(), error.took_effect), (Some(code), TookEffect::No));
        assert_eq!(node.seen().len(), 1);
    }
    let node = Node::start([problem(503, "no_leader", "no", ""), json(CHANGED)]).await;
    client(&[&node.endpoint]).transfer_leadership(None).await.expect("at the second attempt");
}

#[tokio::test]
async fn a_node_tells_whom_it_hears_and_why_leaders_changed() {
    let told = r#"{"node":{"id":"11","name":"n1","leader":null,"leader_name":null,"score":1,
        "reason":"scheduling_lag","scheduling_lag_ms":12.5,"oldest_sync_ms":0,"stall_budget_ms":300,
        "silent_peers":1,"local_pauses":"2","unknown_heartbeats":"0","new":"in a later version"},
        "peers":[{"id":"12","name":"n2","level":"suspect","phi":9.25,"suspect_threshold":9,
        "failed_threshold":18,"score":1,"reason":"scheduling_lag","mean_ms":50.1,"deviation_ms":5,
        "acceptable_pause_ms":50,"tail_scale_ms":25,"period_ms":50,"silence_ms":181.5,
        "oldest_sync_ms":1,"scheduling_lag_ms":0.5,"tail_share":0.02,"samples":"200",
        "incarnation":"18446744073709551615","heartbeats":"900","missed":"3","mistakes":"0",
        "ignored":{"duplicate":"1","reordered":"2","old_incarnation":"3","absurd":"4"}}],
        "elections":[{"term":"5","leader":"12","leader_name":"n2","previous":"11",
        "previous_name":"n1","at_ms":1700000000000,"cause":"silence","why":"it was silent",
        "numbers":{"phi":8.25,"threshold":8},
        "phases":{"silence_ms":312,"pre_vote_ms":null,"vote_ms":6,"ready_ms":9}}]}"#;
    let node = Node::start([Reply::Drop, json(told)]).await;
    let answer = client(&[&node.endpoint]).failure_detector(7).await.expect("a read is repeated");
    let told = answer.value;
    assert_eq!((told.node.leader, told.node.score, told.node.local_pauses), (None, 1, 2));
    let peer = &told.peers[0];
    assert_eq!((peer.phi, peer.suspect_threshold, peer.incarnation), (Some(9.25), 9.0, u64::MAX));
    assert_eq!(peer.ignored.total(), 10);
    let election = &told.elections[0];
    assert_eq!((election.previous, election.numbers["phi"]), (Some(11), 8.25));
    let phases = ElectionPhases {
        silence_ms: Some(312),
        pre_vote_ms: None,
        vote_ms: Some(6),
        ready_ms: Some(9),
    };
    assert_eq!(election.phases, phases);
    assert_eq!(node.seen()[1].line, "GET /v1/failure-detector?limit=7 HTTP/1.1");
}
