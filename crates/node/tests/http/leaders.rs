//! Who is alive and who leads, as a node of one member tells it.

use crate::harness::with_node;

#[test]
fn a_node_tells_how_it_is_and_why_it_leads() {
    with_node(async |node| {
        let answer = node.get("/v1/failure-detector").await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        let told = answer.json();
        let own = &told["node"];
        assert_eq!((&own["name"], &own["leader_name"]), (&"n1".into(), &"n1".into()));
        assert_eq!(own["id"], node.get("/v1/cluster").await.json()["leader"]);
        assert!(own["stall_budget_ms"].as_f64().is_some_and(|ms| ms >= 300.0), "{own}");
        assert!(own["score"].is_u64() && own["reason"].is_string(), "{own}");
        assert_eq!(told["peers"], serde_json::json!([]));
        // The election may be written down a moment after the first answers.
        node.until("the first election is told", async |node| {
            let told = node.get("/v1/failure-detector").await.json();
            let first = &told["elections"][0];
            first["cause"] == "no_leader" && first["leader_name"] == "n1"
        })
        .await;
        let none = node.get("/v1/failure-detector?limit=0").await.json();
        assert_eq!(none["elections"], serde_json::json!([]));
        for path in ["?limit=1001", "?limit=x", "?elections=1"] {
            let answer = node.get(&format!("/v1/failure-detector{path}")).await;
            assert_eq!(answer.code(), "bad_parameter", "{path}");
        }
        node
    });
}

#[test]
fn a_leader_that_nobody_can_follow_stays_and_says_why() {
    with_node(async |node| {
        let cluster = node.get("/v1/cluster").await.json();
        let id = cluster["leader"].as_str().expect("leads").to_owned();
        for to in [format!("\"{id}\""), id.clone(), "\"n1\"".to_owned()] {
            let answer = node.post("/v1/cluster/leader", format!("{{\"to\":{to}}}")).await;
            assert_eq!(answer.status, 200, "{:?}", answer.body);
            let document = answer.json();
            assert_eq!((&document["changed"], &document["took_ms"]), (&false.into(), &0.into()));
            assert_eq!(
                (&document["leader"], &document["from_name"]),
                (&cluster["leader"], &"n1".into())
            );
            assert_eq!(document["term"], cluster["term"]);
        }
        for (body, status, code, word) in [
            ("", 409, "no_candidate", "no other voter"),
            ("{}", 409, "no_candidate", "the leader stays"),
            (r#"{"to":"n9"}"#, 404, "unknown_member", "the members are n1"),
            (r#"{"to":""}"#, 404, "unknown_member", "no member \"\""),
            (r#"{"to":7}"#, 404, "unknown_member", "\"7\""),
        ] {
            let answer = node.post("/v1/cluster/leader", body).await;
            assert_eq!(answer.status.as_u16(), status, "{body}: {:?}", answer.body);
            assert_eq!(answer.code(), code, "{body}");
            let document = answer.json();
            assert_eq!(document["took_effect"], "no", "{body}");
            let detail = document["detail"].as_str().expect("is text");
            assert!(detail.contains(word), "{body}: {detail}");
        }
        let headers = [("idempotency-key", "once")];
        let answer = node.send("POST", "/v1/cluster/leader", &headers, "").await;
        assert_eq!(answer.code(), "bad_header");
        // It still leads, and in the same term.
        assert_eq!(node.put("/v1/kv/a", "1").await.status, 200);
        let after = node.get("/v1/cluster").await.json();
        assert_eq!((&after["leader"], &after["term"]), (&cluster["leader"], &cluster["term"]));
        node
    });
}

#[test]
fn metrics_tell_the_detector_and_every_cause_from_the_start() {
    with_node(async |node| {
        node.post("/v1/cluster/leader", "").await;
        let page = node.get("/metrics").await;
        let text = String::from_utf8(page.body.to_vec()).expect("is text");
        for line in [
            "mainstay_elections_total{cause=\"silence\"} 0",
            "mainstay_elections_total{cause=\"stall\"} 0",
            "mainstay_elections_total{cause=\"operator\"} 0",
            "mainstay_hand_overs_refused_total 1",
            "mainstay_silent_peers 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
        for name in [
            "mainstay_health_score ",
            "mainstay_scheduling_lag_seconds ",
            "mainstay_stall_budget_seconds ",
            "mainstay_oldest_unfinished_sync_seconds ",
            "mainstay_heartbeats_sent_total ",
            "mainstay_campaigns_total ",
            "mainstay_local_pauses_total ",
            "# TYPE mainstay_peer_phi gauge",
            "# TYPE mainstay_peer_heartbeats_ignored counter",
        ] {
            assert!(
                text.lines().any(|line| line.starts_with(name)),
                "{name} is missing in\n{text}"
            );
        }
        node
    });
}
