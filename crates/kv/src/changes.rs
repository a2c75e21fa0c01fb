//! What watches are fed with: the events of each revision, in order.
//!
//! The log of versions is the list of events. A watch may start at the compaction revision
//! itself: all events of that revision are still there, tombstones included; see `compaction`.
//!
//! Who watches what, filters and slow readers are the watch hub's business, above the store.

use serde::{Deserialize, Serialize};

use crate::{
    keyspace::Keyspace,
    query::{KeyValue, QueryError},
    version::ROW_OVERHEAD_BYTES,
};

/// Events of consecutive revisions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// The revisions that wrote something, ascending, each with all its events.
    pub revisions: Vec<RevisionChanges>,
    /// The revision to ask for next.
    pub next_revision: u64,
}

/// All events of one revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevisionChanges {
    /// The revision.
    pub revision: u64,
    /// Its events, in the order of its writes; each key at most once.
    pub events: Vec<Event>,
}

/// One write as a watch sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// What happened to the key.
    pub kind: EventKind,
    /// The pair that was written; of a deletion only the key and `mod_revision`.
    pub pair: KeyValue,
    /// What was there before; `None` if nothing was, or if it is compacted.
    pub previous: Option<KeyValue>,
}

/// What happened to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventKind {
    /// It was written.
    Put,
    /// It was deleted.
    Delete,
}

impl Event {
    /// What the event counts for, in logical bytes.
    #[must_use]
    pub fn logical_bytes(&self) -> u64 {
        let pair = |pair: &KeyValue| (pair.key.len() + pair.value.len()) as u64;
        ROW_OVERHEAD_BYTES + pair(&self.pair) + self.previous.as_ref().map_or(0, pair)
    }
}

impl Keyspace {
    pub(crate) fn changes(
        &self,
        from_revision: u64,
        bytes_max: usize,
    ) -> Result<Changes, QueryError> {
        if from_revision < self.compact_revision {
            let (wanted, compact_revision) = (from_revision, self.compact_revision);
            return Err(QueryError::Compacted { wanted, compact_revision });
        }
        let mut revisions: Vec<RevisionChanges> = Vec::new();
        let mut bytes = 0_u64;
        if from_revision <= self.revision {
            for (_, version) in self.log.from(self.log.first_at((from_revision, 0))) {
                let revision = version.mod_revision;
                if revisions.last().is_none_or(|last| last.revision != revision) {
                    if !revisions.is_empty() && bytes >= bytes_max as u64 {
                        return Ok(Changes { revisions, next_revision: revision });
                    }
                    revisions.push(RevisionChanges { revision, events: Vec::with_capacity(1) });
                }
                let kind = if version.is_tombstone() { EventKind::Delete } else { EventKind::Put };
                let previous = self.previous(version);
                let event = Event { kind, pair: version.pair(), previous };
                bytes += event.logical_bytes();
                let last = revisions.last_mut().expect("the version's revision was just added");
                last.events.push(event);
            }
        }
        Ok(Changes { revisions, next_revision: from_revision.max(self.revision + 1) })
    }
}
