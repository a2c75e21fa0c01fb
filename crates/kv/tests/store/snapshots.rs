//! Snapshots: slices, pins, and bytes that are not what they were.

use bytes::Bytes;
use mainstay_kv::{Command, KeyRange, Origin, RestoreError, Store, StoreRestore};

use crate::world::{World, bytes, delete, op_put, put, put_leased, txn};

/// A store with something of everything, in the middle of freeing a compaction.
pub(crate) fn full_world() -> World {
    let mut world = World::new();
    world.time_ms = 5;
    world.done(Command::LeaseGrant { id: 3, ttl_ms: 60_000 });
    let session = world.open_session();
    for number in 0..150 {
        world.put(&format!("key{}", number % 20), &number.to_string());
    }
    world.done(put_leased("leased", &"long ".repeat(20), 3));
    world.done(Command::Txn(txn(vec![], vec![op_put("x", "1"), op_put("y", "2")], vec![])));
    world.delete("key7");
    for number in 1..4 {
        let origin = Origin::Session { session, number, lowest_awaited: 2 };
        world.apply(origin, put("numbered", &number.to_string()));
    }
    world.apply(Origin::Key(bytes("idempotent")), put("keyed", "1"));
    let revision = world.store.revision() - 10;
    world.compact(revision);
    world.put("last", "");
    assert_eq!(world.store.next_deadline_ms(), Some(0), "freeing is under way");
    world
}

pub(crate) fn chunks(store: &mut Store, budget: usize) -> Vec<Bytes> {
    let mut walk = store.snapshot_begin();
    let chunks = std::iter::from_fn(|| store.snapshot_next(&mut walk, budget)).collect();
    assert!(walk.is_finished());
    assert_eq!(store.snapshot_next(&mut walk, budget), None);
    store.snapshot_end(walk);
    chunks
}

fn restore(chunks: &[impl AsRef<[u8]>]) -> Result<Store, RestoreError> {
    let mut restore = StoreRestore::new();
    for chunk in chunks {
        restore.push(chunk.as_ref())?;
    }
    restore.finish()
}

#[test]
fn a_restored_store_is_the_same_in_every_way_and_goes_on_the_same() {
    let mut world = full_world();
    for budget in [0, 100, 4_096, usize::MAX] {
        let mut restored = restore(&chunks(&mut world.store, budget)).expect("whole");
        let store = &mut world.store;
        assert_eq!(restored.hash(), store.hash());
        assert_eq!(restored.sequence(), store.sequence());
        assert_eq!(restored.revision(), store.revision());
        assert_eq!(restored.compact_revision(), store.compact_revision());
        assert_eq!(restored.clock_ms(), store.clock_ms());
        assert_eq!(restored.wall_ms(), store.wall_ms());
        assert_eq!(restored.settings(), store.settings());
        assert_eq!(restored.space(), store.space());
        assert_eq!(restored.key_count(), store.key_count());
        assert_eq!(restored.version_count(), store.version_count());
        assert_eq!(restored.lease(3), store.lease(3));
        assert_eq!(restored.session_count(), store.session_count());
        assert_eq!(restored.idempotency_key_count(), store.idempotency_key_count());
        assert_eq!(restored.next_deadline_ms(), store.next_deadline_ms());
        let from = store.compact_revision();
        assert_eq!(restored.changes(from, usize::MAX), store.changes(from, usize::MAX));
        let next = world.envelope(Origin::Key(bytes("idempotent")), put("keyed", "1"));
        let applied = world.store.apply(next.clone(), crate::world::TERM);
        assert!(applied.repeated);
        assert_eq!(restored.apply(next, crate::world::TERM), applied);
        assert_eq!(restored.hash(), world.store.hash());
    }
}

#[test]
fn an_empty_store_has_a_snapshot_too() {
    let mut store = Store::new();
    let restored = restore(&chunks(&mut store, 100)).expect("whole");
    assert_eq!(restored.hash(), store.hash());
}

#[test]
fn chunks_keep_to_the_budget_but_for_one_row() {
    let mut world = full_world();
    let all = chunks(&mut world.store, 300);
    assert!(all.len() > 10, "{} chunks", all.len());
    assert!(all[1..].iter().all(|chunk| chunk.len() < 300 + 250), "a row has at most 250 bytes");
}

#[test]
fn what_is_freed_during_a_walk_is_still_in_it() {
    let mut world = full_world();
    let hash = world.store.hash();
    let mut walk = world.store.snapshot_begin();
    assert_eq!((walk.hash(), walk.sequence()), (hash, world.store.sequence()));
    assert_eq!(walk.revision(), world.store.revision());
    assert_eq!(walk.bytes_estimate(), world.store.space().bytes);
    let mut taken = vec![];
    for round in 0..3 {
        taken.extend(world.store.snapshot_next(&mut walk, 200));
        world.done(delete(KeyRange::all()));
        world.put("after", &round.to_string());
        let revision = world.store.revision();
        world.compact(revision);
        world.settle();
    }
    world.tick_at(10_000_000);
    assert_eq!((world.store.session_count(), world.store.lease_count()), (0, 0));
    while let Some(chunk) = world.store.snapshot_next(&mut walk, 200) {
        taken.push(chunk);
    }
    world.store.snapshot_end(walk);
    let restored = restore(&taken).expect("whole");
    assert_eq!(restored.hash(), hash);
    assert!(restored.key_count() > 20 && world.store.key_count() == 1);
}

#[test]
fn a_walk_that_is_dropped_or_ended_early_makes_room_for_the_next() {
    let mut world = full_world();
    let mut walk = world.store.snapshot_begin();
    world.store.snapshot_next(&mut walk, 100);
    drop(walk);
    let walk = world.store.snapshot_begin();
    world.store.snapshot_end(walk);
    restore(&chunks(&mut world.store, 100)).expect("whole");
}

#[test]
#[should_panic(expected = "one snapshot walk at a time")]
fn two_walks_at_once_are_a_bug() {
    let mut store = Store::new();
    let _first = store.snapshot_begin();
    let _second = store.snapshot_begin();
}

#[test]
fn a_walk_of_another_store_gets_nothing() {
    let mut world = full_world();
    let mut other = Store::new();
    let mut walk = world.store.snapshot_begin();
    // As when an installed snapshot was swapped in meanwhile.
    assert_eq!(other.snapshot_next(&mut walk, 100), None);
    assert!(!walk.is_finished());
    other.snapshot_end(walk);
}

#[test]
fn every_prefix_of_the_chunks_is_incomplete() {
    let mut world = full_world();
    let all = chunks(&mut world.store, 500);
    for end in 0..all.len() {
        assert!(
            matches!(restore(&all[..end]), Err(RestoreError::Incomplete { .. })),
            "{end} of {} chunks",
            all.len()
        );
    }
}

#[test]
fn missing_repeated_and_swapped_chunks_are_noticed() {
    let mut world = full_world();
    let all = chunks(&mut world.store, 500);
    for at in 0..all.len() - 1 {
        let mut missing = all.clone();
        missing.remove(at);
        let mut repeated = all.clone();
        repeated.insert(at, all[at].clone());
        let mut swapped = all.clone();
        swapped.swap(at, at + 1);
        for damaged in [missing, repeated, swapped] {
            assert!(matches!(restore(&damaged), Err(RestoreError::Order { .. })), "chunk {at}");
        }
    }
    let surplus = [&all[..], &all[..1]].concat();
    assert!(restore(&surplus).is_err());
}

#[test]
fn every_prefix_and_every_flipped_bit_of_a_chunk_is_refused() {
    let mut world = full_world();
    let all = chunks(&mut world.store, 1_500);
    for (at, chunk) in all.iter().enumerate() {
        for end in 0..chunk.len() {
            let mut damaged = all.clone();
            damaged[at] = chunk.slice(..end);
            assert!(restore(&damaged).is_err(), "{end} bytes of chunk {at}");
        }
    }
    // One chunk after the other, pushed onto what comes before it.
    for (at, chunk) in all.iter().enumerate() {
        for bit in 0..chunk.len() * 8 {
            let mut damaged = chunk.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let mut restore = StoreRestore::new();
            if bit % 64 == 0 {
                all[..at].iter().for_each(|chunk| restore.push(chunk).expect("undamaged"));
            }
            assert!(restore.push(&damaged).is_err(), "bit {bit} of chunk {at}");
        }
    }
}

/// Puts the checksum right after a change, so that the rest has to notice.
fn reseal(chunk: &mut [u8]) {
    let checksum = mainstay_codec::checksum(0, &chunk[4..]);
    chunk[..4].copy_from_slice(&checksum.to_le_bytes());
}

#[test]
fn damage_under_a_right_checksum_never_makes_another_store() {
    let mut world = full_world();
    let hash = world.store.hash();
    let all = chunks(&mut world.store, 1_500);
    for (at, chunk) in all.iter().enumerate() {
        for byte in 8..chunk.len() {
            let mut damaged = chunk.to_vec();
            damaged[byte] = damaged[byte].wrapping_add(1);
            reseal(&mut damaged);
            let mut altered: Vec<Bytes> = all.clone();
            altered[at] = Bytes::from(damaged);
            // Bytes that decode to the same rows make the same store; all others are refused.
            if let Ok(store) = restore(&altered) {
                assert_eq!(store.hash(), hash, "byte {byte} of chunk {at}");
            }
        }
    }
}

#[test]
fn a_newer_format_is_named() {
    let mut store = Store::new();
    let mut header = chunks(&mut store, 100)[0].to_vec();
    // Behind checksum, number, kind and the row's length stands the format.
    assert_eq!(header[13], 1);
    header[13] = 3;
    reseal(&mut header);
    assert!(matches!(
        StoreRestore::new().push(&header),
        Err(RestoreError::NewerFormat { found: 3 })
    ));
}
