//! Metrics of one node, in a registry of its own.
//!
//! Requests are counted in plain atomics, because every request pays for it; everything else is
//! read from its owner when Prometheus asks. Names are etcd's where the meaning is the same, so
//! that people's dashboards go on working, and `mainstay_` otherwise.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{Method, StatusCode};
use mainstay_consensus::{Consensus, Role};
use mainstay_kv::Store;
use mainstay_service::Door;
use mainstay_world::Instant;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _, text::encode},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

use crate::{
    http::{connection::Connections, route::Route},
    life::VERSION,
    process,
};

/// Upper bounds of the buckets of requests' durations; one more is without a bound.
const BOUNDS_MS: [f64; 13] =
    [0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1_000.0, 5_000.0];

/// Methods that are counted by name; the last stands for all others.
const METHODS: [&str; 6] = ["GET", "PUT", "POST", "DELETE", "HEAD", "other"];

/// Statuses that are counted by number; the last stands for all others.
const STATUSES: [u16; 21] = [
    200, 204, 304, 400, 403, 404, 405, 408, 409, 410, 412, 413, 422, 429, 500, 503, 504, 414, 431,
    501, 0,
];

/// The metrics of a node.
#[derive(Clone)]
pub(crate) struct Metrics {
    requests: Arc<Requests>,
    registry: Arc<Registry>,
}

/// What is counted for each request.
struct Requests {
    running: AtomicUsize,
    counts: Vec<AtomicU64>,
    durations: Vec<Durations>,
}

#[derive(Default)]
struct Durations {
    buckets: [AtomicU64; BOUNDS_MS.len() + 1],
    sum_us: AtomicU64,
}

impl Metrics {
    pub(crate) fn new(door: Door, connections: Arc<Connections>, started: Instant) -> Self {
        let counts = Route::COUNT * METHODS.len() * STATUSES.len();
        let requests = Arc::new(Requests {
            running: AtomicUsize::new(0),
            counts: (0..counts).map(|_| AtomicU64::new(0)).collect(),
            durations: Route::all().map(|_route| Durations::default()).collect(),
        });
        let mut registry = Registry::default();
        let started_wall_ms = mainstay_world::wall_clock_ms();
        let sources = Sources {
            door,
            connections,
            started,
            started_wall_ms,
            requests: Arc::clone(&requests),
        };
        registry.register_collector(Box::new(sources));
        Self { requests, registry: Arc::new(registry) }
    }

    /// Requests that are being answered.
    pub(crate) fn running(&self) -> &AtomicUsize {
        &self.requests.running
    }

    /// Counts an answered request.
    pub(crate) fn request(
        &self,
        route: Route,
        method: &Method,
        status: StatusCode,
        took: Duration,
    ) {
        let last = |found: Option<usize>, len: usize| found.unwrap_or(len - 1);
        let method = METHODS.iter().position(|name| *name == method.as_str());
        let status = STATUSES.iter().position(|number| *number == status.as_u16());
        let at = (route.index() * METHODS.len() + last(method, METHODS.len())) * STATUSES.len()
            + last(status, STATUSES.len());
        self.requests.counts[at].fetch_add(1, Ordering::Relaxed);
        let durations = &self.requests.durations[route.index()];
        let took_ms = took.as_secs_f64() * 1_000.0;
        let bucket = BOUNDS_MS.iter().position(|bound| took_ms <= *bound);
        durations.buckets[bucket.unwrap_or(BOUNDS_MS.len())].fetch_add(1, Ordering::Relaxed);
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        durations.sum_us.fetch_add(took_us, Ordering::Relaxed);
    }

    /// The text that Prometheus reads.
    pub(crate) fn render(&self) -> Result<String, fmt::Error> {
        let mut text = String::with_capacity(16 * 1024);
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// Where the numbers come from when Prometheus asks.
struct Sources {
    door: Door,
    connections: Arc<Connections>,
    started: Instant,
    started_wall_ms: u64,
    requests: Arc<Requests>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Sources").finish_non_exhaustive()
    }
}

impl Collector for Sources {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        self.encode_consensus(&mut page)?;
        self.encode_store(&mut page)?;
        self.encode_disk(&mut page)?;
        self.encode_watches(&mut page)?;
        self.encode_requests(&mut page)?;
        self.encode_process(&mut page)
    }
}

impl Sources {
    fn consensus(&self) -> &Consensus {
        self.door.consensus()
    }

    fn encode_consensus(&self, page: &mut Page<'_>) -> fmt::Result {
        let status = self.consensus().status();
        let counters = self.consensus().counters();
        let leads = status.role == Role::Leader;
        page.gauge(
            "etcd_server_has_leader",
            "Whether a leader is known.",
            u64::from(status.leader.is_some()),
        )?;
        page.gauge("etcd_server_is_leader", "Whether this node leads.", u64::from(leads))?;
        page.gauge(
            "etcd_server_is_learner",
            "Whether this node has no vote.",
            u64::from(status.role == Role::Learner),
        )?;
        page.counter(
            "etcd_server_leader_changes_seen",
            "Changes of leader seen.",
            status.leader_changes,
        )?;
        page.gauge(
            "etcd_server_proposals_committed_total",
            "The index of the last committed entry.",
            status.committed_index,
        )?;
        page.gauge(
            "etcd_server_proposals_applied_total",
            "The index of the last applied entry.",
            status.applied_index,
        )?;
        page.gauge(
            "etcd_server_proposals_pending",
            "Proposals of this node that wait.",
            counters.proposals_pending,
        )?;
        page.counter(
            "etcd_server_proposals_failed",
            "Proposals of this node that failed or are of unknown outcome.",
            counters.proposals_failed,
        )?;
        page.counter(
            "etcd_server_read_indexes_failed",
            "Read indexes that were not obtained.",
            counters.read_indexes_failed,
        )?;
        page.counter(
            "etcd_server_slow_apply",
            "Batches whose apply took longer than 100 ms.",
            counters.slow_applies,
        )?;
        page.gauge("mainstay_term", "The term.", status.term)?;
        page.signed_gauge(
            "mainstay_failures_tolerated",
            "Healthy voters minus quorum.",
            status.failures_tolerated,
        )?;
        page.gauge(
            "mainstay_read_only",
            "Whether this node refuses writes.",
            u64::from(status.read_only.is_some()),
        )?;
        page.gauge(
            "mainstay_snapshot_index",
            "The last entry in the newest snapshot.",
            status.snapshot_index,
        )?;
        page.counter(
            "mainstay_proposals_succeeded",
            "Proposals of this node that were applied.",
            counters.proposals_committed,
        )?;
        page.counter(
            "mainstay_proposal_batches",
            "Batches handed to consensus.",
            counters.batches,
        )?;
        page.counter(
            "mainstay_proposal_batch_entries",
            "Entries in those batches.",
            counters.batched_entries,
        )?;
        let failures = counters.peer_failures.iter().map(|(id, count)| (id.to_string(), *count));
        page.counters(
            "etcd_network_peer_sent_failures",
            "Calls to a peer that failed.",
            "To",
            failures,
        )?;
        let round_trips =
            counters.peer_round_trips.iter().map(|(id, took)| (id.to_string(), took.as_secs_f64()));
        page.gauges(
            "mainstay_peer_round_trip_seconds",
            "Round trip of the newest answered ping.",
            "To",
            round_trips,
        )?;
        match self.consensus().staleness() {
            Some(behind) => page.float_gauge(
                "mainstay_staleness_seconds",
                "How far this node may be behind.",
                behind.as_secs_f64(),
            ),
            None => page.float_gauge(
                "mainstay_staleness_seconds",
                "How far this node may be behind.",
                f64::INFINITY,
            ),
        }
    }

    fn encode_store(&self, page: &mut Page<'_>) -> fmt::Result {
        let (space, keys, leases, sessions, idempotency_keys, revision, compacted) =
            self.door.store(|store: &Store| {
                (
                    store.space(),
                    store.key_count(),
                    store.lease_count(),
                    store.session_count(),
                    store.idempotency_key_count(),
                    store.revision(),
                    store.compact_revision(),
                )
            });
        page.gauge(
            "etcd_server_quota_backend_bytes",
            "Logical bytes that the store may hold.",
            space.quota_bytes,
        )?;
        page.gauge(
            "etcd_mvcc_db_total_size_in_bytes",
            "Logical bytes that the store holds.",
            space.bytes,
        )?;
        page.gauge(
            "etcd_mvcc_db_total_size_in_use_in_bytes",
            "Logical bytes that the store holds; nothing is unused.",
            space.bytes,
        )?;
        page.gauge("etcd_debugging_mvcc_keys_total", "Keys.", keys)?;
        page.gauge("etcd_debugging_mvcc_current_revision", "The store's revision.", revision)?;
        page.gauge(
            "etcd_debugging_mvcc_compact_revision",
            "The lowest readable revision.",
            compacted,
        )?;
        page.gauge("mainstay_leases", "Leases.", leases)?;
        page.gauge("mainstay_sessions", "Sessions of numbered writes.", sessions)?;
        page.gauge(
            "mainstay_idempotency_keys",
            "Idempotency keys that are kept.",
            idempotency_keys,
        )?;
        page.gauge(
            "mainstay_quota_reached",
            "Whether writes that grow the store are refused.",
            u64::from(space.full),
        )
    }

    fn encode_disk(&self, page: &mut Page<'_>) -> fmt::Result {
        let Some(storage) = self.consensus().storage() else { return Ok(()) };
        let stats = storage.sync_stats();
        // The buckets come cumulative; the encoder adds them up by itself.
        let mut below = 0;
        let mut buckets: Vec<(f64, u64)> = Vec::with_capacity(stats.buckets.len() + 1);
        for (bound, count) in &stats.buckets {
            buckets.push((bound.as_secs_f64(), count - below));
            below = *count;
        }
        buckets.push((f64::INFINITY, stats.count - below));
        let mut metric = page.0.encode_descriptor(
            "etcd_disk_wal_fsync_duration_seconds",
            "Durations of the log's writes with their syncs",
            None,
            MetricType::Histogram,
        )?;
        metric.encode_histogram::<NoLabels>(
            stats.sum.as_secs_f64(),
            stats.count,
            &buckets,
            None,
        )?;
        page.counter(
            "mainstay_log_written_bytes",
            "Bytes written to the log.",
            stats.bytes_written,
        )?;
        page.gauge(
            "mainstay_log_bytes",
            "Bytes of the log since its last purge.",
            storage.log_bytes(),
        )?;
        let age = storage.progress().oldest_unfinished.unwrap_or_default();
        page.float_gauge(
            "mainstay_oldest_unfinished_sync_seconds",
            "Age of the oldest unfinished write or sync.",
            age.as_secs_f64(),
        )
    }

    fn encode_watches(&self, page: &mut Page<'_>) -> fmt::Result {
        let (open, slow) = self.door.watch_counts();
        page.gauge("etcd_debugging_mvcc_watcher_total", "Open watches.", open as u64)?;
        page.gauge("etcd_debugging_mvcc_slow_watcher_total", "Watches cancelled as too slow.", slow)
    }

    fn encode_requests(&self, page: &mut Page<'_>) -> fmt::Result {
        page.gauge(
            "mainstay_http_connections",
            "Open client connections.",
            self.connections.count() as u64,
        )?;
        let running = self.requests.running.load(Ordering::Relaxed) as u64;
        page.gauge("mainstay_http_requests_running", "Requests that are being answered.", running)?;
        let mut counts = page.0.encode_descriptor(
            "mainstay_http_requests",
            "Answered requests.",
            None,
            MetricType::Counter,
        )?;
        let per_route = METHODS.len() * STATUSES.len();
        for (at, count) in self.requests.counts.iter().enumerate() {
            let count = count.load(Ordering::Relaxed);
            let Some(route) = Route::all().nth(at / per_route).filter(|_route| count > 0) else {
                continue;
            };
            let method = METHODS[at % per_route / STATUSES.len()];
            let status = STATUSES[at % STATUSES.len()].to_string();
            let labels = [("route", route.label()), ("method", method), ("status", &status)];
            ConstCounter::new(count).encode(counts.encode_family(&labels)?)?;
        }
        let mut durations = page.0.encode_descriptor(
            "mainstay_http_request_duration_seconds",
            "Time from a request's head to the head of its answer.",
            None,
            MetricType::Histogram,
        )?;
        for (route, taken) in Route::all().zip(&self.requests.durations) {
            let loaded = taken.buckets.iter().map(|count| count.load(Ordering::Relaxed));
            let bounds = BOUNDS_MS.iter().map(|bound| bound / 1_000.0).chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = bounds.zip(loaded).collect();
            let count = buckets.iter().map(|(_bound, count)| count).sum();
            if count > 0 {
                let sum = Duration::from_micros(taken.sum_us.load(Ordering::Relaxed));
                let labels = [("route", route.label())];
                durations.encode_family(&labels)?.encode_histogram::<NoLabels>(
                    sum.as_secs_f64(),
                    count,
                    &buckets,
                    None,
                )?;
            }
        }
        Ok(())
    }

    fn encode_process(&self, page: &mut Page<'_>) -> fmt::Result {
        page.gauges(
            "mainstay_build_info",
            "The program's version.",
            "version",
            [(VERSION.to_owned(), 1.0)],
        )?;
        page.float_gauge(
            "mainstay_uptime_seconds",
            "Time since the node started.",
            self.started.elapsed().as_secs_f64(),
        )?;
        let start = Duration::from_millis(self.started_wall_ms);
        page.float_gauge(
            "process_start_time_seconds",
            "When the node started, since 1970.",
            start.as_secs_f64(),
        )?;
        if let Some(bytes) = process::resident_bytes() {
            page.gauge("process_resident_memory_bytes", "Memory of the process.", bytes)?;
        }
        if let Some(used) = process::cpu_time() {
            page.float_counter(
                "process_cpu_seconds",
                "Processor time of the process.",
                used.as_secs_f64(),
            )?;
        }
        Ok(())
    }
}

/// The label set of a metric without labels.
type NoLabels = [(&'static str, &'static str); 0];

/// A page of metrics that is being written.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        self.signed_gauge(name, help, value)
    }

    fn signed_gauge(&mut self, name: &str, help: &str, value: i64) -> fmt::Result {
        let help = help.trim_end_matches('.');
        let metric = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(value).encode(metric)
    }

    fn float_gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        let help = help.trim_end_matches('.');
        let metric = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(value).encode(metric)
    }

    /// A counter; the format appends `_total` to its name.
    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let help = help.trim_end_matches('.');
        let metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(value).encode(metric)
    }

    fn float_counter(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        let help = help.trim_end_matches('.');
        let metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(value).encode(metric)
    }

    fn gauges(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (String, f64)>,
    ) -> fmt::Result {
        let help = help.trim_end_matches('.');
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (of, value) in values {
            ConstGauge::new(value).encode(metric.encode_family(&[(label, of)])?)?;
        }
        Ok(())
    }

    fn counters(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (String, u64)>,
    ) -> fmt::Result {
        let help = help.trim_end_matches('.');
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (of, value) in values {
            ConstCounter::new(value).encode(metric.encode_family(&[(label, of)])?)?;
        }
        Ok(())
    }
}
