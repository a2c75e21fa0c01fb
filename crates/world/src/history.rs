//! Node-local records that people ask for later and no decision depends on: elections and why,
//! health samples, refused requests.
//!
//! A history may lose its tail in a crash, in production and in simulation alike.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;

/// One record of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryRecord {
    /// Position within its kind, ascending, with gaps after old records were dropped.
    pub sequence: u64,
    /// What was appended.
    pub bytes: Bytes,
}

/// Append-only records by kind, each kind bounded to its newest ones.
pub trait History: Send + Sync + 'static {
    /// Appends a record to `kind`, dropping the oldest when there are more than `keep`. Failures
    /// are logged, not returned: nothing may depend on a history.
    fn append(&self, kind: &'static str, record: Bytes, keep: usize);

    /// The newest records of `kind`, at most `limit`, newest first.
    fn newest(&self, kind: &'static str, limit: usize) -> Vec<HistoryRecord>;
}

/// A history in memory, for simulations and tests.
#[derive(Debug, Default)]
pub struct MemoryHistory {
    kinds: Mutex<BTreeMap<&'static str, (u64, VecDeque<HistoryRecord>)>>,
}

impl History for MemoryHistory {
    fn append(&self, kind: &'static str, record: Bytes, keep: usize) {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let (next, records) = kinds.entry(kind).or_default();
        records.push_back(HistoryRecord { sequence: *next, bytes: record });
        *next += 1;
        while records.len() > keep {
            records.pop_front();
        }
    }

    fn newest(&self, kind: &'static str, limit: usize) -> Vec<HistoryRecord> {
        let kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        kinds
            .get(kind)
            .map(|(_next, records)| records.iter().rev().take(limit).cloned().collect())
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_records_come_first_and_the_oldest_are_dropped() {
        let history = MemoryHistory::default();
        for text in ["one", "two", "three"] {
            history.append("election", Bytes::from_static(text.as_bytes()), 2);
        }
        let texts: Vec<_> = history.newest("election", 9).into_iter().map(|r| r.bytes).collect();
        assert_eq!(texts, ["three", "two"]);
        assert!(history.newest("health", 9).is_empty());
    }
}
