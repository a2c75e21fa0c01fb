//! What the histories know: a naive log, what was asked for, and what must be there afterwards.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mainstay_storage::{LogEntry, LogPosition, Recovered, Storage, StorageFailure, Vote};

use crate::world::{chunks, read_all, read_snapshot};

/// The log, naively.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ModelLog {
    pub(crate) purged: Option<LogPosition>,
    pub(crate) entries: Vec<LogEntry>,
}

impl ModelLog {
    pub(crate) fn last(&self) -> Option<LogPosition> {
        self.entries.last().map(LogEntry::position).or(self.purged)
    }

    pub(crate) fn truncate_after(&mut self, index: u64) {
        self.entries.retain(|entry| entry.index <= index);
    }

    pub(crate) fn purge(&mut self, upto: LogPosition) {
        if self.purged.is_some_and(|purged| purged.index >= upto.index) {
            return;
        }
        if self.entries.iter().any(|entry| entry.position() == upto) {
            self.entries.retain(|entry| entry.index > upto.index);
        } else {
            self.entries.clear();
        }
        self.purged = Some(upto);
    }

    /// Whether `found` is this log, apart from how far it is purged: a purge is only noted.
    pub(crate) fn matches(&self, found: &Self) -> bool {
        let behind = found.purged.map_or(0, |purged| purged.index);
        let common =
            self.entries.iter().filter(|entry| entry.index > behind).cloned().collect::<Vec<_>>();
        let first = self.purged.map_or(0, |purged| purged.index);
        let found_common =
            found.entries.iter().filter(|entry| entry.index > first).cloned().collect::<Vec<_>>();
        self.last() == found.last() && common == found_common
    }
}

/// What was asked for in one life, and how much of it was acknowledged.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    /// The log after each request, the state at the start first.
    pub(crate) logs: Vec<ModelLog>,
    /// Index into `logs` of the last one acknowledged.
    pub(crate) acknowledged: usize,
    /// Votes asked for, the durable one first; at most one is not acknowledged.
    pub(crate) votes: Vec<Option<Vote>>,
    /// Everything ever noted as committed.
    pub(crate) committed: Vec<LogPosition>,
    /// Snapshots begun; those acknowledged must be there.
    pub(crate) snapshots: Vec<(LogPosition, bool)>,
    pub(crate) is_failed: bool,
    pub(crate) is_installed: bool,
}

pub(crate) type Book = Arc<Mutex<Asked>>;

pub(crate) fn book(asked: &Book) -> MutexGuard<'_, Asked> {
    asked.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn ask(asked: &Book, next: ModelLog) -> usize {
    let mut asked = book(asked);
    asked.logs.push(next);
    asked.logs.len() - 1
}

pub(crate) fn note(asked: &Book, number: usize, outcome: &Result<(), StorageFailure>) {
    let mut asked = book(asked);
    match outcome {
        Ok(()) => asked.acknowledged = asked.acknowledged.max(number),
        Err(_failure) => asked.is_failed = true,
    }
}

/// What the folder holds, after its claims are compared with what was asked for.
pub(crate) async fn check(storage: &Storage, recovered: &Recovered, asked: &Asked) -> Asked {
    let found = ModelLog { purged: recovered.purged, entries: read_all(storage).await };
    assert_eq!(found.last(), recovered.last, "the log is as long as the start says");
    let possible = &asked.logs[asked.acknowledged..];
    assert!(
        possible.iter().any(|log| log.matches(&found)),
        "found purged {:?} last {:?}, possible: {:?}",
        found.purged,
        found.last(),
        possible.iter().map(|log| (log.purged, log.last())).collect::<Vec<_>>(),
    );
    let most_purged = asked.logs.iter().filter_map(|log| log.purged).map(|at| at.index).max();
    assert!(found.purged.map(|at| at.index) <= most_purged, "more was purged than was asked for");
    assert!(asked.votes.contains(&recovered.vote), "{:?} not in {:?}", recovered.vote, asked.votes);
    if let Some(committed) = recovered.committed {
        assert!(asked.committed.contains(&committed), "{committed} was never committed");
        assert!(recovered.last.is_some_and(|last| last.index >= committed.index));
    }
    let acknowledged =
        asked.snapshots.iter().filter(|(_last, done)| *done).map(|(last, _done)| last.index).max();
    let snapshot = recovered.snapshot.as_ref().and_then(|info| info.last);
    assert!(snapshot.map(|last| last.index) >= acknowledged, "a snapshot was lost");
    if let Some(last) = snapshot {
        assert!(asked.snapshots.iter().any(|(position, _done)| *position == last));
        assert_eq!(read_snapshot(storage).await, Some(chunks(last)), "chunks of {last}");
    }
    Asked {
        logs: vec![found],
        acknowledged: 0,
        votes: vec![recovered.vote],
        committed: asked.committed.clone(),
        snapshots: snapshot.map(|last| (last, true)).into_iter().collect(),
        is_failed: false,
        is_installed: false,
    }
}
