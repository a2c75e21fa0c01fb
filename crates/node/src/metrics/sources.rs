//! Where the numbers come from when Prometheus asks: everything but requests belongs to others.

use std::{fmt, sync::Arc, time::Duration};

use mainstay_consensus::{ReadOnlyReason, Role};
use mainstay_etcd::EtcdApi;
use mainstay_kv::Store;
use mainstay_service::Door;
use mainstay_world::Instant;
use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};

use super::{
    page::{Histogram, Page},
    requests::Requests,
};
use crate::{http::connection::Connections, life::VERSION, process};

/// Whatever has numbers.
pub(super) struct Sources {
    pub(super) door: Door,
    pub(super) etcd: EtcdApi,
    pub(super) connections: Arc<Connections>,
    pub(super) started: Instant,
    pub(super) started_wall_ms: u64,
    pub(super) requests: Arc<Requests>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Sources").finish_non_exhaustive()
    }
}

impl Collector for Sources {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        self.consensus(&mut page)?;
        self.proposals(&mut page)?;
        self.peers(&mut page)?;
        self.detector(&mut page)?;
        self.elections(&mut page)?;
        self.members(&mut page)?;
        self.store(&mut page)?;
        self.disk(&mut page)?;
        self.requests(&mut page)?;
        self.process(&mut page)
    }
}

impl Sources {
    fn consensus(&self, page: &mut Page<'_>) -> fmt::Result {
        let status = self.door.consensus().status();
        let leads = status.role == Role::Leader;
        let learns = status.role == Role::Learner;
        let read_only = self.door.write_mode().reason();
        page.gauges(&[
            ("etcd_server_has_leader", "Whether a leader is known", status.leader.is_some().into()),
            ("etcd_server_is_leader", "Whether this node leads", leads.into()),
            ("etcd_server_is_learner", "Whether this node is a learner", learns.into()),
            (
                "etcd_server_proposals_committed_total",
                "Index of the last committed entry",
                status.committed_index,
            ),
            (
                "etcd_server_proposals_applied_total",
                "Index of the last applied entry",
                status.applied_index,
            ),
            ("mainstay_term", "The term", status.term),
            (
                "mainstay_format_in_force",
                "The replicated format that the store follows",
                self.door.store(|store| store.settings().format),
            ),
            (
                "mainstay_format_newest",
                "The newest replicated format that this node applies",
                self.door.consensus().versions().formats.1,
            ),
            ("mainstay_snapshot_index", "Last entry in the newest snapshot", status.snapshot_index),
            ("mainstay_read_only", "Whether this node refuses writes", read_only.is_some().into()),
        ])?;
        let reasons = ReadOnlyReason::ALL.map(|reason| {
            ([("reason", reason.as_str().to_owned())], f64::from(read_only == Some(reason)))
        });
        let help = "Why this node refuses writes: 1 for the reason, 0 for all others";
        page.labelled_gauge(("mainstay_read_only_reason", help), reasons)?;
        page.counters(&[(
            "etcd_server_leader_changes_seen",
            "Changes of leader that this node saw",
            status.leader_changes,
        )])?;
        let tolerated = i32::try_from(status.failures_tolerated).unwrap_or(i32::MIN);
        let staleness = self.door.consensus().staleness();
        page.float_gauges(&[
            ("mainstay_failures_tolerated", "Healthy voters minus quorum", tolerated.into()),
            (
                "mainstay_staleness_seconds",
                "How far this node may be behind",
                staleness.map_or(f64::INFINITY, |behind| behind.as_secs_f64()),
            ),
        ])
    }

    fn members(&self, page: &mut Page<'_>) -> fmt::Result {
        let status = self.door.consensus().status();
        let voters = status.members.values().filter(|member| member.voter).count();
        let healthy = status.members.values().filter(|member| member.healthy).count();
        let members = status.members.len();
        page.gauges(&[
            ("mainstay_members", "Members, voters and learners", members as u64),
            ("mainstay_voters", "Members with a vote", voters as u64),
            ("mainstay_healthy_members", "Members that this node hears from", healthy as u64),
        ])?;
        let actions = self.door.consensus().counters().autopilot_actions;
        let actions =
            actions.into_iter().map(|(word, count)| ([("action", word.to_owned())], count));
        let help = "What this node did about the members by itself as the leader";
        page.labelled_counter(("mainstay_autopilot_actions", help), actions)
    }

    fn proposals(&self, page: &mut Page<'_>) -> fmt::Result {
        let counters = self.door.consensus().counters();
        page.gauges(&[(
            "etcd_server_proposals_pending",
            "Proposals of this node that wait",
            counters.proposals_pending,
        )])?;
        page.counters(&[
            (
                "etcd_server_proposals_failed",
                "Proposals of this node that were refused or are of unknown outcome",
                counters.proposals_failed,
            ),
            (
                "etcd_server_read_indexes_failed",
                "Read indexes that were not obtained",
                counters.read_indexes_failed,
            ),
            (
                "etcd_server_slow_apply",
                "Batches whose apply took longer than 100 ms",
                counters.slow_applies,
            ),
            (
                "mainstay_proposals_succeeded",
                "Proposals of this node that were applied",
                counters.proposals_committed,
            ),
            ("mainstay_proposal_batches", "Batches handed to consensus", counters.batches),
            ("mainstay_proposal_batch_entries", "Entries in batches", counters.batched_entries),
        ])
    }

    fn peers(&self, page: &mut Page<'_>) -> fmt::Result {
        let counters = self.door.consensus().counters();
        let failures =
            counters.peer_failures.iter().map(|(id, count)| ([("To", id.to_string())], *count));
        let name = ("etcd_network_peer_sent_failures", "Calls to a peer that failed");
        page.labelled_counter(name, failures)?;
        let round_trips = counters
            .peer_round_trips
            .iter()
            .map(|(id, took)| ([("To", id.to_string())], took.as_secs_f64()));
        let name = ("mainstay_peer_round_trip_seconds", "Newest round trip to a peer");
        page.labelled_gauge(name, round_trips)
    }

    fn store(&self, page: &mut Page<'_>) -> fmt::Result {
        let numbers = self.door.store(|store: &Store| {
            let space = store.space();
            [
                (
                    "etcd_server_quota_backend_bytes",
                    "Logical bytes that the store may hold",
                    space.quota_bytes,
                ),
                (
                    "etcd_mvcc_db_total_size_in_bytes",
                    "Logical bytes that the store holds",
                    space.bytes,
                ),
                (
                    "etcd_mvcc_db_total_size_in_use_in_bytes",
                    "Logical bytes that the store holds; none of them is unused",
                    space.bytes,
                ),
                ("etcd_debugging_mvcc_keys_total", "Keys", store.key_count()),
                ("etcd_debugging_mvcc_current_revision", "The store's revision", store.revision()),
                (
                    "etcd_debugging_mvcc_compact_revision",
                    "The lowest readable revision",
                    store.compact_revision(),
                ),
                ("mainstay_leases", "Leases", store.lease_count()),
                ("mainstay_sessions", "Sessions of numbered writes", store.session_count()),
                (
                    "mainstay_idempotency_keys",
                    "Idempotency keys that are kept",
                    store.idempotency_key_count(),
                ),
                (
                    "mainstay_quota_reached",
                    "Whether writes that grow the store are refused",
                    space.full.into(),
                ),
            ]
        });
        page.gauges(&numbers)?;
        let (open, slow) = self.door.watch_counts();
        page.gauges(&[
            ("etcd_debugging_mvcc_watcher_total", "Open watches", open as u64),
            ("etcd_debugging_mvcc_slow_watcher_total", "Watches whose client was too slow", slow),
        ])
    }

    fn disk(&self, page: &mut Page<'_>) -> fmt::Result {
        let Some(storage) = self.door.consensus().storage() else { return Ok(()) };
        let stats = storage.sync_stats();
        // The storage counts cumulatively, the page adds up by itself.
        let mut below = 0;
        let mut buckets = Vec::with_capacity(stats.buckets.len() + 1);
        for (bound, count) in &stats.buckets {
            buckets.push((bound.as_secs_f64(), count - below));
            below = *count;
        }
        buckets.push((f64::INFINITY, stats.count - below));
        page.histogram(
            "etcd_disk_wal_fsync_duration_seconds",
            "Durations of the log's writes with their syncs",
            &Histogram { sum: stats.sum.as_secs_f64(), buckets },
        )?;
        page.counters(&[(
            "mainstay_log_written_bytes",
            "Bytes written to the log",
            stats.bytes_written,
        )])?;
        page.gauges(&[("mainstay_log_bytes", "Bytes of the log", storage.log_bytes())])?;
        let age = storage.progress().oldest_unfinished.unwrap_or_default();
        page.float_gauges(&[(
            "mainstay_oldest_unfinished_sync_seconds",
            "Age of the oldest write or sync that is not finished",
            age.as_secs_f64(),
        )])
    }

    fn requests(&self, page: &mut Page<'_>) -> fmt::Result {
        let running = self.requests.running.load(std::sync::atomic::Ordering::Relaxed);
        page.gauges(&[
            (
                "mainstay_http_connections",
                "Open client connections",
                self.connections.count() as u64,
            ),
            ("mainstay_http_requests_running", "Requests being answered", running as u64),
        ])?;
        let name = ("mainstay_http_requests", "Answered requests");
        page.labelled_counter(name, self.requests.answered())?;
        let name = (
            "mainstay_http_request_duration_seconds",
            "Time from a request's head to the head of its answer",
        );
        page.labelled_histogram(name, "route", self.requests.durations())?;
        let calls = self.etcd.call_counts().into_iter().map(|call| {
            let labels = [
                ("grpc_type", call.kind.to_owned()),
                ("grpc_service", call.service),
                ("grpc_method", call.method),
                ("grpc_code", call.code.to_owned()),
            ];
            (labels, call.count)
        });
        let name = ("grpc_server_handled", "Calls of the etcd API; streams by how they began");
        page.labelled_counter(name, calls)
    }

    fn process(&self, page: &mut Page<'_>) -> fmt::Result {
        let name = ("mainstay_build_info", "The program's version");
        page.labelled_gauge(name, [([("version", VERSION.to_owned())], 1.0)])?;
        let start = Duration::from_millis(self.started_wall_ms).as_secs_f64();
        let uptime = self.started.elapsed().as_secs_f64();
        page.float_gauges(&[
            ("mainstay_uptime_seconds", "Time since the node started", uptime),
            ("process_start_time_seconds", "When the node started, since 1970", start),
        ])?;
        if let Some(bytes) = process::resident_bytes() {
            page.gauges(&[("process_resident_memory_bytes", "Memory of the process", bytes)])?;
        }
        if let Some(used) = process::cpu_time() {
            let help = "Processor time of the process";
            page.float_counter("process_cpu_seconds", help, used.as_secs_f64())?;
        }
        Ok(())
    }
}
