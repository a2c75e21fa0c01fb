//! Watches: every change of some keys, in order, without gap or duplicate.
//!
//! A watch is pulled: it reads from its connection only while [`Watch::next`] runs, so a caller
//! that is slow holds the node back, not memory here, and the node cancels it in the end. When the
//! connection ends, or is silent for longer than a node may be, the watch goes on at the next
//! endpoint after the last revision it saw. To make that possible from the start, a watch without
//! a starting revision first asks for the present one.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header::ACCEPT};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use mainstay_kv::{Event, EventKind, RevisionChanges, query::KeyValue};
use mainstay_world::{Instant, random_u64, sleep, timeout};
use serde::Deserialize;

use crate::{
    call::{Call, refusal},
    client::Client,
    endpoint::Endpoint,
    error::{CallError, Failure, TookEffect},
    json::{Base64, Decimal, PairJson},
    keys::{GetRequest, Query},
    retry::Backoff,
    sse::{Message, Parser},
    transport::{Transport, term},
};

/// A connection is silent for too long after so many intervals of progress.
const SILENT_INTERVALS: u32 = 3;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// What to watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchRequest {
    /// The key, or what the keys start with.
    pub key: Bytes,
    /// Whether `key` is a prefix.
    pub is_prefix: bool,
    /// The first revision of interest; `None` starts after the present one.
    pub from_revision: Option<u64>,
    /// Whether events carry what was there before.
    pub previous: bool,
}

/// What a watch tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchMessage {
    /// The events of one revision.
    Change(RevisionChanges),
    /// Nothing else happened up to this revision.
    Progress {
        /// The revision.
        revision: u64,
    },
}

/// A watch that ended.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The next revision it needs is gone; read the keys anew and watch from there.
    #[error("the watch cannot go on: revisions below {compact_revision} are compacted")]
    Compacted {
        /// The lowest readable revision.
        compact_revision: u64,
    },
    /// The store was restored to an earlier state; read the keys anew and watch from there.
    #[error("the watch cannot go on: the store was restored to an earlier state")]
    StoreReplaced,
    /// No endpoint took it up again, or one refused it for good.
    #[error("the watch ended before revision {next_revision}")]
    Ended {
        /// The revision to resume from.
        next_revision: u64,
        /// Why.
        #[source]
        source: Box<CallError>,
    },
}

/// A running watch.
#[derive(Debug)]
pub struct Watch {
    client: Client,
    request: WatchRequest,
    /// The first revision that was not seen yet.
    next_revision: u64,
    /// Whether an earlier connection told where the watch stands.
    resumes: bool,
    /// The node that is asked.
    node: Arc<Transport>,
    stream: Option<Stream>,
    /// Since when no message came over any connection, if that is so.
    disconnected_since: Option<Instant>,
    backoff: Backoff,
}

#[derive(Debug)]
struct Stream {
    body: Incoming,
    parser: Parser,
}

/// What a message of the stream comes to.
enum Step {
    /// Something to tell.
    Told(WatchMessage),
    /// Nothing that concerns the caller.
    Nothing,
    /// The stream ends here and goes on elsewhere.
    Interrupted(Failure),
    /// It cannot go on.
    Over(WatchError),
}

impl WatchRequest {
    /// All changes of one key from now on.
    #[must_use]
    pub fn key(key: impl Into<Bytes>) -> Self {
        Self { key: key.into(), is_prefix: false, from_revision: None, previous: false }
    }

    /// All changes of the keys that start with `prefix` from now on.
    #[must_use]
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        Self { is_prefix: true, ..Self::key(prefix) }
    }
}

impl Client {
    /// Starts a watch; it connects when it is first asked. Without a starting revision it sees
    /// everything that is written after this returns.
    ///
    /// # Errors
    /// [`CallError`], when the present revision cannot be read.
    pub async fn watch(&self, request: WatchRequest) -> Result<Watch, CallError> {
        let next_revision = match request.from_revision {
            Some(revision) => revision,
            None => self.present_revision(&request).await? + 1,
        };
        let options = self.options();
        Ok(Watch {
            node: self.shared.endpoints.preferred(Instant::now()),
            client: self.clone(),
            request,
            next_revision,
            resumes: false,
            stream: None,
            disconnected_since: None,
            backoff: Backoff::new(options.backoff, options.backoff_max),
        })
    }

    /// A revision that every write acknowledged before is part of.
    async fn present_revision(&self, request: &WatchRequest) -> Result<u64, CallError> {
        let any_key =
            if request.key.is_empty() { Bytes::from_static(b"/") } else { request.key.clone() };
        Ok(self.get(GetRequest::new(any_key)).await?.header.revision)
    }
}

impl Watch {
    /// The first revision that was not seen yet: where another watch would go on.
    #[must_use]
    pub const fn next_revision(&self) -> u64 {
        self.next_revision
    }

    /// Waits for the next message. Nothing is lost when the future is dropped before it is done.
    ///
    /// # Errors
    /// [`WatchError`]. Asked again after [`WatchError::Ended`], the watch tries to go on.
    pub async fn next(&mut self) -> Result<WatchMessage, WatchError> {
        loop {
            let step = match &mut self.stream {
                None => match self.connect().await {
                    Ok(()) => Step::Nothing,
                    Err(failure) => self.after_refusal(failure)?,
                },
                Some(stream) => {
                    let silence = self.client.options().watch_silence_max;
                    stream.read(self.node.endpoint(), silence).await
                }
            };
            match step {
                Step::Told(message) => {
                    self.disconnected_since = None;
                    let options = self.client.options();
                    self.backoff = Backoff::new(options.backoff, options.backoff_max);
                    if self.advance(&message) {
                        return Ok(message);
                    }
                }
                Step::Nothing => {}
                Step::Interrupted(failure) => self.interrupt(failure).await?,
                Step::Over(error) => {
                    self.stream = None;
                    return Err(error);
                }
            }
        }
    }

    /// Moves behind the message; false if it holds nothing new.
    fn advance(&mut self, message: &WatchMessage) -> bool {
        let revision = match message {
            WatchMessage::Change(change) => change.revision,
            WatchMessage::Progress { revision } => *revision,
        };
        self.resumes = true;
        let is_new = revision >= self.next_revision;
        self.next_revision = self.next_revision.max(revision.saturating_add(1));
        is_new || matches!(message, WatchMessage::Progress { .. })
    }

    async fn connect(&mut self) -> Result<(), Failure> {
        self.client.refresh_members_if_due(Instant::now());
        let options = self.client.options();
        let wait = options.attempt_timeout;
        let transport = &self.node;
        let request = self.call().request(transport.endpoint(), wait)?;
        let response = transport.stream(request, wait).await?;
        let parser = Parser::new(options.watch_message_bytes_max);
        let (head, body) = response.into_parts();
        if head.status != StatusCode::OK {
            let body = transport.read_body(body, Instant::now() + wait, wait).await?;
            return Err(refusal(transport.endpoint(), head.status, &body));
        }
        self.client.shared.endpoints.answered(transport.endpoint(), term(&head.headers));
        self.stream = Some(Stream { body, parser });
        Ok(())
    }

    fn call(&self) -> Call {
        let mut path = String::from("/v1/watch");
        let mut query = Query::new(&mut path);
        let key_name = if self.request.is_prefix { "prefix_base64" } else { "key_base64" };
        query.base64(key_name, &self.request.key);
        query.flag("previous", self.request.previous);
        let progress = self.client.options().watch_silence_max / SILENT_INTERVALS;
        query.number("progress_ms", u64::try_from(progress.as_millis()).unwrap_or(u64::MAX));
        if !self.resumes {
            query.number("from_revision", self.next_revision);
        }
        let call = Call::read(path).header(ACCEPT, HeaderValue::from_static("text/event-stream"));
        if self.resumes {
            call.header(LAST_EVENT_ID, HeaderValue::from(self.next_revision.saturating_sub(1)))
        } else {
            call
        }
    }

    /// What a failed connection comes to: some refusals are for good.
    fn after_refusal(&self, failure: Failure) -> Result<Step, WatchError> {
        let Failure::Refused(problem) = &failure else { return Ok(Step::Interrupted(failure)) };
        let compact_revision = problem.compact_revision.as_ref();
        if let Some(compact_revision) = compact_revision.and_then(|text| text.parse().ok()) {
            return Ok(Step::Over(WatchError::Compacted { compact_revision }));
        }
        let passes = problem.status >= 500 || problem.status == 429;
        if passes { Ok(Step::Interrupted(failure)) } else { Err(self.ended(failure)) }
    }

    /// Leaves the connection for the next endpoint, after a wait unless messages came over it.
    async fn interrupt(&mut self, failure: Failure) -> Result<(), WatchError> {
        tracing::debug!(error = %failure, next_revision = self.next_revision, "watch interrupted");
        self.stream = None;
        let now = Instant::now();
        let endpoints = &self.client.shared.endpoints;
        // A watcher that was too slow is not the node's fault.
        if !matches!(&failure, Failure::Cancelled { reason, .. } if reason == "slow") {
            endpoints.failed(self.node.endpoint(), now);
        }
        self.node = endpoints.after(self.node.endpoint(), now);
        let Some(since) = self.disconnected_since else {
            self.disconnected_since = Some(now);
            return Ok(());
        };
        if now.since(since) > self.client.options().watch_patience {
            self.disconnected_since = None;
            return Err(self.ended(failure));
        }
        sleep(self.backoff.wait(random_u64())).await;
        Ok(())
    }

    fn ended(&self, failure: Failure) -> WatchError {
        let source = CallError { took_effect: TookEffect::No, attempts: 1, failure };
        WatchError::Ended { next_revision: self.next_revision, source: Box::new(source) }
    }
}

impl Stream {
    /// Reads the next message, or a piece of one.
    async fn read(&mut self, endpoint: &Endpoint, silence: Duration) -> Step {
        let endpoint = || endpoint.clone();
        let malformed =
            |what: String| Step::Interrupted(Failure::Malformed { endpoint: endpoint(), what });
        match self.parser.next_message() {
            Ok(Some(message)) => return interpret(&message, endpoint).unwrap_or_else(malformed),
            Ok(None) => {}
            Err(error) => return malformed(error.to_string()),
        }
        match timeout(silence, self.body.frame()).await {
            Ok(Some(Ok(frame))) => {
                if let Some(bytes) = frame.data_ref() {
                    self.parser.push(bytes);
                }
                Step::Nothing
            }
            Ok(Some(Err(source))) => {
                Step::Interrupted(Failure::Lost { endpoint: endpoint(), source })
            }
            Ok(None) => malformed("the stream of the watch ended".to_owned()),
            Err(_elapsed) => {
                Step::Interrupted(Failure::TimedOut { endpoint: endpoint(), waited: silence })
            }
        }
    }
}

/// What a message means; the error says what is wrong with it.
fn interpret(message: &Message, endpoint: impl Fn() -> Endpoint) -> Result<Step, String> {
    #[derive(Deserialize)]
    struct CompactedJson {
        compact_revision: Decimal,
    }
    #[derive(Deserialize)]
    struct CancelledJson {
        reason: String,
    }
    let text = |error: serde_json::Error| error.to_string();
    match message.event.as_str() {
        "change" => {
            let change: ChangeJson = serde_json::from_str(&message.data).map_err(text)?;
            Ok(Step::Told(WatchMessage::Change(RevisionChanges::from(change))))
        }
        "progress" => {
            let id = &message.id;
            let revision =
                id.parse().map_err(|_not_a_number| format!("the id '{id}' is no revision"))?;
            Ok(Step::Told(WatchMessage::Progress { revision }))
        }
        "compacted" => {
            let compacted: CompactedJson = serde_json::from_str(&message.data).map_err(text)?;
            let compact_revision = compacted.compact_revision.0;
            Ok(Step::Over(WatchError::Compacted { compact_revision }))
        }
        "cancelled" => {
            let cancelled: CancelledJson = serde_json::from_str(&message.data).map_err(text)?;
            if cancelled.reason == "store_replaced" {
                return Ok(Step::Over(WatchError::StoreReplaced));
            }
            // The watch knows itself where to go on: after the last message it saw.
            let (endpoint, reason) = (endpoint(), cancelled.reason);
            Ok(Step::Interrupted(Failure::Cancelled { endpoint, reason }))
        }
        _ => Ok(Step::Nothing),
    }
}

#[derive(Deserialize)]
struct ChangeJson {
    revision: Decimal,
    events: Vec<EventJson>,
}

#[derive(Deserialize)]
struct EventJson {
    #[serde(rename = "type")]
    kind: EventKindJson,
    key: Base64,
    #[serde(default)]
    value: Base64,
    #[serde(default)]
    create_revision: Decimal,
    mod_revision: Decimal,
    #[serde(default)]
    version: Decimal,
    #[serde(default)]
    lease: Decimal,
    #[serde(default)]
    previous: Option<PairJson>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum EventKindJson {
    Put,
    Delete,
}

impl From<ChangeJson> for RevisionChanges {
    fn from(json: ChangeJson) -> Self {
        let event = |event: EventJson| Event {
            kind: match event.kind {
                EventKindJson::Put => EventKind::Put,
                EventKindJson::Delete => EventKind::Delete,
            },
            pair: KeyValue {
                key: event.key.0,
                value: event.value.0,
                create_revision: event.create_revision.0,
                mod_revision: event.mod_revision.0,
                version: event.version.0,
                lease: event.lease.0,
            },
            previous: event.previous.map(KeyValue::from),
        };
        Self { revision: json.revision.0, events: json.events.into_iter().map(event).collect() }
    }
}
