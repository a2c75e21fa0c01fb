//! How a node starts, what it says when it cannot, and how it ends.

use bytes::Bytes;
use mainstay_node::{Config, ExitReason, Listeners, Options, RunError};
use mainstay_world::{Net, RealNet};

use crate::harness::{Node, with_node};

fn config(options: Options) -> Config {
    Config::resolve(options, Options::default(), Options::default()).expect("is usable")
}

#[tokio::test]
async fn a_port_in_use_is_named_with_the_option_to_change() {
    let taken = RealNet.bind("127.0.0.1:0").await.expect("binds");
    let address = taken.local_addr().expect("has an address").to_string();
    let options = Options { peer_addr: Some("127.0.0.1:0".to_owned()), ..Options::default() };
    let config = config(Options { client_addr: Some(address.clone()), ..options });
    let error = Listeners::bind(&RealNet, &config).await.err().expect("is taken").to_string();
    assert_eq!(
        error,
        format!(
            "{address} is in use by another process; stop that process, or choose another client_addr"
        )
    );
}

#[tokio::test]
async fn a_data_folder_in_use_or_not_writable_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let _lock = mainstay_world::FolderLock::take(folder.path()).expect("is free");
    let start = |data_dir: &std::path::Path| {
        let options = Options {
            data_dir: Some(data_dir.to_path_buf()),
            client_addr: Some("127.0.0.1:0".to_owned()),
            peer_addr: Some("127.0.0.1:0".to_owned()),
            ..Options::default()
        };
        Box::pin(mainstay_node::run(config(options), std::future::pending()))
    };
    let error = start(folder.path()).await.expect_err("is in use");
    let RunError::Folder(cause) = &error else { panic!("{error}") };
    assert!(cause.to_string().contains("is in use by a running process"), "{cause}");

    let file = folder.path().join("a-file");
    std::fs::write(&file, "").expect("writes");
    let error = start(&file.join("data")).await.expect_err("cannot be created");
    let RunError::Folder(cause) = &error else { panic!("{error}") };
    assert!(cause.to_string().contains("cannot be created or written"), "{cause}");
    let error = start(&file).await.expect_err("is a file");
    let RunError::Folder(cause) = &error else { panic!("{error}") };
    assert!(cause.to_string().contains("is not a folder"), "{cause}");
}

#[tokio::test]
async fn an_empty_folder_without_a_word_about_a_cluster_is_told_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = Options {
        data_dir: Some(folder.path().join("data")),
        client_addr: Some("127.0.0.1:0".to_owned()),
        peer_addr: Some("127.0.0.1:0".to_owned()),
        ..Options::default()
    };
    let running = mainstay_node::run(config(options), std::future::pending());
    let error = Box::pin(running).await.expect_err("there is no cluster");
    let RunError::Start(cause) = &error else { panic!("{error}") };
    assert!(cause.to_string().contains("--bootstrap"), "{cause}");
}

#[tokio::test]
async fn a_node_that_is_told_to_stop_while_it_starts_stops() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = Options {
        name: Some("n1".to_owned()),
        data_dir: Some(folder.path().to_path_buf()),
        client_addr: Some("127.0.0.1:0".to_owned()),
        peer_addr: Some("127.0.0.1:0".to_owned()),
        bootstrap: Some(vec!["n1=127.0.0.1:1".to_owned(), "n2=127.0.0.1:2".to_owned()]),
        ..Options::default()
    };
    let running = mainstay_node::run(config(options), async {});
    assert_eq!(Box::pin(running).await.expect("stops"), ExitReason::Requested);
}

#[test]
fn a_stopping_node_refuses_new_work_and_finishes_what_runs() {
    with_node(async |mut node| {
        let mut slow = SlowPut::begin(&node).await;
        node.begin_to_stop();
        node.until("new work is refused", async |node| {
            let refused = node.put("/v1/kv/new", "1").await;
            refused.status == 503 && refused.code() == "shutting_down"
        })
        .await;
        assert_eq!(node.get("/health/ready").await.status, 503);
        assert_eq!(node.get("/livez").await.status, 200);
        assert!(slow.finish().await.starts_with("HTTP/1.1 200"));
        node
    });
}

/// A put whose body is still on its way.
struct SlowPut(mainstay_world::Stream);

impl SlowPut {
    async fn begin(node: &Node) -> Self {
        use tokio::io::AsyncWriteExt;
        let mut stream = RealNet.connect(&node.address).await.expect("connects");
        let head = "PUT /v1/kv/slow HTTP/1.1\r\nhost: node\r\ncontent-length: 2\r\n\r\n1";
        stream.write_all(head.as_bytes()).await.expect("writes");
        node.until("the put is running", async |node| {
            // The request for the metrics is the other one.
            let page = node.get("/metrics").await.body;
            String::from_utf8_lossy(&page).contains("mainstay_http_requests_running 2\n")
        })
        .await;
        Self(stream)
    }

    async fn finish(&mut self) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        self.0.write_all(b"2").await.expect("writes");
        let mut answer = vec![0; 4096];
        let read = self.0.read(&mut answer).await.expect("reads");
        String::from_utf8_lossy(&answer[..read]).into_owned()
    }
}

#[test]
fn http2_is_spoken_on_the_same_port() {
    with_node(async |node| {
        use http_body_util::{BodyExt, Full};
        let stream = RealNet.connect(&node.address).await.expect("connects");
        let io = hyper_util::rt::TokioIo::new(stream);
        let handshake = hyper::client::conn::http2::handshake(Spawn, io).await;
        let (mut sender, connection) = handshake.expect("speaks HTTP/2");
        mainstay_world::spawn(async {
            let _ended = connection.await;
        });
        let put = http::Request::put(format!("http://{}/v1/kv/a", node.address));
        let put = put.body(Full::new(Bytes::from_static(b"1"))).expect("is a request");
        let answer = sender.send_request(put).await.expect("answers");
        assert_eq!((answer.status().as_u16(), answer.version()), (200, http::Version::HTTP_2));
        let body = answer.into_body().collect().await.expect("reads").to_bytes();
        assert_eq!(body, r#"{"revision":"2","created":true}"#);
        node
    });
}

#[derive(Clone)]
struct Spawn;

impl<F> hyper::rt::Executor<F> for Spawn
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        mainstay_world::spawn(future);
    }
}
