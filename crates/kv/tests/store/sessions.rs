//! Sessions: exactly once for writes with numbers.

use mainstay_kv::{
    Applied, Command, Operand, Origin, Outcome, Refusal, Relation, SESSION_OUTCOMES_MAX, Settings,
};

use crate::world::{World, compare, op_get, op_put, put, txn};

fn write(world: &mut World, numbers: (u64, u64, u64), command: Command) -> Applied {
    let (session, number, lowest_awaited) = numbers;
    world.apply(Origin::Session { session, number, lowest_awaited }, command)
}

#[test]
fn a_repeated_write_gets_the_first_answer_and_does_nothing() {
    let mut world = World::new();
    let session = world.open_session();
    assert_eq!(session, 1, "the sequence that opened it");
    let first = write(&mut world, (session, 1, 1), put("k", "1"));
    world.put("k", "2");
    let again = write(&mut world, (session, 1, 1), put("k", "1"));
    assert_eq!(again, Applied { repeated: true, ..first.clone() });
    assert_eq!((first.repeated, first.sequence, first.revision), (false, 2, 2));
    assert_eq!(world.value("k").as_deref(), Some("2"));
    assert_eq!(world.store.sequence(), 4, "the repetition is an entry of the log");
}

#[test]
fn a_failed_compare_and_a_refusal_by_rule_are_answers_too() {
    let mut world = World::new();
    let session = world.open_session();
    let missing = compare("k", Relation::Greater, Operand::Version(0));
    let conditional = Command::Txn(txn(vec![missing], vec![op_put("k", "1")], vec![op_get("k")]));
    let refused = Command::LeaseRevoke { id: 5 };
    let first = [
        write(&mut world, (session, 1, 1), conditional.clone()),
        write(&mut world, (session, 2, 1), refused.clone()),
    ];
    // By now both would come out differently.
    world.put("k", "0");
    world.done(Command::LeaseGrant { id: 5, ttl_ms: 5_000 });
    let again = [
        write(&mut world, (session, 1, 1), conditional),
        write(&mut world, (session, 2, 1), refused),
    ];
    for (first, again) in first.into_iter().zip(again) {
        assert_eq!(again, Applied { repeated: true, ..first });
    }
    assert_eq!(world.store.lease_count(), 1);
}

#[test]
fn a_number_used_for_another_request_is_refused() {
    let mut world = World::new();
    let session = world.open_session();
    write(&mut world, (session, 1, 1), put("k", "1"));
    let other = write(&mut world, (session, 1, 1), put("k", "2"));
    assert_eq!(other.result, Err(Refusal::KeyReused));
    assert_eq!(world.value("k").as_deref(), Some("1"));
}

#[test]
fn outcomes_no_longer_awaited_are_forgotten_and_their_writes_never_run() {
    let mut world = World::new();
    let session = world.open_session();
    for number in 1..=3 {
        write(&mut world, (session, number, 1), put("k", &number.to_string()));
    }
    let full = world.store.space().bytes;
    write(&mut world, (session, 4, 3), put("k", "4"));
    assert!(world.store.space().bytes < full + 64 + 2, "two outcomes went, a version came");
    let forgotten = |number| Err(Refusal::SessionNumberForgotten { number });
    for number in [0, 1, 2] {
        let late = write(&mut world, (session, number, 1), put("k", &number.to_string()));
        assert_eq!(late.result, forgotten(number));
    }
    assert!(write(&mut world, (session, 3, 3), put("k", "3")).repeated);
    // A number that its own request gives up makes no sense, and is not run.
    assert_eq!(write(&mut world, (session, 5, 6), put("k", "5")).result, forgotten(5));
    assert!(!write(&mut world, (session, 5, 5), put("k", "5")).repeated);
    assert_eq!(world.value("k").as_deref(), Some("5"));
}

#[test]
fn writes_may_come_in_any_order() {
    let mut world = World::new();
    let session = world.open_session();
    for number in [3, 1, 2] {
        let applied = write(&mut world, (session, number, 1), put("k", &number.to_string()));
        assert!(!applied.repeated);
    }
    for number in [1, 2, 3] {
        assert!(write(&mut world, (session, number, 1), put("k", &number.to_string())).repeated);
    }
}

#[test]
fn a_session_keeps_a_bounded_number_of_outcomes() {
    let mut world = World::new();
    let session = world.open_session();
    for number in 1..=SESSION_OUTCOMES_MAX {
        assert!(write(&mut world, (session, number, 1), put("k", "")).result.is_ok());
    }
    let next = SESSION_OUTCOMES_MAX + 1;
    let refused = Err(Refusal::SessionWindowExceeded { limit: SESSION_OUTCOMES_MAX });
    let revision = world.store.revision();
    assert_eq!(write(&mut world, (session, next, 1), put("k", "")).result, refused);
    assert_eq!(world.store.revision(), revision);
    assert!(write(&mut world, (session, 7, 1), put("k", "")).repeated);
    assert!(write(&mut world, (session, next, 2), put("k", "")).result.is_ok());
}

#[test]
fn a_session_keeps_a_bounded_number_of_bytes() {
    let mut world = World::new();
    let session = world.open_session();
    world.put("large", &"x".repeat(1_500_000));
    let read = || Command::Txn(txn(vec![], vec![op_get("large"); 4], vec![]));
    for number in [1, 2] {
        assert!(write(&mut world, (session, number, 1), read()).result.is_ok());
    }
    assert!(matches!(
        write(&mut world, (session, 3, 1), read()).result,
        Err(Refusal::SessionWindowExceeded { .. })
    ));
    assert!(write(&mut world, (session, 3, 2), read()).result.is_ok());
}

#[test]
fn a_session_ends_after_its_time_without_a_write_and_its_writes_are_never_run() {
    let mut world = World::with(Settings { session_ttl_ms: 1_000, ..Settings::default() });
    let session = world.open_session();
    let ended = Err(Refusal::SessionEnded { session });
    write(&mut world, (session, 1, 1), put("k", "1"));
    world.time_ms = 999;
    assert!(write(&mut world, (session, 1, 1), put("k", "1")).repeated);
    // A repetition is a sign of life as well.
    world.time_ms = 1_998;
    assert!(write(&mut world, (session, 1, 1), put("k", "1")).repeated);
    world.time_ms = 2_998;
    assert_eq!(write(&mut world, (session, 1, 1), put("k", "1")).result, ended);
    assert_eq!(write(&mut world, (session, 2, 1), put("k", "2")).result, ended);
    assert_eq!(world.store.session_count(), 0);
    assert_eq!(world.value("k").as_deref(), Some("1"));
    let unknown = write(&mut world, (77, 1, 1), put("k", "2"));
    assert_eq!(unknown.result, Err(Refusal::SessionEnded { session: 77 }));
}

#[test]
fn ended_sessions_are_asked_to_be_removed_and_leave_nothing() {
    let mut world = World::new();
    let before = world.store.space().bytes;
    let session = world.open_session();
    write(&mut world, (session, 1, 1), Command::LeaseKeepAlive { ids: vec![1, 2] });
    let deadline_ms = world.store.next_deadline_ms().expect("a session ends");
    assert!(deadline_ms >= Settings::default().session_ttl_ms);
    world.tick_at(deadline_ms);
    assert_eq!(world.store.session_count(), 0);
    assert_eq!(world.store.space().bytes, before);
    assert_eq!(world.store.next_deadline_ms(), None);
}

#[test]
fn opening_a_session_can_itself_be_made_exactly_once() {
    let mut world = World::new();
    let key = || Origin::Key(bytes::Bytes::from_static(b"open"));
    let first = world.apply(key(), Command::SessionOpen);
    let again = world.apply(key(), Command::SessionOpen);
    assert_eq!(first.result, Ok(Outcome::SessionOpened { session: 1 }));
    assert_eq!(again, Applied { repeated: true, ..first });
    assert_eq!(world.store.session_count(), 1);
}
