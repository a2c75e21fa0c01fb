//! Nodes that must not start: an exit code, one clear sentence, and a folder left as it was.

use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
};

use mainstay_tests::{Cluster, CommandLine, Finished, Signal, Writer, crc32c, free_port};

use crate::PROGRAM;

/// Exit codes of the command line.
const FAILED: i32 = 1;
const USAGE: i32 = 2;

/// The start failed with this code and one sentence that has all of `words`.
pub(crate) fn assert_refused(finished: &Finished, exit: i32, words: &[&str]) {
    finished.expect_exit(exit);
    let errors: Vec<_> =
        finished.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    let [error] = errors[..] else { panic!("one sentence, not {errors:?}: {}", finished.stderr) };
    for word in words {
        assert!(error.contains(word), "{word:?} is not in: {error}");
    }
    assert!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
}

/// A command line for node `name` on free ports.
async fn serve(commands: &CommandLine, name: &str, data_dir: &Path, more: &[&str]) -> Finished {
    let (client, peer) = (free_port(), free_port());
    let client_addr = format!("127.0.0.1:{client}");
    let peer_addr = format!("127.0.0.1:{peer}");
    let data_dir = data_dir.to_str().expect("temporary folders have plain names");
    let mut words = vec!["serve", "--name", name, "--data-dir", data_dir];
    words.extend(["--client-addr", &client_addr, "--peer-addr", &peer_addr]);
    words.extend(more);
    commands.run(&words).await
}

/// All files below `folder` with their bytes.
pub(crate) fn content(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the folder is there") {
            let path = entry.expect("it can be listed").path();
            // Node-local history is no consensus state: it may be opened before the refusal.
            if path.is_dir() && path.file_name().is_some_and(|name| name != "history") {
                folders.push(path);
            } else if path.is_file() {
                let bytes = fs::read(&path).expect("it can be read");
                found.insert(path, bytes);
            }
        }
    }
    found
}

/// The files of `folder` that begin with the magic of this kind, the longest content first.
pub(crate) fn files_of_kind(folder: &Path, kind: &[u8; 4]) -> Vec<PathBuf> {
    let magic = [&b"MAINSTAY"[..], kind].concat();
    let used = |bytes: &[u8]| bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0);
    let files = content(folder).into_iter().filter(|(_path, bytes)| bytes.starts_with(&magic));
    let mut files: Vec<_> = files.map(|(path, bytes)| (used(&bytes), path)).collect();
    files.sort();
    files.into_iter().rev().map(|(_used, path)| path).collect()
}

#[tokio::test]
async fn a_wrong_configuration_file_is_told_with_line_and_key() {
    let commands = CommandLine::new(PROGRAM);
    let file = commands.folder().join("mainstay.toml");
    let path = file.to_str().expect("a plain name").to_owned();
    let data_dir = commands.folder().join("data");
    for (text, words) in [
        ("name = \"n1\"\ndata_dri = \"x\"\n", &["line 2", "data_dri", "data_dir"][..]),
        ("name = \"n1\"\n\nquota_bytes = \"much\"\n", &["line 3", "quota_bytes", "number"]),
        ("name = 7\n", &["line 1", "name", "string"]),
        ("name = \"n1\"\nlog = [\n", &["line 2"]),
        ("bootstrap = [1]\n", &["line 1", "bootstrap", "strings"]),
    ] {
        fs::write(&file, text).expect("written");
        let finished = serve(&commands, "n1", &data_dir, &["--config", &path]).await;
        assert_refused(&finished, USAGE, &[&[path.as_str()], words].concat());
    }
    fs::remove_file(&file).expect("it is there");
    let finished = serve(&commands, "n1", &data_dir, &["--config", &path]).await;
    assert_refused(&finished, USAGE, &[&path]);
    assert!(!data_dir.exists(), "a node that is not started makes no folder");
}

#[tokio::test]
async fn options_that_cannot_be_meant_are_refused_by_name() {
    let commands = CommandLine::new(PROGRAM);
    let data_dir = commands.folder().join("data");
    for (more, words) in [
        (&["--bootstrap", "n2=127.0.0.1:1"][..], &["bootstrap", "own name"][..]),
        (&["--bootstrap", "n1"], &["bootstrap", "NAME=PEER"]),
        (&["--advertise-client-urls", "localhost"], &["advertise_client_urls", "http://"]),
        (&["--quota-bytes", "5"], &["quota_bytes"]),
        (&["--name", "a b"], &["name"]),
    ] {
        // The last --name wins nothing: clap refuses a flag that comes twice.
        let finished = serve(&commands, "n1", &data_dir, more).await;
        finished.expect_exit(USAGE);
        if !more.contains(&"--name") {
            assert_refused(&finished, USAGE, words);
        }
    }
    let finished = serve(&commands, "n1", &data_dir, &["--datadir", "x"]).await;
    finished.expect_exit(USAGE);
    assert!(finished.stderr.contains("--data-dir"), "{}", finished.stderr);
    assert!(!data_dir.exists(), "a node that is not started makes no folder");
}

#[tokio::test]
async fn an_empty_folder_without_a_word_about_a_cluster_is_refused() {
    let commands = CommandLine::new(PROGRAM);
    let data_dir = commands.folder().join("data");
    let finished = serve(&commands, "n1", &data_dir, &[]).await;
    assert_refused(&finished, FAILED, &["empty", "--bootstrap"]);
}

#[tokio::test]
async fn a_port_in_use_is_told_with_the_option_to_change() {
    let commands = CommandLine::new(PROGRAM);
    let data_dir = commands.folder().join("data");
    let taken = format!("127.0.0.1:{}", free_port());
    let _holder = TcpListener::bind(&taken).expect("the port is free");
    let free = format!("127.0.0.1:{}", free_port());
    let data_dir = data_dir.to_str().expect("a plain name");
    for (client, peer, option) in [(&taken, &free, "client_addr"), (&free, &taken, "peer_addr")] {
        let bootstrap = format!("n1={peer}");
        let words = ["serve", "--name", "n1", "--data-dir", data_dir];
        let addresses = ["--client-addr", client, "--peer-addr", peer, "--bootstrap", &bootstrap];
        let finished = commands.run(&[&words[..], &addresses].concat()).await;
        assert_refused(&finished, FAILED, &[&taken, "in use", option]);
    }
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_refused() {
    let commands = CommandLine::new(PROGRAM);
    // Below a file nobody can make a folder, not even root.
    let file = commands.folder().join("file");
    fs::write(&file, "").expect("written");
    let data_dir = file.join("data");
    let bootstrap = format!("n1=127.0.0.1:{}", free_port());
    let finished = serve(&commands, "n1", &data_dir, &["--bootstrap", &bootstrap]).await;
    assert_refused(&finished, FAILED, &[data_dir.to_str().expect("a plain name")]);
}

#[tokio::test]
async fn a_folder_in_use_by_a_running_process_is_refused_and_that_process_goes_on() {
    let cluster = Cluster::one(PROGRAM).await;
    let commands = CommandLine::new(PROGRAM);
    let data_dir = &cluster[0].plan.data_dir;
    let finished = serve(&commands, "n1", data_dir, &[]).await;
    assert_refused(&finished, FAILED, &["in use", data_dir.to_str().expect("a plain name")]);
    cluster[0].client().put("k", "v").answer().await.expect_status(200);
}

#[tokio::test]
async fn a_folder_of_another_node_is_refused_and_left_as_it_is() {
    let mut cluster = Cluster::three(PROGRAM).await;
    cluster[0].signal(Signal::Terminate);
    cluster[0].ended().await;
    let data_dir = cluster[0].plan.data_dir.clone();
    let before = content(&data_dir);
    let commands = CommandLine::new(PROGRAM);
    let finished = serve(&commands, "n2", &data_dir, &[]).await;
    assert_refused(&finished, FAILED, &["n1", "n2", "folder"]);
    assert_eq!(content(&data_dir), before, "the refused start changed the folder");

    // The right name, and the log of another node.
    cluster[1].kill().await;
    let own = files_of_kind(&data_dir, b"WAL ");
    let others = files_of_kind(&cluster[1].plan.data_dir, b"WAL ");
    for file in &own {
        fs::rename(file, commands.folder().join(file.file_name().expect("a name"))).expect("moved");
    }
    for file in &others {
        fs::copy(file, data_dir.join(file.file_name().expect("a name"))).expect("copied");
    }
    let finished = serve(&commands, "n1", &data_dir, &[]).await;
    assert_refused(&finished, FAILED, &["belongs to node", "nothing was changed"]);

    // Put right, the node is itself again.
    for file in &others {
        fs::remove_file(data_dir.join(file.file_name().expect("a name"))).expect("removed");
    }
    for file in &own {
        fs::rename(commands.folder().join(file.file_name().expect("a name")), file).expect("moved");
    }
    cluster.start_all();
    cluster.serves().await;
}

#[tokio::test]
async fn a_folder_of_another_cluster_is_refused_and_serves_nobody() {
    let mut old = Cluster::one(PROGRAM).await;
    old[0].client().put("old", "1").answer().await.expect_status(200);
    old[0].signal(Signal::Terminate);
    old[0].ended().await;

    let mut cluster = Cluster::three(PROGRAM).await;
    cluster[0].kill().await;
    let commands = CommandLine::new(PROGRAM);
    let words = cluster[0].plan.words();
    let data_dir = old[0].plan.data_dir.to_str().expect("a plain name").to_owned();
    let own = cluster[0].plan.data_dir.to_str().expect("a plain name").to_owned();
    let words: Vec<_> = words
        .iter()
        .map(|word| if *word == own { data_dir.as_str() } else { word.as_str() })
        .collect();
    let finished = commands.run(&words).await;
    assert_refused(&finished, FAILED, &["folder", "cluster"]);

    cluster.start(0);
    cluster.serves().await;
    let read = cluster[0].client().get("old").answer().await;
    read.expect_problem(404, "not_found");
}

#[tokio::test]
async fn a_newer_format_is_refused_by_its_number_and_left_as_it_is() {
    let mut cluster = Cluster::one(PROGRAM).await;
    cluster[0].client().put("k", "v").answer().await.expect_status(200);
    cluster[0].signal(Signal::Terminate);
    cluster[0].ended().await;
    let data_dir = cluster[0].plan.data_dir.clone();
    let commands = CommandLine::new(PROGRAM);
    for kind in [b"FOLD", b"WAL ", b"VOTE"] {
        let files = files_of_kind(&data_dir, kind);
        let file = files.first().unwrap_or_else(|| panic!("no file of kind {kind:?}"));
        let sound = fs::read(file).expect("it can be read");
        let mut newer = sound.clone();
        newer[12..14].copy_from_slice(&999_u16.to_le_bytes());
        let sum = crc32c(&newer[..60]);
        newer[60..64].copy_from_slice(&sum.to_le_bytes());
        fs::write(file, &newer).expect("written");
        let finished = serve(&commands, "n1", &data_dir, &[]).await;
        assert_refused(&finished, FAILED, &["format 999", "newer"]);
        assert_eq!(fs::read(file).expect("it can be read"), newer, "the file was changed");
        fs::write(file, &sound).expect("written");
    }
    cluster.start(0);
    cluster.serves().await;
    assert_eq!(cluster[0].client().get("k").answer().await.text(), "v");
}

#[tokio::test]
async fn a_corrupt_log_is_refused_with_its_place_and_the_others_go_on() {
    let mut cluster = Cluster::three(PROGRAM).await;
    let writer = Writer::start(&cluster.clients(), "load", 8);
    writer.acknowledges(500).await;
    cluster[0].kill().await;
    let data_dir = cluster[0].plan.data_dir.clone();
    let segments = files_of_kind(&data_dir, b"WAL ");
    let segment = segments.first().expect("there is a log");
    let mut bytes = fs::read(segment).expect("it can be read");
    let used = bytes.iter().rposition(|byte| *byte != 0).expect("it has content");
    bytes[used / 2] ^= 0x10;
    fs::write(segment, &bytes).expect("written");
    let before = content(&data_dir);

    cluster.start(0);
    let exit = cluster[0].ended().await;
    let log = cluster[0].log();
    let finished = Finished { exit, stdout: String::new(), stderr: log };
    let name = segment.file_name().and_then(|name| name.to_str()).expect("a plain name");
    let advice = "keep the folder aside";
    assert_refused(&finished, FAILED, &[name, "damaged", "byte", "nothing was changed", advice]);
    assert_eq!(content(&data_dir), before, "the refused start changed the folder");

    writer.acknowledges(200).await;
    let ledger = writer.stop().await;
    for at in [1, 2] {
        ledger.assert_kept_by(cluster[at].client()).await;
    }
}
