//! Bare idempotency keys: exactly once within a stated time.

use bytes::Bytes;
use mainstay_kv::{Applied, Command, Operand, Origin, Proposal, Refusal, Relation, Settings};

use crate::world::{TERM, World, bytes, compare, op_put, put, txn};

fn write(world: &mut World, user: &str, key: &str, command: Command) -> Applied {
    let proposal = Proposal {
        principal: user.to_owned(),
        origin: Origin::Key(bytes(key)),
        ..Proposal::unattributed(command)
    };
    let envelope = crate::world::envelope(world.time_ms, proposal);
    world.store.apply(envelope, TERM)
}

#[test]
fn a_repeated_key_gets_the_first_answer_and_does_nothing() {
    let mut world = World::new();
    let first = write(&mut world, "ann", "key", put("k", "1"));
    world.put("k", "2");
    let again = write(&mut world, "ann", "key", put("k", "1"));
    assert_eq!(again, Applied { repeated: true, ..first });
    assert_eq!(world.value("k").as_deref(), Some("2"));
}

#[test]
fn a_key_belongs_to_its_user() {
    let mut world = World::new();
    for (user, key) in [("ann", "key"), ("bob", "key"), ("", "key"), ("an", "nkey"), ("annk", "ey")]
    {
        assert!(!write(&mut world, user, key, put("k", user)).repeated, "{user} {key}");
    }
    assert_eq!(world.store.idempotency_key_count(), 5);
}

#[test]
fn a_key_used_for_another_request_is_refused() {
    let mut world = World::new();
    write(&mut world, "ann", "key", put("k", "1"));
    let other = write(&mut world, "ann", "key", put("k", "2"));
    assert_eq!(other.result, Err(Refusal::KeyReused));
}

#[test]
fn a_failed_compare_is_kept() {
    let mut world = World::new();
    let missing = compare("k", Relation::Greater, Operand::Version(0));
    let conditional = Command::Txn(txn(vec![missing], vec![op_put("k", "1")], vec![]));
    let first = write(&mut world, "", "key", conditional.clone());
    world.put("k", "0");
    let again = write(&mut world, "", "key", conditional);
    assert_eq!(again, Applied { repeated: true, ..first });
    assert_eq!(world.value("k").as_deref(), Some("0"));
}

#[test]
fn keys_have_1_to_64_bytes() {
    let mut world = World::new();
    for (len, fine) in [(0, false), (1, true), (64, true), (65, false)] {
        let applied = write(&mut world, "", &"x".repeat(len), put("k", ""));
        if fine {
            assert!(applied.result.is_ok());
        } else {
            let len = len as u64;
            assert_eq!(applied.result, Err(Refusal::IdempotencyKeyLength { len }));
        }
    }
}

#[test]
fn a_key_is_kept_for_its_time_from_the_first_application_and_then_free_again() {
    let mut world = World::with(Settings { idempotency_ttl_ms: 1_000, ..Settings::default() });
    write(&mut world, "", "key", put("k", "1"));
    world.time_ms = 999;
    assert!(write(&mut world, "", "key", put("k", "1")).repeated);
    world.time_ms = 1_000;
    assert!(!write(&mut world, "", "key", put("k", "2")).repeated);
    assert_eq!(world.store.idempotency_key_count(), 1);
    let deadline_ms = world.store.next_deadline_ms().expect("a key is forgotten");
    let bytes = world.store.space().bytes;
    world.tick_at(deadline_ms);
    assert_eq!(world.store.idempotency_key_count(), 0);
    assert!(world.store.space().bytes < bytes);
    assert_eq!(world.store.next_deadline_ms(), None);
}

#[test]
fn a_full_table_takes_no_new_keys_and_forgets_none_early() {
    let mut world = World::with(Settings {
        quota_bytes: 10_000,
        idempotency_share_percent: 10,
        idempotency_ttl_ms: 1_000,
        ..Settings::default()
    });
    let mut number = 0;
    let refused = loop {
        world.time_ms += 10;
        let applied = write(&mut world, "", &format!("key{number}"), Command::Tick);
        match applied.result {
            Ok(_) => number += 1,
            Err(refusal) => break refusal,
        }
    };
    assert!(number > 3);
    // The first key was made at 10 ms.
    let retry_after_ms = 1_010 - world.time_ms;
    assert_eq!(refused, Refusal::IdempotencyTableFull { retry_after_ms });
    assert!(write(&mut world, "", "key0", Command::Tick).repeated);
    world.put("plain", "writes go on");
    world.time_ms += retry_after_ms;
    assert!(write(&mut world, "", "new", Command::Tick).result.is_ok());
    assert!(!write(&mut world, "", "key0", Command::Tick).repeated, "forgotten in time");
}

#[test]
fn a_refusal_for_space_is_not_kept() {
    let mut world = World::with(Settings { quota_bytes: 1_000, ..Settings::default() });
    while !world.store.space().full {
        world.put("k", "some bytes");
    }
    let refused = write(&mut world, "", "key", put("k", "more"));
    assert!(matches!(refused.result, Err(Refusal::SpaceExceeded { .. })));
    let revision = world.store.revision();
    world.compact(revision);
    world.settle();
    let done = write(&mut world, "", "key", put("k", "more"));
    assert!(done.result.is_ok() && !done.repeated);
}

#[test]
fn keys_of_raw_bytes_are_compared_as_bytes() {
    let mut world = World::new();
    for key in [&b"\0"[..], b"\0\0", b"\xff"] {
        let origin = Origin::Key(Bytes::copy_from_slice(key));
        assert!(!world.apply(origin.clone(), Command::Tick).repeated);
        assert!(world.apply(origin, Command::Tick).repeated);
    }
}
