//! A node that answers each request with the next reply of its script.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use mainstay_client::{Client, ClientOptions, Endpoint};
use mainstay_world::{Net, RealNet, Stream, spawn};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What the node does with one request.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// Answers and keeps the connection.
    Answer(String),
    /// Answers and closes the connection, although it said nothing of the kind.
    AnswerThenClose(String),
    /// Closes the connection without a word.
    Drop,
    /// Never answers.
    Silence,
    /// Starts a stream of events and closes the connection.
    EventsThenClose(String),
    /// Starts a stream of events and says nothing more.
    EventsThenSilence(String),
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) line: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
    /// The connection it came over, counted from 0.
    pub(crate) connection: usize,
}

/// A running node.
pub(crate) struct Node {
    pub(crate) endpoint: Endpoint,
    seen: Arc<Mutex<Vec<Seen>>>,
}

#[derive(Clone)]
struct Script {
    replies: Arc<Mutex<VecDeque<Reply>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Node {
    /// Starts a node with this script; at its end requests are met with silence.
    pub(crate) async fn start(replies: impl IntoIterator<Item = Reply>) -> Self {
        let mut listener = RealNet.bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let script = Script {
            replies: Arc::new(Mutex::new(replies.into_iter().collect())),
            seen: Arc::clone(&seen),
        };
        spawn(async move {
            for connection in 0.. {
                let (stream, _peer) = listener.accept().await.expect("accepts");
                spawn(serve(stream, script.clone(), connection));
            }
        });
        Self { endpoint: address.to_string().parse().expect("an endpoint"), seen }
    }

    /// All requests that arrived so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("no test panics with the lock").clone()
    }
}

async fn serve(mut stream: Stream, script: Script, connection: usize) {
    while let Some(request) = read_request(&mut stream, connection).await {
        script.seen.lock().expect("no test panics with the lock").push(request);
        let reply = script.replies.lock().expect("no test panics with the lock").pop_front();
        let (bytes, goes_on) = match reply.unwrap_or(Reply::Silence) {
            Reply::Answer(text) => (text, true),
            Reply::AnswerThenClose(text) => (text, false),
            Reply::Drop => return,
            Reply::Silence => (String::new(), true),
            Reply::EventsThenClose(text) => (events(&text), false),
            Reply::EventsThenSilence(text) => (events(&text), true),
        };
        if stream.write_all(bytes.as_bytes()).await.is_err() || !goes_on {
            return;
        }
    }
}

async fn read_request(stream: &mut Stream, connection: usize) -> Option<Seen> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).expect("a request is text");
    let mut lines = head.lines();
    let line = lines.next().expect("a request has a first line").to_owned();
    let headers: BTreeMap<_, _> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let len = headers.get("content-length").map_or(0, |len| len.parse().expect("a length"));
    let mut body = vec![0; len];
    stream.read_exact(&mut body).await.ok()?;
    let body = String::from_utf8(body).expect("the tests send text");
    Some(Seen { line, headers, body, connection })
}

/// An answer of success with a JSON body.
pub(crate) fn json(body: &str) -> Reply {
    Reply::Answer(answer(200, &[("mainstay-revision", "9"), ("mainstay-term", "2")], body))
}

/// A problem document.
pub(crate) fn problem(status: u16, code: &str, took_effect: &str, more: &str) -> Reply {
    let body = format!(
        r#"{{"status":{status},"title":"title","detail":"detail of {code}","code":"{code}","took_effect":"{took_effect}"{more}}}"#
    );
    Reply::Answer(answer(status, &[("mainstay-revision", "9")], &body))
}

/// The bytes of an answer.
pub(crate) fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> String {
    let mut text = format!("HTTP/1.1 {status} Reason\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text + "\r\n" + body
}

fn events(text: &str) -> String {
    let len = text.len();
    format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{len:x}\r\n{text}\r\n")
}

/// A client that gives up within a second and a half, and asks nothing by itself.
pub(crate) fn client(endpoints: &[&Endpoint]) -> Client {
    Client::new(Arc::new(RealNet), options(endpoints))
}

pub(crate) fn options(endpoints: &[&Endpoint]) -> ClientOptions {
    ClientOptions {
        discover: false,
        sessions: false,
        timeout: Duration::from_millis(1500),
        attempt_timeout: Duration::from_millis(500),
        unreachable_patience: Duration::from_millis(100),
        watch_patience: Duration::from_millis(500),
        watch_silence_max: Duration::from_millis(300),
        ..ClientOptions::new(endpoints.iter().map(|endpoint| (*endpoint).clone()).collect())
    }
}

/// An endpoint where nobody listens.
pub(crate) async fn dead_endpoint() -> Endpoint {
    let listener = RealNet.bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    address.to_string().parse().expect("an endpoint")
}
