//! The end of the log in memory: what readers ask for most, and everything not synced yet.

use std::{collections::VecDeque, ops::Range};

use crate::entry::LogEntry;

/// Consecutive entries up to the end of the log.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    entries: VecDeque<LogEntry>,
    bytes: usize,
}

/// What an entry costs in memory beside its payload, about.
const ENTRY_COST: usize = 64;

impl Tail {
    /// Adds an entry; the caller has checked that it follows.
    pub(crate) fn push(&mut self, entry: LogEntry) {
        self.bytes += cost(&entry);
        self.entries.push_back(entry);
    }

    /// Drops the entries after `index`, or all.
    pub(crate) fn truncate_after(&mut self, index: Option<u64>) {
        while let Some(entry) = self.entries.back()
            && index.is_none_or(|index| entry.index > index)
        {
            self.bytes -= cost(entry);
            self.entries.pop_back();
        }
    }

    /// Drops the entries up to `index`.
    pub(crate) fn purge(&mut self, index: u64) {
        while let Some(entry) = self.entries.front()
            && entry.index <= index
        {
            self.bytes -= cost(entry);
            self.entries.pop_front();
        }
    }

    /// Drops the oldest entries, synced ones only, until the rest is within `bytes_max`.
    pub(crate) fn evict(&mut self, bytes_max: usize, synced: Option<u64>) {
        while let Some(entry) = self.entries.front()
            && self.bytes > bytes_max
            && synced.is_some_and(|synced| entry.index <= synced)
        {
            self.bytes -= cost(entry);
            self.entries.pop_front();
        }
    }

    /// The entries of `range` up to `bytes_max`, at least one; `None` if its first is not here.
    pub(crate) fn read(&self, range: Range<u64>, bytes_max: usize) -> Option<Vec<LogEntry>> {
        let first = self.entries.front()?.index;
        let skip = usize::try_from(range.start.checked_sub(first)?).ok()?;
        let mut entries = Vec::new();
        let mut bytes = 0_usize;
        for entry in self.entries.range(skip.min(self.entries.len())..) {
            bytes = bytes.saturating_add(entry.payload.len());
            if entry.index >= range.end || (!entries.is_empty() && bytes > bytes_max) {
                break;
            }
            entries.push(entry.clone());
        }
        (!entries.is_empty()).then_some(entries)
    }
}

const fn cost(entry: &LogEntry) -> usize {
    entry.payload.len() + ENTRY_COST
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn tail(range: Range<u64>) -> Tail {
        let mut tail = Tail::default();
        for index in range {
            tail.push(LogEntry { index, term: 1, payload: Bytes::from_static(b"0123456789") });
        }
        tail
    }

    fn indexes(entries: Option<Vec<LogEntry>>) -> Option<Vec<u64>> {
        entries.map(|entries| entries.iter().map(|entry| entry.index).collect())
    }

    #[test]
    fn a_read_stops_at_its_range_and_at_its_bytes_but_gives_at_least_one() {
        let tail = tail(5..10);
        assert_eq!(indexes(tail.read(6..8, 1000)), Some(vec![6, 7]));
        assert_eq!(indexes(tail.read(6..99, 20)), Some(vec![6, 7]));
        assert_eq!(indexes(tail.read(6..99, 0)), Some(vec![6]));
        assert_eq!(indexes(tail.read(4..99, 1000)), None);
        assert_eq!(indexes(tail.read(10..99, 1000)), None);
    }

    #[test]
    fn only_synced_entries_are_evicted() {
        let mut tail = tail(5..10);
        tail.evict(0, None);
        assert_eq!(indexes(tail.read(5..99, 0)), Some(vec![5]));
        tail.evict(0, Some(7));
        assert_eq!(indexes(tail.read(8..99, 1000)), Some(vec![8, 9]));
        assert_eq!(indexes(tail.read(7..99, 1000)), None);
    }

    #[test]
    fn both_ends_can_be_cut() {
        let mut tail = tail(5..10);
        tail.purge(5);
        tail.truncate_after(Some(8));
        assert_eq!(indexes(tail.read(6..99, 1000)), Some(vec![6, 7, 8]));
        tail.truncate_after(None);
        assert_eq!(tail.bytes, 0);
    }
}
