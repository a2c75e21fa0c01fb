//! The log without its payloads: where it begins, where it ends, and the term of every index.
//!
//! The same rules hold when a running node changes its log and when a starting one replays it, so
//! they stand here once. Terms are kept as runs: a log of a million entries written by three
//! leaders is three runs.

use std::collections::VecDeque;

use crate::entry::LogPosition;

/// The shape of the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Outline {
    purged: Option<LogPosition>,
    last: Option<LogPosition>,
    /// Runs of one term, by first index; the first run begins behind the purge point.
    runs: VecDeque<Run>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    first: u64,
    term: u64,
}

/// An entry that does not follow the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("entry {found} where entry {expected} should follow")]
pub(crate) struct Gap {
    pub(crate) expected: u64,
    pub(crate) found: u64,
}

impl Outline {
    /// A log whose entries up to `purged` are gone and that holds nothing else.
    pub(crate) const fn starting_after(purged: Option<LogPosition>) -> Self {
        Self { purged, last: purged, runs: VecDeque::new() }
    }

    /// Adds an entry at the end. An empty log that was never purged may begin anywhere.
    pub(crate) fn append(&mut self, entry: LogPosition) -> Result<(), Gap> {
        if let Some(last) = self.last
            && last.index.checked_add(1) != Some(entry.index)
        {
            return Err(Gap { expected: last.index.saturating_add(1), found: entry.index });
        }
        if self.runs.back().is_none_or(|run| run.term != entry.term) {
            self.runs.push_back(Run { first: entry.index, term: entry.term });
        }
        self.last = Some(entry);
        Ok(())
    }

    /// Drops every entry after `index`; `None` drops all. The purge point stays.
    pub(crate) fn truncate_after(&mut self, index: Option<u64>) {
        let Some(index) = index.filter(|index| self.first().is_some_and(|first| *index >= first))
        else {
            self.runs.clear();
            self.last = self.purged;
            return;
        };
        if self.last.is_some_and(|last| last.index <= index) {
            return;
        }
        while self.runs.back().is_some_and(|run| run.first > index) {
            self.runs.pop_back();
        }
        self.last = self.runs.back().map(|run| LogPosition { index, term: run.term });
    }

    /// Makes `last` the end of the log, as a record says that it was.
    ///
    /// It may lie before the purge point of a log whose oldest segments are gone: that point is
    /// only where those segments ended, and their end had been cut off.
    pub(crate) fn truncate_to(&mut self, last: Option<LogPosition>) {
        match (last, self.purged) {
            (Some(end), Some(purged)) if end.index >= purged.index => {
                self.truncate_after(Some(end.index));
            }
            (Some(end), None) => self.truncate_after(Some(end.index)),
            (end, _) => *self = Self::starting_after(end),
        }
    }

    /// Drops every entry up to `upto`, and all of them if the log does not hold that very entry.
    /// Returns whether the entries behind it stayed. Older than the purge point: nothing happens.
    pub(crate) fn purge(&mut self, upto: LogPosition) -> bool {
        if self.purged.is_some_and(|purged| purged.index >= upto.index) {
            return true;
        }
        let held = self.position_at(upto.index) == Some(upto);
        self.purged = Some(upto);
        if !held || self.last.is_some_and(|last| last.index == upto.index) {
            self.runs.clear();
            self.last = Some(upto);
            return held;
        }
        while self.runs.get(1).is_some_and(|next| next.first <= upto.index.saturating_add(1)) {
            self.runs.pop_front();
        }
        if let Some(first) = self.runs.front_mut() {
            first.first = upto.index.saturating_add(1);
        }
        true
    }

    /// The last position that is gone.
    pub(crate) const fn purged(&self) -> Option<LogPosition> {
        self.purged
    }

    /// The last entry, or the purge point if none follows it.
    pub(crate) const fn last(&self) -> Option<LogPosition> {
        self.last
    }

    /// The first index that the log holds; `None` if it holds none.
    pub(crate) fn first(&self) -> Option<u64> {
        self.runs.front().map(|run| run.first)
    }

    /// The position at `index`: of an entry, or the purge point.
    pub(crate) fn position_at(&self, index: u64) -> Option<LogPosition> {
        if let Some(purged) = self.purged
            && purged.index == index
        {
            return self.purged;
        }
        if self.last.is_none_or(|last| last.index < index) {
            return None;
        }
        let after = self.runs.partition_point(|run| run.first <= index);
        let run = self.runs.get(after.checked_sub(1)?)?;
        Some(LogPosition { index, term: run.term })
    }

    /// Whether a snapshot up to `covered` was installed and the log has not been told yet: it does
    /// not hold that entry, and was not purged beyond it either.
    pub(crate) fn ends_before(&self, covered: LogPosition) -> bool {
        !self.holds(covered) && self.purged.is_none_or(|purged| purged.index < covered.index)
    }

    /// Whether this very entry, or the purge point, stands in the log.
    pub(crate) fn holds(&self, position: LogPosition) -> bool {
        self.position_at(position.index) == Some(position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(index: u64, term: u64) -> LogPosition {
        LogPosition { index, term }
    }

    fn log(terms: &[u64]) -> Outline {
        let mut log = Outline::default();
        for (index, term) in (1..).zip(terms) {
            log.append(at(index, *term)).expect("follows");
        }
        log
    }

    #[test]
    fn terms_are_found_by_index() {
        let log = log(&[1, 1, 3, 3, 4]);
        let terms: Vec<_> = (0..7).map(|index| log.position_at(index).map(|at| at.term)).collect();
        assert_eq!(terms, [None, Some(1), Some(1), Some(3), Some(3), Some(4), None]);
    }

    #[test]
    fn a_gap_is_refused() {
        assert_eq!(log(&[1]).append(at(3, 1)), Err(Gap { expected: 2, found: 3 }));
    }

    #[test]
    fn truncation_keeps_the_term_of_what_is_left() {
        let mut log = log(&[1, 1, 3, 3]);
        log.truncate_after(Some(3));
        assert_eq!(log.last(), Some(at(3, 3)));
        log.truncate_after(Some(9));
        assert_eq!(log.last(), Some(at(3, 3)));
        log.truncate_after(Some(2));
        assert_eq!(log.last(), Some(at(2, 1)));
        log.append(at(3, 4)).expect("follows");
        assert_eq!(log.position_at(3), Some(at(3, 4)));
        log.truncate_after(None);
        assert_eq!(log, Outline::default());
    }

    #[test]
    fn a_purge_keeps_what_follows_the_purged_entry() {
        let mut log = log(&[1, 1, 3, 3]);
        assert!(log.purge(at(2, 1)));
        assert_eq!(
            (log.first(), log.purged(), log.last()),
            (Some(3), Some(at(2, 1)), Some(at(4, 3)))
        );
        assert!(log.purge(at(1, 1)), "an older purge point changes nothing");
        assert!(log.purge(at(4, 3)));
        assert_eq!((log.first(), log.last()), (None, Some(at(4, 3))));
        log.append(at(5, 3)).expect("follows the purge point");
    }

    #[test]
    fn a_purge_point_that_the_log_does_not_hold_empties_it() {
        for upto in [at(9, 3), at(2, 2)] {
            let mut log = log(&[1, 1, 3, 3]);
            assert!(!log.purge(upto));
            assert_eq!((log.first(), log.last()), (None, Some(upto)));
        }
    }

    #[test]
    fn a_recorded_end_before_the_first_segment_left_moves_the_beginning() {
        let mut log = Outline::starting_after(Some(at(100, 2)));
        log.truncate_to(Some(at(50, 1)));
        log.append(at(51, 3)).expect("follows");
        assert_eq!((log.purged(), log.last()), (Some(at(50, 1)), Some(at(51, 3))));
        log.truncate_to(None);
        assert_eq!(log, Outline::default());
    }

    #[test]
    fn truncating_to_the_purge_point_leaves_it() {
        let mut log = log(&[1, 1, 3, 3]);
        log.purge(at(2, 1));
        log.truncate_after(Some(2));
        assert_eq!((log.first(), log.last()), (None, Some(at(2, 1))));
    }
}
