//! Read-only mode, as people are told of it: that it began, why, and that it is over.
//!
//! This is the one place that says why a node refuses writes, whatever the reason: what consensus
//! knows of quorum and disk, and the store's quota. It refuses nothing itself; who refuses asks at
//! the moment of the write.

use std::{convert::Infallible, time::Duration};

use mainstay_consensus::ReadOnlyReason;
use mainstay_kv::Store;
use mainstay_service::Door;
use tracing::{info, warn};

/// The time between two looks; what passes sooner is not worth a line.
const LOOK: Duration = Duration::from_secs(1);

/// Why this node refuses writes that grow the store, if it does.
pub(crate) fn reason(door: &Door) -> Option<ReadOnlyReason> {
    let full = door.store(Store::space).full;
    door.consensus().status().read_only.or(full.then_some(ReadOnlyReason::Quota))
}

/// Logs when writes begin to be refused and when they are taken again, for as long as it is polled.
pub(crate) async fn tell(door: &Door) -> Infallible {
    let mut told = None;
    loop {
        mainstay_world::sleep(LOOK).await;
        let now = reason(door);
        if now == told {
            continue;
        }
        match now {
            Some(reason) => warn!(
                reason = reason.as_str(),
                "this node refuses writes: {}; the data is safe, stale reads and watches go on",
                why(reason)
            ),
            None => info!("this node takes writes again"),
        }
        told = now;
    }
}

/// A reason as a clause.
const fn why(reason: ReadOnlyReason) -> &'static str {
    match reason {
        ReadOnlyReason::NoQuorum => "no quorum has answered for a leader lease",
        ReadOnlyReason::Quota => "the store is at its quota, delete or compact to make room",
        ReadOnlyReason::DiskReserve => "the disk is nearly full, make room on it",
        ReadOnlyReason::StorageFailed => "its storage failed, only a restart helps",
    }
}
