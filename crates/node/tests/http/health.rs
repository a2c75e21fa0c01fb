//! Health, version, metrics and the cluster as a node tells them.

use crate::harness::with_node;

#[test]
fn a_node_that_leads_is_live_ready_and_healthy() {
    with_node(async |node| {
        for path in ["/health/live", "/health/live/", "/livez", "/health/ready", "/readyz/"] {
            let answer = node.get(path).await;
            assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"ok\n"[..]), "{path}");
        }
        let verbose = node.get("/readyz?verbose").await;
        assert!(verbose.body.starts_with(b"[+]member ok\n"), "{:?}", verbose.body);
        for (path, wanted) in [
            ("/readyz/linearizable_read?verbose", (200, "[+]linearizable_read ok\nok\n")),
            ("/readyz/leader", (200, "ok\n")),
            ("/readyz/non_learner?verbose=", (200, "[+]non_learner ok\nok\n")),
            ("/livez/serializable_read?verbose", (200, "[+]serializable_read ok\nok\n")),
            ("/livez?verbose&exclude=serializable_read", (200, "ok\n")),
            ("/readyz?exclude=a&exclude=b&whatever=1", (200, "ok\n")),
        ] {
            let answer = node.get(path).await;
            let body = String::from_utf8(answer.body.to_vec()).expect("is text");
            assert_eq!((answer.status.as_u16(), &body[..]), wanted, "{path}");
        }
        for path in ["/readyz/nothing", "/livez/leader", "/livez/serializable_read/more"] {
            assert_eq!(node.get(path).await.code(), "unknown_route", "{path}");
        }
        let kubeadm = node.get("/health?exclude=NOSPACE&serializable=true").await;
        assert_eq!((kubeadm.status.as_u16(), &kubeadm.json()["health"]), (200, &"true".into()));
        let health = node.get("/health").await.json();
        assert_eq!(health["status"], "healthy");
        assert_eq!((&health["health"], &health["reason"]), (&"true".into(), &"".into()));
        assert!(health["checks"].as_array().is_some_and(|checks| checks.len() == 7));
        let version = node.get("/version").await.json();
        assert!(version["mainstay"].is_string() && version["etcdserver"].is_string());
        node
    });
}

#[test]
fn a_node_tells_its_cluster() {
    with_node(async |node| {
        let cluster = node.get("/v1/cluster").await.json();
        let member = &cluster["members"][0];
        assert_eq!(cluster["leader"], member["id"]);
        assert_eq!((&member["name"], &member["role"]), (&"n1".into(), &"leader".into()));
        assert_eq!((&member["voter"], &member["healthy"]), (&true.into(), &true.into()));
        assert_eq!(member["client_urls"][0], format!("http://{}", node.address));
        assert_eq!(cluster["failures_tolerated"], 0);
        assert_eq!(cluster["settings"]["quota_bytes"], "8589934592");
        assert_eq!(cluster["node"]["id"], member["id"]);
        assert_eq!(cluster["node"]["read_only"], serde_json::Value::Null);

        let settings = r#"{"quota_bytes":"4000000000","quota_warning_percent":70}"#;
        let changed = node.put("/v1/cluster/settings", settings).await;
        assert_eq!(changed.status, 200, "{:?}", changed.body);
        let cluster = node.get("/v1/cluster").await.json();
        assert_eq!(cluster["settings"]["quota_bytes"], "4000000000");
        assert_eq!(cluster["settings"]["quota_warning_percent"], 70);
        assert_eq!(cluster["settings"], changed.json());
        node
    });
}

#[test]
fn a_snapshot_is_taken_when_asked_for() {
    with_node(async |node| {
        node.put("/v1/kv/a", "1").await;
        let taken = node.post("/v1/cluster/snapshot", "").await;
        assert_eq!(taken.status, 200, "{:?}", taken.body);
        let index: u64 = taken.json()["index"].as_str().expect("is text").parse().expect("number");
        assert!(index > 0);
        node
    });
}

#[test]
fn metrics_have_the_names_that_dashboards_know() {
    with_node(async |node| {
        node.put("/v1/kv/a", "1").await;
        node.get("/v1/kv/none").await;
        let page = node.get("/metrics").await;
        assert!(page.header("content-type").starts_with("application/openmetrics-text"));
        let text = String::from_utf8(page.body.to_vec()).expect("is text");
        for line in [
            "etcd_server_has_leader 1",
            "etcd_server_is_leader 1",
            "etcd_debugging_mvcc_keys_total 1",
            "etcd_server_quota_backend_bytes 8589934592",
            "mainstay_http_requests_total{route=\"/v1/kv/{key}\",method=\"PUT\",status=\"200\"} 1",
            "mainstay_http_requests_total{route=\"/v1/kv/{key}\",method=\"GET\",status=\"404\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
        for name in [
            "etcd_server_leader_changes_seen_total",
            "etcd_server_proposals_committed_total",
            "etcd_server_proposals_applied_total",
            "etcd_server_proposals_pending",
            "etcd_server_proposals_failed_total",
            "etcd_server_slow_apply_total",
            "etcd_server_read_indexes_failed_total",
            "etcd_disk_wal_fsync_duration_seconds_bucket",
            "etcd_disk_wal_fsync_duration_seconds_count",
            "etcd_mvcc_db_total_size_in_bytes",
            "etcd_debugging_mvcc_watcher_total",
            "mainstay_http_request_duration_seconds_bucket{le=\"+Inf\",route=\"/v1/kv/{key}\"}",
            "process_start_time_seconds",
        ] {
            assert!(
                text.lines().any(|line| line.starts_with(name)),
                "{name} is missing in\n{text}"
            );
        }
        assert!(text.ends_with("# EOF\n"));
        node
    });
}

#[test]
fn every_documented_route_is_there() {
    with_node(async |node| {
        let document = node.get("/openapi.json").await.json();
        for (path, methods) in document["paths"].as_object().expect("has paths") {
            let path = path.replace("{key}", "a").replace("{id}", "1");
            let path = path.replace("{check}", "serializable_read");
            for method in methods.as_object().expect("has methods").keys() {
                // A watch that cannot start ends at once.
                let path = path.replace("/v1/watch", "/v1/watch?key=");
                let answer = node.send(&method.to_uppercase(), &path, &[], "").await;
                let code = if answer.header("content-type") == "application/problem+json" {
                    answer.code()
                } else {
                    String::new()
                };
                let there = !["unknown_route", "method_not_allowed"].contains(&code.as_str());
                assert!(there, "{method} {path}: {code}");
            }
        }
        node
    });
}
