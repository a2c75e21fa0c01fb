//! The keys and all their versions: an ordered index over a log.
//!
//! ```text
//! index   key -> its newest version             ranges; older versions hang on newer ones
//! log     (revision, sub-revision) -> version   watches, snapshots, the hash
//! ```
//!
//! A write appends a version to the log, chains it to the key's version before and makes it the
//! key's newest. Writes of one transaction
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
    version::{Links, Position, Version, VersionRef},
    version_log::VersionLog,
};

/// The keys and their history.
#[derive(Debug)]
pub(crate) struct Keyspace {
    /// The newest version of every key that has any, tombstones included.
    pub(crate) index: BTreeMap<Key, VersionRef>,
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
        let reference = VersionRef::new(self.log.next_ordinal(), false);
        let newest = index_entry_mut(&mut self.index, key);
        let previous = newest.map(|newest| std::mem::replace(newest, reference));
        let before = previous.map(|previous| {
            self.log.get(previous.ordinal()).expect("the index refers to versions in the log")
        });
        let present = before.filter(|before| !before.is_tombstone());
        let links = previous.map_or(Links::NONE, |previous| self.log.links_after(previous));
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
            previous: links.previous,
            skip: links.skip,
            chain_number: links.chain_number,
        };
        let replaced = Replaced {
            key: version.key.clone(),
            created: present.is_none(),
            lease_before: present.map_or(0, |present| present.lease),
            lease: version.lease,
        };
        self.bytes += version.logical_bytes();
        self.live_count += u64::from(replaced.created);
        self.log.push(version);
        if previous.is_none() {
            self.index.insert(replaced.key.clone(), reference);
        }
        replaced
    }

    /// Deletes every key of a range and says which they were, in order.
    pub(crate) fn delete(&mut self, writing: &mut Writing, range: &KeyRange) -> Vec<Removed> {
        let mut removed = Vec::new();
        let Some(bounds) = bounds(range) else { return removed };
        for (key, newest) in self.index.range_mut::<[u8], _>(bounds) {
            let Some(ordinal) = newest.live() else { continue };
            let present = self.log.get(ordinal).expect("the index refers to versions in the log");
            removed.push(Removed { key: key.clone(), lease: present.lease });
            let links = self.log.links_after(*newest);
            let tombstone = Version::tombstone(key.clone(), writing.next(), links);
            self.bytes += tombstone.logical_bytes();
            *newest = VersionRef::new(self.log.push(tombstone), true);
        }
        self.live_count -= removed.len() as u64;
        removed
    }

    /// Deletes one key that exists.
    pub(crate) fn delete_key(&mut self, writing: &mut Writing, key: &Key) {
        let newest = self.index.get_mut(key).expect("the caller knows that it exists");
        let links = self.log.links_after(*newest);
        let tombstone = Version::tombstone(key.clone(), writing.next(), links);
        self.bytes += tombstone.logical_bytes();
        *newest = VersionRef::new(self.log.push(tombstone), true);
        self.live_count -= 1;
    }

    /// The newest version of a key, a tombstone perhaps.
    pub(crate) fn newest(&self, key: &[u8]) -> Option<VersionRef> {
        index_entry(&self.index, key)
    }

    /// The present version of a key.
    pub(crate) fn get(&self, key: &[u8]) -> Option<&Version> {
        self.get_before(key, None)
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
        let newest = bounds(range).map(|bounds| self.index.range::<[u8], _>(bounds));
        newest.into_iter().flatten().filter_map(move |(_, newest)| match end {
            None => newest.live(),
            Some(end) => self.log.newest_before(*newest, end)?.live(),
        })
    }

    /// The version of a key: the newest before `end`, or the newest of all.
    pub(crate) fn get_before(&self, key: &[u8], end: Option<u64>) -> Option<&Version> {
        let newest = index_entry(&self.index, key)?;
        let reference = match end {
            None => newest,
            Some(end) => self.log.newest_before(newest, end)?,
        };
        self.log.get(reference.live()?)
    }

    /// What a key had before one of its versions; `None` if that created the key, or if what was
    /// before is compacted.
    pub(crate) fn previous(&self, version: &Version) -> Option<KeyValue> {
        // What stood at revision R - 1 is readable only if R - 1 is, whether it was freed or not.
        if version.mod_revision <= self.compact_revision || version.version == 1 {
            return None;
        }
        self.log.get(version.previous.live()?).map(Version::pair)
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

/// Looks a key up. Keys that lie inside are compared faster with each other than with bytes.
fn index_entry(index: &BTreeMap<Key, VersionRef>, key: &[u8]) -> Option<VersionRef> {
    match Key::inline(key) {
        Some(key) => index.get(&key).copied(),
        None => index.get(key).copied(),
    }
}

/// As [`index_entry`], to change it.
fn index_entry_mut<'a>(
    index: &'a mut BTreeMap<Key, VersionRef>,
    key: &[u8],
) -> Option<&'a mut VersionRef> {
    match Key::inline(key) {
        Some(key) => index.get_mut(&key),
        None => index.get_mut(key),
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
