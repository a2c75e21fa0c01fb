//! The one accept loop: connections in, requests to the front, and an orderly end.
//!
//! HTTP/1.1 and HTTP/2 are told apart by what the client says first. hyper writes no date header:
//! it would read the OS clock. Everything hyper starts goes through `world`.

use std::{convert::Infallible, future::Future, pin::pin, sync::Arc, time::Duration};

use axum::Router;
use http::{Request, Version};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{rt::TokioIo, server::conn::auto};
use mainstay_world::{Listener, Stream};
use tokio::{io::AsyncWriteExt as _, sync::watch};
use tracing::{debug, warn};

use crate::http::{
    connection::{Connections, OpenConnection, WatchedStream},
    front::Front,
    router::router,
    timer::WorldTimer,
};

/// Connections open at a time: ten thousand watchers and as many others.
const CONNECTIONS_MAX: usize = 20_000;

/// Largest head of a request, and a connection's read buffer.
const BUFFER_BYTES_MAX: usize = 64 * 1024;

/// Requests at a time on one HTTP/2 connection.
const STREAMS_MAX: u32 = 1_000;

/// How often an HTTP/2 peer is asked whether it is there, and how long it has to answer. So a quiet
/// stream of watches counts as one on which something happens, and one whose client is gone ends.
const PING_INTERVAL: Duration = Duration::from_secs(300);
const PING_MAX: Duration = Duration::from_secs(20);

/// The pause after a connection could not be accepted, as when file descriptors run out.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long a connection that is refused has to take the reason.
const REFUSAL_MAX: Duration = Duration::from_millis(100);

/// How long a kept connection on which nothing runs has to send one more request, which is refused
/// in words, before it is closed. Closed at once, a request that is on its way at that moment would
/// be lost without one.
const LAST_WORD: Duration = Duration::from_millis(300);

/// What a connection beyond the limit is told.
const TOO_MANY_CONNECTIONS: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    content-type: application/problem+json\r\nconnection: close\r\nretry-after: 1\r\n\
    content-length: 184\r\n\r\n\
    {\"type\":\"about:blank\",\"title\":\"Too much is going on\",\"status\":503,\
    \"detail\":\"this node has as many connections as it takes\",\"code\":\"overloaded\",\
    \"took_effect\":\"no\",\"retry_after_ms\":1000}";

/// A running front.
pub(crate) struct Server {
    shared: Arc<Shared>,
    stage: watch::Sender<Stage>,
}

/// How far a server is on the way to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It takes requests.
    Serving,
    /// It refuses new work and finishes what runs; connections are told to close.
    Leaving,
    /// It takes no connection and closes those on which nothing runs.
    Closing,
}

struct Shared {
    front: Arc<Front>,
    router: Router,
    connections: Arc<Connections>,
    builder: auto::Builder<WorldExecutor>,
}

impl Server {
    /// Serves `listener` until it is stopped.
    pub(crate) fn start(
        listener: Box<dyn Listener>,
        front: Arc<Front>,
        connections: Arc<Connections>,
    ) -> Self {
        let router = router(&front);
        let shared = Arc::new(Shared { front, router, connections, builder: builder() });
        let (stage, stages) = watch::channel(Stage::Serving);
        mainstay_world::spawn(accept(Arc::clone(&shared), listener, stages));
        Self { shared, stage }
    }

    /// Refuses new work, finishes what runs and closes all connections, in at most `within`;
    /// answers how many requests were left unfinished.
    pub(crate) async fn stop(&self, within: Duration) -> usize {
        let Shared { front, connections, .. } = &*self.shared;
        front.refuse_work();
        self.stage.send_replace(Stage::Leaving);
        let stopped = async {
            let _all_closed = mainstay_world::timeout(LAST_WORD, connections.closed()).await;
            front.finished().await;
            self.stage.send_replace(Stage::Closing);
            connections.closed().await;
        };
        let _in_time = mainstay_world::timeout(within, stopped).await;
        self.stage.send_replace(Stage::Closing);
        front.running()
    }
}

/// What every connection to clients is served by.
pub(crate) fn builder() -> auto::Builder<WorldExecutor> {
    let mut builder = auto::Builder::new(WorldExecutor);
    // Never `pipeline_flush`: it holds answers back while bytes of a further request wait, and so
    // keeps every refusal of what is no HTTP, or too large a head, from being sent at all.
    builder.http1().auto_date_header(false).max_buf_size(BUFFER_BYTES_MAX);
    builder
        .http2()
        .auto_date_header(false)
        .timer(WorldTimer)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_MAX)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(BUFFER_BYTES_MAX).unwrap_or(u32::MAX));
    builder
}

async fn accept(
    shared: Arc<Shared>,
    mut listener: Box<dyn Listener>,
    mut stages: watch::Receiver<Stage>,
) {
    let connections = Arc::clone(&shared.connections);
    let mut looking_after = pin!(connections.look_after());
    loop {
        let accepted = tokio::select! {
            biased;
            _closing = stages.wait_for(|stage| *stage == Stage::Closing) => return,
            () = &mut looking_after => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _peer)) => match shared.connections.open(CONNECTIONS_MAX) {
                Some(open) => {
                    let serving = serve(Arc::clone(&shared), stream, open, stages.clone());
                    mainstay_world::spawn(serving);
                }
                None => refuse(stream).await,
            },
            Err(error) => {
                warn!(%error, "a connection could not be accepted");
                mainstay_world::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Tells a connection beyond the limit to come back.
async fn refuse(mut stream: Stream) {
    warn!(limit = CONNECTIONS_MAX, "a connection was refused: there are too many");
    let _told = mainstay_world::timeout(REFUSAL_MAX, stream.write_all(TOO_MANY_CONNECTIONS)).await;
}

async fn serve(
    shared: Arc<Shared>,
    stream: Stream,
    open: OpenConnection,
    mut stages: watch::Receiver<Stage>,
) {
    let stream = TokioIo::new(WatchedStream::new(stream, Arc::clone(&open.state)));
    let service = service_fn(|request: Request<Incoming>| {
        let (shared, state) = (Arc::clone(&shared), Arc::clone(&open.state));
        async move {
            let _answering = state.answer(request.version() == Version::HTTP_2);
            Ok::<_, Infallible>(shared.front.answer(&shared.router, request).await)
        }
    });
    let mut connection = pin!(shared.builder.serve_connection(stream, service));
    // HTTP/2 can tell its peer to go while requests are on their way; HTTP/1.1 does it with the
    // next answer, and is closed when there was time for one.
    let closes = |stage: &Stage| match stage {
        Stage::Serving => false,
        Stage::Leaving => open.state.is_multiplexed(),
        Stage::Closing => true,
    };
    let mut closing = false;
    loop {
        tokio::select! {
            biased;
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    debug!(error, "a connection broke off");
                }
                return;
            }
            () = open.state.ended() => return,
            _closing = stages.wait_for(closes), if !closing => {
                closing = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Starts what hyper wants to run beside a connection (HTTP/2 streams) in the node's scope.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WorldExecutor;

impl<F> hyper::rt::Executor<F> for WorldExecutor
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        mainstay_world::spawn(future);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_of_a_connection_is_a_whole_answer() {
        let text = std::str::from_utf8(TOO_MANY_CONNECTIONS).expect("is text");
        let (head, body) = text.split_once("\r\n\r\n").expect("has a head and a body");
        assert!(head.contains(&format!("content-length: {}", body.len())), "{}", body.len());
        let document: serde_json::Value = serde_json::from_str(body).expect("is JSON");
        assert_eq!(document["code"], "overloaded");
    }
}
