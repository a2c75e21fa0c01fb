//! What waits for one watcher, bounded by number and by bytes.
//!
//! The hub puts in, the watcher takes out, neither waits for the other. A revision that does not
//! fit is not put in: the hub then ends the watch, and the watcher learns after the last revision
//! that did fit from where to go on.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use mainstay_kv::{Event, EventKind, RevisionChanges};
use tokio::sync::Notify;

use crate::watch::{CancelReason, WatchRequest};

/// Bytes that an event takes besides its keys and values.
const EVENT_OVERHEAD_BYTES: usize = 128;

/// Places that an empty queue keeps.
const KEPT_REVISIONS_MAX: usize = 16;

/// Bytes of all changes that somebody still holds to tell them, each counted once; cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct HeldBytes(Arc<AtomicUsize>);

impl HeldBytes {
    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// The changes of one revision, counted for as long as anybody holds them.
#[derive(Debug)]
pub(crate) struct HeldRevision {
    changes: RevisionChanges,
    bytes: usize,
    held: HeldBytes,
}

impl HeldRevision {
    pub(crate) fn new(changes: RevisionChanges, held: &HeldBytes) -> Arc<Self> {
        let bytes = changes.events.iter().map(event_bytes).sum();
        held.0.fetch_add(bytes, Ordering::Relaxed);
        Arc::new(Self { changes, bytes, held: held.clone() })
    }
}

impl Drop for HeldRevision {
    fn drop(&mut self) {
        self.held.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The events of one revision that one watcher wants; shared with all who want the same.
#[derive(Debug, Clone)]
pub struct WatchedRevision {
    held: Arc<HeldRevision>,
    /// Which events, ascending; `None` is all.
    wanted: Option<Box<[usize]>>,
}

impl WatchedRevision {
    /// The events of `held` that `wanted` lists, in ascending order; one at least.
    pub(crate) fn new(
        held: &Arc<HeldRevision>,
        wanted: impl ExactSizeIterator<Item = usize>,
    ) -> Self {
        let all = wanted.len() == held.changes.events.len();
        let wanted = (!all).then(|| wanted.collect());
        Self { held: Arc::clone(held), wanted }
    }

    /// The revision.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.held.changes.revision
    }

    /// Its events for this watcher, in the order they happened.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        let events = &self.held.changes.events;
        let count = self.wanted.as_ref().map_or(events.len(), |wanted| wanted.len());
        (0..count).map(|at| {
            let at = self.wanted.as_ref().map_or(at, |wanted| wanted[at]);
            &events[at]
        })
    }

    /// Bytes that this takes, as if nobody shared it.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match &self.wanted {
            None => self.held.bytes,
            Some(_) => self.events().map(event_bytes).sum(),
        }
    }
}

fn event_bytes(event: &Event) -> usize {
    let pair_bytes = |pair: &mainstay_kv::KeyValue| pair.key.len() + pair.value.len();
    EVENT_OVERHEAD_BYTES + pair_bytes(&event.pair) + event.previous.as_ref().map_or(0, pair_bytes)
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

impl Waiting {
    /// One revision of `bytes` was taken out.
    fn took(&mut self, bytes: usize) {
        self.bytes -= bytes;
        // A burst leaves no large empty queue behind: there may be ten thousand of them.
        if self.revisions.is_empty() && self.revisions.capacity() > KEPT_REVISIONS_MAX {
            self.revisions = VecDeque::new();
        }
    }
}

/// A revision that does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

impl WatchQueue {
    pub(crate) fn new(revisions_max: usize, bytes_max: usize) -> Self {
        Self { waiting: Mutex::default(), filled: Notify::new(), revisions_max, bytes_max }
    }

    /// Puts a revision in, if there is room for it here, and `room` elsewhere. One always fits into
    /// an empty queue, however large it is: whoever keeps up is told, whatever others do.
    pub(crate) fn push(&self, revision: WatchedRevision, room: bool) -> Result<(), Full> {
        let bytes = revision.bytes();
        let mut waiting = self.waiting();
        let fits = room
            && waiting.revisions.len() < self.revisions_max
            && waiting.bytes + bytes <= self.bytes_max;
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

    /// Ends the watch and forgets what is in the queue; the revision from which to read it again,
    /// which is `next_revision` if nothing was.
    pub(crate) fn end_empty(&self, next_revision: u64) {
        let mut waiting = self.waiting();
        let revisions = std::mem::take(&mut waiting.revisions);
        waiting.bytes = 0;
        let first = revisions.front().map(|(first, _)| first.revision());
        let resume_revision = first.unwrap_or(next_revision);
        let reason = CancelReason::Slow;
        waiting.end.get_or_insert(WatchEnd::Cancelled { reason, resume_revision });
        drop(waiting);
        self.filled.notify_one();
    }

    /// Takes the next thing out.
    pub(crate) fn pop(&self) -> Next {
        let mut waiting = self.waiting();
        match (waiting.revisions.pop_front(), waiting.end) {
            (Some((revision, bytes)), _) => {
                waiting.took(bytes);
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
        waiting.took(bytes);
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
        let changes = RevisionChanges { revision: number, events };
        WatchedRevision::new(&HeldRevision::new(changes, &HeldBytes::default()), [0].into_iter())
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
        assert_eq!(queue.push(revision(1, 5_000), true), Ok(()));
        assert_eq!(queue.push(revision(2, 1), true), Err(Full));
        assert_eq!(pop_revision(&queue), Some(1));
        assert_eq!(queue.push(revision(2, 1), true), Ok(()));
        assert_eq!(queue.push(revision(3, 1), true), Ok(()));
        assert_eq!(queue.push(revision(4, 1), true), Err(Full));
    }

    #[test]
    fn an_end_comes_after_what_waits_and_the_first_end_counts() {
        let queue = WatchQueue::new(2, 1_000);
        queue.push(revision(1, 1), true).expect("fits");
        queue.end(WatchEnd::Compacted { compact_revision: 5 });
        queue.end(WatchEnd::Compacted { compact_revision: 6 });
        assert_eq!(pop_revision(&queue), Some(1));
        let Next::End(end) = queue.pop() else { panic!("the end is next") };
        assert_eq!(end, WatchEnd::Compacted { compact_revision: 5 });
    }

    #[test]
    fn without_room_elsewhere_only_an_empty_queue_takes_one() {
        let queue = WatchQueue::new(9, 1_000);
        assert_eq!(queue.push(revision(1, 1), false), Ok(()));
        assert_eq!(queue.push(revision(2, 1), false), Err(Full));
        assert_eq!(pop_revision(&queue), Some(1));
        assert_eq!(queue.push(revision(2, 1), false), Ok(()));
    }

    #[test]
    fn a_queue_that_is_emptied_says_from_where_to_go_on() {
        let queue = WatchQueue::new(9, 1_000);
        for number in 4..7 {
            queue.push(revision(number, 1), true).expect("fits");
        }
        queue.end_empty(7);
        let Next::End(WatchEnd::Cancelled { resume_revision, .. }) = queue.pop() else {
            panic!("the end is next")
        };
        assert_eq!(resume_revision, 4);
    }

    #[test]
    fn changes_that_many_hold_are_counted_once_until_the_last_lets_go() {
        let held = HeldBytes::default();
        let pair = KeyValue {
            key: Bytes::from_static(b"k"),
            value: Bytes::from_static(b"value"),
            create_revision: 2,
            mod_revision: 2,
            version: 1,
            lease: 0,
        };
        let events = vec![Event { kind: EventKind::Put, pair, previous: None }];
        let revision = HeldRevision::new(RevisionChanges { revision: 2, events }, &held);
        let watched: Vec<_> =
            (0..100).map(|_| WatchedRevision::new(&revision, [0].into_iter())).collect();
        drop(revision);
        assert_eq!(held.get(), EVENT_OVERHEAD_BYTES + 6);
        drop(watched);
        assert_eq!(held.get(), 0);
    }

    #[test]
    fn a_burst_leaves_no_large_empty_queue_behind() {
        let queue = WatchQueue::new(1_024, 1_000_000);
        for number in 0..1_024 {
            queue.push(revision(number, 1), true).expect("fits");
        }
        while queue.pop_revision().is_some() {}
        assert!(queue.waiting().revisions.capacity() <= KEPT_REVISIONS_MAX);
    }
}
