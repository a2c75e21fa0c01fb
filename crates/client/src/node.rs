//! What one node measures of itself.

use serde::{Deserialize, Serialize};

use crate::{
    answer::Answer,
    call::Call,
    client::Client,
    error::CallError,
    json::{decimal, optional_decimal},
};

/// What a node measures of itself. Times are in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeReport {
    /// The node.
    #[serde(with = "decimal")]
    pub id: u64,
    /// Its name; `None` if it is no member.
    pub name: Option<String>,
    /// The program's version.
    pub version: String,
    /// The peer protocols that it speaks; `None` if it is too old to say so.
    #[serde(default)]
    pub protocols: Option<Span>,
    /// The replicated formats that it applies; `None` if it is too old to say so.
    #[serde(default)]
    pub formats: Option<FormatReport>,
    /// Its wall clock when it answered, in milliseconds since 1970.
    pub wall_clock_ms: u64,
    /// Its disk.
    pub disk: DiskReport,
    /// Its store.
    pub store: StoreReport,
    /// The other members that it talks to.
    pub peers: Vec<PeerReport>,
}

/// An oldest and a newest number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// The oldest.
    pub oldest: u64,
    /// The newest.
    pub newest: u64,
}

/// The replicated formats that a node applies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FormatReport {
    /// The oldest.
    pub oldest: u64,
    /// The newest.
    pub newest: u64,
    /// What its store follows.
    pub in_force: u64,
    /// On the leader: a newer format that it knows and that a member cannot follow.
    pub held_up: Option<HeldUpFormat>,
}

/// A format that cannot come into force yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeldUpFormat {
    /// The format.
    pub newest: u64,
    /// For how long, under the present leader.
    pub for_ms: f64,
    /// The members that cannot follow, by name.
    pub by: Vec<String>,
}

/// What a node knows of its disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DiskReport {
    /// Syncs of the log since the node started.
    #[serde(with = "decimal")]
    pub syncs: u64,
    /// What 99 % of the last 1,000 syncs stayed within; `None` before the first.
    pub sync_p99_ms: Option<f64>,
    /// Age of the oldest sync that is not finished.
    pub oldest_sync_ms: f64,
    /// Bytes of log behind the purge point.
    #[serde(with = "decimal")]
    pub log_bytes: u64,
    /// Bytes that can still be written; `None` if the disk does not say.
    #[serde(with = "optional_decimal")]
    pub free_bytes: Option<u64>,
    /// The disk is nearly full: the reserve is in use.
    pub reserve_in_use: bool,
}

/// How much a node's store holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreReport {
    /// Logical bytes.
    #[serde(with = "decimal")]
    pub bytes: u64,
    /// Logical bytes that it may hold.
    #[serde(with = "decimal")]
    pub quota_bytes: u64,
    /// Keys.
    #[serde(with = "decimal")]
    pub keys: u64,
    /// It is near its quota.
    pub warning: bool,
    /// The quota is reached.
    pub full: bool,
}

/// What a node knows of its way to another one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeerReport {
    /// The peer.
    #[serde(with = "decimal")]
    pub id: u64,
    /// Its name; `None` if it is no member.
    pub name: Option<String>,
    /// Whether it answered within the last second.
    pub healthy: bool,
    /// Round trip of the newest answered heartbeat.
    pub round_trip_ms: f64,
    /// Calls to it that failed.
    #[serde(with = "decimal")]
    pub failures: u64,
    /// The peer protocol that is spoken with it; `None` before it was greeted.
    #[serde(default)]
    pub protocol: Option<u64>,
    /// The replicated formats that it applies.
    #[serde(default)]
    pub formats: Option<Span>,
}

impl Client {
    /// What the asked node measures of itself.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn node(&self) -> Result<Answer<NodeReport>, CallError> {
        self.call_json(&Call::read("/v1/node".to_owned())).await
    }
}
