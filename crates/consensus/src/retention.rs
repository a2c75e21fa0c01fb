//! When a snapshot is taken and how much log is kept: both by bytes.
//!
//! A snapshot is taken when the log since the last one has outgrown the state, so that its cost per
//! entry stays constant however large the store is. Entries that a snapshot covers are kept for a
//! while all the same, so that a follower which was away briefly gets entries and not a snapshot.
//!
//! When a newer format comes into force, a snapshot is taken whatever the sizes, and the entries
//! before it go: the next release follows only the new format, and must neither find the old
//! entries in its own log nor be sent them.

use std::{io, sync::Arc, time::Duration};

use mainstay_storage::Storage;
use mainstay_world as world;
use openraft::async_runtime::WatchReceiver as _;
use tokio::sync::Mutex;
use tracing::{info, warn};

use crate::{
    peer::{channel::chain, link::Links},
    state_machine::SharedStore,
    type_config::RaftHandle,
};

/// How often the policy looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// The wait after a snapshot that failed, for example on a full disk.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(10);

/// How many times as much log as usual is kept for a member that answers and is behind, or gets a
/// snapshot. One that is further behind gets another snapshot.
const KEPT_FOR_PEERS: u64 = 4;

/// The longest wait for openraft to notice a snapshot.
const NOTICE_DEADLINE: Duration = Duration::from_secs(30);

/// Takes snapshots and lets go of entries.
pub(crate) struct Retention {
    raft: RaftHandle,
    storage: Storage,
    store: SharedStore,
    links: Arc<Links>,
    /// Bytes of log that never cause a snapshot and are always kept.
    log_bytes_min: u64,
    one_at_a_time: Mutex<()>,
}

impl Retention {
    pub(crate) fn new(
        raft: RaftHandle,
        storage: Storage,
        store: SharedStore,
        links: Arc<Links>,
        log_bytes_min: u64,
    ) -> Arc<Self> {
        let one_at_a_time = Mutex::default();
        Arc::new(Self { raft, storage, store, links, log_bytes_min, one_at_a_time })
    }

    /// Looks for as long as the node runs.
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            world::sleep(INTERVAL).await;
            if self.is_snapshot_due()
                && let Err(error) = self.take_snapshot().await
            {
                warn!(error = %chain(&error), "no snapshot could be taken; the log is kept");
                world::sleep(PAUSE_AFTER_FAILURE).await;
            }
            self.purge().await;
        }
    }

    /// Takes a snapshot of everything applied; its last log index.
    ///
    /// # Errors
    /// What the disk says, or that the node is stopping.
    pub(crate) async fn take_snapshot(&self) -> io::Result<u64> {
        let _turn = self.one_at_a_time.lock().await;
        let work = self
            .raft
            .with_state_machine(|machine| {
                let work = machine.begin_snapshot();
                Box::pin(async move { work })
            })
            .await
            .map_err(io::Error::other)?;
        let index = work.write().await?;
        self.raft.trigger().snapshot().await.map_err(io::Error::other)?;
        let mut metrics = self.raft.data_metrics();
        let noticed = world::timeout(NOTICE_DEADLINE, async {
            while metrics.borrow_watched().snapshot.is_none_or(|last| last.index < index) {
                if metrics.changed().await.is_err() {
                    return;
                }
            }
        });
        if noticed.await.is_err() {
            warn!(index, "a snapshot was written and consensus did not notice it");
        }
        info!(index, "a snapshot was taken");
        Ok(index)
    }

    fn is_snapshot_due(&self) -> bool {
        let since = self.storage.snapshot().and_then(|info| info.last).map_or(0, |last| last.index);
        let state_bytes = self.store.read(|store| store.space().bytes);
        since < self.store.old_format_upto()
            || self.storage.bytes_since(since) > self.log_bytes_min.max(state_bytes)
    }

    /// The last entry that every member which answers has, or will have from the snapshot that is
    /// on its way to it; `None` if there is nobody to wait for.
    fn needed(&self) -> Option<u64> {
        let metrics = self.raft.data_metrics();
        let metrics = metrics.borrow_watched();
        let matched = metrics.replication.iter().flatten().filter_map(|(id, matched)| {
            let answers = self.links.find(*id).is_some_and(|link| link.is_healthy());
            matched.as_ref().filter(|_matched| answers).map(|matched| matched.index)
        });
        matched.chain(self.links.snapshots_under_way()).min()
    }

    async fn purge(&self) {
        let state_bytes = self.store.read(|store| store.space().bytes);
        let keep = self.log_bytes_min.max(state_bytes / 2);
        let Some(snapshot) = self.storage.snapshot().and_then(|info| info.last) else { return };
        let by_size = self.storage.index_at_bytes_from_end(keep).unwrap_or(0);
        let upto = by_size.max(self.store.old_format_upto());
        let longest = self.storage.index_at_bytes_from_end(keep.saturating_mul(KEPT_FOR_PEERS));
        let upto = purge_upto(upto.min(snapshot.index), self.needed(), longest.unwrap_or(0));
        let purged = self.storage.purged().map_or(0, |purged| purged.index);
        if upto > purged {
            // A stopped core is noticed elsewhere.
            let _ = self.raft.trigger().purge_log(upto).await;
        }
    }
}

/// Up to where the log may go: `upto` by its size, but not beyond what members still need, unless
/// that would keep more than is kept for them, which begins after `longest`.
fn purge_upto(upto: u64, needed: Option<u64>, longest: u64) -> u64 {
    match needed {
        Some(needed) if needed < upto => needed.max(longest.min(upto)),
        Some(_) | None => upto,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_slow_member_needs_is_kept_up_to_a_bound() {
        for (needed, longest, purged) in [
            (None, 0, 100),
            (Some(150), 0, 100),
            (Some(100), 0, 100),
            (Some(60), 0, 60),
            (Some(60), 40, 60),
            // It is so far behind that it gets a snapshot: nothing is kept for it beyond the bound.
            (Some(60), 80, 80),
            (Some(60), 120, 100),
        ] {
            assert_eq!(purge_upto(100, needed, longest), purged, "{needed:?}, {longest}");
        }
    }
}
