//! gRPC to one server: HTTP/2 over a plain connection.
//!
//! One connection, opened when asked for and never again by itself: who calls decides what to do
//! when it breaks. Deliberately absent: TLS.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::http2::{Builder, SendRequest},
    rt::Executor,
};
use hyper_util::rt::TokioIo;
use mainstay_world::{self as world, Net, RealNet};
use tonic::body::Body;
use tower::Service;

/// How long a connection may take to be there.
const CONNECT_DEADLINE: Duration = Duration::from_secs(3);

/// What may be on its way on one stream before it is read: a page of keys.
const WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// A connection; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Channel(SendRequest<Body>);

impl Channel {
    /// Connects to `host:port`.
    pub(super) async fn open(address: &str) -> io::Result<Self> {
        let opening = async {
            let stream = RealNet.connect(address).await?;
            let (sender, connection) = Builder::new(WorldExecutor)
                .initial_stream_window_size(WINDOW_BYTES)
                .initial_connection_window_size(WINDOW_BYTES)
                .handshake(TokioIo::new(stream))
                .await
                .map_err(io::Error::other)?;
            // Whoever has a request on its way learns of a broken connection by its failing.
            world::spawn(async move { drop(connection.await) });
            Ok(Self(sender))
        };
        world::timeout(CONNECT_DEADLINE, opening)
            .await
            .unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

/// Starts what hyper runs beside a connection.
#[derive(Debug, Clone, Copy)]
struct WorldExecutor;

impl<F> Executor<F> for WorldExecutor
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        world::spawn(future);
    }
}
