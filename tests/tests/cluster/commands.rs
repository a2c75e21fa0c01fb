//! The command line against a real cluster: what it prints, and the exit code that tells a script
//! what came of it.

use mainstay_tests::{Cluster, CommandLine, Finished, Signal, base64, from_base64, until};
use serde_json::Value;

use crate::PROGRAM;

/// Exit codes, as the design promises them.
const DONE: i32 = 0;
const FAILED: i32 = 1;
const USAGE: i32 = 2;
const NOT_HELD: i32 = 3;
const UNAVAILABLE: i32 = 4;
const UNKNOWN: i32 = 5;

/// A cluster with the command line that speaks to it.
struct Shell {
    cluster: Cluster,
    commands: CommandLine,
    endpoints: String,
}

impl Shell {
    async fn new() -> Self {
        let cluster = Cluster::three(PROGRAM).await;
        let endpoints = cluster.endpoints();
        Self { cluster, commands: CommandLine::new(PROGRAM), endpoints }
    }

    /// Runs one command against all nodes.
    async fn run(&self, words: &[&str]) -> Finished {
        self.commands.run(&[words, &["--endpoints", &self.endpoints]].concat()).await
    }

    /// Runs one command that must succeed, and reads the JSON it prints.
    async fn json(&self, words: &[&str]) -> Value {
        let finished = self.run(&[words, &["--output", "json"]].concat()).await;
        finished.expect_exit(DONE).json()
    }

    /// Runs one command, and reads the JSON of its complaint.
    async fn complaint(&self, words: &[&str], exit: i32) -> Value {
        let finished = self.run(&[words, &["--output", "json"]].concat()).await;
        finished.expect_exit(exit);
        serde_json::from_str(finished.stderr.trim())
            .unwrap_or_else(|error| panic!("no JSON ({error}): {}", finished.stderr))
    }
}

#[tokio::test]
async fn keys_are_put_read_and_deleted_and_exit_codes_say_what_came_of_it() {
    let shell = Shell::new().await;
    let put = shell.json(&["put", "k", "hello"]).await;
    assert_eq!(put["created"], true);
    let revision = put["revision"].as_str().expect("a decimal string").to_owned();

    let get = shell.run(&["get", "k"]).await;
    assert!(get.expect_exit(DONE).stdout.contains("hello"), "{}", get.stdout);
    let get = shell.json(&["get", "k"]).await;
    let pair = &get["pairs"][0];
    assert_eq!((&pair["key"], &pair["mod_revision"]), (&base64("k").into(), &put["revision"]));
    assert_eq!(from_base64(pair["value"].as_str().expect("base64")), b"hello");
    let table = shell.run(&["get", "k", "--output", "table"]).await;
    assert!(table.expect_exit(DONE).stdout.contains("hello"), "{}", table.stdout);
    for more in ["k1", "k2"] {
        shell.run(&["put", more, "v"]).await.expect_exit(DONE);
    }
    let all = shell.json(&["get", "k", "--prefix"]).await;
    assert_eq!(all["pairs"].as_array().map(Vec::len), Some(3), "{all}");

    // Conditions that do not hold, and keys that are not there.
    shell.run(&["get", "nobody"]).await.expect_exit(NOT_HELD);
    shell.complaint(&["put", "k", "x", "--create"], NOT_HELD).await;
    let refused = shell.complaint(&["put", "k", "x", "--if-match", "1"], NOT_HELD).await;
    assert_eq!(
        (&refused["code"], &refused["took_effect"]),
        (&"compare_failed".into(), &"no".into())
    );
    assert!(refused["error"].as_str().is_some_and(|text| !text.is_empty()), "{refused}");
    shell.run(&["put", "k", "x", "--if-match", &revision]).await.expect_exit(DONE);

    // Mistakes that nothing can come of.
    let long = "k".repeat(8 * 1024 + 1);
    shell.run(&["put", &long, "v"]).await.expect_exit(FAILED);
    shell.run(&["get", "k", "--revision", "999999999"]).await.expect_exit(FAILED);
    shell.run(&["get", "k", "--revison", "1"]).await.expect_exit(USAGE);
    shell.run(&["put"]).await.expect_exit(USAGE);
    shell.run(&["get", "k", "--output", "xml"]).await.expect_exit(USAGE);

    let deleted = shell.json(&["del", "k"]).await;
    assert_eq!(deleted["deleted"], "1");
    shell.run(&["get", "k"]).await.expect_exit(NOT_HELD);
    let compacted = shell.json(&["compact", deleted["revision"].as_str().expect("text")]).await;
    assert_eq!(compacted["compact_revision"], deleted["revision"]);
    shell.run(&["get", "k", "--revision", &revision]).await.expect_exit(FAILED);
}

#[tokio::test]
async fn transactions_leases_and_watches_work_from_the_command_line() {
    let shell = Shell::new().await;
    let take = ["txn", "--if", "version(lock) = 0", "--then", "put lock me", "--else", "get lock"];
    let first = shell.json(&take).await;
    assert_eq!(first["succeeded"], true, "{first}");
    let file = shell.commands.folder().join("transaction.json");
    let put = serde_json::json!({"success": [{"put": {"key": base64("t"), "value": base64("1")}}]});
    std::fs::write(&file, put.to_string()).expect("written");
    let written = shell.json(&["txn", file.to_str().expect("a plain name")]).await;
    let revision = written["revision"].as_str().expect("a decimal string");

    let lease = shell.json(&["lease", "grant", "60s"]).await;
    let id = lease["id"].as_str().expect("an id").to_owned();
    shell.run(&["put", "held", "v", "--lease", &id]).await.expect_exit(DONE);
    let shown = shell.json(&["lease", "show", &id]).await;
    assert_eq!(shown["keys"], serde_json::json!([base64("held")]));
    shell.run(&["lease", "keep-alive", &id, "--once"]).await.expect_exit(DONE);
    let listed = shell.run(&["lease", "list"]).await;
    assert!(listed.expect_exit(DONE).stdout.contains(&id), "{}", listed.stdout);
    shell.run(&["lease", "revoke", &id]).await.expect_exit(DONE);
    shell.run(&["get", "held"]).await.expect_exit(NOT_HELD);
    shell.run(&["lease", "show", &id]).await.expect_exit(NOT_HELD);

    // What was written from `revision` on: the transaction, the leased key, and its end.
    let words = ["watch", "", "--prefix", "--from-revision", revision, "--limit", "3"];
    let watched = shell.run(&words).await;
    let lines: Vec<_> = watched.expect_exit(DONE).stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    for (line, words) in lines.iter().zip([["put", "t"], ["put", "held"], ["delete", "held"]]) {
        assert!(words.iter().all(|word| line.contains(word)), "{line}");
    }
}

#[tokio::test]
async fn status_health_and_completion_tell_what_they_should() {
    let mut shell = Shell::new().await;
    // The nodes may not have heard of each other yet.
    let status = until("three healthy nodes", async || {
        let status = shell.json(&["status"]).await;
        if status["failures_tolerated"] == 1 { Ok(status) } else { Err(status) }
    })
    .await;
    assert_eq!(status["members"].as_array().map(Vec::len), Some(3), "{status}");
    let status = shell.run(&["status"]).await;
    for name in ["n1", "n2", "n3", "leader", "follower"] {
        assert!(status.expect_exit(DONE).stdout.contains(name), "{}", status.stdout);
    }
    let health = shell.json(&["health"]).await;
    assert!(
        health.as_array().is_some_and(|all| all.iter().all(|one| one["health"] == "true")),
        "{health}"
    );
    shell.cluster[2].kill().await;
    let sick = shell.run(&["health"]).await;
    assert!(sick.expect_exit(UNAVAILABLE).stdout.contains("unreachable"), "{}", sick.stdout);
    // A cluster with two of three nodes serves, whichever endpoint comes first.
    shell.run(&["put", "k", "v"]).await.expect_exit(DONE);

    for name in ["bash", "zsh", "fish"] {
        let script = shell.commands.run(&["completion", name]).await;
        assert!(script.expect_exit(DONE).stdout.contains("mainstay"), "{name}");
    }
    shell.commands.run(&["completion", "cobol"]).await.expect_exit(USAGE);
    let help = shell.commands.run(&["--help"]).await;
    assert!(help.expect_exit(DONE).stdout.contains("bench"), "{}", help.stdout);
}

#[tokio::test]
async fn leaders_are_changed_by_name_and_every_change_is_explained() {
    let shell = Shell::new().await;
    let leader = shell.cluster.leader().await;
    let other = shell.cluster.others(leader)[0];
    let name = |at: usize| shell.cluster[at].plan.name.clone();
    // The target may still be catching up, which is a refusal without an effect.
    let said = until("a transfer", async || {
        let finished = shell.run(&["leader", "transfer", &name(other)]).await;
        if finished.exit == FAILED { Err(finished.stderr) } else { Ok(finished) }
    })
    .await;
    let sentence = &said.expect_exit(DONE).stdout;
    let (begin, end) =
        (format!("{} leads since term ", name(other)), format!("; it was {}\n", name(leader)));
    assert!(sentence.starts_with(&begin) && sentence.ends_with(&end), "{sentence}");
    let again = shell.run(&["leader", "transfer", &name(other)]).await;
    assert!(again.expect_exit(DONE).stdout.contains("leads already"), "{}", again.stdout);
    let refused = shell.complaint(&["leader", "transfer", "n9"], FAILED).await;
    assert_eq!(
        (&refused["code"], &refused["took_effect"]),
        (&"unknown_member".into(), &"no".into())
    );
    shell.run(&["leader", "transfer", "n1", "n2"]).await.expect_exit(USAGE);

    let told = until("the reason", async || {
        let told = shell.json(&["detector"]).await;
        if told["elections"][0]["cause"] == "operator" { Ok(told) } else { Err(told) }
    })
    .await;
    assert_eq!(told["peers"].as_array().map(Vec::len), Some(2), "{told}");
    assert_eq!(told["elections"][0]["leader_name"], name(other));
    let simple = shell.run(&["detector"]).await;
    let lines: Vec<_> = simple.expect_exit(DONE).stdout.lines().collect();
    assert!(lines[0].starts_with("node\t") && lines[1].starts_with("peer\t"), "{lines:?}");
    assert!(lines[3].starts_with("election\t") && lines[3].contains("cause=operator"), "{lines:?}");
    let table = shell.run(&["detector", "--output", "table", "--limit", "1"]).await;
    let table = &table.expect_exit(DONE).stdout;
    assert!(table.contains("alive") && table.contains("operator"), "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 100), "{table}");
}

#[tokio::test]
async fn nobody_there_is_unavailable_and_a_lost_answer_is_unknown() {
    let mut shell = Shell::new().await;
    let nobody = format!("http://127.0.0.1:{}", mainstay_tests::free_port());
    let words = ["put", "k", "v", "--endpoints", &nobody, "--timeout", "1s"];
    let finished = shell.commands.run(&words).await;
    let said = &finished.expect_exit(UNAVAILABLE).stderr;
    assert!(said.contains("error: ") && said.contains("--endpoints"), "{said}");

    // A leader whose followers stand still takes the write and can promise nothing.
    let leader = shell.cluster.leader().await;
    for at in shell.cluster.others(leader) {
        shell.cluster[at].signal(Signal::Stop);
    }
    let url = shell.cluster[leader].plan.url();
    let words = ["put", "k", "v", "--endpoints", &url, "--timeout", "2s", "--output", "json"];
    let finished = shell.commands.run(&words).await;
    let said = &finished.expect_exit(UNKNOWN).stderr;
    let complaint: Value = serde_json::from_str(said.trim()).expect("the complaint is JSON");
    assert_eq!(complaint["took_effect"], "unknown", "{complaint}");
    // Once that leader knows that nobody follows it, it says no.
    let words = ["get", "k", "--endpoints", &url, "--timeout", "1s"];
    shell.commands.run(&words).await.expect_exit(UNAVAILABLE);

    for at in shell.cluster.others(leader) {
        shell.cluster[at].signal(Signal::Continue);
    }
    shell.cluster.serves().await;
    shell.run(&["put", "k", "w"]).await.expect_exit(DONE);
}

/// A device that takes nothing, as a full disk does.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_write_whose_answer_cannot_be_shown_is_not_called_without_effect() {
    use std::path::Path;

    use mainstay_tests::Process;

    let shell = Shell::new().await;
    let unseen = async |words: &[&str]| {
        let words = [words, &["--endpoints", &shell.endpoints, "--output", "json"]].concat();
        let stderr = shell.commands.folder().join("complaint");
        let _earlier = std::fs::remove_file(&stderr);
        let mut process =
            Process::start(Path::new(PROGRAM), words, Path::new("/dev/full"), &stderr);
        let exit = process.exit_code().await;
        let complaint: Value =
            serde_json::from_str(process.stderr().trim()).expect("the complaint is JSON");
        (exit, complaint)
    };
    for words in [&["put", "k", "v"][..], &["txn", "--then", "put k w"], &["lease", "grant", "60s"]]
    {
        let (exit, complaint) = unseen(words).await;
        assert_eq!((exit, &complaint["took_effect"]), (UNKNOWN, &"yes".into()), "{complaint}");
    }
    let read = shell.run(&["get", "k"]).await;
    assert_eq!(read.expect_exit(DONE).stdout, "w\n");
    // What only looks has no effect to deny.
    for words in [&["get", "k"][..], &["status"], &["member", "list"], &["read-only"]] {
        assert_eq!(unseen(words).await.0, FAILED, "{words:?}");
    }
}

#[tokio::test]
async fn bench_measures_in_every_mode() {
    let shell = Shell::new().await;
    for mode in ["put", "get", "stale-get", "mixed", "cas", "watch"] {
        let size = ["--clients", "4", "--keys", "50", "--value-size", "64", "--seconds", "1"];
        let report = shell.json(&[&["bench", "--mode", mode], &size[..]].concat()).await;
        let operations = report["operations"].as_u64();
        assert!(operations.is_some_and(|count| count > 0), "{mode}: {report}");
        assert_eq!(report["failed"], 0, "{mode}: {report}");
    }
}

#[tokio::test]
async fn an_operator_makes_the_cluster_read_only_and_ends_it_again() {
    let shell = Shell::new().await;
    shell.run(&["put", "k", "before"]).await.expect_exit(DONE);
    let on = shell.run(&["read-only", "on"]).await;
    assert!(on.expect_exit(DONE).stdout.starts_with("read-only:"), "{}", on.stdout);
    for at in 0..3 {
        // Each node refuses as soon as it has applied the setting.
        let client = shell.cluster[at].client();
        let refused = until("a refused write", async || {
            let answer = client.put("k", "during").answer().await;
            if answer.status == 503 { Ok(answer) } else { Err(answer.text()) }
        })
        .await;
        refused.expect_problem(503, "read_only");
        assert_eq!(refused.json()["reason"], "operator");
    }
    let refused = shell.run(&["put", "k", "during"]).await;
    refused.expect_exit(UNAVAILABLE);
    assert!(refused.stderr.contains("mainstay read-only off"), "{}", refused.stderr);
    let read = shell.run(&["get", "k"]).await;
    assert!(read.expect_exit(DONE).stdout.contains("before"), "{}", read.stdout);
    let doctor = shell.run(&["doctor"]).await;
    assert!(doctor.stdout.contains("an operator made the cluster read-only"), "{}", doctor.stdout);
    assert_eq!(shell.json(&["read-only"]).await["read_only"], true);

    assert_eq!(shell.json(&["read-only", "off"]).await["read_only"], false);
    until("a write that is taken again", async || {
        let put = shell.run(&["put", "k", "after"]).await;
        if put.exit == DONE { Ok(()) } else { Err(put.stderr) }
    })
    .await;
    shell.run(&["read-only", "sideways"]).await.expect_exit(USAGE);
}
