//! Walking through every version of one moment, in the order of revisions, for somebody who writes
//! the store down in another form.
//!
//! [`Store::history_begin`] fixes the moment; [`Store::history_next`] then shows its versions in
//! slices, as often as they are wanted, while further entries are applied. It is pinned as a
//! snapshot is, see `snapshot.rs`, and any number of walks may go on beside each other: how many
//! is for the caller to bound. What compaction frees is kept for them until they end, and
//! [`Store::retained_bytes`] says how much that is by now.
//!
//! Shown is what is still in memory: below the compaction revision the newest version of each key,
//! and what a compaction has not freed yet, if [`HistoryWalk::is_swept`] says so. Sessions and
//! idempotency keys are no part of the history.

use std::sync::Arc;

use crate::{
    snapshot::Pin,
    store::Store,
    version::Version,
    version_log::{LogPin, Released},
};

/// A walk; made by [`Store::history_begin`].
#[derive(Debug)]
pub struct HistoryWalk {
    /// Shared with the store's pin.
    token: Arc<()>,
    log: LogPin,
    revision: u64,
    compact_revision: u64,
    swept: bool,
    importing: bool,
    bytes: u64,
    leases: Vec<(u64, u64)>,
    /// Where the next slice begins.
    next: u64,
}

/// One version of one key, as it lies in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryVersion<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The value; nothing for a deletion.
    pub value: &'a [u8],
    /// The revision that wrote it.
    pub mod_revision: u64,
    /// Its place among the writes of that revision, from 0.
    pub sub_revision: u32,
    /// The revision that created the key; 0 for a deletion.
    pub create_revision: u64,
    /// The number of writes since the key was created; 0 for a deletion.
    pub version: u64,
    /// The attached lease, 0 for none.
    pub lease: u64,
}

/// The store was replaced since the walk began, so the rest of it is not known any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the store was replaced since its history began to be read; begin again")]
pub struct HistoryLost;

impl HistoryWalk {
    /// The revision of the moment.
    #[must_use]
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    /// The lowest revision that was readable; 0 if nothing was compacted.
    #[must_use]
    pub const fn compact_revision(&self) -> u64 {
        self.compact_revision
    }

    /// Whether everything was freed that the compaction revision made unreadable.
    #[must_use]
    pub const fn is_swept(&self) -> bool {
        self.swept
    }

    /// Whether an import was going on: what is there is then no store of any one revision.
    #[must_use]
    pub const fn is_importing(&self) -> bool {
        self.importing
    }

    /// Logical bytes of the whole store at the moment.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The leases of the moment by id, each with the time to live in milliseconds that it was
    /// granted.
    #[must_use]
    pub fn leases(&self) -> &[(u64, u64)] {
        &self.leases
    }

    /// Has the walk begin with the first version again.
    pub const fn rewind(&mut self) {
        self.next = 0;
    }
}

impl HistoryVersion<'_> {
    /// Whether the key was deleted.
    #[must_use]
    pub const fn is_deletion(&self) -> bool {
        self.version == 0
    }
}

impl Store {
    /// Fixes this moment for a walk. From now on memory that compaction frees is kept until the
    /// walk is ended or dropped.
    pub fn history_begin(&mut self) -> HistoryWalk {
        self.release_abandoned_histories();
        let log = self.keyspace.log.pin();
        let (pin, token) = Pin::new(log);
        self.history_pins.push(pin);
        HistoryWalk {
            token,
            log,
            revision: self.revision(),
            compact_revision: self.compact_revision(),
            swept: self.keyspace.sweep.is_none(),
            importing: self.import_source.is_some(),
            bytes: self.space().bytes,
            leases: self.leases.rows().map(|(id, ttl_ms, _deadline_ms)| (id, ttl_ms)).collect(),
            next: 0,
        }
    }

    /// Shows the next versions, of about `bytes_budget` logical bytes and at least one; whether
    /// there was any.
    ///
    /// # Errors
    /// [`HistoryLost`] if the walk is not one of this store.
    pub fn history_next(
        &self,
        walk: &mut HistoryWalk,
        bytes_budget: u64,
        mut show: impl FnMut(HistoryVersion<'_>),
    ) -> Result<bool, HistoryLost> {
        if !self.history_pins.iter().any(|pin| pin.is_of(&walk.token)) {
            return Err(HistoryLost);
        }
        let first = walk.next;
        let mut bytes = 0;
        for (ordinal, version) in self.keyspace.log.pinned_from(walk.log, first) {
            show(shown(version));
            walk.next = ordinal + 1;
            bytes += version.logical_bytes();
            if bytes >= bytes_budget {
                break;
            }
        }
        Ok(walk.next > first)
    }

    /// Ends a walk, finished or not; what was kept for it goes with the answer.
    #[expect(clippy::needless_pass_by_value, reason = "an ended walk must not go on")]
    pub fn history_end(&mut self, walk: HistoryWalk) -> Option<Released> {
        let at = self.history_pins.iter().position(|pin| pin.is_of(&walk.token))?;
        let pin = self.history_pins.swap_remove(at);
        Some(self.keyspace.log.unpin(pin.log()))
    }

    /// Logical bytes that compaction freed and that are kept for walks and a snapshot.
    #[must_use]
    pub const fn retained_bytes(&self) -> u64 {
        self.keyspace.log.retained_bytes()
    }

    pub(crate) fn release_abandoned_histories(&mut self) {
        while let Some(at) = self.history_pins.iter().position(Pin::is_abandoned) {
            let pin = self.history_pins.swap_remove(at);
            self.keyspace.log.unpin(pin.log());
        }
    }
}

fn shown(version: &Version) -> HistoryVersion<'_> {
    HistoryVersion {
        key: version.key.as_slice(),
        value: version.value.as_slice(),
        mod_revision: version.mod_revision,
        sub_revision: version.sub_revision,
        create_revision: version.create_revision,
        version: version.version,
        lease: version.lease,
    }
}
