//! `POST /v1/compact`: forgetting old revisions.

use serde::Deserialize;

use crate::http::{
    answer,
    front::{Answered, Asked, SMALL_BODY_BYTES_MAX, SharedFront},
    json::{self, Decimal, Document},
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
    let written = front.door.compact(caller, form.revision.0).await?;
    let mut document = Document::with_capacity(64);
    document.text("{").decimal("revision", written.revision).text(",");
    document.decimal("compact_revision", written.outcome).text("}");
    let response = answer::json(front.stamp.at(written.revision), document);
    Ok(answer::repeated(response, written.repeated))
}
