//! The keys and all their versions: an ordered index over a log.
//!
//! ```text
//! index   key -> references to its versions, oldest first     (ranges, "as of revision R")
//! log     position (revision, sub-revision) -> version         (watches, snapshots, the hash)
//! ```
//!
//! A write appends a version to the log and a reference to the key. Writes of one transaction
//! share a revision and are told apart by their sub-revision; see [`Writing`]. The store's
//! revision moves when the transaction ends, so reads inside it that name a revision never see
//! its own writes, and reads of the present do.
//!
//! Leases, quotas and whether a write is allowed at all are decided above.

use std::{collections::BTreeMap, ops::Bound};

use bytes::Bytes;

use crate::{
    command::{KeyRange, RangeEnd},
    key::Key,
    query::{KeyValue, QueryError},
    value::Value,
    version::{Position, Version},
    version_log::VersionLog,
    versions::{VersionRef, Versions},
};

/// The keys and their history.
#[derive(Debug)]
pub(crate) struct Keyspace {
    pub(crate) index: BTreeMap<Key, Versions>,
    pub(crate) log: VersionLog,
    /// The revision of the newest finished transaction.
    pub(crate) revision: u64,
    /// The lowest readable revision; 0 while nothing was compacted.
    pub(crate) compact_revision: u64,
    /// Where freeing after a compaction goes on; `None` when there is nothing left to free.
    pub(crate) sweep: Option<Position>,
    /// Keys that exist now.
    pub(crate) live_count: u64,
    /// Logical bytes of all versions.
    pub(crate) bytes: u64,
}

/// A transaction that writes: the revision that its writes get, and how many there were.
#[derive(Debug)]
pub(crate) struct Writing {
    revision: u64,
    count: u32,
}

/// A key that lost its value, and the lease it was attached to.
pub(crate) struct Removed {
    pub(crate) key: Key,
    pub(crate) lease: u64,
}

/// What a put replaced.
pub(crate) struct Replaced {
    /// The key, as the store holds it.
    pub(crate) key: Key,
    /// Whether the key did not exist.
    pub(crate) created: bool,
    /// The lease before, 0 for none.
    pub(crate) lease_before: u64,
    /// The lease now, 0 for none.
    pub(crate) lease: u64,
}

impl Writing {
    fn next(&mut self) -> Position {
        let position = (self.revision, self.count);
        self.count += 1;
        position
    }
}

impl Keyspace {
    /// No keys, at revision 1.
    pub(crate) fn new() -> Self {
        Self {
            index: BTreeMap::new(),
            log: VersionLog::default(),
            revision: 1,
            compact_revision: 0,
            sweep: None,
            live_count: 0,
            bytes: 0,
        }
    }

    /// Begins a transaction; nothing changes until it writes.
    pub(crate) const fn begin(&self) -> Writing {
        Writing { revision: self.revision + 1, count: 0 }
    }

    /// Ends a transaction: the store's revision rises if it wrote.
    #[expect(clippy::needless_pass_by_value, reason = "an ended transaction must not write again")]
    pub(crate) const fn end(&mut self, writing: Writing) {
        if writing.count > 0 {
            self.revision = writing.revision;
        }
    }

    /// Writes a key. `None` keeps the value or lease that is there, or is empty if there is none.
    pub(crate) fn put(
        &mut self,
        writing: &mut Writing,
        key: &Bytes,
        value: Option<Bytes>,
        lease: Option<u64>,
    ) -> Replaced {
        let (mod_revision, sub_revision) = writing.next();
        let known = self.index.get_mut(&key[..]);
        let before = known.as_ref().map(|versions| versions.newest());
        let before = before.map(|newest| {
            self.log.get(newest.ordinal()).expect("the index refers to versions in the log")
        });
        let present = before.filter(|before| !before.is_tombstone());
        let version = Version {
            // Versions of a key share its bytes.
            key: before.map_or_else(|| Key::new(key), |before| before.key.clone()),
            value: match (value, present) {
                (Some(value), _) => Value::new(value),
                (None, Some(present)) => present.value.clone(),
                (None, None) => Value::EMPTY,
            },
            mod_revision,
            sub_revision,
            create_revision: present.map_or(mod_revision, |present| present.create_revision),
            version: present.map_or(1, |present| present.version + 1),
            lease: lease.unwrap_or(present.map_or(0, |present| present.lease)),
        };
        let replaced = Replaced {
            key: version.key.clone(),
            created: present.is_none(),
            lease_before: present.map_or(0, |present| present.lease),
            lease: version.lease,
        };
        self.bytes += version.logical_bytes();
        self.live_count += u64::from(replaced.created);
        let reference = VersionRef::new(self.log.push(version), false);
        match known {
            Some(versions) => versions.push(reference),
            None => {
                self.index.insert(replaced.key.clone(), Versions::One(reference));
            }
        }
        replaced
    }

    /// Deletes every key of a range and says which they were, in order.
    pub(crate) fn delete(&mut self, writing: &mut Writing, range: &KeyRange) -> Vec<Removed> {
        let mut removed = Vec::new();
        let Some(bounds) = bounds(range) else { return removed };
        for (key, versions) in self.index.range_mut::<[u8], _>(bounds) {
            let Some(ordinal) = versions.newest().live() else { continue };
            let present = self.log.get(ordinal).expect("the index refers to versions in the log");
            removed.push(Removed { key: key.clone(), lease: present.lease });
            let tombstone = Version::tombstone(key.clone(), writing.next());
            self.bytes += tombstone.logical_bytes();
            versions.push(VersionRef::new(self.log.push(tombstone), true));
        }
        self.live_count -= removed.len() as u64;
        removed
    }

    /// Deletes one key that exists.
    pub(crate) fn delete_key(&mut self, writing: &mut Writing, key: &Key) {
        let versions = self.index.get_mut(key.as_slice()).expect("the caller knows that it exists");
        let tombstone = Version::tombstone(key.clone(), writing.next());
        self.bytes += tombstone.logical_bytes();
        versions.push(VersionRef::new(self.log.push(tombstone), true));
        self.live_count -= 1;
    }

    /// The present version of a key.
    pub(crate) fn get(&self, key: &[u8]) -> Option<&Version> {
        self.log.get(self.index.get(key)?.newest().live()?)
    }

    /// The keys of a range that exist now, with their present versions.
    pub(crate) fn present(&self, range: &KeyRange) -> impl DoubleEndedIterator<Item = &Version> {
        self.references(range, None).filter_map(|ordinal| self.log.get(ordinal))
    }

    /// Ordinals of the versions of a range's keys, by key: the newest before `end`, or the
    /// newest of all.
    pub(crate) fn references(
        &self,
        range: &KeyRange,
        end: Option<u64>,
    ) -> impl DoubleEndedIterator<Item = u64> {
        let bounds = bounds(range);
        let versions = bounds.map(|bounds| self.index.range::<[u8], _>(bounds));
        versions.into_iter().flatten().filter_map(move |(_, versions)| match end {
            None => versions.newest().live(),
            Some(end) => versions.before(end)?.live(),
        })
    }

    /// What a key had before one of its versions; `None` if that created the key, or if what was
    /// before is compacted.
    pub(crate) fn previous(&self, version: &Version, ordinal: u64) -> Option<KeyValue> {
        // What stood at revision R - 1 is readable only if R - 1 is, whether it was freed or not.
        if version.mod_revision <= self.compact_revision || version.version == 1 {
            return None;
        }
        let before = self.index.get(version.key.as_slice())?.before(ordinal)?.live()?;
        self.log.get(before).map(Version::pair)
    }

    /// The end, as an ordinal, of what a read at `revision` sees; `None` when it sees all.
    ///
    /// # Errors
    /// [`QueryError`] if the revision is compacted or does not exist yet.
    pub(crate) fn end_of(&self, revision: u64) -> Result<Option<u64>, QueryError> {
        if revision == 0 {
            return Ok(None);
        }
        if revision > self.revision {
            return Err(QueryError::Future { wanted: revision, revision: self.revision });
        }
        if revision < self.compact_revision {
            let compact_revision = self.compact_revision;
            return Err(QueryError::Compacted { wanted: revision, compact_revision });
        }
        if self.log.last_position().is_none_or(|(last, _)| last <= revision) {
            return Ok(None);
        }
        Ok(Some(self.log.first_at((revision + 1, 0))))
    }
}

type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// The range as the index understands it; `None` if no key can lie in it.
pub(crate) fn bounds(range: &KeyRange) -> Option<Bounds<'_>> {
    let start = Bound::Included(&range.start[..]);
    match &range.end {
        RangeEnd::Single => Some((start, start)),
        RangeEnd::Before(end) if range.start < end => Some((start, Bound::Excluded(&end[..]))),
        RangeEnd::Before(_) => None,
        RangeEnd::Unbounded => Some((start, Bound::Unbounded)),
    }
}
