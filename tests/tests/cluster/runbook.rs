//! The runbook: every command of every page, run as it stands against a cluster in that state.

use std::{collections::BTreeSet, fs};

use mainstay_tests::{Ledger, Operator, Page, Writer, pages};

use crate::PROGRAM;

/// The pages that have a test below.
const TESTED: [&str; 6] = [
    "full-disk.md",
    "lost-node.md",
    "lost-quorum.md",
    "rolling-upgrade.md",
    "slow-disk.md",
    "wiped-node.md",
];

const SOME: usize = 100;

/// A page, once it has all that a page must have.
fn page(name: &str) -> Page {
    let page = Page::read(name);
    assert_eq!(page.sections, ["Symptom", "Check", "Act", "Verify"], "{name}");
    for section in ["Check", "Act"] {
        assert!(page.steps.iter().any(|step| step.section == section), "{name}: {section}");
    }
    page
}

/// A cluster of three nodes, and what was acknowledged and is on all of them.
async fn written(options: &str) -> (Operator, Ledger) {
    let operator = Operator::three(PROGRAM, options).await;
    let clients = ["n1", "n2", "n3"].map(|name| operator.client(name));
    let writer = Writer::start(&clients, "load", 8);
    writer.acknowledges(SOME).await;
    let ledger = writer.stop().await;
    for client in &clients {
        // A linearizable read: this node has everything that was acknowledged.
        client.get("operator/serves").answer().await.expect_status(200);
    }
    (operator, ledger)
}

#[test]
fn every_page_with_commands_has_a_test_and_every_page_is_on_the_list() {
    let found: BTreeSet<_> = pages().into_iter().filter(|name| name != "README.md").collect();
    let with_commands = found.iter().filter(|name| !Page::read(name).steps.is_empty());
    assert_eq!(with_commands.collect::<Vec<_>>(), TESTED);
    let list =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/runbook/README.md"));
    let list = list.expect("the runbook has a list");
    for name in found {
        assert!(list.contains(&format!("({name})")), "{name} is not on the list");
    }
}

#[tokio::test]
async fn a_node_that_is_down_is_brought_back() {
    let (mut operator, ledger) = written("").await;
    operator.kill("n3").await;
    operator.follow(&page("lost-node.md")).await;
    ledger.assert_kept_by(&operator.client("n3")).await;
}

#[tokio::test]
async fn a_node_whose_data_is_lost_takes_its_place_again() {
    let (mut operator, ledger) = written("").await;
    operator.kill("n3").await;
    operator.follow(&page("wiped-node.md")).await;
    assert!(operator.data_dir("n3.lost").exists());
    ledger.assert_kept_by(&operator.client("n3")).await;
}

#[tokio::test]
async fn a_store_at_its_quota_takes_writes_again_when_old_keys_are_gone() {
    let (mut operator, ledger) = written("quota_bytes = 16777216\n").await;
    let client = operator.client("n1");
    let mut written = 0;
    loop {
        let value = vec![b'x'; 1024 * 1024];
        let answer = client.put(&format!("old/{written}"), value).answer().await;
        if answer.status == 503 {
            answer.expect_problem(503, "read_only");
            break;
        }
        answer.expect_status(200);
        written += 1;
        assert!(written < 20, "the quota of 16 MiB takes {written} values of 1 MiB");
    }
    operator.follow(&page("full-disk.md")).await;
    // The page forgets the past.
    ledger.assert_newest_kept_by(&client).await;
}

#[tokio::test]
async fn a_lost_majority_is_recovered() {
    let (mut operator, ledger) = written("").await;
    for name in ["n2", "n3"] {
        operator.kill(name).await;
        fs::remove_dir_all(operator.data_dir(name)).expect("is removed");
    }
    operator.follow(&page("lost-quorum.md")).await;
    ledger.assert_newest_kept_by(&operator.client("n1")).await;
    assert!(operator.data_dir("n1.lost").exists(), "what was left is kept");
}

#[tokio::test]
async fn a_folder_is_moved_to_another_disk() {
    let (mut operator, ledger) = written("").await;
    operator.follow(&page("slow-disk.md")).await;
    ledger.assert_kept_by(&operator.client("n1")).await;
    assert!(!operator.data_dir("n1").exists());
}

#[tokio::test]
async fn all_nodes_are_restarted_one_after_the_other_while_clients_write() {
    let (mut operator, before) = written("").await;
    let clients = ["n1", "n2", "n3"].map(|name| operator.client(name));
    let writer = Writer::start(&clients, "upgrade", 8);
    operator.follow(&page("rolling-upgrade.md")).await;
    writer.acknowledges(SOME).await;
    let ledger = writer.stop().await;
    for client in &clients {
        ledger.assert_kept_by(client).await;
        before.assert_kept_by(client).await;
    }
}
