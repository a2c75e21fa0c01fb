//! Keeps what the cluster records about this node current.
//!
//! A node that was started with another address, zone or version than its record says asks the
//! leader to record it anew, until it is so. Its id stays: peers recognise it by that, not by its
//! address.

use std::time::Duration;

use mainstay_world::{self as world, Instant};
use tracing::{info, warn};

use crate::{
    Consensus,
    membership::{MemberRequest, MemberWish},
};

/// How long one attempt may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// The pause after an attempt that failed; it grows up to the longest one.
const PAUSE: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Asks for as long as the node runs.
pub(crate) async fn keep_current(consensus: Consensus) {
    let record = consensus.own_record();
    let mut membership = consensus.core.membership.subscribe();
    let mut stopping = consensus.core.stopping.subscribe();
    let mut pause = PAUSE;
    loop {
        let recorded = membership.borrow_and_update().get_node(&record.folder_id).cloned();
        let is_current = recorded.is_none_or(|recorded| recorded == record);
        if is_current {
            pause = PAUSE;
        } else {
            let wish = MemberWish::Describe(record.clone());
            let request = MemberRequest { wish, force: false, dry_run: false };
            match consensus.change_members(&request, Instant::now() + DEADLINE).await {
                Ok(_changed) => info!(?record, "the cluster records this node anew"),
                Err(error) => warn!(%error, "the cluster could not record this node anew yet"),
            }
        }
        tokio::select! {
            stopping = stopping.wait_for(|stopping| *stopping) => {
                // A node that ends has nothing to record.
                let _either = stopping;
                return;
            }
            changed = membership.changed() => if changed.is_err() { return },
            () = world::sleep(pause), if !is_current => pause = (pause * 2).min(PAUSE_MAX),
        }
    }
}
