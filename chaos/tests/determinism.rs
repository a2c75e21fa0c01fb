//! The same seed tells the same story: twice in one process, in a second process, and in the middle
//! of a sweep. When this fails, `chaos replay --trace` of the seed in both ways shows the first
//! difference.

use std::process::Command;

use mainstay_chaos::{
    run::{Plan, RunJson, run},
    scenarios,
};

/// Scenarios in which everything happens that could differ: crashes, clocks, snapshots, traps.
const SCENARIOS: [&str; 4] = ["swarm", "restart-storm", "crash-points", "skewed-clocks"];

/// Those in which processes also come from nothing and end for good.
const WITH_MEMBERS: [&str; 4] =
    ["members-come-and-go", "replace-a-lost-disk", "change-interrupted", "join-under-load"];

/// Those whose clients speak gRPC.
const OVER_ETCD: [&str; 2] = ["etcd-swarm", "etcd-snapshots"];

fn plan(scenario: &str, seed: u64) -> Plan {
    let scenario = scenarios::find(scenario).expect("the scenario exists");
    Plan { scenario, seed, planted: None, log: false }
}

/// The trace hashes of a sweep in a process of its own.
fn sweep(scenario: &str, seeds: &str) -> Vec<RunJson> {
    #[derive(serde::Deserialize)]
    struct Runs {
        runs: Vec<RunJson>,
    }
    let folder = tempfile::tempdir().expect("a folder");
    let json = folder.path().join("runs.json");
    let status = Command::new(env!("CARGO_BIN_EXE_chaos"))
        .args(["run", "--scenario", scenario, "--seeds", seeds, "--json"])
        .arg(&json)
        .output()
        .expect("the program starts")
        .status;
    assert!(matches!(status.code(), Some(0 | 1)), "the sweep of {scenario} ended with {status}");
    let text = std::fs::read_to_string(json).expect("the sweep wrote its runs");
    serde_json::from_str::<Runs>(&text).expect("the runs are readable").runs
}

/// Runs three seeds in a sweep of another process, and here in the other order, the first of them
/// twice.
fn tell_the_same(scenario: &str) {
    let swept = sweep(scenario, "11..13");
    let hashes: Vec<_> =
        [13, 12, 11].map(|seed| run(plan(scenario, seed)).to_json().trace_hash).into();
    let again = run(plan(scenario, 13)).to_json().trace_hash;
    assert_eq!(hashes[0], again, "{scenario} differs within one process");
    let swept: Vec<_> = swept.into_iter().rev().map(|run| run.trace_hash).collect();
    assert_eq!(hashes, swept, "{scenario} differs between two processes");
}

#[test]
fn a_seed_tells_the_same_story_in_one_process_in_another_and_in_a_sweep() {
    SCENARIOS.into_iter().for_each(tell_the_same);
}

#[test]
fn a_seed_with_members_that_come_and_go_tells_the_same_story_too() {
    WITH_MEMBERS.into_iter().for_each(tell_the_same);
}

#[test]
fn a_seed_over_etcds_protocol_tells_the_same_story_too() {
    OVER_ETCD.into_iter().for_each(tell_the_same);
}

#[test]
fn different_seeds_tell_different_stories() {
    let first = run(plan("swarm", 1));
    let second = run(plan("swarm", 2));
    assert_ne!(first.trace_hash, second.trace_hash);
    assert!(first.coverage.get("acknowledged-writes") > 0, "nothing happened");
}
