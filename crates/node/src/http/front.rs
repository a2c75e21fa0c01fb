//! What all routes share, and the way of every request.
//!
//! The key routes carry almost all traffic: they are matched here and go straight to their
//! handlers, without a box or a layer. The etcd API has a router of its own; everything else goes
//! through axum's.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::Router;
use bytes::{Bytes, BytesMut};
use http::{
    HeaderValue, Request, Response, StatusCode, Version,
    header::{CONNECTION, CONTENT_LENGTH},
};
use http_body_util::BodyExt as _;
use mainstay_etcd::EtcdApi;
use mainstay_service::Door;
use mainstay_world::Instant;
use tokio::sync::Notify;
use tower::Service as _;

use crate::{
    http::{body::Body, keys, problem::Problem, route::Route, stamp::Stamp},
    metrics::Metrics,
};

/// How long a request's body may take to arrive.
const BODY_MAX: Duration = Duration::from_secs(30);

/// Bytes of bodies that may be arriving, over all requests. A body that came in one piece with its
/// head is in the connection's buffer and does not count.
const ARRIVING_BYTES_MAX: usize = 512 * 1024 * 1024;

/// Bytes of a refused body that are read over.
const DISCARDED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What all routes share.
pub(crate) struct Front {
    pub(crate) door: Door,
    pub(crate) stamp: Stamp,
    pub(crate) metrics: Metrics,
    etcd: EtcdApi,
    all_done: Notify,
    stopping: AtomicBool,
    arriving_bytes: AtomicUsize,
}

impl Front {
    pub(crate) fn new(door: Door, etcd: EtcdApi, metrics: Metrics) -> Self {
        let stamp = Stamp::new(door.consensus().clone());
        Self {
            door,
            stamp,
            metrics,
            etcd,
            all_done: Notify::new(),
            stopping: AtomicBool::new(false),
            arriving_bytes: AtomicUsize::new(0),
        }
    }

    /// Answers one request.
    pub(crate) async fn answer<B>(&self, router: &Router, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Unpin + Send + 'static,
        B::Error: Into<axum::BoxError> + Send + Unpin,
    {
        let started = Instant::now();
        let _running = Running::enter(self);
        let is_etcd = EtcdApi::is_meant(&request);
        let route = if is_etcd { Route::ETCD } else { Route::of(request.uri().path()) };
        let (method, version) = (request.method().clone(), request.version());
        let mut response = if is_etcd {
            self.etcd.answer(request).await.map(Body::etcd)
        } else if self.is_stopping() && !route.is_about_the_node() {
            Problem::shutting_down().respond(self.stamp.now())
        } else if route == Route::KEY {
            match keys::answer(self, request).await {
                Ok(response) => response,
                Err(problem) => problem.respond(self.stamp.now()),
            }
        } else {
            let mut router = router.clone();
            match router.call(request.map(axum::body::Body::new)).await {
                Ok(response) => response.map(Body::routed),
                Err(never) => match never {},
            }
        };
        // Other versions have other ways to say it.
        if self.is_stopping() && version <= Version::HTTP_11 {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        self.metrics.request(route, &method, response.status(), started.elapsed());
        response
    }

    /// Whether the node is stopping.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Refuses new work from now on and ends watches; the node is not ready any more.
    pub(crate) fn refuse_work(&self) {
        self.stopping.store(true, Ordering::Release);
        self.etcd.stop();
        self.door.close_watches();
    }

    /// Returns when nothing runs.
    pub(crate) async fn finished(&self) {
        loop {
            let done = self.all_done.notified();
            if self.running() == 0 {
                return;
            }
            done.await;
        }
    }

    /// Requests that are being answered.
    pub(crate) fn running(&self) -> usize {
        self.metrics.running().load(Ordering::Acquire)
    }

    /// Reads a request's body, of at most `limit` bytes.
    pub(crate) async fn read_body<B>(&self, mut body: B, limit: usize) -> Result<Bytes, Problem>
    where
        B: http_body::Body<Data = Bytes> + Unpin,
    {
        let too_large = || Problem::too_large("the body", limit);
        let read = async {
            if body.size_hint().lower() > limit as u64 {
                discard(&mut body).await;
                return Err(too_large());
            }
            let mut first = Bytes::new();
            while first.is_empty() && !body.is_end_stream() {
                match next_data(&mut body).await? {
                    Some(data) => first = data,
                    None => return Ok(first),
                }
            }
            if body.is_end_stream() && first.len() <= limit {
                return Ok(first);
            }
            let mut arriving = Arriving { front: self, bytes: 0 };
            let mut whole = BytesMut::new();
            let mut part = first;
            loop {
                if whole.len() + part.len() > limit {
                    discard(&mut body).await;
                    return Err(too_large());
                }
                arriving.grow(part.len())?;
                whole.extend_from_slice(&part);
                match next_data(&mut body).await? {
                    Some(data) => part = data,
                    None => return Ok(whole.freeze()),
                }
            }
        };
        mainstay_world::timeout(BODY_MAX, read).await.unwrap_or_else(|_elapsed| {
            let title = "The request did not arrive";
            let detail = "the body did not arrive within 30 seconds";
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "bad_request", title, detail))
        })
    }
}

/// Reads over a body that is refused, up to a bound: a client that is still sending when the
/// connection is closed might never see the answer.
async fn discard<B>(body: &mut B)
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let mut left = DISCARDED_BYTES_MAX;
    while left > 0
        && let Ok(Some(data)) = next_data(body).await
    {
        left = left.saturating_sub(data.len());
    }
}

/// The next piece of a body.
async fn next_data<B>(body: &mut B) -> Result<Option<Bytes>, Problem>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return Err(Problem::bad_request("bad_request", "the body broke off"));
        };
        if let Ok(data) = frame.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

/// A request that is being answered.
struct Running<'a>(&'a Front);

impl<'a> Running<'a> {
    fn enter(front: &'a Front) -> Self {
        front.metrics.running().fetch_add(1, Ordering::AcqRel);
        Self(front)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if self.0.metrics.running().fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.all_done.notify_waiters();
        }
    }
}

/// Bytes of one body that is arriving in pieces.
struct Arriving<'a> {
    front: &'a Front,
    bytes: usize,
}

impl Arriving<'_> {
    fn grow(&mut self, bytes: usize) -> Result<(), Problem> {
        self.bytes += bytes;
        if self.front.arriving_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes
            > ARRIVING_BYTES_MAX
        {
            let detail = "too many large requests are arriving; nothing was done";
            return Err(Problem::overloaded(detail, Duration::from_millis(500)));
        }
        Ok(())
    }
}

impl Drop for Arriving<'_> {
    fn drop(&mut self) {
        self.front.arriving_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Largest body of a request that says little.
pub(crate) const SMALL_BODY_BYTES_MAX: usize = 64 * 1024;

/// What a handler of a route behind the router gets.
pub(crate) type Asked = Request<axum::body::Body>;

/// What every handler answers.
pub(crate) type Answered = Result<Response<Body>, Problem>;

/// The front, as handlers behind the router share it.
pub(crate) type SharedFront = Arc<Front>;

/// Whether `response` should say its length although it has no body, as an answer to HEAD does.
pub(crate) fn without_body(mut response: Response<Body>) -> Response<Body> {
    let length = http_body::Body::size_hint(response.body()).exact();
    if let Some(length) = length {
        response.headers_mut().insert(CONTENT_LENGTH, length.into());
    }
    *response.body_mut() = Body::empty();
    response
}
