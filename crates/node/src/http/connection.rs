//! Connections that are watched: who is idle, who is slow, who does not read.
//!
//! hyper can bound the time for a request's head, with a timer for each request; on the hot path
//! that costs more than it is worth. Here every connection notes in a few atomics what it does,
//! by a clock that ticks once a second, and one task looks over all of them at each tick and ends
//! those that hold a place without using it:
//!
//! - a request's head that does not arrive,
//! - a connection on which nothing happens,
//! - a peer that does not take what is written, as a watcher that hangs.
//!
//! A body that does not arrive is ended where it is read.

use std::{
    collections::BTreeMap,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use mainstay_world::Stream;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
};

/// Seconds that a request's head may take to arrive.
const HEAD_SECONDS_MAX: u64 = 30;

/// Seconds for which nothing may happen on a connection; above the longest interval of progress
/// events of a watch.
const IDLE_SECONDS_MAX: u64 = 900;

/// Seconds for which a peer may take nothing of what is written.
const STUCK_SECONDS_MAX: u64 = 60;

/// The clock's tick.
const TICK: Duration = Duration::from_secs(1);

/// All connections of a server.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    open: Mutex<BTreeMap<u64, Arc<ConnectionState>>>,
    clock: Arc<AtomicU64>,
    next_id: AtomicU64,
    all_closed: Notify,
}

/// What one connection does.
#[derive(Debug)]
pub(crate) struct ConnectionState {
    clock: Arc<AtomicU64>,
    /// Requests that are being answered.
    answering: AtomicU32,
    /// The connection carries several requests at a time (HTTP/2), so that what arrives between
    /// them need not be a head.
    multiplexed: AtomicBool,
    /// When bytes were last read or written.
    active: AtomicU64,
    /// When the head that is arriving began, 0 if none is.
    head_began: AtomicU64,
    /// Since when the peer takes nothing, 0 if it does.
    stuck_since: AtomicU64,
    ended: Notify,
}

impl Connections {
    /// Counts a connection in, unless there are `max` already.
    pub(crate) fn open(self: &Arc<Self>, max: usize) -> Option<OpenConnection> {
        let mut open = self.lock();
        if open.len() >= max {
            return None;
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let state = Arc::new(ConnectionState::new(Arc::clone(&self.clock)));
        open.insert(id, Arc::clone(&state));
        Some(OpenConnection { connections: Arc::clone(self), id, state })
    }

    /// How many are open.
    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    /// Returns when none is open.
    pub(crate) async fn closed(&self) {
        loop {
            let closed = self.all_closed.notified();
            if self.count() == 0 {
                return;
            }
            closed.await;
        }
    }

    /// Ends connections that hold a place without using it, for as long as it is polled.
    pub(crate) async fn look_after(&self) {
        loop {
            mainstay_world::sleep(TICK).await;
            self.tick();
        }
    }

    fn tick(&self) {
        let now = self.clock.fetch_add(1, Ordering::Relaxed) + 1;
        for state in self.lock().values().filter(|state| state.is_overdue(now)) {
            state.ended.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<ConnectionState>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among the connections, given back when dropped.
#[derive(Debug)]
pub(crate) struct OpenConnection {
    connections: Arc<Connections>,
    id: u64,
    pub(crate) state: Arc<ConnectionState>,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        let mut open = self.connections.lock();
        open.remove(&self.id);
        if open.is_empty() {
            self.connections.all_closed.notify_waiters();
        }
    }
}

impl ConnectionState {
    fn new(clock: Arc<AtomicU64>) -> Self {
        let now = clock.load(Ordering::Relaxed);
        Self {
            clock,
            answering: AtomicU32::new(0),
            multiplexed: AtomicBool::new(false),
            active: AtomicU64::new(now),
            head_began: AtomicU64::new(0),
            stuck_since: AtomicU64::new(0),
            ended: Notify::new(),
        }
    }

    /// Notes that a request is answered, until the value is dropped.
    pub(crate) fn answer(&self, multiplexed: bool) -> Answering<'_> {
        if multiplexed {
            self.multiplexed.store(true, Ordering::Relaxed);
        }
        self.head_began.store(0, Ordering::Relaxed);
        self.answering.fetch_add(1, Ordering::Relaxed);
        Answering(self)
    }

    /// Whether it carries several requests at a time (HTTP/2), as far as its requests have shown.
    pub(crate) fn is_multiplexed(&self) -> bool {
        self.multiplexed.load(Ordering::Relaxed)
    }

    /// Returns when the connection is to be ended.
    pub(crate) async fn ended(&self) {
        self.ended.notified().await;
    }

    fn now(&self) -> u64 {
        self.clock.load(Ordering::Relaxed)
    }

    fn read(&self) {
        let now = self.now();
        self.active.store(now, Ordering::Relaxed);
        if self.answering.load(Ordering::Relaxed) == 0 {
            // 0 stands for none, and a second more or less does not matter.
            let began = now.max(1);
            let _kept =
                self.head_began.compare_exchange(0, began, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    fn wrote(&self) {
        self.active.store(self.now(), Ordering::Relaxed);
        self.stuck_since.store(0, Ordering::Relaxed);
    }

    fn stuck(&self) {
        let since = self.now().max(1);
        let _kept =
            self.stuck_since.compare_exchange(0, since, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn is_overdue(&self, now: u64) -> bool {
        let older = |since: &AtomicU64, max: u64| {
            let since = since.load(Ordering::Relaxed);
            since != 0 && now.saturating_sub(since) > max
        };
        let answering = self.answering.load(Ordering::Relaxed) > 0;
        let multiplexed = self.multiplexed.load(Ordering::Relaxed);
        let idle = now.saturating_sub(self.active.load(Ordering::Relaxed)) > IDLE_SECONDS_MAX;
        older(&self.stuck_since, STUCK_SECONDS_MAX)
            || (!answering && idle)
            || (!answering && !multiplexed && older(&self.head_began, HEAD_SECONDS_MAX))
    }
}

/// A request that is being answered.
pub(crate) struct Answering<'a>(&'a ConnectionState);

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        self.0.answering.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A stream that notes what happens on it.
pub(crate) struct WatchedStream {
    stream: Stream,
    state: Arc<ConnectionState>,
}

impl WatchedStream {
    pub(crate) const fn new(stream: Stream, state: Arc<ConnectionState>) -> Self {
        Self { stream, state }
    }

    fn note_write<T>(&self, written: Poll<T>) -> Poll<T> {
        match &written {
            Poll::Ready(_) => self.state.wrote(),
            Poll::Pending => self.state.stuck(),
        }
        written
    }
}

impl AsyncRead for WatchedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.state.read();
        }
        read
    }
}

impl AsyncWrite for WatchedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note_write(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.note_write(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overdue_after(seconds: u64, what: impl FnOnce(&ConnectionState)) -> bool {
        let connections = Arc::new(Connections::default());
        connections.tick();
        let open = connections.open(1).expect("there is room");
        what(&open.state);
        for _ in 0..seconds {
            connections.tick();
        }
        open.state.is_overdue(open.state.now())
    }

    #[test]
    fn a_head_that_does_not_arrive_ends_the_connection() {
        assert!(!overdue_after(HEAD_SECONDS_MAX, ConnectionState::read));
        assert!(overdue_after(HEAD_SECONDS_MAX + 1, ConnectionState::read));
    }

    #[test]
    fn a_request_that_takes_long_does_not() {
        assert!(!overdue_after(IDLE_SECONDS_MAX * 2, |state| {
            state.read();
            std::mem::forget(state.answer(false));
        }));
    }

    #[test]
    fn bytes_between_requests_are_no_head_on_a_multiplexed_connection() {
        assert!(!overdue_after(HEAD_SECONDS_MAX + 1, |state| {
            drop(state.answer(true));
            state.read();
        }));
    }

    #[test]
    fn an_idle_connection_and_a_peer_that_takes_nothing_are_ended() {
        assert!(!overdue_after(IDLE_SECONDS_MAX, |_state| {}));
        assert!(overdue_after(IDLE_SECONDS_MAX + 1, |_state| {}));
        assert!(overdue_after(STUCK_SECONDS_MAX + 1, ConnectionState::stuck));
        assert!(!overdue_after(STUCK_SECONDS_MAX + 1, |state| {
            state.stuck();
            state.wrote();
        }));
    }

    #[test]
    fn places_are_bounded_and_given_back() {
        let connections = Arc::new(Connections::default());
        let open = connections.open(1).expect("there is room");
        assert!(connections.open(1).is_none());
        drop(open);
        assert!(connections.open(1).is_some());
    }
}
