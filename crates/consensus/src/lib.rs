//! Consensus: openraft bound to `storage`, `kv` and the peer protocol.
//!
//! The only crate that names openraft. It takes encoded proposals and gives back what the store
//! made of them, brings a node's store up to date for linearizable reads, and says who leads. A
//! proposal's way: [`Consensus::propose`], on a follower through `forwarding` to the leader, the
//! batching task in `proposals`, openraft, `log_store`, the peers' log streams, `state_machine`,
//! and back.
//!
//! It decides nothing about users, requests, HTTP or keys, and it never reads the wall clock for
//! anything but people.
//!
//! Start reading at [`Consensus`], then `core`, `proposals` and `peer`.

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
mod peer;
mod proposals;
mod read_index;
mod replicated_clock;
mod retention;
mod running;
mod runtime;
mod state_machine;
mod status;
mod survivor;
mod ticket;
mod type_config;
mod versions;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use mainstay_kv::{Changes, ENVELOPE_BYTES_MAX, Proposal, QueryError, Store, outcome::Applied};
use mainstay_storage::{SpaceState, Storage};
use mainstay_world::{self as world, Instant, Listener, World};
use openraft::async_runtime::WatchReceiver as _;
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
pub use status::{
    AppliedPosition, Counters, MemberRecord, MemberStatus, ReadOnlyReason, Role, Standing, Status,
};
pub use survivor::{Survivor, SurvivorError, completeness};
pub use versions::{PeerVersions, UnknownRules, Versions};

use crate::{
    birth::BirthNotice,
    core::Core,
    observation::Leadership,
    peer::{
        channel::CallError,
        link::Link,
        message::{Answer, Call},
        server,
    },
    proposals::Unapplied,
    running::Running,
};

/// The pause before a proposal without a leader is tried again, unless the leader changes sooner.
const PAUSE: Duration = Duration::from_millis(25);

/// How long the outcome of a proposal that was sent just before its deadline is waited for after it:
/// "certainly not" is worth a moment more than "unknown".
const LAST_MOMENT: Duration = Duration::from_millis(100);

/// How long the disk may take to say how much room it has.
const FREE_BYTES_DEADLINE: Duration = Duration::from_secs(1);

/// Room that the envelope's header and attribution take beside the largest command.
const PROPOSAL_BYTES_MAX: usize = ENVELOPE_BYTES_MAX - 4096;

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

    /// Has `proposal` committed and applied, through the leader if that is another node, and
    /// answers with what the store made of it on the node that led.
    ///
    /// While there is no leader it waits for one, as long as nothing has been appended anywhere.
    ///
    /// # Errors
    /// [`ProposeError::NotTaken`] if it certainly changed nothing,
    /// [`ProposeError::OutcomeUnknown`] if it may have.
    pub async fn propose(
        &self,
        proposal: &Proposal,
        deadline: Instant,
    ) -> Result<Applied, ProposeError> {
        use std::sync::atomic::Ordering::Relaxed;
        self.counters.pending.fetch_add(1, Relaxed);
        let outcome = self.try_propose(proposal, deadline).await;
        self.counters.pending.fetch_sub(1, Relaxed);
        match &outcome {
            Ok(_applied) => self.counters.committed.fetch_add(1, Relaxed),
            Err(_error) => self.counters.failed.fetch_add(1, Relaxed),
        };
        outcome
    }

    async fn try_propose(
        &self,
        proposal: &Proposal,
        deadline: Instant,
    ) -> Result<Applied, ProposeError> {
        let running = self.running()?;
        let body = proposal.to_bytes().map_err(|_unencodable| NotTaken::NotReady)?;
        if body.len() > PROPOSAL_BYTES_MAX {
            return Err(NotTaken::TooLarge { len: body.len(), limit: PROPOSAL_BYTES_MAX }.into());
        }
        let mut leadership = self.core.leadership.subscribe();
        loop {
            self.check_open()?;
            let seen = *leadership.borrow_and_update();
            let submitted = match seen.leader {
                Some(_) if seen.leads => running.proposals.submit(body.clone()),
                Some(_) => {
                    self.core.world().buggify.note("proposal.forwarded", || []);
                    running.forwarding.submit(body.clone())
                }
                None => Err(Unapplied::NotLeader),
            };
            let outcome = match submitted {
                Ok(submitted) => {
                    let left = deadline.since(Instant::now());
                    let mut outcome = submitted.outcome;
                    match world::timeout(left, &mut outcome).await {
                        Ok(outcome) => outcome.unwrap_or(Err(Unapplied::Unknown)),
                        Err(_elapsed) if submitted.ticket.revoke() => {
                            return Err(self.why_it_waited(&running).into());
                        }
                        // It was sent at the last moment: a little patience may tell its fate.
                        Err(_elapsed) => match world::timeout(LAST_MOMENT, outcome).await {
                            Ok(outcome) => outcome.unwrap_or(Err(Unapplied::Unknown)),
                            Err(_elapsed) => return Err(too_late()),
                        },
                    }
                }
                Err(unapplied) => Err(unapplied),
            };
            match outcome {
                Ok(applied) => return Ok(applied),
                Err(Unapplied::NotLeader) => {
                    if !wait_for_change(&mut leadership, deadline).await {
                        return Err(self.why_nobody_led(&running).into());
                    }
                }
                Err(Unapplied::Overloaded { retry_after }) => {
                    return Err(NotTaken::Overloaded { retry_after }.into());
                }
                Err(Unapplied::DiskReserve) => {
                    return Err(NotTaken::ReadOnly { reason: ReadOnlyReason::DiskReserve }.into());
                }
                Err(Unapplied::Unknown) => {
                    let why = "the leader changed or was lost while the write was on its way";
                    return Err(ProposeError::OutcomeUnknown { why });
                }
            }
        }
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

    /// What this node knows of itself and its cluster.
    #[must_use]
    pub fn status(&self) -> Status {
        let introduction = self.core.introduction();
        let leadership = *self.core.leadership.borrow();
        let running = self.core.running();
        let members = self.members(introduction.node_id, running.as_deref());
        let voters = self.core.membership.borrow().get_joint_config().clone();
        let failures_tolerated = membership::rules::failures_tolerated(&voters, |id| {
            members.get(&id).is_some_and(|member| member.healthy)
        });
        let mut status = Status {
            cluster_id: introduction.cluster_id,
            epoch: introduction.epoch,
            node_id: introduction.node_id,
            role: leadership.role,
            term: leadership.term,
            leader: leader_that_answers(leadership, running.as_deref()),
            members: Arc::new(members),
            last_log_index: 0,
            committed_index: 0,
            applied_index: *self.core.store.applied_index().borrow(),
            snapshot_index: 0,
            failures_tolerated,
            read_only: self.read_only(leadership, running.as_deref()),
            leader_changes: leadership.changes,
            trouble: self.core.trouble.borrow().clone(),
        };
        if let Some(running) = running {
            if status.leader.is_none() {
                // A node that no peer talks to says why.
                status.trouble = status.trouble.or_else(|| running.links.announced().obstacle());
            }
            let metrics = running.raft.data_metrics();
            let metrics = metrics.borrow_watched();
            let index = |id: &Option<type_config::LogId>| id.as_ref().map_or(0, |id| id.index);
            status.last_log_index = index(&metrics.last_log);
            status.committed_index = index(&metrics.cluster_committed);
            status.snapshot_index = index(&metrics.snapshot);
        }
        status
    }

    /// Where this node stands: the part of [`Self::status`] that costs a few loads, for those who
    /// ask all the time.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let leadership = *self.core.leadership.borrow();
        let mut standing = Standing {
            role: leadership.role,
            term: leadership.term,
            leader: leadership.leader,
            last: None,
            committed: None,
            applied: None,
            snapshot: None,
            purged: None,
        };
        if let Some(running) = self.core.running() {
            // What openraft has written down, which may be behind what a peer said of itself.
            standing.term = running.raft.server_metrics().borrow_watched().vote.leader_id.term;
            let metrics = running.raft.data_metrics();
            let metrics = metrics.borrow_watched();
            let index = |id: &Option<type_config::LogId>| id.as_ref().map(|id| id.index);
            standing.last = running.storage.last().map(|last| last.index);
            standing.committed = index(&metrics.local_committed);
            standing.applied = index(&metrics.last_applied);
            standing.snapshot =
                running.storage.snapshot().and_then(|info| info.last).map(|last| last.index);
            standing.purged = running.storage.purged().map(|purged| purged.index);
        }
        standing
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

    /// How far this node's store may be behind the cluster; `None` if it cannot be bounded.
    ///
    /// On a follower: the age of the newest question to the leader whose answer's commit index is
    /// applied here, plus the time since a quorum had confirmed that leader when it answered. It
    /// needs no synchronised clocks.
    #[must_use]
    pub fn staleness(&self) -> Option<Duration> {
        let running = self.core.running()?;
        let leadership = *self.core.leadership.borrow();
        if leadership.leads {
            // What earlier leaders committed is here once an entry of this term is.
            let has_all = self.core.store.applied_term() == leadership.term;
            let age_ms = running.pong().quorum_age_ms.filter(|_age| has_all);
            return age_ms.map(Duration::from_millis);
        }
        let pulse = running.links.find(leadership.leader?)?.pulse();
        let (asked_at, pong) = (pulse.asked_at?, pulse.pong?);
        let applied = *self.core.store.applied_index().borrow();
        if !pong.leads || pong.committed_index > applied {
            return None;
        }
        Some(asked_at.elapsed() + Duration::from_millis(pong.quorum_age_ms?))
    }

    /// Counters for metrics.
    #[must_use]
    pub fn counters(&self) -> Counters {
        use std::sync::atomic::Ordering::Relaxed;
        let mut counters = Counters {
            proposals_pending: self.counters.pending.load(Relaxed),
            proposals_failed: self.counters.failed.load(Relaxed),
            proposals_committed: self.counters.committed.load(Relaxed),
            read_indexes_failed: self.counters.read_indexes_failed.load(Relaxed),
            slow_applies: self.core.store.slow_applies(),
            ..Counters::default()
        };
        if let Some(running) = self.core.running() {
            (counters.batches, counters.batched_entries) = running.batch_counters.totals();
            counters.elections_by_cause = running.elections.counts();
            counters.campaigns = running.campaigns.load(Relaxed);
            counters.hand_overs_refused = running.hand_overs.refused();
            counters.autopilot_actions = running.autopilot.counts();
            counters.heartbeats_sent = running.detector.sent();
            counters.heartbeats_ignored = running.detector.ignored();
            counters.peer_versions = running.links.announced().all();
            for link in running.links.all() {
                counters.peer_round_trips.insert(link.node_id, link.pulse().round_trip);
                let failures = link.control.failures() + link.forward.failures();
                counters.peer_failures.insert(link.node_id, failures);
            }
        }
        counters
    }

    /// What this node makes of the others and of itself; `None` before it is in a cluster.
    #[must_use]
    pub fn detection(&self) -> Option<Detection> {
        let running = self.core.running()?;
        Some(running.detector.tell(detection::stall_budget(&running.storage)))
    }

    /// The newest elections that this node knows of, at most `limit`, newest first; those before
    /// its last start included.
    #[must_use]
    pub fn elections(&self, limit: usize) -> Vec<Election> {
        self.core.running().map(|running| running.elections.newest(limit)).unwrap_or_default()
    }

    /// Has leadership handed to `to`, or to the fittest voter; a follower passes it on.
    ///
    /// # Errors
    /// [`HandOverError`]: it was refused and the leader carries on, or the outcome is unknown.
    pub async fn hand_over(
        &self,
        to: Option<u64>,
        deadline: Instant,
    ) -> Result<HandOver, HandOverError> {
        let running = self.core.running().ok_or(HandOverError::NotReady)?;
        if *self.core.stopping.borrow() {
            return Err(HandOverError::ShuttingDown);
        }
        let leadership = *self.core.leadership.borrow();
        if leadership.leads {
            return running.hand_overs.run(to, ElectionCause::Operator, deadline).await;
        }
        let leader = leadership.leader.ok_or(HandOverError::NoLeader)?;
        if to == Some(leader) {
            return Err(HandOverError::AlreadyLeads { id: leader });
        }
        let link = running.links.find(leader).ok_or(HandOverError::NoLeader)?;
        let left = deadline.since(Instant::now());
        match link.forward.call(&Call::HandOver(to), left).await {
            Ok(Answer::HandedOver(outcome)) => outcome,
            Ok(_) | Err(CallError::NotSent(_) | CallError::Refused(_) | CallError::Removed) => {
                Err(HandOverError::NoLeader)
            }
            Err(CallError::Lost | CallError::Timeout) => Err(HandOverError::OutcomeUnknown),
        }
    }

    /// Has the members changed, or says what would be done; a follower passes it on.
    ///
    /// # Errors
    /// [`MembershipError`]: it was refused and nothing changed, or the outcome is unknown.
    pub async fn change_members(
        &self,
        request: &MemberRequest,
        deadline: Instant,
    ) -> Result<MemberChange, MembershipError> {
        let mut leadership = self.core.leadership.subscribe();
        loop {
            if *self.core.stopping.borrow() {
                return Err(MembershipError::ShuttingDown);
            }
            let outcome = self.try_change_members(request, deadline).await;
            let may_repeat = matches!(outcome, Err(MembershipError::NoLeader));
            leadership.borrow_and_update();
            if !may_repeat || !wait_for_change(&mut leadership, deadline).await {
                return outcome;
            }
        }
    }

    async fn try_change_members(
        &self,
        request: &MemberRequest,
        deadline: Instant,
    ) -> Result<MemberChange, MembershipError> {
        let running = self.core.running().ok_or(MembershipError::NotReady)?;
        let leadership = *self.core.leadership.borrow();
        if leadership.leads {
            return running.member_changes.run(request, deadline).await;
        }
        let link = leader_link(leadership, &running).ok_or(MembershipError::NoLeader)?;
        let left = deadline.since(Instant::now());
        match link.forward.call(&Call::ChangeMembers(request.clone()), left).await {
            Ok(Answer::MembersChanged(outcome)) => *outcome,
            Ok(_) | Err(CallError::NotSent(_) | CallError::Refused(_) | CallError::Removed) => {
                Err(MembershipError::NoLeader)
            }
            Err(CallError::Lost | CallError::Timeout) => Err(MembershipError::OutcomeUnknown),
        }
    }

    /// What the leader makes of the members by itself, with at most `limit` of its decisions.
    ///
    /// # Errors
    /// [`MembershipError`]: there is no leader that answers.
    pub async fn autopilot(
        &self,
        limit: usize,
        deadline: Instant,
    ) -> Result<AutopilotState, MembershipError> {
        let running = self.core.running().ok_or(MembershipError::NotReady)?;
        let leadership = *self.core.leadership.borrow();
        if leadership.leads {
            return running.autopilot_here(limit);
        }
        let link = leader_link(leadership, &running).ok_or(MembershipError::NoLeader)?;
        let left = deadline.since(Instant::now());
        match link.forward.call(&Call::Autopilot(limit as u64), left).await {
            Ok(Answer::Autopilot(state)) => *state,
            Ok(_) | Err(_) => Err(MembershipError::NoLeader),
        }
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

    fn running(&self) -> Result<Arc<Running>, NotTaken> {
        self.core.running().ok_or(NotTaken::NotReady)
    }

    /// Why a proposal was still in the queue at its deadline.
    fn why_it_waited(&self, running: &Running) -> NotTaken {
        let leadership = *self.core.leadership.borrow();
        match self.read_only(leadership, Some(running)) {
            Some(reason) => NotTaken::ReadOnly { reason },
            None => NotTaken::Overloaded { retry_after: PAUSE },
        }
    }

    /// Why no leader was found until the deadline: an election that takes its time, or more.
    fn why_nobody_led(&self, running: &Running) -> NotTaken {
        let leadership = *self.core.leadership.borrow();
        let reason = self.read_only(leadership, Some(running));
        reason.map_or(NotTaken::NoLeader, |reason| NotTaken::ReadOnly { reason })
    }

    /// Why this node refuses writes, as far as quorum and disk go.
    #[must_use]
    pub fn read_only_reason(&self) -> Option<ReadOnlyReason> {
        let leadership = *self.core.leadership.borrow();
        self.read_only(leadership, self.core.running().as_deref())
    }

    fn check_open(&self) -> Result<(), NotTaken> {
        if *self.core.stopping.borrow() {
            return Err(NotTaken::ShuttingDown);
        }
        if self.core.is_storage_failed() {
            return Err(NotTaken::ReadOnly { reason: ReadOnlyReason::StorageFailed });
        }
        Ok(())
    }

    fn members(&self, node_id: u64, running: Option<&Running>) -> BTreeMap<u64, MemberStatus> {
        let membership = Arc::clone(&self.core.membership.borrow());
        let voters: std::collections::BTreeSet<u64> = membership.voter_ids().collect();
        membership
            .nodes()
            .map(|(id, record)| {
                let healthy = if *id == node_id {
                    !self.core.is_storage_failed()
                } else {
                    running
                        .and_then(|running| running.links.find(*id))
                        .is_some_and(|link| link.is_healthy())
                };
                let voter = voters.contains(id);
                (*id, MemberStatus { id: *id, record: record.clone(), voter, healthy })
            })
            .collect()
    }

    fn read_only(
        &self,
        leadership: Leadership,
        running: Option<&Running>,
    ) -> Option<ReadOnlyReason> {
        if self.core.is_storage_failed() {
            return Some(ReadOnlyReason::StorageFailed);
        }
        let running = running?;
        if *running.storage.space().borrow() != SpaceState::Ok {
            return Some(ReadOnlyReason::DiskReserve);
        }
        let lease = Duration::from_millis(self.core.options().settings.election_timeout_ms_max);
        let confirmed = if leadership.leads {
            running.pong().quorum_age_ms.is_some_and(|age| Duration::from_millis(age) <= lease)
        } else {
            leader_that_answers(leadership, Some(running)).is_some()
        };
        (!confirmed).then_some(ReadOnlyReason::NoQuorum)
    }
}

/// The leader, if it is this node or answers: openraft names the last one until there is another,
/// and after a restart the one that this node voted for.
fn leader_that_answers(leadership: Leadership, running: Option<&Running>) -> Option<u64> {
    leadership.leader.filter(|leader| {
        let link = running.and_then(|running| running.links.find(*leader));
        leadership.leads || link.is_some_and(|link| link.pulse().leads(leadership.term))
    })
}

/// The link to the leader. A node that moved is not heard by its leader, and learns who leads only
/// by asking.
fn leader_link(leadership: Leadership, running: &Running) -> Option<Link> {
    let claims = || running.links.all().into_iter().find(Link::claims_to_lead);
    let named = leadership.leader.and_then(|leader| running.links.find(leader));
    named.or_else(claims)
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

const fn too_late() -> ProposeError {
    ProposeError::OutcomeUnknown { why: "no outcome came within the deadline" }
}
