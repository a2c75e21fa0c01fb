//! One stream of etcd's watchers: what is asked for, and what comes, noted twice: as it came, and as
//! the watches that all checkers know.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use futures_util::stream;
use mainstay_etcd_protocol::{
    etcdserverpb::{
        WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
        watch_client::WatchClient, watch_request::RequestUnion,
    },
    mvccpb::{Event, KeyValue, event::EventType},
};
use tokio::sync::mpsc;
use tonic::{Request, Status, Streaming, metadata::MetadataValue};

use super::{
    calls::{signed, unsigned},
    channel::Channel,
};
use crate::{
    history::{
        History, StreamEvent, StreamMessage, StreamPair, Streamed, WatchEvent, WatchMessage,
        Watched,
    },
    record::SharedRecord,
    workload::caller::now_us,
};

/// How a watcher wants to be told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    /// With what was there before.
    pub(super) previous: bool,
    /// In fragments.
    pub(super) fragment: bool,
}

/// A watcher in the stream.
struct Followed {
    /// Its number in the history; known from the start unless it follows from now on.
    watcher: Option<u32>,
    from_revision: u64,
    /// What its next message resumes from.
    resumed_from: Option<u64>,
    /// Changes of a revision whose last fragment has not come.
    partial: Vec<StreamEvent>,
    is_main: bool,
}

/// What a message meant for the one who watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// Nothing that changes where it is.
    Nothing,
    /// The main watcher has been told everything below this revision.
    Below(u64),
    /// The main watcher is gone; what is below this revision was compacted.
    Compacted(u64),
    /// The main watcher is gone.
    Gone,
}

/// A stream that is open.
pub(super) struct WatchStream {
    number: u32,
    node: u32,
    record: SharedRecord,
    requests: mpsc::UnboundedSender<WatchRequest>,
    answers: Streaming<WatchResponse>,
    awaiting: VecDeque<Followed>,
    by_id: BTreeMap<i64, Followed>,
}

impl WatchStream {
    /// Opens a stream to a node.
    pub(super) async fn open(
        channel: Channel,
        number: u32,
        node: u32,
        record: SharedRecord,
        needs_leader: bool,
    ) -> Result<Self, Status> {
        let (requests, mut waiting) = mpsc::unbounded_channel();
        let waiting = stream::poll_fn(move |context| waiting.poll_recv(context));
        let mut client = WatchClient::with_origin(channel.clone(), channel.origin())
            .max_decoding_message_size(64 * 1024 * 1024);
        let mut request = Request::new(waiting);
        if needs_leader {
            request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
        }
        let answers = client.watch(request).await?.into_inner();
        let (awaiting, by_id) = (VecDeque::new(), BTreeMap::new());
        Ok(Self { number, node, record, requests, answers, awaiting, by_id })
    }

    /// Goes on with the watch `watcher` from a revision.
    pub(super) fn resume(&mut self, watcher: u32, prefix: &[u8], from: u64, manner: Manner) {
        self.create(prefix, from, manner, Some(watcher), true);
    }

    /// Watches beside the main watcher: from a revision, or from now on if it is 0.
    pub(super) fn watch_too(&mut self, prefix: &'static [u8], from: u64, manner: Manner) {
        let watcher = (from > 0)
            .then(|| self.record.lock().history.watch_opened(Bytes::from_static(prefix), from));
        self.create(prefix, from, manner, watcher, false);
    }

    fn create(
        &mut self,
        prefix: &[u8],
        from: u64,
        manner: Manner,
        watcher: Option<u32>,
        is_main: bool,
    ) {
        let mut end = prefix.to_vec();
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        self.ask(RequestUnion::CreateRequest(WatchCreateRequest {
            key: Bytes::copy_from_slice(prefix),
            range_end: end.into(),
            start_revision: signed(from),
            prev_kv: manner.previous,
            fragment: manner.fragment,
            ..WatchCreateRequest::default()
        }));
        self.awaiting.push_back(Followed {
            watcher,
            from_revision: from,
            resumed_from: is_main.then_some(from),
            partial: Vec::new(),
            is_main,
        });
    }

    /// Asks how far all watchers are.
    pub(super) fn ask_progress(&self) {
        self.ask(RequestUnion::ProgressRequest(WatchProgressRequest {}));
    }

    /// Ends a watcher that is not the main one, if there is one.
    pub(super) fn cancel_one(&self) {
        let other = self.by_id.iter().find(|(_id, followed)| !followed.is_main);
        if let Some((watch_id, _followed)) = other {
            self.ask(RequestUnion::CancelRequest(WatchCancelRequest { watch_id: *watch_id }));
        }
    }

    /// Watchers, asked for or there.
    pub(super) fn count(&self) -> usize {
        self.awaiting.len() + self.by_id.len()
    }

    fn ask(&self, request: RequestUnion) {
        // A stream that broke says so when it is read.
        let _asked = self.requests.send(WatchRequest { request_union: Some(request) });
    }

    /// The next message, noted.
    pub(super) async fn next(&mut self) -> Result<Told, Status> {
        let answer = self.answers.message().await?.ok_or_else(|| Status::unavailable("ended"))?;
        Ok(self.take(answer))
    }

    fn take(&mut self, answer: WatchResponse) -> Told {
        let header = answer.header.unwrap_or_default();
        let header_revision = unsigned(header.revision);
        let at_us = now_us();
        let record = self.record.clone();
        let mut record = record.lock();
        let (stream, node) = (self.number, self.node);
        let history = &mut record.history;
        let mut note = |watch_id, message| {
            let streamed = Streamed { stream, watch_id, node, at_us, header_revision, message };
            history.streamed.push(streamed);
        };
        let id = answer.watch_id;
        if answer.created {
            let Some(mut followed) = self.awaiting.pop_front() else {
                note(Some(id), StreamMessage::Cancelled);
                return Told::Nothing;
            };
            let from_revision = followed.from_revision;
            note(Some(id), StreamMessage::Created { from_revision });
            if answer.canceled {
                note(Some(id), StreamMessage::Cancelled);
                return if followed.is_main { Told::Gone } else { Told::Nothing };
            }
            if followed.watcher.is_none() {
                let from = header_revision + 1;
                followed.watcher = Some(history.watch_opened(Bytes::from_static(b"k/"), from));
            }
            self.by_id.insert(id, followed);
            return Told::Nothing;
        }
        if answer.canceled {
            let compact_revision = unsigned(answer.compact_revision);
            let followed = self.by_id.remove(&id);
            let is_main = followed.as_ref().is_some_and(|followed| followed.is_main);
            if compact_revision == 0 {
                note(Some(id), StreamMessage::Cancelled);
                return if is_main { Told::Gone } else { Told::Nothing };
            }
            note(Some(id), StreamMessage::Compacted { compact_revision });
            if let Some(mut followed) = followed {
                let message = WatchMessage::Compacted { compact_revision };
                followed.note(history, node, at_us, message);
            }
            return if is_main { Told::Compacted(compact_revision) } else { Told::Nothing };
        }
        if answer.events.is_empty() {
            note((id >= 0).then_some(id), StreamMessage::Progress);
            let mut told = Told::Nothing;
            for (of, followed) in &mut self.by_id {
                if id < 0 || id == *of {
                    let message = WatchMessage::Progress { revision: header_revision };
                    followed.note(history, node, at_us, message);
                    if followed.is_main {
                        told = Told::Below(header_revision + 1);
                    }
                }
            }
            return told;
        }
        let events: Vec<StreamEvent> = answer.events.into_iter().map(event).collect();
        note(Some(id), StreamMessage::Events(events.clone()));
        let Some(followed) = self.by_id.get_mut(&id) else { return Told::Nothing };
        followed.partial.extend(events);
        if answer.fragment {
            return Told::Nothing;
        }
        let events = std::mem::take(&mut followed.partial);
        let last = events.last().map_or(0, |event| event.pair.mod_revision);
        for of_revision in
            events.chunk_by(|one, next| one.pair.mod_revision == next.pair.mod_revision)
        {
            let revision = of_revision[0].pair.mod_revision;
            let events = of_revision.iter().map(|event| WatchEvent {
                key: event.pair.key.clone(),
                value: (!event.deleted).then(|| event.pair.value.clone()),
            });
            let message = WatchMessage::Changed { revision, events: events.collect() };
            followed.note(history, node, at_us, message);
        }
        if followed.is_main { Told::Below(last + 1) } else { Told::Nothing }
    }
}

impl Followed {
    fn note(&mut self, history: &mut History, node: u32, at_us: u64, message: WatchMessage) {
        let Some(watcher) = self.watcher else { return };
        let resumed_from = self.resumed_from.take();
        history.watched(Watched { watcher, node, at_us, resumed_from, message });
    }
}

fn event(event: Event) -> StreamEvent {
    StreamEvent {
        deleted: event.r#type() == EventType::Delete,
        pair: pair(event.kv.unwrap_or_default()),
        previous: event.prev_kv.map(pair),
    }
}

fn pair(pair: KeyValue) -> StreamPair {
    StreamPair {
        key: pair.key,
        value: pair.value,
        create_revision: unsigned(pair.create_revision),
        mod_revision: unsigned(pair.mod_revision),
        version: unsigned(pair.version),
    }
}
