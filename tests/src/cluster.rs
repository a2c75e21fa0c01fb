//! A cluster of real processes.
//!
//! Only a few exist at a time, however many threads the tests have: each is three processes that
//! want a processor. When a test fails the end of every node's log is printed;
//! `MAINSTAY_TEST_LOG=1` keeps the folder as it is.

use std::{
    collections::BTreeSet,
    ops::{Index, IndexMut},
    path::{Path, PathBuf},
};

use tempfile::TempDir;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{
    client::Client,
    node::{Node, NodePlan},
    patience::until,
    port::free_port,
    process::Signal,
};

/// Clusters at a time.
const PLACES: usize = 2;

/// Lines of each log that are printed when a test fails.
const LAST_LINES: usize = 60;

static FREE_PLACES: Semaphore = Semaphore::const_new(PLACES);

/// Nodes that belong together.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    program: PathBuf,
    folder: TempDir,
    _place: SemaphorePermit<'static>,
}

impl Cluster {
    /// Three nodes that serve.
    ///
    /// # Panics
    /// If they do not get that far.
    pub async fn three(program: &str) -> Self {
        let mut cluster = Self::planned(program, 3).await;
        cluster.start_all();
        cluster.serves().await;
        cluster
    }

    /// A cluster of one node that serves.
    ///
    /// # Panics
    /// If it does not get that far.
    pub async fn one(program: &str) -> Self {
        let mut cluster = Self::planned(program, 1).await;
        cluster.start_all();
        cluster.serves().await;
        cluster
    }

    /// `count` nodes that were never started, with folders below a temporary one.
    ///
    /// # Panics
    /// If the machine has no place for them.
    pub async fn planned(program: &str, count: usize) -> Self {
        let folder = tempfile::tempdir().expect("the system has a temporary folder");
        let data = folder.path().to_owned();
        Self::planned_in(program, count, folder, &data).await
    }

    /// `count` nodes that were never started, with folders below `data`.
    ///
    /// # Panics
    /// If the machine has no place for them.
    pub async fn planned_in(program: &str, count: usize, folder: TempDir, data: &Path) -> Self {
        let place = place().await;
        let names: Vec<_> = (1..=count).map(|number| format!("n{number}")).collect();
        let ports: Vec<_> = names.iter().map(|_name| (free_port(), free_port())).collect();
        let peers =
            names.iter().zip(&ports).map(|(name, (_, peer))| format!("{name}=127.0.0.1:{peer}"));
        let bootstrap = peers.collect::<Vec<_>>().join(",");
        let node = |(name, (client_port, peer_port)): (String, (u16, u16))| {
            Node::new(NodePlan {
                data_dir: data.join(&name),
                log: folder.path().join(format!("{name}.log")),
                name,
                client_port,
                peer_port,
                bootstrap: bootstrap.clone(),
                // Each line of consensus is many; the warnings are what tells.
                extra: vec!["--log".to_owned(), "info,openraft=warn".to_owned()],
            })
        };
        let nodes = names.into_iter().zip(ports).map(node).collect();
        Self { nodes, program: PathBuf::from(program), folder, _place: place }
    }

    /// How many nodes it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether it has none; it always has some.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Its folder, for files of the test.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Callers of all its nodes.
    #[must_use]
    pub fn clients(&self) -> Vec<Client> {
        self.nodes.iter().map(|node| node.client().clone()).collect()
    }

    /// All endpoints, as the command line takes them.
    #[must_use]
    pub fn endpoints(&self) -> String {
        self.nodes.iter().map(|node| node.plan.url()).collect::<Vec<_>>().join(",")
    }

    /// Plans one more node, called `name`, which joins through node `through` when it is started;
    /// its place.
    pub fn plan_joining(&mut self, name: &str, through: usize) -> usize {
        let plan = NodePlan {
            name: name.to_owned(),
            data_dir: self.folder.path().join(format!("{name}-{}", self.len())),
            client_port: free_port(),
            peer_port: free_port(),
            log: self.folder.path().join(format!("{name}-{}.log", self.len())),
            bootstrap: String::new(),
            extra: ["--log", "info,openraft=warn", "--join", &self[through].plan.url()]
                .map(str::to_owned)
                .to_vec(),
        };
        self.nodes.push(Node::new(plan));
        self.len() - 1
    }

    /// Starts node `at`, without waiting for anything.
    pub fn start(&mut self, at: usize) {
        let program = self.program.clone();
        self[at].start(&program);
    }

    /// Starts all nodes that do not run.
    pub fn start_all(&mut self) {
        for at in 0..self.len() {
            if !self[at].runs() {
                self.start(at);
            }
        }
    }

    /// Ends all running nodes at once, as a power failure does to processes.
    ///
    /// # Panics
    /// If one does not end.
    pub async fn kill_all(&mut self) {
        for node in &self.nodes {
            node.signal(Signal::Kill);
        }
        for node in &mut self.nodes {
            if node.runs() {
                node.ended().await;
            }
        }
    }

    /// Waits until every running node answers a linearizable read, a write among them went
    /// through, and all of them agree who leads.
    ///
    /// # Panics
    /// If that does not happen, or a node ends instead.
    pub async fn serves(&mut self) {
        for node in self.nodes.iter_mut().filter(|node| node.runs()) {
            node.answers().await;
        }
        let client = self.running().next().expect("a node runs").client().clone();
        until("a write", async || match client.put("harness/serves", "yes").send().await {
            Ok(answer) if answer.status == 200 => Ok(()),
            Ok(answer) => Err(answer.text()),
            Err(error) => Err(error.to_string()),
        })
        .await;
        for node in self.running() {
            let look = async || match node.client().get("harness/serves").send().await {
                Ok(answer) if answer.status == 200 => Ok(()),
                Ok(answer) => Err(answer.text()),
                Err(error) => Err(error.to_string()),
            };
            until(&format!("a read at {}", node.plan.name), look).await;
        }
        self.leader().await;
    }

    /// The node that leads, once all running nodes say so in one term.
    ///
    /// # Panics
    /// If they do not come to agree.
    pub async fn leader(&self) -> usize {
        let running: Vec<_> = (0..self.len()).filter(|at| self[*at].runs()).collect();
        self.leader_of(&running).await
    }

    /// The node that leads, once all of `among` say so in one term.
    ///
    /// # Panics
    /// If they do not come to agree on one of them.
    pub async fn leader_of(&self, among: &[usize]) -> usize {
        until("one leader", async || {
            let mut opinions = BTreeSet::new();
            let mut own_ids = Vec::new();
            for at in among {
                let answer = match self[*at].client().cluster().await {
                    Ok(answer) => answer,
                    Err(error) => return Err(error.to_string()),
                };
                let document = answer.json();
                let leader = document["leader"].as_str().map(str::to_owned);
                let term = document["term"].as_str().map(str::to_owned);
                own_ids.push((*at, answer.header("Mainstay-Member-Id").to_owned()));
                opinions.insert((leader, term));
            }
            let leads = |id: &str| own_ids.iter().find(|(_at, own)| own == id);
            match opinions.iter().collect::<Vec<_>>().as_slice() {
                [(Some(leader), _term)] => match leads(leader) {
                    Some((at, _id)) => Ok(*at),
                    None => Err(format!("{leader} leads, which is none of {own_ids:?}")),
                },
                opinions => Err(format!("leaders and terms: {opinions:?}")),
            }
        })
        .await
    }

    /// The nodes that are not `at`.
    #[must_use]
    pub fn others(&self, at: usize) -> Vec<usize> {
        (0..self.len()).filter(|other| *other != at).collect()
    }

    fn running(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.runs())
    }
}

impl Index<usize> for Cluster {
    type Output = Node;

    fn index(&self, at: usize) -> &Node {
        &self.nodes[at]
    }
}

impl IndexMut<usize> for Cluster {
    fn index_mut(&mut self, at: usize) -> &mut Node {
        &mut self.nodes[at]
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for node in &self.nodes {
                print_end_of(&node.plan.log);
            }
        }
        if std::env::var_os("MAINSTAY_TEST_LOG").is_some_and(|value| value == "1") {
            self.folder.disable_cleanup(true);
            say(&format!("the cluster's folder is kept: {}", self.folder.path().display()));
        }
    }
}

/// Waits for the right to run a cluster, for tests that do it without a [`Cluster`].
///
/// # Panics
/// Never: the semaphore is not closed.
pub async fn place() -> SemaphorePermit<'static> {
    FREE_PLACES.acquire().await.expect("the semaphore is never closed")
}

fn print_end_of(log: &Path) {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    let from = lines.len().saturating_sub(LAST_LINES);
    say(&format!("--- the end of {}", log.display()));
    for line in &lines[from..] {
        say(line);
    }
}

#[expect(clippy::print_stderr, reason = "the test runner shows it beside the failure")]
fn say(text: &str) {
    eprintln!("{text}");
}
