//! What is counted for each request: plain atomics, because every request pays for it.

use std::{
    array,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

use http::{Method, StatusCode};

use super::page::Histogram;
use crate::http::route::Route;

/// Upper bounds of the buckets of durations in milliseconds; one more is without a bound.
const BOUNDS_MS: [f64; 13] =
    [0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1_000.0, 5_000.0];

/// Methods that are counted by name; the last stands for all others.
const METHODS: [&str; 6] = ["GET", "PUT", "POST", "DELETE", "HEAD", "other"];

/// Statuses that are counted by number; the last stands for all others.
const STATUSES: [u16; 18] =
    [200, 204, 304, 400, 403, 404, 405, 408, 409, 410, 412, 413, 422, 429, 500, 503, 504, 0];

/// Counts by route, method and status, and durations by route.
pub(crate) struct Requests {
    /// Requests that are being answered.
    pub(crate) running: AtomicUsize,
    routes: [Counts; Route::COUNT],
}

struct Counts {
    answered: [[AtomicU64; STATUSES.len()]; METHODS.len()],
    buckets: [AtomicU64; BOUNDS_MS.len() + 1],
    sum_us: AtomicU64,
}

impl Requests {
    pub(super) fn new() -> Self {
        let zero = |_at| AtomicU64::new(0);
        let counts = |_route| Counts {
            answered: array::from_fn(|_method| array::from_fn(zero)),
            buckets: array::from_fn(zero),
            sum_us: AtomicU64::new(0),
        };
        Self { running: AtomicUsize::new(0), routes: array::from_fn(counts) }
    }

    /// Counts an answered request.
    pub(super) fn count(&self, route: Route, method: &Method, status: StatusCode, took: Duration) {
        let counts = &self.routes[route.index()];
        let method = METHODS.iter().position(|name| *name == method.as_str());
        let status = STATUSES.iter().position(|number| *number == status.as_u16());
        let method = method.unwrap_or(METHODS.len() - 1);
        let status = status.unwrap_or(STATUSES.len() - 1);
        counts.answered[method][status].fetch_add(1, Ordering::Relaxed);
        let took_ms = took.as_secs_f64() * 1_000.0;
        let bucket = BOUNDS_MS.iter().position(|bound| took_ms <= *bound);
        let bucket = bucket.unwrap_or(BOUNDS_MS.len());
        counts.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        counts.sum_us.fetch_add(took_us, Ordering::Relaxed);
    }

    /// What was answered, by route, method and status; only what occurred.
    pub(super) fn answered(&self) -> impl Iterator<Item = ([(&'static str, String); 3], u64)> {
        Route::all().flat_map(move |route| {
            METHODS.iter().enumerate().flat_map(move |(method_at, method)| {
                STATUSES.iter().enumerate().filter_map(move |(status_at, status)| {
                    let answered = &self.routes[route.index()].answered[method_at][status_at];
                    let count = answered.load(Ordering::Relaxed);
                    let labels = [
                        ("route", route.label().to_owned()),
                        ("method", (*method).to_owned()),
                        ("status", status.to_string()),
                    ];
                    (count > 0).then_some((labels, count))
                })
            })
        })
    }

    /// How long it took, by route; only what occurred.
    pub(super) fn durations(&self) -> impl Iterator<Item = (&'static str, Histogram)> {
        Route::all().filter_map(|route| {
            let counts = &self.routes[route.index()];
            let loaded = counts.buckets.iter().map(|count| count.load(Ordering::Relaxed));
            let bounds = BOUNDS_MS.iter().map(|bound| bound / 1_000.0).chain([f64::INFINITY]);
            let sum = Duration::from_micros(counts.sum_us.load(Ordering::Relaxed)).as_secs_f64();
            let histogram = Histogram { sum, buckets: bounds.zip(loaded).collect() };
            let occurred = histogram.buckets.iter().any(|(_bound, count)| *count > 0);
            occurred.then_some((route.label(), histogram))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_where_they_belong_and_strange_ones_apart() {
        let requests = Requests::new();
        let count = |method: &[u8], status: u16, took_ms| {
            let method = Method::from_bytes(method).expect("is a method");
            let status = StatusCode::from_u16(status).expect("is a status");
            requests.count(Route::KEY, &method, status, Duration::from_millis(took_ms));
        };
        count(b"PUT", 200, 1);
        count(b"PUT", 200, 2);
        count(b"BREW", 418, 60_000);
        let answered: Vec<_> = requests
            .answered()
            .map(|([_route, (_, method), (_, status)], count)| (method, status, count))
            .collect();
        let wanted = [("PUT", "200", 2), ("other", "0", 1)];
        let wanted = wanted.map(|(method, status, n)| (method.to_owned(), status.to_owned(), n));
        assert_eq!(answered, wanted);
        let (route, durations) = requests.durations().next().expect("something occurred");
        assert_eq!(route, "/v1/kv/{key}");
        assert_eq!((durations.buckets[2].1, durations.buckets[3].1), (1, 1));
        assert_eq!(durations.buckets[BOUNDS_MS.len()], (f64::INFINITY, 1));
        assert!((durations.sum - 60.003).abs() < 1e-9);
    }
}
