//! What a node has once it is in a cluster: openraft and all the tasks around it.
//!
//! Here everything is started and wired, once; what the parts do stands in their own files.

use std::{
    sync::{Arc, Mutex, atomic::AtomicU64},
    time::Duration,
};

use bytes::Bytes;
use mainstay_kv::{Settings, outcome::Applied};
use mainstay_storage::Storage;
use mainstay_world::{self as world, Buggify, Instant};
use openraft::{
    Config, Raft, SnapshotPolicy, async_runtime::WatchReceiver as _, metrics::RaftDataMetrics,
};
use tokio::sync::{Semaphore, watch};

use crate::{
    auto_compaction::AutoCompaction,
    autopilot::{Autopilot, AutopilotRecord, AutopilotState},
    campaign::CampaignTask,
    core::Core,
    detection::{Beat, Detector},
    election::{ElectionCause, Elections},
    error::StartError,
    fitness::milliseconds,
    format::{FormatRecord, FormatTask},
    forwarding::{Forwarding, refusal},
    handover::{HandOver, HandOverError, HandOvers, TransferCause},
    heartbeats::Heartbeats,
    log_store::LogStore,
    membership::{
        MemberChange, MemberRequest, MembershipError, changes::MemberChanges,
        silence::SilenceReport,
    },
    observation::{self, BatchCounters, Leadership},
    peer::{
        handshake::Introduction,
        link::Links,
        message::{ForwardRefusal, Pong},
        network::PeerNetworkFactory,
    },
    proposals::{BatchingTask, Proposals, Unapplied},
    read_index::{LeaderReadTask, LeaderReads, ReadTask, Reads},
    retention::Retention,
    state_machine::{SharedStore, StateMachine},
    type_config::{LogId, RaftHandle, StoredMembership, TypeConfig, Vote},
};

/// The longest a dial to a member may take.
const DIAL_DEADLINE: Duration = Duration::from_millis(250);

/// How long a hand-over that another node asked for may take.
const HAND_OVER_DEADLINE: Duration = Duration::from_secs(2);

/// What the tasks that watch over leadership share.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) node_id: u64,
    pub(crate) raft: RaftHandle,
    pub(crate) storage: Storage,
    pub(crate) store: SharedStore,
    pub(crate) links: Arc<Links>,
    pub(crate) detector: Detector,
    pub(crate) elections: Elections,
    pub(crate) leadership: watch::Receiver<Leadership>,
    pub(crate) membership: watch::Receiver<Arc<StoredMembership>>,
    pub(crate) buggify: Buggify,
}

/// What a node in a cluster has.
pub(crate) struct Running {
    pub(crate) raft: RaftHandle,
    pub(crate) storage: Storage,
    pub(crate) links: Arc<Links>,
    pub(crate) proposals: Proposals,
    pub(crate) forwarding: Forwarding,
    pub(crate) leader_reads: LeaderReads,
    pub(crate) reads: Reads,
    pub(crate) retention: Arc<Retention>,
    pub(crate) batch_counters: Arc<BatchCounters>,
    pub(crate) snapshot_place: Semaphore,
    pub(crate) detector: Detector,
    pub(crate) elections: Elections,
    pub(crate) hand_overs: HandOvers,
    pub(crate) member_changes: MemberChanges,
    pub(crate) autopilot: AutopilotRecord,
    pub(crate) campaigns: Arc<AtomicU64>,
    pub(crate) format: FormatRecord,
    leadership: watch::Receiver<Leadership>,
    store: SharedStore,
    node_id: u64,
}

impl Running {
    /// Starts openraft on `storage`, and every task.
    pub(crate) async fn start(
        core: &Core,
        storage: Storage,
        introduction: Arc<Introduction>,
    ) -> Result<Arc<Self>, StartError> {
        let settings = &core.options().settings;
        let lease = Duration::from_millis(settings.election_timeout_ms_max);
        let epoch = introduction.epoch;
        let own_introduction = Arc::clone(&introduction);
        let cause: TransferCause = Arc::new(Mutex::new(ElectionCause::Operator));
        let parts = start_openraft(core, storage, introduction, Arc::clone(&cause)).await?;
        let Parts { raft, storage, store, links, leadership, .. } = parts.clone();
        let buggify = &core.world().buggify;
        let batch_counters = Arc::new(BatchCounters::default());
        let proposals = BatchingTask {
            raft: raft.clone(),
            store: store.clone(),
            leadership: leadership.clone(),
            epoch,
            lease,
            // A cluster begins at the oldest format that its founders know.
            first_settings: Settings {
                format: core.options().versions.formats.0,
                ..settings.clone()
            },
            counters: Arc::clone(&batch_counters),
            buggify: buggify.clone(),
        }
        .start(&storage);
        let leader_reads = parts.leader_reads(buggify);
        let reads = Reads::start(ReadTask {
            leader_reads: leader_reads.clone(),
            links: Arc::clone(&links),
            storage: storage.clone(),
            store: store.clone(),
            leadership: leadership.clone(),
        });
        let log_bytes_min = core.options().storage.log_bytes_min;
        let retention = Retention::new(raft, storage, store, Arc::clone(&links), log_bytes_min);
        world::spawn(Arc::clone(&retention).run());
        let auto_compaction = AutoCompaction {
            leadership: leadership.clone(),
            store: core.store.clone(),
            proposals: proposals.clone(),
        };
        world::spawn(auto_compaction.run());
        let hand_overs = HandOvers::new(parts.clone(), proposals.clone(), cause);
        let member_changes =
            MemberChanges::new(parts.clone(), hand_overs.clone(), own_introduction);
        let autopilot = AutopilotRecord::new(Arc::clone(&core.world().history));
        let task = Autopilot {
            parts: parts.clone(),
            changes: member_changes.clone(),
            record: autopilot.clone(),
        };
        world::spawn(task.run());
        let campaigns = Arc::new(AtomicU64::new(0));
        let task = CampaignTask {
            parts: parts.clone(),
            hand_overs: hand_overs.clone(),
            lease,
            candidacy: Duration::from_millis(settings.election_timeout_ms_min),
            campaigns: Arc::clone(&campaigns),
            leaving: core.leaving.subscribe(),
        };
        world::spawn(task.run());
        let period = Duration::from_millis(settings.heartbeat_ms);
        world::spawn(Heartbeats { parts: parts.clone(), period }.run());
        let format = FormatRecord::default();
        let task = FormatTask {
            parts: parts.clone(),
            own: core.options().versions,
            proposals: proposals.clone(),
            record: format.clone(),
        };
        world::spawn(task.run());
        let forwarding = Forwarding::start(links, leadership);
        let Parts { node_id, raft, storage, store, links, detector, elections, leadership, .. } =
            parts;
        Ok(Arc::new(Self {
            raft,
            storage,
            links,
            proposals,
            forwarding,
            leader_reads,
            reads,
            retention,
            batch_counters,
            snapshot_place: Semaphore::new(1),
            detector,
            elections,
            hand_overs,
            member_changes,
            autopilot,
            campaigns,
            format,
            leadership,
            store,
            node_id,
        }))
    }

    /// Takes in a beat of a peer.
    pub(crate) fn hear(&self, peer: u64, beat: Beat) {
        self.detector.hear(peer, &beat);
        if let Some(election) = beat.election {
            self.elections.told(election);
        }
    }

    /// Takes in what a leader tells about members that do not answer, or reminds a new one of.
    pub(crate) fn note_silences(&self, report: &SilenceReport) {
        let leadership = *self.leadership.borrow();
        self.autopilot.told_of_silence(report, leadership, &self.detector);
    }

    /// Notes an append that a peer sent under `vote`.
    pub(crate) fn note_append(&self, peer: u64, vote: &Vote) {
        if vote.leader_id.term >= self.leadership.borrow().term {
            self.detector.append_arrived(peer);
        }
    }

    /// Hands over from this node, as an operator wishes.
    pub(crate) async fn hand_over_here(&self, to: Option<u64>) -> Result<HandOver, HandOverError> {
        let deadline = Instant::now() + HAND_OVER_DEADLINE;
        self.hand_overs.run(to, ElectionCause::Operator, deadline).await
    }

    /// Changes the members from this node, as another one was asked to.
    pub(crate) async fn change_members_here(
        &self,
        request: &MemberRequest,
    ) -> Result<MemberChange, MembershipError> {
        self.member_changes.run(request, Instant::now() + HAND_OVER_DEADLINE).await
    }

    /// What this node, if it leads, makes of the members.
    pub(crate) fn autopilot_here(&self, limit: usize) -> Result<AutopilotState, MembershipError> {
        if !self.leadership.borrow().leads {
            return Err(MembershipError::NoLeader);
        }
        let enabled = self.store.read(|store| store.settings().autopilot);
        Ok(self.autopilot.tell(enabled, self.node_id, limit))
    }

    /// How this node is.
    pub(crate) fn pong(&self) -> Pong {
        let metrics = self.raft.data_metrics();
        let metrics = metrics.borrow_watched();
        let leadership = *self.leadership.borrow();
        let now = Instant::now();
        Pong {
            term: leadership.term,
            leads: leadership.leads,
            committed_index: Self::committed_at_most(&metrics, leadership.term),
            quorum_age_ms: if leadership.alone {
                Some(0)
            } else {
                metrics.last_quorum_acked.map(|acked| milliseconds(now.since(acked.0)))
            },
            oldest_sync_ms: self.storage.progress().oldest_unfinished.map(milliseconds),
        }
    }

    /// Where everything that is committed ends, as far as this leader can know. Until an entry of
    /// its own term is committed it does not know how far its predecessors came, only that its log
    /// holds all of it (Raft paper, 5.4 and 8).
    fn committed_at_most(metrics: &RaftDataMetrics<TypeConfig>, term: u64) -> u64 {
        let index = |last: &Option<LogId>| last.as_ref().map_or(0, |last| last.index);
        let committed = &metrics.cluster_committed;
        if committed.as_ref().is_some_and(|last| *last.leader_id == term) {
            index(committed)
        } else {
            index(committed).max(index(&metrics.last_log))
        }
    }

    /// Proposes what a follower passed on; the outcomes, in order.
    pub(crate) async fn take_forwarded(
        &self,
        bodies: Vec<Bytes>,
    ) -> Vec<Result<Applied, ForwardRefusal>> {
        let leads = self.leadership.borrow().leads;
        let submitted: Vec<_> = bodies
            .into_iter()
            .map(|body| if leads { self.proposals.submit(body) } else { Err(Unapplied::NotLeader) })
            .collect();
        let mut outcomes = Vec::with_capacity(submitted.len());
        for outcome in submitted {
            let outcome = match outcome {
                Ok(submitted) => submitted.outcome.await.unwrap_or(Err(Unapplied::Unknown)),
                Err(unapplied) => Err(unapplied),
            };
            outcomes.push(outcome.map_err(refusal));
        }
        outcomes
    }
}

impl Parts {
    fn leader_reads(&self, buggify: &Buggify) -> LeaderReads {
        LeaderReads::start(LeaderReadTask {
            raft: self.raft.clone(),
            node_id: self.node_id,
            links: Arc::clone(&self.links),
            store: self.store.clone(),
            buggify: buggify.clone(),
        })
    }
}

/// Starts openraft, and the task that follows what it says.
async fn start_openraft(
    core: &Core,
    storage: Storage,
    introduction: Arc<Introduction>,
    cause: TransferCause,
) -> Result<Parts, StartError> {
    let world = core.world();
    let settings = &core.options().settings;
    let lease = Duration::from_millis(settings.election_timeout_ms_max);
    let node_id = introduction.node_id;
    let dial_deadline = DIAL_DEADLINE.min(lease);
    let links = Arc::new(Links::new(Arc::clone(&world.net), introduction, dial_deadline));
    let network = PeerNetworkFactory {
        links: Arc::clone(&links),
        buggify: world.buggify.clone(),
        answer_deadline: (2 * lease).max(Duration::from_millis(500)),
        cause,
    };
    let store = core.store.clone();
    let machine = StateMachine::new(
        store.clone(),
        storage.clone(),
        world.buggify.clone(),
        core.options().versions,
        core.storage_failure.clone(),
    );
    let config = Arc::new(raft_config(settings)?);
    let log_store = LogStore::new(storage.clone(), world.buggify.clone());
    let raft: RaftHandle = Raft::new(node_id, config, network, log_store, machine)
        .await
        .map_err(|error| StartError::Consensus(Box::new(error)))?;
    let detector = Detector::new();
    let following = observation::follow(
        raft.clone(),
        node_id,
        core.leadership.clone(),
        core.membership.clone(),
        Arc::clone(&links),
        detector.clone(),
    );
    let (ended, failure) = (raft.clone(), core.storage_failure.clone());
    let stopping = core.stopping.subscribe();
    world::spawn(async move {
        following.await;
        if !*stopping.borrow() {
            observation::note_end(&ended, &failure);
        }
    });
    Ok(Parts {
        node_id,
        raft,
        storage,
        store,
        links,
        detector,
        elections: Elections::new(Arc::clone(&world.history)),
        leadership: core.leadership.subscribe(),
        membership: core.membership.subscribe(),
        buggify: world.buggify.clone(),
    })
}

fn raft_config(settings: &Settings) -> Result<Config, StartError> {
    let config = Config {
        cluster_name: "mainstay".to_owned(),
        heartbeat_interval: settings.heartbeat_ms,
        election_timeout_min: settings.election_timeout_ms_min,
        election_timeout_max: settings.election_timeout_ms_max,
        // What follows would count entries; `retention` goes by bytes.
        snapshot_policy: SnapshotPolicy::Never,
        replication_lag_threshold: u64::MAX,
        max_in_snapshot_log_to_keep: u64::MAX,
        max_payload_entries: 1024,
        enable_pre_vote: Some(true),
        enable_leader_restore: Some(false),
        allow_log_reversion: Some(false),
        backoff: "25ms 50ms 100ms ...500ms".to_owned(),
        ..Config::default()
    };
    config.validate().map_err(|error| StartError::Timings(Box::new(error)))
}
