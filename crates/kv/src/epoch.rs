//! A new epoch: what a store becomes when a cluster is made anew from what is left of another.
//!
//! Some of what the old cluster acknowledged may be missing, and nobody can tell what. So nothing
//! that the old cluster may have counted is counted again: revision and sequence jump over
//! everything it can have reached, and the ids made from them with them. What lies below the jump
//! reads as compacted, so that whoever watched the old cluster is told to read anew instead of
//! missing changes in silence. Leases get their whole time to live: their owners could not renew
//! them meanwhile. Keys, their revisions of creation and change, sessions, kept outcomes, settings
//! and the clock stay as they are, so a write that is repeated because its answer was lost still
//! takes effect once, if it had taken effect here.
//!
//! This is done to a store that stands still, outside any log; which cluster and which epoch it is
//! then of is not known here.

use crate::store::Store;

/// How far revision and sequence jump at least: more writes than a cluster can have acknowledged
/// behind the back of the node whose state survived.
pub const EPOCH_JUMP: u64 = 1 << 20;

impl Store {
    /// Makes this the state that a new epoch begins with; see the comment of its file.
    ///
    /// # Panics
    /// If a snapshot is being taken of the store.
    pub fn begin_epoch(&mut self) {
        self.release_abandoned_walk();
        assert!(self.pin.is_none(), "a new epoch begins with a store that stands still");
        self.sequence = self.sequence.saturating_add(EPOCH_JUMP);
        self.keyspace.revision = self.keyspace.revision.saturating_add(EPOCH_JUMP);
        let revision = self.keyspace.revision;
        self.keyspace.compact(revision).expect("a revision that was just made is not compacted");
        self.leases.renew_all(self.clock_ms);
    }
}
