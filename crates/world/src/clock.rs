//! Time as a node sees it.
//!
//! Every node has a clock of its own: in production it is the machine's, in a simulation it runs
//! at a rate of its own and its wall clock is off by an offset of its own. [`Instant`] is a point
//! on the caller's clock; [`sleep`] and [`timeout`] measure on it too, so a node whose clock runs
//! fast waits less, just as a real one would.
//!
//! Everything rests on tokio's clock, which a simulation can pause; `std::time::Instant` is not
//! used above this crate.

use std::{
    any::Any,
    future::Future,
    ops::{Add, AddAssign, Sub, SubAssign},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    task::{Context, Waker},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::scope::with_clock;

/// A point on the clock of the calling node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(tokio::time::Instant);

impl Instant {
    /// Now, on the caller's clock.
    #[must_use]
    pub fn now() -> Self {
        let now = tokio::time::Instant::now();
        Self(with_clock(|clock| clock.local(now)).unwrap_or(now))
    }

    /// Time from `earlier` to `self`; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_duration_since(earlier.0)
    }

    /// Time from `self` to now; zero if `self` lies ahead.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        Self::now().since(self)
    }

    /// The same point for libraries that know the standard one only.
    #[must_use]
    pub fn into_std(self) -> std::time::Instant {
        self.0.into_std()
    }

    /// The point that [`Instant::into_std`] gave away.
    #[must_use]
    pub fn from_std(instant: std::time::Instant) -> Self {
        Self(tokio::time::Instant::from_std(instant))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0 + duration)
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, duration: Duration) {
        self.0 += duration;
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0 - duration)
    }
}

impl SubAssign<Duration> for Instant {
    fn sub_assign(&mut self, duration: Duration) {
        self.0 -= duration;
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

/// The deadline passed before the future was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the deadline passed")]
pub struct Elapsed;

/// Waits for `duration` on the caller's clock.
///
/// The sleep itself holds the scaled duration: poll it from any task.
pub fn sleep(duration: Duration) -> tokio::time::Sleep {
    tokio::time::sleep(true_duration(duration))
}

/// What `duration` on the caller's clock is in true time, as tokio's timers measure it.
#[must_use]
pub fn true_duration(duration: Duration) -> Duration {
    with_clock(|clock| clock.true_duration(duration)).unwrap_or(duration)
}

/// Waits until `deadline` on the caller's clock.
pub fn sleep_until(deadline: Instant) -> tokio::time::Sleep {
    sleep(deadline.since(Instant::now()))
}

/// Runs `future` for at most `duration` on the caller's clock.
///
/// # Errors
/// [`Elapsed`] when the time is over first; the future is then dropped.
pub async fn timeout<F: Future>(duration: Duration, future: F) -> Result<F::Output, Elapsed> {
    tokio::time::timeout(true_duration(duration), future).await.map_err(|_elapsed| Elapsed)
}

/// The node's wall clock in milliseconds since 1970. It may jump either way: for people only.
#[must_use]
pub fn wall_clock_ms() -> u64 {
    with_clock(NodeClock::wall_ms).unwrap_or_else(machine_wall_ms)
}

fn machine_wall_ms() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
}

/// The clock of one node.
#[derive(Debug)]
pub struct NodeClock {
    skew: Option<Skew>,
}

/// How a simulated node's clocks differ from simulated time.
#[derive(Debug)]
struct Skew {
    line: Mutex<Line>,
    wall_at_origin_ms: u64,
    origin: tokio::time::Instant,
    wall_offset_ms: AtomicI64,
    gate: Gate,
}

/// Holds the tasks of a process that stands still (`SIGSTOP`), while its clocks go on, and ends
/// those of a process that does not let time go on.
#[derive(Debug)]
struct Gate {
    shut: AtomicBool,
    held: Mutex<Vec<Waker>>,
    polls_left: AtomicU64,
    panic: Mutex<Option<String>>,
}

/// Local time as a straight line over true time, from a point where both are known.
#[derive(Debug, Clone, Copy)]
struct Line {
    true_at: tokio::time::Instant,
    local_at: tokio::time::Instant,
    rate: f64,
}

impl NodeClock {
    /// The machine's clock.
    #[must_use]
    pub const fn real() -> Self {
        Self { skew: None }
    }

    /// A clock that starts now, shows `wall_ms` on the wall, and runs at `rate` (1.0 is true time).
    ///
    /// # Panics
    /// If `rate` is not a positive number.
    #[must_use]
    pub fn simulated(wall_ms: u64, rate: f64) -> Self {
        assert!(rate.is_finite() && rate > 0.0, "a clock's rate is a positive number, not {rate}");
        let now = tokio::time::Instant::now();
        Self {
            skew: Some(Skew {
                line: Mutex::new(Line { true_at: now, local_at: now, rate }),
                wall_at_origin_ms: wall_ms,
                origin: now,
                wall_offset_ms: AtomicI64::new(0),
                gate: Gate {
                    shut: AtomicBool::new(false),
                    held: Mutex::default(),
                    polls_left: AtomicU64::new(u64::MAX),
                    panic: Mutex::default(),
                },
            }),
        }
    }

    /// Whether this is the machine's clock.
    pub(crate) const fn is_real(&self) -> bool {
        self.skew.is_none()
    }

    /// Changes the rate of a simulated clock from now on; does nothing to the machine's.
    ///
    /// # Panics
    /// If `rate` is not a positive number.
    pub fn set_rate(&self, rate: f64) {
        assert!(rate.is_finite() && rate > 0.0, "a clock's rate is a positive number, not {rate}");
        if let Some(skew) = &self.skew {
            let now = tokio::time::Instant::now();
            let mut line = skew.line();
            *line = Line { true_at: now, local_at: line.local(now), rate };
        }
    }

    /// Moves the wall clock of a simulated node; does nothing to the machine's.
    pub fn jump_wall_ms(&self, by_ms: i64) {
        if let Some(skew) = &self.skew {
            skew.wall_offset_ms.fetch_add(by_ms, Ordering::Relaxed);
        }
    }

    /// Has the tasks of a simulated node stand still until [`Self::resume`]; time goes on for them,
    /// as it does for a stopped process. Does nothing to the machine's clock.
    pub fn pause(&self) {
        if let Some(skew) = &self.skew {
            skew.gate.shut.store(true, Ordering::Relaxed);
        }
    }

    /// Lets the tasks of a paused node go on.
    pub fn resume(&self) {
        if let Some(skew) = &self.skew {
            skew.gate.shut.store(false, Ordering::Relaxed);
            let held = std::mem::take(&mut *skew.gate.held());
            held.into_iter().for_each(Waker::wake);
        }
    }

    /// Lets the tasks of a simulated node run `polls` times in all until the next call; the one
    /// that runs once more panics. Simulated time stands still while tasks wake each other for
    /// ever, so a node that spins is found by this and not by any deadline.
    pub fn allow_polls(&self, polls: u64) {
        if let Some(skew) = &self.skew {
            skew.gate.polls_left.store(polls, Ordering::Relaxed);
        }
    }

    /// What the first task of a simulated node that panicked said; it stands still since.
    #[must_use]
    pub fn panicked(&self) -> Option<String> {
        self.skew.as_ref().and_then(|skew| skew.gate.panic().clone())
    }

    pub(crate) fn note_panic(&self, panic: &(dyn Any + Send)) {
        let Some(skew) = &self.skew else { return };
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("a task panicked");
        skew.gate.panic().get_or_insert_with(|| text.to_owned());
    }

    /// Whether the calling task must stand still; it is woken when it may go on.
    ///
    /// # Panics
    /// If the node's tasks ran more often than [`Self::allow_polls`] lets them.
    pub(crate) fn holds(&self, context: &Context<'_>) -> bool {
        let Some(skew) = &self.skew else { return false };
        let left = skew.gate.polls_left.load(Ordering::Relaxed);
        assert!(left > 0, "the node spins: its tasks wake each other and no time passes");
        skew.gate.polls_left.store(left - 1, Ordering::Relaxed);
        let shut = skew.gate.shut.load(Ordering::Relaxed);
        if shut {
            skew.gate.held().push(context.waker().clone());
        }
        shut
    }

    pub(crate) fn local(&self, now: tokio::time::Instant) -> tokio::time::Instant {
        self.skew.as_ref().map_or(now, |skew| skew.line().local(now))
    }

    pub(crate) fn true_duration(&self, local: Duration) -> Duration {
        self.skew.as_ref().map_or(local, |skew| local.div_f64(skew.line().rate))
    }

    pub(crate) fn wall_ms(&self) -> u64 {
        let Some(skew) = &self.skew else { return machine_wall_ms() };
        let local = self.local(tokio::time::Instant::now());
        let since_origin = local.saturating_duration_since(skew.origin).as_millis();
        skew.wall_at_origin_ms
            .saturating_add(u64::try_from(since_origin).unwrap_or(u64::MAX))
            .saturating_add_signed(skew.wall_offset_ms.load(Ordering::Relaxed))
    }
}

impl Skew {
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gate {
    fn held(&self) -> MutexGuard<'_, Vec<Waker>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn panic(&self) -> MutexGuard<'_, Option<String>> {
        self.panic.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    fn local(&self, now: tokio::time::Instant) -> tokio::time::Instant {
        self.local_at + now.saturating_duration_since(self.true_at).mul_f64(self.rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scope::Scope;
    use std::sync::Arc;

    #[tokio::test(start_paused = true)]
    async fn a_fast_clock_waits_less_and_shows_what_it_waited() {
        let clock = Arc::new(NodeClock::simulated(1_000, 2.0));
        Scope::simulated(1, clock)
            .run(async {
                let true_start = tokio::time::Instant::now();
                let start = Instant::now();
                sleep(Duration::from_secs(10)).await;
                assert_eq!(start.elapsed(), Duration::from_secs(10));
                assert_eq!(true_start.elapsed(), Duration::from_secs(5));
                assert_eq!(wall_clock_ms(), 11_000);
            })
            .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_of_rate_keeps_the_past() {
        let clock = Arc::new(NodeClock::simulated(0, 1.0));
        Scope::simulated(1, Arc::clone(&clock))
            .run(async move {
                let start = Instant::now();
                sleep(Duration::from_secs(4)).await;
                clock.set_rate(0.5);
                assert_eq!(start.elapsed(), Duration::from_secs(4));
                tokio::time::sleep(Duration::from_secs(4)).await;
                assert_eq!(start.elapsed(), Duration::from_secs(6));
                clock.jump_wall_ms(-5_000);
                assert_eq!(wall_clock_ms(), 1_000);
            })
            .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_paused_node_stands_still_while_its_time_goes_on() {
        let clock = Arc::new(NodeClock::simulated(0, 1.0));
        let node = tokio::spawn(Scope::simulated(1, Arc::clone(&clock)).run(async {
            let start = Instant::now();
            let child = crate::scope::spawn(sleep(Duration::from_secs(1)));
            child.await.expect("the child ends");
            start.elapsed()
        }));
        tokio::task::yield_now().await;
        clock.pause();
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(!node.is_finished(), "a paused node went on");
        clock.resume();
        assert_eq!(node.await.expect("the node ends"), Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_spins_panics_and_a_panic_is_noted() {
        let clock = Arc::new(NodeClock::simulated(0, 1.0));
        clock.allow_polls(1_000);
        let node = Scope::simulated(1, Arc::clone(&clock)).run(async {
            let spin = || async {
                loop {
                    tokio::task::yield_now().await;
                }
            };
            let children = [crate::scope::spawn(spin()), crate::scope::spawn(spin())];
            for child in children {
                let _: () = child.await.expect("no child ends");
            }
        });
        let node = tokio::spawn(node);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(clock.panicked().expect("a task panicked").contains("the node spins"));
        assert!(!node.is_finished());
    }

    #[tokio::test(start_paused = true)]
    async fn a_timeout_ends_a_future_that_never_does() {
        let outcome = timeout(Duration::from_millis(5), std::future::pending::<()>()).await;
        assert_eq!(outcome, Err(Elapsed));
    }
}
