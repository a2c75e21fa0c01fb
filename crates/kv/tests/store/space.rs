//! The quota: what counts, what is refused, and that it clears by itself. And the settings that
//! it is one of.

use mainstay_kv::{Command, KeyRange, Origin, Outcome, Refusal, Settings, Space};

use crate::world::{World, delete, op_delete, op_get, op_put, put, put_leased, single, txn};

const QUOTA_BYTES: u64 = 1_000;

/// A store that has reached its quota.
fn full_store() -> World {
    let mut world = World::with(Settings { quota_bytes: QUOTA_BYTES, ..Settings::default() });
    world.done(Command::LeaseGrant { id: 1, ttl_ms: 5_000 });
    world.done(put_leased("leased", "", 1));
    while !world.store.space().full {
        world.put("k", "value");
    }
    world
}

#[test]
fn bytes_are_key_value_and_64_for_each_version() {
    let mut world = World::new();
    assert_eq!(world.store.space().bytes, 0);
    world.put("key", "value");
    assert_eq!(world.store.space().bytes, 72);
    world.put("key", "");
    assert_eq!(world.store.space().bytes, 72 + 67);
    world.delete("key");
    assert_eq!(world.store.space().bytes, 72 + 67 + 67);
    let before = world.store.space().bytes;
    world.open_session();
    world.done(Command::LeaseGrant { id: 1, ttl_ms: 5_000 });
    assert_eq!(world.store.space().bytes, before + 128);
    world.apply(Origin::Key(crate::world::bytes("key")), Command::Tick);
    assert!(world.store.space().bytes > before + 128 + 64);
}

#[test]
fn a_warning_comes_before_the_quota_is_reached() {
    let mut world = World::with(Settings { quota_bytes: QUOTA_BYTES, ..Settings::default() });
    let mut seen = vec![];
    while !world.store.space().full {
        world.put("k", &"x".repeat(35));
        let Space { bytes, quota_bytes, warning, full } = world.store.space();
        assert_eq!(quota_bytes, QUOTA_BYTES);
        assert_eq!((warning, full), (bytes >= 800, bytes >= 1_000));
        seen.push((warning, full));
    }
    seen.dedup();
    assert_eq!(seen, [(false, false), (true, false), (true, true)]);
}

#[test]
fn at_the_quota_only_what_grows_is_refused() {
    let mut world = full_store();
    let Space { bytes, quota_bytes, .. } = world.store.space();
    let refused = Err(Refusal::SpaceExceeded { bytes, quota_bytes });
    let run = |success| Command::Txn(txn(vec![], success, vec![]));
    for growing in [put("k", ""), put("new", ""), run(vec![op_get("k"), op_put("k", "")])] {
        assert_eq!(world.run(growing), refused);
    }
    world.done(run(vec![op_get("k")]));
    // A branch that is not taken does not grow.
    world.done(Command::Txn(txn(vec![], vec![], vec![op_put("k", "")])));
    world.done(Command::LeaseGrant { id: 2, ttl_ms: 5_000 });
    world.done(Command::LeaseKeepAlive { ids: vec![1, 2] });
    world.done(Command::LeaseRevoke { id: 1 });
    world.open_session();
    world.done(delete(single("none")));
    world.done(run(vec![op_delete(KeyRange::all())]));
    assert_eq!(world.store.key_count(), 0);
}

#[test]
fn the_alarm_clears_by_itself_when_there_is_room() {
    let mut world = full_store();
    let revision = world.done(delete(KeyRange::all()));
    assert!(world.store.space().full, "history still takes space");
    world.compact(revision);
    world.settle();
    assert!(!world.store.space().full);
    world.put("k", "value");
    // And a larger quota does as well.
    let mut world = full_store();
    world.done(Command::Configure(Settings {
        quota_bytes: 2_000,
        ..world.store.settings().clone()
    }));
    world.put("k", "value");
    world.done(Command::Configure(Settings { quota_bytes: 100, ..world.store.settings().clone() }));
    assert!(world.store.space().full);
}

/// Switches the operator's read-only mode.
fn set_read_only(world: &mut World, read_only: bool) {
    let settings = Settings { read_only, ..world.store.settings().clone() };
    world.done(Command::Configure(settings));
}

#[test]
fn an_operator_holds_back_what_clients_begin_and_nothing_else() {
    let mut world = World::new();
    world.put("k", "v");
    world.done(Command::LeaseGrant { id: 1, ttl_ms: 5_000 });
    world.done(Command::LeaseGrant { id: 2, ttl_ms: 5_000 });
    world.done(put_leased("leased", "", 1));
    set_read_only(&mut world, true);
    let revision = world.store.revision();
    let run = |success| Command::Txn(txn(vec![], success, vec![]));
    for held in [
        put("k", "w"),
        delete(single("k")),
        run(vec![op_get("k"), op_put("k", "w")]),
        Command::Compact { revision },
        Command::LeaseGrant { id: 3, ttl_ms: 5_000 },
    ] {
        assert!(held.is_held_back());
        assert_eq!(world.run(held), Err(Refusal::ReadOnly));
    }
    assert_eq!(world.store.revision(), revision);
    world.done(run(vec![op_get("k")]));
    world.done(Command::LeaseKeepAlive { ids: vec![1, 2] });
    world.done(Command::LeaseRevoke { id: 2 });
    world.open_session();
    set_read_only(&mut world, false);
    world.put("k", "w");
}

#[test]
fn a_write_that_was_done_before_is_answered_while_an_operator_holds_writes_back() {
    let mut world = World::new();
    let key = || Origin::Key(crate::world::bytes("once"));
    let first = world.apply(key(), put("k", "v"));
    set_read_only(&mut world, true);
    let again = world.apply(key(), put("k", "v"));
    assert!(again.repeated && again.result == first.result && first.result.is_ok());
    // One that was refused is not remembered as refused.
    let other = || Origin::Key(crate::world::bytes("other"));
    assert_eq!(world.apply(other(), put("k", "w")).result, Err(Refusal::ReadOnly));
    set_read_only(&mut world, false);
    let now = world.apply(other(), put("k", "w"));
    assert!(!now.repeated && now.result.is_ok());
}

#[test]
fn settings_are_replaced_as_a_whole_or_not_at_all() {
    let mut world = World::new();
    let hash = world.store.hash();
    let wanted = Settings { quota_bytes: 5_000, key_bytes_max: 10, ..Settings::default() };
    assert_eq!(world.run(Command::Configure(wanted.clone())), Ok(Outcome::Configured));
    assert_eq!(world.store.settings(), &wanted);
    assert_ne!(world.store.hash(), hash);
    let bad = Settings { quota_warning_percent: 0, quota_bytes: 1, ..wanted.clone() };
    assert!(matches!(
        world.run(Command::Configure(bad)),
        Err(Refusal::InvalidSetting { name, value: 0, .. }) if name == "quota_warning_percent"
    ));
    assert_eq!(world.store.settings(), &wanted);
    assert_eq!(world.store.revision(), 1, "settings are no keys");
}

#[test]
fn the_format_is_chosen_by_the_first_settings_and_then_only_raised() {
    let mut world = World::new();
    let at = |format| Settings { format, ..Settings::default() };
    world.done(Command::Configure(at(2)));
    assert_eq!(world.store.settings().format, 2);
    for (command, format) in [
        (Command::Configure(at(1)), 2),
        (Command::Configure(at(7)), 2),
        (Command::RaiseFormat { format: 3 }, 3),
        (Command::RaiseFormat { format: 2 }, 3),
        (Command::Configure(at(2)), 3),
    ] {
        assert_eq!(world.run(command.clone()), Ok(Outcome::Configured));
        assert_eq!(world.store.settings().format, format, "after {command:?}");
    }
}
