//! Compaction: forgetting versions that nobody may read any more.
//!
//! Compacting to revision C makes revisions below C unreadable at once. Freeing what only they
//! could see follows in steps, a bounded one with each entry that is applied, by a rule that
//! depends on the state alone: what is still there is part of the state's hash and counts
//! against the quota, so all replicas free the same versions with the same entry.
//!
//! What goes is what etcd lets go: a version with a newer one at or below C, and a tombstone
//! below C. A tombstone *at* C stays until the next compaction, since a watch may open at C and
//! has to see that deletion (etcd issue 19179).
//!
//! A version becomes garbage when its successor falls to or below C. So the sweep walks only the
//! versions between the previous compaction and C and frees what stands before each of them: its
//! cost goes with the writes between two compactions, not with the size of the store.

use crate::{
    command::Command,
    keyspace::Keyspace,
    query::QueryError,
    version::{Position, VersionRef},
};

/// Work done for compaction with an ordinary entry, in [`cost`] units.
const ENTRY_BUDGET: u64 = 64;

/// Work done for compaction with a tick, which has nothing else to do.
const TICK_BUDGET: u64 = 4_096;

/// Logical bytes that cost as much as one more version: freeing hashes what it frees.
const BYTES_PER_UNIT: u64 = 4_096;

/// The work that a command leaves room for.
pub(crate) const fn sweep_budget(command: &Command) -> u64 {
    if matches!(command, Command::Tick) { TICK_BUDGET } else { ENTRY_BUDGET }
}

const fn cost(bytes: u64) -> u64 {
    1 + bytes / BYTES_PER_UNIT
}

impl Keyspace {
    /// Makes revisions below `revision` unreadable and leaves what they held to [`Self::sweep`].
    ///
    /// # Errors
    /// [`QueryError`] if that revision is compacted already or does not exist yet.
    pub(crate) fn compact(&mut self, revision: u64) -> Result<(), QueryError> {
        if revision <= self.compact_revision {
            let compact_revision = self.compact_revision;
            return Err(QueryError::Compacted { wanted: revision, compact_revision });
        }
        if revision > self.revision {
            return Err(QueryError::Future { wanted: revision, revision: self.revision });
        }
        // Tombstones at the previous compaction revision were left for this one.
        let from: Position = (self.compact_revision, 0);
        self.sweep = Some(self.sweep.map_or(from, |pending| pending.min(from)));
        self.compact_revision = revision;
        Ok(())
    }

    /// Frees part of what compaction made unreadable.
    pub(crate) fn sweep(&mut self, mut budget: u64) {
        let Some(from) = self.sweep else { return };
        let mut ordinal = self.log.first_at(from);
        loop {
            let next = self.log.from(ordinal).next();
            let Some((at, version)) = next.filter(|(_, version)| self.in_reach(version.position()))
            else {
                self.sweep = None;
                return;
            };
            if budget == 0 {
                self.sweep = Some(version.position());
                return;
            }
            let goes = version.is_tombstone() && version.mod_revision < self.compact_revision;
            let tombstone = goes.then(|| version.key.clone());
            let mut freed_bytes = 0;
            let mut older = version.previous;
            while let Some(freed) = self.log.free(older.ordinal()) {
                freed_bytes += freed.bytes;
                older = freed.previous;
            }
            if let Some(key) = tombstone {
                freed_bytes += self.log.free(at).map_or(0, |freed| freed.bytes);
                if self.index.get(&key) == Some(&VersionRef::new(at, true)) {
                    self.index.remove(&key);
                }
            }
            self.bytes -= freed_bytes;
            budget = budget.saturating_sub(cost(freed_bytes));
            ordinal = at + 1;
        }
    }

    const fn in_reach(&self, position: Position) -> bool {
        position.0 <= self.compact_revision
    }
}
