//! Watches: what they tell, in which order, and what they miss when nodes die, which is nothing.

use std::collections::BTreeMap;

use etcd_client::{
    Client, Event, EventType, WatchFilterType, WatchOptions, WatchResponse, WatchStream,
};
use mainstay_tests::until;

use crate::{client, client_of, cluster, in_time, pair, passes};

async fn message(stream: &mut WatchStream) -> WatchResponse {
    let told = in_time("a message", stream.message()).await;
    told.expect("goes on").expect("has not ended")
}

/// So many events, each with the id of its watch.
async fn events(stream: &mut WatchStream, count: usize) -> Vec<(i64, Event)> {
    let mut all = Vec::new();
    while all.len() < count {
        let told = message(stream).await;
        assert!(!told.canceled(), "{told:?}");
        all.extend(told.events().iter().map(|event| (told.watch_id(), event.clone())));
    }
    all
}

/// What a watch of this stream has told: kind, key, value, and the value before.
fn told(events: &[(i64, Event)], watch: i64) -> Vec<(EventType, &str, &str, Option<&str>)> {
    let of_it = events.iter().filter(|(id, _event)| *id == watch);
    of_it
        .map(|(_id, event)| {
            let (key, value) = pair(event.kv().expect("has a pair"));
            (event.event_type(), key, value, event.prev_kv().map(|before| pair(before).1))
        })
        .collect()
}

#[tokio::test]
async fn watches_on_one_stream_tell_what_each_was_made_for() {
    let cluster = cluster().await;
    let mut client = client(&cluster).await;
    let first = client.put("k/1", "1", None).await.expect("is written");
    let first = first.header().expect("has a header").revision();
    client.put("k/1", "2", None).await.expect("is written");

    let options = WatchOptions::new().with_prefix().with_prev_key().with_start_revision(first);
    let mut stream = client.watch("k/", Some(options)).await.expect("is watched");
    let created = message(&mut stream).await;
    assert!(created.created() && created.watch_id() == 0, "{created:?}");
    let past = events(&mut stream, 2).await;
    let wanted = [(EventType::Put, "k/1", "1", None), (EventType::Put, "k/1", "2", Some("1"))];
    assert_eq!(told(&past, 0), wanted);

    let options = WatchOptions::new().with_filters([WatchFilterType::NoPut]).with_watch_id(7);
    stream.watch("k/1", Some(options)).await.expect("is asked for");
    let created = message(&mut stream).await;
    assert!(created.created() && created.watch_id() == 7, "{created:?}");
    client.put("k/2", "1", None).await.expect("is written");
    client.put("other", "1", None).await.expect("is written");
    client.delete("k/1", None).await.expect("is deleted");
    let present = events(&mut stream, 3).await;
    let deletion = (EventType::Delete, "k/1", "", Some("2"));
    assert_eq!(told(&present, 0), [(EventType::Put, "k/2", "1", None), deletion]);
    assert_eq!(told(&present, 7), [(EventType::Delete, "k/1", "", None)]);

    stream.cancel(7).await.expect("is asked for");
    let cancelled = message(&mut stream).await;
    assert!(cancelled.canceled() && cancelled.watch_id() == 7, "{cancelled:?}");
    client.put("k/1", "3", None).await.expect("is written");
    let last = client.delete("k/1", None).await.expect("is deleted");
    let last = last.header().expect("has a header").revision();
    assert!(events(&mut stream, 2).await.iter().all(|(watch, _event)| *watch == 0));
    // Everything up to here was told, and the stream says so.
    stream.request_progress().await.expect("is asked for");
    let progress = message(&mut stream).await;
    assert!(progress.events().is_empty() && progress.watch_id() == -1, "{progress:?}");
    assert!(progress.header().expect("has a header").revision() >= last, "{progress:?}");
}

#[tokio::test]
async fn a_watch_from_what_was_compacted_is_told_where_to_begin() {
    let cluster = cluster().await;
    let mut client = client(&cluster).await;
    client.put("k", "1", None).await.expect("is written");
    let kept = client.put("k", "2", None).await.expect("is written");
    let kept = kept.header().expect("has a header").revision();
    client.compact(kept, None).await.expect("is compacted");
    let options = WatchOptions::new().with_start_revision(kept - 1);
    let mut stream = client.watch("k", Some(options)).await.expect("is a stream");
    let told = in_time("the end", async {
        loop {
            let told = message(&mut stream).await;
            if told.canceled() {
                return told;
            }
            assert!(told.created() && told.events().is_empty(), "{told:?}");
        }
    })
    .await;
    assert_eq!(told.compact_revision(), kept);
    stream.watch("k", Some(WatchOptions::new().with_start_revision(kept))).await.expect("is asked");
    assert_eq!(pair(events(&mut stream, 1).await[0].1.kv().expect("has a pair")), ("k", "2"));
}

/// A watcher as programs write it: it begins again behind what it was told last.
struct Watcher {
    client: Client,
    stream: Option<WatchStream>,
    revision: i64,
    values: BTreeMap<String, String>,
    told: Vec<String>,
    begun: usize,
}

impl Watcher {
    fn new(client: Client) -> Self {
        let (values, told) = (BTreeMap::new(), Vec::new());
        Self { client, stream: None, revision: 0, values, told, begun: 0 }
    }

    /// Watches until it was told of `last`.
    async fn watch_until(&mut self, last: i64) {
        while self.revision < last {
            let mut stream = match self.stream.take() {
                Some(stream) => stream,
                None => self.begin().await,
            };
            match in_time("a message", stream.message()).await {
                Ok(Some(answer)) => {
                    assert!(!answer.canceled(), "{answer:?}");
                    answer.events().iter().for_each(|event| self.take(event));
                    self.stream = Some(stream);
                }
                Ok(None) => {}
                Err(error) => assert!(passes(&error), "{error:?}"),
            }
        }
    }

    async fn begin(&mut self) -> WatchStream {
        self.begun += 1;
        let options = WatchOptions::new().with_prefix().with_prev_key();
        let options = options.with_start_revision(self.revision + 1);
        until("a watch", async || {
            let watched = self.client.watch("k/", Some(options.clone())).await;
            watched.inspect_err(|error| assert!(passes(error), "{error:?}"))
        })
        .await
    }

    fn take(&mut self, event: &Event) {
        let now = event.kv().expect("has a pair");
        assert!(now.mod_revision() > self.revision, "out of order or twice: {event:?}");
        self.revision = now.mod_revision();
        let (key, value) = pair(now);
        let before = self.values.insert(key.to_owned(), value.to_owned());
        // The chain of values has no hole: nothing was missed, acknowledged or not.
        let told_before = event.prev_kv().map(|before| pair(before).1.to_owned());
        assert_eq!(told_before, before, "a gap before {event:?}");
        self.told.push(value.to_owned());
    }
}

#[tokio::test]
async fn watches_miss_nothing_and_tell_nothing_twice_while_leaders_die() {
    let mut cluster = cluster().await;
    let leader = cluster.leader().await;
    let [one, other] = cluster.others(leader)[..] else { panic!("three nodes") };
    let mut writer = client_of(&cluster, &[one, other]).await;
    // One begins at the leader alone and must look for another node; one is at a follower.
    let mut at_leader = Watcher::new(client_of(&cluster, &[leader]).await);
    let mut at_follower = Watcher::new(client_of(&cluster, &[one]).await);
    let mut written = Vec::new();
    let mut reached = 0;
    for number in 0..300 {
        if number == 100 {
            at_leader.watch_until(reached).await;
            at_follower.watch_until(reached).await;
            cluster[leader].kill().await;
            at_leader.client = client_of(&cluster, &[0, 1, 2]).await;
        }
        let (key, value) = (format!("k/{}", number % 7), number.to_string());
        match writer.put(key, value.as_str(), None).await {
            Ok(put) => {
                reached = put.header().expect("has a header").revision();
                written.push(value);
            }
            // Its outcome is unknown; the watchers say whether it is there.
            Err(error) => assert!(passes(&error), "{error:?}"),
        }
    }
    let last = until("a last write", async || writer.put("k/last", "last", None).await).await;
    let last = last.header().expect("has a header").revision();
    at_leader.watch_until(last).await;
    at_follower.watch_until(last).await;
    assert!(at_leader.begun > 1, "its node died");
    assert_eq!(at_follower.begun, 1, "its node lived");
    assert_eq!(at_leader.told, at_follower.told);
    let missed: Vec<_> = written.iter().filter(|value| !at_leader.told.contains(value)).collect();
    assert!(missed.is_empty() && written.len() > 200, "{missed:?} of {}", written.len());
}
