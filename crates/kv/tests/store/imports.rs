//! Taking over the keys and leases of another store.

use bytes::Bytes;
use mainstay_kv::{
    Command, Import, ImportRefusal, ImportedLease, KeyRange, KeyValue, Outcome, QueryError,
    RangeQuery, Refusal, Settings, SnapshotWalk, Store, StoreRestore,
};

use crate::world::{World, bytes, compare, delete, op_put, put, put_leased, single, txn};
use mainstay_kv::{Operand, Relation};

fn world() -> World {
    let mut world = World::new();
    world.done(Command::RaiseFormat { format: 2 });
    world
}

fn step(step: Import) -> Command {
    Command::Import(step)
}

fn pair(key: &str, create_revision: u64, mod_revision: u64, version: u64, lease: u64) -> KeyValue {
    let value = Bytes::from(format!("the value of {key}"));
    KeyValue { key: bytes(key), value, create_revision, mod_revision, version, lease }
}

fn pairs(after_revision: u64, pairs: Vec<KeyValue>) -> Command {
    step(Import::Pairs { after_revision, pairs })
}

fn begin() -> Command {
    step(Import::Begin { source: 0xabc })
}

fn refusal(world: &mut World, command: Command) -> Refusal {
    let hash = world.store.hash();
    let refused = world.run(command).expect_err("is refused");
    assert_ne!(world.store.hash(), hash, "the entry counts");
    refused
}

/// What a source has: a key written thrice, one with a lease, two of one transaction.
fn imported() -> World {
    let mut world = world();
    world.done(begin());
    let granted =
        vec![ImportedLease { id: 5, ttl_ms: 10_000 }, ImportedLease { id: 6, ttl_ms: 20_000 }];
    world.done(step(Import::Leases { ended: vec![], granted }));
    world.done(pairs(1, vec![pair("b", 3, 7, 3, 0), pair("a", 9, 9, 1, 5)]));
    world.done(pairs(9, vec![pair("c", 12, 12, 1, 0), pair("d", 4, 12, 8, 5)]));
    world
}

fn end(world: &mut World) {
    let revision = world.done(step(Import::End { after_revision: 12, revision: 40 }));
    assert_eq!(revision, 40);
}

#[test]
fn keys_keep_their_revisions_their_count_of_writes_and_their_lease() {
    let mut world = imported();
    end(&mut world);
    let answer = world.store.range(&RangeQuery::new(KeyRange::all())).expect("the present");
    let expected = [
        pair("a", 9, 9, 1, 5),
        pair("b", 3, 7, 3, 0),
        pair("c", 12, 12, 1, 0),
        pair("d", 4, 12, 8, 5),
    ];
    assert_eq!(answer.pairs, expected);
    assert_eq!((world.store.revision(), world.store.compact_revision()), (40, 40));
    let lease = world.store.lease(5).expect("is here");
    assert_eq!(lease.keys, [bytes("a"), bytes("d")]);
    assert_eq!(world.store.lease(6).expect("is here").keys, Vec::<Bytes>::new());
    assert_eq!(world.store.import_source(), None);
}

#[test]
fn what_clients_remember_of_the_source_holds_here() {
    let mut world = imported();
    end(&mut world);
    // A compare with a revision that was read there.
    let is_unchanged = compare("b", Relation::Equal, Operand::ModRevision(7));
    let update = txn(vec![is_unchanged], vec![op_put("b", "new")], vec![]);
    match world.run(Command::Txn(update)).expect("is carried out") {
        Outcome::Txn(outcome) => assert!(outcome.succeeded),
        other => panic!("{other:?}"),
    }
    let written = world.get("b").expect("is there");
    assert_eq!((written.create_revision, written.mod_revision, written.version), (3, 41, 4));
    // A watch that saw everything up to the source's revision.
    let changes = world.store.changes(41, 1_000).expect("is readable");
    assert_eq!(changes.revisions.len(), 1);
    // One that did not is told.
    let behind = world.store.changes(12, 1_000);
    assert_eq!(behind, Err(QueryError::Compacted { wanted: 12, compact_revision: 40 }));
}

#[test]
fn while_it_lasts_nobody_else_changes_anything() {
    let mut world = imported();
    for command in [
        put("k", "v"),
        put_leased("a", "v", 5),
        delete(single("a")),
        Command::Txn(txn(vec![], vec![op_put("k", "v")], vec![])),
        Command::Compact { revision: 9 },
        Command::LeaseGrant { id: 9, ttl_ms: 1_000 },
        Command::LeaseRevoke { id: 5 },
        Command::LeaseKeepAlive { ids: vec![5] },
    ] {
        assert_eq!(refusal(&mut world, command), Refusal::Importing);
    }
    world.done(Command::Tick);
    world.done(Command::SessionOpen);
    world.done(Command::Configure(Settings::default()));
    assert_eq!(world.store.key_count(), 4);
    end(&mut world);
    assert_eq!(world.put("k", "v"), 41);
}

#[test]
fn leases_do_not_run_before_the_end_and_have_their_whole_time_after_it() {
    let mut world = imported();
    world.tick_at(1_000_000);
    assert_eq!(world.store.key_count(), 4);
    end(&mut world);
    assert_eq!(world.store.lease(5).expect("is here").remaining_ms, 10_000);
    world.tick_at(1_009_999);
    assert_eq!(world.store.key_count(), 4);
    world.tick_at(1_010_000);
    assert_eq!(world.keys_at(0), ["b", "c"]);
}

#[test]
fn only_an_empty_store_is_filled_and_only_from_one_source() {
    let mut world = world();
    world.put("k", "v");
    let not_empty = ImportRefusal::NotEmpty { keys: 1, leases: 0 };
    assert_eq!(refusal(&mut world, begin()), Refusal::Import(not_empty));
    world.delete("k");
    world.done(Command::LeaseGrant { id: 1, ttl_ms: 10_000 });
    let not_empty = ImportRefusal::NotEmpty { keys: 0, leases: 1 };
    assert_eq!(refusal(&mut world, begin()), Refusal::Import(not_empty));
    world.done(Command::LeaseRevoke { id: 1 });
    world.done(begin());
    // Going on with it is no other one.
    world.done(begin());
    let other = ImportRefusal::OtherSource { source_id: 0xabc };
    assert_eq!(refusal(&mut world, step(Import::Begin { source: 1 })), Refusal::Import(other));
    // What was before stays before.
    world.done(pairs(3, vec![pair("k", 4, 4, 1, 0)]));
    world.done(step(Import::End { after_revision: 4, revision: 4 }));
    world.settle();
    assert_eq!(world.store.version_count(), 1);
}

#[test]
fn a_step_that_comes_twice_or_out_of_place_changes_nothing() {
    let mut world = imported();
    for command in [
        pairs(9, vec![pair("e", 13, 13, 1, 0)]),
        pairs(13, vec![pair("e", 14, 14, 1, 0)]),
        step(Import::End { after_revision: 9, revision: 40 }),
        step(Import::End { after_revision: 12, revision: 11 }),
    ] {
        let refused = refusal(&mut world, command);
        assert!(matches!(refused, Refusal::Import(ImportRefusal::OutOfPlace { .. })), "{refused}");
    }
    end(&mut world);
    for command in [
        pairs(40, vec![pair("e", 41, 41, 1, 0)]),
        step(Import::Forget { keys: vec![bytes("a")] }),
        step(Import::End { after_revision: 40, revision: 41 }),
    ] {
        assert_eq!(refusal(&mut world, command), Refusal::Import(ImportRefusal::NotBegun));
    }
    assert_eq!(world.store.key_count(), 4);
}

#[test]
fn pairs_that_no_source_can_have_are_refused_whole() {
    let mut world = imported();
    let good = || pair("e", 13, 13, 1, 0);
    for bad in [
        pair("f", 1, 12, 1, 0),
        pair("f", 14, 13, 1, 0),
        pair("f", 0, 13, 1, 0),
        pair("f", 13, 13, 0, 0),
        pair("f", 13, 13, 14, 0),
        pair("f", 13, 13, 1, 99),
        pair("e", 13, 14, 1, 0),
        pair("a", 13, 14, 1, 0),
        pair("f", 13, u64::MAX, 1, 0),
    ] {
        let refused = refusal(&mut world, pairs(12, vec![good(), bad.clone()]));
        let is_named = matches!(&refused, Refusal::Import(ImportRefusal::Impossible { at: 1, .. }));
        assert!(is_named, "{bad:?}: {refused}");
        assert_eq!(world.store.key_count(), 4);
    }
    let key_bytes_max = Settings::default().key_bytes_max;
    let long = "x".repeat(usize::try_from(key_bytes_max).expect("is small") + 1);
    let refused = refusal(&mut world, pairs(12, vec![pair(&long, 13, 13, 1, 0)]));
    assert!(matches!(refused, Refusal::KeyTooLarge { .. }), "{refused}");
    assert_eq!(refusal(&mut world, pairs(12, vec![pair("", 13, 13, 1, 0)])), Refusal::KeyEmpty);
}

#[test]
fn an_interrupted_import_goes_on_with_what_the_source_has_now() {
    let mut world = imported();
    // The source deleted `b`, wrote `d` again, and ended lease 6 meanwhile.
    world.done(step(Import::Forget { keys: vec![bytes("b"), bytes("d"), bytes("never")] }));
    assert_eq!(world.keys_at(0), ["a", "c"]);
    assert_eq!(world.store.lease(5).expect("is here").keys, [bytes("a")]);
    let has_keys = step(Import::Leases { ended: vec![5], granted: vec![] });
    let refused = refusal(&mut world, has_keys);
    assert!(matches!(refused, Refusal::Import(ImportRefusal::Impossible { at: 0, .. })));
    let again = ImportedLease { id: 6, ttl_ms: 7_000 };
    let other_ttl = step(Import::Leases { ended: vec![], granted: vec![again] });
    let refused = refusal(&mut world, other_ttl);
    assert!(matches!(refused, Refusal::Import(ImportRefusal::Impossible { at: 0, .. })));
    world.done(step(Import::Leases { ended: vec![6], granted: vec![again] }));
    world.done(pairs(12, vec![pair("d", 4, 50, 9, 6)]));
    world.done(step(Import::End { after_revision: 50, revision: 60 }));
    assert_eq!(world.keys_at(0), ["a", "c", "d"]);
    assert_eq!(world.store.lease(6).expect("is here").remaining_ms, 7_000);
    world.settle();
    assert_eq!(world.store.version_count(), 3);
}

#[test]
fn a_snapshot_of_a_half_imported_store_can_be_gone_on_with() {
    let mut world = imported();
    let chunks = {
        let mut walk: SnapshotWalk = world.store.snapshot_begin();
        let next = || world.store.snapshot_next(&mut walk, 1_000);
        let chunks: Vec<Bytes> = std::iter::from_fn(next).collect();
        world.store.snapshot_end(walk);
        chunks
    };
    let mut restore = StoreRestore::new();
    chunks.iter().for_each(|chunk| restore.push(chunk).expect("a chunk as it was handed out"));
    let restored: Store = restore.finish().expect("is whole");
    assert_eq!(restored.import_source(), Some(0xabc));
    assert_eq!(restored.hash(), world.store.hash());
    world.store = restored;
    assert_eq!(refusal(&mut world, put("k", "v")), Refusal::Importing);
    end(&mut world);
    assert_eq!(world.store.key_count(), 4);
}

#[test]
fn there_are_no_imports_before_format_two() {
    let mut world = World::new();
    assert_eq!(refusal(&mut world, begin()), Refusal::Unsupported);
    world.done(Command::RaiseFormat { format: 2 });
    world.done(begin());
}

#[test]
fn an_operator_who_holds_writes_back_and_a_full_quota_hold_imports_back() {
    let mut world = imported();
    let read_only = Settings { read_only: true, ..Settings::default() };
    world.done(Command::Configure(read_only));
    let next = || pairs(12, vec![pair("e", 13, 13, 1, 0)]);
    assert_eq!(refusal(&mut world, next()), Refusal::ReadOnly);
    world.done(Command::Configure(Settings { quota_bytes: 100, ..Settings::default() }));
    assert!(matches!(refusal(&mut world, next()), Refusal::SpaceExceeded { .. }));
    world.done(Command::Configure(Settings::default()));
    world.done(next());
}
