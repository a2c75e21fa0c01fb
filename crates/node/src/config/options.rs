//! The options of a node as one place gives them: flags, environment or file.
//!
//! A new option is added here, in `file.rs` (its key) and in `Config`; flags are made by whoever
//! parses the command line and must have the same names.

use std::{path::PathBuf, str::FromStr};

use super::ConfigError;

/// What every environment variable starts with.
pub(super) const ENVIRONMENT_PREFIX: &str = "MAINSTAY_";

/// The options that one place gives; `None` where it is silent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// The name that people use for this node.
    pub name: Option<String>,
    /// The data folder.
    pub data_dir: Option<PathBuf>,
    /// Where to listen for clients, `host:port`.
    pub client_addr: Option<String>,
    /// Where to listen for peers, `host:port`.
    pub peer_addr: Option<String>,
    /// Where clients find this node, `http://host:port` each.
    pub advertise_client_urls: Option<Vec<String>>,
    /// Where peers dial this node, `host:port`.
    pub advertise_peer_addr: Option<String>,
    /// `NAME=PEER` of every node of a new cluster, the same list on each.
    pub bootstrap: Option<Vec<String>>,
    /// Client URL of a member of the cluster to join.
    pub join: Option<String>,
    /// How long to go on trying to join, in milliseconds.
    pub join_timeout_ms: Option<u64>,
    /// The failure zone.
    pub zone: Option<String>,
    /// The site.
    pub site: Option<String>,
    /// First values of the cluster's timings.
    pub profile: Option<Profile>,
    /// First value of the cluster's quota in bytes.
    pub quota_bytes: Option<u64>,
    /// How often a watcher of the etcd API that asked for it hears how far it is, in milliseconds.
    pub watch_progress_interval_ms: Option<u64>,
    /// Which log lines to write.
    pub log: Option<String>,
    /// How to write them.
    pub log_format: Option<LogFormat>,
    /// The scheduler to run on.
    pub runtime: Option<RuntimeKind>,
}

impl Options {
    /// The names of all options, as they stand in the file; flags have dashes, variables capitals.
    pub const NAMES: [&'static str; 17] = [
        "name",
        "data_dir",
        "client_addr",
        "peer_addr",
        "advertise_client_urls",
        "advertise_peer_addr",
        "bootstrap",
        "join",
        "join_timeout_ms",
        "zone",
        "site",
        "profile",
        "quota_bytes",
        "watch_progress_interval_ms",
        "log",
        "log_format",
        "runtime",
    ];

    /// The options of `self`, and where it is silent those of `lower`.
    #[must_use]
    pub fn over(self, lower: Self) -> Self {
        Self {
            name: self.name.or(lower.name),
            data_dir: self.data_dir.or(lower.data_dir),
            client_addr: self.client_addr.or(lower.client_addr),
            peer_addr: self.peer_addr.or(lower.peer_addr),
            advertise_client_urls: self.advertise_client_urls.or(lower.advertise_client_urls),
            advertise_peer_addr: self.advertise_peer_addr.or(lower.advertise_peer_addr),
            bootstrap: self.bootstrap.or(lower.bootstrap),
            join: self.join.or(lower.join),
            join_timeout_ms: self.join_timeout_ms.or(lower.join_timeout_ms),
            zone: self.zone.or(lower.zone),
            site: self.site.or(lower.site),
            profile: self.profile.or(lower.profile),
            quota_bytes: self.quota_bytes.or(lower.quota_bytes),
            watch_progress_interval_ms: self
                .watch_progress_interval_ms
                .or(lower.watch_progress_interval_ms),
            log: self.log.or(lower.log),
            log_format: self.log_format.or(lower.log_format),
            runtime: self.runtime.or(lower.runtime),
        }
    }

    /// The options that `variables` give: `MAINSTAY_` and the name in capitals, lists with commas.
    /// An empty variable is a silent one; variables of other programs and of the client's flags
    /// are passed over.
    ///
    /// # Errors
    /// [`ConfigError::Environment`] for a value that its option cannot have.
    pub fn from_environment(
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut options = Self::default();
        for (variable, value) in variables {
            let Some(name) = variable.strip_prefix(ENVIRONMENT_PREFIX) else { continue };
            let name = name.to_ascii_lowercase();
            if value.is_empty() || !Self::NAMES.contains(&name.as_str()) {
                continue;
            }
            let refuse = |why| ConfigError::Environment { variable, value: value.clone(), why };
            options.set_text(&name, &value).map_err(refuse)?;
        }
        Ok(options)
    }

    /// Sets the option `name` from its text; an unknown name does nothing.
    pub(super) fn set_text(&mut self, name: &str, text: &str) -> Result<(), String> {
        fn choice<T: FromStr<Err = UnknownChoice>>(text: &str) -> Result<Option<T>, String> {
            text.parse().map(Some).map_err(|error: UnknownChoice| error.to_string())
        }
        let owned = || Some(text.to_owned());
        match name {
            "name" => self.name = owned(),
            "data_dir" => self.data_dir = Some(PathBuf::from(text)),
            "client_addr" => self.client_addr = owned(),
            "peer_addr" => self.peer_addr = owned(),
            "advertise_client_urls" => self.advertise_client_urls = Some(list(text)),
            "advertise_peer_addr" => self.advertise_peer_addr = owned(),
            "bootstrap" => self.bootstrap = Some(list(text)),
            "join" => self.join = owned(),
            "join_timeout_ms" => self.join_timeout_ms = Some(milliseconds(text)?),
            "zone" => self.zone = owned(),
            "site" => self.site = owned(),
            "profile" => self.profile = choice(text)?,
            "quota_bytes" => {
                let number = text.parse().map_err(|_error| "it is a whole number of bytes")?;
                self.quota_bytes = Some(number);
            }
            "watch_progress_interval_ms" => {
                self.watch_progress_interval_ms = Some(milliseconds(text)?);
            }
            "log" => self.log = owned(),
            "log_format" => self.log_format = choice(text)?,
            "runtime" => self.runtime = choice(text)?,
            _ => {}
        }
        Ok(())
    }
}

fn milliseconds(text: &str) -> Result<u64, &'static str> {
    text.parse().map_err(|_error| "it is a whole number of milliseconds")
}

/// The parts of a list written with commas.
fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// A word that is none of an option's choices.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is one of {}", choices.join(", "))]
pub struct UnknownChoice {
    /// The words that the option knows.
    pub choices: &'static [&'static str],
}

/// How far apart the nodes are; decides the first timings of a new cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Profile {
    /// One site: heartbeats every 50 ms, a leader lease of 300 ms.
    #[default]
    Lan,
    /// Several sites: heartbeats every 250 ms, a leader lease of 1,500 ms.
    Wan,
}

impl Profile {
    /// The words for it.
    pub const CHOICES: [&'static str; 2] = ["lan", "wan"];
}

impl FromStr for Profile {
    type Err = UnknownChoice;

    fn from_str(text: &str) -> Result<Self, UnknownChoice> {
        match text {
            "lan" => Ok(Self::Lan),
            "wan" => Ok(Self::Wan),
            _ => Err(UnknownChoice { choices: &Self::CHOICES }),
        }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for machines.
    Json,
}

impl LogFormat {
    /// The words for it.
    pub const CHOICES: [&'static str; 2] = ["text", "json"];
}

impl FromStr for LogFormat {
    type Err = UnknownChoice;

    fn from_str(text: &str) -> Result<Self, UnknownChoice> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(UnknownChoice { choices: &Self::CHOICES }),
        }
    }
}

/// The scheduler of a node's tasks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RuntimeKind {
    /// One thread for everything but the disk: the best choice on small machines, because what
    /// waits together is handled together.
    #[default]
    CurrentThread,
    /// One worker a core, with the scheduler's last-in-first-out slot off: that slot wakes
    /// consensus for each request alone and halves throughput.
    MultiThread,
}

impl RuntimeKind {
    /// The words for it.
    pub const CHOICES: [&'static str; 2] = ["current_thread", "multi_thread"];
}

impl FromStr for RuntimeKind {
    type Err = UnknownChoice;

    fn from_str(text: &str) -> Result<Self, UnknownChoice> {
        match text {
            "current_thread" => Ok(Self::CurrentThread),
            "multi_thread" => Ok(Self::MultiThread),
            _ => Err(UnknownChoice { choices: &Self::CHOICES }),
        }
    }
}
