//! Consensus: openraft bound to `storage`, `kv` and the peer protocol.
//!
//! The only crate that names openraft. It takes encoded proposals and gives back what the store
//! made of them, brings a node's store up to date for linearizable reads, and says who leads. A
//! proposal's way: [`Consensus::propose`] in `submission`, on a follower through `forwarding` to the leader, the
//! batching task in `proposals`, openraft, `log_store`, the peers' log streams, `state_machine`,
//! and back.
//!
//! It decides nothing about users, requests, HTTP or keys, and it never reads the wall clock for
//! anything but people.
//!
//! Start reading at [`Consensus`], then `core`, `proposals` and `peer`.

mod administration;
mod auto_compaction;
mod autopilot;
mod birth;
mod campaign;
mod core;
mod detection;
mod election;
mod error;
mod fitness;
mod format;
mod forwarding;
mod handover;
mod heartbeats;
mod leaving;
mod log_store;
mod member_record;
mod membership;
mod new_cluster;
mod observation;
mod pace;
mod peer;
mod pinned_history;
mod proposals;
mod read_index;
mod replicated_clock;
mod report;
mod retention;
mod running;
mod runtime;
mod state_machine;
mod status;
mod submission;
mod survivor;
mod ticket;
mod type_config;
mod versions;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use mainstay_kv::{Changes, QueryError, Store};
use mainstay_storage::Storage;
use mainstay_world::{self as world, Instant, Listener, World};
use tokio::sync::watch;
use tracing::warn;

pub use autopilot::{AutopilotDecision, AutopilotState};
pub use birth::{Birth, BootstrapPeer};
pub use core::Options;
pub use detection::Detection;
pub use election::{Election, ElectionCause, ElectionPhases};
pub use error::{NotTaken, ProposeError, ReadIndexError, StartError};
pub use format::HeldUp;
pub use handover::{HandOver, HandOverError};
pub use mainstay_failure_detector::{
    Adaptation, IgnoredCounts, Level, OwnHealth, OwnReading, Reading, Reason,
};
pub use membership::{
    Advice, AutopilotAction, MemberChange, MemberChangeKind, MemberRequest, MemberWish,
    MembershipError,
};
pub use new_cluster::{NewCluster, NewClusterError, Seed};
pub use peer::inquiry::{PeerAnswer, ask_peer};
pub use pinned_history::{HistoryError, PinnedHistory};
pub use status::{
    AppliedPosition, Counters, MemberRecord, MemberStatus, ReadOnlyReason, Role, Standing, Status,
};
pub use survivor::{Survivor, SurvivorError, completeness};
pub use versions::{PeerVersions, UnknownRules, Versions};

use crate::{birth::BirthNotice, core::Core, observation::Leadership, peer::server};

/// The pause before a proposal without a leader is tried again, unless the leader changes sooner.
const PAUSE: Duration = Duration::from_millis(25);

/// How long the disk may take to say how much room it has.
const FREE_BYTES_DEADLINE: Duration = Duration::from_secs(1);

/// A node's part in its cluster; cheap to clone.
#[derive(Clone)]
pub struct Consensus {
    core: Arc<Core>,
    counters: Arc<ProposalCounters>,
}

#[derive(Default)]
struct ProposalCounters {
    pending: std::sync::atomic::AtomicU64,
    failed: std::sync::atomic::AtomicU64,
    committed: std::sync::atomic::AtomicU64,
    read_indexes_failed: std::sync::atomic::AtomicU64,
}

impl Consensus {
    /// Reads the data folder, replays what is known to be committed, starts all tasks and returns.
    ///
    /// The birth of a new cluster goes on in the background: see [`Status::cluster_id`] and
    /// [`Status::trouble`]. Call inside the node's [`world::Scope`].
    ///
    /// # Errors
    /// [`StartError`]: the folder is another node's, damaged, or its disk fails.
    pub async fn start(
        options: Options,
        world: World,
        peer_listener: Box<dyn Listener>,
    ) -> Result<Self, StartError> {
        let birth = options.birth.clone();
        let core = Core::open(options, world).await?;
        if core.is_in_cluster() {
            if let Birth::Bootstrap(list) = &birth {
                birth::check_cluster(&core, list).await?;
            }
            core.take_part().await?;
        }
        world::spawn(server::accept(Arc::clone(&core), peer_listener));
        if let Birth::Bootstrap(list) = birth
            && !core.is_initialised().await
        {
            world::spawn(birth::bring_about(Arc::clone(&core), list));
        }
        let consensus = Self { core, counters: Arc::default() };
        world::spawn(member_record::keep_current(consensus.clone()));
        Ok(consensus)
    }

    /// Returns when this node's store holds everything that was committed when this was called.
    ///
    /// # Errors
    /// [`ReadIndexError`]: no leader, or the deadline passed.
    pub async fn read_index(&self, deadline: Instant) -> Result<(), ReadIndexError> {
        let outcome = self.try_read_index(deadline).await;
        if outcome.is_err() {
            self.counters.read_indexes_failed.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        outcome
    }

    async fn try_read_index(&self, deadline: Instant) -> Result<(), ReadIndexError> {
        let running = self.core.running().ok_or(ReadIndexError::NotReady)?;
        let left = deadline.since(Instant::now());
        match world::timeout(left, running.reads.catch_up()).await {
            Ok(outcome) => outcome,
            Err(_elapsed) if self.core.leadership.borrow().leader.is_none() => {
                Err(ReadIndexError::NoLeader)
            }
            Err(_elapsed) => Err(ReadIndexError::Timeout),
        }
    }

    /// Runs `read` on the store as it is. Keep it short: applying waits meanwhile.
    pub fn read<T>(&self, read: impl FnOnce(&Store) -> T) -> T {
        self.core.store.read(read)
    }

    /// Pins this moment of the store as this node has it, to read its whole history. What
    /// compaction frees is kept until the answer is dropped, so have few at a time.
    #[must_use]
    pub fn pin_history(&self) -> PinnedHistory {
        PinnedHistory::begin(self.core.store.clone())
    }

    /// The next changes for the one who follows them all, from the first that is unread:
    /// compaction takes none of them away as long as the reader is not far behind. There is one
    /// such reader of a node.
    ///
    /// # Errors
    /// As [`UnreadChanges::read`](mainstay_kv::UnreadChanges::read).
    pub fn unread_changes(
        &self,
        from_revision: u64,
        bytes_max: usize,
    ) -> Result<Changes, QueryError> {
        self.core.store.unread_changes(from_revision, bytes_max)
    }

    /// Has that reader go on with what comes after the present; the present revision.
    #[must_use]
    pub fn skip_changes(&self) -> u64 {
        self.core.store.skip_changes()
    }

    /// The term, without anything else: cheap enough for every answer.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.core.leadership.borrow().term
    }

    /// Woken at each change of leader, term or role.
    #[must_use]
    pub fn status_changes(&self) -> StatusChanges {
        StatusChanges(self.core.leadership.subscribe())
    }

    /// What this node speaks and applies.
    #[must_use]
    pub fn versions(&self) -> Versions {
        self.core.options().versions
    }

    /// The newest format that this node knows, if it leads and a member holds that up.
    #[must_use]
    pub fn held_up_format(&self) -> Option<HeldUp> {
        self.core.running()?.format.held_up()
    }

    /// The store's position, changed after each applied batch.
    #[must_use]
    pub fn applied(&self) -> watch::Receiver<AppliedPosition> {
        self.core.store.position()
    }

    /// What this node says of itself to those who are to record it.
    #[must_use]
    pub fn own_record(&self) -> MemberRecord {
        self.core.record()
    }

    /// Stores in the data folder which cluster this node is in, and starts taking part; does
    /// nothing when it is in that cluster already.
    ///
    /// # Errors
    /// A sentence: the folder is in another cluster, or its disk fails.
    pub async fn enter_cluster(&self, cluster_id: u64, epoch: u64) -> Result<(), String> {
        let notice = BirthNotice { cluster_id, epoch, founders: BTreeMap::new() };
        self.core.enter(&notice).await
    }

    /// Says what keeps this node from taking part, for those who ask how it is.
    pub fn set_trouble(&self, text: &str) {
        if self.core.running().is_none() {
            self.core.set_trouble(text);
        }
    }

    /// Becomes true when the cluster removed this node.
    #[must_use]
    pub fn removal(&self) -> watch::Receiver<bool> {
        self.core.removal.subscribe()
    }

    /// The storage, once the node is in a cluster: for metrics of syncs and space.
    #[must_use]
    pub fn storage(&self) -> Option<Storage> {
        self.core.running().map(|running| running.storage.clone())
    }

    /// Bytes that can still be written beside the data folder; `None` if the disk does not say.
    pub async fn free_bytes(&self) -> Option<u64> {
        let asked = self.core.world().snapshot_disk.free_bytes();
        world::timeout(FREE_BYTES_DEADLINE, asked).await.ok()?.ok()
    }

    /// Takes a snapshot of everything applied; its last log index.
    ///
    /// # Errors
    /// What the disk says. Nothing is lost: the log is kept until a snapshot succeeds.
    pub async fn take_snapshot(&self) -> std::io::Result<u64> {
        let running = self.core.running().ok_or_else(core::not_in_a_cluster)?;
        running.retention.take_snapshot().await
    }

    /// Set once the storage failed for good, with what happened.
    #[must_use]
    pub fn storage_failure(&self) -> watch::Receiver<Option<String>> {
        self.core.storage_failure.subscribe()
    }

    /// Hands leadership over if this node has it, and takes none from now on. Everything else goes
    /// on: proposals and reads that wait here are finished with the next leader. The first step of
    /// a planned end.
    pub async fn step_down(&self) {
        leaving::step_down(&self.core).await;
    }

    /// Steps down, refuses new proposals, waits until no peer counts on this node, ends consensus
    /// and closes the storage. Whoever waits for an outcome by then is told that it is unknown.
    pub async fn shutdown(&self) {
        self.step_down().await;
        self.core.stopping.send_replace(true);
        if let Some(running) = self.core.running() {
            leaving::part(&self.core, &running).await;
            running.elections.settle_told();
            if let Err(error) = running.raft.shutdown().await {
                warn!(%error, "consensus did not end in order");
            }
            running.storage.shutdown().await;
        }
    }
}

/// Wakes whoever waits for a change of leader, term or role.
#[derive(Clone)]
pub struct StatusChanges(watch::Receiver<Leadership>);

impl StatusChanges {
    /// Returns at the next change; `false` when the node has stopped.
    pub async fn changed(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }
}

/// Waits for another leader or a little while; `false` when the deadline is here.
async fn wait_for_change(leadership: &mut watch::Receiver<Leadership>, deadline: Instant) -> bool {
    let left = deadline.since(Instant::now());
    if left.is_zero() {
        return false;
    }
    tokio::select! {
        changed = leadership.changed() => changed.is_ok(),
        () = world::sleep(PAUSE.min(left)) => true,
    }
}
