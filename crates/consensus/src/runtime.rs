//! The asynchronous runtime that openraft runs on: tokio, inside the node's scope.
//!
//! openraft asks its runtime for time, tasks and random numbers. Ours hands these questions on to
//! `world`, so that a simulated node's consensus lives in the node's own time and draws from the
//! node's own seed, and a production node's is plain tokio.

use std::{
    convert::Infallible,
    future::Future,
    ops::{Add, AddAssign, Sub, SubAssign},
    time::Duration,
};

use mainstay_world as world;
use openraft::{AsyncRuntime, OptionalSend};
use openraft_rt_tokio::{TokioMpsc, TokioMutex, TokioOneshot, TokioWatch};

/// The runtime of one node.
#[derive(Debug)]
pub(crate) struct NodeRuntime(tokio::runtime::Runtime);

impl AsyncRuntime for NodeRuntime {
    type JoinError = tokio::task::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = world::JoinHandle<T>;
    type Sleep = tokio::time::Sleep;
    type Instant = RaftInstant;
    type TimeoutError = tokio::time::error::Elapsed;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = tokio::time::Timeout<T>;
    type ThreadLocalRng = ScopeRng;
    type Mpsc = TokioMpsc;
    type Watch = TokioWatch;
    type Oneshot = TokioOneshot;
    type Mutex<T: OptionalSend + 'static> = TokioMutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        world::spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        world::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        world::sleep_until(deadline.0)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        #[expect(clippy::disallowed_methods, reason = "this is where openraft's time meets ours")]
        tokio::time::timeout(world::true_duration(duration), future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        Self::timeout(deadline.0.since(world::Instant::now()), future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        join_error.is_panic()
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        ScopeRng
    }

    fn new(_threads: usize) -> Self {
        let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Self(built.expect("a runtime for a test of openraft's own"))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }
}

/// A point on the node's clock, in the form openraft wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RaftInstant(pub(crate) world::Instant);

impl openraft::Instant for RaftInstant {
    fn now() -> Self {
        Self(world::Instant::now())
    }
}

impl Add<Duration> for RaftInstant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0 + duration)
    }
}

impl AddAssign<Duration> for RaftInstant {
    fn add_assign(&mut self, duration: Duration) {
        self.0 += duration;
    }
}

impl Sub<Duration> for RaftInstant {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0 - duration)
    }
}

impl SubAssign<Duration> for RaftInstant {
    fn sub_assign(&mut self, duration: Duration) {
        self.0 -= duration;
    }
}

impl Sub for RaftInstant {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.0.since(earlier.0)
    }
}

/// Random numbers of the calling task's scope.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ScopeRng;

impl rand::TryRng for ScopeRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::try_from(world::random_u64() >> 32).unwrap_or(u32::MAX))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(world::random_u64())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        world::random_bytes(bytes);
        Ok(())
    }
}
