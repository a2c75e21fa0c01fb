//! gRPC over the simulated network: one HTTP/2 connection to one node, made when it is needed.
//!
//! A connection that broke is forgotten and made anew with the next call. Nothing is repeated: who
//! calls is told whether anything was sent.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use hyper::{
    body::Incoming,
    client::conn::http2::{Builder, SendRequest},
};
use hyper_util::rt::TokioIo;
use mainstay_world::{self as world, Net};
use tonic::body::Body;

use crate::cluster::client_address;

/// How long a client dials.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(250);

/// Bytes that a node may send before they are read: what HTTP/2 begins with.
const WINDOW_BYTES: u32 = 65_535;

/// A call that got no answer.
#[derive(Debug, thiserror::Error)]
#[error("no answer")]
pub(super) struct Broken {
    /// Whether anything may have been sent.
    pub(super) sent: bool,
}

/// The way to one node; clones share the connection.
#[derive(Clone)]
pub(super) struct Channel {
    net: Arc<dyn Net>,
    node: u32,
    open: Arc<Mutex<Option<SendRequest<Body>>>>,
}

impl Channel {
    /// The way to a node; nothing is dialled yet.
    pub(super) fn new(net: Arc<dyn Net>, node: u32) -> Self {
        Self { net, node, open: Arc::default() }
    }

    /// What calls name as their target.
    pub(super) fn origin(&self) -> http::Uri {
        let origin = format!("http://{}", client_address(self.node));
        origin.parse().expect("a simulated address is well formed")
    }

    /// Forgets the connection, which may be stuck.
    pub(super) fn forget(&self) {
        *self.open() = None;
    }

    async fn connection(&self) -> Result<SendRequest<Body>, Broken> {
        let kept = self.open().clone().filter(|sender| !sender.is_closed());
        if let Some(kept) = kept {
            return Ok(kept);
        }
        let unsent = || Broken { sent: false };
        let address = client_address(self.node);
        let dialled = world::timeout(CONNECT_TIMEOUT, self.net.connect(&address)).await;
        let stream = dialled.map_err(|_elapsed| unsent())?.map_err(|_error| unsent())?;
        // Small windows: what a client does not read waits on the node.
        let shaken = Builder::new(Executor)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .handshake(TokioIo::new(stream))
            .await;
        let (sender, connection) = shaken.map_err(|_error| unsent())?;
        world::spawn(async move {
            let _ended = connection.await;
        });
        *self.open() = Some(sender.clone());
        Ok(sender)
    }

    async fn send(self, request: http::Request<Body>) -> Result<http::Response<Incoming>, Broken> {
        let mut sender = self.connection().await?;
        if sender.ready().await.is_err() {
            self.forget();
            return Err(Broken { sent: false });
        }
        sender.send_request(request).await.map_err(|_error| {
            self.forget();
            Broken { sent: true }
        })
    }

    fn open(&self) -> MutexGuard<'_, Option<SendRequest<Body>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl tower::Service<http::Request<Body>> for Channel {
    type Response = http::Response<Incoming>;
    type Error = Broken;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Broken>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.clone().send(request))
    }
}

/// Runs the streams of a connection on the clients' host.
#[derive(Debug, Clone, Copy)]
struct Executor;

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        world::spawn(future);
    }
}
