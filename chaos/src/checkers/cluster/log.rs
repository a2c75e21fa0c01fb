//! The log of one node as it was told: the marks of its entries, without their bytes.

use std::collections::VecDeque;

use crate::checkers::EntryMark;

/// A log without a gap.
#[derive(Debug, Clone, Default)]
pub(super) struct Log {
    /// The index of the first mark, or of the next entry if there is none.
    first: u64,
    marks: VecDeque<EntryMark>,
}

impl Log {
    /// A log that starts after the purged entries.
    pub(super) fn new(purged: Option<u64>, entries: Vec<EntryMark>) -> Self {
        let after_purged = purged.map_or(0, |purged| purged + 1);
        let first = entries.first().map_or(after_purged, |entry| entry.index);
        Self { first, marks: entries.into() }
    }

    pub(super) fn get(&self, index: u64) -> Option<&EntryMark> {
        self.marks.get(usize::try_from(index.checked_sub(self.first)?).ok()?)
    }

    /// The index after the last entry.
    pub(super) fn next(&self) -> u64 {
        self.first + self.marks.len() as u64
    }

    pub(super) fn last(&self) -> Option<&EntryMark> {
        self.marks.back()
    }

    /// Adds an entry; false if it leaves a gap or its place is taken. It is added all the same, at
    /// its own index, so that one mistake is told once.
    pub(super) fn append(&mut self, entry: EntryMark) -> bool {
        let fits = entry.index == self.next();
        if !fits {
            self.truncate(entry.index);
            if entry.index != self.next() {
                self.restart_after(entry.index.checked_sub(1));
            }
        }
        self.marks.push_back(entry);
        fits
    }

    /// Removes the entries from `from` on.
    pub(super) fn truncate(&mut self, from: u64) {
        let keep = usize::try_from(from.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.marks.truncate(keep);
    }

    /// Removes the entries up to `through`.
    pub(super) fn purge(&mut self, through: u64) {
        if through >= self.next() {
            self.restart_after(Some(through));
            return;
        }
        while self.first <= through {
            self.marks.pop_front();
            self.first += 1;
        }
    }

    fn restart_after(&mut self, index: Option<u64>) {
        self.marks.clear();
        self.first = index.map_or(0, |index| index + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn mark(index: u64) -> EntryMark {
        EntryMark { index, term: 1, hash: index }
    }

    fn log(entries: std::ops::Range<u64>) -> Log {
        Log::new(None, entries.map(mark).collect())
    }

    #[test]
    fn entries_are_found_by_index() {
        let mut log = log(3..6);
        assert_eq!((log.get(2), log.get(3), log.get(6)), (None, Some(&mark(3)), None));
        assert!(log.append(mark(6)));
        assert!(!log.append(mark(8)));
        assert_eq!((log.get(6), log.last(), log.next()), (None, Some(&mark(8)), 9));
    }

    #[test]
    fn an_entry_on_a_taken_place_replaces_what_follows() {
        let mut log = log(0..6);
        assert!(!log.append(mark(3)));
        assert_eq!(log.next(), 4);
        assert_eq!(log.get(2), Some(&mark(2)));
    }

    #[test]
    fn both_ends_can_be_cut() {
        let mut log = log(0..6);
        log.truncate(4);
        log.purge(1);
        assert_eq!((log.get(1), log.get(2), log.next()), (None, Some(&mark(2)), 4));
        log.purge(9);
        assert_eq!((log.last(), log.next()), (None, 10));
        log.truncate(3);
        assert_eq!(log.next(), 10);
    }
}
