//! What waits for one watcher, bounded by number and by bytes.
//!
//! The hub puts in, the watcher takes out, neither waits for the other. A revision that does not
//! fit is not put in: the hub then ends the watch, and the watcher learns after the last revision
//! that did fit from where to go on.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use mainstay_kv::{Event, EventKind, RevisionChanges};
use tokio::sync::Notify;

use crate::watch::{CancelReason, WatchRequest};

/// Bytes that an event takes besides its keys and values.
const EVENT_OVERHEAD_BYTES: usize = 128;

/// The events of one revision that one watcher wants; shared with all who want the same.
#[derive(Debug, Clone)]
pub struct WatchedRevision {
    changes: Arc<RevisionChanges>,
    /// Which events, ascending; `None` is all.
    wanted: Option<Box<[usize]>>,
}

impl WatchedRevision {
    /// The events of `changes` that `wanted` lists, in ascending order.
    pub(crate) fn new(changes: &Arc<RevisionChanges>, wanted: &[usize]) -> Self {
        let all = wanted.len() == changes.events.len();
        let wanted = (!all).then(|| Box::from(wanted));
        Self { changes: Arc::clone(changes), wanted }
    }

    /// The revision.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.changes.revision
    }

    /// Its events for this watcher, in the order they happened.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        let count = self.wanted.as_ref().map_or(self.changes.events.len(), |wanted| wanted.len());
        (0..count).map(|at| {
            let at = self.wanted.as_ref().map_or(at, |wanted| wanted[at]);
            &self.changes.events[at]
        })
    }

    /// Bytes that this takes, as if nobody shared it.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let pair_bytes = |pair: &mainstay_kv::KeyValue| pair.key.len() + pair.value.len();
        self.events()
            .map(|event| {
                EVENT_OVERHEAD_BYTES
                    + pair_bytes(&event.pair)
                    + event.previous.as_ref().map_or(0, pair_bytes)
            })
            .sum()
    }
}

/// Whether a watcher that asked for `request` wants `event`; its key is in the range already.
pub(crate) const fn passes(request: &WatchRequest, event: &Event) -> bool {
    match event.kind {
        EventKind::Put => !request.no_put,
        EventKind::Delete => !request.no_delete,
    }
}

/// How a watch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WatchEnd {
    /// What it would need was compacted.
    Compacted { compact_revision: u64 },
    /// It was cancelled.
    Cancelled { reason: CancelReason, resume_revision: u64 },
}

/// What a watcher finds in its queue.
pub(crate) enum Next {
    Revision(WatchedRevision),
    End(WatchEnd),
    Nothing,
}

/// The queue of one watcher.
#[derive(Debug)]
pub(crate) struct WatchQueue {
    waiting: Mutex<Waiting>,
    filled: Notify,
    revisions_max: usize,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct Waiting {
    revisions: VecDeque<(WatchedRevision, usize)>,
    bytes: usize,
    end: Option<WatchEnd>,
}

/// A revision that does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

impl WatchQueue {
    pub(crate) fn new(revisions_max: usize, bytes_max: usize) -> Self {
        Self { waiting: Mutex::default(), filled: Notify::new(), revisions_max, bytes_max }
    }

    /// Puts a revision in. One always fits into an empty queue, however large it is.
    pub(crate) fn push(&self, revision: WatchedRevision) -> Result<(), Full> {
        let bytes = revision.bytes();
        let mut waiting = self.waiting();
        let fits =
            waiting.revisions.len() < self.revisions_max && waiting.bytes + bytes <= self.bytes_max;
        if !fits && !waiting.revisions.is_empty() {
            return Err(Full);
        }
        waiting.bytes += bytes;
        waiting.revisions.push_back((revision, bytes));
        drop(waiting);
        self.filled.notify_one();
        Ok(())
    }

    /// Ends the watch after what is in the queue already; the first end counts.
    pub(crate) fn end(&self, end: WatchEnd) {
        let _first = self.waiting().end.get_or_insert(end);
        self.filled.notify_one();
    }

    /// Takes the next thing out.
    pub(crate) fn pop(&self) -> Next {
        let mut waiting = self.waiting();
        match (waiting.revisions.pop_front(), waiting.end) {
            (Some((revision, bytes)), _) => {
                waiting.bytes -= bytes;
                Next::Revision(revision)
            }
            (None, Some(end)) => Next::End(end),
            (None, None) => Next::Nothing,
        }
    }

    /// Takes the next revision out, if one waits; the end stays.
    pub(crate) fn pop_revision(&self) -> Option<WatchedRevision> {
        let mut waiting = self.waiting();
        let (revision, bytes) = waiting.revisions.pop_front()?;
        waiting.bytes -= bytes;
        Some(revision)
    }

    /// Whether nothing waits, not even the end.
    pub(crate) fn is_empty(&self) -> bool {
        let waiting = self.waiting();
        waiting.revisions.is_empty() && waiting.end.is_none()
    }

    /// Returns when something may have been put in since the last time it returned.
    pub(crate) async fn filled(&self) {
        self.filled.notified().await;
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use mainstay_kv::KeyValue;

    fn revision(number: u64, value_bytes: usize) -> WatchedRevision {
        let pair = KeyValue {
            key: Bytes::from_static(b"k"),
            value: Bytes::from(vec![0; value_bytes]),
            create_revision: number,
            mod_revision: number,
            version: 1,
            lease: 0,
        };
        let events = vec![Event { kind: EventKind::Put, pair, previous: None }];
        WatchedRevision::new(&Arc::new(RevisionChanges { revision: number, events }), &[0])
    }

    fn pop_revision(queue: &WatchQueue) -> Option<u64> {
        match queue.pop() {
            Next::Revision(revision) => Some(revision.revision()),
            Next::End(_) | Next::Nothing => None,
        }
    }

    #[test]
    fn a_queue_is_bounded_by_number_and_by_bytes_but_always_takes_one() {
        let queue = WatchQueue::new(2, 1_000);
        assert_eq!(queue.push(revision(1, 5_000)), Ok(()));
        assert_eq!(queue.push(revision(2, 1)), Err(Full));
        assert_eq!(pop_revision(&queue), Some(1));
        assert_eq!(queue.push(revision(2, 1)), Ok(()));
        assert_eq!(queue.push(revision(3, 1)), Ok(()));
        assert_eq!(queue.push(revision(4, 1)), Err(Full));
    }

    #[test]
    fn an_end_comes_after_what_waits_and_the_first_end_counts() {
        let queue = WatchQueue::new(2, 1_000);
        queue.push(revision(1, 1)).expect("fits");
        queue.end(WatchEnd::Compacted { compact_revision: 5 });
        queue.end(WatchEnd::Compacted { compact_revision: 6 });
        assert_eq!(pop_revision(&queue), Some(1));
        let Next::End(end) = queue.pop() else { panic!("the end is next") };
        assert_eq!(end, WatchEnd::Compacted { compact_revision: 5 });
    }
}
