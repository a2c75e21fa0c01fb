//! What goes on in one stream of watchers.
//!
//! The rules are etcd's (`v3rpc/watch.go`): requests are answered in the order they come, no event
//! of a watcher is told before it was said to be created, and a request for progress is answered
//! for all watchers together, when all of them have told everything up to the revision that is
//! named.
//!
//! A client that does not read is not waited for by anybody: its stream is not polled, and each of
//! its watches forgets what waits beyond a bound and reads it again from the store when its turn
//! comes.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, stream};
use mainstay_etcd_protocol::{
    etcdserverpb::{
        WatchCreateRequest, WatchRequest, WatchResponse, watch_create_request::FilterType,
        watch_request::RequestUnion,
    },
    mvccpb::Event,
};
use mainstay_kv::{KeyRange, RangeEnd};
use mainstay_service::{Caller, CancelReason, WatchMessage, WatchedRevision};
use mainstay_world::Instant;
use prost::Message as _;
use tonic::{Status, Streaming};

use crate::{
    api::{MESSAGE_BYTES_MAX, Shared, signed},
    error,
    key_range::key_range,
    pair::event,
    watchers::{Manner, Told, Watchers},
};

/// Watchers of one stream.
const WATCHERS_MAX: usize = 10_000;

/// How often to look whether all watchers have caught up, while somebody waits to hear it.
const PROGRESS_CHECK: Duration = Duration::from_millis(5);

/// How often to look whether there is a leader, and how many times without one end the stream.
const LEADER_CHECK: Duration = Duration::from_millis(300);
const LEADERLESS_CHECKS_MAX: u32 = 3;

/// The watcher that stands for all of a stream, or for none.
const NO_WATCHER: i64 = -1;

/// One stream of watchers.
pub(crate) struct WatchStream {
    api: Arc<Shared>,
    caller: Caller,
    requests: Streaming<WatchRequest>,
    /// The client has said all that it wants to say.
    all_asked: bool,
    watchers: Watchers,
    answers: VecDeque<WatchResponse>,
    /// A request for progress waits.
    progress_wanted: bool,
    /// The highest revision in a header so far.
    told_revision: i64,
    leader: Option<LeaderCheck>,
}

/// Looks after the leader for a client that wants none of a node without one.
struct LeaderCheck {
    next: Instant,
    leaderless: u32,
}

impl WatchStream {
    pub(crate) fn new(
        api: Arc<Shared>,
        caller: Caller,
        requests: Streaming<WatchRequest>,
        requires_leader: bool,
    ) -> Self {
        let leader = requires_leader
            .then(|| LeaderCheck { next: Instant::now() + LEADER_CHECK, leaderless: 0 });
        Self {
            api,
            caller,
            requests,
            all_asked: false,
            watchers: Watchers::default(),
            answers: VecDeque::new(),
            progress_wanted: false,
            told_revision: 0,
            leader,
        }
    }

    /// What it tells.
    pub(crate) fn answers(self) -> impl Stream<Item = Result<WatchResponse, Status>> + Send {
        stream::try_unfold(self, async |mut stream| {
            Ok(stream.next().await?.map(|answer| (answer, stream)))
        })
    }

    /// The next answer; `None` when there will be none.
    async fn next(&mut self) -> Result<Option<WatchResponse>, Status> {
        loop {
            if let Some(answer) = self.answers.pop_front() {
                let revision = answer.header.as_ref().map_or(0, |header| header.revision);
                self.told_revision = self.told_revision.max(revision);
                return Ok(Some(answer));
            }
            if self.progress_wanted {
                self.tell_progress();
                if !self.answers.is_empty() {
                    continue;
                }
            }
            let leader_check = self.leader.as_ref().map(|check| check.next);
            // Requests come first: a client that floods its stream keeps only itself waiting.
            tokio::select! {
                biased;
                request = self.requests.message(), if !self.all_asked => {
                    match request.map_err(error::of_message)? {
                        Some(request) => self.take(request),
                        // The watchers go on: a client over plain HTTP says all it has at once.
                        None => self.all_asked = true,
                    }
                }
                () = until(leader_check) => self.check_leader()?,
                (id, told) = self.watchers.next() => self.tell(id, told),
                () = mainstay_world::sleep(PROGRESS_CHECK), if self.progress_wanted => {}
            }
        }
    }

    fn take(&mut self, request: WatchRequest) {
        match request.request_union {
            Some(RequestUnion::CreateRequest(request)) => {
                let answer = match self.create(request) {
                    Ok(id) => WatchResponse { watch_id: id, created: true, ..self.answer() },
                    Err(reason) => WatchResponse {
                        watch_id: NO_WATCHER,
                        created: true,
                        canceled: true,
                        cancel_reason: reason,
                        ..self.answer()
                    },
                };
                self.answers.push_back(answer);
            }
            Some(RequestUnion::CancelRequest(request)) => self.cancel(request.watch_id),
            Some(RequestUnion::ProgressRequest(_)) => self.progress_wanted = true,
            None => {}
        }
    }

    /// Ends a watcher. One that there is not gets no answer, as in etcd.
    fn cancel(&mut self, watch_id: i64) {
        if self.watchers.remove(watch_id) {
            let answer = WatchResponse { watch_id, canceled: true, ..self.answer() };
            self.answers.push_back(answer);
        }
    }

    /// Starts a watcher; its id, or why there is none.
    fn create(&mut self, request: WatchCreateRequest) -> Result<i64, String> {
        let text = |status: Status| status.message().to_owned();
        if self.watchers.count() >= WATCHERS_MAX {
            return Err(text(error::too_many_requests()));
        }
        // No key is the smallest key.
        let key = if request.key.is_empty() { Bytes::from_static(b"\0") } else { request.key };
        let range =
            key_range(Bytes::copy_from_slice(&key), Bytes::copy_from_slice(&request.range_end));
        if is_empty(&range) {
            return Err("mvcc: watcher range is empty".to_owned());
        }
        let Ok(from_revision) = u64::try_from(request.start_revision) else {
            return Err(text(error::compacted()));
        };
        let filters = |filter: FilterType| request.filters.contains(&filter.into());
        let wanted = mainstay_service::WatchRequest {
            range,
            from_revision,
            previous: request.prev_kv,
            no_put: filters(FilterType::Noput),
            no_delete: filters(FilterType::Nodelete),
            progress_interval: request.progress_notify.then_some(self.api.progress_interval),
            catch_up_when_slow: true,
        };
        let Some(id) = self.watchers.id_for(request.watch_id) else {
            return Err("mvcc: duplicate watch ID provided on the WatchStream".to_owned());
        };
        let watch = self.api.door.watch(&self.caller, wanted);
        let watch = watch.map_err(|error| text(error::of_door(error)))?;
        let manner = Manner { previous: request.prev_kv, fragment: request.fragment };
        self.watchers.insert(id, watch, manner);
        Ok(id)
    }

    /// Puts what a watcher tells into answers.
    fn tell(&mut self, id: i64, told: Told) {
        let Some(manner) = self.watchers.manner(id) else { return };
        match told {
            Told::Changes(changes) => self.tell_changes(id, manner, &changes),
            Told::Other(WatchMessage::Changes(changes)) => {
                self.tell_changes(id, manner, &[changes]);
            }
            Told::Other(WatchMessage::Progress { revision }) => {
                let answer = WatchResponse { watch_id: id, ..self.answer_at(revision) };
                self.answers.push_back(answer);
            }
            Told::Other(WatchMessage::Compacted { compact_revision }) => {
                self.watchers.remove(id);
                // etcd names no revision here but the one that can be watched from.
                self.answers.push_back(WatchResponse {
                    watch_id: id,
                    canceled: true,
                    compact_revision: signed(compact_revision),
                    ..self.answer_at(0)
                });
            }
            Told::Other(WatchMessage::Cancelled { reason, .. }) => {
                self.watchers.remove(id);
                let reason = match reason {
                    CancelReason::Slow => "etcdserver: watch canceled: the client is too slow",
                    CancelReason::ShuttingDown => "etcdserver: server stopped",
                    CancelReason::StoreReplaced => {
                        "etcdserver: watch canceled: the store was replaced by an older one"
                    }
                };
                self.answers.push_back(WatchResponse {
                    watch_id: id,
                    canceled: true,
                    cancel_reason: reason.to_owned(),
                    ..self.answer()
                });
            }
        }
    }

    fn tell_changes(&mut self, id: i64, manner: Manner, changes: &[WatchedRevision]) {
        let Some(last) = changes.last() else { return };
        let events = changes
            .iter()
            .flat_map(WatchedRevision::events)
            .map(|change| event(change, manner.previous))
            .collect();
        // Old changes come under the revision that was named when the watcher was created, as in
        // etcd: some clients take a header that goes back for a store that was set back.
        let revision = last.revision().max(self.told_revision.cast_unsigned());
        let answer = WatchResponse { watch_id: id, ..self.answer_at(revision) };
        if manner.fragment {
            self.answers.extend(fragments(answer, events, MESSAGE_BYTES_MAX));
        } else {
            self.answers.push_back(WatchResponse { events, ..answer });
        }
    }

    /// Answers a request for progress, if all watchers have told everything up to some revision.
    fn tell_progress(&mut self) {
        if self.watchers.count() == 0 {
            self.progress_wanted = false;
            let answer = WatchResponse { watch_id: NO_WATCHER, ..self.answer() };
            self.answers.push_back(answer);
            return;
        }
        // The revision first, then what was told; see `WatchPosition`. One below what was told
        // already would take the client back.
        let planted = self.api.door.buggify().is_planted("progress-ahead");
        let revision = if planted { self.api.revision() } else { self.api.door.watched_revision() };
        let told = planted || self.watchers.have_told(revision);
        if signed(revision) >= self.told_revision && told {
            self.progress_wanted = false;
            let answer = WatchResponse { watch_id: NO_WATCHER, ..self.answer_at(revision) };
            self.answers.push_back(answer);
        }
    }

    fn check_leader(&mut self) -> Result<(), Status> {
        let has_leader = self.api.has_leader();
        let Some(check) = &mut self.leader else { return Ok(()) };
        check.leaderless = if has_leader { 0 } else { check.leaderless + 1 };
        if check.leaderless >= LEADERLESS_CHECKS_MAX {
            return Err(error::no_leader());
        }
        check.next = Instant::now() + LEADER_CHECK;
        Ok(())
    }

    fn answer(&self) -> WatchResponse {
        WatchResponse { header: Some(self.api.header()), ..WatchResponse::default() }
    }

    fn answer_at(&self, revision: u64) -> WatchResponse {
        WatchResponse { header: Some(self.api.header_at(revision)), ..WatchResponse::default() }
    }
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => mainstay_world::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// Whether no key can be in a range.
fn is_empty(range: &KeyRange) -> bool {
    match &range.end {
        RangeEnd::Before(end) => *end <= range.start,
        RangeEnd::Single | RangeEnd::Unbounded => false,
    }
}

/// Splits events over answers of less than `bytes_max` bytes each, of at least one event.
fn fragments(answer: WatchResponse, events: Vec<Event>, bytes_max: usize) -> Vec<WatchResponse> {
    // What an event takes beside itself in the list: its tag and length.
    const EVENT_OVERHEAD_BYTES: usize = 6;
    let head = answer.encoded_len() + 8;
    let mut fragments = Vec::new();
    let (mut part, mut bytes) = (Vec::new(), head);
    for event in events {
        let event_bytes = event.encoded_len() + EVENT_OVERHEAD_BYTES;
        if !part.is_empty() && bytes + event_bytes >= bytes_max {
            let events = std::mem::take(&mut part);
            fragments.push(WatchResponse { events, fragment: true, ..answer.clone() });
            bytes = head;
        }
        bytes += event_bytes;
        part.push(event);
    }
    fragments.push(WatchResponse { events: part, ..answer });
    fragments
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_etcd_protocol::mvccpb::KeyValue;

    fn change(value_bytes: usize) -> Event {
        let kv = KeyValue { value: Bytes::from(vec![7; value_bytes]), ..KeyValue::default() };
        Event { kv: Some(kv), ..Event::default() }
    }

    #[test]
    fn fragments_hold_all_events_in_order_and_stay_small() {
        let sizes = [10, 400, 20, 300, 900, 5, 5, 2_000, 1];
        let events: Vec<Event> = sizes.into_iter().map(change).collect();
        let answer = WatchResponse { watch_id: 3, ..WatchResponse::default() };
        let parts = fragments(answer, events.clone(), 1_000);
        let together: Vec<Event> = parts.iter().flat_map(|part| part.events.clone()).collect();
        assert_eq!(together, events);
        let (last, others) = parts.split_last().expect("there is one");
        assert!(!last.fragment && others.iter().all(|part| part.fragment));
        for part in &parts {
            assert_eq!(part.watch_id, 3);
            assert!(part.encoded_len() < 1_000 || part.events.len() == 1, "{part:?}");
        }
    }

    #[test]
    fn what_fits_is_not_split() {
        let parts = fragments(WatchResponse::default(), vec![change(10), change(10)], 1_000);
        assert_eq!(parts.len(), 1);
        assert!(!parts[0].fragment);
    }

    #[test]
    fn a_range_that_ends_where_it_starts_is_empty() {
        let range =
            |end: &'static [u8]| key_range(Bytes::from_static(b"b"), Bytes::from_static(end));
        assert!(is_empty(&range(b"b")) && is_empty(&range(b"a")));
        assert!(!is_empty(&range(b"c")) && !is_empty(&range(b"")) && !is_empty(&range(b"\0")));
    }
}
