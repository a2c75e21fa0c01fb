//! Which watchers want to hear of a key.
//!
//! Watchers of one key are found in a map, watchers of a range in an interval tree, so an event
//! costs what its own watchers cost and nothing for the thousands that watch other keys.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use mainstay_kv::{KeyRange, RangeEnd};

use crate::range_tree::RangeTree;

/// Watchers by what they watch.
#[derive(Debug, Default)]
pub(crate) struct WatchIndex {
    keys: BTreeMap<Bytes, BTreeSet<u64>>,
    ranges: RangeTree,
}

impl WatchIndex {
    /// Adds the watcher `id` of `range`.
    pub(crate) fn insert(&mut self, range: &KeyRange, id: u64) {
        match &range.end {
            RangeEnd::Single => {
                self.keys.entry(range.start.clone()).or_default().insert(id);
            }
            RangeEnd::Before(end) => self.ranges.insert(&range.start, &Some(end.clone()), id),
            RangeEnd::Unbounded => self.ranges.insert(&range.start, &None, id),
        }
    }

    /// Takes the watcher out again.
    pub(crate) fn remove(&mut self, range: &KeyRange, id: u64) {
        match &range.end {
            RangeEnd::Single => {
                if let Some(ids) = self.keys.get_mut(&range.start) {
                    ids.remove(&id);
                    if ids.is_empty() {
                        self.keys.remove(&range.start);
                    }
                }
            }
            RangeEnd::Before(end) => self.ranges.remove(&range.start, &Some(end.clone()), id),
            RangeEnd::Unbounded => self.ranges.remove(&range.start, &None, id),
        }
    }

    /// Calls `found` with every watcher of `key`.
    pub(crate) fn watching(&self, key: &[u8], found: &mut impl FnMut(u64)) {
        if let Some(ids) = self.keys.get(key) {
            ids.iter().copied().for_each(&mut *found);
        }
        self.ranges.holding(key, found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_finds_its_own_watchers_and_those_of_its_ranges() {
        let mut index = WatchIndex::default();
        let key = KeyRange::key(Bytes::from_static(b"app/a"));
        let prefix = KeyRange::prefix(Bytes::from_static(b"app/"));
        index.insert(&key, 1);
        index.insert(&prefix, 2);
        index.insert(&KeyRange::all(), 3);
        index.insert(&KeyRange::key(Bytes::from_static(b"app/b")), 4);
        let watching = |index: &WatchIndex, key: &[u8]| {
            let mut ids = Vec::new();
            index.watching(key, &mut |id| ids.push(id));
            ids.sort_unstable();
            ids
        };
        assert_eq!(watching(&index, b"app/a"), [1, 2, 3]);
        assert_eq!(watching(&index, b"app/c"), [2, 3]);
        assert_eq!(watching(&index, b"b"), [3]);
        index.remove(&key, 1);
        index.remove(&prefix, 2);
        assert_eq!(watching(&index, b"app/a"), [3]);
    }
}
