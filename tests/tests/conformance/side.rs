//! The two sides that are compared: real processes of etcd and of Mainstay.

use std::{
    fmt,
    path::{Path, PathBuf},
    process::Command,
};

use mainstay_tests::{Cluster, Process, free_port, until};
use tempfile::TempDir;

use crate::calls::Calls;

/// How often both sides say by themselves how far a watch is, in milliseconds: as often as they do
/// at most.
const PROGRESS_INTERVAL_MS: u64 = 100;

/// A cluster that is asked.
pub(crate) struct Side {
    /// Who it is.
    pub(crate) name: &'static str,
    /// The addresses of its nodes for clients.
    pub(crate) addresses: Vec<String>,
    /// Its nodes over gRPC.
    pub(crate) nodes: Vec<Calls>,
    _keeps: Keeps,
}

/// What ends the processes when it goes.
#[expect(dead_code, reason = "they are kept for what their end does")]
enum Keeps {
    Cluster(Cluster),
    Etcd(Process, TempDir),
}

/// A program of etcd's on this machine.
#[derive(Debug, Clone)]
pub(crate) struct Etcd {
    /// The server.
    pub(crate) program: PathBuf,
    /// Its version.
    pub(crate) version: Version,
}

/// A version of etcd's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(pub(crate) u32, pub(crate) u32, pub(crate) u32);

impl Side {
    /// Three nodes of Mainstay.
    pub(crate) async fn mainstay() -> Self {
        let program = env!("CARGO_BIN_EXE_mainstay-under-test");
        let mut cluster = Cluster::planned(program, 3).await;
        for at in 0..cluster.len() {
            let interval = PROGRESS_INTERVAL_MS.to_string();
            let words = ["--watch-progress-interval-ms".to_owned(), interval];
            cluster[at].plan.extra.extend(words);
        }
        cluster.start_all();
        cluster.serves().await;
        let address = |at: usize| format!("127.0.0.1:{}", cluster[at].plan.client_port);
        let addresses = (0..cluster.len()).map(address).collect();
        Self::new("Mainstay", addresses, Keeps::Cluster(cluster))
    }

    /// One node of etcd.
    pub(crate) async fn etcd(etcd: &Etcd) -> Self {
        let folder = tempfile::tempdir().expect("the system has a temporary folder");
        Self::etcd_in(etcd, folder, free_port()).await
    }

    /// One node of etcd with what is in a folder, below `data`, if anything is. Restored data
    /// names the port for peers.
    pub(crate) async fn etcd_in(etcd: &Etcd, folder: TempDir, peer: u16) -> Self {
        let client = free_port();
        let client_url = format!("http://127.0.0.1:{client}");
        let peer_url = format!("http://127.0.0.1:{peer}");
        let words = [
            ("--name", "e1".to_owned()),
            ("--data-dir", folder.path().join("data").display().to_string()),
            ("--listen-client-urls", client_url.clone()),
            ("--advertise-client-urls", client_url.clone()),
            ("--listen-peer-urls", peer_url.clone()),
            ("--initial-advertise-peer-urls", peer_url.clone()),
            ("--initial-cluster", format!("e1={peer_url}")),
            (etcd.version.progress_flag(), format!("{PROGRESS_INTERVAL_MS}ms")),
        ];
        let words = words.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
        let log = folder.path().join("log");
        let process = Process::start(&etcd.program, words, &log, &log);
        until("etcd to serve", async || {
            let answer = reqwest::get(format!("{client_url}/health")).await;
            let answer = answer.map_err(|error| error.to_string())?;
            let text = answer.text().await.map_err(|error| error.to_string())?;
            if text.contains("\"true\"") { Ok(()) } else { Err(text) }
        })
        .await;
        Self::new("etcd", vec![format!("127.0.0.1:{client}")], Keeps::Etcd(process, folder))
    }

    fn new(name: &'static str, addresses: Vec<String>, keeps: Keeps) -> Self {
        let nodes = addresses.iter().map(|address| Calls::new(address)).collect();
        Self { name, addresses, nodes, _keeps: keeps }
    }
}

impl Etcd {
    /// The etcd that `ETCD` names, or else the one on the path.
    ///
    /// # Errors
    /// Why there is none to compare with.
    pub(crate) fn find() -> Result<Self, String> {
        let program = named_or_on_path("ETCD", "etcd")?;
        let version = Version::of(&program)?;
        Ok(Self { program, version })
    }
}

impl Version {
    /// What a program of etcd's says of itself.
    fn of(program: &Path) -> Result<Self, String> {
        let output = Command::new(program)
            .arg("--version")
            .output()
            .map_err(|error| format!("{} does not start: {error}", program.display()))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let numbers = text.lines().next().and_then(|line| line.split(' ').next_back());
        numbers
            .and_then(Self::parse)
            .ok_or_else(|| format!("{} says no version: {text}", program.display()))
    }

    /// What says how often etcd tells how far a watch is.
    fn progress_flag(self) -> &'static str {
        if self < Self(3, 6, 0) {
            "--experimental-watch-progress-notify-interval"
        } else {
            "--watch-progress-notify-interval"
        }
    }

    /// Three numbers with dots between.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.trim().split('.').map(str::parse);
        match (numbers.next()?, numbers.next()?, numbers.next()?) {
            (Ok(major), Ok(minor), Ok(patch)) => Some(Self(major, minor, patch)),
            _ => None,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// The program that a variable of the environment names, or else the one on the path.
///
/// # Errors
/// Why there is none.
pub(crate) fn named_or_on_path(variable: &str, program: &str) -> Result<PathBuf, String> {
    if let Some(named) = std::env::var_os(variable) {
        let named = PathBuf::from(named);
        return if named.is_file() {
            Ok(named)
        } else {
            Err(format!("{variable} names {}, which is not there", named.display()))
        };
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(program));
    let found = found.into_iter().find(|candidate| candidate.is_file());
    found.ok_or_else(|| format!("no {program} found; {variable} names one"))
}
