//! Watches over server-sent events, read by hand.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tokio::{task::JoinHandle, time::timeout};

use crate::{
    client::Client,
    from_base64,
    patience::{PATIENCE, pause, until},
};

/// Most bytes of one message.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A node must say something within this time, or the watch goes to another one.
const SILENCE_MAX: Duration = Duration::from_secs(3);

/// One watch on one node.
#[derive(Debug)]
pub struct Watch {
    response: reqwest::Response,
    buffer: Vec<u8>,
}

/// What a watch is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A revision with all its events.
    Change(Change),
    /// Everything up to this revision was sent.
    Progress {
        /// The revision.
        revision: u64,
    },
    /// The start is compacted; the stream ends.
    Compacted {
        /// The compaction revision.
        compact_revision: u64,
    },
    /// The node ends the watch; the stream ends.
    Cancelled {
        /// Why.
        reason: String,
    },
}

/// A revision with all its events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The revision, which is the message's id.
    pub revision: u64,
    /// The events.
    pub events: Vec<Event>,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// `put` or `delete`.
    pub kind: String,
    /// The key.
    pub key: String,
    /// The value of a put, empty for a delete.
    pub value: String,
    /// The revision, once more.
    pub mod_revision: u64,
}

impl Watch {
    /// Opens `GET /v1/watch?{query}`, after `last_event_id` if there is one.
    ///
    /// # Errors
    /// A sentence, if the node does not open it.
    pub async fn open(
        client: &Client,
        query: &str,
        last_event_id: Option<u64>,
    ) -> Result<Self, String> {
        let mut request = client.request("GET", &format!("/v1/watch?{query}"));
        if let Some(id) = last_event_id {
            request = request.header("Last-Event-ID", &id.to_string());
        }
        let response = match timeout(SILENCE_MAX, request.stream()).await {
            Ok(response) => response.map_err(|error| error.to_string())?,
            Err(_elapsed) => return Err("the watch was not opened in time".to_owned()),
        };
        if response.status() == 200 {
            return Ok(Self { response, buffer: Vec::new() });
        }
        let status = response.status();
        Err(format!("{status}: {}", response.text().await.unwrap_or_default()))
    }

    /// The next message.
    ///
    /// # Errors
    /// A sentence, if the stream ended, broke, or was silent for `silence_max`.
    ///
    /// # Panics
    /// If the node sends something that is not in the contract.
    pub async fn next(&mut self, silence_max: Duration) -> Result<Message, String> {
        loop {
            if let Some(message) = self.take() {
                return Ok(message);
            }
            assert!(self.buffer.len() < MESSAGE_BYTES_MAX, "a message without an end");
            match timeout(silence_max, self.response.chunk()).await {
                Ok(Ok(Some(chunk))) => self.buffer.extend_from_slice(&chunk),
                Ok(Ok(None)) => return Err("the stream ended".to_owned()),
                Ok(Err(error)) => return Err(format!("the stream broke: {error}")),
                Err(_elapsed) => return Err("the stream was silent".to_owned()),
            }
        }
    }

    /// The next change; progress is passed over.
    ///
    /// # Panics
    /// If something else comes, or nothing.
    pub async fn change(&mut self) -> Change {
        loop {
            match self.next(PATIENCE).await {
                Ok(Message::Change(change)) => return change,
                Ok(Message::Progress { .. }) => {}
                Ok(other) => panic!("a change should come, not {other:?}"),
                Err(error) => panic!("a change should come: {error}"),
            }
        }
    }

    /// A whole message of the buffer. Comments and fields that nobody knows are passed over, as
    /// the HTML standard (9.2.6) wants it.
    fn take(&mut self) -> Option<Message> {
        loop {
            let end = self.buffer.windows(2).position(|two| two == b"\n\n")?;
            let block = String::from_utf8(self.buffer.drain(..end + 2).collect());
            let block = block.expect("server-sent events are text");
            let (mut event, mut id, mut data) = (None, None, None);
            for line in block.lines() {
                match line.split_once(':').map(|(name, value)| (name, value.trim_start())) {
                    Some(("event", value)) => event = Some(value.to_owned()),
                    Some(("id", value)) => id = Some(value.to_owned()),
                    Some(("data", value)) => data = Some(value.to_owned()),
                    _ => {}
                }
            }
            if let Some(event) = event {
                return Some(message(&event, id.as_deref(), &data.unwrap_or_default()));
            }
        }
    }
}

fn message(event: &str, id: Option<&str>, data: &str) -> Message {
    let id = || -> u64 {
        let id = id.unwrap_or_else(|| panic!("a {event} without an id: {data}"));
        id.parse().unwrap_or_else(|_error| panic!("an id that is no revision: {id}"))
    };
    let document = || -> Value {
        serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data}"))
    };
    match event {
        "change" => Message::Change(change(id(), &document())),
        "progress" => Message::Progress { revision: id() },
        "compacted" => {
            Message::Compacted { compact_revision: number(&document(), "compact_revision") }
        }
        "cancelled" => Message::Cancelled { reason: text(&document(), "reason").to_owned() },
        other => panic!("an event of an unknown kind: {other} {data}"),
    }
}

fn change(id: u64, document: &Value) -> Change {
    let revision = number(document, "revision");
    assert_eq!(id, revision, "the id of a change is its revision");
    let Some(events) = document["events"].as_array() else { panic!("no events: {document}") };
    let events = events.iter().map(|event| {
        let bytes = |name: &str| match event[name].as_str() {
            Some(text) => String::from_utf8_lossy(&from_base64(text)).into_owned(),
            None => String::new(),
        };
        let mod_revision = number(event, "mod_revision");
        assert_eq!(mod_revision, revision, "an event belongs to its message's revision");
        let kind = text(event, "type").to_owned();
        Event { kind, key: bytes("key"), value: bytes("value"), mod_revision }
    });
    let events: Vec<_> = events.collect();
    assert!(!events.is_empty(), "a change without events: {document}");
    Change { revision, events }
}

fn text<'a>(document: &'a Value, name: &str) -> &'a str {
    document[name].as_str().unwrap_or_else(|| panic!("no {name}: {document}"))
}

fn number(document: &Value, name: &str) -> u64 {
    text(document, name).parse().expect("a decimal string")
}

/// A watch in the background that goes on at another node when one fails it.
#[derive(Debug)]
pub struct ResumingWatch {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Clone, Default)]
struct Seen {
    changes: Vec<Change>,
    /// The last id of any message.
    last_id: u64,
    /// How often it went on elsewhere.
    resumed: usize,
}

impl ResumingWatch {
    /// Watches all keys below `prefix` from `from_revision` on, at the first of `clients` for as
    /// long as that works.
    #[must_use]
    pub fn start(clients: &[Client], prefix: &str, from_revision: u64) -> Self {
        let seen = Arc::new(Mutex::new(Seen { last_id: from_revision - 1, ..Seen::default() }));
        let query = format!("prefix={prefix}&progress_ms=200");
        let task = tokio::spawn(follow(clients.to_vec(), query, Arc::clone(&seen)));
        Self { seen, task }
    }

    /// Waits until everything up to `revision` was told.
    ///
    /// # Panics
    /// If that does not happen.
    pub async fn reaches(&self, revision: u64) {
        until(&format!("revision {revision} of the watch"), async || {
            assert!(!self.task.is_finished(), "the watch ended by itself");
            let last_id = lock(&self.seen).last_id;
            if last_id >= revision { Ok(()) } else { Err(last_id) }
        })
        .await;
    }

    /// Stops it; what it was told, and how often it went on elsewhere.
    #[must_use]
    pub fn stop(self) -> (Vec<Change>, usize) {
        self.task.abort();
        let seen = lock(&self.seen).clone();
        (seen.changes, seen.resumed)
    }
}

async fn follow(clients: Vec<Client>, query: String, seen: Arc<Mutex<Seen>>) {
    for client in clients.iter().cycle() {
        let last_id = lock(&seen).last_id;
        if let Ok(mut watch) = Watch::open(client, &query, Some(last_id)).await {
            while let Ok(message) = watch.next(SILENCE_MAX).await {
                let mut seen = lock(&seen);
                match message {
                    Message::Change(change) => {
                        seen.last_id = change.revision;
                        seen.changes.push(change);
                    }
                    Message::Progress { revision } => seen.last_id = revision,
                    Message::Cancelled { .. } => break,
                    Message::Compacted { .. } => panic!("nothing was compacted"),
                }
            }
        }
        lock(&seen).resumed += 1;
        pause().await;
    }
}

fn lock(seen: &Mutex<Seen>) -> std::sync::MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
