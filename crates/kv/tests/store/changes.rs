//! What watches are fed with.

use mainstay_kv::{Changes, Command, Event, EventKind, KeyRange, KeyValue, QueryError};

use crate::world::{World, bytes, delete, op_delete, op_put, single, txn};

fn changes(world: &World, from: u64) -> Changes {
    world.store.changes(from, usize::MAX).expect("readable")
}

/// Events as text: revision, `+` or `-`, key, value, and what was there before.
fn lines(changes: &Changes) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let line = |revision: u64, event: &Event| {
        let sign = if event.kind == EventKind::Put { '+' } else { '-' };
        let before = event.previous.as_ref().map_or("nothing".to_owned(), |pair| text(&pair.value));
        let (key, value) = (text(&event.pair.key), text(&event.pair.value));
        format!("{revision} {sign}{key}={value} was {before}")
    };
    let revisions = changes.revisions.iter();
    revisions
        .flat_map(|revision| revision.events.iter().map(|event| line(revision.revision, event)))
        .collect()
}

#[test]
fn every_revision_tells_its_events_in_their_order() {
    let mut world = World::new();
    world.put("a", "1");
    world.put("a", "2");
    world.done(Command::Txn(txn(
        vec![],
        vec![op_put("z", "1"), op_delete(single("a")), op_put("b", "1")],
        vec![],
    )));
    world.done(delete(single("none")));
    world.done(delete(KeyRange::all()));
    world.put("a", "3");
    assert_eq!(
        lines(&changes(&world, 1)),
        [
            "2 +a=1 was nothing",
            "3 +a=2 was 1",
            "4 +z=1 was nothing",
            "4 -a= was 2",
            "4 +b=1 was nothing",
            "5 -b= was 1",
            "5 -z= was 1",
            "6 +a=3 was nothing",
        ]
    );
    assert_eq!(changes(&world, 1).next_revision, 7);
    assert_eq!(lines(&changes(&world, 6)), ["6 +a=3 was nothing"]);
}

#[test]
fn a_deletion_carries_its_key_and_revision_and_nothing_else() {
    let mut world = World::new();
    world.put("a", "1");
    world.delete("a");
    let event = changes(&world, 3).revisions.remove(0).events.remove(0);
    assert_eq!(
        event.pair,
        KeyValue {
            key: bytes("a"),
            value: bytes(""),
            create_revision: 0,
            mod_revision: 3,
            version: 0,
            lease: 0,
        }
    );
}

#[test]
fn pages_hold_whole_revisions_and_at_least_one() {
    let mut world = World::new();
    for _ in 0..3 {
        world.done(Command::Txn(txn(vec![], vec![op_put("a", "1"), op_put("b", "1")], vec![])));
    }
    let mut next = 1;
    for revision in 2..5 {
        let page = world.store.changes(next, 0).expect("readable");
        assert_eq!(page.revisions.len(), 1);
        assert_eq!((page.revisions[0].revision, page.revisions[0].events.len()), (revision, 2));
        next = page.next_revision;
    }
    assert_eq!(next, 5);
    let end = world.store.changes(next, 0).expect("readable");
    assert_eq!(end, Changes { revisions: vec![], next_revision: 5 });
    // Two events a revision, of 64 bytes and two of key and value, and of what was before.
    assert_eq!(world.store.changes(1, 133).expect("readable").revisions.len(), 2);
    assert_eq!(world.store.changes(1, 132).expect("readable").revisions.len(), 1);
}

#[test]
fn a_start_in_the_future_waits_there() {
    let mut world = World::new();
    world.put("a", "1");
    assert_eq!(changes(&world, 9), Changes { revisions: vec![], next_revision: 9 });
}

#[test]
fn a_watch_may_open_at_the_compaction_revision_and_not_before() {
    let mut world = World::new();
    world.put("a", "1");
    world.put("b", "1");
    world.delete("a");
    world.put("c", "1");
    world.compact(4);
    world.settle();
    let refused = world.store.changes(3, usize::MAX);
    assert_eq!(refused, Err(QueryError::Compacted { wanted: 3, compact_revision: 4 }));
    // The deletion at the compaction revision is seen; what was there before it is compacted.
    assert_eq!(lines(&changes(&world, 4)), ["4 -a= was nothing", "5 +c=1 was nothing"]);
}

#[test]
fn whether_a_previous_value_is_shown_does_not_depend_on_how_far_freeing_has_come() {
    let mut world = World::new();
    world.put("a", "1");
    world.put("a", "2");
    world.put("a", "3");
    world.compact(3);
    let expected = ["3 +a=2 was nothing", "4 +a=3 was 2"];
    assert_eq!(lines(&changes(&world, 3)), expected);
    world.settle();
    assert_eq!(lines(&changes(&world, 3)), expected);
}
