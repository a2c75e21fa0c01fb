//! What was done and how long it took, and the CPU time that it took here.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// Latencies in microseconds, up to two minutes.
pub(crate) struct Tally {
    latency_us: Histogram<u64>,
    pub(crate) keys: u64,
    pub(crate) errors: BTreeMap<String, u64>,
}

impl Tally {
    pub(crate) fn new() -> Result<Self> {
        let latency_us = Histogram::new_with_bounds(1, 120_000_000, 3)?;
        Ok(Self { latency_us, keys: 0, errors: BTreeMap::new() })
    }

    pub(crate) fn took(&mut self, latency: Duration) {
        self.latency_us.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
    }

    pub(crate) fn failed(&mut self, error: String) {
        *self.errors.entry(error).or_default() += 1;
    }

    pub(crate) fn operations(&self) -> u64 {
        self.latency_us.len()
    }

    pub(crate) fn latency_ms(&self) -> Value {
        let at = |quantile| self.latency_us.value_at_quantile(quantile) as f64 / 1_000.0;
        json!({ "p50": at(0.5), "p95": at(0.95), "p99": at(0.99), "p99_9": at(0.999), "max": at(1.0) })
    }
}

/// Wall and CPU time since its making.
pub(crate) struct Clock {
    pub(crate) start: Instant,
    cpu: f64,
}

impl Clock {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { start: Instant::now(), cpu: cpu_seconds()? })
    }

    pub(crate) fn elapsed(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    pub(crate) fn cpu(&self) -> Result<f64> {
        Ok(cpu_seconds()? - self.cpu)
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// CPU time of this process, in user and kernel mode, in seconds.
fn cpu_seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").context("read CPU time")?;
    let after_name = stat.rsplit_once(')').context("a stat line has a name")?.1;
    let ticks: u64 = after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|ticks| ticks.parse().unwrap_or(0))
        .sum();
    Ok(ticks as f64 / 100.0)
}
