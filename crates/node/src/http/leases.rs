//! Leases and sessions: `/v1/leases...` and `/v1/sessions`.

use http::StatusCode;
use serde::Deserialize;

use crate::http::{
    answer,
    front::{Answered, Asked, SMALL_BODY_BYTES_MAX, SharedFront},
    json::{self, Decimal, Document},
    keys::consistency,
    problem::Problem,
    query::Query,
    terms::Terms,
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct GrantForm {
    ttl_ms: u64,
    #[serde(default)]
    id: Decimal,
}

/// `POST /v1/leases`.
pub(crate) async fn grant(front: SharedFront, request: Asked) -> Answered {
    let (head, body) = request.into_parts();
    Query::parse(head.uri.query(), &[])?;
    let caller = Terms::read(&head.headers)?.writer()?;
    let body = front.read_body(body, SMALL_BODY_BYTES_MAX).await?;
    let form: GrantForm = json::parse(&body)?;
    let written = front.door.lease_grant(caller, form.id.0, form.ttl_ms).await?;
    let (id, ttl_ms) = written.outcome;
    let mut document = Document::with_capacity(64);
    document.text("{").decimal("id", id).text(",").number("ttl_ms", ttl_ms).text(",");
    document.decimal("revision", written.revision).text("}");
    let response = answer::json(front.stamp.at(written.revision), document);
    Ok(answer::repeated(response, written.repeated))
}

/// `GET /v1/leases`.
pub(crate) async fn list(front: SharedFront, request: Asked) -> Answered {
    let query = Query::parse(request.uri().query(), &["consistency"])?;
    let caller = Terms::read(request.headers())?.reader(consistency(&query)?);
    let read = front.door.leases(&caller).await?;
    let mut document = Document::with_capacity(64 + read.answer.len() * 24);
    document.text("{").decimal("revision", read.revision).text(",\"leases\":");
    document.list(read.answer, |document, id| {
        document.text("\"").text(&id.to_string()).text("\"");
    });
    document.text("}");
    Ok(answer::json(front.stamp.read(read.revision, read.freshness), document))
}

/// `GET /v1/leases/{id}`.
pub(crate) async fn get(front: SharedFront, request: Asked) -> Answered {
    let query = Query::parse(request.uri().query(), &["consistency"])?;
    let caller = Terms::read(request.headers())?.reader(consistency(&query)?);
    let id = lease_id(request.uri().path())?;
    let read = front.door.lease(&caller, id).await?;
    let headers = front.stamp.read(read.revision, read.freshness);
    let Some(lease) = read.answer else {
        let detail = format!("there is no lease {id}");
        let problem =
            Problem::new(StatusCode::NOT_FOUND, "lease_not_found", "No such lease", detail);
        return Ok(problem.respond(headers));
    };
    let mut document = Document::with_capacity(128);
    document.text("{").decimal("id", id).text(",").number("ttl_ms", lease.ttl_ms).text(",");
    document.number("remaining_ms", lease.remaining_ms).text(",\"keys\":");
    document.list(&lease.keys, |document, key| {
        document.base64(key);
    });
    document.text(",").decimal("revision", read.revision).text("}");
    Ok(answer::json(headers, document))
}

/// `DELETE /v1/leases/{id}`.
pub(crate) async fn revoke(front: SharedFront, request: Asked) -> Answered {
    Query::parse(request.uri().query(), &[])?;
    let caller = Terms::read(request.headers())?.writer()?;
    let written = front.door.lease_revoke(caller, lease_id(request.uri().path())?).await?;
    let mut document = Document::with_capacity(64);
    document.text("{").decimal("deleted", written.outcome).text(",");
    document.decimal("revision", written.revision).text("}");
    let response = answer::json(front.stamp.at(written.revision), document);
    Ok(answer::repeated(response, written.repeated))
}

/// `POST /v1/leases/{id}/keep-alive`.
pub(crate) async fn keep_alive(front: SharedFront, request: Asked) -> Answered {
    let (head, body) = request.into_parts();
    Query::parse(head.uri.query(), &[])?;
    let caller = Terms::read(&head.headers)?.writer()?;
    let id = lease_id(head.uri.path())?;
    let body = front.read_body(body, SMALL_BODY_BYTES_MAX).await?;
    json::parse_nothing(&body)?;
    let written = front.door.lease_keep_alive(caller, id).await?;
    let mut document = Document::with_capacity(64);
    document.text("{").decimal("id", id).text(",").number("ttl_ms", written.outcome).text("}");
    let response = answer::json(front.stamp.at(written.revision), document);
    Ok(answer::repeated(response, written.repeated))
}

/// `POST /v1/sessions`.
pub(crate) async fn open_session(front: SharedFront, request: Asked) -> Answered {
    let (head, body) = request.into_parts();
    Query::parse(head.uri.query(), &[])?;
    let caller = Terms::read(&head.headers)?.writer()?;
    let body = front.read_body(body, SMALL_BODY_BYTES_MAX).await?;
    json::parse_nothing(&body)?;
    let written = front.door.session_open(caller).await?;
    let ttl_ms = front.door.store(|store| store.settings().session_ttl_ms);
    let mut document = Document::with_capacity(64);
    document.text("{").decimal("session", written.outcome).text(",");
    document.number("ttl_ms", ttl_ms).text("}");
    let response = answer::json(front.stamp.at(written.revision), document);
    Ok(answer::repeated(response, written.repeated))
}

/// The id in the path of a lease.
fn lease_id(path: &str) -> Result<u64, Problem> {
    let id = path.split('/').nth(3).unwrap_or_default();
    id.parse().map_err(|_error| {
        Problem::bad_request("bad_request", format!("a lease id is a number, not {id:?}"))
    })
}
