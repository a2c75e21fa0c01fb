//! A client that reads keys as they were, around the revision that is compacted.

use std::time::Duration;

use bytes::Bytes;
use mainstay_world as world;

use crate::{
    history::{Call, Consistency},
    workload::{Orders, caller::Caller},
};

/// Reads until told to stop.
pub(in crate::workload) async fn run(mut caller: Caller, keys: u64, orders: Orders) {
    while !orders.is_stopped() {
        let ms = caller.dice.between(20..=120);
        world::sleep(Duration::from_millis(ms)).await;
        let (compacted, newest) = {
            let record = caller.record.lock();
            (record.compacted(), record.newest_revision())
        };
        let revision = match caller.dice.below(4) {
            0 => compacted,
            1 => compacted.saturating_sub(1),
            2 => newest,
            _ => caller.dice.between(compacted.min(newest)..=newest),
        };
        if revision > 0 {
            let key = Bytes::from(format!("k/{}", caller.dice.below(keys)));
            caller.call(Call::Get { key, consistency: Consistency::Past(revision) }).await;
        }
    }
    orders.one_stopped();
}
