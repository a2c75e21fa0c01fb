//! Replicated settings: whatever `apply` decides by.
//!
//! They are state, set by a command and equal on every replica; a node's own configuration only
//! proposes the first values. Timings are here too, so that all nodes agree on them.

use serde::{Deserialize, Serialize};

/// The settings of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Rules that `apply` follows: new ones are switched on by raising this number.
    pub format: u64,
    /// Logical bytes that the store may hold.
    pub quota_bytes: u64,
    /// Share of the quota from which on a warning is raised, in per cent.
    pub quota_warning_percent: u64,
    /// Largest key in bytes.
    pub key_bytes_max: u64,
    /// Largest value in bytes.
    pub value_bytes_max: u64,
    /// Most operations of a transaction.
    pub txn_operations_max: u64,
    /// Shortest time to live of a lease in milliseconds; shorter ones are raised to it.
    pub lease_ttl_ms_min: u64,
    /// Replicated time without a write after which a session ends, in milliseconds.
    pub session_ttl_ms: u64,
    /// Replicated time for which a bare idempotency key is kept, in milliseconds.
    pub idempotency_ttl_ms: u64,
    /// Share of the quota that the table of idempotency keys may take, in per cent.
    pub idempotency_share_percent: u64,
    /// Interval of the leader's heartbeats in milliseconds.
    pub heartbeat_ms: u64,
    /// Shortest random wait before a campaign in milliseconds.
    pub election_timeout_ms_min: u64,
    /// Longest random wait before a campaign, and the leader lease, in milliseconds.
    pub election_timeout_ms_max: u64,
}

impl Default for Settings {
    /// The values of a cluster in one site.
    fn default() -> Self {
        Self {
            format: 1,
            quota_bytes: 8 * 1024 * 1024 * 1024,
            quota_warning_percent: 80,
            key_bytes_max: 8 * 1024,
            value_bytes_max: 1024 * 1024 + 512 * 1024,
            txn_operations_max: 128,
            lease_ttl_ms_min: 1_000,
            session_ttl_ms: 10 * 60 * 1_000,
            idempotency_ttl_ms: 5 * 60 * 1_000,
            idempotency_share_percent: 10,
            heartbeat_ms: 50,
            election_timeout_ms_min: 150,
            election_timeout_ms_max: 300,
        }
    }
}
