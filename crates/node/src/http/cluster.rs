//! `/v1/cluster...`: what this node knows of its cluster, and the replicated settings.

use std::fmt::Write as _;

use http::StatusCode;
use mainstay_consensus::{MemberStatus, ReadOnlyReason, Role, Status};
use mainstay_kv::Settings;
use mainstay_service::SnapshotError;
use serde::Deserialize;

use crate::http::{
    answer,
    front::{Answered, Asked, Front, SMALL_BODY_BYTES_MAX, SharedFront},
    json::{self, Decimal, Document},
    problem::Problem,
    query::Query,
    terms::Terms,
};

/// `GET /v1/cluster`.
pub(crate) async fn get(front: SharedFront, request: Asked) -> Answered {
    Query::parse(request.uri().query(), &[])?;
    Terms::read(request.headers())?;
    Ok(answer::json(front.stamp.now(), cluster(&front)))
}

fn cluster(front: &Front) -> Document {
    let status = front.door.consensus().status();
    let (settings, revision) =
        front.door.store(|store| (store.settings().clone(), store.revision()));
    let mut document = Document::with_capacity(1_024);
    document.text("{").decimal("cluster_id", status.cluster_id).text(",");
    document.decimal("epoch", status.epoch).text(",").decimal("term", status.term).text(",");
    match status.leader {
        Some(leader) => document.decimal("leader", leader),
        None => document.text("\"leader\":null"),
    };
    document.text(",").decimal("revision", revision);
    document.text(&format!(",\"failures_tolerated\":{}", status.failures_tolerated));
    document.text(",\"settings\":");
    write_settings(&mut document, &settings);
    document.text(",\"members\":");
    document.list(status.members.values(), |document, member| {
        write_member(document, member, &status);
    });
    document.text(",\"node\":");
    write_node(&mut document, &status, revision, front.door.write_mode().reason());
    document.text("}");
    document
}

fn write_member(document: &mut Document, member: &MemberStatus, status: &Status) {
    let record = &member.record;
    document.text("{").decimal("id", member.id).text(",\"name\":").string(&record.name);
    document.text(",\"role\":\"").text(role(member, status)).text("\",");
    document.flag("voter", member.voter).text(",\"peer_address\":").string(&record.peer_address);
    document.text(",\"client_urls\":").list(&record.client_urls, |document, url| {
        document.string(url);
    });
    document.text(",\"zone\":").string(&record.zone).text(",\"site\":").string(&record.site);
    document.text(",\"version\":").string(&record.version).text(",");
    document.flag("healthy", member.healthy).text("}");
}

/// What a member is, as far as this node can tell: of the others it knows leader and voters.
fn role(member: &MemberStatus, status: &Status) -> &'static str {
    if status.leader == Some(member.id) {
        return "leader";
    }
    match status.role {
        Role::Candidate if member.id == status.node_id => "candidate",
        _ if member.voter => "follower",
        _ => "learner",
    }
}

/// What only this node can tell about itself.
fn write_node(
    document: &mut Document,
    status: &Status,
    revision: u64,
    read_only: Option<ReadOnlyReason>,
) {
    document.text("{").decimal("id", status.node_id).text(",").decimal("revision", revision);
    for (name, index) in [
        ("last_log_index", status.last_log_index),
        ("committed_index", status.committed_index),
        ("applied_index", status.applied_index),
        ("snapshot_index", status.snapshot_index),
    ] {
        document.text(",").decimal(name, index);
    }
    document.text(",\"read_only\":");
    match read_only {
        Some(reason) => document.string(reason.as_str()),
        None => document.text("null"),
    };
    document.text(",\"trouble\":");
    match &status.trouble {
        Some(trouble) => document.string(trouble),
        None => document.text("null"),
    };
    document.text("}");
}

/// Numbers of bytes and of things are decimal strings, durations and shares are numbers.
fn write_settings(document: &mut Document, settings: &Settings) {
    let Settings {
        format,
        quota_bytes,
        quota_warning_percent,
        key_bytes_max,
        value_bytes_max,
        txn_operations_max,
        lease_ttl_ms_min,
        session_ttl_ms,
        idempotency_ttl_ms,
        idempotency_share_percent,
        heartbeat_ms,
        election_timeout_ms_min,
        election_timeout_ms_max,
        compaction_revisions,
        compaction_age_ms,
        autopilot,
        learner_stable_ms,
        dead_after_ms,
        read_only,
    } = settings;
    let mut text = String::with_capacity(512);
    let _infallible = write!(
        text,
        "{{\"format\":\"{format}\",\"quota_bytes\":\"{quota_bytes}\",\
         \"quota_warning_percent\":{quota_warning_percent},\
         \"key_bytes_max\":\"{key_bytes_max}\",\"value_bytes_max\":\"{value_bytes_max}\",\
         \"txn_operations_max\":\"{txn_operations_max}\",\
         \"lease_ttl_ms_min\":{lease_ttl_ms_min},\"session_ttl_ms\":{session_ttl_ms},\
         \"idempotency_ttl_ms\":{idempotency_ttl_ms},\
         \"idempotency_share_percent\":{idempotency_share_percent},\
         \"heartbeat_ms\":{heartbeat_ms},\
         \"election_timeout_ms_min\":{election_timeout_ms_min},\
         \"election_timeout_ms_max\":{election_timeout_ms_max},\
         \"compaction_revisions\":\"{compaction_revisions}\",\
         \"compaction_age_ms\":{compaction_age_ms},\
         \"autopilot\":{autopilot},\"learner_stable_ms\":{learner_stable_ms},\
         \"dead_after_ms\":{dead_after_ms},\"read_only\":{read_only}}}"
    );
    document.text(&text);
}

/// The settings that a person may change; `format` is raised by upgrades alone.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[serde(default)]
struct SettingsForm {
    quota_bytes: Option<Decimal>,
    quota_warning_percent: Option<Decimal>,
    key_bytes_max: Option<Decimal>,
    value_bytes_max: Option<Decimal>,
    txn_operations_max: Option<Decimal>,
    lease_ttl_ms_min: Option<Decimal>,
    session_ttl_ms: Option<Decimal>,
    idempotency_ttl_ms: Option<Decimal>,
    idempotency_share_percent: Option<Decimal>,
    heartbeat_ms: Option<Decimal>,
    election_timeout_ms_min: Option<Decimal>,
    election_timeout_ms_max: Option<Decimal>,
    compaction_revisions: Option<Decimal>,
    compaction_age_ms: Option<Decimal>,
    autopilot: Option<bool>,
    learner_stable_ms: Option<Decimal>,
    dead_after_ms: Option<Decimal>,
    read_only: Option<bool>,
}

impl SettingsForm {
    fn change(self, settings: &mut Settings) {
        for (field, wanted) in [
            (&mut settings.quota_bytes, self.quota_bytes),
            (&mut settings.quota_warning_percent, self.quota_warning_percent),
            (&mut settings.key_bytes_max, self.key_bytes_max),
            (&mut settings.value_bytes_max, self.value_bytes_max),
            (&mut settings.txn_operations_max, self.txn_operations_max),
            (&mut settings.lease_ttl_ms_min, self.lease_ttl_ms_min),
            (&mut settings.session_ttl_ms, self.session_ttl_ms),
            (&mut settings.idempotency_ttl_ms, self.idempotency_ttl_ms),
            (&mut settings.idempotency_share_percent, self.idempotency_share_percent),
            (&mut settings.heartbeat_ms, self.heartbeat_ms),
            (&mut settings.election_timeout_ms_min, self.election_timeout_ms_min),
            (&mut settings.election_timeout_ms_max, self.election_timeout_ms_max),
            (&mut settings.compaction_revisions, self.compaction_revisions),
            (&mut settings.compaction_age_ms, self.compaction_age_ms),
            (&mut settings.learner_stable_ms, self.learner_stable_ms),
            (&mut settings.dead_after_ms, self.dead_after_ms),
        ] {
            if let Some(wanted) = wanted {
                *field = wanted.0;
            }
        }
        if let Some(autopilot) = self.autopilot {
            settings.autopilot = autopilot;
        }
        if let Some(read_only) = self.read_only {
            settings.read_only = read_only;
        }
    }
}

/// `PUT /v1/cluster/settings`.
pub(crate) async fn put_settings(front: SharedFront, request: Asked) -> Answered {
    let (head, body) = request.into_parts();
    Query::parse(head.uri.query(), &[])?;
    let caller = Terms::read(&head.headers)?.writer()?;
    let body = front.read_body(body, SMALL_BODY_BYTES_MAX).await?;
    let form: SettingsForm = json::parse(&body)?;
    let mut settings = front.door.store(|store| store.settings().clone());
    form.change(&mut settings);
    let written = front.door.configure(caller, settings.clone()).await?;
    let mut document = Document::with_capacity(512);
    write_settings(&mut document, &settings);
    let response = answer::json(front.stamp.at(written.revision), document);
    Ok(answer::repeated(response, written.repeated))
}

/// `POST /v1/cluster/snapshot`.
pub(crate) async fn take_snapshot(front: SharedFront, request: Asked) -> Answered {
    let (head, body) = request.into_parts();
    Query::parse(head.uri.query(), &[])?;
    let caller = Terms::read(&head.headers)?.writer()?;
    let body = front.read_body(body, SMALL_BODY_BYTES_MAX).await?;
    json::parse_nothing(&body)?;
    let index = front.door.snapshot(&caller).await.map_err(|error| match error {
        SnapshotError::Denied(denied) => Problem::from(mainstay_service::DoorError::from(denied)),
        SnapshotError::Disk(source) => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "snapshot_failed",
            "No snapshot was taken",
            format!("no snapshot was taken, and nothing is lost: {source}"),
        ),
    })?;
    let mut document = Document::with_capacity(32);
    document.text("{").decimal("index", index).text("}");
    Ok(answer::json(front.stamp.now(), document))
}
