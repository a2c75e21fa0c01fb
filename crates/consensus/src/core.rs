//! One node's part in its cluster: everything that is shared between its tasks.
//!
//! A [`Core`] exists from the moment the data folder was read. It becomes part of a cluster when
//! there is one to be part of: then storage is opened, openraft started, and a [`Running`] put in
//! place. What is asked before that is answered with "not yet".

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock},
    time::Duration,
};

use bytes::Bytes;
use mainstay_kv::{Settings, outcome::Applied};
use mainstay_storage::{Folder, Identity, Storage, StorageOptions};
use mainstay_world::{self as world, Instant, World};
use openraft::{Config, Raft, SnapshotPolicy, async_runtime::WatchReceiver as _};
use tokio::sync::{Semaphore, watch};
use tracing::{error, info, warn};

use crate::{
    birth::{Birth, BirthNotice, BirthState, BootstrapPeer},
    error::StartError,
    forwarding::{Forwarding, refusal},
    log_store::LogStore,
    observation::{self, BatchCounters, Leadership},
    peer::{
        channel::chain,
        handshake::Introduction,
        link::Links,
        message::{Answer, Call, ForwardRefusal, Pong},
        network::PeerNetworkFactory,
    },
    proposals::{BatchingTask, Proposals, Unapplied},
    read_index::{LeaderReads, ReadTask, Reads},
    retention::Retention,
    state_machine::{SharedStore, StateMachine},
    status::MemberRecord,
    type_config::{RaftHandle, StoredMembership},
};

/// How often every peer is pinged.
const PING_INTERVAL: Duration = Duration::from_millis(100);

/// The longest wait for the answer to a ping.
const PING_DEADLINE: Duration = Duration::from_millis(500);

/// The longest a dial to a member may take.
const DIAL_DEADLINE: Duration = Duration::from_millis(250);

/// What a node is told at its start.
#[derive(Debug, Clone)]
pub struct Options {
    /// The node's name; one living member each.
    pub name: String,
    /// Where peers dial this node, `host:port`.
    pub peer_address: String,
    /// Where clients find this node.
    pub client_urls: Vec<String>,
    /// The failure zone, or empty.
    pub zone: String,
    /// The site, or empty.
    pub site: String,
    /// The program's version.
    pub version: String,
    /// How the node finds its cluster.
    pub birth: Birth,
    /// First values of the replicated settings, and this node's timings.
    pub settings: Settings,
    /// Sizes of the log.
    pub storage: StorageOptions,
}

/// See the module comment.
pub(crate) struct Core {
    options: Options,
    world: World,
    folder: Mutex<Folder>,
    introduction: RwLock<Arc<Introduction>>,
    running: OnceLock<Arc<Running>>,
    entering: tokio::sync::Mutex<()>,
    pub(crate) store: SharedStore,
    pub(crate) leadership: watch::Sender<Leadership>,
    pub(crate) membership: watch::Sender<Arc<StoredMembership>>,
    pub(crate) trouble: watch::Sender<Option<Arc<str>>>,
    pub(crate) storage_failure: watch::Sender<Option<String>>,
    pub(crate) stopping: watch::Sender<bool>,
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
    leadership: watch::Receiver<Leadership>,
    membership: watch::Receiver<Arc<StoredMembership>>,
}

impl Core {
    /// Reads or makes the data folder's identity.
    pub(crate) async fn open(options: Options, world: World) -> Result<Arc<Self>, StartError> {
        let folder = match Folder::load(&world.log_disk).await? {
            Some(folder) if folder.name != options.name => {
                return Err(StartError::OtherNode { folder: folder.name, wanted: options.name });
            }
            Some(folder) if folder.removed => return Err(StartError::Removed),
            Some(folder) => folder,
            None if options.birth == Birth::Resume => return Err(StartError::NoCluster),
            None => new_folder(&options, &world).await?,
        };
        let introduction = introduction(&options, &folder);
        Ok(Arc::new(Self {
            options,
            world,
            folder: Mutex::new(folder),
            introduction: RwLock::new(Arc::new(introduction)),
            running: OnceLock::new(),
            entering: tokio::sync::Mutex::default(),
            store: SharedStore::new(),
            leadership: watch::Sender::new(Leadership::UNKNOWN),
            membership: watch::Sender::new(Arc::default()),
            trouble: watch::Sender::new(None),
            storage_failure: watch::Sender::new(None),
            stopping: watch::Sender::new(false),
        }))
    }

    pub(crate) const fn options(&self) -> &Options {
        &self.options
    }

    pub(crate) const fn world(&self) -> &World {
        &self.world
    }

    /// The node's part in a cluster, if it is in one.
    pub(crate) fn running(&self) -> Option<Arc<Running>> {
        self.running.get().cloned()
    }

    /// Whether the folder is in a cluster.
    pub(crate) fn is_in_cluster(&self) -> bool {
        self.folder().cluster_id != 0
    }

    /// Whether the node's cluster has been initialised, as far as its own log tells.
    pub(crate) async fn is_initialised(&self) -> bool {
        match self.running() {
            Some(running) => running.raft.is_initialized().await.unwrap_or(false),
            None => false,
        }
    }

    pub(crate) fn is_storage_failed(&self) -> bool {
        self.storage_failure.borrow().is_some()
    }

    /// Who this node is, in greetings.
    pub(crate) fn introduction(&self) -> Arc<Introduction> {
        Arc::clone(&self.introduction.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Who this node is to peers that may be in no cluster.
    pub(crate) fn unborn_introduction(&self) -> Introduction {
        Introduction { cluster_id: 0, epoch: 0, ..(*self.introduction()).clone() }
    }

    pub(crate) fn set_trouble(&self, text: &str) {
        let changed = self.trouble.send_if_modified(|trouble| {
            let new = trouble.as_deref() != Some(text);
            if new {
                *trouble = Some(text.into());
            }
            new
        });
        if changed {
            warn!("{text}");
        }
    }

    /// What this node tells those who ask about its birth.
    pub(crate) fn birth_state(&self) -> BirthState {
        let (node_id, cluster_id) = {
            let folder = self.folder();
            (folder.node_id, folder.cluster_id)
        };
        let options = &self.options;
        let list: Vec<BootstrapPeer> = match &options.birth {
            Birth::Bootstrap(list) => list.clone(),
            Birth::Resume => Vec::new(),
        };
        BirthState {
            node_id,
            cluster_id,
            record: MemberRecord {
                name: options.name.clone(),
                folder_id: node_id,
                peer_address: options.peer_address.clone(),
                client_urls: options.client_urls.clone(),
                zone: options.zone.clone(),
                site: options.site.clone(),
                version: options.version.clone(),
            },
            list,
        }
    }

    /// Follows a founder into its cluster, if this node is among the founding members.
    pub(crate) async fn take_birth_notice(self: &Arc<Self>, notice: BirthNotice) -> Answer {
        let node_id = self.folder().node_id;
        if !notice.founders.contains_key(&node_id) {
            return Answer::Refused("this node is not among the founding members".to_owned());
        }
        match self.enter(&notice).await {
            Ok(()) => Answer::Birth(self.birth_state()),
            Err(why) => Answer::Refused(why),
        }
    }

    /// Stores the cluster in the folder and starts taking part; does nothing the second time.
    pub(crate) async fn enter(self: &Arc<Self>, notice: &BirthNotice) -> Result<(), String> {
        let _turn = self.entering.lock().await;
        let folder = self.folder().clone();
        if folder.cluster_id != 0 && folder.cluster_id != notice.cluster_id {
            return Err(format!("the folder is in cluster {:016x}", folder.cluster_id));
        }
        if folder.cluster_id == 0 {
            let folder = Folder { cluster_id: notice.cluster_id, epoch: notice.epoch, ..folder };
            folder.save(&self.world.log_disk).await.map_err(|error| chain(&error))?;
            *self.introduction.write().unwrap_or_else(PoisonError::into_inner) =
                Arc::new(introduction(&self.options, &folder));
            *self.folder() = folder;
        }
        if self.running.get().is_some() {
            return Ok(());
        }
        self.take_part().await.map_err(|error| chain(&error))
    }

    /// Opens the storage and starts openraft and all tasks; the folder is in a cluster.
    pub(crate) async fn take_part(self: &Arc<Self>) -> Result<(), StartError> {
        let introduction = self.introduction();
        let identity = Identity {
            cluster_id: introduction.cluster_id,
            node_id: introduction.node_id,
            epoch: introduction.epoch,
        };
        let world = &self.world;
        let (storage, recovered) = Storage::open(
            Arc::clone(&world.log_disk),
            Arc::clone(&world.snapshot_disk),
            identity,
            self.options.storage.clone(),
            world.buggify.clone(),
        )
        .await?;
        info!(
            cluster = %format_args!("{:016x}", identity.cluster_id),
            node = %format_args!("{:016x}", identity.node_id),
            last = ?recovered.last, committed = ?recovered.committed, vote = ?recovered.vote,
            snapshot = ?recovered.snapshot.as_ref().and_then(|snapshot| snapshot.last),
            "the data folder was recovered"
        );
        if let Some(tail) = &recovered.torn_tail {
            warn!(?tail, "the log ended in a torn write, which was cut");
            world.buggify.note("storage.torn-tail", || []);
        }
        let running = self.start_consensus(storage, introduction).await?;
        self.watch_storage(&running);
        assert!(self.running.set(running).is_ok(), "a node takes part once");
        self.trouble.send_replace(None);
        Ok(())
    }

    async fn start_consensus(
        self: &Arc<Self>,
        storage: Storage,
        introduction: Arc<Introduction>,
    ) -> Result<Arc<Running>, StartError> {
        let node_id = introduction.node_id;
        let epoch = introduction.epoch;
        let world = &self.world;
        let settings = &self.options.settings;
        let lease = Duration::from_millis(settings.election_timeout_ms_max);
        let links =
            Arc::new(Links::new(Arc::clone(&world.net), introduction, DIAL_DEADLINE.min(lease)));
        let network = PeerNetworkFactory {
            links: Arc::clone(&links),
            buggify: world.buggify.clone(),
            answer_deadline: (2 * lease).max(Duration::from_millis(500)),
        };
        let machine = StateMachine::new(self.store.clone(), storage.clone(), world.buggify.clone());
        let config = Arc::new(raft_config(settings)?);
        let log_store = LogStore::new(storage.clone(), world.buggify.clone());
        let raft: RaftHandle = Raft::new(node_id, config, network, log_store, machine)
            .await
            .map_err(|error| StartError::Consensus(Box::new(error)))?;
        world::spawn(observation::follow(
            raft.clone(),
            node_id,
            self.leadership.clone(),
            self.membership.clone(),
            Arc::clone(&links),
            Arc::clone(&world.history),
        ));
        let batch_counters = Arc::new(BatchCounters::default());
        let proposals = BatchingTask {
            raft: raft.clone(),
            store: self.store.clone(),
            leadership: self.leadership.subscribe(),
            epoch,
            lease,
            first_settings: settings.clone(),
            counters: Arc::clone(&batch_counters),
            buggify: world.buggify.clone(),
        }
        .start(&storage);
        let leader_reads =
            LeaderReads::start(raft.clone(), self.store.clone(), world.buggify.clone());
        let reads = Reads::start(ReadTask {
            leader_reads: leader_reads.clone(),
            links: Arc::clone(&links),
            store: self.store.clone(),
            leadership: self.leadership.subscribe(),
        });
        let retention = Retention::new(
            raft.clone(),
            storage.clone(),
            self.store.clone(),
            self.options.storage.log_bytes_min,
        );
        world::spawn(Arc::clone(&retention).run());
        world::spawn(ping_all(Arc::clone(&links)));
        Ok(Arc::new(Running {
            raft,
            storage,
            forwarding: Forwarding::start(Arc::clone(&links), self.leadership.subscribe()),
            links,
            proposals,
            leader_reads,
            reads,
            retention,
            batch_counters,
            snapshot_place: Semaphore::new(1),
            leadership: self.leadership.subscribe(),
            membership: self.membership.subscribe(),
        }))
    }

    /// Notices a storage that failed for good.
    fn watch_storage(self: &Arc<Self>, running: &Running) {
        let mut failure = running.storage.failure();
        let core = Arc::clone(self);
        world::spawn(async move {
            if let Ok(failed) = failure.wait_for(Option::is_some).await {
                let text = failed.as_ref().map(|failure| chain(failure)).unwrap_or_default();
                error!(failure = %text, "the storage failed: this node answers no vote and no append until it is restarted");
                core.storage_failure.send_replace(Some(text));
            }
        });
    }

    fn folder(&self) -> MutexGuard<'_, Folder> {
        self.folder.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    /// Whether the id belongs to a member, as far as this node knows; while it knows of none, any
    /// node of its cluster may be one.
    pub(crate) fn is_member(&self, node_id: u64) -> bool {
        let membership = self.membership.borrow();
        membership.get_node(&node_id).is_some() || membership.nodes().next().is_none()
    }

    /// How this node is.
    pub(crate) fn pong(&self) -> Pong {
        let metrics = self.raft.data_metrics();
        let metrics = metrics.borrow_watched();
        let leadership = *self.leadership.borrow();
        let now = Instant::now();
        let milliseconds = |age: Duration| u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        Pong {
            term: leadership.term,
            leads: leadership.leads,
            committed_index: metrics.cluster_committed.as_ref().map_or(0, |last| last.index),
            quorum_age_ms: if leadership.alone {
                Some(0)
            } else {
                metrics.last_quorum_acked.map(|acked| milliseconds(now.since(acked.0)))
            },
            oldest_sync_ms: self.storage.progress().oldest_unfinished.map(milliseconds),
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

async fn new_folder(options: &Options, world: &World) -> Result<Folder, StartError> {
    let folder = Folder {
        node_id: if world.buggify.is_planted("reuse-wiped-id") {
            u64::from(mainstay_codec::checksum(0, options.name.as_bytes())).max(1)
        } else {
            world::random_u64().max(1)
        },
        cluster_id: 0,
        epoch: 0,
        name: options.name.clone(),
        removed: false,
    };
    folder.save(&world.log_disk).await.map_err(StartError::FolderWrite)?;
    info!(node = %format_args!("{:016x}", folder.node_id), name = %folder.name, "the data folder is new");
    Ok(folder)
}

fn introduction(options: &Options, folder: &Folder) -> Introduction {
    Introduction {
        cluster_id: folder.cluster_id,
        epoch: folder.epoch,
        node_id: folder.node_id,
        name: options.name.clone(),
        heartbeat_ms: options.settings.heartbeat_ms,
        election_timeout_ms_min: options.settings.election_timeout_ms_min,
        election_timeout_ms_max: options.settings.election_timeout_ms_max,
    }
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

/// Asks every peer how it is, again and again.
async fn ping_all(links: Arc<Links>) {
    loop {
        for link in links.all() {
            world::spawn(async move {
                let asked_at = Instant::now();
                if let Ok(Answer::Pong(pong)) = link.control.call(&Call::Ping, PING_DEADLINE).await
                {
                    link.record(asked_at, pong);
                }
            });
        }
        world::sleep(PING_INTERVAL).await;
    }
}

/// The storage of a node in a cluster, as an `io` result for callers without it.
pub(crate) fn not_in_a_cluster() -> io::Error {
    io::Error::other("this node is not in a cluster yet")
}
