//! A full disk: writes are refused, reads go on, and it heals by itself when there is room again.

use mainstay_tests::{Cluster, SmallDisk, Writer, until};
use serde_json::Value;

use crate::PROGRAM;

/// Room for three young nodes and what each of them keeps free, in MiB.
const DISK_MIB: u64 = 320;

#[tokio::test]
async fn a_full_disk_refuses_writes_serves_reads_and_recovers_by_itself() {
    let disk = match SmallDisk::mount(DISK_MIB) {
        Ok(disk) => disk,
        Err(why) => {
            skip(&why);
            return;
        }
    };
    let folder = tempfile::tempdir().expect("the system has a temporary folder");
    let mut cluster = Cluster::planned_in(PROGRAM, 3, folder, disk.path()).await;
    cluster.start_all();
    cluster.serves().await;
    let clients = cluster.clients();
    clients[0].put("k", "before").answer().await.expect_status(200);
    let writer = Writer::start(&clients, "load", 8);
    writer.acknowledges(100).await;

    disk.fill();
    for client in &clients {
        let refused = until("a refused write", async || {
            let answer = client.put("k", "full").answer().await;
            let problem = answer.problem().filter(|problem| problem.code == "read_only");
            problem.map(|_problem| answer.clone()).ok_or_else(|| answer.text())
        })
        .await;
        let problem = refused.expect_problem(503, "read_only");
        assert_eq!(problem.took_effect, "no");
        let document: Value = refused.json();
        assert!(document["reason"].is_string(), "{document}");
        assert_ne!(refused.header("Retry-After"), "");
    }
    for client in &clients {
        client.get("k").answer().await.expect_status(200);
        client.get_stale("k").answer().await.expect_status(200);
        until("a health that says that writes cannot succeed", async || {
            let health = client.request("GET", "/health").answer().await;
            let health = health.expect_status(200).json();
            let told = (health["status"].as_str(), health["health"].as_str());
            if told == (Some("degraded"), Some("false")) { Ok(()) } else { Err(health) }
        })
        .await;
    }

    disk.empty();
    for client in &clients {
        until("a write after there is room again", async || {
            let answer = client.put("k", "after").answer().await;
            if answer.status == 200 { Ok(()) } else { Err(answer.text()) }
        })
        .await;
    }
    writer.acknowledges(100).await;
    let ledger = writer.stop().await;
    for at in 0..cluster.len() {
        assert!(cluster[at].process().ended().is_none(), "a full disk ended a node");
        ledger.assert_kept_by(&clients[at]).await;
    }
}

#[expect(
    clippy::print_stdout,
    reason = "whoever reads the test's output is told what was left out"
)]
fn skip(why: &str) {
    println!("skipped: no small disk can be mounted here ({why})");
}
