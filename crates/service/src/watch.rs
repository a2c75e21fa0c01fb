//! One watch, as its owner holds it.
//!
//! A watch that starts in the past reads the store's changes itself, slice by slice, until it has
//! caught up; then the [hub](crate::watch_hub) takes it over and fills its queue as changes
//! happen. The hub takes it only at exactly the revision it has read to, so nothing is missed and
//! nothing comes twice, and a slow reader of old changes holds nobody up.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use mainstay_kv::{Changes, EventKind, KeyRange, QueryError};

use crate::{
    watch_hub::{Behind, Followed, WatchHub},
    watch_queue::{Next, WatchEnd, WatchQueue, WatchedRevision, passes},
};

/// Bytes of changes read at a time while catching up.
const CATCH_UP_SLICE_BYTES: usize = 256 * 1024;

/// What to watch, and from where.
#[derive(Debug, Clone)]
pub struct WatchRequest {
    /// The keys.
    pub range: KeyRange,
    /// The first revision wanted; 0 is the one after the present. It may lie in the future.
    pub from_revision: u64,
    /// Whether events carry what was there before.
    pub previous: bool,
    /// Leave puts out.
    pub no_put: bool,
    /// Leave deletes out.
    pub no_delete: bool,
    /// How often to say how far the watch is when nothing happens; `None` for never.
    pub progress_interval: Option<Duration>,
    /// When its owner is too slow, forget what waits and read it again from the store when the
    /// owner gets there, instead of cancelling. What waits stays as small; what was compacted
    /// meanwhile ends the watch.
    pub catch_up_when_slow: bool,
}

/// What a watch has to say.
#[derive(Debug, Clone)]
pub enum WatchMessage {
    /// A revision with its events; never empty.
    Changes(WatchedRevision),
    /// Everything up to this revision was told.
    Progress {
        /// The revision.
        revision: u64,
    },
    /// The wanted start was compacted; the watch has ended.
    Compacted {
        /// The lowest revision that a watch can start from.
        compact_revision: u64,
    },
    /// The watch was cancelled and has ended.
    Cancelled {
        /// Why.
        reason: CancelReason,
        /// From where another watch goes on without a gap.
        resume_revision: u64,
    },
}

/// Why a watch was cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelReason {
    /// Its owner takes too long to take what happened.
    Slow,
    /// The node is stopping.
    ShuttingDown,
    /// The store was replaced by an older one, as after a restore.
    StoreReplaced,
}

impl CancelReason {
    /// The reason in one word, as the API shows it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Slow => "slow",
            Self::ShuttingDown => "shutting_down",
            Self::StoreReplaced => "store_replaced",
        }
    }
}

/// A running watch; it ends when dropped.
#[derive(Debug)]
pub struct Watch {
    hub: Arc<WatchHub>,
    request: WatchRequest,
    state: State,
    position: WatchPosition,
    progress: Option<(Duration, Pin<Box<tokio::time::Sleep>>)>,
}

/// How far a watch is, for those who hold several and ask them all; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct WatchPosition(Arc<Mutex<Option<Following>>>);

#[derive(Debug)]
struct Following {
    /// Everything before it was told when the watch began to follow.
    next_revision: u64,
    queue: Arc<WatchQueue>,
}

impl WatchPosition {
    /// Whether everything up to `revision` was told; `revision` was asked of
    /// [`Door::watched_revision`](crate::Door::watched_revision) before.
    #[must_use]
    pub fn has_told(&self, revision: u64) -> bool {
        // The order matters: what was dispatched up to `revision` is in the queue before the hub
        // says so; an empty queue after that proves that all was told.
        let following = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        following.as_ref().is_some_and(|following| {
            revision + 1 >= following.next_revision && following.queue.is_empty()
        })
    }

    fn set(&self, following: Option<Following>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = following;
    }
}

#[derive(Debug)]
enum State {
    CatchingUp { next_revision: u64, ready: VecDeque<WatchedRevision> },
    Following { id: u64, queue: Arc<WatchQueue> },
    Ending(WatchEnd),
    Ended,
}

impl Watch {
    /// Starts a watch. One that starts at the present follows from this moment on.
    pub(crate) fn start(hub: Arc<WatchHub>, mut request: WatchRequest) -> Self {
        let progress = request
            .progress_interval
            .map(|interval| (interval, Box::pin(mainstay_world::sleep(interval))));
        let followed = hub.follow(&request, request.from_revision);
        request.from_revision = match &followed {
            Ok(Followed { next_revision, .. }) | Err(Behind { next_revision }) => *next_revision,
        };
        let next_revision = request.from_revision;
        let state = State::CatchingUp { next_revision, ready: VecDeque::new() };
        let mut watch = Self { hub, request, state, position: WatchPosition::default(), progress };
        if let Ok(followed) = followed {
            watch.follow(followed);
        }
        watch
    }

    /// How far it is, as it goes on.
    #[must_use]
    pub fn position(&self) -> WatchPosition {
        self.position.clone()
    }

    /// The first revision that this watch tells of.
    #[must_use]
    pub const fn from_revision(&self) -> u64 {
        self.request.from_revision
    }

    /// Whether the owner wants to see what was there before.
    #[must_use]
    pub const fn wants_previous(&self) -> bool {
        self.request.previous
    }

    /// The next thing to tell; `None` after the watch has ended. It may be dropped while it waits
    /// and called again, without loss.
    pub async fn next(&mut self) -> Option<WatchMessage> {
        loop {
            if let Some(message) = self.ready() {
                return Some(message);
            }
            match &self.state {
                State::Ended | State::Ending(_) => return None,
                State::CatchingUp { .. } => self.catch_up().await,
                State::Following { queue, .. } => {
                    let filled = queue.filled();
                    let Some((interval, timer)) = &mut self.progress else {
                        filled.await;
                        continue;
                    };
                    tokio::select! {
                        biased;
                        () = filled => {}
                        () = timer.as_mut() => {
                            timer.set(mainstay_world::sleep(*interval));
                            if let Some(message) = self.progress_message() {
                                return Some(message);
                            }
                        }
                    }
                }
            }
        }
    }

    /// What can be told without waiting, if anything.
    pub fn ready(&mut self) -> Option<WatchMessage> {
        let end = match &mut self.state {
            State::Ended => return None,
            State::Ending(end) => *end,
            State::CatchingUp { ready, .. } => {
                return ready.pop_front().map(WatchMessage::Changes);
            }
            State::Following { queue, .. } => match queue.pop() {
                Next::Revision(revision) => return Some(WatchMessage::Changes(revision)),
                Next::Nothing => return None,
                Next::End(WatchEnd::Cancelled { reason: CancelReason::Slow, resume_revision })
                    if self.request.catch_up_when_slow =>
                {
                    self.leave();
                    let lost = u64::from(self.hub.buggify().is_planted("lose-slow-watch"));
                    let next_revision = resume_revision + lost;
                    let ready = VecDeque::new();
                    self.state = State::CatchingUp { next_revision, ready };
                    return None;
                }
                Next::End(end) => end,
            },
        };
        Some(self.end(end))
    }

    /// The next revision that can be told without waiting, if that is what comes next.
    pub fn ready_changes(&mut self) -> Option<WatchedRevision> {
        match &mut self.state {
            State::CatchingUp { ready, .. } => ready.pop_front(),
            State::Following { queue, .. } => queue.pop_revision(),
            State::Ending(_) | State::Ended => None,
        }
    }

    /// Reads one slice of old changes, or hands the watch over to the hub. It never waits for
    /// others who do the same: one whose owner has stopped asking would keep them waiting.
    async fn catch_up(&mut self) {
        let State::CatchingUp { next_revision, ready } = &mut self.state else { return };
        if let Some(reason) = self.hub.closed() {
            let end = WatchEnd::Cancelled { reason, resume_revision: *next_revision };
            self.state = State::Ending(end);
            return;
        }
        if let Ok(followed) = self.hub.follow(&self.request, *next_revision) {
            self.follow(followed);
            return;
        }
        // With no room one revision is read at a time, so that everybody gets on.
        let bytes_max = if self.hub.has_room() { CATCH_UP_SLICE_BYTES } else { 1 };
        match self.hub.changes_of(&self.request.range, *next_revision, bytes_max) {
            Ok(mut changes) => {
                spoil(&self.hub, &self.request.range, &mut changes);
                for revision in changes.revisions {
                    let wanted: Vec<usize> = (0..revision.events.len())
                        .filter(|at| passes(&self.request, &revision.events[*at]))
                        .collect();
                    if !wanted.is_empty() {
                        let held = self.hub.hold(revision);
                        ready.push_back(WatchedRevision::new(&held, wanted.into_iter()));
                    }
                }
                *next_revision = changes.next_revision;
            }
            Err(error) => {
                let end = match error {
                    QueryError::Compacted { compact_revision, .. } => {
                        WatchEnd::Compacted { compact_revision }
                    }
                    QueryError::Future { .. } => WatchEnd::Cancelled {
                        reason: CancelReason::StoreReplaced,
                        resume_revision: *next_revision,
                    },
                };
                self.state = State::Ending(end);
            }
        }
        tokio::task::yield_now().await;
    }

    fn follow(&mut self, followed: Followed) {
        let Followed { id, next_revision, queue } = followed;
        self.position.set(Some(Following { next_revision, queue: Arc::clone(&queue) }));
        self.state = State::Following { id, queue };
    }

    /// Everything up to which revision was told, if the watch follows and has told all it has.
    fn progress_message(&self) -> Option<WatchMessage> {
        let revision = self.hub.dispatched_revision();
        self.position.has_told(revision).then_some(WatchMessage::Progress { revision })
    }

    fn end(&mut self, end: WatchEnd) -> WatchMessage {
        self.leave();
        match end {
            WatchEnd::Compacted { compact_revision } => {
                WatchMessage::Compacted { compact_revision }
            }
            WatchEnd::Cancelled { reason, resume_revision } => {
                WatchMessage::Cancelled { reason, resume_revision }
            }
        }
    }

    fn leave(&mut self) {
        if let State::Following { id, .. } = &self.state {
            self.hub.leave(*id);
        }
        self.position.set(None);
        self.state = State::Ended;
    }
}

/// Planted bugs: what is read of the past lacks deletions at the compaction revision, or has a
/// revision twice.
fn spoil(hub: &WatchHub, range: &KeyRange, changes: &mut Changes) {
    if hub.buggify().is_planted("drop-delete-at-compaction")
        && let Err(QueryError::Compacted { compact_revision, .. }) = hub.changes_of(range, 0, 1)
    {
        for revision in &mut changes.revisions {
            let at_compaction = revision.revision == compact_revision;
            revision.events.retain(|event| !(at_compaction && event.kind == EventKind::Delete));
        }
    }
    if hub.buggify().is_planted("repeat-watch-event")
        && let Some(last) = changes.revisions.last().cloned()
    {
        changes.revisions.push(last);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.leave();
        self.hub.watch_dropped();
    }
}

#[cfg(test)]
mod tests;
