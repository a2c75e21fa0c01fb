//! Puts, deletes and transactions: what they do, answer and refuse.

use bytes::Bytes;
use mainstay_kv::{
    Command, Compare, Delete, DeleteOutcome, KeyRange, Operand, Operation, OperationOutcome,
    Outcome, Put, PutOutcome, QueryError, RangeQuery, Refusal, Relation, Settings, TXN_DEPTH_MAX,
    Txn, TxnOutcome,
};

use crate::world::{
    World, before, bytes, compare, delete, delete_of, keys, op_delete, op_get, op_put, put, put_of,
    single, txn,
};

fn outcome(world: &mut World, txn: Txn) -> TxnOutcome {
    match world.run(Command::Txn(txn)) {
        Ok(Outcome::Txn(outcome)) => outcome,
        other => panic!("{other:?}"),
    }
}

/// Runs operations without a condition.
fn operations(world: &mut World, success: Vec<Operation>) -> Vec<OperationOutcome> {
    outcome(world, txn(vec![], success, vec![])).operations
}

fn refusal(world: &mut World, success: Vec<Operation>) -> Refusal {
    let command = Command::Txn(txn(vec![], success, vec![]));
    let before = (world.store.revision(), world.store.version_count());
    let refusal = world.run(command).expect_err("it is refused");
    assert_eq!((world.store.revision(), world.store.version_count()), before);
    refusal
}

fn nest(success: Vec<Operation>, failure: Vec<Operation>) -> Operation {
    Operation::Txn(txn(vec![], success, failure))
}

#[test]
fn a_put_creates_then_counts_versions_and_a_delete_starts_over() {
    let mut world = World::new();
    assert_eq!(world.put("k", "1"), 2);
    assert_eq!(world.put("k", "2"), 3);
    let pair = world.get("k").expect("it was put");
    assert_eq!((pair.create_revision, pair.mod_revision, pair.version), (2, 3, 2));
    assert_eq!(world.delete("k"), 4);
    assert_eq!(world.put("k", "3"), 5);
    let pair = world.get("k").expect("it was put");
    assert_eq!((pair.create_revision, pair.mod_revision, pair.version), (5, 5, 1));
}

#[test]
fn a_put_tells_what_was_there_if_asked() {
    let mut world = World::new();
    let asking = |value| Command::Put(Put { want_previous: true, ..put_of("k", value) });
    assert_eq!(
        world.run(asking("1")),
        Ok(Outcome::Put(PutOutcome { created: true, previous: None }))
    );
    let before = world.get("k");
    assert_eq!(
        world.run(asking("2")),
        Ok(Outcome::Put(PutOutcome { created: false, previous: before }))
    );
    assert_eq!(
        world.run(put("k", "3")),
        Ok(Outcome::Put(PutOutcome { created: false, previous: None }))
    );
}

#[test]
fn a_put_may_keep_value_or_lease_of_a_key_that_exists() {
    let mut world = World::new();
    world.done(Command::LeaseGrant { id: 9, ttl_ms: 60_000 });
    let keep_value = |lease| Command::Put(Put { value: None, lease, ..put_of("k", "") });
    let keep_lease = |value| Command::Put(Put { lease: None, ..put_of("k", value) });
    assert_eq!(world.run(keep_value(Some(0))), Err(Refusal::KeyNotFound));
    assert_eq!(world.run(keep_lease("1")), Err(Refusal::KeyNotFound));
    world.put("k", "1");
    world.done(keep_value(Some(9)));
    let pair = world.get("k").expect("it exists");
    assert_eq!((&pair.value[..], pair.lease, pair.version), (&b"1"[..], 9, 2));
    world.done(keep_lease("2"));
    let pair = world.get("k").expect("it exists");
    assert_eq!((&pair.value[..], pair.lease), (&b"2"[..], 9));
    world.delete("k");
    assert_eq!(world.run(keep_value(None)), Err(Refusal::KeyNotFound));
}

#[test]
fn a_delete_counts_and_returns_and_deleting_nothing_leaves_the_revision() {
    let mut world = World::new();
    for key in ["a", "b", "c"] {
        world.put(key, "v");
    }
    let gone = [world.get("a"), world.get("b")].map(|pair| pair.expect("it was put"));
    let range = before("a", "c");
    assert_eq!(
        world.run(Command::Delete(Delete { range: range.clone(), want_previous: true })),
        Ok(Outcome::Deleted(DeleteOutcome { deleted: 2, previous: gone.to_vec() }))
    );
    assert_eq!(world.store.revision(), 5);
    assert_eq!(
        world.run(delete(range)),
        Ok(Outcome::Deleted(DeleteOutcome { deleted: 0, previous: vec![] }))
    );
    assert_eq!(world.store.revision(), 5);
    assert_eq!(world.store.key_count(), 1);
}

#[test]
fn sizes_and_empty_keys_are_refused_with_the_numbers() {
    let mut world =
        World::with(Settings { key_bytes_max: 4, value_bytes_max: 5, ..Settings::default() });
    let cases = [
        (put("", "v"), Refusal::KeyEmpty),
        (put("12345", "v"), Refusal::KeyTooLarge { len: 5, limit: 4 }),
        (put("k", "123456"), Refusal::ValueTooLarge { len: 6, limit: 5 }),
        (delete(single("")), Refusal::KeyEmpty),
    ];
    for (command, expected) in cases {
        let operation = match &command {
            Command::Put(put) => Operation::Put(put.clone()),
            Command::Delete(delete) => Operation::Delete(delete.clone()),
            other => panic!("{other:?}"),
        };
        assert_eq!(world.run(command), Err(expected.clone()));
        assert_eq!(refusal(&mut world, vec![nest(vec![], vec![operation])]), expected);
    }
    assert_eq!(refusal(&mut world, vec![op_get("")]), Refusal::KeyEmpty);
    let empty =
        Compare { range: single(""), relation: Relation::Equal, operand: Operand::Version(0) };
    assert_eq!(world.run(Command::Txn(txn(vec![empty], vec![], vec![]))), Err(Refusal::KeyEmpty));
    world.put("1234", "12345");
    world.done(delete(KeyRange::all()));
}

#[test]
fn compares_on_every_attribute_and_relation() {
    use Operand::{CreateRevision, Lease, ModRevision, Value, Version};
    use Relation::{Equal, Greater, Less, NotEqual};
    let mut world = World::new();
    world.done(Command::LeaseGrant { id: 7, ttl_ms: 60_000 });
    world.put("k", "m");
    world.done(Command::Put(Put { lease: Some(7), ..put_of("k", "n") }));
    // k has version 2, was created at 2, changed at 3, and is attached to lease 7.
    let numbers = |version, create, modified, lease| {
        [Version(version), CreateRevision(create), ModRevision(modified), Lease(lease)]
    };
    let value = |value: &str| Value(bytes(value));
    let mut cases = vec![
        ("k", Equal, value("n"), true),
        ("k", Equal, value("m"), false),
        ("k", NotEqual, value("m"), true),
        ("k", Greater, value("m"), true),
        ("k", Less, value("o"), true),
        ("k", Less, value("n"), false),
        // The value of a key that does not exist compares with nothing.
        ("none", Equal, value(""), false),
        ("none", NotEqual, value("x"), false),
        ("none", Less, value("x"), false),
        ("none", Greater, value(""), false),
    ];
    for (key, equal, more, less) in [
        ("k", numbers(2, 2, 3, 7), numbers(3, 3, 4, 8), numbers(1, 1, 2, 6)),
        ("none", numbers(0, 0, 0, 0), numbers(1, 1, 1, 1), numbers(-1, -1, -1, -1)),
    ] {
        for (operand, is_equal, is_greater, is_less) in
            [(equal, true, false, false), (less, false, true, false), (more, false, false, true)]
        {
            for operand in operand {
                cases.push((key, Equal, operand.clone(), is_equal));
                cases.push((key, NotEqual, operand.clone(), !is_equal));
                cases.push((key, Greater, operand.clone(), is_greater));
                cases.push((key, Less, operand, is_less));
            }
        }
    }
    for (key, relation, operand, expected) in cases {
        let case = format!("{key} {relation:?} {operand:?}");
        let txn = txn(vec![compare(key, relation, operand)], vec![], vec![]);
        assert_eq!(outcome(&mut world, txn.clone()).succeeded, expected, "{case}");
        assert_eq!(world.store.read(&txn).map(|read| read.succeeded), Ok(expected), "{case}");
    }
}

#[test]
fn a_compare_of_a_range_must_hold_for_every_key_of_it() {
    let mut world = World::new();
    for key in ["a", "b"] {
        world.put(key, "v");
    }
    world.put("b", "w");
    let versions = |range: KeyRange, relation, operand| {
        txn(vec![Compare { range, relation, operand: Operand::Version(operand) }], vec![], vec![])
    };
    let cases = [
        (before("a", "c"), Relation::Greater, 0, true),
        (before("a", "c"), Relation::Equal, 1, false),
        (before("a", "b"), Relation::Equal, 1, true),
        // An empty range is one key that does not exist.
        (before("x", "z"), Relation::Equal, 0, true),
        (before("z", "x"), Relation::Equal, 0, true),
        (before("x", "z"), Relation::Greater, 0, false),
    ];
    for (range, relation, operand, expected) in cases {
        let txn = versions(range.clone(), relation, operand);
        assert_eq!(
            outcome(&mut world, txn).succeeded,
            expected,
            "{range:?} {relation:?} {operand}"
        );
    }
}

#[test]
fn all_writes_of_a_transaction_share_a_revision_and_reads_see_them() {
    let mut world = World::new();
    world.put("old", "1");
    let outcomes = operations(
        &mut world,
        vec![
            op_get("new"),
            op_put("new", "1"),
            op_get("new"),
            op_delete(single("old")),
            Operation::Range(RangeQuery::new(KeyRange::all())),
            // The revision before the transaction, by name.
            Operation::Range(RangeQuery { revision: 2, ..RangeQuery::new(KeyRange::all()) }),
        ],
    );
    let seen: Vec<Vec<String>> = outcomes
        .iter()
        .filter_map(|outcome| match outcome {
            OperationOutcome::Range(answer) => Some(keys(&answer.pairs)),
            _ => None,
        })
        .collect();
    assert_eq!(seen, [vec![], vec!["new"], vec!["new"], vec!["old"]]);
    assert_eq!(world.store.revision(), 3);
    assert_eq!(world.get("new").map(|pair| pair.mod_revision), Some(3));
}

#[test]
fn nested_compares_look_at_the_state_before_the_transaction() {
    let mut world = World::new();
    let created = |key| vec![compare(key, Relation::Equal, Operand::CreateRevision(0))];
    let nested = txn(created("k"), vec![op_put("new", "")], vec![op_put("old", "")]);
    let outcome =
        outcome(&mut world, txn(vec![], vec![op_put("k", "1"), Operation::Txn(nested)], vec![]));
    let OperationOutcome::Txn(nested) = &outcome.operations[1] else { panic!("{outcome:?}") };
    assert!(nested.succeeded, "k did not exist before");
    assert_eq!(world.value("new").as_deref(), Some(""));
}

#[test]
fn the_failure_branch_may_hold_a_transaction() {
    // How a lock is taken over or created in one go.
    let mut world = World::new();
    let take = |me: &str| {
        let create = txn(
            vec![compare("leader", Relation::Equal, Operand::CreateRevision(0))],
            vec![op_put("leader", me)],
            vec![],
        );
        txn(
            vec![compare("leader", Relation::Equal, Operand::Value(bytes(me)))],
            vec![op_put("leader", me)],
            vec![Operation::Txn(create)],
        )
    };
    let nested = |outcome: TxnOutcome| match &outcome.operations[..] {
        [OperationOutcome::Txn(nested)] => nested.succeeded,
        other => panic!("{other:?}"),
    };
    assert!(nested(outcome(&mut world, take("one"))));
    assert!(!nested(outcome(&mut world, take("two"))));
    assert!(outcome(&mut world, take("one")).succeeded);
    assert_eq!(world.get("leader").map(|pair| pair.version), Some(2));
}

#[test]
fn a_transaction_that_writes_nothing_leaves_the_revision() {
    let mut world = World::new();
    world.put("k", "1");
    operations(&mut world, vec![op_get("k"), op_delete(single("none"))]);
    assert_eq!(world.store.revision(), 2);
}

#[test]
fn no_path_changes_a_key_twice() {
    let all = KeyRange::all;
    let twice = [
        vec![op_put("k", "1"), op_put("k", "2")],
        vec![op_put("k", "1"), op_delete(single("k"))],
        vec![op_delete(single("k")), op_put("k", "1")],
        vec![op_delete(all()), op_put("k", "1")],
        vec![op_put("k", "1"), nest(vec![op_put("k", "2")], vec![])],
        vec![op_put("k", "1"), nest(vec![], vec![op_put("k", "2")])],
        vec![nest(vec![op_put("k", "1")], vec![]), nest(vec![], vec![op_put("k", "2")])],
        vec![nest(vec![op_put("k", "1")], vec![]), nest(vec![op_delete(all())], vec![])],
        vec![nest(vec![op_delete(all())], vec![]), nest(vec![op_put("k", "1")], vec![])],
        vec![nest(vec![nest(vec![op_delete(before("j", "l"))], vec![])], vec![]), op_put("k", "1")],
    ];
    let fine = [
        vec![op_put("k", "1"), op_put("j", "2"), op_delete(single("l"))],
        vec![op_delete(all()), op_delete(single("k"))],
        // Only one of two branches is taken.
        vec![nest(vec![op_put("k", "1")], vec![op_put("k", "2")])],
        vec![nest(vec![op_put("k", "1")], vec![op_delete(all())])],
        vec![op_put("k", "1"), op_delete(before("l", "m"))],
        vec![op_get("k"), op_put("k", "1"), op_get("k")],
    ];
    let mut world = World::new();
    for operations in twice {
        assert_eq!(
            refusal(&mut world, operations.clone()),
            Refusal::DuplicateKey,
            "{operations:?}"
        );
        // The branch that is not taken counts as well.
        let other = Command::Txn(txn(vec![], vec![], operations));
        assert_eq!(world.run(other), Err(Refusal::DuplicateKey));
    }
    for list in fine {
        operations(&mut world, list);
    }
}

#[test]
fn the_longest_list_counts_and_a_nested_transaction_gets_what_is_left() {
    let mut world = World::with(Settings { txn_operations_max: 4, ..Settings::default() });
    let gets = |count: usize| vec![op_get("k"); count];
    let compares = |count: usize| vec![compare("k", Relation::Equal, Operand::Version(0)); count];
    let too_many = |count, limit| Refusal::TooManyOperations { count, limit };
    for (lists, expected) in [
        (txn(compares(4), gets(4), gets(4)), None),
        (txn(compares(5), gets(1), vec![]), Some(too_many(5, 4))),
        (txn(vec![], gets(5), vec![]), Some(too_many(5, 4))),
        (txn(vec![], vec![], gets(5)), Some(too_many(5, 4))),
        (txn(vec![], vec![nest(gets(3), vec![])], vec![]), None),
        (txn(vec![], vec![nest(gets(4), vec![])], vec![]), Some(too_many(4, 3))),
        (txn(compares(3), vec![nest(gets(2), vec![])], vec![]), Some(too_many(2, 1))),
        (txn(compares(4), vec![nest(vec![], vec![])], vec![]), None),
    ] {
        let result = world.run(Command::Txn(lists.clone()));
        assert_eq!(result.err(), expected, "{lists:?}");
    }
}

#[test]
fn nesting_has_a_limit() {
    let nested = |depth: u64| {
        (1..depth).fold(txn(vec![], vec![], vec![]), |inner, _| {
            txn(vec![], vec![Operation::Txn(inner)], vec![])
        })
    };
    let mut world = World::new();
    assert!(world.run(Command::Txn(nested(TXN_DEPTH_MAX))).is_ok());
    assert_eq!(
        world.run(Command::Txn(nested(TXN_DEPTH_MAX + 1))),
        Err(Refusal::TooDeep { limit: TXN_DEPTH_MAX })
    );
}

#[test]
fn whatever_is_refused_on_the_path_is_refused_before_anything_is_done() {
    let mut world = World::new();
    world.put("k", "1");
    world.put("k", "2");
    world.compact(3);
    world.settle();
    let read_at =
        |revision| Operation::Range(RangeQuery { revision, ..RangeQuery::new(single("k")) });
    let leased = Operation::Put(Put { lease: Some(5), ..put_of("j", "") });
    let keeping = Operation::Put(Put { value: None, ..put_of("j", "") });
    for (bad, expected) in [
        (read_at(2), Refusal::Query(QueryError::Compacted { wanted: 2, compact_revision: 3 })),
        (read_at(4), Refusal::Query(QueryError::Future { wanted: 4, revision: 3 })),
        (leased, Refusal::LeaseNotFound { id: 5 }),
        (keeping, Refusal::KeyNotFound),
    ] {
        let list = vec![op_put("first", "1"), nest(vec![bad.clone()], vec![])];
        assert_eq!(refusal(&mut world, list), expected);
        // Not on the path, not in the way.
        operations(&mut world, vec![nest(vec![], vec![bad])]);
    }
    assert_eq!(world.get("first"), None);
}

#[test]
fn an_answer_too_large_to_be_carried_is_refused_and_changes_nothing() {
    let mut world = World::new();
    let large = "x".repeat(1_500_000);
    for number in 0..12 {
        world.put(&format!("k{number}"), &large);
    }
    let all = RangeQuery::new(KeyRange::all());
    let limit = mainstay_kv::ANSWER_BYTES_MAX;
    let write = op_put("new", "");
    for (read, refused) in [
        (all.clone(), true),
        (RangeQuery { keys_only: true, ..all.clone() }, false),
        (RangeQuery { count_only: true, ..all.clone() }, false),
        (RangeQuery { limit: 11, ..all.clone() }, false),
        (RangeQuery { limit: 12, ..all.clone() }, true),
    ] {
        let list = vec![write.clone(), Operation::Range(read)];
        if refused {
            assert_eq!(refusal(&mut world, list), Refusal::AnswerTooLarge { limit });
        } else {
            operations(&mut world, list);
        }
    }
    // Reading the same large value that the transaction writes, over and over.
    let mut echo = vec![op_put("echo", &large)];
    echo.extend(vec![op_get("echo"); 20]);
    assert_eq!(refusal(&mut world, echo), Refusal::AnswerTooLarge { limit });
    let delete_all = Delete { want_previous: true, ..delete_of(KeyRange::all()) };
    assert_eq!(world.run(Command::Delete(delete_all)), Err(Refusal::AnswerTooLarge { limit }));
    world.done(delete(KeyRange::all()));
}

#[test]
fn a_read_only_transaction_can_be_read_without_an_entry() {
    let mut world = World::new();
    world.put("k", "1");
    let reading = txn(
        vec![compare("k", Relation::Equal, Operand::Version(1))],
        vec![op_get("k"), nest(vec![op_get("none")], vec![])],
        vec![op_get("none")],
    );
    assert!(reading.is_read_only());
    let read = world.store.read(&reading).expect("it reads");
    assert_eq!(read, outcome(&mut world, reading));
    let writing = txn(vec![], vec![], vec![nest(vec![op_put("k", "2")], vec![])]);
    assert!(!writing.is_read_only());
    assert_eq!(world.store.read(&writing), Err(Refusal::Unsupported));
    let future = Operation::Range(RangeQuery { revision: 9, ..RangeQuery::new(single("k")) });
    assert!(world.store.read(&txn(vec![], vec![future], vec![])).is_err());
}

#[test]
fn a_command_of_a_later_format_is_refused() {
    let mut world = World::new();
    let replicated = Command::Replicated {
        source_epoch: 1,
        source_sequence: 1,
        source_revision: 1,
        envelope: Bytes::new(),
    };
    assert_eq!(world.run(replicated), Err(Refusal::Unsupported));
    assert_eq!(world.store.sequence(), 1);
}
