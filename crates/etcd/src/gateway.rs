//! The JSON gateway: the same services for those who speak HTTP and JSON.
//!
//! It is a client of the gRPC services in the same process: a request's JSON becomes a message, the
//! service answers as it answers everybody, and the messages become JSON, each stream one line a
//! message. So there is one implementation, and JSON cannot come to mean something else.
//!
//! What JSON looks like is fixed by what callers rely on (`docs/etcd-compatibility.md`): fields by
//! the names of the protocol files, what is zero or empty left out, 64-bit numbers as strings,
//! bytes as base64, enums by name.

mod calls;
mod json;
mod refusal;
mod requests;

use std::sync::Arc;

use axum::{body::Body, extract::Request};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response,
    header::{AUTHORIZATION, CONTENT_TYPE, TE},
};
use tonic::Status;

pub(crate) use self::refusal::refusal;
use self::{
    calls::{Call, Calls},
    json::{MessageJson, write_error, write_result},
    requests::Requests,
};
use crate::{
    arriving::{Arriving, MESSAGE_MAX},
    frames::{Frames, frame},
    services::Services,
};

/// The old name of the API's first version.
const OLD_PREFIX: &str = "/v3beta/";

/// Headers with this prefix are metadata without it.
const METADATA_PREFIX: &str = "grpc-metadata-";

/// The gateway in front of the gRPC services; cheap to clone.
#[derive(Clone)]
pub(crate) struct Gateway {
    calls: Arc<Calls>,
    services: Services,
    arriving: Arriving,
}

impl Gateway {
    pub(crate) fn new(services: Services, arriving: Arriving) -> Self {
        Self { calls: Arc::new(Calls::new()), services, arriving }
    }

    /// Whether a path is one of the gateway's.
    pub(crate) fn is_meant(path: &str) -> bool {
        path.starts_with("/v3/") || path.starts_with(OLD_PREFIX)
    }

    /// Answers one request.
    pub(crate) async fn answer(&self, request: Request) -> Response<Body> {
        let path = request.uri().path();
        let path = path.strip_prefix(OLD_PREFIX).map(|rest| format!("/v3/{rest}"));
        let path = path.as_deref().unwrap_or_else(|| request.uri().path());
        let Some(call) = self.calls.get(path) else {
            return refusal(&Status::not_found("Not Found"));
        };
        if request.method() != Method::POST {
            return refusal(&Status::unimplemented("Method Not Allowed"));
        }
        let call = call.clone();
        self.call(call, request).await.unwrap_or_else(|status| refusal(&status))
    }

    async fn call(&self, call: Call, request: Request) -> Result<Response<Body>, Status> {
        let (head, body) = request.into_parts();
        let mut requests = Requests::new(body, call.input.clone(), self.arriving.share());
        let body = if call.asks_many {
            // Nothing is answered before the first is there, and nonsense is refused as such.
            let first = stream::iter(requests.next().await?.map(|first| Ok(frame(&first))));
            Body::from_stream(first.chain(requests.frames()))
        } else {
            let only = mainstay_world::timeout(MESSAGE_MAX, requests.only()).await;
            let late = |_| Status::deadline_exceeded("the body did not arrive");
            Body::from(frame(&only.map_err(late)??))
        };
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = call.grpc_path.parse().map_err(|_no_path| internal())?;
        *request.headers_mut() = metadata(&head.headers);
        let response = self.services.call(request).await;
        if let Some(status) = Status::from_header_map(response.headers())
            && status.code() != tonic::Code::Ok
        {
            return Err(status);
        }
        let frames = Frames::new(response.into_body());
        if call.answers_many {
            Ok(lines(frames, call.output))
        } else {
            one(frames, &call.output).await
        }
    }
}

/// The one message of an answer.
async fn one(mut frames: Frames, output: &MessageJson) -> Result<Response<Body>, Status> {
    let message = frames.next().await?.ok_or_else(internal)?;
    let mut json = Vec::with_capacity(message.len() * 2);
    output.write(message, &mut json)?;
    // The status comes after the message.
    frames.next().await?;
    Ok(json_response(Body::from(json)))
}

/// A stream of messages, one line each, with an error as the last one.
fn lines(frames: Frames, output: MessageJson) -> Response<Body> {
    let lines = stream::unfold(Some((frames, output)), |state| async move {
        let (mut frames, output) = state?;
        let told = async { frames.next().await?.map(|m| write_result(&output, m)).transpose() };
        match told.await {
            Ok(Some(line)) => Some((line, Some((frames, output)))),
            Ok(None) => None,
            Err(status) => Some((write_error(&status), None)),
        }
    });
    json_response(Body::from_stream(lines.map(Ok::<Bytes, std::convert::Infallible>)))
}

fn json_response(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    // Gateways of this kind pass on what the service said.
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert("grpc-metadata-content-type", grpc);
    response
}

/// What of a request's headers the services should see.
fn metadata(headers: &HeaderMap) -> HeaderMap {
    let mut metadata = HeaderMap::new();
    metadata.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    metadata.insert(TE, HeaderValue::from_static("trailers"));
    for (name, value) in headers {
        let name = match name.as_str() {
            "grpc-timeout" => name.clone(),
            _ if name == AUTHORIZATION => HeaderName::from_static("token"),
            text => match text.strip_prefix(METADATA_PREFIX).map(str::parse) {
                Some(Ok(name)) => name,
                _ => continue,
            },
        };
        metadata.append(name, value.clone());
    }
    metadata
}

fn internal() -> Status {
    Status::internal("the answer could not be read")
}
