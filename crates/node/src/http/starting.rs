//! The client port of a node that reads its log and is not there yet.
//!
//! Whoever asks is told at once: the process lives, and everything else is to be asked of another
//! node or again in a moment. Without this a connection would be taken and left unanswered for as
//! long as the node reads, which probes take for a node that hangs and clients wait out.

use std::{convert::Infallible, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, Version, header::CONNECTION};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{rt::TokioIo, server::conn::auto};
use mainstay_etcd::EtcdApi;
use mainstay_world::{Listener, Stream};
use tokio::sync::{Semaphore, watch};

use crate::http::{
    answer,
    body::Body,
    problem::Problem,
    server::{ACCEPT_PAUSE, WorldExecutor, builder},
};

/// Connections at a time; others wait to be accepted.
const CONNECTIONS_MAX: usize = 256;

/// How long a connection may take to ask and to be answered.
const CONNECTION_MAX: Duration = Duration::from_secs(5);

/// Answers whoever comes, until it is dropped; connections that are open then are closed.
pub(crate) async fn answer_meanwhile(listener: &mut dyn Listener) -> Infallible {
    let builder = builder();
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let (_until_dropped, over) = watch::channel(());
    loop {
        // It is never closed; without a place nothing is accepted.
        let place = Arc::clone(&places).acquire_owned().await.ok();
        match listener.accept().await {
            Ok((stream, _peer)) => {
                let (builder, over) = (builder.clone(), over.clone());
                mainstay_world::spawn(async move {
                    serve(builder, stream, over).await;
                    drop(place);
                });
            }
            Err(_of_one_connection) => mainstay_world::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn serve(
    builder: auto::Builder<WorldExecutor>,
    stream: Stream,
    mut over: watch::Receiver<()>,
) {
    let service = service_fn(|request: Request<Incoming>| async move {
        let mut response = if EtcdApi::is_meant(&request) {
            EtcdApi::answer_of_none(&request).map(Body::etcd)
        } else {
            respond(request.uri().path())
        };
        // So that whoever keeps connections comes back to the node itself.
        if request.version() <= Version::HTTP_11 {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok::<_, Infallible>(response)
    });
    let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        biased;
        // What became of it, nobody needs to know.
        _ended = serving.as_mut() => {}
        _dropped = over.changed() => {}
        () = mainstay_world::sleep(CONNECTION_MAX) => {}
    }
}

fn respond(path: &str) -> Response<Body> {
    if matches!(path, "/livez" | "/health/live") {
        return answer::bytes(HeaderMap::new(), "text/plain", Bytes::from_static(b"ok\n"));
    }
    let detail = "this node is starting and reads its log; nothing was done, ask another node or \
                  again in a moment";
    Problem::unavailable("not_ready", detail).respond(HeaderMap::new())
}

#[cfg(test)]
mod tests {
    use mainstay_world::{Net as _, RealNet, Scope};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// What a node that is starting says to one request.
    async fn asked(net: &RealNet, address: &str, path: &str) -> String {
        let mut stream = net.connect(address).await.expect("connects");
        let request = format!("GET {path} HTTP/1.1\r\nhost: node\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sends");
        let mut said = String::new();
        stream.read_to_string(&mut said).await.expect("answers and closes");
        said
    }

    #[tokio::test]
    async fn while_a_node_starts_it_says_so_at_once_and_that_it_lives() {
        Scope::production()
            .run(Box::pin(async {
                let net = RealNet;
                let mut listener = net.bind("127.0.0.1:0").await.expect("binds");
                let address = listener.local_addr().expect("is bound").to_string();
                let asking = async {
                    let live = asked(&net, &address, "/livez").await;
                    assert!(live.starts_with("HTTP/1.1 200") && live.ends_with("ok\n"), "{live}");
                    for path in ["/readyz", "/health", "/v1/kv/a"] {
                        let said = asked(&net, &address, path).await;
                        assert!(said.starts_with("HTTP/1.1 503"), "{path}: {said}");
                        assert!(said.contains("\"code\":\"not_ready\""), "{path}: {said}");
                        assert!(said.contains("\"took_effect\":\"no\""), "{path}: {said}");
                        assert!(said.to_lowercase().contains("retry-after: 1"), "{path}: {said}");
                    }
                    // etcd's clients know this as a reason to go elsewhere.
                    let said = asked(&net, &address, "/v3/kv/range").await;
                    assert!(said.starts_with("HTTP/1.1 503"), "{said}");
                    assert!(said.contains("\"code\":14"), "{said}");
                };
                tokio::select! {
                    () = asking => {}
                    never = answer_meanwhile(listener.as_mut()) => match never {},
                }
            }))
            .await;
    }
}
