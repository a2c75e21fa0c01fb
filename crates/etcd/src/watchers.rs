//! The watchers of one stream: many watches of the door, told as one.
//!
//! A watch is polled only when it has something to tell, so ten thousand of them cost what the
//! busy ones cost. What is waiting of one watch is told in one piece, up to a bound.

use std::{
    collections::BTreeMap,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{
    Stream, StreamExt as _,
    stream::{self, AbortHandle, SelectAll},
};
use mainstay_service::{Watch, WatchMessage, WatchPosition, WatchedRevision};

/// Bytes of changes after which a piece is told although more waits.
const PIECE_BYTES: usize = 256 * 1024;

/// Revisions after which a piece is told although more waits.
const PIECE_REVISIONS: usize = 128;

/// How a watcher wants to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Manner {
    /// Events carry what was there before.
    pub(crate) previous: bool,
    /// Large revisions may be split.
    pub(crate) fragment: bool,
}

/// What a watcher has to tell.
pub(crate) enum Told {
    /// Revisions with their events, in order.
    Changes(Vec<WatchedRevision>),
    /// Everything else.
    Other(WatchMessage),
}

/// The watchers of one stream.
#[derive(Default)]
pub(crate) struct Watchers {
    by_id: BTreeMap<i64, Watcher>,
    running: SelectAll<Running>,
    next_id: i64,
}

type Running = Pin<Box<dyn Stream<Item = (i64, Told)> + Send>>;

struct Watcher {
    manner: Manner,
    position: WatchPosition,
    end: AbortHandle,
}

impl Watchers {
    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.by_id.len()
    }

    /// The id that a new watcher gets: the wanted one, or for 0 the next that is free. `None` if
    /// it is taken.
    pub(crate) fn id_for(&mut self, wanted: i64) -> Option<i64> {
        if wanted != 0 {
            return (!self.by_id.contains_key(&wanted)).then_some(wanted);
        }
        while self.by_id.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        Some(self.next_id - 1)
    }

    /// Adds a watcher under a free id.
    pub(crate) fn insert(&mut self, id: i64, watch: Watch, manner: Manner) {
        let position = watch.position();
        let told = stream::unfold(watch, async |mut watch| Some((next(&mut watch).await?, watch)));
        let (told, end) = stream::abortable(told);
        self.running.push(Box::pin(told.map(move |told| (id, told))));
        self.by_id.insert(id, Watcher { manner, position, end });
    }

    /// Ends a watcher; whether there was one.
    pub(crate) fn remove(&mut self, id: i64) -> bool {
        let removed = self.by_id.remove(&id);
        removed.inspect(|watcher| watcher.end.abort()).is_some()
    }

    /// How a watcher wants to be told.
    pub(crate) fn manner(&self, id: i64) -> Option<Manner> {
        self.by_id.get(&id).map(|watcher| watcher.manner)
    }

    /// Whether all have told everything up to `revision`.
    pub(crate) fn have_told(&self, revision: u64) -> bool {
        self.by_id.values().all(|watcher| watcher.position.has_told(revision))
    }

    /// The next thing that one of them tells; pending while there are none.
    pub(crate) async fn next(&mut self) -> (i64, Told) {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<(i64, Told)> {
        match self.running.poll_next_unpin(context) {
            Poll::Ready(Some(told)) => Poll::Ready(told),
            // None runs; whoever adds one polls again.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

/// The next piece that a watch tells: all changes that wait, up to a bound.
async fn next(watch: &mut Watch) -> Option<Told> {
    let mut changes = match watch.next().await? {
        WatchMessage::Changes(first) => vec![first],
        other => return Some(Told::Other(other)),
    };
    let mut bytes = changes[0].bytes();
    while bytes < PIECE_BYTES && changes.len() < PIECE_REVISIONS {
        let Some(next) = watch.ready_changes() else { break };
        bytes += next.bytes();
        changes.push(next);
    }
    Some(Told::Changes(changes))
}
