//! Health, readiness, liveness and version: what probes and people look at.
//!
//! *Live* means that the process turns; it never needs a quorum, so no supervisor kills a node
//! for what other nodes do. *Ready* means that the node may take traffic. *Health* tells what can
//! be served: everything, reads only, or nothing.
//!
//! Probes that were written for etcd find its paths and its names of checks beside ours.

use bytes::Bytes;
use http::{Response, StatusCode};
use mainstay_consensus::{ReadOnlyReason, Role, Status};
use mainstay_etcd::{ETCD_VERSION, STORAGE_VERSION};

use crate::{
    http::{
        answer,
        body::Body,
        front::{Answered, Asked, Front, SharedFront},
        json::Document,
        problem::Problem,
        query::Query,
    },
    life::VERSION,
};

/// How many checks there are.
const CHECK_COUNT: usize = 7;

/// What etcd's probes call our checks. What etcd finds corrupt has failed storage here.
const ETCD_NAMES: [(&str, &str); 5] = [
    ("serializable_read", "member"),
    ("linearizable_read", "leader"),
    ("data_corruption", "storage"),
    ("NOSPACE", "quota"),
    ("CORRUPT", "storage"),
];

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Check {
    name: &'static str,
    ok: bool,
    detail: String,
    /// Whether the node can take traffic without it.
    needed_to_be_ready: bool,
    /// Whether writes can succeed without it.
    needed_to_write: bool,
}

/// What there is to know besides the status.
#[derive(Debug, Clone, Default)]
struct Look {
    quota_reached: bool,
    operator: bool,
    failure: Option<String>,
    stopping: bool,
}

/// What a node can serve.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Health {
    checks: Vec<Check>,
    /// What only a probe of etcd's asks for: a learner serves every call here.
    voter: Check,
    serves: bool,
}

impl Health {
    fn look(front: &Front) -> Self {
        let consensus = front.door.consensus();
        let (quota_reached, operator) = front.door.store(|store| {
            let is_held = store.settings().read_only || store.import_source().is_some();
            (store.space().full, is_held)
        });
        let failure = consensus.storage_failure().borrow().clone();
        Self::judge(
            &consensus.status(),
            &Look { quota_reached, operator, failure, stopping: front.is_stopping() },
        )
    }

    fn judge(status: &Status, look: &Look) -> Self {
        let Look { quota_reached, operator, failure, stopping } = look;
        let failed = format!(
            "the node serves what it has in memory and must be restarted: {}",
            failure.as_deref().unwrap_or("its storage failed")
        );
        let check = |name, ok: bool, detail: &str, needed_to_be_ready, needed_to_write| Check {
            name,
            ok,
            detail: if ok { String::new() } else { detail.to_owned() },
            needed_to_be_ready,
            needed_to_write,
        };
        let member = status.role != Role::Outsider && status.cluster_id != 0;
        let trouble = status.trouble.as_deref().unwrap_or("this node is not in a cluster yet");
        let is = |reason| status.read_only == Some(reason);
        let quorum = status.leader.is_some() && !is(ReadOnlyReason::NoQuorum);
        let checks: [Check; CHECK_COUNT] = [
            check("member", member, trouble, true, true),
            check(
                "leader",
                quorum,
                status.trouble.as_deref().unwrap_or("there is no leader with a quorum"),
                true,
                true,
            ),
            check("storage", !is(ReadOnlyReason::StorageFailed), &failed, true, true),
            check(
                "disk",
                !is(ReadOnlyReason::DiskReserve),
                "the disk is nearly full: its reserve is in use",
                false,
                true,
            ),
            check(
                "quota",
                !quota_reached && !is(ReadOnlyReason::Quota),
                "the store is at its quota; delete or compact to make room",
                false,
                true,
            ),
            check(
                "operator",
                !operator,
                "an operator made the cluster read-only, which mainstay read-only off ends, or an \
                 import is filling it",
                false,
                true,
            ),
            check("running", !stopping, "this node is shutting down", true, true),
        ];
        let voter = status.role != Role::Learner;
        let voter = check("non_learner", voter, "this node has no vote yet", true, false);
        Self { checks: checks.into(), voter, serves: member && !stopping }
    }

    /// Passes over the checks of these names, of which some may be none.
    fn without<'a>(mut self, names: impl Iterator<Item = &'a str>) -> Self {
        for name in names {
            self.checks.retain(|check| !check.is_called(name));
        }
        self
    }

    /// The check of that name alone.
    fn only(mut self, name: &str) -> Option<Self> {
        self.checks.push(self.voter.clone());
        self.checks.retain(|check| check.is_called(name));
        for check in &mut self.checks {
            check.needed_to_be_ready = true;
        }
        (!self.checks.is_empty()).then_some(self)
    }

    /// Why the node may not take traffic; empty if it may.
    fn not_ready(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| !check.ok && check.needed_to_be_ready)
    }

    fn can_write(&self) -> bool {
        self.checks.iter().all(|check| check.ok || !check.needed_to_write)
    }

    const fn status_code(&self) -> StatusCode {
        if self.serves { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
    }

    fn document(&self) -> Document {
        let status = match (self.serves, self.checks.iter().all(|check| check.ok)) {
            (false, _) => "unhealthy",
            (true, false) => "degraded",
            (true, true) => "healthy",
        };
        let reason = self.checks.iter().find(|check| !check.ok).map_or("", |check| &check.detail);
        let mut document = Document::with_capacity(512);
        document.text("{\"status\":\"").text(status).text("\",\"health\":\"");
        document.text(if self.can_write() { "true" } else { "false" });
        document.text("\",\"reason\":").string(reason).text(",\"checks\":");
        document.list(&self.checks, |document, check| {
            document.text("{\"name\":\"").text(check.name).text("\",").flag("ok", check.ok);
            document.text(",\"detail\":").string(&check.detail).text("}");
        });
        document.text("}");
        document
    }
}

impl Check {
    /// Whether this is its name, here or in etcd.
    fn is_called(&self, name: &str) -> bool {
        self.name == name || ETCD_NAMES.contains(&(name, self.name))
    }
}

/// `GET /health`.
pub(crate) async fn health(front: SharedFront, request: Asked) -> Answered {
    let query = Query::of_probe(request.uri().query());
    // As in etcd: whether this node reads what it has, with or without the others.
    let alone = query.text("serializable") == Some("true");
    let without = query.words("exclude").chain(alone.then_some("leader"));
    let health = Health::look(&front).without(without);
    let mut response = answer::json(front.stamp.now(), health.document());
    *response.status_mut() = health.status_code();
    Ok(response)
}

/// `GET /health/live`, `GET /livez`.
pub(crate) async fn live(front: SharedFront, _request: Asked) -> Answered {
    Ok(answer::bytes(front.stamp.now(), "text/plain", Bytes::from_static(b"ok\n")))
}

/// `GET /livez/{check}`: one check that etcd has, and a process that answers has passed.
pub(crate) async fn live_check(front: SharedFront, request: Asked) -> Answered {
    let name = "serializable_read";
    if last_segment(&request) != name {
        return Err(Problem::unknown_route(request.uri().path()));
    }
    let verbose = Query::of_probe(request.uri().query()).has("verbose");
    let text = if verbose { format!("[+]{name} ok\nok\n") } else { "ok\n".to_owned() };
    Ok(answer::bytes(front.stamp.now(), "text/plain", Bytes::from(text)))
}

/// `GET /health/ready`, `GET /readyz`.
pub(crate) async fn ready(front: SharedFront, request: Asked) -> Answered {
    let query = Query::of_probe(request.uri().query());
    let health = Health::look(&front).without(query.words("exclude"));
    Ok(readiness(&front, &health, None, query.has("verbose")))
}

/// `GET /readyz/{check}`: one check alone, by our name or etcd's.
pub(crate) async fn ready_check(front: SharedFront, request: Asked) -> Answered {
    let name = last_segment(&request);
    let verbose = Query::of_probe(request.uri().query()).has("verbose");
    match Health::look(&front).only(name) {
        Some(health) => Ok(readiness(&front, &health, Some(name), verbose)),
        None => Err(Problem::unknown_route(request.uri().path())),
    }
}

/// Whether the node passes the checks, in etcd's words; `name` is what the one check is called.
fn readiness(front: &Front, health: &Health, name: Option<&str>, verbose: bool) -> Response<Body> {
    let ready = health.not_ready().next().is_none();
    let mut text = String::new();
    for check in health.checks.iter().filter(|check| check.needed_to_be_ready) {
        let name = name.unwrap_or(check.name);
        if !check.ok {
            text.push_str(&format!("[-]{name} failed: {}\n", check.detail));
        } else if verbose {
            text.push_str(&format!("[+]{name} ok\n"));
        }
    }
    text.push_str(if ready { "ok\n" } else { "not ready\n" });
    let mut response = answer::bytes(front.stamp.now(), "text/plain", Bytes::from(text));
    if !ready {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}

fn last_segment(request: &Asked) -> &str {
    request.uri().path().rsplit('/').next().unwrap_or_default()
}

/// `GET /version`.
pub(crate) async fn version(front: SharedFront, request: Asked) -> Answered {
    Query::parse(request.uri().query(), &[])?;
    let mut document = Document::with_capacity(128);
    document.text(&format!(
        "{{\"mainstay\":\"{VERSION}\",\"etcdserver\":\"{ETCD_VERSION}\",\
         \"etcdcluster\":\"{STORAGE_VERSION}\",\"storage\":\"{STORAGE_VERSION}\"}}"
    ));
    Ok(answer::json(front.stamp.now(), document))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn status() -> Status {
        Status {
            cluster_id: 1,
            epoch: 1,
            node_id: 1,
            role: Role::Leader,
            term: 2,
            leader: Some(1),
            members: Arc::default(),
            last_log_index: 1,
            committed_index: 1,
            applied_index: 1,
            snapshot_index: 0,
            failures_tolerated: 1,
            read_only: None,
            leader_changes: 1,
            trouble: None,
        }
    }

    /// (status code, status, health, ready) of a node.
    fn verdict(
        status: &Status,
        quota_reached: bool,
        stopping: bool,
    ) -> (u16, String, String, bool) {
        let look = Look { quota_reached, stopping, ..Look::default() };
        let health = Health::judge(status, &look);
        let document: serde_json::Value =
            serde_json::from_slice(&health.document().finish()).expect("is JSON");
        let text = |name: &str| document[name].as_str().expect("is a string").to_owned();
        let ready = health.not_ready().next().is_none();
        (health.status_code().as_u16(), text("status"), text("health"), ready)
    }

    fn wanted(code: u16, status: &str, health: &str, ready: bool) -> (u16, String, String, bool) {
        (code, status.to_owned(), health.to_owned(), ready)
    }

    #[test]
    fn a_node_says_what_it_can_serve() {
        let read_only = |reason| Status { read_only: Some(reason), ..status() };
        assert_eq!(verdict(&status(), false, false), wanted(200, "healthy", "true", true));
        assert_eq!(verdict(&status(), true, false), wanted(200, "degraded", "false", true));
        assert_eq!(
            verdict(&read_only(ReadOnlyReason::DiskReserve), false, false),
            wanted(200, "degraded", "false", true)
        );
        assert_eq!(
            verdict(&read_only(ReadOnlyReason::NoQuorum), false, false),
            wanted(200, "degraded", "false", false)
        );
        assert_eq!(
            verdict(&read_only(ReadOnlyReason::StorageFailed), false, false),
            wanted(200, "degraded", "false", false)
        );
        let leaderless = Status { leader: None, role: Role::Follower, ..status() };
        assert_eq!(verdict(&leaderless, false, false), wanted(200, "degraded", "false", false));
        let outsider = Status { cluster_id: 0, role: Role::Outsider, ..leaderless };
        assert_eq!(verdict(&outsider, false, false), wanted(503, "unhealthy", "false", false));
        assert_eq!(verdict(&status(), false, true), wanted(503, "unhealthy", "false", false));
    }

    #[test]
    fn what_failed_is_told() {
        let status = Status { read_only: Some(ReadOnlyReason::StorageFailed), ..status() };
        let failure = Some("entry 7 of the log cannot be applied".to_owned());
        let health = Health::judge(&status, &Look { failure, ..Look::default() });
        let document = String::from_utf8(health.document().finish().to_vec()).expect("is text");
        assert!(document.contains("entry 7 of the log"), "{document}");
    }

    #[test]
    fn a_probe_can_leave_checks_out() {
        let look = Look { quota_reached: true, operator: true, ..Look::default() };
        let health = Health::judge(&Status { leader: None, ..status() }, &look);
        assert!(!health.can_write());
        let health = health.without(["leader", "NOSPACE", "operator", "nothing"].into_iter());
        assert!(health.can_write() && health.not_ready().next().is_none());
    }

    #[test]
    fn one_check_can_be_asked_for_by_our_name_or_etcds() {
        let learner = Status { leader: None, role: Role::Learner, ..status() };
        let passes = |name: &str| {
            let health = Health::judge(&learner, &Look::default()).only(name)?;
            Some(health.not_ready().next().is_none())
        };
        for (name, wanted) in [
            ("member", Some(true)),
            ("serializable_read", Some(true)),
            ("leader", Some(false)),
            ("linearizable_read", Some(false)),
            ("data_corruption", Some(true)),
            ("non_learner", Some(false)),
            ("nothing", None),
        ] {
            assert_eq!(passes(name), wanted, "{name}");
        }
        let led = Status { leader: Some(2), ..learner.clone() };
        let health = Health::judge(&led, &Look::default());
        assert!(health.not_ready().next().is_none(), "a learner takes traffic");
    }
}
