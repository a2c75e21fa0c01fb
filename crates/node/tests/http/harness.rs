//! A node of one member in a temporary folder, and a client that sends exactly what it is told.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use mainstay_node::{Config, ExitReason, Listeners, Options, RunError};
use mainstay_world::{Buggify, Disk, MemoryHistory, Net, RealDisk, RealNet, Scope, World};
use serde_json::Value;
use tokio::{sync::oneshot, task::JoinHandle};

/// A running node.
pub(crate) struct Node {
    pub(crate) address: String,
    pub(crate) history: Arc<MemoryHistory>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<ExitReason, RunError>>,
    _folder: tempfile::TempDir,
}

/// What a node answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {:?}", self.body))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().expect("headers are text"))
    }

    /// The code of a problem document, which must be one in every other way too.
    pub(crate) fn code(&self) -> String {
        let document = self.json();
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(document["status"], self.status.as_u16());
        for member in ["type", "title", "detail", "code", "took_effect"] {
            assert!(document[member].is_string(), "{member} is missing in {document}");
        }
        assert_eq!(document["retry_after_ms"].is_number(), !self.header("retry-after").is_empty());
        document["code"].as_str().expect("a code is a string").to_owned()
    }
}

/// Runs a test against a node that leads its cluster of one.
pub(crate) fn with_node<F: Future<Output = Node>>(test: impl FnOnce(Node) -> F) {
    let reason = with_node_on(|disk| disk, test);
    assert_eq!(reason, ExitReason::Requested);
}

/// Runs a test against a node whose disks are wrapped; answers why the node ended.
pub(crate) fn with_node_on<F: Future<Output = Node>>(
    wrap: impl Fn(Arc<dyn Disk>) -> Arc<dyn Disk>,
    test: impl FnOnce(Node) -> F,
) -> ExitReason {
    run(&wrap, Box::new(|node| Box::pin(test(node))))
}

/// A test, with its type forgotten: what runs it is compiled once and not for each of them.
type Test<'a> = Box<dyn FnOnce(Node) -> Pin<Box<dyn Future<Output = Node> + 'a>> + 'a>;

fn run(wrap: &dyn Fn(Arc<dyn Disk>) -> Arc<dyn Disk>, test: Test<'_>) -> ExitReason {
    let runtime = mainstay_node::runtime(mainstay_node::RuntimeKind::CurrentThread);
    runtime.expect("a runtime").block_on(Box::pin(async {
        let node = Node::start(wrap).await;
        let node = test(node).await;
        node.stop().await
    }))
}

impl Node {
    async fn start(wrap: &dyn Fn(Arc<dyn Disk>) -> Arc<dyn Disk>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = |name| {
            let disk = RealDisk::start(folder.path(), name).expect("a disk thread");
            wrap(Arc::new(disk))
        };
        let history = Arc::new(MemoryHistory::default());
        let world = World {
            log_disk: disk("log-disk"),
            snapshot_disk: disk("snapshot-disk"),
            net: Arc::new(RealNet),
            history: Arc::clone(&history) as _,
            buggify: Buggify::none(),
        };
        let listeners = Listeners {
            client: RealNet.bind("127.0.0.1:0").await.expect("binds"),
            peer: RealNet.bind("127.0.0.1:0").await.expect("binds"),
        };
        let address = listeners.client.local_addr().expect("has an address").to_string();
        let peer = listeners.peer.local_addr().expect("has an address");
        let options = Options {
            name: Some("n1".to_owned()),
            client_addr: Some(address.clone()),
            peer_addr: Some(peer.to_string()),
            bootstrap: Some(vec![format!("n1={peer}")]),
            ..Options::default()
        };
        let config = Config::resolve(options, Options::default(), Options::default())
            .expect("the options are usable");
        let (stop, stopped) = oneshot::channel::<()>();
        let running = async move {
            let shutdown = async {
                let _told = stopped.await;
            };
            Box::pin(mainstay_node::run_in(world, listeners, config, shutdown)).await
        };
        let task = mainstay_world::spawn(Scope::production().run(Box::pin(running)));
        let node = Self { address, history, stop: Some(stop), task, _folder: folder };
        node.until("the node is ready", async |node| {
            match node.try_send("GET", "/health/ready", &[], Bytes::new()).await {
                Some(answer) => answer.status == StatusCode::OK,
                None => false,
            }
        })
        .await;
        node
    }

    /// Tells the node to stop and waits until it has.
    pub(crate) async fn stop(mut self) -> ExitReason {
        drop(self.stop.take());
        let ended = mainstay_world::timeout(Duration::from_secs(20), &mut self.task).await;
        ended.expect("the node stops in time").expect("the node does not panic").expect("ran")
    }

    /// Tells the node to stop, and goes on.
    pub(crate) fn begin_to_stop(&mut self) {
        drop(self.stop.take());
    }

    /// Waits until something holds, at most 10 seconds.
    pub(crate) async fn until(&self, what: &str, mut holds: impl AsyncFnMut(&Self) -> bool) {
        let waited = mainstay_world::timeout(Duration::from_secs(10), async {
            while !holds(self).await {
                mainstay_world::sleep(Duration::from_millis(5)).await;
            }
        });
        assert!(waited.await.is_ok(), "{what}: not within 10 seconds");
    }

    /// Sends a request on a connection of its own.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let answer = self.try_send(method, path, headers, body.into()).await;
        answer.unwrap_or_else(|| panic!("{method} {path} got no answer"))
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], Bytes::new()).await
    }

    pub(crate) async fn put(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        self.send("PUT", path, &[], body).await
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        self.send("POST", path, &[], body).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, &[], Bytes::new()).await
    }

    async fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Option<Answer> {
        let response = self.open(method, path, headers, body).await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.ok()?.to_bytes();
        Some(Answer { status: head.status, headers: head.headers, body })
    }

    /// Sends a request and answers with the response's head, its body still to come.
    pub(crate) async fn open(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Option<http::Response<Incoming>> {
        let stream = RealNet.connect(&self.address).await.ok()?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
        mainstay_world::spawn(async {
            let _ended = connection.await;
        });
        let method = Method::from_bytes(method.as_bytes()).expect("is a method");
        let mut request = Request::builder().method(method).uri(path).header("host", "node");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body)).expect("is a request");
        sender.send_request(request).await.ok()
    }
}
