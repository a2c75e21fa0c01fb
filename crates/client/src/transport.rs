//! HTTP/1.1 over [`Net`]: one request, one answer, connections kept for the next.
//!
//! Each endpoint has a bounded number of connections; the one used last is used next, so that spare
//! ones grow old and are dropped. The transport never repeats a request by itself: it says exactly
//! whether anything was sent, and `call.rs` decides. It knows nothing of keys or problems.

use std::{
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use mainstay_world::{Instant, Net, spawn, timeout};
use tokio::sync::Semaphore;

use crate::{endpoint::Endpoint, error::Failure};

/// The largest answer that is read: a page of the largest size a node gives, in base64.
const ANSWER_BYTES_MAX: usize = 128 * 1024 * 1024;
/// A kept connection older than this is not used again: the other side may be about to close it.
const IDLE_MAX: Duration = Duration::from_secs(20);

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct RawAnswer {
    pub(crate) endpoint: Endpoint,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl RawAnswer {
    /// The term that the node was in, 0 if it did not say.
    pub(crate) fn term(&self) -> u64 {
        term(&self.headers)
    }
}

/// The term in the headers of an answer, 0 if there is none.
pub(crate) fn term(headers: &HeaderMap) -> u64 {
    let text = headers.get("mainstay-term").and_then(|value| value.to_str().ok());
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The connections to one endpoint.
pub(crate) struct Transport {
    net: Arc<dyn Net>,
    endpoint: Endpoint,
    connect_timeout: Duration,
    /// One permit for each connection that is in use.
    permits: Semaphore,
    idle: Mutex<Vec<Idle>>,
}

/// A connection that waits for its next request.
struct Idle {
    connection: Connection,
    since: Instant,
}

type Connection = SendRequest<Full<Bytes>>;

impl Transport {
    pub(crate) fn new(
        net: Arc<dyn Net>,
        endpoint: Endpoint,
        connect_timeout: Duration,
        connections_max: usize,
    ) -> Self {
        Self {
            net,
            endpoint,
            connect_timeout,
            permits: Semaphore::new(connections_max),
            idle: Mutex::new(Vec::new()),
        }
    }

    pub(crate) const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Sends `request` and reads the whole answer, for at most `wait` in all.
    pub(crate) async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
        wait: Duration,
    ) -> Result<RawAnswer, Failure> {
        let deadline = Instant::now() + wait;
        let busy = || Failure::Busy { endpoint: self.endpoint.clone(), waited: wait };
        let _permit = timeout(wait, self.permits.acquire())
            .await
            .map_err(|_elapsed| busy())?
            .expect("the semaphore is never closed");
        let (connection, response) = self.send_pooled(request, deadline, wait).await?;
        let (parts, body) = response.into_parts();
        let body = self.read_body(body, deadline, wait).await?;
        self.keep(connection);
        Ok(RawAnswer {
            endpoint: self.endpoint.clone(),
            status: parts.status,
            headers: parts.headers,
            body,
        })
    }

    /// Sends `request` on a connection of its own and returns when the head of the answer is there.
    /// The connection ends with the body.
    pub(crate) async fn stream(
        &self,
        request: Request<Full<Bytes>>,
        wait: Duration,
    ) -> Result<Response<Incoming>, Failure> {
        let deadline = Instant::now() + wait;
        let connection = self.connect(deadline).await?;
        match self.send(connection, request, deadline, wait).await {
            Ok((_connection, response)) => Ok(response),
            Err(Unsent { failure, .. }) => Err(failure),
        }
    }

    /// Reads `body` to its end, until `deadline`.
    pub(crate) async fn read_body(
        &self,
        body: Incoming,
        deadline: Instant,
        wait: Duration,
    ) -> Result<Bytes, Failure> {
        let limited = Limited::new(body, ANSWER_BYTES_MAX).collect();
        match timeout(deadline.since(Instant::now()), limited).await {
            Ok(Ok(collected)) => Ok(collected.to_bytes()),
            Ok(Err(error)) => Err(match error.downcast::<hyper::Error>() {
                Ok(source) => Failure::Lost { endpoint: self.endpoint.clone(), source: *source },
                Err(other) => {
                    debug_assert!(other.is::<LengthLimitError>(), "a body fails in two ways only");
                    let what = format!("it is longer than {ANSWER_BYTES_MAX} bytes");
                    Failure::Malformed { endpoint: self.endpoint.clone(), what }
                }
            }),
            Err(_elapsed) => Err(self.timed_out(wait)),
        }
    }

    /// Sends on a kept connection if one works, else on a new one.
    async fn send_pooled(
        &self,
        mut request: Request<Full<Bytes>>,
        deadline: Instant,
        wait: Duration,
    ) -> Result<(Connection, Response<Incoming>), Failure> {
        while let Some(connection) = self.take_idle() {
            // A kept connection may have been closed since; then the request comes back untouched.
            match self.send(connection, request, deadline, wait).await {
                Ok(answered) => return Ok(answered),
                Err(Unsent { request: Some(untouched), .. }) => request = untouched,
                Err(Unsent { request: None, failure }) => return Err(failure),
            }
        }
        let connection = self.connect(deadline).await?;
        self.send(connection, request, deadline, wait).await.map_err(|unsent| unsent.failure)
    }

    async fn send(
        &self,
        mut connection: Connection,
        request: Request<Full<Bytes>>,
        deadline: Instant,
        wait: Duration,
    ) -> Result<(Connection, Response<Incoming>), Unsent> {
        let sent = timeout(deadline.since(Instant::now()), async {
            if let Err(source) = connection.ready().await {
                return Err((Some(request), source));
            }
            connection
                .try_send_request(request)
                .await
                .map_err(|mut error| (error.take_message(), error.into_error()))
        });
        let endpoint = self.endpoint.clone();
        match sent.await {
            Ok(Ok(response)) => Ok((connection, response)),
            Ok(Err((Some(request), source))) => Err(Unsent {
                request: Some(request),
                failure: Failure::NotSent { endpoint, source },
            }),
            Ok(Err((None, source))) => {
                Err(Unsent { request: None, failure: Failure::Lost { endpoint, source } })
            }
            Err(_elapsed) => Err(Unsent { request: None, failure: self.timed_out(wait) }),
        }
    }

    async fn connect(&self, deadline: Instant) -> Result<Connection, Failure> {
        let wait = self.connect_timeout.min(deadline.since(Instant::now()));
        let unreachable = |source| Failure::Unreachable { endpoint: self.endpoint.clone(), source };
        let stream = timeout(wait, self.net.connect(self.endpoint.address()))
            .await
            .map_err(|_elapsed| {
                let text = format!("no connection within {} ms", wait.as_millis());
                unreachable(io::Error::new(io::ErrorKind::TimedOut, text))
            })?
            .map_err(unreachable)?;
        let (connection, driver) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|source| Failure::NotSent { endpoint: self.endpoint.clone(), source })?;
        let endpoint = self.endpoint.clone();
        spawn(async move {
            // Whoever waits for an answer learns of the error too; this is for the log alone.
            if let Err(error) = driver.await {
                tracing::debug!(%endpoint, %error, "connection ended");
            }
        });
        Ok(connection)
    }

    fn take_idle(&self) -> Option<Connection> {
        let now = Instant::now();
        let mut idle = self.lock_idle();
        idle.retain(|kept| !kept.connection.is_closed() && now.since(kept.since) < IDLE_MAX);
        idle.pop().map(|kept| kept.connection)
    }

    fn keep(&self, connection: Connection) {
        if !connection.is_closed() {
            // Bounded by the permits: whoever keeps a connection held one for it.
            self.lock_idle().push(Idle { connection, since: Instant::now() });
        }
    }

    fn lock_idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn timed_out(&self, waited: Duration) -> Failure {
        Failure::TimedOut { endpoint: self.endpoint.clone(), waited }
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Transport")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

/// A request without an answer; with the request itself if none of it was sent.
struct Unsent {
    request: Option<Request<Full<Bytes>>>,
    failure: Failure,
}
