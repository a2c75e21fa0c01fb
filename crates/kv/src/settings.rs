//! Replicated settings: whatever `apply` decides by.
//!
//! They are state, set by a command and equal on every replica; a node's own configuration only
//! proposes the first values. Timings are here too, so that all nodes agree on them.

use serde::{Deserialize, Serialize};

use crate::{envelope::ENVELOPE_BYTES_MAX, lease::LEASE_TTL_MS_MAX, outcome::Refusal};

/// The newest rules that this version applies; see [`Settings::format`].
///
/// `apply` does not look at it, or two versions would make different things of one entry: whoever
/// owns the log stops before an entry that goes further.
///
/// | format | adds |
/// |---|---|
/// | 1 | everything that is not named below |
/// | 2 | imports, see [`Command::Import`](crate::Command::Import) |
pub const SETTINGS_FORMAT: u64 = 2;

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
    /// Revisions that automatic compaction leaves readable; 0 is as many as there are.
    pub compaction_revisions: u64,
    /// How long automatic compaction leaves a revision readable, in milliseconds; 0 is for ever.
    pub compaction_age_ms: u64,
    /// Whether the leader promotes learners and lets dead members go by itself, or only says what
    /// it would do.
    pub autopilot: bool,
    /// For how long a learner must keep up to be given a vote, in milliseconds.
    pub learner_stable_ms: u64,
    /// After how long without an answer a voter is let go whose replacement is there, in
    /// milliseconds.
    pub dead_after_ms: u64,
    /// Whether an operator wants the data to stay as it is: what clients begin is refused; see
    /// [`Command::is_held_back`](crate::Command::is_held_back).
    pub read_only: bool,
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
            compaction_revisions: 0,
            compaction_age_ms: 0,
            autopilot: true,
            learner_stable_ms: 10_000,
            dead_after_ms: 10 * 60 * 1_000,
            read_only: false,
        }
    }
}

impl Settings {
    /// Says which setting cannot be as it is.
    ///
    /// # Errors
    /// [`Refusal::InvalidSetting`] for the first one.
    pub fn check(&self) -> Result<(), Refusal> {
        // A key and a value have to fit into an entry, with room for a transaction around them.
        const BYTES_MAX: u64 = ENVELOPE_BYTES_MAX as u64 / 4;
        const KEY_BYTES_MAX: u64 = 64 * 1024;
        const OPERATIONS_MAX: u64 = 4_096;
        const ANY: u64 = u64::MAX;

        let ranges = [
            ("format", self.format, 1, ANY),
            ("quota_bytes", self.quota_bytes, 1, ANY),
            ("quota_warning_percent", self.quota_warning_percent, 1, 100),
            ("key_bytes_max", self.key_bytes_max, 1, KEY_BYTES_MAX),
            ("value_bytes_max", self.value_bytes_max, 1, BYTES_MAX),
            ("txn_operations_max", self.txn_operations_max, 1, OPERATIONS_MAX),
            ("lease_ttl_ms_min", self.lease_ttl_ms_min, 1, LEASE_TTL_MS_MAX),
            ("session_ttl_ms", self.session_ttl_ms, 1, ANY),
            ("idempotency_ttl_ms", self.idempotency_ttl_ms, 1, ANY),
            ("idempotency_share_percent", self.idempotency_share_percent, 1, 100),
            ("heartbeat_ms", self.heartbeat_ms, 1, ANY),
            ("learner_stable_ms", self.learner_stable_ms, 1, ANY),
            ("dead_after_ms", self.dead_after_ms, 1_000, ANY),
        ];
        for (name, value, min, max) in ranges {
            if value < min || value > max {
                let why = if max == ANY {
                    format!("it is at least {min}")
                } else {
                    format!("it is from {min} to {max}")
                };
                return Err(invalid(name, value, why));
            }
        }
        if self.election_timeout_ms_min <= self.heartbeat_ms {
            let why = format!("it is longer than a heartbeat of {} ms", self.heartbeat_ms);
            return Err(invalid("election_timeout_ms_min", self.election_timeout_ms_min, why));
        }
        if self.election_timeout_ms_max <= self.election_timeout_ms_min {
            let min = self.election_timeout_ms_min;
            let why = format!("it is longer than election_timeout_ms_min, {min} ms");
            return Err(invalid("election_timeout_ms_max", self.election_timeout_ms_max, why));
        }
        Ok(())
    }

    /// Logical bytes that the table of idempotency keys may take.
    #[must_use]
    pub const fn idempotency_bytes_max(&self) -> u64 {
        percent_of(self.quota_bytes, self.idempotency_share_percent)
    }

    /// Logical bytes from which on a warning is raised.
    #[must_use]
    pub const fn warning_bytes(&self) -> u64 {
        percent_of(self.quota_bytes, self.quota_warning_percent)
    }
}

/// Rounded down; exact for every number of bytes.
const fn percent_of(bytes: u64, percent: u64) -> u64 {
    (bytes / 100).saturating_mul(percent) + bytes % 100 * percent / 100
}

fn invalid(name: &str, value: u64, why: String) -> Refusal {
    Refusal::InvalidSetting { name: name.to_owned(), value, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_settings_are_valid() {
        assert_eq!(Settings::default().check(), Ok(()));
    }

    #[test]
    fn each_setting_has_bounds_and_is_named() {
        let good = Settings::default;
        let cases = [
            ("format", Settings { format: 0, ..good() }),
            ("quota_bytes", Settings { quota_bytes: 0, ..good() }),
            ("quota_warning_percent", Settings { quota_warning_percent: 101, ..good() }),
            ("key_bytes_max", Settings { key_bytes_max: 0, ..good() }),
            ("value_bytes_max", Settings { value_bytes_max: 1 << 40, ..good() }),
            ("txn_operations_max", Settings { txn_operations_max: 0, ..good() }),
            ("lease_ttl_ms_min", Settings { lease_ttl_ms_min: u64::MAX, ..good() }),
            ("session_ttl_ms", Settings { session_ttl_ms: 0, ..good() }),
            ("idempotency_ttl_ms", Settings { idempotency_ttl_ms: 0, ..good() }),
            ("idempotency_share_percent", Settings { idempotency_share_percent: 0, ..good() }),
            ("heartbeat_ms", Settings { heartbeat_ms: 0, ..good() }),
            ("learner_stable_ms", Settings { learner_stable_ms: 0, ..good() }),
            ("dead_after_ms", Settings { dead_after_ms: 999, ..good() }),
            ("election_timeout_ms_min", Settings { election_timeout_ms_min: 50, ..good() }),
            ("election_timeout_ms_max", Settings { election_timeout_ms_max: 150, ..good() }),
        ];
        for (expected, settings) in cases {
            match settings.check() {
                Err(Refusal::InvalidSetting { name, .. }) => assert_eq!(name, expected),
                other => panic!("{expected}: {other:?}"),
            }
        }
    }

    #[test]
    fn shares_of_a_quota_are_exact_and_do_not_overflow() {
        for (bytes, percent, share) in
            [(1_000, 80, 800), (999, 10, 99), (u64::MAX, 100, u64::MAX), (50, 1, 0)]
        {
            assert_eq!(percent_of(bytes, percent), share);
        }
    }
}
