//! `GET /metrics`: the page that Prometheus reads.

use bytes::Bytes;
use http::StatusCode;

use crate::http::{
    answer,
    front::{Answered, Asked, SharedFront},
    problem::Problem,
    query::Query,
};

/// The type of the text that Prometheus reads.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// `GET /metrics`.
pub(crate) async fn get(front: SharedFront, request: Asked) -> Answered {
    Query::parse(request.uri().query(), &[])?;
    let text = front.metrics.render().map_err(|_format_error| {
        let detail = "the metrics could not be written down";
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "A bug", detail)
    })?;
    Ok(answer::bytes(front.stamp.now(), OPEN_METRICS, Bytes::from(text)))
}
