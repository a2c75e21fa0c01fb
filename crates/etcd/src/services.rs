//! The gRPC services as one, with a count of what was called and how it ended.
//!
//! Dashboards and alerts of etcd go by these counts. A call of one answer is counted by its code; a
//! stream is counted by the code that it began with, since it may run for weeks.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use axum::{Router, body::Body, extract::Request};
use http::Response;
use mainstay_etcd_protocol::DESCRIPTORS;
use prost_reflect::{DescriptorPool, MethodDescriptor};
use tonic::{Code, Status};
use tower::Service as _;

use crate::error;

/// Codes that there are; they are numbered from 0.
const CODES: usize = 17;

/// All services; cheap to clone.
#[derive(Clone)]
pub(crate) struct Services {
    router: Router,
    methods: Arc<Vec<Method>>,
}

/// One method, and how its calls ended.
struct Method {
    path: String,
    service: String,
    name: String,
    kind: &'static str,
    ended: [AtomicU64; CODES],
}

/// How often a method was called and ended with a code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallCount {
    /// The service's full name.
    pub service: String,
    /// The method.
    pub method: String,
    /// `unary`, or which side streams, as gRPC's metrics call it.
    pub kind: &'static str,
    /// The code, as gRPC's metrics write it.
    pub code: &'static str,
    /// How often.
    pub count: u64,
}

impl Services {
    pub(crate) fn new(router: Router) -> Self {
        let pool = DescriptorPool::decode(DESCRIPTORS).expect("the build made the descriptors");
        let methods = pool.services().flat_map(|service| service.methods().collect::<Vec<_>>());
        Self { router, methods: Arc::new(methods.map(|method| Method::new(&method)).collect()) }
    }

    /// Answers one call.
    pub(crate) async fn call(&self, request: Request) -> Response<Body> {
        let called = self.method(request.uri().path());
        let response = match self.router.clone().call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let status = Status::from_header_map(response.headers()).map(error::of_message);
        if let Some(called) = called {
            called.count(status.as_ref().map_or(Code::Ok, Status::code));
        }
        match status {
            Some(status) if status.code() == Code::ResourceExhausted => error::response(&status),
            _ => response,
        }
    }

    /// Counts a call that was answered elsewhere.
    pub(crate) fn count(&self, path: &str, code: Code) {
        if let Some(called) = self.method(path) {
            called.count(code);
        }
    }

    fn method(&self, path: &str) -> Option<&Method> {
        self.methods.iter().find(|method| method.path == path)
    }

    /// What was called; only what occurred.
    pub(crate) fn counts(&self) -> Vec<CallCount> {
        let counts = |method: &Method| {
            let count = |code: usize| CallCount {
                service: method.service.clone(),
                method: method.name.clone(),
                kind: method.kind,
                code: code_name(code),
                count: method.ended[code].load(Ordering::Relaxed),
            };
            (0..CODES).map(count).filter(|count| count.count > 0).collect::<Vec<_>>()
        };
        self.methods.iter().flat_map(counts).collect()
    }
}

impl Method {
    fn new(method: &MethodDescriptor) -> Self {
        let service = method.parent_service().full_name().to_owned();
        Self {
            path: format!("/{service}/{}", method.name()),
            service,
            name: method.name().to_owned(),
            kind: match (method.is_client_streaming(), method.is_server_streaming()) {
                (false, false) => "unary",
                (true, false) => "client_stream",
                (false, true) => "server_stream",
                (true, true) => "bidi_stream",
            },
            ended: std::array::from_fn(|_code| AtomicU64::new(0)),
        }
    }

    fn count(&self, code: Code) {
        let code: i32 = code.into();
        if let Some(ended) = usize::try_from(code).ok().and_then(|code| self.ended.get(code)) {
            ended.fetch_add(1, Ordering::Relaxed);
        }
    }
}

const fn code_name(code: usize) -> &'static str {
    const NAMES: [&str; CODES] = [
        "OK",
        "Canceled",
        "Unknown",
        "InvalidArgument",
        "DeadlineExceeded",
        "NotFound",
        "AlreadyExists",
        "PermissionDenied",
        "ResourceExhausted",
        "FailedPrecondition",
        "Aborted",
        "OutOfRange",
        "Unimplemented",
        "Internal",
        "Unavailable",
        "DataLoss",
        "Unauthenticated",
    ];
    NAMES[code]
}
