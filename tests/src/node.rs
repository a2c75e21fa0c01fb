//! One node: its place in the world, and the process that runs there now.

use std::path::{Path, PathBuf};

use crate::{
    client::{Client, Unanswered},
    patience::until,
    process::{Process, Signal},
};

/// Where a node lives. It stays the same over all starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePlan {
    /// Its name.
    pub name: String,
    /// Its data folder.
    pub data_dir: PathBuf,
    /// The port for clients.
    pub client_port: u16,
    /// The port for peers.
    pub peer_port: u16,
    /// The file that its log goes to.
    pub log: PathBuf,
    /// `--bootstrap`, or nothing.
    pub bootstrap: String,
    /// Further words of its command line.
    pub extra: Vec<String>,
}

impl NodePlan {
    /// Where clients find it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.client_port)
    }

    /// Where peers find it.
    #[must_use]
    pub fn peer_address(&self) -> String {
        format!("127.0.0.1:{}", self.peer_port)
    }

    /// Its command line.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        let client_addr = format!("127.0.0.1:{}", self.client_port);
        let (data_dir, peer_addr) = (self.data_dir.display().to_string(), self.peer_address());
        let mut words = vec!["serve".to_owned()];
        let mut option = |flag: &str, value: &str| {
            words.extend([flag.to_owned(), value.to_owned()]);
        };
        option("--name", &self.name);
        option("--data-dir", &data_dir);
        option("--client-addr", &client_addr);
        option("--peer-addr", &peer_addr);
        if !self.bootstrap.is_empty() {
            option("--bootstrap", &self.bootstrap);
        }
        words.extend(self.extra.iter().cloned());
        words
    }
}

/// A node with its process, if one runs.
#[derive(Debug)]
pub struct Node {
    /// Where it lives.
    pub plan: NodePlan,
    client: Client,
    process: Option<Process>,
}

impl Node {
    /// A node that has not been started.
    #[must_use]
    pub fn new(plan: NodePlan) -> Self {
        let client = Client::new(&plan.url());
        Self { plan, client, process: None }
    }

    /// A caller of this node.
    #[must_use]
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// Has it join through the node at `url` from its next start on, instead of founding a cluster.
    pub fn joins_through(&mut self, url: &str) {
        self.plan.bootstrap = String::new();
        self.plan.extra.extend(["--join".to_owned(), url.to_owned()]);
    }

    /// Starts its process, without waiting for anything.
    ///
    /// # Panics
    /// If it runs already.
    pub fn start(&mut self, program: &Path) {
        assert!(self.process.is_none(), "{} runs already", self.plan.name);
        let log = &self.plan.log;
        self.process = Some(Process::start(program, self.plan.words(), log, log));
    }

    /// Whether it has a process, standing still or not.
    #[must_use]
    pub const fn runs(&self) -> bool {
        self.process.is_some()
    }

    /// Its process.
    ///
    /// # Panics
    /// If it has none.
    pub fn process(&mut self) -> &mut Process {
        let name = &self.plan.name;
        self.process.as_mut().unwrap_or_else(|| panic!("{name} does not run"))
    }

    /// Sends a signal to its process and does not wait.
    pub fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            process.signal(signal);
        }
    }

    /// Ends it as `kill -9` does.
    ///
    /// # Panics
    /// If it does not run.
    pub async fn kill(&mut self) {
        self.process().signal(Signal::Kill);
        self.ended().await;
    }

    /// Waits for the end of its process and tells the exit code.
    ///
    /// # Panics
    /// If it does not run, or does not end.
    pub async fn ended(&mut self) -> i32 {
        let code = self.process().exit_code().await;
        self.process = None;
        code
    }

    /// Waits until it answers to clients.
    ///
    /// # Panics
    /// If it does not, or ends instead.
    pub async fn answers(&mut self) {
        let client = self.client.clone();
        let process = self.process();
        let look = async || {
            if let Some(status) = process.ended() {
                panic!("the node ended with {status}: {}", process.stderr());
            }
            client.request("GET", "/health/live").send().await.map(|_answer| ())
        };
        until::<(), Unanswered>(&format!("an answer of {}", client.url()), look).await;
    }

    /// What it has logged, over all starts.
    ///
    /// # Panics
    /// If there is no log.
    #[must_use]
    pub fn log(&self) -> String {
        let bytes = std::fs::read(&self.plan.log)
            .unwrap_or_else(|error| panic!("{}: {error}", self.plan.log.display()));
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Removes everything in its data folder.
    ///
    /// # Panics
    /// If it runs, or the folder cannot be removed.
    pub fn wipe(&self) {
        assert!(!self.runs(), "{} runs on its folder", self.plan.name);
        std::fs::remove_dir_all(&self.plan.data_dir)
            .unwrap_or_else(|error| panic!("{}: {error}", self.plan.data_dir.display()));
    }
}
