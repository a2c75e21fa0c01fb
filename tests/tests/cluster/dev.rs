//! `mainstay dev`: a cluster of child processes that can be continued, watched and ended.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use mainstay_tests::{
    Client, CommandLine, Process, Signal, Unanswered, free_stretch, place, send, until,
};
use serde_json::Value;
use tokio::sync::SemaphorePermit;

use crate::PROGRAM;

/// A running `dev`, and where its nodes are.
struct Dev {
    commands: CommandLine,
    base_port: String,
    process: Process,
    nodes: Vec<DevNode>,
    _place: SemaphorePermit<'static>,
}

/// A node as `dev.json` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct DevNode {
    id: String,
    name: String,
    pid: u32,
    client_url: String,
    peer_address: String,
    data_dir: PathBuf,
}

impl DevNode {
    fn of(node: &Value) -> Self {
        let keys: BTreeSet<_> =
            node.as_object().expect("a node is an object").keys().map(String::as_str).collect();
        let promised = ["client_url", "data_dir", "id", "name", "peer_address", "pid"];
        assert_eq!(keys, BTreeSet::from(promised), "{node}");
        let text = |name: &str| node[name].as_str().expect("a string").to_owned();
        Self {
            id: text("id"),
            name: text("name"),
            pid: node["pid"].as_u64().and_then(|pid| pid.try_into().ok()).expect("a number"),
            client_url: text("client_url"),
            peer_address: text("peer_address"),
            data_dir: text("data_dir").into(),
        }
    }

    fn client(&self) -> Client {
        Client::new(&self.client_url)
    }

    /// Waits until nobody listens at its address any more.
    async fn is_gone(&self) {
        until(&format!("the end of {}", self.name), async || {
            let request = self.client().request("GET", "/health/live");
            match request.within(Duration::from_secs(2)).send().await {
                Err(Unanswered::NotSent(_)) => Ok(()),
                Err(Unanswered::Lost(error)) => Err(error.to_string()),
                Ok(answer) => Err(answer.text()),
            }
        })
        .await;
    }
}

impl Dev {
    /// Three nodes in a new folder.
    async fn start() -> Self {
        let place = place().await;
        let commands = CommandLine::new(PROGRAM);
        // Three pairs of ports, ten apart.
        let base_port = free_stretch(3, 10).to_string();
        let process = run(&commands, &base_port);
        let mut dev = Self { commands, base_port, process, nodes: Vec::new(), _place: place };
        dev.has_started(&[]).await;
        dev
    }

    /// Waits for a `dev.json` with other processes than `before`. Whenever it is read it is whole.
    async fn has_started(&mut self, before: &[DevNode]) {
        let file = self.commands.folder().join("data/dev.json");
        let process = &mut self.process;
        self.nodes = until("dev.json", async || {
            if let Some(status) = process.ended() {
                panic!("dev ended with {status}: {}{}", process.stdout(), process.stderr());
            }
            let text = std::fs::read_to_string(&file).map_err(|error| error.to_string())?;
            let document: Value = serde_json::from_str(&text)
                .unwrap_or_else(|error| panic!("dev.json is not whole ({error}): {text}"));
            let nodes = document["nodes"].as_array().expect("a list");
            let nodes: Vec<_> = nodes.iter().map(DevNode::of).collect();
            assert_eq!(nodes.len(), 3, "dev.json has all nodes or is not there: {text}");
            let is_new = |node: &DevNode| before.iter().all(|old| old.pid != node.pid);
            if nodes.iter().all(is_new) { Ok(nodes) } else { Err(text) }
        })
        .await;
    }

    /// Ends it and starts it again on the same folder.
    async fn restart(&mut self) {
        self.process.signal(Signal::Terminate);
        assert_eq!(self.process.exit_code().await, 0, "{}", self.process.stderr());
        let before = std::mem::take(&mut self.nodes);
        self.process = run(&self.commands, &self.base_port);
        self.has_started(&before).await;
    }

    /// Waits until `words` stand on one line of what it printed.
    async fn says(&self, words: &[&str]) {
        until(&format!("{words:?} on the screen"), async || {
            let text = self.process.stdout();
            let has_all = |line: &str| words.iter().all(|word| line.contains(word));
            if text.lines().any(has_all) { Ok(()) } else { Err(text) }
        })
        .await;
    }
}

fn run(commands: &CommandLine, base_port: &str) -> Process {
    let data_dir = commands.folder().join("data");
    let data_dir = data_dir.to_str().expect("a plain name");
    commands.start(&["dev", "--base-port", base_port, "--data-dir", data_dir])
}

/// Waits until a write at `client` is acknowledged.
async fn writes(client: &Client, key: &str, value: &str) {
    until("a write", async || match client.put(key, value).send().await {
        Ok(answer) if answer.status == 200 => Ok(()),
        Ok(answer) => Err(answer.text()),
        Err(error) => Err(error.to_string()),
    })
    .await;
}

/// The id of the leader as the node of `client` sees it, once it is another than `before`.
async fn leader_of(client: &Client, before: &str) -> String {
    until("a leader", async || {
        let view = client.cluster().await.map_err(|error| error.to_string())?.json();
        match view["leader"].as_str() {
            Some(leader) if leader != before => Ok(leader.to_owned()),
            _ => Err(view.to_string()),
        }
    })
    .await
}

#[tokio::test]
async fn a_second_run_on_the_same_folder_continues_the_same_cluster() {
    let mut dev = Dev::start().await;
    let first = dev.nodes.clone();
    let names: Vec<_> = first.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names, ["n1", "n2", "n3"]);
    let base_port: u16 = dev.base_port.parse().expect("a port");
    for (node, port) in first.iter().zip([base_port, base_port + 10, base_port + 20]) {
        assert_eq!(node.client_url, format!("http://127.0.0.1:{port}"));
        assert_eq!(node.peer_address, format!("127.0.0.1:{}", port + 1));
        assert!(node.data_dir.is_dir(), "{}", node.data_dir.display());
        dev.says(&[&node.client_url]).await;
    }
    dev.says(&["put"]).await;
    writes(&first[0].client(), "k", "kept").await;
    let mut answers = Vec::new();
    for node in &first {
        let answer = node.client().get("k").answer().await;
        assert_eq!(answer.expect_status(200).header("Mainstay-Member-Id"), node.id);
        answers.push(answer);
    }
    let cluster_id = answers[0].number("Mainstay-Cluster-Id");

    dev.restart().await;
    for (node, before) in dev.nodes.iter().zip(&first) {
        let as_before = DevNode { pid: before.pid, ..node.clone() };
        assert_eq!(as_before, *before, "only the process is another");
        let answer = until("a read", async || {
            let answer = node.client().get("k").answer().await;
            if answer.status == 200 { Ok(answer) } else { Err(answer.text()) }
        })
        .await;
        assert_eq!(answer.text(), "kept");
        assert_eq!(answer.number("Mainstay-Cluster-Id"), cluster_id);
    }
    let folder = dev.commands.folder().join("data");
    let entries = std::fs::read_dir(&folder).expect("the folder is there");
    let names = entries.map(|entry| entry.expect("listed").file_name());
    let left_over: Vec<_> = names.filter(|name| name.to_string_lossy().contains("tmp")).collect();
    assert!(left_over.is_empty(), "{left_over:?}");
}

#[tokio::test]
async fn told_to_stop_it_ends_its_nodes_in_good_order_and_then_itself() {
    let mut dev = Dev::start().await;
    writes(&dev.nodes[0].client(), "k", "v").await;
    dev.process.signal(Signal::Terminate);
    assert_eq!(dev.process.exit_code().await, 0, "{}", dev.process.stderr());
    for node in &dev.nodes {
        let answer = node.client().request("GET", "/health/live").send().await;
        assert!(matches!(answer, Err(Unanswered::NotSent(_))), "{} outlived dev", node.name);
        let log = std::fs::read_dir(dev.commands.folder().join("data"))
            .expect("the folder is there")
            .map(|entry| entry.expect("listed").path())
            .find(|path| {
                path.file_name().is_some_and(|name| *name == *format!("{}.log", node.name))
            });
        let log = std::fs::read_to_string(log.expect("each node has a log")).expect("text");
        assert!(
            log.contains("the node has stopped"),
            "{} was not ended in order: {log}",
            node.name
        );
    }
}

#[tokio::test]
async fn killed_it_takes_its_nodes_along() {
    let mut dev = Dev::start().await;
    dev.process.signal(Signal::Kill);
    dev.process.end().await;
    for node in &dev.nodes {
        node.is_gone().await;
    }
}

#[tokio::test]
async fn a_node_that_dies_is_reported_and_not_started_again_and_the_rest_goes_on() {
    let mut dev = Dev::start().await;
    let leader = leader_of(&dev.nodes[0].client(), "").await;
    let at = dev.nodes.iter().position(|node| node.id == leader).expect("it is one of the three");
    let dead = dev.nodes.remove(at);
    send(dead.pid, Signal::Kill);
    dev.says(&[&dead.name, "died"]).await;
    dead.is_gone().await;
    for node in &dev.nodes {
        writes(&node.client(), "k", &node.name).await;
    }
    let leader = leader_of(&dev.nodes[0].client(), &dead.id).await;
    let leader = dev.nodes.iter().find(|node| node.id == leader).expect("a survivor leads");
    dev.says(&[&leader.name, "lead"]).await;
    // All this time nobody has started it again.
    dead.is_gone().await;
    assert!(dev.process.ended().is_none(), "dev goes on");
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_with_the_way_out() {
    let base_port = free_stretch(3, 10);
    let taken = base_port + 11;
    let _holder = std::net::TcpListener::bind(("127.0.0.1", taken)).expect("it was free");
    let commands = CommandLine::new(PROGRAM);
    let mut process = run(&commands, &base_port.to_string());
    assert_eq!(process.exit_code().await, 1, "{}", process.stdout());
    let said = process.stderr();
    for word in [&taken.to_string(), "in use", "--base-port"] {
        assert!(said.contains(word), "{word} is not in: {said}");
    }
    // The way out is one: no trace of the ports that were taken keeps others from being chosen.
    let left = std::fs::read_dir(commands.folder().join("data")).map(Iterator::count);
    assert!(left.is_err(), "nothing was written: {left:?}");
}
