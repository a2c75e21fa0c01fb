//! Walks through the history: what a moment held, whatever happens beside them.

use mainstay_kv::{Command, HistoryLost, HistoryVersion, HistoryWalk, KeyRange, KeyValue, Store};
use proptest::prelude::*;

use crate::{
    histories::entries,
    model::Model,
    snapshots::full_world,
    steps::steps,
    world::{World, delete},
};

/// A version as the model has it.
type Row = ((u64, u64), KeyValue, bool);

fn row(version: HistoryVersion<'_>) -> Row {
    let pair = KeyValue {
        key: bytes::Bytes::copy_from_slice(version.key),
        value: bytes::Bytes::copy_from_slice(version.value),
        create_revision: version.create_revision,
        mod_revision: version.mod_revision,
        version: version.version,
        lease: version.lease,
    };
    let at = (version.mod_revision, u64::from(version.sub_revision));
    (at, pair, version.is_deletion())
}

/// The next slice; `None` at the end.
fn next(store: &Store, walk: &mut HistoryWalk, budget: u64) -> Option<Vec<Row>> {
    let mut rows = Vec::new();
    let any = store.history_next(walk, budget, |version| rows.push(row(version)));
    assert_eq!(any, Ok(!rows.is_empty()));
    any.is_ok_and(|any| any).then_some(rows)
}

fn rest(store: &Store, walk: &mut HistoryWalk, budget: u64) -> Vec<Row> {
    std::iter::from_fn(|| next(store, walk, budget)).flatten().collect()
}

#[test]
fn a_walk_that_begins_again_shows_the_same_though_all_was_freed_meanwhile() {
    let mut world = full_world();
    let mut walk = world.store.history_begin();
    assert_eq!(walk.revision(), world.store.revision());
    assert_eq!(walk.compact_revision(), world.store.compact_revision());
    assert!(!walk.is_swept(), "freeing is under way");
    assert_eq!(walk.leases(), [(3, 60_000)]);
    let first = rest(&world.store, &mut walk, 1);
    assert_eq!(first.len() as u64, world.store.version_count());
    world.done(delete(KeyRange::all()));
    let revision = world.put("after", "");
    world.compact(revision);
    world.settle();
    assert_eq!(world.store.version_count(), 1);
    assert!(world.store.retained_bytes() > 0);
    walk.rewind();
    assert_eq!(rest(&world.store, &mut walk, 300), first);
    world.store.history_end(walk);
    assert_eq!(world.store.retained_bytes(), 0);
}

#[test]
fn a_walk_that_is_dropped_holds_nothing_after_the_next_entry() {
    let mut world = full_world();
    let walk = world.store.history_begin();
    let mut other = world.store.history_begin();
    let before = rest(&world.store, &mut other, 100);
    other.rewind();
    world.done(delete(KeyRange::all()));
    let revision = world.put("after", "");
    world.compact(revision);
    world.settle();
    drop(walk);
    world.done(Command::Tick);
    assert_eq!(rest(&world.store, &mut other, 100), before, "the other one goes on");
    drop(other);
    world.done(Command::Tick);
    assert_eq!(world.store.retained_bytes(), 0);
}

#[test]
fn a_walk_of_another_store_is_lost_and_says_so() {
    let mut world = full_world();
    let mut walk = world.store.history_begin();
    world.store = World::new().store;
    assert_eq!(world.store.history_next(&mut walk, 100, |_version| ()), Err(HistoryLost));
    world.store.history_end(walk);
}

/// A walk, and what it has to show.
struct Walking {
    walk: HistoryWalk,
    wanted: Vec<Row>,
    got: Vec<Row>,
}

proptest! {
    #[test]
    fn walks_beside_each_other_and_beside_a_snapshot_show_each_its_own_moment(
        steps in steps(120),
        begins in prop::collection::vec(any::<prop::sample::Index>(), 3),
        snapshot in any::<prop::sample::Index>(),
        budget in prop_oneof![Just(1_u64), 50..400_u64, Just(1_000_000)],
        twice in any::<bool>(),
    ) {
        let entries = entries(&steps);
        let mut begins: Vec<usize> = begins.iter().map(|at| at.index(entries.len())).collect();
        begins.sort_unstable();
        let snapshot = snapshot.index(entries.len());
        let (mut store, mut model) = (Store::new(), Model::new());
        let mut walks: Vec<Walking> = Vec::new();
        let mut chunks = Vec::new();
        let mut snapshot_walk = None;
        let mut hash = 0;
        for (at, (envelope, term)) in entries.iter().enumerate() {
            for _begun in begins.iter().filter(|begin| **begin == at) {
                let walk = store.history_begin();
                prop_assert_eq!(walk.leases(), &model.lease_ttls()[..]);
                prop_assert_eq!(walk.is_swept(), model.is_swept());
                walks.push(Walking { walk, wanted: model.history(), got: Vec::new() });
            }
            if at == snapshot {
                hash = store.hash();
                snapshot_walk = Some(store.snapshot_begin());
            }
            for walking in &mut walks {
                let rows = next(&store, &mut walking.walk, budget);
                walking.got.extend(rows.unwrap_or_default());
            }
            if let Some(walk) = &mut snapshot_walk {
                chunks.extend(store.snapshot_next(walk, 200));
            }
            store.apply(envelope.clone(), *term);
            model.apply(envelope, *term);
            // Walks end at any time; the others must not mind.
            if at % 7 == 6 && walks.first().is_some_and(|first| first.got == first.wanted) {
                store.history_end(walks.remove(0).walk);
            }
        }
        for mut walking in walks {
            walking.got.extend(rest(&store, &mut walking.walk, budget));
            prop_assert_eq!(&walking.got, &walking.wanted);
            if twice {
                walking.walk.rewind();
                prop_assert_eq!(&rest(&store, &mut walking.walk, budget), &walking.wanted);
            }
            store.history_end(walking.walk);
        }
        let mut walk = snapshot_walk.expect("begun at one of the entries");
        chunks.extend(std::iter::from_fn(|| store.snapshot_next(&mut walk, 200)));
        store.snapshot_end(walk);
        prop_assert_eq!(store.retained_bytes(), 0);
        let mut restore = mainstay_kv::StoreRestore::new();
        chunks.iter().for_each(|chunk| restore.push(chunk).expect("as it was handed out"));
        prop_assert_eq!(restore.finish().expect("whole").hash(), hash);
    }
}
