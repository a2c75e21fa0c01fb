//! Answers that are not problems.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header::CONTENT_TYPE};

use crate::http::{body::Body, json::Document};

const REPEATED: HeaderName = HeaderName::from_static("mainstay-repeated");

/// A JSON document.
pub(crate) fn json(headers: HeaderMap, document: Document) -> Response<Body> {
    bytes(headers, "application/json", document.finish())
}

/// Bytes of a type.
pub(crate) fn bytes(
    mut headers: HeaderMap,
    content_type: &'static str,
    content: Bytes,
) -> Response<Body> {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    let mut response = Response::new(Body::full(content));
    *response.headers_mut() = headers;
    response
}

/// Says that this is the answer to an earlier request, if it is.
pub(crate) fn repeated(mut response: Response<Body>, repeated: bool) -> Response<Body> {
    if repeated {
        response.headers_mut().insert(REPEATED, HeaderValue::from_static("true"));
    }
    response
}
