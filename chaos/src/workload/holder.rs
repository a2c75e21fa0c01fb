//! A client that takes a lock again and again, holds it by a lease, and lets it go or forgets it.

use std::time::Duration;

use bytes::Bytes;
use mainstay_world as world;

use super::{Orders, caller::Caller};
use crate::history::{Answer, Call, Expected, Origin, Outcome};

const LOCK: &[u8] = b"k/lock";

/// Competes for the lock until told to stop.
pub(super) async fn run(mut caller: Caller, orders: Orders) {
    let mut taken = 0;
    while !orders.is_stopped() {
        pause(&mut caller, 200, 800).await;
        let ttl_ms = caller.dice.between(1_000..=3_000);
        let Outcome::Ok { answer: Answer::LeaseGranted { lease, .. }, .. } =
            caller.call(Call::LeaseGrant { ttl_ms }).await
        else {
            continue;
        };
        taken += 1;
        let call = Call::CompareAndSet {
            key: Bytes::from_static(LOCK),
            expected: Expected::Absent,
            value: Bytes::from(format!("holder {} {taken}", caller.number)),
            lease,
            origin: Origin::Unnumbered,
        };
        let locked = matches!(
            caller.call(call).await,
            Outcome::Ok { answer: Answer::Compared { succeeded: true }, .. }
        );
        if locked {
            hold(&mut caller, lease, ttl_ms, &orders).await;
        }
        // A forgotten lease ends by itself.
        if caller.dice.percent(60) {
            caller.call(Call::LeaseRevoke { lease }).await;
            if caller.is_over_etcd() {
                ask_after(&mut caller, lease).await;
            }
        }
    }
    orders.one_stopped();
}

async fn hold(caller: &mut Caller, lease: u64, ttl_ms: u64, orders: &Orders) {
    for _renewal in 0..caller.dice.below(5) {
        pause(caller, ttl_ms / 4, ttl_ms / 2).await;
        if caller.is_over_etcd() && caller.dice.percent(40) {
            caller.call(Call::LeaseTimeToLive { lease }).await;
        }
        let kept = caller.call(Call::LeaseKeepAlive { lease }).await;
        let ended =
            matches!(kept, Outcome::Ok { answer: Answer::LeaseKeptAlive { ttl_ms: None }, .. });
        if ended || orders.is_stopped() {
            return;
        }
    }
}

/// Asks after a lease that was just revoked, and tries to renew it.
async fn ask_after(caller: &mut Caller, lease: u64) {
    if caller.dice.percent(60) {
        caller.move_on();
        caller.call(Call::LeaseKeepAlive { lease }).await;
        caller.call(Call::LeaseTimeToLive { lease }).await;
    }
}

async fn pause(caller: &mut Caller, ms_min: u64, ms_max: u64) {
    let ms = caller.dice.between(ms_min..=ms_max);
    world::sleep(Duration::from_millis(ms)).await;
}
