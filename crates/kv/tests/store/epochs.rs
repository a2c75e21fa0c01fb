//! A new epoch: what jumps, what reads as compacted, and what stays.

use mainstay_kv::{
    Command, EPOCH_JUMP, EventKind, KeyRange, Origin, Outcome, QueryError, RangeQuery,
};

use crate::world::{World, put, put_leased};

fn world_of_two_keys() -> World {
    let mut world = World::new();
    world.put("a", "1"); // 2
    world.put("a", "2"); // 3
    world.put("b", "1"); // 4
    world
}

#[test]
fn keys_stay_and_every_revision_of_before_reads_as_compacted() {
    let mut world = world_of_two_keys();
    let a = world.get("a");
    world.store.begin_epoch();
    let revision = 4 + EPOCH_JUMP;
    assert_eq!((world.store.revision(), world.store.compact_revision()), (revision, revision));
    assert_eq!(world.get("a"), a, "key, value and its own revisions are what they were");
    for wanted in [2, 4, revision - 1] {
        let query = RangeQuery { revision: wanted, ..RangeQuery::new(KeyRange::all()) };
        let compacted = QueryError::Compacted { wanted, compact_revision: revision };
        assert_eq!(world.store.range(&query), Err(compacted));
        assert_eq!(world.store.changes(wanted, 1_000), Err(compacted));
    }
    assert_eq!(world.keys_at(revision), ["a", "b"]);
    assert_eq!(world.put("c", "1"), revision + 1);
    let changes = world.store.changes(revision, 1_000).expect("is readable");
    assert_eq!(changes.revisions.len(), 1);
    assert_eq!(changes.revisions[0].events[0].kind, EventKind::Put);
}

#[test]
fn what_nobody_can_read_any_more_is_freed_afterwards() {
    let mut world = world_of_two_keys();
    world.delete("b");
    world.store.begin_epoch();
    assert_eq!(world.store.version_count(), 4);
    world.settle();
    assert_eq!(world.store.version_count(), 1);
    assert_eq!(world.value("a").as_deref(), Some("2"));
}

#[test]
fn leases_get_their_whole_time_to_live_and_end_by_it() {
    let mut world = World::new();
    world.done(Command::LeaseGrant { id: 7, ttl_ms: 10_000 });
    world.done(put_leased("k", "v", 7));
    world.tick_at(9_999);
    world.store.begin_epoch();
    assert_eq!(world.store.lease(7).map(|lease| lease.remaining_ms), Some(10_000));
    world.tick_at(19_998);
    assert_eq!(world.value("k").as_deref(), Some("v"));
    world.tick_at(19_999);
    assert_eq!((world.value("k"), world.store.lease(7)), (None, None));
}

#[test]
fn a_write_that_took_effect_is_recognised_and_ids_are_not_given_twice() {
    let mut world = World::new();
    let session = world.open_session();
    let origin = Origin::Session { session, number: 1, lowest_awaited: 1 };
    let first = world.apply(origin.clone(), put("k", "v"));
    world.store.begin_epoch();
    let again = world.apply(origin, put("k", "v"));
    assert!(again.repeated, "{again:?}");
    assert_eq!(again.revision, first.revision);
    // The old cluster may have opened a session with every sequence up to the jump.
    assert!(world.open_session() > EPOCH_JUMP);
    match world.run(Command::LeaseGrant { id: 0, ttl_ms: 1_000 }) {
        Ok(Outcome::LeaseGranted { id, .. }) => assert_ne!(id, 0),
        other => panic!("{other:?}"),
    }
}

#[test]
#[should_panic(expected = "stands still")]
fn no_epoch_begins_while_a_snapshot_is_taken() {
    let mut world = world_of_two_keys();
    let _walk = world.store.snapshot_begin();
    world.store.begin_epoch();
}
