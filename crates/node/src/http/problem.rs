//! Errors as RFC 9457 problem documents.
//!
//! This is the one place where a failure gets its status and code; `docs/http-api.md` has the same
//! table. A document always says whether anything took effect, and when trying again can help.

use std::time::Duration;

use http::{
    HeaderMap, HeaderValue, Response, StatusCode,
    header::{ALLOW, CONTENT_TYPE, RETRY_AFTER},
};
use mainstay_consensus::{HandOverError, MembershipError, NotTaken, ReadOnlyReason};
use mainstay_kv::{ImportRefusal, QueryError, Refusal};
use mainstay_service::DoorError;

use crate::{
    http::{answer, body::Body, json::Document},
    member_names::MemberNames,
};

/// Whether a request that failed changed anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TookEffect {
    No,
    Unknown,
}

/// A failed request, as it is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem(Box<Details>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Details {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    detail: String,
    took_effect: TookEffect,
    retry_after: Option<Duration>,
    /// One more member of the document: its name and text.
    member: Option<(&'static str, String)>,
    allow: Option<&'static str>,
    /// Whether this is the answer to an earlier request.
    repeated: bool,
}

impl Problem {
    /// A request that failed without an effect.
    pub(crate) fn new(
        status: StatusCode,
        code: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self(Box::new(Details {
            status,
            code,
            title,
            detail: detail.into(),
            took_effect: TookEffect::No,
            retry_after: None,
            member: None,
            allow: None,
            repeated: false,
        }))
    }

    pub(crate) fn bad_request(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, "The request cannot be understood", detail)
    }

    pub(crate) fn bad_parameter(name: &str, why: &str) -> Self {
        Self::bad_request("bad_parameter", format!("the query parameter {name:?} {why}"))
    }

    pub(crate) fn bad_header(name: &str, why: &str) -> Self {
        Self::bad_request("bad_header", format!("the header {name} {why}"))
    }

    pub(crate) fn too_large(what: &str, limit: usize) -> Self {
        let detail = format!("{what} has more than the {limit} bytes allowed");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "Too large", detail)
    }

    pub(crate) fn unknown_route(path: &str) -> Self {
        let detail = format!("there is nothing at {path:?}; GET /openapi.json lists all routes");
        Self::new(StatusCode::NOT_FOUND, "unknown_route", "No such route", detail)
    }

    pub(crate) fn method_not_allowed(method: &str, allow: Option<&'static str>) -> Self {
        let detail =
            format!("this route does not take {method}; the header Allow lists what it takes");
        let title = "Method not allowed";
        let mut problem =
            Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", title, detail);
        problem.0.allow = allow;
        problem
    }

    pub(crate) fn shutting_down() -> Self {
        Self::unavailable("shutting_down", "this node is shutting down; ask another one")
    }

    /// The outcome of something that was begun is not known.
    fn outcome_unknown(detail: impl Into<String>) -> Self {
        let title = "The outcome is unknown";
        let mut problem = Self::new(StatusCode::GATEWAY_TIMEOUT, "outcome_unknown", title, detail);
        problem.0.took_effect = TookEffect::Unknown;
        problem
    }

    pub(crate) fn unknown_member(word: &str, names: &MemberNames) -> Self {
        let detail = format!(
            "there is no member {word:?}; the members are {}; the leader stays",
            names.all()
        );
        Self::new(StatusCode::NOT_FOUND, "unknown_member", "No such member", detail)
    }

    /// A hand-over of the leadership that was refused, or whose outcome is unknown.
    pub(crate) fn hand_over(error: &HandOverError, names: &MemberNames) -> Self {
        let stays = |code, why: String| {
            let detail = format!("{why}; the leader stays");
            Self::new(StatusCode::CONFLICT, code, "The leader stays", detail)
        };
        let soon = Duration::from_secs(1);
        match error {
            HandOverError::NoLeader => {
                let detail = "there is no leader that could hand over; nothing was done";
                Self::unavailable("no_leader", detail).retry_after(Duration::from_millis(200))
            }
            HandOverError::NotReady => {
                Self::unavailable("not_ready", "this node is not in a cluster yet; ask another one")
            }
            HandOverError::ShuttingDown => Self::shutting_down(),
            HandOverError::UnknownMember { id } => Self::unknown_member(&id.to_string(), names),
            HandOverError::NotAVoter { id } => {
                stays("not_a_voter", format!("{} has no vote and cannot lead", names.spoken(*id)))
            }
            HandOverError::AlreadyLeads { id } => {
                stays("already_leads", format!("{} leads already", names.spoken(*id)))
            }
            HandOverError::NotHealthy { id, why } => {
                let why = format!("{} cannot take over now: {why}", names.spoken(*id));
                stays("not_healthy", why).retry_after(soon)
            }
            HandOverError::Lagging { id, behind } => {
                let why = format!("{} is {behind} log entries behind", names.spoken(*id));
                stays("lagging", why).retry_after(soon)
            }
            HandOverError::NoCandidate => {
                let why = "no other voter is healthy and caught up";
                stays("no_candidate", why.to_owned()).retry_after(soon)
            }
            HandOverError::Busy => {
                stays("busy", "another hand-over is under way".to_owned()).retry_after(soon)
            }
            HandOverError::OutcomeUnknown => Self::outcome_unknown(
                "the hand-over was begun, and no new leader was seen in time; GET /v1/cluster \
                 tells who leads",
            ),
        }
    }

    /// A change of members that was refused, or whose outcome is unknown.
    pub(crate) fn membership(error: &MembershipError) -> Self {
        let detail = error.to_string();
        let problem = match error {
            MembershipError::NoLeader => {
                return Self::unavailable(error.code(), detail)
                    .retry_after(Duration::from_millis(200));
            }
            MembershipError::NotReady | MembershipError::NoQuorum => {
                return Self::unavailable(error.code(), detail);
            }
            MembershipError::ShuttingDown => return Self::shutting_down(),
            MembershipError::OutcomeUnknown => return Self::outcome_unknown(detail),
            MembershipError::UnknownMember { .. } => {
                Self::new(StatusCode::NOT_FOUND, error.code(), "No such member", detail)
            }
            _refused => {
                let title = "The members stay as they are";
                Self::new(StatusCode::CONFLICT, error.code(), title, detail)
            }
        };
        if error.passes() { problem.retry_after(Duration::from_secs(1)) } else { problem }
    }

    pub(crate) fn unavailable(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, "Not available right now", detail)
            .retry_after(Duration::from_secs(1))
    }

    /// A write that is refused in read-only mode.
    fn read_only(reason: ReadOnlyReason, detail: impl Into<String>) -> Self {
        let after = match reason {
            // An election may be all that is missing.
            ReadOnlyReason::NoQuorum => Duration::from_millis(200),
            ReadOnlyReason::Quota
            | ReadOnlyReason::DiskReserve
            | ReadOnlyReason::StorageFailed
            | ReadOnlyReason::Operator
            | ReadOnlyReason::Import
            | ReadOnlyReason::DisasterRecovery => Duration::from_secs(1),
        };
        let title = "Writes are refused";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "read_only", title, detail)
            .retry_after(after)
            .member("reason", reason.as_str())
    }

    pub(crate) fn overloaded(detail: impl Into<String>, retry_after: Duration) -> Self {
        let title = "Too much is going on";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "overloaded", title, detail)
            .retry_after(retry_after)
    }

    /// Says that this is the answer to an earlier request, if it is.
    pub(crate) fn repeated(mut self, repeated: bool) -> Self {
        self.0.repeated = repeated;
        self
    }

    fn retry_after(mut self, after: Duration) -> Self {
        self.0.retry_after = Some(after);
        self
    }

    pub(crate) fn member(mut self, name: &'static str, text: impl Into<String>) -> Self {
        self.0.member = Some((name, text.into()));
        self
    }

    /// The problem's code.
    #[cfg(test)]
    pub(crate) fn code(&self) -> &'static str {
        self.0.code
    }

    #[cfg(test)]
    pub(crate) fn detail(&self) -> &str {
        &self.0.detail
    }

    /// The document itself.
    fn document(&self) -> Document {
        let Details { status, code, title, detail, took_effect, retry_after, member, .. } =
            &*self.0;
        let mut document = Document::with_capacity(256);
        document.text("{\"type\":\"about:blank\",\"title\":").string(title).text(",");
        document.number("status", status.as_u16().into()).text(",\"detail\":").string(detail);
        document.text(",\"code\":\"").text(code).text("\",\"took_effect\":\"");
        document.text(match took_effect {
            TookEffect::No => "no",
            TookEffect::Unknown => "unknown",
        });
        document.text("\"");
        if let Some(after) = retry_after {
            let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
            document.text(",").number("retry_after_ms", after_ms);
        }
        if let Some((name, text)) = member {
            document.text(",\"").text(name).text("\":").string(text);
        }
        document.text("}");
        document
    }

    /// The answer, with `headers` as every answer carries them.
    pub(crate) fn respond(self, mut headers: HeaderMap) -> Response<Body> {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(after) = self.0.retry_after {
            // In whole seconds, rounded up: the document has the exact time.
            let seconds = u64::try_from(after.as_millis().div_ceil(1_000)).unwrap_or(u64::MAX);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(allow) = self.0.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        let mut response = Response::new(Body::full(self.document().finish()));
        *response.status_mut() = self.0.status;
        *response.headers_mut() = headers;
        answer::repeated(response, self.0.repeated)
    }
}

impl From<DoorError> for Problem {
    fn from(error: DoorError) -> Self {
        let detail = error.to_string();
        if let Some(reason) = error.read_only() {
            return Self::read_only(reason, detail);
        }
        match error {
            DoorError::Denied(_) => {
                Self::new(StatusCode::FORBIDDEN, "permission_denied", "Not permitted", detail)
            }
            DoorError::Refused(refusal) => refused(&refusal, detail),
            DoorError::RefusedBefore(refusal) => refused(&refusal, detail).repeated(true),
            DoorError::Query(query) => not_readable(query, detail),
            DoorError::Overloaded { retry_after, .. } => Self::overloaded(detail, retry_after),
            DoorError::AnswerTooLarge { .. } => Self::bad_request("answer_too_large", detail),
            DoorError::NotTaken(not_taken) => not_taken_problem(&not_taken, detail),
            DoorError::Held(_) => Self::read_only(ReadOnlyReason::DisasterRecovery, detail),
            DoorError::OutcomeUnknown { .. } => Self::outcome_unknown(detail),
            DoorError::ReadTimeout => {
                let title = "Not answered in time";
                Self::new(StatusCode::GATEWAY_TIMEOUT, "timeout", title, detail)
                    .retry_after(Duration::from_millis(100))
            }
        }
    }
}

fn refused(refusal: &Refusal, detail: String) -> Problem {
    let conflict = |code, title| Problem::new(StatusCode::CONFLICT, code, title, detail.clone());
    let missing = |code, title| Problem::new(StatusCode::NOT_FOUND, code, title, detail.clone());
    match refusal {
        Refusal::KeyEmpty => Problem::bad_request("key_empty", detail),
        Refusal::KeyTooLarge { .. } => Problem::bad_request("key_too_large", detail),
        Refusal::ValueTooLarge { .. } => {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "Too large", detail)
        }
        Refusal::KeyNotFound => missing("not_found", "No such key"),
        Refusal::TooManyOperations { .. } => Problem::bad_request("too_many_operations", detail),
        Refusal::DuplicateKey => Problem::bad_request("duplicate_key", detail),
        Refusal::TooDeep { .. } => Problem::bad_request("too_deep", detail),
        Refusal::Query(query) => not_readable(*query, detail),
        Refusal::LeaseNotFound { .. } => missing("lease_not_found", "No such lease"),
        Refusal::LeaseExists { .. } => conflict("lease_exists", "The lease exists"),
        Refusal::LeaseTtlTooLarge { .. } => Problem::bad_request("lease_ttl_too_large", detail),
        Refusal::SpaceExceeded { .. } => Problem::read_only(ReadOnlyReason::Quota, detail),
        Refusal::ReadOnly => Problem::read_only(ReadOnlyReason::Operator, detail),
        Refusal::Importing => Problem::read_only(ReadOnlyReason::Import, detail),
        Refusal::Import(refusal) => match refusal {
            ImportRefusal::NotEmpty { .. } => conflict("not_empty", "The cluster is not empty"),
            ImportRefusal::OtherSource { .. } => {
                conflict("import_running", "Another import is going on")
            }
            ImportRefusal::NotBegun => conflict("no_import", "No import is going on"),
            ImportRefusal::OutOfPlace { .. } => {
                conflict("import_out_of_place", "The step does not follow the one before it")
            }
            ImportRefusal::Impossible { .. } => Problem::bad_request("bad_import", detail),
        },
        Refusal::SessionEnded { .. } => conflict("session_ended", "The session has ended"),
        Refusal::SessionNumberForgotten { .. } | Refusal::SessionWindowExceeded { .. } => {
            Problem::bad_request("session_number", detail)
        }
        Refusal::KeyReused => {
            let title = "Used for another request";
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "key_reused", title, detail)
        }
        Refusal::IdempotencyKeyLength { .. } => Problem::bad_request("bad_header", detail),
        Refusal::IdempotencyTableFull { retry_after_ms } => {
            let title = "Too many idempotency keys";
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "idempotency_full", title, detail)
                .retry_after(Duration::from_millis(*retry_after_ms))
        }
        Refusal::TooManySessions { .. } | Refusal::TooManyLeases { .. } => {
            Problem::overloaded(detail, Duration::from_secs(1))
        }
        Refusal::AnswerTooLarge { .. } => Problem::bad_request("answer_too_large", detail),
        Refusal::InvalidSetting { .. } => Problem::bad_request("bad_setting", detail),
        Refusal::Unsupported => Problem::bad_request("bad_request", detail),
    }
}

fn not_readable(query: QueryError, detail: String) -> Problem {
    match query {
        QueryError::Compacted { compact_revision, .. } => {
            let title = "The revision is compacted";
            Problem::new(StatusCode::GONE, "compacted", title, detail)
                .member("compact_revision", compact_revision.to_string())
        }
        QueryError::Future { .. } => Problem::bad_request("future_revision", detail),
    }
}

fn not_taken_problem(not_taken: &NotTaken, detail: String) -> Problem {
    match not_taken {
        NotTaken::NoLeader => {
            Problem::unavailable("no_leader", detail).retry_after(Duration::from_millis(200))
        }
        NotTaken::NotReady => Problem::unavailable("not_ready", detail),
        NotTaken::Overloaded { retry_after } => Problem::overloaded(detail, *retry_after),
        NotTaken::TooLarge { .. } => {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "Too large", detail)
        }
        NotTaken::ReadOnly { reason } => Problem::read_only(*reason, detail),
        NotTaken::ShuttingDown => Problem::unavailable("shutting_down", detail),
    }
}
