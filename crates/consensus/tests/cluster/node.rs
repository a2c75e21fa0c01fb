//! One node in a runtime of its own, and a cluster of them.

use std::{
    net::TcpListener,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use mainstay_consensus::{
    Birth, BootstrapPeer, Consensus, Options, ProposeError, StartError, Versions,
};
use mainstay_kv::{
    Proposal, Settings,
    command::{Command, KeyRange, Put},
    outcome::Applied,
    query::RangeQuery,
};
use mainstay_storage::StorageOptions;
use mainstay_world::{
    Buggify, Instant, MemoryHistory, Net, RealDisk, RealNet, Scope, World, timeout,
};
use tokio::runtime::{Builder, Runtime};

use crate::stalling_disk::Stall;

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The deadline of one request.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// A running node.
pub(crate) struct Node {
    pub(crate) consensus: Consensus,
    /// Stalls its log's disk.
    pub(crate) stall: Stall,
    runtime: Option<Runtime>,
}

impl Node {
    /// Starts a node on `folder`, listening on the address its peers know.
    pub(crate) fn start(
        folder: &Path,
        name: &str,
        list: &[BootstrapPeer],
    ) -> Result<Self, StartError> {
        let own = list.iter().find(|peer| peer.name == name).expect("the list names the node");
        Self::start_as(folder, own, Birth::Bootstrap(list.to_vec()), steady())
    }

    /// Starts a node on `folder` that finds its cluster by `birth`, as the program of `versions`.
    pub(crate) fn start_as(
        folder: &Path,
        own: &BootstrapPeer,
        birth: Birth,
        versions: Versions,
    ) -> Result<Self, StartError> {
        let runtime =
            Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let name = &own.name;
        let options = Options {
            name: name.to_owned(),
            peer_address: own.peer_address.clone(),
            client_urls: vec![format!("http://{name}")],
            zone: String::new(),
            site: String::new(),
            version: "0.0.0".to_owned(),
            birth,
            settings: Settings::default(),
            storage: StorageOptions::default(),
            versions,
        };
        let address = own.peer_address.clone();
        let disk = Arc::new(RealDisk::start(folder, "log").expect("a thread"));
        let stall = Stall::default();
        let world = World {
            log_disk: Arc::new(stall.of(disk.clone())),
            snapshot_disk: disk,
            net: Arc::new(RealNet),
            history: Arc::new(MemoryHistory::default()),
            buggify: Buggify::none(),
        };
        let started = runtime.block_on(Scope::production().run(async {
            let listener = RealNet.bind(&address).await.expect("the port is free");
            Consensus::start(options, world, listener).await
        }));
        match started {
            Ok(consensus) => Ok(Self { consensus, stall, runtime: Some(runtime) }),
            Err(error) => {
                runtime.shutdown_background();
                Err(error)
            }
        }
    }

    /// Ends the node as `kill -9` would: nothing is finished.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.end();
    }
}

/// Three nodes on folders of their own.
pub(crate) struct Cluster {
    pub(crate) folders: Vec<tempfile::TempDir>,
    pub(crate) list: Vec<BootstrapPeer>,
    pub(crate) nodes: Vec<Option<Node>>,
    /// What each node speaks and applies from its next start on.
    pub(crate) versions: Vec<Versions>,
}

impl Cluster {
    /// Starts three nodes and waits until all follow one leader.
    pub(crate) fn three() -> Self {
        Self::of(3, steady())
    }

    /// Starts `count` nodes of the program of `versions`, and waits until all follow one leader.
    pub(crate) fn of(count: usize, versions: Versions) -> Self {
        let folders = (0..count).map(|_| tempfile::tempdir().expect("a folder")).collect();
        let list = free_ports(count)
            .into_iter()
            .enumerate()
            .map(|(at, port)| BootstrapPeer {
                name: format!("n{}", at + 1),
                peer_address: format!("127.0.0.1:{port}"),
            })
            .collect();
        let nodes = (0..count).map(|_| None).collect();
        let mut cluster = Self { folders, list, nodes, versions: vec![versions; count] };
        for at in 0..count {
            cluster.start(at);
        }
        cluster.leader();
        cluster
    }

    /// Starts one more node that waits to be added; its place.
    pub(crate) fn start_waiting(&mut self, name: &str) -> usize {
        self.start_waiting_as(name, steady())
    }

    /// As [`Self::start_waiting`], as the program of `versions`.
    pub(crate) fn start_waiting_as(&mut self, name: &str, versions: Versions) -> usize {
        let port = free_ports(1)[0];
        let peer_address = format!("127.0.0.1:{port}");
        let own = BootstrapPeer { name: name.to_owned(), peer_address };
        let folder = tempfile::tempdir().expect("a folder");
        let birth = Birth::Join("http://nowhere:1".to_owned());
        let node = Node::start_as(folder.path(), &own, birth, versions);
        self.folders.push(folder);
        self.list.push(own);
        self.nodes.push(Some(node.expect("the node starts")));
        self.versions.push(versions);
        self.nodes.len() - 1
    }

    /// Moves node `at` to another peer address; it is to be started there.
    pub(crate) fn move_to_another_port(&mut self, at: usize) {
        self.list[at].peer_address = format!("127.0.0.1:{}", free_ports(1)[0]);
    }

    /// Starts node `at` on its folder.
    pub(crate) fn start(&mut self, at: usize) {
        self.nodes[at] = Some(self.try_start(at).expect("the node starts"));
    }

    /// Starts node `at` on its folder, if it can.
    pub(crate) fn try_start(&self, at: usize) -> Result<Node, StartError> {
        let birth = Birth::Bootstrap(self.list.clone());
        Node::start_as(self.folders[at].path(), &self.list[at], birth, self.versions[at])
    }

    /// Kills node `at`.
    pub(crate) fn kill(&mut self, at: usize) {
        self.nodes[at].take().expect("the node runs").kill();
    }

    /// A running node.
    pub(crate) fn node(&self, at: usize) -> &Consensus {
        &self.nodes[at].as_ref().expect("the node runs").consensus
    }

    /// Stops all syncs of node `at`, or lets them go on.
    pub(crate) fn stall(&self, at: usize, stalled: bool) {
        self.nodes[at].as_ref().expect("the node runs").stall.set(stalled);
    }

    /// The running nodes.
    pub(crate) fn running(&self) -> impl Iterator<Item = &Consensus> {
        self.nodes.iter().flatten().map(|node| &node.consensus)
    }

    /// Waits until all running nodes follow one leader that runs; its place.
    pub(crate) fn leader(&self) -> usize {
        wait_for("one leader that all running nodes follow", || {
            let leads = |consensus: &Consensus| {
                let status = consensus.status();
                status.leader == Some(status.node_id)
            };
            let at = self
                .nodes
                .iter()
                .position(|node| node.as_ref().is_some_and(|node| leads(&node.consensus)))?;
            let leader = self.node(at).status();
            self.running()
                .all(|node| {
                    let status = node.status();
                    status.leader == Some(leader.node_id) && status.term == leader.term
                })
                .then_some(at)
        })
    }

    /// A running node that does not lead.
    pub(crate) fn follower(&self) -> usize {
        let leader = self.leader();
        (0..self.nodes.len())
            .find(|at| *at != leader && self.nodes[*at].is_some())
            .expect("there is a follower")
    }

    /// Writes through node `at`.
    pub(crate) fn put(&self, at: usize, key: &str, value: &str) -> Result<Applied, ProposeError> {
        block_on(self.node(at).propose(&put(key, value), Instant::now() + DEADLINE))
    }

    /// A linearizable read through node `at`.
    pub(crate) fn get(&self, at: usize, key: &str) -> Option<String> {
        let node = self.node(at);
        block_on(node.read_index(Instant::now() + DEADLINE)).expect("a read index");
        stale(node, key)
    }
}

/// What the node's own store has.
pub(crate) fn stale(node: &Consensus, key: &str) -> Option<String> {
    let query = RangeQuery::new(KeyRange::key(Bytes::copy_from_slice(key.as_bytes())));
    let answer = node.read(|store| store.range(&query)).expect("the present is readable");
    answer.pairs.first().map(|pair| String::from_utf8_lossy(&pair.value).into_owned())
}

/// A put of nobody in particular.
pub(crate) fn put(key: &str, value: &str) -> Proposal {
    Proposal::unattributed(Command::Put(Put {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        lease: Some(0),
        want_previous: false,
    }))
}

/// Runs one future of a test; every wait inside is bounded.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        timeout(PATIENCE, future).await.expect("the future ends within the patience of a test")
    })
}

/// Waits for a condition, yielding in between.
#[expect(clippy::disallowed_methods, reason = "a test's patience is real time, in no node's scope")]
pub(crate) fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let give_up = std::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(std::time::Instant::now() < give_up, "waited in vain for {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Ports below the ephemeral range, so that no outgoing connection takes one between two starts.
fn free_ports(count: usize) -> Vec<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 20_000 + u16::try_from(std::process::id() % 100).expect("below 100") * 100;
    let mut ports = Vec::new();
    while ports.len() < count {
        let port = base + NEXT.fetch_add(1, Ordering::Relaxed) % 10_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            ports.push(port);
        }
    }
    ports
}

/// This program at its oldest format and no other, so that nobody writes an entry, or takes a
/// snapshot, that a test did not ask for; `versions.rs` has the tests of going further.
pub(crate) fn steady() -> Versions {
    let versions = Versions::default();
    let oldest = versions.formats.0;
    Versions { formats: (oldest, oldest), ..versions }
}
