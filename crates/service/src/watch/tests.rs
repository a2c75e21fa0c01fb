//! Watches over a real store: order, no gaps, no duplicates, bounds, ends.

use std::time::Duration;

use bytes::Bytes;
use mainstay_kv::EventKind;
use mainstay_world::Buggify;
use proptest::prelude::*;

use super::*;
use crate::{
    admission::{Admission, Limits},
    reads::Replica as _,
    store_for_tests::TestStore,
};

/// A hub over a store, with small limits.
struct Setup {
    store: TestStore,
    hub: Arc<WatchHub>,
}

impl Setup {
    fn new() -> Self {
        let store = TestStore::new();
        let limits = Limits {
            watch_queue_revisions_max: 4,
            watch_queue_bytes_max: 10_000,
            watch_changes_bytes_max: 100_000,
            ..Limits::default()
        };
        let admission = Arc::new(Admission::new(limits));
        let hub = Arc::new(WatchHub::new(Box::new(store.clone()), admission, Buggify::none()));
        Self { store, hub }
    }

    /// Starts the hub's task.
    fn run(self) -> Self {
        mainstay_world::spawn(Arc::clone(&self.hub).run(self.store.applied()));
        self
    }

    /// Hands out everything that was applied.
    fn dispatch(&self) {
        while self.hub.dispatch_slice() {}
    }

    fn watch(&self, range: KeyRange, from_revision: u64) -> Watch {
        self.watch_with(WatchRequest {
            range,
            from_revision,
            previous: false,
            no_put: false,
            no_delete: false,
            progress_interval: None,
            catch_up_when_slow: false,
        })
    }

    fn watch_with(&self, request: WatchRequest) -> Watch {
        self.hub.admission().watch_started().expect("there is room");
        Watch::start(Arc::clone(&self.hub), request)
    }
}

fn prefix(prefix: &'static str) -> KeyRange {
    KeyRange::prefix(Bytes::from_static(prefix.as_bytes()))
}

fn key(key: &'static str) -> KeyRange {
    KeyRange::key(Bytes::from_static(key.as_bytes()))
}

/// The next message, which must come within a moment.
async fn next(watch: &mut Watch) -> Option<WatchMessage> {
    let waited = mainstay_world::timeout(Duration::from_secs(5), watch.next()).await;
    waited.expect("the watch has something to say")
}

/// The revision of the next message, which must be of changes.
async fn next_revision(watch: &mut Watch) -> u64 {
    match next(watch).await {
        Some(WatchMessage::Changes(changes)) => changes.revision(),
        other => panic!("changes were expected, not {other:?}"),
    }
}

#[tokio::test]
async fn a_watch_goes_from_the_past_into_the_present_without_a_gap() {
    let setup = Setup::new().run();
    for number in 0..3 {
        setup.store.put("a", &number.to_string());
    }
    let mut watch = setup.watch(key("a"), 2);
    for revision in 2..=4 {
        assert_eq!(next_revision(&mut watch).await, revision);
    }
    for _ in 0..3 {
        let revision = setup.store.put("a", "more");
        assert_eq!(next_revision(&mut watch).await, revision);
    }
}

#[tokio::test]
async fn changes_that_the_hub_went_past_are_told_once() {
    let setup = Setup::new();
    // The hub goes past the change before the watch starts, so the watch reads it.
    let first = setup.store.put("a", "1");
    setup.dispatch();
    let mut watch = setup.watch(key("a"), first);
    assert_eq!(next_revision(&mut watch).await, first);
    assert!(watch.ready().is_none());
    let second = setup.store.put("a", "2");
    setup.dispatch();
    assert_eq!(next_revision(&mut watch).await, second);
    assert!(watch.ready().is_none());
}

#[tokio::test]
async fn a_start_in_the_future_waits() {
    let setup = Setup::new().run();
    let mut watch = setup.watch(key("a"), 4);
    assert!(now(&mut watch).is_none());
    for _ in 0..3 {
        setup.store.put("a", "1");
    }
    assert_eq!(next_revision(&mut watch).await, 4);
    assert!(now(&mut watch).is_none());
}

#[tokio::test]
async fn a_compacted_start_is_told_and_ends_the_watch() {
    let setup = Setup::new().run();
    for _ in 0..4 {
        setup.store.put("a", "1");
    }
    setup.store.compact(4);
    let mut watch = setup.watch(key("a"), 3);
    let told = next(&mut watch).await;
    assert!(matches!(told, Some(WatchMessage::Compacted { compact_revision: 4 })), "{told:?}");
    assert!(next(&mut watch).await.is_none());
    let mut watch = setup.watch(key("a"), 4);
    assert_eq!(next_revision(&mut watch).await, 4);
}

#[tokio::test]
async fn what_is_written_and_compacted_before_the_hub_wakes_is_told_to_those_who_are_up_to_date() {
    let setup = Setup::new();
    let mut polled = setup.watch(key("a"), 0);
    assert!(now(&mut polled).is_none());
    let mut just_started = setup.watch(prefix("a"), 0);
    for _ in 0..3 {
        setup.store.put("a", "1");
    }
    setup.store.delete("a");
    setup.store.put("b", "1");
    setup.store.compact(6);
    setup.dispatch();
    for watch in [&mut polled, &mut just_started] {
        for revision in 2..=5 {
            assert_eq!(next_revision(watch).await, revision);
        }
        assert!(now(watch).is_none());
    }
    // One who starts at what is compacted is not helped by what was kept for others.
    let mut late = setup.watch(key("a"), 3);
    let told = next(&mut late).await;
    assert!(matches!(told, Some(WatchMessage::Compacted { compact_revision: 6 })), "{told:?}");
}

#[tokio::test]
async fn a_snapshot_with_compacted_history_ends_only_watches_that_lack_some_of_it() {
    let setup = Setup::new();
    let mut behind = setup.watch(key("a"), 0);
    let mut ahead = setup.watch(key("a"), 4);
    assert!(now(&mut behind).is_none() && now(&mut ahead).is_none());
    let leader = TestStore::new();
    for _ in 0..4 {
        leader.put("a", "1");
    }
    leader.compact(4);
    setup.store.install(&leader);
    setup.dispatch();
    let told = next(&mut behind).await;
    assert!(matches!(told, Some(WatchMessage::Compacted { compact_revision: 4 })), "{told:?}");
    assert_eq!(next_revision(&mut ahead).await, 4);
    assert_eq!(next_revision(&mut ahead).await, 5);
    assert!(now(&mut ahead).is_none());
}

#[tokio::test]
async fn a_slow_watch_is_cancelled_and_goes_on_from_where_it_is_told() {
    let setup = Setup::new();
    let mut slow = setup.watch(key("a"), 0);
    let mut quick = setup.watch(prefix("a"), 0);
    // Both follow before anything happens.
    assert!(now(&mut slow).is_none() && now(&mut quick).is_none());
    for _ in 0..7 {
        let revision = setup.store.put("a", "1");
        setup.dispatch();
        assert_eq!(next_revision(&mut quick).await, revision);
    }
    for revision in 2..=5 {
        assert_eq!(next_revision(&mut slow).await, revision);
    }
    let told = next(&mut slow).await;
    let Some(WatchMessage::Cancelled { reason, resume_revision }) = told else {
        panic!("{told:?}")
    };
    assert_eq!((reason, resume_revision), (CancelReason::Slow, 6));
    assert!(next(&mut slow).await.is_none());
    assert_eq!(setup.hub.slow_total(), 1);
    let mut resumed = setup.watch(key("a"), resume_revision);
    for revision in 6..=8 {
        assert_eq!(next_revision(&mut resumed).await, revision);
    }
}

#[tokio::test]
async fn a_slow_watch_that_may_reads_again_what_it_missed() {
    let setup = Setup::new();
    let mut watch = setup.watch_with(WatchRequest {
        range: key("a"),
        from_revision: 0,
        previous: false,
        no_put: false,
        no_delete: false,
        progress_interval: None,
        catch_up_when_slow: true,
    });
    let position = watch.position();
    assert!(now(&mut watch).is_none());
    assert!(position.has_told(setup.hub.dispatched_revision()));
    for number in 0..100 {
        setup.store.put("a", &number.to_string());
    }
    setup.dispatch();
    assert_eq!(setup.hub.slow_total(), 1);
    assert!(!position.has_told(setup.hub.dispatched_revision()));
    for revision in 2..102 {
        assert_eq!(next_revision(&mut watch).await, revision);
    }
    assert!(now(&mut watch).is_none());
    assert!(position.has_told(setup.hub.dispatched_revision()));
}

#[tokio::test]
async fn a_slow_watch_is_bounded_by_bytes_too() {
    let setup = Setup::new();
    let mut slow = setup.watch(key("a"), 0);
    assert!(now(&mut slow).is_none());
    for _ in 0..2 {
        setup.store.put("a", &"x".repeat(9_000));
    }
    setup.dispatch();
    assert_eq!(next_revision(&mut slow).await, 2);
    let told = next(&mut slow).await;
    assert!(matches!(told, Some(WatchMessage::Cancelled { resume_revision: 3, .. })), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn progress_is_never_ahead_of_what_was_told() {
    let setup = Setup::new();
    let mut watch = setup.watch_with(WatchRequest {
        range: key("a"),
        from_revision: 0,
        previous: false,
        no_put: false,
        no_delete: false,
        progress_interval: Some(Duration::from_secs(1)),
        catch_up_when_slow: false,
    });
    let progress = async |watch: &mut Watch| match next(watch).await {
        Some(WatchMessage::Progress { revision }) => revision,
        other => panic!("progress was expected, not {other:?}"),
    };
    assert_eq!(progress(&mut watch).await, 1);
    setup.store.put("b", "1");
    setup.store.put("a", "1");
    // Nothing is handed out yet, so the watch may not claim it.
    assert_eq!(progress(&mut watch).await, 1);
    setup.dispatch();
    mainstay_world::sleep(Duration::from_secs(2)).await;
    // What waits comes before the progress that includes it.
    assert_eq!(next_revision(&mut watch).await, 3);
    assert_eq!(progress(&mut watch).await, 3);
}

#[tokio::test]
async fn all_watches_end_when_the_node_stops_and_no_new_one_starts() {
    let setup = Setup::new().run();
    setup.store.put("a", "1");
    let mut following = setup.watch(key("a"), 0);
    assert!(now(&mut following).is_none());
    setup.hub.close(CancelReason::ShuttingDown);
    for mut watch in [following, setup.watch(key("a"), 2)] {
        let from = watch.from_revision();
        let told = next(&mut watch).await;
        let Some(WatchMessage::Cancelled { reason, resume_revision }) = told else {
            panic!("{told:?}")
        };
        assert_eq!((reason, resume_revision), (CancelReason::ShuttingDown, from));
    }
}

#[tokio::test]
async fn a_store_that_went_back_ends_the_watches() {
    let setup = Setup::new();
    let mut watch = setup.watch(key("a"), 0);
    assert!(now(&mut watch).is_none());
    for _ in 0..3 {
        setup.store.put("a", "1");
    }
    setup.dispatch();
    for revision in 2..=4 {
        assert_eq!(next_revision(&mut watch).await, revision);
    }
    setup.store.replace_by_new();
    setup.dispatch();
    let told = next(&mut watch).await;
    let Some(WatchMessage::Cancelled { reason, .. }) = told else { panic!("{told:?}") };
    assert_eq!(reason, CancelReason::StoreReplaced);
}

#[tokio::test]
async fn ten_thousand_watches_hear_of_their_own_keys_only() {
    let setup = Setup::new();
    let mut watches = Vec::new();
    for number in 0..10_000 {
        let range = KeyRange::key(Bytes::from(format!("key{number}")));
        let mut watch = setup.watch(range, 0);
        assert!(now(&mut watch).is_none());
        watches.push(watch);
    }
    for number in [0, 5_000, 9_999] {
        setup.store.put(&format!("key{number}"), "1");
    }
    setup.dispatch();
    let told: Vec<usize> = (0..watches.len()).filter(|at| watches[*at].ready().is_some()).collect();
    assert_eq!(told, [0, 5_000, 9_999]);
}

#[tokio::test]
async fn ten_thousand_watches_of_one_key_take_turns_with_everything_else() {
    let setup = Setup::new();
    let mut watches: Vec<Watch> = (0..10_000).map(|_| setup.watch(key("a"), 0)).collect();
    for _ in 0..2 {
        setup.store.put("a", "1");
    }
    // One revision at a time, whatever was read: others have their turn in between.
    assert!(setup.hub.dispatch_slice());
    assert_eq!(setup.hub.dispatched_revision(), 2);
    let mut between = setup.watch(key("a"), 3);
    let mut from_now = setup.watch(key("a"), 0);
    assert!(from_now.ready().is_none());
    setup.dispatch();
    assert_eq!(setup.hub.dispatched_revision(), 3);
    setup.store.put("a", "1");
    setup.dispatch();
    assert_eq!(next_revision(&mut between).await, 3);
    assert_eq!(next_revision(&mut from_now).await, 4);
    for watch in &mut watches {
        let told = std::iter::from_fn(|| watch.ready_changes()).map(|told| told.revision());
        assert_eq!(told.collect::<Vec<_>>(), [2, 3, 4]);
    }
}

#[tokio::test]
async fn a_thousand_watches_that_are_not_read_hold_a_bounded_share_and_nobody_up() {
    let setup = Setup::new();
    let slow = |number: usize| WatchRequest {
        range: KeyRange::key(Bytes::from(format!("key{number}"))),
        from_revision: 0,
        previous: true,
        no_put: false,
        no_delete: false,
        progress_interval: None,
        catch_up_when_slow: true,
    };
    let mut unread: Vec<Watch> = (0..1_000).map(|number| setup.watch_with(slow(number))).collect();
    let mut reader = setup.watch(prefix("key"), 0);
    for round in 0..4 {
        for number in 0..unread.len() {
            let revision = setup.store.put(&format!("key{number}"), &"x".repeat(1_000));
            setup.dispatch();
            assert_eq!(reader.ready_changes().map(|told| told.revision()), Some(revision));
        }
        // What one queue always takes, and what may wait beyond that.
        let bound = 1_000 * if round == 0 { 1_200 } else { 2_300 } + 100_000;
        assert!(setup.hub.held_bytes() <= bound, "{} in round {round}", setup.hub.held_bytes());
    }
    assert!(setup.hub.slow_total() >= 900, "{}", setup.hub.slow_total());
    for (number, watch) in unread.iter_mut().enumerate() {
        for round in 0..4 {
            assert_eq!(next_revision(watch).await, 2 + round * 1_000 + number as u64);
        }
        assert!(now(watch).is_none());
    }
    drop((unread, reader));
    assert_eq!(setup.hub.held_bytes(), 0);
}

/// What the watch has to say at once, if anything.
fn now(watch: &mut Watch) -> Option<WatchMessage> {
    // Without tokio's budget, which would have ten thousand watches take turns.
    let mut next = std::pin::pin!(tokio::task::unconstrained(watch.next()));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match next.as_mut().poll(&mut context) {
        std::task::Poll::Ready(message) => message,
        std::task::Poll::Pending => None,
    }
}

#[test]
fn dropped_watches_leave_nothing_behind() {
    let setup = Setup::new();
    for _ in 0..3 {
        let mut watch = setup.watch(prefix("a"), 0);
        assert!(now(&mut watch).is_none());
        assert_eq!((setup.hub.followers_count(), setup.hub.admission().watches()), (1, 1));
        drop(watch);
        assert_eq!((setup.hub.followers_count(), setup.hub.admission().watches()), (0, 0));
    }
}

/// What happens in a random history.
#[derive(Debug, Clone)]
enum Step {
    Put(u8),
    Delete(u8),
    Dispatch,
    /// Watcher number, how many messages it takes at most.
    Take(usize, usize),
    /// Watcher number, and which key or prefix it watches, from which revision.
    Start(usize, u8, bool, u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_u8..4).prop_map(Step::Put),
        1 => (0_u8..4).prop_map(Step::Delete),
        3 => Just(Step::Dispatch),
        4 => (0_usize..4, 1_usize..6).prop_map(|(watch, count)| Step::Take(watch, count)),
        1 => (0_usize..4, 0_u8..4, any::<bool>(), 1_u64..20)
            .prop_map(|(watch, of, wide, from)| Step::Start(watch, of, wide, from)),
    ]
}

/// A watcher and everything it was told.
struct Told {
    watch: Watch,
    range: KeyRange,
    from: u64,
    events: Vec<(u64, Bytes, EventKind)>,
}

impl Told {
    fn take(&mut self, setup: &Setup) {
        match now(&mut self.watch) {
            Some(WatchMessage::Changes(changes)) => {
                let revision = changes.revision();
                let events = changes.events();
                self.events
                    .extend(events.map(|event| (revision, event.pair.key.clone(), event.kind)));
            }
            Some(WatchMessage::Cancelled { resume_revision, .. }) => {
                self.watch = setup.watch(self.range.clone(), resume_revision);
            }
            Some(other) => panic!("nothing else is said here: {other:?}"),
            None => {}
        }
    }
}

proptest! {
    /// Whatever the order of writing, handing out and taking, and however often a watch is too
    /// slow and resumes: in the end it was told each change of its keys once, in order.
    #[test]
    fn watches_tell_every_change_once_and_in_order(steps in prop::collection::vec(step(), 1..120)) {
        let setup = Setup::new();
        let mut history: Vec<(u64, Bytes, EventKind)> = Vec::new();
        let mut watchers: Vec<Option<Told>> = (0..4).map(|_| None).collect();
        let name = |number: u8| format!("{}{}", number / 2, number % 2);
        for step in steps {
            match step {
                Step::Put(number) => {
                    let revision = setup.store.put(&name(number), "x");
                    history.push((revision, Bytes::from(name(number)), EventKind::Put));
                }
                Step::Delete(number) => {
                    let before = setup.store.read(mainstay_kv::Store::revision);
                    let revision = setup.store.delete(&name(number));
                    if revision > before {
                        history.push((revision, Bytes::from(name(number)), EventKind::Delete));
                    }
                }
                Step::Dispatch => setup.dispatch(),
                Step::Take(at, count) => {
                    if let Some(told) = &mut watchers[at] {
                        for _ in 0..count {
                            told.take(&setup);
                        }
                    }
                }
                Step::Start(at, of, wide, from) => {
                    let of = Bytes::from(name(of));
                    let range =
                        if wide { KeyRange::prefix(of.slice(..1)) } else { KeyRange::key(of) };
                    let watch = setup.watch(range.clone(), from);
                    watchers[at] = Some(Told { watch, range, from, events: Vec::new() });
                }
            }
        }
        for told in watchers.iter_mut().flatten() {
            for _ in 0..400 {
                setup.dispatch();
                told.take(&setup);
            }
            let wanted: Vec<_> = history
                .iter()
                .filter(|(revision, key, _)| *revision >= told.from && told.range.contains(key))
                .cloned()
                .collect();
            prop_assert_eq!(&told.events, &wanted);
        }
    }
}
