//! Watches: many over one stream.

use std::time::Duration;

use futures_util::stream;
use mainstay_etcd_protocol::{
    etcdserverpb::{
        CompactionRequest, DeleteRangeRequest, PutRequest, WatchCancelRequest, WatchCreateRequest,
        WatchProgressRequest, WatchRequest, WatchResponse, watch_create_request::FilterType,
        watch_request::RequestUnion,
    },
    mvccpb::event::EventType,
};
use tokio::sync::mpsc;
use tonic::{Code, Streaming};

use super::{Api, bytes, delete, put};
use crate::harness::with_node;

/// One stream, as its client holds it.
struct Stream {
    requests: mpsc::Sender<WatchRequest>,
    answers: Streaming<WatchResponse>,
}

impl Stream {
    async fn open(api: &mut Api) -> Self {
        let (requests, asked) = mpsc::channel(16);
        let asked = stream::unfold(asked, |mut asked: mpsc::Receiver<_>| async move {
            Some((asked.recv().await?, asked))
        });
        let answers = api.watch.watch(Box::pin(asked)).await.expect("is a stream").into_inner();
        Self { requests, answers }
    }

    async fn ask(&mut self, request: RequestUnion) {
        let request = WatchRequest { request_union: Some(request) };
        self.requests.send(request).await.expect("is open");
    }

    async fn create(&mut self, request: WatchCreateRequest) -> WatchResponse {
        self.ask(RequestUnion::CreateRequest(request)).await;
        let answer = self.next().await;
        assert!(answer.created && answer.events.is_empty(), "{answer:?}");
        answer
    }

    async fn next(&mut self) -> WatchResponse {
        let waited = mainstay_world::timeout(Duration::from_secs(10), self.answers.message());
        waited.await.expect("comes in time").expect("goes on").expect("has not ended")
    }
}

fn watch(key: &'static str) -> WatchCreateRequest {
    WatchCreateRequest { key: bytes(key), ..WatchCreateRequest::default() }
}

fn prefix(key: &'static str, end: &'static str) -> WatchCreateRequest {
    WatchCreateRequest { range_end: bytes(end), ..watch(key) }
}

#[test]
fn watchers_of_one_stream_hear_of_their_keys_in_order() {
    with_node(async |node| {
        let mut api = Api::of(&node);
        let mut stream = Stream::open(&mut api).await;
        assert_eq!(stream.create(watch("a")).await.watch_id, 0);
        let previous = WatchCreateRequest { prev_kv: true, watch_id: 9, ..prefix("b", "c") };
        assert_eq!(stream.create(previous).await.watch_id, 9);
        let first = api.put("a", "1").await;
        let told = stream.next().await;
        assert_eq!((told.watch_id, told.events.len()), (0, 1));
        assert_eq!(told.header.expect("has a header").revision, first);
        let event = &told.events[0];
        assert_eq!(event.r#type(), EventType::Put);
        let pair = event.kv.as_ref().expect("has a pair");
        assert_eq!((&pair.value[..], pair.mod_revision), (&b"1"[..], first));
        api.put("b1", "x").await;
        assert!(stream.next().await.events[0].prev_kv.is_none());
        let deleted = api.kv.delete_range(delete("b1")).await.expect("is deleted").into_inner();
        let told = stream.next().await;
        assert_eq!((told.watch_id, told.events[0].r#type()), (9, EventType::Delete));
        let event = &told.events[0];
        assert_eq!(event.prev_kv.as_ref().expect("was there").value, "x");
        let pair = event.kv.as_ref().expect("has a pair");
        let revision = deleted.header.expect("has a header").revision;
        assert_eq!((pair.mod_revision, pair.create_revision, pair.version), (revision, 0, 0));
        node
    });
}

#[test]
fn a_watcher_starts_in_the_past_and_hears_only_what_it_wants() {
    with_node(async |node| {
        let mut api = Api::of(&node);
        for value in ["1", "2", "3"] {
            api.put("a", value).await;
        }
        api.kv.delete_range(delete("a")).await.expect("is deleted");
        let mut stream = Stream::open(&mut api).await;
        let past = WatchCreateRequest { start_revision: 3, ..watch("a") };
        let created = stream.create(past).await.header.expect("has a header").revision;
        let mut told = Vec::new();
        while told.len() < 3 {
            let answer = stream.next().await;
            // Old changes do not take the header back.
            assert!(answer.header.expect("has a header").revision >= created);
            told.extend(answer.events);
        }
        let values: Vec<_> =
            told.iter().map(|event| event.kv.as_ref().expect("has a pair").value.clone()).collect();
        assert_eq!(values, ["2", "3", ""]);
        for (filter, kind) in
            [(FilterType::Noput, EventType::Delete), (FilterType::Nodelete, EventType::Put)]
        {
            let mut stream = Stream::open(&mut api).await;
            let filters = vec![filter.into()];
            stream.create(WatchCreateRequest { start_revision: 4, filters, ..watch("a") }).await;
            let told = stream.next().await;
            assert_eq!((told.events.len(), told.events[0].r#type()), (1, kind));
        }
        node
    });
}

#[test]
fn a_watcher_that_cannot_be_is_created_and_cancelled() {
    with_node(async |node| {
        let mut api = Api::of(&node);
        for value in ["1", "2", "3"] {
            api.put("a", value).await;
        }
        let compact = CompactionRequest { revision: 3, physical: false };
        api.kv.compact(compact).await.expect("is compacted");
        let mut stream = Stream::open(&mut api).await;
        let late = WatchCreateRequest { start_revision: 2, ..watch("a") };
        assert!(!stream.create(late).await.canceled);
        let told = stream.next().await;
        assert!(told.canceled && !told.created);
        assert_eq!((told.compact_revision, told.watch_id), (3, 0));

        let negative = WatchCreateRequest { start_revision: -1, ..watch("a") };
        let told = stream.create(negative).await;
        assert!(told.canceled);
        assert_eq!(told.watch_id, -1);
        assert_eq!(told.cancel_reason, "etcdserver: mvcc: required revision has been compacted");
        assert!(stream.create(prefix("b", "a")).await.canceled);
        let named = WatchCreateRequest { watch_id: 5, ..watch("a") };
        assert!(!stream.create(named.clone()).await.canceled);
        assert_eq!(
            stream.create(named).await.cancel_reason,
            "mvcc: duplicate watch ID provided on the WatchStream"
        );
        node
    });
}

#[test]
fn a_cancelled_watcher_is_silent_and_its_stream_goes_on() {
    with_node(async |node| {
        let mut api = Api::of(&node);
        let mut stream = Stream::open(&mut api).await;
        stream.create(watch("a")).await;
        stream.create(watch("b")).await;
        // One that there is not gets no answer, as in etcd.
        stream.ask(RequestUnion::CancelRequest(WatchCancelRequest { watch_id: 77 })).await;
        stream.ask(RequestUnion::CancelRequest(WatchCancelRequest { watch_id: 0 })).await;
        let told = stream.next().await;
        assert!(told.canceled && told.cancel_reason.is_empty());
        assert_eq!((told.watch_id, told.compact_revision), (0, 0));
        api.put("a", "1").await;
        api.put("b", "1").await;
        assert_eq!(stream.next().await.watch_id, 1);
        node
    });
}

#[test]
fn progress_is_told_for_all_watchers_and_never_before_their_events() {
    with_node(async |node| {
        let mut api = Api::of(&node);
        let mut stream = Stream::open(&mut api).await;
        let progress = || RequestUnion::ProgressRequest(WatchProgressRequest {});
        stream.ask(progress()).await;
        assert_eq!(stream.next().await.watch_id, -1);
        stream.create(watch("a")).await;
        stream.create(WatchCreateRequest { start_revision: 1, ..watch("b") }).await;
        for round in 0..50 {
            let revision = api.put("a", "v").await;
            stream.ask(progress()).await;
            let (mut seen, mut told) = (false, 0);
            while told < revision {
                let answer = stream.next().await;
                told = answer.header.as_ref().expect("has a header").revision;
                if answer.watch_id == -1 {
                    assert!(answer.events.is_empty() && (seen || told < revision), "{round}");
                    if told < revision {
                        stream.ask(progress()).await;
                    }
                } else {
                    seen = true;
                    if told == revision {
                        // The answer to the request is still to come, at this revision.
                        let answer = stream.next().await;
                        assert_eq!(answer.watch_id, -1);
                    }
                }
            }
        }
        node
    });
}

#[test]
fn large_revisions_are_split_only_for_those_who_asked() {
    with_node(async |node| {
        let mut api = Api::of(&node);
        let value = bytes::Bytes::from(vec![b'v'; 1_000_000]);
        let mut first = 0;
        for key in ["a1", "a2", "a3", "a4"] {
            let request = PutRequest { value: value.clone(), ..put(key, "") };
            let response = api.kv.put(request).await.expect("is written").into_inner();
            let revision = response.header.expect("has a header").revision;
            first = if first == 0 { revision } else { first };
        }
        // One revision of four large events: their deletion, with what was there before.
        let all = DeleteRangeRequest { range_end: bytes("b"), ..delete("a") };
        api.kv.delete_range(all).await.expect("are deleted");
        let request =
            WatchCreateRequest { start_revision: first + 4, prev_kv: true, ..prefix("a", "b") };
        let mut whole = Stream::open(&mut api).await;
        whole.create(request.clone()).await;
        let told = whole.next().await;
        assert_eq!((told.events.len(), told.fragment), (4, false));
        let mut split = Stream::open(&mut api).await;
        split.create(WatchCreateRequest { fragment: true, ..request }).await;
        let mut parts = Vec::new();
        loop {
            let part = split.next().await;
            let last = !part.fragment;
            parts.push(part.events.len());
            if last {
                break;
            }
        }
        assert!(parts.len() > 1, "{parts:?}");
        assert_eq!(parts.iter().sum::<usize>(), 4);
        node
    });
}

#[test]
fn a_stream_that_is_not_read_misses_nothing_and_keeps_nobody_waiting() {
    const WRITES: i64 = 1_500;
    with_node(async |node| {
        // Connections of their own: what is not read fills the window of its connection.
        let mut slow = Stream::open(&mut Api::of(&node)).await;
        let mut quick = Stream::open(&mut Api::of(&node)).await;
        slow.create(prefix("a", "b")).await;
        quick.create(prefix("a", "b")).await;
        let mut api = Api::of(&node);
        let value = bytes::Bytes::from(vec![b'v'; 10_000]);
        let mut told = 0;
        for _ in 0..WRITES {
            let request = PutRequest { value: value.clone(), ..put("a", "") };
            api.kv.put(request).await.expect("is written");
            told += i64::try_from(quick.next().await.events.len()).expect("are few");
        }
        while told < WRITES {
            told += i64::try_from(quick.next().await.events.len()).expect("are few");
        }
        let metrics = node.get("/metrics").await;
        let metrics = String::from_utf8(metrics.body.to_vec()).expect("is text");
        let was_slow = "etcd_debugging_mvcc_slow_watcher_total 1";
        assert!(metrics.lines().any(|line| line == was_slow), "{metrics}");
        let mut revision = 1;
        while revision < 1 + WRITES {
            for event in slow.next().await.events {
                revision += 1;
                assert_eq!(event.kv.expect("has a pair").mod_revision, revision);
            }
        }
        node
    });
}

#[test]
fn what_is_compacted_in_the_moment_it_is_written_is_told_all_the_same() {
    with_node(async |node| {
        let mut api = Api::of(&node);
        let mut stream = Stream::open(&mut api).await;
        stream.create(prefix("a", "b")).await;
        let (mut compacted, mut next) = (0, 2);
        for _ in 0..200 {
            // Together they are often applied together, in this order or another.
            let (mut first, mut second, mut third) = (api.clone(), api.clone(), api.clone());
            let compact = CompactionRequest { revision: next + 1, physical: false };
            let (one, other, done) = tokio::join!(
                first.kv.put(put("a", "1")),
                second.kv.put(put("a", "2")),
                third.kv.compact(compact),
            );
            one.and(other).expect("are written");
            compacted += i32::from(done.is_ok());
            next += 2;
        }
        let mut revision = 1;
        while revision < next - 1 {
            let told = stream.next().await;
            assert!(!told.canceled, "{told:?}");
            for event in told.events {
                revision += 1;
                assert_eq!(event.kv.expect("has a pair").mod_revision, revision);
            }
        }
        assert!(compacted > 0, "no compaction came with what it took away");
        node
    });
}

#[test]
fn ten_thousand_watchers_share_a_stream_and_one_more_is_refused() {
    with_node(async |node| {
        let mut api = Api::of(&node);
        let mut stream = Stream::open(&mut api).await;
        for at in (0..10_000).step_by(16) {
            for _ in 0..16 {
                stream.ask(RequestUnion::CreateRequest(watch("a"))).await;
            }
            for id in at..at + 16 {
                let answer = stream.next().await;
                assert!(answer.created && !answer.canceled && answer.watch_id == id, "{answer:?}");
            }
        }
        let refused = stream.create(watch("a")).await;
        assert!(refused.canceled && refused.watch_id == -1, "{refused:?}");
        assert_eq!(refused.cancel_reason, "etcdserver: too many requests");
        for round in 0..2 {
            let revision = api.put("a", "1").await;
            let mut ids = Vec::new();
            while ids.len() < 10_000 {
                let told = stream.next().await;
                assert_eq!(told.header.expect("has a header").revision, revision);
                ids.push(told.watch_id);
            }
            ids.sort_unstable();
            assert!(ids.into_iter().eq(0..10_000), "in round {round}");
        }
        stream.ask(RequestUnion::CancelRequest(WatchCancelRequest { watch_id: 7 })).await;
        assert!(stream.next().await.canceled);
        assert_eq!(stream.create(watch("a")).await.watch_id, 10_000);
        node
    });
}

#[test]
fn a_stream_ends_with_a_word_when_the_node_stops() {
    with_node(async |mut node| {
        let mut api = Api::of(&node);
        let mut stream = Stream::open(&mut api).await;
        stream.create(watch("a")).await;
        node.begin_to_stop();
        let ended = stream.answers.message().await.expect_err("has ended");
        assert_eq!(
            (ended.code(), ended.message()),
            (Code::Unavailable, "etcdserver: server stopped")
        );
        node
    });
}
