//! A client that compacts: at the newest revision, shortly behind it, or exactly at a deletion.

use std::time::Duration;

use mainstay_world as world;

use crate::{
    history::Call,
    workload::{Orders, caller::Caller},
};

/// Compacts until told to stop.
pub(in crate::workload) async fn run(mut caller: Caller, orders: Orders) {
    while !orders.is_stopped() {
        let ms = caller.dice.between(200..=1_500);
        world::sleep(Duration::from_millis(ms)).await;
        let (newest, deletion) = {
            let record = caller.record.lock();
            (record.newest_revision(), record.newest_deletion())
        };
        let revision = match caller.dice.below(3) {
            0 => newest,
            1 => newest.saturating_sub(caller.dice.below(20)),
            _ => deletion,
        };
        if revision > 1 {
            caller.call(Call::Compact { revision }).await;
        }
    }
    orders.one_stopped();
}
