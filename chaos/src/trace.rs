//! The hash of everything that happened in a run, in order.
//!
//! Every message on the network (payload and all), every call of a disk, every change of role and
//! every applied position goes in with the simulated time. Two runs are the same run exactly when
//! their hashes are equal. With a log, each event also leaves a line, so that the first difference
//! between two runs can be read off.

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// A running hash; clones are handles of the same.
#[derive(Clone, Default)]
pub struct Trace {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    hasher: Xxh3,
    now_us: u64,
    events: u64,
    log: Option<String>,
}

impl Trace {
    /// A trace that also keeps a line for each event.
    #[must_use]
    pub fn with_log() -> Self {
        let trace = Self::default();
        trace.state().log = Some(String::new());
        trace
    }

    /// Sets the time that goes with what follows, in microseconds of simulated time.
    pub fn set_now_us(&self, now_us: u64) {
        self.state().now_us = now_us;
    }

    /// Simulated time in microseconds.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        self.state().now_us
    }

    /// Adds an event of `kind` at `place`, with its numbers and its bytes.
    pub fn record(&self, kind: &'static str, place: u32, numbers: &[u64], bytes: &[u8]) {
        let mut state = self.state();
        let now_us = state.now_us;
        state.events += 1;
        state.hasher.update(&now_us.to_le_bytes());
        state.hasher.update(kind.as_bytes());
        state.hasher.update(&place.to_le_bytes());
        for number in numbers {
            state.hasher.update(&number.to_le_bytes());
        }
        state.hasher.update(&(bytes.len() as u64).to_le_bytes());
        state.hasher.update(bytes);
        if let Some(log) = &mut state.log {
            let hash = xxh3_64(bytes);
            let len = bytes.len();
            // Writing to a string cannot fail.
            let _ = writeln!(log, "{now_us} {kind} {place} {numbers:?} {len} {hash:016x}");
        }
    }

    /// The hash so far.
    #[must_use]
    pub fn hash(&self) -> u128 {
        self.state().hasher.digest128()
    }

    /// Events so far.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.state().events
    }

    /// The lines so far; empty without a log.
    #[must_use]
    pub fn log(&self) -> String {
        self.state().log.clone().unwrap_or_default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Trace {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Trace").field("events", &self.events()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_time_place_and_bytes_all_count() {
        let hash = |time, place, bytes: &[u8]| {
            let trace = Trace::default();
            trace.set_now_us(time);
            trace.record("sent", place, &[1], bytes);
            trace.record("sent", 9, &[], b"");
            trace.hash()
        };
        assert_eq!(hash(1, 2, b"a"), hash(1, 2, b"a"));
        assert_ne!(hash(1, 2, b"a"), hash(2, 2, b"a"));
        assert_ne!(hash(1, 2, b"a"), hash(1, 3, b"a"));
        assert_ne!(hash(1, 2, b"a"), hash(1, 2, b"b"));
    }

    #[test]
    fn the_log_has_a_line_for_each_event() {
        let trace = Trace::with_log();
        trace.record("sync", 1, &[7], b"x");
        trace.record("sync", 2, &[8], b"");
        assert_eq!(trace.log().lines().count(), 2);
        assert_eq!(trace.events(), 2);
    }
}
