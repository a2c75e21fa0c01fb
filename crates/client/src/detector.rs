//! Who is alive as one node sees it, and the last elections with their reasons.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    answer::Answer,
    call::Call,
    client::Client,
    error::CallError,
    json::{decimal, optional_decimal},
};

/// What one node makes of itself and of the others. Times are in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FailureDetector {
    /// The node that was asked.
    pub node: OwnReading,
    /// Every other node, by id.
    pub peers: Vec<PeerReading>,
    /// The last changes of leader, newest first.
    pub elections: Vec<Election>,
}

/// What a node knows of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OwnReading {
    /// The node id.
    #[serde(with = "decimal")]
    pub id: u64,
    /// Its name.
    pub name: Option<String>,
    /// Who leads, if that is known.
    #[serde(with = "optional_decimal")]
    pub leader: Option<u64>,
    /// The leader's name.
    pub leader_name: Option<String>,
    /// How unwell the node finds itself, 0 to 8.
    pub score: u8,
    /// What gave the score: `well`, `scheduling_lag`, `sync_age` or `alone`.
    pub reason: String,
    /// By how much its timers are late.
    pub scheduling_lag_ms: f64,
    /// Age of its oldest unfinished sync.
    pub oldest_sync_ms: f64,
    /// The age of the oldest sync from which on a leader hands over.
    pub stall_budget_ms: f64,
    /// How many peers are suspected or have failed.
    pub silent_peers: u64,
    /// How often the node was found to have stood still.
    #[serde(with = "decimal")]
    pub local_pauses: u64,
    /// Heartbeats of nodes that are not watched.
    #[serde(with = "decimal")]
    pub unknown_heartbeats: u64,
}

/// What a node knows of another one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeerReading {
    /// The peer's node id.
    #[serde(with = "decimal")]
    pub id: u64,
    /// Its name; `None` once it is no member any more.
    pub name: Option<String>,
    /// `unheard`, `alive`, `suspect` or `failed`.
    pub level: String,
    /// How surprising its silence is; `None` for a peer that was never heard.
    pub phi: Option<f64>,
    /// Phi from which on it is suspected, as in force.
    pub suspect_threshold: f64,
    /// Phi from which on it has failed, as in force.
    pub failed_threshold: f64,
    /// How far the thresholds are raised, 0 to 8.
    pub score: u8,
    /// Why they are; as [`OwnReading::reason`].
    pub reason: String,
    /// Mean of its intervals that were on time.
    pub mean_ms: f64,
    /// Standard deviation of these.
    pub deviation_ms: f64,
    /// What its silence may last beyond the mean at no cost.
    pub acceptable_pause_ms: f64,
    /// Mean lateness of its late intervals.
    pub tail_scale_ms: f64,
    /// The period that it announced.
    pub period_ms: f64,
    /// Time since its last sign of life.
    pub silence_ms: f64,
    /// Age of its oldest unfinished sync, as it says.
    pub oldest_sync_ms: f64,
    /// By how much its timers are late, as it says.
    pub scheduling_lag_ms: f64,
    /// The share of its intervals that are late, 0 to 1.
    pub tail_share: f64,
    /// How many intervals were measured, at most 200.
    #[serde(with = "decimal")]
    pub samples: u64,
    /// Which run of its process this is.
    #[serde(with = "decimal")]
    pub incarnation: u64,
    /// Heartbeats that were used.
    #[serde(with = "decimal")]
    pub heartbeats: u64,
    /// Heartbeats that never came.
    #[serde(with = "decimal")]
    pub missed: u64,
    /// How often it was suspected and then heard again.
    #[serde(with = "decimal")]
    pub mistakes: u64,
    /// Heartbeats that were ignored.
    pub ignored: IgnoredHeartbeats,
}

/// How many heartbeats were ignored, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IgnoredHeartbeats {
    /// Came twice.
    #[serde(with = "decimal")]
    pub duplicate: u64,
    /// Came after a later one.
    #[serde(with = "decimal")]
    pub reordered: u64,
    /// Of a process that is gone.
    #[serde(with = "decimal")]
    pub old_incarnation: u64,
    /// With values that cannot be.
    #[serde(with = "decimal")]
    pub absurd: u64,
}

impl IgnoredHeartbeats {
    /// All of them.
    #[must_use]
    pub const fn total(&self) -> u64 {
        let Self { duplicate, reordered, old_incarnation, absurd } = *self;
        duplicate.saturating_add(reordered).saturating_add(old_incarnation).saturating_add(absurd)
    }
}

/// A change of leader, explained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Election {
    /// The term that began.
    #[serde(with = "decimal")]
    pub term: u64,
    /// Who leads in it.
    #[serde(with = "decimal")]
    pub leader: u64,
    /// Its name; `None` once it is no member any more.
    pub leader_name: Option<String>,
    /// Who led before, as far as the teller knew.
    #[serde(with = "optional_decimal")]
    pub previous: Option<u64>,
    /// Its name.
    pub previous_name: Option<String>,
    /// When, in milliseconds since 1970 by the clock of the node that tells.
    pub at_ms: u64,
    /// Why, in one word: `silence`, `operator` and so on, see `docs/http-api.md`.
    pub cause: String,
    /// Why, as a clause for people.
    pub why: String,
    /// The numbers of the cause, by name.
    pub numbers: BTreeMap<String, f64>,
    /// How long each part took.
    pub phases: ElectionPhases,
}

/// How long the parts of an election took, in milliseconds; `None` for what nobody saw.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ElectionPhases {
    /// From the old leader's last sign of life to the first campaign.
    pub silence_ms: Option<u64>,
    /// From there to the pre-vote that was granted.
    pub pre_vote_ms: Option<u64>,
    /// From there to the votes of a quorum.
    pub vote_ms: Option<u64>,
    /// From there to the first entry of the term applied.
    pub ready_ms: Option<u64>,
}

impl Client {
    /// Who is alive as the asked node sees it, and its last elections, at most so many (up to
    /// 1,000).
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn failure_detector(
        &self,
        elections_max: u32,
    ) -> Result<Answer<FailureDetector>, CallError> {
        self.call_json(&Call::read(format!("/v1/failure-detector?limit={elections_max}"))).await
    }
}
