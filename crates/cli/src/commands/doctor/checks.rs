//! What is judged about a cluster, and by which thresholds. Pure: from answers to findings.
//!
//! The thresholds are documented in `docs/operations.md`; change them together.

use std::{collections::BTreeSet, time::Duration};

use mainstay_client::{Cluster, FailureDetector, FormatReport, Member, NodeReport};

use super::report::Finding;

/// A sync that takes longer makes writes slow.
const SYNC_MS_WARN: f64 = 10.0;
/// A sync that takes longer is on its way to a stalled leader.
const SYNC_MS_FAIL: f64 = 100.0;
/// A disk that has not answered for this long hangs.
const STALL_MS_FAIL: f64 = 1_000.0;
/// Free space below which there may soon be none.
const FREE_BYTES_WARN: u64 = 1024 * 1024 * 1024;
/// Wall clocks further apart make logs and backups hard to read.
const CLOCK_MS_WARN: u64 = 500;
/// Wall clocks further apart are simply wrong.
const CLOCK_MS_FAIL: u64 = 30_000;
/// Parts of a heartbeat interval from which on a round trip is too long: heartbeats that are
/// answered later than three quarters of it do not count for the leader's lease.
const ROUND_TRIP_PART_WARN: f64 = 0.25;
/// See [`ROUND_TRIP_PART_WARN`].
const ROUND_TRIP_PART_FAIL: f64 = 0.75;
/// Committed entries that a node may be behind.
const LAG_WARN: u64 = 10_000;
/// By how much timers may be late.
const SCHEDULING_MS_WARN: f64 = 20.0;
/// By how much timers may be late before elections are at stake.
const SCHEDULING_MS_FAIL: f64 = 100.0;
/// Changes of leader within [`ELECTIONS_SPAN`] that nobody asked for.
const ELECTIONS_WARN: usize = 4;
/// The time that is looked back on.
const ELECTIONS_SPAN: Duration = Duration::from_secs(15 * 60);

/// All answers.
#[derive(Debug)]
pub(super) struct Examined {
    pub(super) asked: Vec<Asked>,
    /// This machine's wall clock, in milliseconds since 1970.
    pub(super) now_ms: u64,
}

/// One node that was asked.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) endpoint: String,
    /// What it told, or why it did not.
    pub(super) told: Result<Told, String>,
}

/// What one node told.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) cluster: Cluster,
    pub(super) node: NodeReport,
    pub(super) clock: Clock,
    pub(super) detector: Option<FailureDetector>,
}

/// A node's wall clock against this machine's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Clock {
    /// By how much it is ahead, in milliseconds.
    pub(super) offset_ms: i64,
    /// How wrong that may be: half of the round trip.
    pub(super) uncertainty_ms: u64,
}

impl Clock {
    /// By an answer that came `took` after the question of `before_ms`.
    pub(super) fn of(report: &NodeReport, before_ms: u64, took: Duration) -> Self {
        let half_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX) / 2;
        let middle_ms = before_ms.saturating_add(half_ms);
        let signed = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
        let offset_ms = signed(report.wall_clock_ms) - signed(middle_ms);
        Self { offset_ms, uncertainty_ms: half_ms + 1 }
    }
}

impl Asked {
    pub(super) fn cluster(&self) -> Option<&Cluster> {
        self.told.as_ref().ok().map(|told| &told.cluster)
    }

    pub(super) fn id(&self) -> Option<u64> {
        self.told.as_ref().ok().map(|told| told.node.id)
    }
}

/// What the findings call a node.
fn name(told: &Told) -> String {
    told.node.name.clone().unwrap_or_else(|| told.node.id.to_string())
}

/// Judges everything.
pub(super) fn judge(examined: &Examined) -> Vec<Finding> {
    let told: Vec<&Told> =
        examined.asked.iter().filter_map(|asked| asked.told.as_ref().ok()).collect();
    let mut findings = reach(examined, &told);
    if told.is_empty() {
        return findings;
    }
    findings.push(one_cluster(&told));
    findings.push(quorum(&told));
    findings.push(versions(&told));
    findings.extend(formats(&told));
    findings.push(clocks(&told));
    findings.push(elections(&told, examined.now_ms));
    for told in &told {
        findings.extend(serving(told));
        findings.push(sync(told));
        findings.push(space(told));
        findings.push(quota(told));
        findings.push(scheduling(told));
        findings.extend(round_trips(told));
    }
    findings.push(lag(&told));
    findings
}

/// Who answers.
fn reach(examined: &Examined, told: &[&Told]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for asked in &examined.asked {
        match &asked.told {
            Ok(told) => {
                findings.push(Finding::ok(
                    "reach",
                    &name(told),
                    format!("answers at {}", asked.endpoint),
                ));
            }
            Err(why) => findings.push(Finding::fail(
                "reach",
                &asked.endpoint,
                format!("does not answer: {why}"),
                "start the node, or correct the address; docs/runbook/lost-node.md",
            )),
        }
    }
    let answered: BTreeSet<u64> = told.iter().map(|told| told.node.id).collect();
    let addresses: BTreeSet<String> =
        examined.asked.iter().map(|asked| asked.endpoint.clone()).collect();
    let mut silent: Vec<&Member> = told
        .iter()
        .flat_map(|told| &told.cluster.members)
        .filter(|member| !answered.contains(&member.id))
        .filter(|member| !member.client_urls.iter().any(|url| addresses.contains(url)))
        .collect();
    silent.sort_by_key(|member| member.id);
    silent.dedup_by_key(|member| member.id);
    findings.extend(silent.into_iter().map(|member| {
        Finding::warn(
            "reach",
            &member.name,
            "is a member, and its client address cannot be used".to_owned(),
            "start the node with --advertise-client-urls that others can reach",
        )
    }));
    findings
}

fn one_cluster(told: &[&Told]) -> Finding {
    let clusters: BTreeSet<(u64, u64)> =
        told.iter().map(|told| (told.cluster.cluster_id, told.cluster.epoch)).collect();
    match clusters.iter().collect::<Vec<_>>()[..] {
        [(0, _)] => Finding::fail(
            "cluster",
            "-",
            "the nodes are in no cluster yet".to_owned(),
            "start all nodes of the bootstrap list; the log of the first says what it waits for",
        ),
        [(id, epoch)] => Finding::ok("cluster", "-", format!("{id} in epoch {epoch}")),
        _ => Finding::fail(
            "cluster",
            "-",
            format!("{} clusters or epochs answer", clusters.len()),
            "name the nodes of one cluster with --endpoints; a node that was left behind by a \
             recovery must be stopped",
        ),
    }
}

fn quorum(told: &[&Told]) -> Finding {
    let best = told.iter().max_by_key(|told| (told.cluster.leader.is_some(), told.cluster.term));
    let Some(cluster) = best.map(|told| &told.cluster) else {
        return Finding::fail("quorum", "-", "nobody answers".to_owned(), "start the nodes");
    };
    let voters = cluster.members.iter().filter(|member| member.voter);
    let (all, healthy) = voters
        .fold((0, 0), |(all, healthy), member| (all + 1, healthy + i32::from(member.healthy)));
    let found = format!(
        "{healthy} of {all} voters answer each other; failures tolerated now: {}",
        cluster.failures_tolerated.max(0)
    );
    match (cluster.leader, cluster.failures_tolerated) {
        (None, _) | (_, ..0) => Finding::fail(
            "quorum",
            "-",
            format!("{found}; there is no leader with a quorum"),
            "start the missing nodes; if their folders are lost, docs/runbook/lost-quorum.md",
        ),
        (Some(_), 0) => Finding::warn(
            "quorum",
            "-",
            found,
            "bring back or replace the missing node, or add nodes; docs/runbook/lost-node.md",
        ),
        (Some(_), _) => Finding::ok("quorum", "-", found),
    }
}

fn versions(told: &[&Told]) -> Finding {
    let versions: BTreeSet<&str> = told.iter().map(|told| told.node.version.as_str()).collect();
    let found = versions.into_iter().collect::<Vec<_>>();
    if let [version] = found[..] {
        return Finding::ok("version", "-", format!("all run {version}"));
    }
    Finding::warn(
        "version",
        "-",
        format!("versions {} run together", found.join(" and ")),
        "finish the upgrade; docs/runbook/rolling-upgrade.md",
    )
}

/// Whether everybody can follow the rules that are in force, and who holds newer ones up.
fn formats(told: &[&Told]) -> Option<Finding> {
    let known: Vec<(&Told, &FormatReport)> =
        told.iter().filter_map(|told| Some((*told, told.node.formats.as_ref()?))).collect();
    let in_force = known.iter().map(|(_told, formats)| formats.in_force).max()?;
    let behind: Vec<String> = known
        .iter()
        .filter(|(_told, formats)| !(formats.oldest..=formats.newest).contains(&in_force))
        .map(|(told, _formats)| name(told))
        .collect();
    if !behind.is_empty() {
        return Some(Finding::fail(
            "format",
            "-",
            format!("format {in_force} is in force, and {} cannot follow it", behind.join(", ")),
            "start these nodes with the version that the others run; \
             docs/runbook/rolling-upgrade.md",
        ));
    }
    if let Some(held) = known.iter().find_map(|(_told, formats)| formats.held_up.as_ref()) {
        return Some(Finding::warn(
            "format",
            "-",
            format!(
                "format {in_force} is in force; {} holds format {} up, for {} min under this leader",
                held.by.join(", "),
                held.newest,
                (held.for_ms / 60_000.0).floor(),
            ),
            "finish the upgrade, or remove members that do not come back; \
             docs/runbook/rolling-upgrade.md",
        ));
    }
    let newest = known.iter().map(|(_told, formats)| formats.newest).max()?;
    Some(if newest > in_force {
        let found = format!("format {in_force} is in force, and not all nodes know {newest}");
        Finding::warn("format", "-", found, "finish the upgrade; docs/runbook/rolling-upgrade.md")
    } else {
        Finding::ok("format", "-", format!("format {in_force} is in force, the newest of all"))
    })
}

/// How far the wall clocks of the nodes are apart at least.
fn clocks(told: &[&Told]) -> Finding {
    let mut apart_ms = 0;
    let mut who = None;
    for one in told {
        for other in told {
            let between = one.clock.offset_ms.saturating_sub(other.clock.offset_ms);
            let doubt = one.clock.uncertainty_ms.saturating_add(other.clock.uncertainty_ms);
            let at_least = u64::try_from(between).unwrap_or(0).saturating_sub(doubt);
            if at_least > apart_ms {
                apart_ms = at_least;
                who = Some((name(one), name(other)));
            }
        }
    }
    let (found, remedy) = match who {
        None => ("no two wall clocks are measurably apart".to_owned(), ""),
        Some((ahead, behind)) => (
            format!("{ahead} is at least {apart_ms} ms ahead of {behind}"),
            "synchronise the clocks (NTP): nothing in the store depends on them, but log lines and \
             backups are told apart by them",
        ),
    };
    match apart_ms {
        0..CLOCK_MS_WARN => Finding::ok("clock", "-", found),
        CLOCK_MS_WARN..CLOCK_MS_FAIL => Finding::warn("clock", "-", found, remedy),
        _ => Finding::fail("clock", "-", found, remedy),
    }
}

/// Changes of leader that nobody asked for, lately.
fn elections(told: &[&Told], now_ms: u64) -> Finding {
    let span_ms = u64::try_from(ELECTIONS_SPAN.as_millis()).unwrap_or(u64::MAX);
    let recent = told.iter().filter_map(|told| told.detector.as_ref()).map(|detector| {
        let counts = |election: &&mainstay_client::Election| {
            now_ms.saturating_sub(election.at_ms) < span_ms
                && !["operator", "shutdown"].contains(&election.cause.as_str())
        };
        detector.elections.iter().filter(counts).count()
    });
    let count = recent.max().unwrap_or(0);
    let found = format!("{count} unasked changes of leader in 15 min");
    if count < ELECTIONS_WARN {
        return Finding::ok("elections", "-", found);
    }
    let remedy = "`mainstay detector` says why each was held: a disk, a link or a busy machine; \
                  docs/runbook/slow-disk.md";
    Finding::warn("elections", "-", found, remedy)
}

/// What a node says keeps it from serving.
fn serving(told: &Told) -> Vec<Finding> {
    let node = &told.cluster.node;
    let mut findings = Vec::new();
    if let Some(trouble) = &node.trouble {
        let remedy = "for a new folder, let it join again as a new member, \
            docs/runbook/wiped-node.md; for another version, docs/runbook/rolling-upgrade.md";
        findings.push(Finding::fail("serving", &name(told), trouble.clone(), remedy));
    }
    if let Some(reason) = &node.read_only {
        if reason == "operator" {
            findings.push(Finding::warn(
                "serving",
                &name(told),
                "refuses writes: an operator made the cluster read-only".to_owned(),
                "mainstay read-only off, when whoever did it agrees; docs/read-only.md",
            ));
            return findings;
        }
        let remedy = match reason.as_str() {
            "disk_reserve" => "make room on its disk; docs/runbook/full-disk.md",
            "quota" => "delete or compact, or raise quota_bytes; docs/runbook/full-disk.md",
            "storage_failed" => "restart the node; if it fails again, replace its disk and folder",
            "no_quorum" => "see quorum above",
            "import" => "repeat mainstay import-etcd to go on with it, or --abandon it",
            "disaster_recovery" => "write at the site that has the title",
            _ => "docs/read-only.md says when this passes",
        };
        let found = format!("refuses writes: {reason}");
        findings.push(Finding::fail("serving", &name(told), found, remedy));
    }
    if findings.is_empty() {
        findings.push(Finding::ok("serving", &name(told), "takes writes".to_owned()));
    }
    findings
}

fn sync(told: &Told) -> Finding {
    let disk = &told.node.disk;
    let remedy = "give the data folder a faster disk of its own; docs/runbook/slow-disk.md";
    if disk.oldest_sync_ms >= STALL_MS_FAIL {
        let found = format!("its disk has not answered for {:.0} ms", disk.oldest_sync_ms);
        return Finding::fail("sync", &name(told), found, remedy);
    }
    let Some(p99_ms) = disk.sync_p99_ms else {
        return Finding::ok("sync", &name(told), "nothing was synced yet".to_owned());
    };
    let found = format!("a sync takes up to {p99_ms:.1} ms (p99 of the last 1,000)");
    if p99_ms >= SYNC_MS_FAIL {
        Finding::fail("sync", &name(told), found, remedy)
    } else if p99_ms >= SYNC_MS_WARN {
        Finding::warn("sync", &name(told), found, remedy)
    } else {
        Finding::ok("sync", &name(told), found)
    }
}

fn space(told: &Told) -> Finding {
    let disk = &told.node.disk;
    let remedy = "make room, or move the folder to a larger disk; docs/runbook/full-disk.md";
    let Some(free_bytes) = disk.free_bytes else {
        let found = "the disk does not say how much is free".to_owned();
        return Finding::warn("disk", &name(told), found, remedy);
    };
    let found = format!("{} MiB are free", free_bytes / (1024 * 1024));
    // A snapshot of the state is written beside the one before.
    let wanted = FREE_BYTES_WARN.max(told.node.store.bytes.saturating_mul(2));
    if disk.reserve_in_use {
        Finding::fail("disk", &name(told), format!("{found}; the reserve is in use"), remedy)
    } else if free_bytes < wanted {
        Finding::warn("disk", &name(told), found, remedy)
    } else {
        Finding::ok("disk", &name(told), found)
    }
}

fn quota(told: &Told) -> Finding {
    let store = &told.node.store;
    let percent = store.bytes.saturating_mul(100) / store.quota_bytes.max(1);
    let found = format!("{percent} % of {} MiB, {} keys", store.quota_bytes >> 20, store.keys);
    let remedy = "compact, delete what is not needed, or raise quota_bytes; \
                  docs/runbook/full-disk.md";
    if store.full {
        Finding::fail("quota", &name(told), found, remedy)
    } else if store.warning {
        Finding::warn("quota", &name(told), found, remedy)
    } else {
        Finding::ok("quota", &name(told), found)
    }
}

fn scheduling(told: &Told) -> Finding {
    let late_ms = told.detector.as_ref().map_or(0.0, |detector| detector.node.scheduling_lag_ms);
    let found = format!("its timers are {late_ms:.1} ms late");
    let remedy = "the machine is too busy: give the node processors of its own";
    if late_ms >= SCHEDULING_MS_FAIL {
        Finding::fail("processor", &name(told), found, remedy)
    } else if late_ms >= SCHEDULING_MS_WARN {
        Finding::warn("processor", &name(told), found, remedy)
    } else {
        Finding::ok("processor", &name(told), found)
    }
}

/// The node's way to the others, and whom it does not hear.
fn round_trips(told: &Told) -> Vec<Finding> {
    let heartbeat_ms = heartbeat_ms(&told.cluster);
    let mut findings = Vec::new();
    for peer in &told.node.peers {
        let to = peer.name.clone().unwrap_or_else(|| peer.id.to_string());
        if !peer.healthy {
            findings.push(Finding::fail(
                "link",
                &name(told),
                format!("does not hear {to}"),
                "start that node, or repair the way to its peer address; docs/runbook/lost-node.md",
            ));
            continue;
        }
        let found = format!("{:.1} ms to {to} and back", peer.round_trip_ms);
        let remedy = "nodes this far apart need the timings of the profile wan; \
                      docs/configuration.md";
        findings.push(if peer.round_trip_ms >= heartbeat_ms * ROUND_TRIP_PART_FAIL {
            Finding::fail("link", &name(told), found, remedy)
        } else if peer.round_trip_ms >= heartbeat_ms * ROUND_TRIP_PART_WARN {
            Finding::warn("link", &name(told), found, remedy)
        } else {
            Finding::ok("link", &name(told), found)
        });
    }
    findings
}

fn heartbeat_ms(cluster: &Cluster) -> f64 {
    let setting = cluster.settings.get("heartbeat_ms");
    setting.and_then(serde_json::Value::as_f64).unwrap_or(50.0)
}

/// Who is behind.
fn lag(told: &[&Told]) -> Finding {
    let committed = told.iter().map(|told| told.cluster.node.committed_index).max().unwrap_or(0);
    let behind = |told: &&&Told| committed.saturating_sub(told.cluster.node.applied_index);
    let Some(last) = told.iter().max_by_key(behind) else {
        return Finding::ok("lag", "-", "nobody answers".to_owned());
    };
    let found = format!("{} is {} entries behind", name(last), behind(&last));
    if behind(&last) < LAG_WARN {
        return Finding::ok("lag", "-", found);
    }
    let remedy = "it catches up if its disk and link are well; `mainstay status` shows how fast";
    Finding::warn("lag", "-", found, remedy)
}

#[cfg(test)]
mod tests;
