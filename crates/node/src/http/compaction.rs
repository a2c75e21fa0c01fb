//! `POST /v1/compact`: forgetting old revisions.

use http::StatusCode;
use mainstay_kv::{QueryError, Refusal};
use mainstay_service::DoorError;
use serde::Deserialize;

use crate::http::{
    answer,
    front::{Answered, Asked, SMALL_BODY_BYTES_MAX, SharedFront},
    json::{self, Decimal, Document},
    problem::Problem,
    query::Query,
    terms::Terms,
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    revision: Decimal,
}

/// `POST /v1/compact`.
pub(crate) async fn post(front: SharedFront, request: Asked) -> Answered {
    let (head, body) = request.into_parts();
    Query::parse(head.uri.query(), &[])?;
    let caller = Terms::read(&head.headers)?.writer()?;
    let body = front.read_body(body, SMALL_BODY_BYTES_MAX).await?;
    let form: Form = json::parse(&body)?;
    let written = front.door.compact(caller, form.revision.0).await.map_err(not_compacted)?;
    let mut document = Document::with_capacity(64);
    document.text("{").decimal("revision", written.revision).text(",");
    document.decimal("compact_revision", written.outcome).text("}");
    let response = answer::json(front.stamp.at(written.revision), document);
    Ok(answer::repeated(response, written.repeated))
}

/// A read of a compacted revision is told which one it could read; here that would be the very
/// revision that was named.
fn not_compacted(error: DoorError) -> Problem {
    use Refusal::Query;
    let (DoorError::Refused(Query(query)) | DoorError::RefusedBefore(Query(query))) = &error else {
        return error.into();
    };
    let QueryError::Compacted { compact_revision, .. } = query else { return error.into() };
    let detail = match compact_revision {
        0 => "there is nothing below revision 0; nothing was done".to_owned(),
        _ => format!(
            "everything below revision {compact_revision} is compacted already; nothing was done"
        ),
    };
    Problem::new(StatusCode::GONE, "compacted", "Compacted already", detail)
        .member("compact_revision", compact_revision.to_string())
}
