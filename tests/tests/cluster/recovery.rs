//! `mainstay recover`: a lost majority comes back as a new cluster, and only when it must.

use std::{
    fs,
    path::{Path, PathBuf},
};

use mainstay_tests::{
    Cluster, CommandLine, Ledger, Message, PATIENCE, Signal, Watch, Writer, until,
};
use serde_json::Value;

use crate::{
    PROGRAM,
    bad_starts::{assert_refused, content, files_of_kind},
};

const FAILED: i32 = 1;
const USAGE: i32 = 2;

/// How far revisions jump.
const JUMP: u64 = 1 << 20;

const LOAD: usize = 16;
const SOME: usize = 200;

fn path(folder: &Path) -> &str {
    folder.to_str().expect("temporary folders have plain names")
}

/// Waits until every node in `among` has applied what the one furthest on has.
async fn all_caught_up(cluster: &Cluster, among: &[usize]) {
    until("nodes that have applied the same", async || {
        let mut positions = Vec::new();
        for at in among {
            let answer =
                cluster[*at].client().cluster().await.map_err(|error| error.to_string())?;
            let node = &answer.json()["node"];
            positions.push((node["applied_index"].clone(), node["committed_index"].clone()));
        }
        let (first, _) = &positions[0];
        if positions.iter().all(|(applied, committed)| applied == first && committed == first) {
            Ok(())
        } else {
            Err(format!("{positions:?}"))
        }
    })
    .await;
}

/// A cluster with writes that all nodes have, and what was acknowledged.
async fn written(count: usize) -> (Cluster, Ledger) {
    let mut cluster = Cluster::planned(PROGRAM, count).await;
    cluster.start_all();
    cluster.serves().await;
    let writer = Writer::start(&cluster.clients(), "load", LOAD);
    writer.acknowledges(SOME).await;
    let ledger = writer.stop().await;
    let all: Vec<_> = (0..count).collect();
    all_caught_up(&cluster, &all).await;
    (cluster, ledger)
}

/// Kills all nodes and loses the folders of those `lost`.
async fn lose(cluster: &mut Cluster, lost: &[usize]) {
    cluster.kill_all().await;
    for at in lost {
        cluster[*at].wipe();
    }
}

/// Has node `at` run on `folder` from now on, with no list of nodes.
fn move_to(cluster: &mut Cluster, at: usize, folder: PathBuf) {
    cluster[at].plan.data_dir = folder;
    cluster[at].plan.bootstrap = String::new();
}

#[tokio::test]
async fn a_lost_majority_comes_back_as_a_new_cluster() {
    let commands = CommandLine::new(PROGRAM);
    let (mut cluster, ledger) = written(3).await;
    let client = cluster[0].client().clone();
    let lease = client.grant_lease(600_000).await;
    client.put("leased", "v").send().await.expect("is written");
    let keyed = client.put("keyed", "once").key("the-key").answer().await;
    keyed.expect_status(200);
    all_caught_up(&cluster, &[0, 1, 2]).await;
    let before = client.get("keyed").answer().await;
    let revision = before.number("Mainstay-Revision");
    lose(&mut cluster, &[1, 2]).await;

    let survivor = cluster[0].plan.data_dir.clone();
    let untouched = content(&survivor);
    let looked =
        commands.run(&["recover", "--data-dir", path(&survivor), "--dry-run", "-o", "json"]).await;
    let found = looked.expect_exit(0).json();
    assert_eq!(found["may_lose_writes"], true, "{found}");
    assert_eq!(found["new_cluster"], Value::Null, "{found}");
    let members = found["members"].as_array().into_iter().flatten();
    let given = members.filter(|member| member["folder_given"] == true);
    assert_eq!(given.count(), 1, "{found}");

    let done = commands.run(&["recover", "--data-dir", path(&survivor), "--yes"]).await;
    done.expect_exit(0);
    for wanted in ["What may be lost", "n2 and n3 may know", "serve --name n1", "epoch 2"] {
        assert!(
            done.stdout.replace("n3 and n2", "n2 and n3").contains(wanted),
            "{wanted}: {}",
            done.stdout
        );
    }
    assert_eq!(content(&survivor), untouched, "the original folder stays as it is");

    move_to(&mut cluster, 0, survivor.with_extension("recovered"));
    cluster.start(0);
    cluster.serves().await;
    let after = client.get("keyed").answer().await;
    assert_eq!(after.number("Mainstay-Epoch"), 2);
    for id in ["Mainstay-Cluster-Id", "Mainstay-Member-Id"] {
        assert_ne!(after.number(id), before.number(id), "{id} is new");
    }
    assert!(after.number("Mainstay-Revision") >= revision + JUMP, "{:?}", after.headers);
    assert!(after.number("Mainstay-Term") > before.number("Mainstay-Term") + JUMP);
    assert_eq!(after.header("ETag"), before.header("ETag"), "a key keeps its own revisions");
    ledger.assert_newest_kept_by(&client).await;

    // Whoever watched the old cluster is told to read anew.
    let query = format!("key=keyed&from_revision={revision}");
    let mut watch = Watch::open(&client, &query, None).await.expect("is opened");
    let message = watch.next(PATIENCE).await.expect("a message");
    assert!(matches!(message, Message::Compacted { .. }), "{message:?}");
    // A repeated write is recognised, a lease has its whole time again.
    let again = client.put("keyed", "once").key("the-key").answer().await;
    assert_eq!(again.revision(), keyed.revision(), "{}", again.text());
    let lease = client.request("GET", &format!("/v1/leases/{lease}")).answer().await.json();
    let remaining_ms = lease["remaining_ms"].as_u64().expect("a time");
    assert!(remaining_ms > 500_000, "{lease}");
    assert_eq!(client.cluster().await.expect("answers").json()["failures_tolerated"], 0);
}

#[tokio::test]
async fn the_folder_that_goes_furthest_is_used_whatever_the_order_they_are_given_in() {
    let commands = CommandLine::new(PROGRAM);
    let (mut cluster, _) = written(3).await;
    cluster[2].kill().await;
    let writer = Writer::start(&[cluster[0].client().clone()], "later", LOAD);
    writer.acknowledges(SOME).await;
    let ledger = writer.stop().await;
    lose(&mut cluster, &[0]).await;

    let [ahead, behind] = [1, 2].map(|at| cluster[at].plan.data_dir.clone());
    let into = cluster.folder().join("new");
    let folders = ["recover", "--data-dir", path(&behind), "--data-dir", path(&ahead)];
    let words = [&folders[..], &["--into", path(&into), "--name", "first", "--yes"]].concat();
    // Two of three are a majority: nothing needs to be recovered.
    let refused = commands.run(&words).await;
    assert_refused(&refused, FAILED, &["nothing is lost", "mainstay serve", "--force"]);
    assert!(!into.exists(), "nothing is done");
    let done = commands.run(&[&words[..], &["--force", "-o", "json"]].concat()).await;
    let done = done.expect_exit(0).json();
    assert_eq!(done["best"], path(&ahead), "{done}");
    assert_eq!(done["may_lose_writes"], false, "{done}");

    move_to(&mut cluster, 1, into);
    cluster[1].plan.name = "first".to_owned();
    cluster.start(1);
    cluster.serves().await;
    ledger.assert_newest_kept_by(cluster[1].client()).await;
    // It is a data folder like any other: it starts again, and holds what was written since.
    cluster[1].client().put("after", "v").answer().await.expect_status(200);
    cluster[1].kill().await;
    cluster.start(1);
    cluster.serves().await;
    cluster[1].client().get("after").answer().await.expect_status(200);
    ledger.assert_newest_kept_by(cluster[1].client()).await;
}

#[tokio::test]
async fn a_cluster_of_which_a_node_answers_is_not_recovered() {
    let commands = CommandLine::new(PROGRAM);
    let (mut cluster, _) = written(3).await;
    let folder = cluster[0].plan.data_dir.clone();
    let recover = ["recover", "--data-dir", path(&folder), "--yes"];
    let in_use = commands.run(&recover).await;
    assert_refused(&in_use, FAILED, &["n1", "in use by a running process"]);
    cluster[0].kill().await;
    let before = content(&folder);
    let healthy = commands.run(&recover).await;
    assert_refused(&healthy, FAILED, &["n2 answers at", "n3 answers at", "start them", "--force"]);
    // A node that stands still may go on at any moment.
    cluster[1].kill().await;
    cluster[2].signal(Signal::Stop);
    let standing = commands.run(&recover).await;
    assert_refused(&standing, FAILED, &["something takes connections at", "where n3 was"]);
    assert!(!folder.with_extension("recovered").exists(), "nothing is done");
    assert_eq!(content(&folder), before);

    let forced = commands.run(&[&recover[..], &["--force"]].concat()).await;
    forced.expect_exit(0);
    assert!(forced.stderr.contains("going on because of --force"), "{}", forced.stderr);
    assert_eq!(content(&folder), before);
    // The old nodes and the new one have nothing to say to each other.
    cluster[2].signal(Signal::Continue);
    move_to(&mut cluster, 0, folder.with_extension("recovered"));
    cluster.start(0);
    until("the new cluster to serve", async || {
        let read = cluster[0].client().put("new", "v").send().await;
        read.map_err(|error| error.to_string()).and_then(|answer| match answer.status {
            200 => Ok(()),
            _ => Err(answer.text()),
        })
    })
    .await;
    let old = cluster[2].client().get_stale("new").answer().await;
    assert_eq!(old.status, 404, "{}", old.text());
}

#[tokio::test]
async fn nobody_is_recovered_in_silence() {
    let commands = CommandLine::new(PROGRAM);
    let (mut cluster, _) = written(3).await;
    lose(&mut cluster, &[1, 2]).await;
    let folder = cluster[0].plan.data_dir.clone();
    // The answer to the question is the end of the input.
    let asked = commands.run(&["recover", "--data-dir", path(&folder)]).await;
    assert_refused_at_the_end(&asked.stderr, "the answer was not yes: nothing was done");
    asked.expect_exit(FAILED);
    assert!(asked.stdout.contains("What may be lost"), "{}", asked.stdout);
    let json = commands.run(&["recover", "--data-dir", path(&folder), "-o", "json"]).await;
    json.expect_exit(USAGE);
    assert!(json.stderr.contains("--dry-run") && json.stderr.contains("--yes"), "{}", json.stderr);
    assert!(!folder.with_extension("recovered").exists());
}

fn assert_refused_at_the_end(stderr: &str, words: &str) {
    assert!(stderr.contains(words), "{words} is not in {stderr}");
}

#[tokio::test]
async fn folders_that_cannot_be_recovered_from_are_refused_with_the_reason() {
    let commands = CommandLine::new(PROGRAM);
    let (mut cluster, _) = written(3).await;
    lose(&mut cluster, &[1, 2]).await;
    let folder = cluster[0].plan.data_dir.clone();
    let recover = async |folders: &[&Path], more: &[&str]| {
        let mut words = vec!["recover", "--yes"];
        for folder in folders {
            words.extend(["--data-dir", path(folder)]);
        }
        words.extend(more);
        commands.run(&words).await
    };
    let place = commands.folder().to_owned();
    let nowhere = recover(&[&place.join("nowhere")], &[]).await;
    assert_refused(&nowhere, FAILED, &["nowhere", "cannot be read"]);
    let empty = place.join("empty");
    fs::create_dir(&empty).expect("is made");
    let refused = recover(&[&empty], &[]).await;
    assert_refused(&refused, FAILED, &["empty", "holds no data of a node"]);
    let twice = recover(&[&folder, &folder], &[]).await;
    assert_refused(&twice, FAILED, &["in use"]);
    let copy = copy_of(&folder, &place.join("copy"));
    let same = recover(&[&folder, &copy], &[]).await;
    assert_refused(&same, FAILED, &["same node n1", "give one of them"]);
    let taken = recover(&[&folder], &["--into", path(&empty)]).await;
    assert_refused(&taken, FAILED, &["exists already", "--into"]);
    let named = recover(&[&folder], &["--name", "no such name"]).await;
    assert_refused(&named, FAILED, &["no such name", "letters, digits"]);

    // Rot in the middle of the log.
    let log = files_of_kind(&copy, b"WAL ").remove(0);
    let mut bytes = fs::read(&log).expect("is read");
    bytes[700] ^= 1;
    fs::write(&log, bytes).expect("is written");
    let corrupt = recover(&[&copy], &[]).await;
    let name = log.file_name().expect("a name").to_string_lossy().into_owned();
    assert_refused(&corrupt, FAILED, &["copy", &name, "damaged", "nothing was changed"]);
    // Of another cluster: the one that was just recovered.
    recover(&[&folder], &[]).await.expect_exit(0);
    let other = folder.with_extension("recovered");
    let mixed = recover(&[&folder, &other], &[]).await;
    assert_refused(&mixed, FAILED, &["one cluster only", "in epoch 1", "in epoch 2"]);
}

#[tokio::test]
async fn a_recovery_that_was_broken_off_is_begun_anew() {
    let commands = CommandLine::new(PROGRAM);
    let (mut cluster, ledger) = written(3).await;
    lose(&mut cluster, &[1, 2]).await;
    let folder = cluster[0].plan.data_dir.clone();
    let (into, unfinished) =
        (cluster.folder().join("new"), cluster.folder().join("new.unfinished"));
    let words = ["recover", "--data-dir", path(&folder), "--into", path(&into), "--yes"];
    // What is left of one: some of the files, none of them whole.
    fs::create_dir(&unfinished).expect("is made");
    fs::write(unfinished.join("LOCK"), b"").expect("is written");
    fs::write(unfinished.join("log-00000000000000000001"), b"MAINSTAY").expect("is written");
    commands.run(&words).await.expect_exit(0);
    assert!(!unfinished.exists(), "nothing is left behind");
    // Somebody else's folder of that name is not removed.
    fs::remove_dir_all(&into).expect("is removed");
    fs::create_dir(&unfinished).expect("is made");
    fs::write(unfinished.join("thesis.txt"), b"years of work").expect("is written");
    assert_refused(&commands.run(&words).await, FAILED, &["new.unfinished", "exists already"]);
    assert!(unfinished.join("thesis.txt").exists());
    fs::remove_dir_all(&unfinished).expect("is removed");

    commands.run(&words).await.expect_exit(0);
    move_to(&mut cluster, 0, into);
    cluster.start(0);
    cluster.serves().await;
    ledger.assert_newest_kept_by(cluster[0].client()).await;
}

/// A copy of a data folder, without the history.
fn copy_of(folder: &Path, to: &Path) -> PathBuf {
    fs::create_dir(to).expect("is made");
    for (file, bytes) in content(folder) {
        let name = file.file_name().expect("files have names");
        fs::write(to.join(name), bytes).expect("is written");
    }
    to.to_owned()
}
