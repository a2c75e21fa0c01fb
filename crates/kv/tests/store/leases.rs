//! Leases: granting, renewing, expiry in order, and the replicated clock they run on.

use mainstay_kv::{
    Command, KeepAlive, KeyRange, LEASE_TTL_MS_MAX, LeaseView, Origin, Outcome, Proposal, Refusal,
    Stamp,
};

use crate::world::{TERM, World, bytes, delete, envelope, put, put_leased};

fn grant(id: u64, ttl_ms: u64) -> Command {
    Command::LeaseGrant { id, ttl_ms }
}

fn keep_alive(world: &mut World, ids: &[u64]) -> Vec<Option<u64>> {
    match world.run(Command::LeaseKeepAlive { ids: ids.to_vec() }) {
        Ok(Outcome::KeptAlive(kept)) => {
            assert_eq!(kept.iter().map(|kept| kept.id).collect::<Vec<_>>(), ids);
            kept.iter().map(|KeepAlive { ttl_ms, .. }| *ttl_ms).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_lease_is_granted_at_least_the_smallest_time_and_at_most_the_largest() {
    let mut world = World::new();
    let granted = |id, ttl_ms| Ok(Outcome::LeaseGranted { id, ttl_ms });
    assert_eq!(world.run(grant(1, 0)), granted(1, 1_000));
    assert_eq!(world.run(grant(2, 5_000)), granted(2, 5_000));
    assert_eq!(world.run(grant(2, 5_000)), Err(Refusal::LeaseExists { id: 2 }));
    assert_eq!(world.run(grant(3, LEASE_TTL_MS_MAX)), granted(3, LEASE_TTL_MS_MAX));
    let (ttl_ms, limit_ms) = (LEASE_TTL_MS_MAX + 1, LEASE_TTL_MS_MAX);
    assert_eq!(world.run(grant(4, ttl_ms)), Err(Refusal::LeaseTtlTooLarge { ttl_ms, limit_ms }));
    assert_eq!(world.store.lease_ids(), [1, 2, 3]);
}

#[test]
fn an_id_is_made_from_the_sequence_the_same_everywhere() {
    let ids = || {
        let mut world = World::new();
        [(); 50].map(|()| match world.run(grant(0, 5_000)) {
            Ok(Outcome::LeaseGranted { id, .. }) => id,
            other => panic!("{other:?}"),
        })
    };
    let mut made = ids();
    assert_eq!(made, ids());
    assert!(made.iter().all(|id| *id > 0 && i64::try_from(*id).is_ok()));
    made.sort_unstable();
    assert!(made.windows(2).all(|pair| pair[0] != pair[1]));
}

#[test]
fn keys_are_attached_moved_and_let_go() {
    let mut world = World::new();
    for id in [1, 2] {
        world.done(grant(id, 5_000));
    }
    for key in ["b", "a", "c"] {
        world.done(put_leased(key, "", 1));
    }
    let keys = |world: &World, id| world.store.lease(id).expect("granted").keys;
    assert_eq!(keys(&world, 1), [bytes("a"), bytes("b"), bytes("c")]);
    world.done(put_leased("a", "", 2));
    world.done(put("b", ""));
    world.delete("c");
    assert_eq!(keys(&world, 1), Vec::<bytes::Bytes>::new());
    assert_eq!(keys(&world, 2), [bytes("a")]);
    assert_eq!(world.run(put_leased("a", "", 9)), Err(Refusal::LeaseNotFound { id: 9 }));
    assert_eq!(world.store.lease(9), None);
}

#[test]
fn revoking_deletes_all_keys_in_one_revision() {
    let mut world = World::new();
    world.done(grant(1, 5_000));
    for key in ["a", "b"] {
        world.done(put_leased(key, "", 1));
    }
    world.put("c", "");
    assert_eq!(world.run(Command::LeaseRevoke { id: 1 }), Ok(Outcome::LeaseRevoked { deleted: 2 }));
    assert_eq!(world.store.revision(), 5);
    assert_eq!(world.keys_at(0), ["c"]);
    let changes = world.store.changes(5, usize::MAX).expect("readable");
    assert_eq!(changes.revisions[0].events.len(), 2);
    assert_eq!(world.run(Command::LeaseRevoke { id: 1 }), Err(Refusal::LeaseNotFound { id: 1 }));
    world.done(grant(2, 5_000));
    world.done(Command::LeaseRevoke { id: 2 });
    assert_eq!(world.store.revision(), 5, "a lease without keys takes no revision");
}

#[test]
fn a_lease_ends_at_its_deadline_unless_it_is_kept_alive_before() {
    let mut world = World::new();
    world.done(grant(1, 5_000));
    world.done(put_leased("k", "", 1));
    assert_eq!(world.store.next_deadline_ms(), Some(5_000));
    world.tick_at(4_999);
    assert_eq!(
        world.store.lease(1),
        Some(LeaseView { id: 1, ttl_ms: 5_000, remaining_ms: 1, keys: vec![bytes("k")] })
    );
    assert_eq!(keep_alive(&mut world, &[1, 2, 1]), [Some(5_000), None, Some(5_000)]);
    assert_eq!(world.store.next_deadline_ms(), Some(9_999));
    world.tick_at(9_998);
    assert_eq!(world.store.lease_count(), 1);
    world.tick_at(9_999);
    assert_eq!((world.store.lease_count(), world.store.key_count()), (0, 0));
    assert_eq!(keep_alive(&mut world, &[1]), [None]);
    assert_eq!(world.store.next_deadline_ms(), None);
}

#[test]
fn the_entry_that_brings_the_deadline_expires_the_lease_before_its_own_command() {
    let mut world = World::new();
    world.done(grant(1, 5_000));
    world.done(put_leased("k", "", 1));
    world.time_ms = 5_000;
    assert_eq!(keep_alive(&mut world, &[1]), [None]);
    assert_eq!(world.value("k"), None);
    world.time_ms = 6_000;
    world.done(grant(2, 5_000));
    world.done(put_leased("k", "", 2));
    world.time_ms = 11_000;
    assert_eq!(world.run(put_leased("j", "", 2)), Err(Refusal::LeaseNotFound { id: 2 }));
    assert_eq!(world.store.key_count(), 0);
}

#[test]
fn leases_end_in_the_order_of_deadline_and_id_each_with_a_revision() {
    let mut world = World::new();
    for (id, ttl_ms) in [(5, 2_000), (1, 3_000), (2, 2_000), (9, 1_000)] {
        world.done(grant(id, ttl_ms));
        world.done(put_leased(&format!("of-{id}"), "", id));
    }
    let first = world.store.revision() + 1;
    world.tick_at(3_000);
    let changes = world.store.changes(first, usize::MAX).expect("readable");
    let keys: Vec<_> =
        changes.revisions.iter().map(|revision| revision.events[0].pair.key.clone()).collect();
    assert_eq!(keys, [bytes("of-9"), bytes("of-2"), bytes("of-5"), bytes("of-1")]);
}

#[test]
fn at_most_a_thousand_leases_end_with_one_entry() {
    let mut world = World::new();
    for id in 1..=2_500 {
        world.done(grant(id, 1_000));
    }
    world.done(put_leased("k", "", 2_500));
    world.time_ms = 1_000;
    world.put("own", "");
    assert_eq!(world.store.lease_count(), 1_500);
    assert_eq!(world.store.next_deadline_ms(), Some(0));
    // What waits its turn is over all the same.
    assert_eq!(keep_alive(&mut world, &[2_500]), [None]);
    assert_eq!(world.store.lease_count(), 500);
    assert_eq!(
        world.store.lease(2_500).map(|lease| (lease.remaining_ms, lease.keys.len())),
        Some((0, 1))
    );
    world.settle();
    assert_eq!((world.store.lease_count(), world.store.key_count()), (0, 1));
}

#[test]
fn a_waiting_lease_takes_no_keys_and_may_be_revoked() {
    let mut world = World::new();
    for id in 1..=2_001 {
        world.done(grant(id, 1_000));
    }
    world.done(put_leased("k", "", 2_001));
    world.time_ms = 1_000;
    assert_eq!(world.run(put_leased("j", "", 2_001)), Err(Refusal::LeaseNotFound { id: 2_001 }));
    // The next entry ends leases up to 2,000 first, then does this.
    assert_eq!(
        world.run(Command::LeaseRevoke { id: 2_001 }),
        Ok(Outcome::LeaseRevoked { deleted: 1 })
    );
    assert_eq!(world.store.lease_count(), 0);
}

#[test]
fn only_a_stamp_of_the_entrys_own_term_moves_the_clock_and_never_back() {
    let mut world = World::new();
    world.tick_at(100);
    assert_eq!(world.store.clock_ms(), 100);
    let tick = |term, time_ms| {
        let mut tick = envelope(time_ms, Proposal::unattributed(Command::Tick));
        tick.stamp = Stamp { term, time_ms };
        tick
    };
    for (stamp_term, entry_term, time_ms, expected) in [
        (TERM - 1, TERM, 500, 100),
        (TERM + 1, TERM, 500, 100),
        (TERM, TERM, 50, 100),
        (TERM, TERM, 101, 101),
        (TERM + 1, TERM + 1, 102, 102),
    ] {
        world.store.apply(tick(stamp_term, time_ms), entry_term);
        assert_eq!(world.store.clock_ms(), expected, "stamp {stamp_term}, entry {entry_term}");
    }
}

#[test]
fn the_wall_clock_is_noted_and_never_goes_back() {
    let mut world = World::new();
    let tick = |wall_ms| {
        let mut tick = envelope(0, Proposal::unattributed(Command::Tick));
        tick.wall_ms = wall_ms;
        tick
    };
    for (wall_ms, expected) in [(10, 10), (30, 30), (20, 30)] {
        world.store.apply(tick(wall_ms), TERM);
        assert_eq!(world.store.wall_ms(), expected);
    }
}

#[test]
fn a_lease_of_the_longest_time_at_the_end_of_time_does_not_overflow() {
    let mut world = World::new();
    world.tick_at(u64::MAX - 5);
    world.done(grant(1, LEASE_TTL_MS_MAX));
    world.open_session();
    world.apply(Origin::Key(bytes("k")), put("k", ""));
    world.tick_at(u64::MAX);
    world.done(delete(KeyRange::all()));
    assert_eq!(world.store.lease_count(), 0);
}
