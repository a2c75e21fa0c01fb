//! A call that failed, as one JSON document.
//!
//! Older callers look for `error`, newer ones for `message`; both are there.

use axum::body::Body;
use http::{HeaderValue, Response, header::CONTENT_TYPE};
use serde::Serialize;
use tonic::Status;

use crate::gateway::json::http_status;

#[derive(Serialize)]
struct Document<'a> {
    error: &'a str,
    code: i32,
    message: &'a str,
    details: [(); 0],
}

/// The answer to a call that failed.
pub(crate) fn refusal(status: &Status) -> Response<Body> {
    let message = status.message();
    let document = Document { error: message, code: status.code().into(), message, details: [] };
    let json = serde_json::to_vec(&document).expect("it is numbers and text");
    let mut response = Response::new(Body::from(json));
    *response.status_mut() = http_status(status.code());
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}
