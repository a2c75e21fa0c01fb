//! What a node is told when it starts.
//!
//! Options come from three places with the same names in each: flags (`--data-dir`), the
//! environment (`MAINSTAY_DATA_DIR`) and one TOML file (`data_dir`). Each place is read into an
//! [`Options`], everything optional; [`Config::resolve`] lays flags over environment over file,
//! fills in the defaults and checks the whole. What comes out is complete and consistent: the
//! rest of the node never asks where a value came from.
//!
//! The cluster's replicated settings are not here: `quota_bytes` and `profile` only propose their
//! first values when this node creates a cluster. Nothing here reads the environment by itself.

mod error;
mod file;
mod options;

use std::{path::PathBuf, time::Duration};

use mainstay_client::{Endpoint, EndpointError};
use mainstay_consensus::{Birth, BootstrapPeer, Versions};
use mainstay_kv::Settings;

pub use error::ConfigError;
pub use options::{LogFormat, Options, Profile, RuntimeKind, UnknownChoice};

/// Where clients find a node unless told otherwise.
pub const CLIENT_ADDR_DEFAULT: &str = "127.0.0.1:2379";

/// Where peers find a node unless told otherwise.
pub const PEER_ADDR_DEFAULT: &str = "127.0.0.1:2380";

/// The smallest quota that makes sense: one full transaction with room.
const QUOTA_BYTES_MIN: u64 = 16 * 1024 * 1024;

/// How often watchers hear how far they are unless told otherwise, and the least, as in etcd.
pub const WATCH_PROGRESS_INTERVAL_DEFAULT: Duration = Duration::from_secs(10 * 60);
const WATCH_PROGRESS_INTERVAL_MS_MIN: u64 = 100;

/// How long a node goes on trying to join unless told otherwise, and the most: whoever wants to try
/// for ever has a supervisor that starts the node again.
pub const JOIN_TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);
const JOIN_TIMEOUT_MS_MAX: u64 = 24 * 60 * 60 * 1000;

/// Longest name of a node, zone or site in bytes.
const NAME_BYTES_MAX: usize = 64;

/// Most nodes in a bootstrap list.
const BOOTSTRAP_NODES_MAX: usize = 9;

/// Everything a node needs to know to start, complete and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The name that people use for this node.
    pub name: String,
    /// The data folder.
    pub data_dir: PathBuf,
    /// Where to listen for clients, `host:port`.
    pub client_addr: String,
    /// Where to listen for peers, `host:port`.
    pub peer_addr: String,
    /// Where clients find this node; empty for the address that was bound.
    pub advertise_client_urls: Vec<String>,
    /// Where peers dial this node, `host:port`; empty for the address that was bound.
    pub advertise_peer_addr: String,
    /// How this node finds its cluster.
    pub birth: Birth,
    /// How long it goes on trying to join a cluster against what may pass by itself.
    pub join_timeout: Duration,
    /// The failure zone, or empty.
    pub zone: String,
    /// The site, or empty.
    pub site: String,
    /// First values of the cluster's timings.
    pub profile: Profile,
    /// First value of the cluster's quota in bytes.
    pub quota_bytes: u64,
    /// How often a watcher of the etcd API that asked for it hears how far it is.
    pub watch_progress_interval: Duration,
    /// Which log lines to write, as `tracing-subscriber` filters: `info,mainstay_node=debug`.
    pub log: String,
    /// How to write them.
    pub log_format: LogFormat,
    /// The scheduler that the process should run this node on.
    pub runtime: RuntimeKind,
    /// What this node speaks and applies. Nobody sets it: a simulation that upgrades a cluster has
    /// nodes of an earlier program in it.
    pub versions: Versions,
}

impl Config {
    /// Lays `flags` over `environment` over `file`, fills in defaults and checks the whole.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] names the first option that cannot be used, and why.
    pub fn resolve(
        flags: Options,
        environment: Options,
        file: Options,
    ) -> Result<Self, ConfigError> {
        let options = flags.over(environment).over(file);
        let name = options.name.unwrap_or_else(|| "node".to_owned());
        check_name("name", &name)?;
        let zone = options.zone.unwrap_or_default();
        let site = options.site.unwrap_or_default();
        for (option, value) in [("zone", &zone), ("site", &site)] {
            if !value.is_empty() {
                check_name(option, value)?;
            }
        }
        let client_addr = options.client_addr.unwrap_or_else(|| CLIENT_ADDR_DEFAULT.to_owned());
        let peer_addr = options.peer_addr.unwrap_or_else(|| PEER_ADDR_DEFAULT.to_owned());
        let (client_host, client_port) = host_and_port("client_addr", &client_addr)?;
        let (peer_host, peer_port) = host_and_port("peer_addr", &peer_addr)?;
        if client_addr == peer_addr && client_port != 0 {
            return Err(ConfigError::invalid(
                "peer_addr",
                &peer_addr,
                "clients and peers need a port each, and client_addr is the same",
            ));
        }

        let bootstrap = options.bootstrap.unwrap_or_default();
        let birth = birth(&name, &bootstrap, options.join)?;
        let advertise_peer_addr =
            advertised_peer(&name, &birth, options.advertise_peer_addr, peer_host, peer_port)?;
        let advertise_client_urls = options.advertise_client_urls.unwrap_or_default();
        for url in &advertise_client_urls {
            check_url("advertise_client_urls", url)?;
        }
        if advertise_client_urls.is_empty() && is_everywhere(client_host) {
            return Err(ConfigError::invalid(
                "client_addr",
                &client_addr,
                "it listens on every address, so advertise_client_urls must say where clients find this node",
            ));
        }

        let quota_bytes = options.quota_bytes.unwrap_or_else(|| Settings::default().quota_bytes);
        if quota_bytes < QUOTA_BYTES_MIN {
            return Err(ConfigError::invalid(
                "quota_bytes",
                &quota_bytes.to_string(),
                "a store of less than 16777216 bytes cannot hold one full transaction",
            ));
        }
        let data_dir =
            options.data_dir.unwrap_or_else(|| PathBuf::from(format!("{name}.mainstay")));
        Ok(Self {
            data_dir,
            client_addr,
            peer_addr,
            advertise_client_urls,
            advertise_peer_addr,
            birth,
            join_timeout: join_timeout(options.join_timeout_ms)?,
            zone,
            site,
            profile: options.profile.unwrap_or_default(),
            quota_bytes,
            watch_progress_interval: watch_progress_interval(options.watch_progress_interval_ms)?,
            log: options.log.unwrap_or_else(|| "info".to_owned()),
            log_format: options.log_format.unwrap_or_default(),
            runtime: options.runtime.unwrap_or_default(),
            versions: Versions::default(),
            name,
        })
    }

    /// The first replicated settings of a cluster that this node creates.
    #[must_use]
    pub fn settings(&self) -> Settings {
        let settings = Settings { quota_bytes: self.quota_bytes, ..Settings::default() };
        match self.profile {
            Profile::Lan => settings,
            Profile::Wan => Settings {
                heartbeat_ms: 250,
                election_timeout_ms_min: 750,
                election_timeout_ms_max: 1_500,
                ..settings
            },
        }
    }
}

fn join_timeout(said: Option<u64>) -> Result<Duration, ConfigError> {
    match said {
        None => Ok(JOIN_TIMEOUT_DEFAULT),
        Some(ms) if ms <= JOIN_TIMEOUT_MS_MAX => Ok(Duration::from_millis(ms)),
        Some(ms) => Err(ConfigError::invalid(
            "join_timeout_ms",
            &ms.to_string(),
            "a node tries to join for at most a day, 86400000; have a supervisor start it again",
        )),
    }
}

fn watch_progress_interval(said: Option<u64>) -> Result<Duration, ConfigError> {
    match said {
        None => Ok(WATCH_PROGRESS_INTERVAL_DEFAULT),
        Some(ms) if ms >= WATCH_PROGRESS_INTERVAL_MS_MIN => Ok(Duration::from_millis(ms)),
        Some(ms) => Err(ConfigError::invalid(
            "watch_progress_interval_ms",
            &ms.to_string(),
            "more than ten messages a second for each idle watcher help nobody",
        )),
    }
}

/// How the node finds its cluster: by list, by a member's URL, or by what its folder knows.
fn birth(name: &str, bootstrap: &[String], join: Option<String>) -> Result<Birth, ConfigError> {
    let join = join.filter(|url| !url.is_empty());
    if let Some(url) = join {
        if !bootstrap.is_empty() {
            return Err(ConfigError::invalid(
                "join",
                &url,
                "a node either bootstraps a new cluster or joins one, not both",
            ));
        }
        check_join(&url)?;
        return Ok(Birth::Join(url));
    }
    if bootstrap.is_empty() {
        return Ok(Birth::Resume);
    }
    let peers = bootstrap.iter().map(|entry| peer(entry)).collect::<Result<Vec<_>, _>>()?;
    let whole = bootstrap.join(",");
    let refuse = |why| Err(ConfigError::invalid("bootstrap", &whole, why));
    if peers.len() > BOOTSTRAP_NODES_MAX {
        return refuse("a cluster starts with at most 9 nodes; three or five are usual");
    }
    for (at, peer) in peers.iter().enumerate() {
        let before = &peers[..at];
        if before.iter().any(|other| other.name == peer.name) {
            return refuse("two nodes of the list have the same name");
        }
        if before.iter().any(|other| other.peer_address == peer.peer_address) {
            return refuse("two nodes of the list have the same address");
        }
    }
    if !peers.iter().any(|peer| peer.name == name) {
        return refuse(
            "this node's own name is not in the list, and every node needs the same list",
        );
    }
    Ok(Birth::Bootstrap(peers))
}

fn peer(entry: &str) -> Result<BootstrapPeer, ConfigError> {
    let Some((name, peer_address)) = entry.split_once('=') else {
        return Err(ConfigError::invalid(
            "bootstrap",
            entry,
            "each node is written NAME=PEER, for example n1=127.0.0.1:2380",
        ));
    };
    check_name("bootstrap", name)?;
    let (_host, port) = host_and_port("bootstrap", peer_address)?;
    if port == 0 {
        return Err(ConfigError::invalid("bootstrap", entry, "peers cannot dial port 0"));
    }
    Ok(BootstrapPeer { name: name.to_owned(), peer_address: peer_address.to_owned() })
}

/// Where peers dial this node: what was said, else what the bootstrap list says, else (empty) the
/// address that will be bound.
fn advertised_peer(
    name: &str,
    birth: &Birth,
    said: Option<String>,
    peer_host: &str,
    peer_port: u16,
) -> Result<String, ConfigError> {
    let said = said.filter(|address| !address.is_empty());
    if let Some(address) = &said {
        let (host, port) = host_and_port("advertise_peer_addr", address)?;
        if port == 0 || is_everywhere(host) {
            return Err(ConfigError::invalid(
                "advertise_peer_addr",
                address,
                "peers must be able to dial it",
            ));
        }
    }
    let listed = match birth {
        Birth::Bootstrap(peers) => {
            peers.iter().find(|peer| peer.name == name).map(|peer| peer.peer_address.clone())
        }
        Birth::Join(_) | Birth::Resume => None,
    };
    match (said, listed) {
        (Some(said), Some(listed)) if said != listed => Err(ConfigError::invalid(
            "advertise_peer_addr",
            &said,
            "the bootstrap list has another address for this node",
        )),
        (Some(address), _) | (None, Some(address)) => Ok(address),
        (None, None) if is_everywhere(peer_host) => Err(ConfigError::invalid(
            "peer_addr",
            &format!("{peer_host}:{peer_port}"),
            "it listens on every address, so advertise_peer_addr must say where peers dial this node",
        )),
        (None, None) => Ok(String::new()),
    }
}

pub(crate) fn check_name(option: &'static str, name: &str) -> Result<(), ConfigError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(allowed) {
        return Err(ConfigError::invalid(
            option,
            name,
            "a name has 1 to 64 letters, digits, dashes, dots and underscores",
        ));
    }
    Ok(())
}

/// Splits `host:port`; an IPv6 host stands in brackets.
fn host_and_port<'a>(
    option: &'static str,
    address: &'a str,
) -> Result<(&'a str, u16), ConfigError> {
    let refuse = || {
        ConfigError::invalid(option, address, "an address is written host:port, as 127.0.0.1:2379")
    };
    let (host, port) = address.rsplit_once(':').ok_or_else(refuse)?;
    let port = port.parse().map_err(|_not_a_port| refuse())?;
    let bare_ipv6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
    if host.is_empty() || bare_ipv6 || host.contains(|c: char| c.is_whitespace() || c == '/') {
        return Err(refuse());
    }
    Ok((host, port))
}

/// As [`check_url`], and it must be one that this node can ask by itself.
fn check_join(url: &str) -> Result<(), ConfigError> {
    check_url("join", url)?;
    url.parse().map(|_endpoint: Endpoint| ()).map_err(|error| {
        let why = match error {
            EndpointError::Scheme { .. } => {
                "a node asks members in plain HTTP and speaks no TLS; write http://host:port"
            }
            EndpointError::Malformed { .. } => {
                "a client URL is written http://host:port, without a path"
            }
        };
        ConfigError::invalid("join", url, why)
    })
}

fn check_url(option: &'static str, url: &str) -> Result<(), ConfigError> {
    let refuse = || {
        ConfigError::invalid(
            option,
            url,
            "a client URL is written http://host:port, without a path",
        )
    };
    let address =
        url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")).ok_or_else(refuse)?;
    host_and_port(option, address.strip_suffix('/').unwrap_or(address))
        .map(|_parts| ())
        .map_err(|_error| refuse())
}

/// Whether a socket bound to `host` listens on every address, so that nobody can dial it by name.
fn is_everywhere(host: &str) -> bool {
    matches!(host, "0.0.0.0" | "[::]")
}

#[cfg(test)]
mod tests;
