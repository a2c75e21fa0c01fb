//! What the detector tells: levels, changes, and everything that a judgement rests on.
//!
//! A reading is for people and metrics: it computes phi, which no decision needs.

use std::time::Duration;

use crate::{health::Adaptation, heartbeat::IgnoredCounts};

/// What a peer is taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Never heard yet, and still within its time to join.
    Unheard,
    /// Heard, and its silence is no surprise.
    Alive,
    /// Its silence passed the suspect threshold.
    Suspect,
    /// Its silence passed the failed threshold, or it never joined in time.
    Failed,
}

/// A peer passed a level, with everything that explains it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Change {
    /// The peer.
    pub peer: u64,
    /// What it was taken for.
    pub from: Level,
    /// What it is taken for.
    pub to: Level,
    /// The moment at which phi reached the threshold, on the caller's clock.
    pub at: Duration,
    /// How long the peer had been silent when the change was told.
    pub silence: Duration,
    /// Phi of that silence; `None` for a peer that was never heard.
    pub phi: Option<f64>,
    /// The threshold that was in force; `None` for a peer that was never heard.
    pub threshold: Option<f64>,
    /// Why the threshold was not as set.
    pub adaptation: Adaptation,
}

/// Everything that is known of one peer at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// The peer.
    pub peer: u64,
    /// What it is taken for.
    pub level: Level,
    /// Phi of its present silence, from 0 to [`PHI_MAX`](crate::PHI_MAX); `None` for a peer that
    /// was never heard.
    pub phi: Option<f64>,
    /// Phi from which on it is suspected, as in force.
    pub suspect_threshold: f64,
    /// Phi from which on it has failed, as in force.
    pub failed_threshold: f64,
    /// Why the thresholds are not as set.
    pub adaptation: Adaptation,
    /// Mean of its on-time intervals, at least the period.
    pub mean: Duration,
    /// Standard deviation of its on-time intervals, at least a tenth of the period.
    pub deviation: Duration,
    /// What its silence may last beyond the mean at no cost, for jitter and announced lag.
    pub acceptable_pause: Duration,
    /// Mean lateness of its late intervals, within the model's bounds.
    pub tail_scale: Duration,
    /// The share of its intervals that are late, from 0 to 1, never quite 0.
    pub tail_share: f64,
    /// How many intervals were measured, at most [`WINDOW`](crate::WINDOW).
    pub samples: usize,
    /// The period that it announced last; zero for a peer that was never heard.
    pub period: Duration,
    /// Time since its last heartbeat; `None` for a peer that was never heard.
    pub heartbeat_age: Option<Duration>,
    /// Time since its last sign of life, or since the watch or a pause of this node began.
    pub silence: Duration,
    /// Its incarnation; zero for a peer that was never heard.
    pub incarnation: u64,
    /// The age of its oldest unfinished sync, as its last heartbeat said.
    pub oldest_sync_age: Duration,
    /// Its scheduling lag, as its last heartbeat said.
    pub scheduling_lag: Duration,
    /// How many of its heartbeats were used.
    pub heartbeats: u64,
    /// How many never came, by their sequences.
    pub missed: u64,
    /// How often it was suspected and then heard again in the same incarnation.
    pub mistakes: u64,
    /// How many of its heartbeats were ignored, and why.
    pub ignored: IgnoredCounts,
}

/// What the detector knows of its own node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnReading {
    /// How far thresholds are raised, and why.
    pub adaptation: Adaptation,
    /// How many peers are watched.
    pub peers: usize,
    /// How many of them are suspected or have failed.
    pub silent: usize,
    /// How often this node was found to have paused, or its clock to have gone backwards.
    pub local_pauses: u64,
    /// How many heartbeats came from peers that are not watched.
    pub unknown_peers: u64,
}
