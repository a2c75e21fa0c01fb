//! Compaction: what becomes unreadable at once, what is freed, and how fast.

use mainstay_kv::{Command, KeyRange, QueryError, Refusal};

use crate::world::{World, delete, put};

#[test]
fn compacting_refuses_what_is_compacted_or_lies_in_the_future() {
    let mut world = World::new();
    for value in ["1", "2", "3"] {
        world.put("k", value);
    }
    let compact = |revision| Command::Compact { revision };
    let compacted = |wanted, compact_revision| {
        Err(Refusal::Query(QueryError::Compacted { wanted, compact_revision }))
    };
    assert_eq!(world.run(compact(0)), compacted(0, 0));
    assert_eq!(
        world.run(compact(5)),
        Err(Refusal::Query(QueryError::Future { wanted: 5, revision: 4 }))
    );
    world.compact(3);
    assert_eq!(world.run(compact(3)), compacted(3, 3));
    assert_eq!(world.run(compact(2)), compacted(2, 3));
    world.compact(4);
    assert_eq!((world.store.revision(), world.store.compact_revision()), (4, 4));
}

#[test]
fn what_nobody_may_read_any_more_is_freed_and_nothing_else() {
    let mut world = World::new();
    world.put("old", "1"); // 2
    world.put("old", "2"); // 3
    world.put("gone", "1"); // 4
    world.delete("gone"); // 5
    world.put("back", "1"); // 6
    world.delete("back"); // 7
    world.put("old", "3"); // 8
    world.put("back", "2"); // 9
    world.put("old", "4"); // 10
    assert_eq!(world.store.version_count(), 9);
    let at_8 = world.keys_at(8);
    world.compact(8);
    assert_eq!(world.store.version_count(), 9, "freeing follows");
    world.settle();
    // Left: old at 8 and 10, back at 9. Gone: old at 2 and 3, and both tombstones below 8.
    assert_eq!(world.store.version_count(), 3);
    assert_eq!(world.keys_at(8), at_8);
    assert_eq!(world.keys_at(9), ["back", "old"]);
    let bytes: u64 = [("old", "3"), ("back", "2"), ("old", "4")]
        .iter()
        .map(|(key, value)| (key.len() + value.len()) as u64 + 64)
        .sum();
    assert_eq!(world.store.space().bytes, bytes);
}

#[test]
fn a_tombstone_at_the_compaction_revision_stays_until_the_next_compaction() {
    let mut world = World::new();
    world.put("a", "1");
    world.put("b", "1");
    world.delete("a"); // 4
    world.compact(4);
    world.settle();
    assert_eq!(world.store.version_count(), 2, "b and the tombstone of a");
    world.put("b", "2"); // 5
    world.compact(5);
    world.settle();
    assert_eq!(world.store.version_count(), 1, "b");
    assert_eq!(world.store.changes(5, usize::MAX).expect("readable").revisions.len(), 1);
}

#[test]
fn an_emptied_store_keeps_nothing() {
    let mut world = World::new();
    for number in 0..200 {
        world.put(&format!("k{number}"), "v");
    }
    let revision = world.done(delete(KeyRange::all()));
    world.compact(revision);
    world.settle();
    assert_eq!(world.store.version_count(), 200, "tombstones at the compaction revision");
    let revision = world.put("other", "");
    world.compact(revision);
    world.settle();
    assert_eq!(world.store.version_count(), 1);
    assert_eq!((world.store.key_count(), world.store.space().bytes), (1, 69));
}

#[test]
fn freeing_is_bounded_for_each_entry_and_ticks_do_more() {
    let mut world = World::new();
    for number in 0..10_000 {
        world.put("k", &number.to_string());
    }
    let revision = world.store.revision();
    world.compact(revision);
    assert_eq!(world.store.next_deadline_ms(), Some(0));
    let mut counts = vec![world.store.version_count()];
    world.put("k", "a");
    counts.push(world.store.version_count());
    world.done(Command::Tick);
    counts.push(world.store.version_count());
    // The first version visited has none before it; the put adds one.
    assert_eq!(counts, [10_000, 9_938, 5_842]);
    world.settle();
    assert_eq!(world.store.version_count(), 2);
    assert_eq!(world.store.next_deadline_ms(), None);
}

#[test]
fn freeing_large_values_costs_more_of_the_bound() {
    let mut world = World::new();
    let large = "x".repeat(1_000_000);
    for _ in 0..8 {
        world.put("k", &large);
    }
    let revision = world.store.revision();
    world.compact(revision);
    world.put("other", "");
    assert_eq!(world.store.version_count(), 8, "the first of eight is freed, one is new");
}

#[test]
fn a_compaction_may_follow_while_the_last_one_is_not_done() {
    let mut world = World::new();
    for number in 0..300 {
        // Some keys are never touched again after the first compaction.
        let key = if number < 200 { format!("early{}", number % 60) } else { "late".to_owned() };
        world.put(&key, &number.to_string());
        if number % 5 == 0 {
            world.delete(&key);
        }
    }
    let half = world.store.revision() * 3 / 4;
    world.compact(half);
    world.done(put("late", "x"));
    let revision = world.store.revision();
    world.compact(revision);
    world.settle();
    assert_eq!(world.store.version_count(), world.store.key_count());
}
