//! `mainstay doctor`: what is wrong is found and comes with a remedy, and nothing is changed.

use std::fs;

use mainstay_tests::{Cluster, CommandLine, Signal, free_port};
use serde_json::Value;

use crate::{
    PROGRAM,
    bad_starts::{content, files_of_kind},
};

const DONE: i32 = 0;
const FAILED: i32 = 1;

/// The findings of one check.
fn of_check<'a>(report: &'a Value, check: &str) -> Vec<&'a Value> {
    let findings = report["findings"].as_array().expect("a report has findings");
    findings.iter().filter(|finding| finding["check"] == check).collect()
}

/// All findings of these checks have this status.
#[track_caller]
fn assert_status(report: &Value, checks: &[&str], status: &str) {
    for check in checks {
        let findings = of_check(report, check);
        assert!(!findings.is_empty(), "{check} is missing in {report}");
        assert!(findings.iter().all(|finding| finding["status"] == status), "{check}: {report}");
    }
}

#[tokio::test]
async fn a_well_cluster_is_found_well_and_a_lost_node_is_named_with_a_remedy() {
    let commands = CommandLine::new(PROGRAM);
    let mut cluster = Cluster::three(PROGRAM).await;
    let endpoints = cluster.endpoints();
    let words = ["doctor", "--endpoints", &endpoints, "-o", "json"];
    let well = commands.run(&words).await;
    let report = well.json();
    // How quick disk and processor are is the machine's business.
    assert_status(&report, &["reach", "cluster", "quorum", "version", "serving", "quota"], "ok");
    assert_eq!(of_check(&report, "reach").len(), 3, "{report}");
    // An id is written in one way everywhere, so that it can be looked for.
    let status = commands.run(&["status", "--endpoints", &endpoints, "-o", "json"]).await.json();
    let id = status["cluster_id"].as_str().expect("a decimal string");
    let found = of_check(&report, "cluster")[0]["found"].as_str().expect("text").to_owned();
    assert!(found.contains(id), "{found} has not {id}");
    let log = fs::read_to_string(&cluster[0].plan.log).expect("a log");
    assert!(log.contains(&format!("cluster={id}")), "{id} is not in {log}");
    assert_eq!(of_check(&report, "sync").len(), 3, "{report}");
    assert_eq!(of_check(&report, "link").len(), 6, "{report}");
    assert_eq!(well.exit == FAILED, report["status"] == "fail", "{report}");

    // One endpoint is enough to find the others, also those that are gone.
    cluster[2].kill().await;
    let url = cluster[0].plan.url();
    let lost = commands.run(&["doctor", "--endpoints", &url, "-o", "json"]).await;
    let report = lost.expect_exit(FAILED).json();
    let reach = of_check(&report, "reach");
    let silent: Vec<_> = reach.iter().filter(|finding| finding["status"] == "fail").collect();
    let [silent] = silent[..] else { panic!("one node is gone: {report}") };
    assert_eq!(silent["node"], cluster[2].plan.url(), "{report}");
    assert!(silent["remedy"].as_str().is_some_and(|remedy| remedy.contains("start the node")));
    let table = commands.run(&["doctor", "--endpoints", &url, "-o", "table"]).await;
    table.expect_exit(FAILED);
    assert!(table.stdout.contains("What to do:"), "{}", table.stdout);

    // Without a majority there is no leader.
    cluster[1].kill().await;
    mainstay_tests::until("no quorum", async || {
        let report = commands.run(&words).await.expect_exit(FAILED).json();
        let quorum = of_check(&report, "quorum");
        if quorum[0]["status"] == "fail" { Ok(()) } else { Err(report.to_string()) }
    })
    .await;
}

#[tokio::test]
async fn a_cluster_that_cannot_be_reached_is_a_finding() {
    let commands = CommandLine::new(PROGRAM);
    let url = format!("http://127.0.0.1:{}", free_port());
    let report = commands.run(&["doctor", "--endpoints", &url]).await;
    report.expect_exit(FAILED);
    let columns: Vec<_> = report.stdout.trim_end().split('\t').collect();
    let [status, check, node, found, remedy] = columns[..] else { panic!("{columns:?}") };
    assert_eq!((status, check, node), ("fail", "reach", &url[..]));
    assert!(found.contains("does not answer") && remedy.contains("start the node"));
}

#[tokio::test]
async fn the_folder_of_a_stopped_node_is_checked_to_the_last_frame() {
    let commands = CommandLine::new(PROGRAM);
    let mut cluster = Cluster::one(PROGRAM).await;
    let folder = cluster[0].plan.data_dir.clone();
    let data_dir = folder.to_str().expect("a plain name").to_owned();
    let words = ["doctor", "--data-dir", &data_dir, "-o", "json"];
    let client = cluster[0].client().clone();
    for number in 0..20 {
        client.put(&format!("k{number}"), "v").answer().await.expect_status(200);
    }
    client.request("POST", "/v1/cluster/snapshot").answer().await.expect_status(200);
    client.put("after", "v").answer().await.expect_status(200);

    let report = commands.run(&words).await.expect_exit(FAILED).json();
    let [running] = of_check(&report, "folder")[..] else { panic!("{report}") };
    assert!(running["found"].as_str().is_some_and(|found| found.contains("in use")), "{report}");
    assert!(running["remedy"].as_str().is_some_and(|remedy| remedy.contains("stop the node")));

    cluster[0].signal(Signal::Terminate);
    cluster[0].ended().await;
    let before = content(&folder);
    let report = commands.run(&words).await.expect_exit(DONE).json();
    assert_status(&report, &["folder", "log", "snapshot", "store"], "ok");
    let store = of_check(&report, "store")[0]["found"].as_str().expect("a sentence");
    assert!(store.starts_with("22 keys"), "twenty, one after, and the harness's own: {store}");
    assert_eq!(content(&folder), before, "nothing is changed");

    for (kind, at) in [(b"WAL ", 700), (b"SNAP", 100), (b"FOLD", 66)] {
        let file = files_of_kind(&folder, kind).remove(0);
        let sound = fs::read(&file).expect("is read");
        let mut damaged = sound.clone();
        damaged[at] ^= 1;
        fs::write(&file, damaged).expect("is written");
        let report = commands.run(&words).await.expect_exit(FAILED).json();
        let [found] = of_check(&report, "folder")[..] else { panic!("{report}") };
        assert_eq!(found["status"], "fail");
        assert!(found["found"].as_str().is_some_and(|found| found.contains("damaged")), "{report}");
        fs::write(&file, sound).expect("is written");
    }
    commands.run(&words).await.expect_exit(DONE);
}
