//! What watches are fed with: the events of each revision, in order.
//!
//! The log of versions is the list of events. Whoever follows all changes reads along it; whoever
//! wants those of one key goes along the key's own versions, and what lies between costs nothing. A watch may start at the compaction revision
//! itself: all events of that revision are still there, tombstones included; see `compaction`.
//!
//! Who watches what, filters and slow readers are the watch hub's business, above the store.

use serde::{Deserialize, Serialize};

use crate::{
    command::{KeyRange, RangeEnd},
    keyspace::Keyspace,
    query::{KeyValue, QueryError},
    version::{ROW_OVERHEAD_BYTES, Version},
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

/// Versions that are looked at for the changes of some keys, at most, but for the last revision.
const STEPS_MAX: usize = 16_384;

/// Versions among which those of one key are looked for at a time.
const WINDOW: u64 = 4_096;

/// Such windows that are looked at in one step.
const WINDOWS_MAX: usize = 256;

impl Keyspace {
    pub(crate) fn changes(
        &self,
        from_revision: u64,
        bytes_max: usize,
    ) -> Result<Changes, QueryError> {
        self.check_changes_from(from_revision)?;
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
                let event = self.event(version);
                bytes += event.logical_bytes();
                let last = revisions.last_mut().expect("the version's revision was just added");
                last.events.push(event);
            }
        }
        Ok(Changes { revisions, next_revision: from_revision.max(self.revision + 1) })
    }

    /// The changes of some keys only. There may be none although `next_revision` is not yet behind
    /// the present: a step looks at a bounded part of the log.
    pub(crate) fn changes_of(
        &self,
        range: &KeyRange,
        from_revision: u64,
        bytes_max: usize,
    ) -> Result<Changes, QueryError> {
        self.check_changes_from(from_revision)?;
        let mut found = Found { revisions: Vec::new(), bytes: 0, bytes_max: bytes_max as u64 };
        let next_revision = if from_revision > self.revision {
            from_revision
        } else if range.end == RangeEnd::Single {
            self.changes_of_key(&range.start, from_revision, &mut found)
        } else {
            self.changes_of_range(range, from_revision, &mut found)
        };
        Ok(Changes { revisions: found.revisions, next_revision })
    }

    /// Goes along the log and looks at every key; the next revision.
    fn changes_of_range(&self, range: &KeyRange, from_revision: u64, found: &mut Found) -> u64 {
        let mut current = from_revision;
        let versions = self.log.from(self.log.first_at((from_revision, 0)));
        for (steps, (_, version)) in versions.enumerate() {
            let revision = version.mod_revision;
            if revision != current && (found.is_full() || steps >= STEPS_MAX) {
                return revision;
            }
            current = revision;
            if range.contains(version.key.as_slice()) {
                found.add(self.event(version), revision);
            }
        }
        self.revision + 1
    }

    /// Goes along the key's own versions, which lead from new to old: so window after window, and
    /// in each of them backwards; the next revision.
    fn changes_of_key(&self, key: &[u8], from_revision: u64, found: &mut Found) -> u64 {
        let Some(newest) = self.newest(key) else { return self.revision + 1 };
        let mut revision = from_revision;
        let mut ordinals = Vec::new();
        for _ in 0..WINDOWS_MAX {
            let begin = self.log.first_at((revision, 0));
            let next = match self.log.from(begin + WINDOW).next() {
                // A window ends between revisions.
                Some((_, version)) => version.mod_revision.max(revision + 1),
                None => self.revision + 1,
            };
            let end = self.log.first_at((next, 0));
            ordinals.clear();
            let mut at = self.log.newest_before(newest, end);
            while let Some(reference) = at.filter(|reference| reference.ordinal() >= begin) {
                let Some(version) = self.log.get(reference.ordinal()) else { break };
                ordinals.push(reference.ordinal());
                at = Some(version.previous);
            }
            for version in ordinals.iter().rev().filter_map(|ordinal| self.log.get(*ordinal)) {
                if found.is_full() {
                    return version.mod_revision;
                }
                found.add(self.event(version), version.mod_revision);
            }
            revision = next;
            if revision > self.revision {
                break;
            }
        }
        revision
    }

    const fn check_changes_from(&self, from_revision: u64) -> Result<(), QueryError> {
        if from_revision < self.compact_revision {
            let (wanted, compact_revision) = (from_revision, self.compact_revision);
            return Err(QueryError::Compacted { wanted, compact_revision });
        }
        Ok(())
    }

    fn event(&self, version: &Version) -> Event {
        let kind = if version.is_tombstone() { EventKind::Delete } else { EventKind::Put };
        Event { kind, pair: version.pair(), previous: self.previous(version) }
    }
}

/// Changes as they are found.
struct Found {
    revisions: Vec<RevisionChanges>,
    bytes: u64,
    bytes_max: u64,
}

impl Found {
    fn is_full(&self) -> bool {
        !self.revisions.is_empty() && self.bytes >= self.bytes_max
    }

    fn add(&mut self, event: Event, revision: u64) {
        self.bytes += event.logical_bytes();
        match self.revisions.last_mut() {
            Some(last) if last.revision == revision => last.events.push(event),
            _ => self.revisions.push(RevisionChanges { revision, events: vec![event] }),
        }
    }
}
