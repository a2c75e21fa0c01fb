//! How much the store holds, and whether it may grow.
//!
//! Bytes are counted logically, so that all replicas agree: key + value + 64 for each version,
//! the encoded outcome + 64 for each kept outcome, 64 for each session and lease. At its quota
//! the store refuses what makes it grow; deletions, compaction and leases go on, and the alarm
//! clears by itself when there is room again.

use crate::settings::Settings;

/// How much the store holds, in logical bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// What it holds.
    pub bytes: u64,
    /// What it may hold.
    pub quota_bytes: u64,
    /// It holds the share of the quota from which on a warning is raised.
    pub warning: bool,
    /// The quota is reached: writes that make the store grow are refused.
    pub full: bool,
}

impl Space {
    pub(crate) const fn new(bytes: u64, settings: &Settings) -> Self {
        Self {
            bytes,
            quota_bytes: settings.quota_bytes,
            warning: bytes >= settings.warning_bytes(),
            full: bytes >= settings.quota_bytes,
        }
    }
}
