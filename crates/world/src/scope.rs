//! The scope of one node: its seed and its clock, inherited by every task it spawns.
//!
//! A simulation runs several nodes in one process; each must draw its own random numbers in an
//! order that depends on nothing but its seed, and live in its own time. Both are therefore
//! task-local, and [`spawn`] is the only way a node starts a task. Spawning forks the seed with
//! SplitMix64 (Steele, Lea, Flood 2014): a child draws from a stream of its own, so the numbers of
//! one task do not depend on how often another one asks.
//!
//! Outside any scope (a command-line client, a unit test) seeds come from the OS and time runs at
//! its ordinary rate.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    task::Poll,
};

use crate::clock::NodeClock;

tokio::task_local! {
    static SCOPE: ScopeState;
}

/// What every task of a node carries.
struct ScopeState {
    seed: Cell<u64>,
    clock: Arc<NodeClock>,
}

/// Seed and clock of one node.
#[derive(Debug, Clone)]
pub struct Scope {
    seed: u64,
    clock: Arc<NodeClock>,
}

impl Scope {
    /// The scope of a production node: a seed from the OS, time at its ordinary rate.
    #[must_use]
    pub fn production() -> Self {
        Self { seed: os_entropy(), clock: Arc::new(NodeClock::real()) }
    }

    /// The scope of a simulated node.
    #[must_use]
    pub const fn simulated(seed: u64, clock: Arc<NodeClock>) -> Self {
        Self { seed, clock }
    }

    /// Runs `future` and everything it [`spawn`]s inside this scope.
    pub async fn run<F: Future>(self, future: F) -> F::Output {
        let state = ScopeState { seed: Cell::new(self.seed), clock: Arc::clone(&self.clock) };
        if self.clock.is_real() {
            SCOPE.scope(state, future).await
        } else {
            SCOPE.scope(state, gated(self.clock, future)).await
        }
    }
}

/// The handle of a spawned task.
pub type JoinHandle<T> = tokio::task::JoinHandle<T>;

/// Starts a task that inherits the scope of the caller.
#[track_caller]
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let child = SCOPE.try_with(|scope| ScopeState {
        seed: Cell::new(split_mix(draw(&scope.seed), FORK)),
        clock: Arc::clone(&scope.clock),
    });
    match child {
        Ok(child) if child.clock.is_real() => tokio::spawn(SCOPE.scope(child, future)),
        Ok(child) => {
            let future = gated(Arc::clone(&child.clock), future);
            tokio::spawn(SCOPE.scope(child, future))
        }
        Err(_outside) => tokio::spawn(future),
    }
}

/// `future`, standing still while its simulated node does, and for good once it panicked: a runtime
/// that is shut down in the middle of a poll panics again and ends the whole simulation.
async fn gated<F: Future>(clock: Arc<NodeClock>, future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|context| {
        let poll = || {
            if clock.holds(context) { Poll::Pending } else { future.as_mut().poll(context) }
        };
        catch_unwind(AssertUnwindSafe(poll)).unwrap_or_else(|panic| {
            clock.note_panic(panic.as_ref());
            Poll::Pending
        })
    })
    .await
}

/// The next random number of the calling task. Not for secrets: those come from the OS directly.
#[must_use]
pub fn random_u64() -> u64 {
    SCOPE.try_with(|scope| draw(&scope.seed)).unwrap_or_else(|_outside| os_entropy())
}

/// Fills `bytes` with random numbers of the calling task.
pub fn random_bytes(bytes: &mut [u8]) {
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&random_u64().to_le_bytes()[..chunk.len()]);
    }
}

/// The clock of the calling task; `None` outside any scope.
pub(crate) fn with_clock<T>(read: impl FnOnce(&NodeClock) -> T) -> Option<T> {
    SCOPE.try_with(|scope| read(&scope.clock)).ok()
}

/// Increments of the three streams: two tasks never walk the same sequence.
const WALK: u64 = 0x9e37_79b9_7f4a_7c15;
const FORK: u64 = 0xd1b5_4a32_d192_ed03;

fn draw(seed: &Cell<u64>) -> u64 {
    let next = seed.get().wrapping_add(WALK);
    seed.set(next);
    split_mix(next, 0)
}

const fn split_mix(seed: u64, increment: u64) -> u64 {
    let z = seed.wrapping_add(increment);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// 64 bits from the OS, by way of the standard library's randomly keyed hasher.
fn os_entropy() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    let mut hasher = std::collections::hash_map::RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn numbers(seed: u64) -> Vec<u64> {
        let clock = Arc::new(NodeClock::real());
        Scope::simulated(seed, clock)
            .run(async {
                let child = spawn(async { random_u64() });
                let mut drawn = vec![random_u64(), random_u64()];
                drawn.push(child.await.expect("the child ends"));
                drawn
            })
            .await
    }

    #[tokio::test]
    async fn one_seed_gives_one_sequence_children_included() {
        assert_eq!(numbers(7).await, numbers(7).await);
        assert_ne!(numbers(7).await, numbers(8).await);
    }

    #[tokio::test]
    async fn a_child_draws_from_a_stream_of_its_own() {
        let drawn = numbers(7).await;
        assert_ne!(drawn[0], drawn[2]);
        assert_ne!(drawn[1], drawn[2]);
    }

    #[test]
    fn outside_any_scope_two_numbers_differ() {
        assert_ne!(random_u64(), random_u64());
    }

    #[test]
    fn random_bytes_fills_an_odd_length() {
        let mut bytes = [0; 13];
        random_bytes(&mut bytes);
        assert_ne!(bytes, [0; 13]);
    }
}
