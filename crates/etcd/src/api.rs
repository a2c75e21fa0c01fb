//! The API as one value: all services as a router, and what they share.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{BoxError, Router, body::Body, extract::Request};
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header::CONTENT_TYPE};
use http_body::Body as HttpBody;
use mainstay_consensus::{AppliedPosition, Consensus};
use mainstay_etcd_protocol::{
    etcdserverpb::{
        ResponseHeader, auth_server::AuthServer, cluster_server::ClusterServer,
        kv_server::KvServer, lease_server::LeaseServer, maintenance_server::MaintenanceServer,
        watch_server::WatchServer,
    },
    health::health_server::HealthServer,
    v3electionpb::election_server::ElectionServer,
    v3lockpb::lock_server::LockServer,
};
use mainstay_service::{Caller, Door};
use tokio::sync::watch;
use tonic::Status;

use crate::{
    arriving::{Arriving, CountedBody},
    auth::AuthService,
    cluster::ClusterService,
    election::ElectionService,
    error,
    gateway::{Gateway, refusal},
    health::HealthService,
    hot_calls::{AnswerBody, HotCalls},
    kv::KvService,
    lease::LeaseService,
    lock::LockService,
    maintenance::MaintenanceService,
    services::{CallCount, Services},
    watch::WatchService,
};

/// Bytes of a request's own content, as in etcd.
pub(crate) const REQUEST_BYTES_MAX: usize = 1024 * 1024 + 512 * 1024;

/// Bytes of a message that comes in, and that a large answer is cut into.
pub(crate) const MESSAGE_BYTES_MAX: usize = REQUEST_BYTES_MAX + 512 * 1024;

/// What the content type of gRPC is, before its parameters.
const GRPC: [&[u8]; 2] = [b"application/grpc", b"application/grpc+proto"];

/// What the path of a call begins with.
const CALLS: [&str; 4] = ["/etcdserverpb.", "/v3lockpb.", "/v3electionpb.", "/grpc."];

/// The etcd v3 API of one node; cheap to clone.
#[derive(Clone)]
pub struct EtcdApi {
    shared: Arc<Shared>,
    services: Services,
    hot_calls: HotCalls,
    gateway: Gateway,
    arriving: Arriving,
}

/// What all services share.
pub(crate) struct Shared {
    pub(crate) door: Door,
    /// How often a watcher that asked for it hears how far it is.
    pub(crate) progress_interval: Duration,
    applied: watch::Receiver<AppliedPosition>,
    /// Cluster and member, once the cluster is born; 0 before.
    cluster_id: AtomicU64,
    member_id: AtomicU64,
    stopping: watch::Sender<bool>,
}

impl EtcdApi {
    /// The API in front of `door`; every `progress_interval` a watcher that asked for it hears how
    /// far it is.
    #[must_use]
    pub fn new(door: Door, progress_interval: Duration) -> Self {
        let shared = Arc::new(Shared {
            applied: door.consensus().applied(),
            door,
            progress_interval,
            cluster_id: AtomicU64::new(0),
            member_id: AtomicU64::new(0),
            stopping: watch::Sender::new(false),
        });
        let services = Services::new(router(&shared));
        let arriving = Arriving::default();
        let gateway = Gateway::new(services.clone(), arriving.clone());
        let hot_calls = HotCalls::new(&shared, services.clone());
        Self { shared, services, hot_calls, gateway, arriving }
    }

    /// Whether a request is meant for this API: by its content, or by its path.
    #[must_use]
    pub fn is_meant<B>(request: &http::Request<B>) -> bool {
        let path = request.uri().path();
        Gateway::is_meant(path)
            || is_grpc(request)
            || CALLS.iter().any(|call| path.starts_with(call))
    }

    /// Answers one request.
    pub async fn answer<B>(&self, request: http::Request<B>) -> Response<AnswerBody>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError> + Send + Unpin,
    {
        let stopping = *self.shared.stopping.borrow();
        if stopping && (Gateway::is_meant(request.uri().path()) || is_grpc(&request)) {
            return refused(&request, &error::server_stopped());
        }
        if Gateway::is_meant(request.uri().path()) {
            let answering = Box::pin(self.gateway.answer(request.map(Body::new)));
            return answering.await.map(AnswerBody::general);
        }
        if !is_grpc(&request) {
            let mut response = Response::new(Body::from("this is called with gRPC\n"));
            *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return response.map(AnswerBody::general);
        }
        match self.hot_calls.answer(request).await {
            Ok(response) => response,
            // In a box of its own: this must not make every call as large as the largest.
            Err(request) => Box::pin(self.answer_generally(request.map(Body::new))).await,
        }
    }

    /// The answer of a node that is starting and has nothing to answer from: clients go elsewhere,
    /// or try again.
    #[must_use]
    pub fn answer_of_none<B>(request: &http::Request<B>) -> Response<AnswerBody> {
        refused(request, &error::unhealthy())
    }

    async fn answer_generally(&self, request: Request) -> Response<AnswerBody> {
        let request = request.map(|body| Body::new(CountedBody::new(body, &self.arriving)));
        self.services.call(request).await.map(AnswerBody::general)
    }

    /// What was called over either protocol, and how it ended.
    #[must_use]
    pub fn call_counts(&self) -> Vec<CallCount> {
        self.services.counts()
    }

    /// Refuses new work from now on and ends all streams.
    pub fn stop(&self) {
        self.shared.stopping.send_replace(true);
    }
}

/// The gRPC services.
fn router(shared: &Arc<Shared>) -> Router {
    macro_rules! services {
        ($($path:literal => $server:ident($service:expr)),* $(,)?) => {
            Router::new()$(.route_service(
                concat!("/", $path, "/{method}"),
                $server::new($service).max_decoding_message_size(MESSAGE_BYTES_MAX),
            ))*
        };
    }
    let shared = || Arc::clone(shared);
    services! {
        "etcdserverpb.KV" => KvServer(KvService(shared())),
        "etcdserverpb.Watch" => WatchServer(WatchService(shared())),
        "etcdserverpb.Lease" => LeaseServer(LeaseService(shared())),
        "etcdserverpb.Cluster" => ClusterServer(ClusterService(shared())),
        "etcdserverpb.Maintenance" => MaintenanceServer(MaintenanceService(shared())),
        "etcdserverpb.Auth" => AuthServer(AuthService(shared())),
        "v3lockpb.Lock" => LockServer(LockService(shared())),
        "v3electionpb.Election" => ElectionServer(ElectionService(shared())),
        "grpc.health.v1.Health" => HealthServer(HealthService(shared())),
    }
    .fallback(unknown)
}

/// A refusal, over the protocol of the request.
fn refused<B>(request: &http::Request<B>, status: &Status) -> Response<AnswerBody> {
    let response = if Gateway::is_meant(request.uri().path()) {
        refusal(status)
    } else {
        error::response(status)
    };
    response.map(AnswerBody::general)
}

fn is_grpc<B>(request: &http::Request<B>) -> bool {
    let content = request.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let kind = content.and_then(|content| content.split(|byte| *byte == b';').next());
    kind.is_some_and(|kind| GRPC.contains(&kind.trim_ascii()))
}

/// A service that is not there.
async fn unknown(request: Request) -> Response<Body> {
    let service = request.uri().path().trim_start_matches('/').split('/').next();
    let service = service.unwrap_or_default();
    error::response(&Status::unimplemented(format!("unknown service {service}")))
}

impl Shared {
    pub(crate) fn consensus(&self) -> &Consensus {
        self.door.consensus()
    }

    /// The header of an answer at `revision`.
    pub(crate) fn header_at(&self, revision: u64) -> ResponseHeader {
        let (cluster_id, member_id) = self.identity();
        let raft_term = self.consensus().term();
        ResponseHeader { cluster_id, member_id, revision: signed(revision), raft_term }
    }

    /// The header of an answer at the store's present revision.
    pub(crate) fn header(&self) -> ResponseHeader {
        self.header_at(self.revision())
    }

    /// The store's present revision.
    pub(crate) fn revision(&self) -> u64 {
        self.applied.borrow().revision
    }

    /// Cluster and member.
    pub(crate) fn identity(&self) -> (u64, u64) {
        let cluster_id = self.cluster_id.load(Ordering::Acquire);
        if cluster_id != 0 {
            return (cluster_id, self.member_id.load(Ordering::Acquire));
        }
        let status = self.consensus().status();
        // Before the birth of the cluster its id may come at any time; then it stays.
        self.member_id.store(status.node_id, Ordering::Release);
        self.cluster_id.store(status.cluster_id, Ordering::Release);
        (status.cluster_id, status.node_id)
    }

    /// Returns when this node knows of everything that was decided before.
    pub(crate) async fn catch_up(&self, caller: &Caller) -> Result<(), Status> {
        let caught_up = self.consensus().read_index(caller.deadline).await;
        caught_up.map_err(|error| error::of_door(error.into()))
    }

    /// Follows whether the API is stopping.
    pub(crate) fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.subscribe()
    }
}

/// A number of ours as etcd's protocol carries it; the store's own numbers are far smaller.
pub(crate) const fn signed(number: u64) -> i64 {
    number.cast_signed()
}
