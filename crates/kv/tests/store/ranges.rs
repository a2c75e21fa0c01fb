//! Reading ranges: bounds, old revisions, limits, counts, filters and orders.

use bytes::Bytes;
use mainstay_kv::{KeyRange, QueryError, RangeAnswer, RangeEnd, RangeQuery, SortOrder, SortTarget};

use crate::world::{World, before, bytes, delete, keys, single};

/// Keys a, b, c, d and e; written in the order c a e b d, b a second time at the end.
fn five_keys() -> World {
    let mut world = World::new();
    for (key, value) in [("c", "3"), ("a", "1"), ("e", "5"), ("b", "9"), ("d", "4"), ("b", "2")] {
        world.put(key, value);
    }
    world
}

fn range(world: &World, query: &RangeQuery) -> RangeAnswer {
    world.store.range(query).expect("readable")
}

fn all() -> RangeQuery {
    RangeQuery::new(KeyRange::all())
}

#[test]
fn a_range_holds_the_keys_between_its_bounds() {
    let world = five_keys();
    let from = |start: &str| KeyRange { start: bytes(start), end: RangeEnd::Unbounded };
    let cases: [(KeyRange, &[&str]); 9] = [
        (single("c"), &["c"]),
        (single("cc"), &[]),
        (before("b", "d"), &["b", "c"]),
        (before("bb", "d"), &["c"]),
        (before("d", "b"), &[]),
        (before("b", "b"), &[]),
        (from("d"), &["d", "e"]),
        (KeyRange::all(), &["a", "b", "c", "d", "e"]),
        (KeyRange::prefix(bytes("b")), &["b"]),
    ];
    for (key_range, expected) in cases {
        let answer = range(&world, &RangeQuery::new(key_range.clone()));
        assert_eq!(keys(&answer.pairs), expected, "{key_range:?}");
        assert_eq!(answer.count, expected.len() as u64);
        assert!(!answer.more);
    }
}

#[test]
fn old_revisions_are_read_as_they_were() {
    let mut world = World::new();
    let first = world.put("a", "1");
    let second = world.put("b", "1");
    let third = world.delete("a");
    let fourth = world.put("a", "2");
    assert_eq!(
        [1, first, second, third, fourth].map(|revision| world.keys_at(revision)),
        [vec![], vec!["a"], vec!["a", "b"], vec!["b"], vec!["a", "b"]]
    );
    let answer = range(&world, &RangeQuery { revision: first, ..RangeQuery::new(single("a")) });
    assert_eq!(answer.pairs[0].value, "1");
    let answer = range(&world, &RangeQuery::new(single("a")));
    let pair = &answer.pairs[0];
    assert_eq!(
        (&pair.value[..], pair.version, pair.create_revision, pair.mod_revision),
        (&b"2"[..], 1, fourth, fourth)
    );
}

#[test]
fn revisions_that_cannot_be_read_are_refused_by_name() {
    let mut world = five_keys();
    assert_eq!(
        world.store.range(&RangeQuery { revision: 8, ..all() }),
        Err(QueryError::Future { wanted: 8, revision: 7 })
    );
    world.compact(5);
    assert_eq!(
        world.store.range(&RangeQuery { revision: 4, ..all() }),
        Err(QueryError::Compacted { wanted: 4, compact_revision: 5 })
    );
    assert!(world.store.range(&RangeQuery { revision: 5, ..all() }).is_ok());
}

#[test]
fn a_limit_cuts_the_answer_and_leaves_the_count() {
    let world = five_keys();
    for (limit, expected, more) in
        [(0, 5, false), (2, 2, true), (5, 5, false), (u64::MAX, 5, false)]
    {
        for revision in [0, 6] {
            let answer = range(&world, &RangeQuery { limit, revision, ..all() });
            assert_eq!((answer.pairs.len(), answer.more), (expected, more), "limit {limit}");
            assert_eq!(answer.count, 5);
        }
    }
}

#[test]
fn counting_returns_no_pairs_and_keys_only_no_values() {
    let world = five_keys();
    let counted = range(&world, &RangeQuery { count_only: true, limit: 1, ..all() });
    assert_eq!(counted, RangeAnswer { pairs: vec![], more: false, count: 5 });
    let named = range(&world, &RangeQuery { keys_only: true, ..all() });
    assert_eq!(keys(&named.pairs), ["a", "b", "c", "d", "e"]);
    assert!(named.pairs.iter().all(|pair| pair.value.is_empty() && pair.mod_revision > 0));
}

#[test]
fn orders_and_targets() {
    use SortOrder::{Ascend, Descend, None};
    use SortTarget::{CreateRevision, Key, ModRevision, Value, Version};
    let world = five_keys();
    let cases: [(SortOrder, SortTarget, &str); 11] = [
        (None, Key, "abcde"),
        (Ascend, Key, "abcde"),
        (Descend, Key, "edcba"),
        (Ascend, CreateRevision, "caebd"),
        (Descend, CreateRevision, "dbeac"),
        (Ascend, ModRevision, "caedb"),
        (Descend, ModRevision, "bdeac"),
        (Ascend, Value, "abcde"),
        // Equal ones stay in the order of their keys, whichever way the sort goes.
        (Ascend, Version, "acdeb"),
        (Descend, Version, "bacde"),
        (None, CreateRevision, "caebd"),
    ];
    for (order, target, expected) in cases {
        let query = RangeQuery { order, target, ..all() };
        assert_eq!(keys(&range(&world, &query).pairs).concat(), expected, "{order:?} {target:?}");
        let limited = RangeQuery { limit: 2, ..query };
        let answer = range(&world, &limited);
        assert!(answer.more && answer.count == 5);
        if (order, target) != (None, CreateRevision) {
            assert_eq!(keys(&answer.pairs).concat(), expected[..2], "{order:?} {target:?}");
        }
    }
}

#[test]
fn without_an_order_the_limit_goes_before_the_sort_with_one_pair_to_spare() {
    let world = five_keys();
    let query = RangeQuery { target: SortTarget::CreateRevision, limit: 2, ..all() };
    // Of all, c and a were created first; of a, b and c, too; of a and b alone it would be a, b.
    assert_eq!(keys(&range(&world, &query).pairs), ["c", "a"]);
    let query = RangeQuery { target: SortTarget::ModRevision, limit: 1, ..all() };
    assert_eq!(keys(&range(&world, &query).pairs), ["a"]);
}

#[test]
fn filters_choose_by_revision_before_the_limit_and_not_for_the_count() {
    let world = five_keys();
    let cases: [(RangeQuery, &str); 5] = [
        (RangeQuery { min_mod_revision: 6, ..all() }, "bd"),
        (RangeQuery { max_mod_revision: 3, ..all() }, "ac"),
        (RangeQuery { min_create_revision: 5, ..all() }, "bd"),
        (RangeQuery { max_create_revision: 5, ..all() }, "abce"),
        (RangeQuery { min_mod_revision: 4, max_mod_revision: 6, ..all() }, "de"),
    ];
    for (query, expected) in cases {
        let answer = range(&world, &query);
        assert_eq!(keys(&answer.pairs).concat(), expected, "{query:?}");
        assert_eq!((answer.count, answer.more), (5, false));
        let limited = range(&world, &RangeQuery { limit: 1, ..query });
        assert_eq!(keys(&limited.pairs).concat(), expected[..1]);
        assert!(limited.more);
    }
    let none = RangeQuery { min_mod_revision: 7, ..RangeQuery::new(single("a")) };
    assert_eq!(range(&world, &none), RangeAnswer { pairs: vec![], more: false, count: 1 });
}

#[test]
fn a_page_is_the_same_answer_with_a_count_of_its_own() {
    let world = five_keys();
    for limit in 0..7 {
        for order in [SortOrder::None, SortOrder::Ascend, SortOrder::Descend] {
            for target in [SortTarget::Key, SortTarget::Version] {
                let query = RangeQuery { limit, order, target, ..all() };
                let whole = range(&world, &query);
                let count = whole.pairs.len() as u64;
                let page = world.store.page(&query).expect("readable");
                assert_eq!(page, RangeAnswer { count, ..whole });
            }
        }
    }
}

#[test]
fn counts_are_right_wherever_the_range_lies() {
    let mut world = World::new();
    for number in 0..50 {
        world.put(&format!("k{number:02}"), "");
    }
    for number in (0..50).step_by(3) {
        world.delete(&format!("k{number:02}"));
    }
    let kept = |number: &u32| !number.is_multiple_of(3);
    for start in 0..52_u32 {
        for end in 0..52_u32 {
            let key_range = before(&format!("k{start:02}"), &format!("k{end:02}"));
            let query = RangeQuery { count_only: true, ..RangeQuery::new(key_range) };
            let expected = (start..end.min(50)).filter(kept).count() as u64;
            assert_eq!(range(&world, &query).count, expected, "{start}..{end}");
        }
        let end = RangeEnd::Unbounded;
        let key_range = KeyRange { start: bytes(&format!("k{start:02}")), end };
        let query = RangeQuery { limit: 1, ..RangeQuery::new(key_range) };
        assert_eq!(range(&world, &query).count, (start..50).filter(kept).count() as u64);
    }
}

#[test]
fn the_parts_of_a_count_add_up_to_the_count() {
    let mut world = World::new();
    for number in 0..40 {
        world.put(&format!("k{number:02}"), "");
    }
    let then = world.store.revision();
    for number in (0..40).step_by(3) {
        world.delete(&format!("k{number:02}"));
    }
    let ranges = [KeyRange::all(), before("k05", "k31"), before("k31", "k05"), single("k07")];
    for (range_of_keys, steps_max) in
        ranges.iter().flat_map(|range| [1, 2, 7, 40, 100].map(|steps| (range, steps)))
    {
        for revision in [0, then] {
            let count_only = true;
            let query =
                RangeQuery { revision, count_only, ..RangeQuery::new(range_of_keys.clone()) };
            let (mut rest, mut counted, mut parts) = (range_of_keys.clone(), 0, 0);
            loop {
                let part = world.store.count_part(&rest, revision, steps_max).expect("readable");
                (counted, parts) = (counted + part.count, parts + 1);
                assert!(part.count <= steps_max as u64 || part.last_key.is_none());
                let Some(last) = part.last_key else { break };
                rest.start = [&last[..], b"\0"].concat().into();
            }
            assert_eq!(counted, range(&world, &query).count, "{query:?} in steps of {steps_max}");
            assert!(parts <= 41);
        }
    }
}

#[test]
fn keys_of_any_bytes_and_lengths_are_kept_apart_and_in_order() {
    let mut world = World::new();
    let mut expected: Vec<Bytes> = (1..40).map(|len| Bytes::from(vec![0xff; len])).collect();
    expected.extend((1..40).map(|len| Bytes::from(vec![0; len])));
    for key in &expected {
        world.done(mainstay_kv::Command::Put(mainstay_kv::Put {
            key: key.clone(),
            value: Some(key.clone()),
            lease: Some(0),
            want_previous: false,
        }));
    }
    expected.sort();
    let pairs = range(&world, &all()).pairs;
    assert!(pairs.iter().all(|pair| pair.key == pair.value));
    assert_eq!(pairs.into_iter().map(|pair| pair.key).collect::<Vec<_>>(), expected);
    world.done(delete(KeyRange::all()));
    assert_eq!(range(&world, &all()).count, 0);
}
