//! `GET /openapi.json`: the API in a machine's form.

use bytes::Bytes;

use crate::http::{
    answer,
    front::{Answered, Asked, SharedFront},
    query::Query,
};

/// The document, checked against the routes by a test.
const DOCUMENT: &str = include_str!("openapi.json");

/// `GET /openapi.json`.
pub(crate) async fn get(front: SharedFront, request: Asked) -> Answered {
    Query::parse(request.uri().query(), &[])?;
    let document = Bytes::from_static(DOCUMENT.as_bytes());
    Ok(answer::bytes(front.stamp.now(), "application/json", document))
}
