//! One node's part in its cluster: everything that is shared between its tasks.
//!
//! A [`Core`] exists from the moment the data folder was read. It becomes part of a cluster when
//! there is one to be part of: then storage is opened, openraft started, and a [`Running`] put in
//! place. What is asked before that is answered with "not yet".

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock},
};

use mainstay_kv::Settings;
use mainstay_storage::{Folder, Identity, Storage, StorageOptions};
use mainstay_world::{self as world, World};
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::{
    birth::{Birth, BirthNotice, BirthState, BootstrapPeer},
    error::StartError,
    leaving::PeerCalls,
    observation::Leadership,
    peer::{channel::chain, handshake::Introduction, message::Answer, turned_away::TurnedAway},
    running::Running,
    state_machine::SharedStore,
    status::MemberRecord,
    type_config::StoredMembership,
    versions::{FormatInForce, Versions},
};

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
    /// What the node speaks and applies; anything but the default is for tests.
    pub versions: Versions,
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
    /// Set once the node neither leads nor takes leadership any more.
    pub(crate) leaving: watch::Sender<bool>,
    /// Whether the cluster removed this node.
    pub(crate) removal: watch::Sender<bool>,
    pub(crate) stopping: watch::Sender<bool>,
    pub(crate) peer_calls: Arc<PeerCalls>,
    pub(crate) turned_away: TurnedAway,
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
        let store = SharedStore::new();
        let introduction = introduction(&options, &folder, store.format());
        Ok(Arc::new(Self {
            options,
            world,
            folder: Mutex::new(folder),
            introduction: RwLock::new(Arc::new(introduction)),
            running: OnceLock::new(),
            entering: tokio::sync::Mutex::default(),
            store,
            leadership: watch::Sender::new(Leadership::UNKNOWN),
            membership: watch::Sender::new(Arc::default()),
            trouble: watch::Sender::new(None),
            storage_failure: watch::Sender::new(None),
            leaving: watch::Sender::new(false),
            removal: watch::Sender::new(false),
            stopping: watch::Sender::new(false),
            peer_calls: Arc::default(),
            turned_away: TurnedAway::default(),
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

    /// What the cluster should record about this node.
    pub(crate) fn record(&self) -> MemberRecord {
        let options = &self.options;
        MemberRecord {
            name: options.name.clone(),
            folder_id: self.folder().node_id,
            peer_address: options.peer_address.clone(),
            client_urls: options.client_urls.clone(),
            zone: options.zone.clone(),
            site: options.site.clone(),
            version: options.version.clone(),
        }
    }

    /// What this node tells those who ask about its birth.
    pub(crate) fn birth_state(&self) -> BirthState {
        let (node_id, cluster_id) = {
            let folder = self.folder();
            (folder.node_id, folder.cluster_id)
        };
        let list: Vec<BootstrapPeer> = match &self.options.birth {
            Birth::Bootstrap(list) => list.clone(),
            Birth::Join(_) | Birth::Resume => Vec::new(),
        };
        BirthState {
            node_id,
            cluster_id,
            record: self.record(),
            list,
            formats: self.options.versions.formats,
            initialised: self.running().is_some_and(|running| running.storage.last().is_some()),
        }
    }

    /// Notes that the cluster removed this node, for ever.
    pub(crate) async fn note_removal(&self) {
        let folder = Folder { removed: true, ..self.folder().clone() };
        if let Err(error) = folder.save(&self.world.log_disk).await {
            warn!(%error, "the folder could not be marked as that of a removed node");
        }
        *self.folder() = folder;
        self.set_trouble(
            "this node was removed from its cluster; its data folder is of no use any more, and \
             with an empty one it can join again as a new node",
        );
        self.removal.send_replace(true);
    }

    /// Follows a founder into its cluster, if this node is among the founding members.
    pub(crate) async fn take_birth_notice(self: &Arc<Self>, notice: BirthNotice) -> Answer {
        let node_id = self.folder().node_id;
        if !notice.founders.contains_key(&node_id) {
            return Answer::Refused("this node is not among those that are meant".to_owned());
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
            return Err(format!("the folder is in cluster {}", folder.cluster_id));
        }
        if folder.cluster_id == 0 {
            let folder = Folder { cluster_id: notice.cluster_id, epoch: notice.epoch, ..folder };
            folder.save(&self.world.log_disk).await.map_err(|error| chain(&error))?;
            *self.introduction.write().unwrap_or_else(PoisonError::into_inner) =
                Arc::new(introduction(&self.options, &folder, self.store.format()));
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
            cluster = identity.cluster_id,
            node = identity.node_id,
            last = ?recovered.last, committed = ?recovered.committed, vote = ?recovered.vote,
            snapshot = ?recovered.snapshot.as_ref().and_then(|snapshot| snapshot.last),
            "the data folder was recovered"
        );
        if let Some(tail) = &recovered.torn_tail {
            warn!(?tail, "the log ended in a torn write, which was cut");
            world.buggify.note("storage.torn-tail", || []);
        }
        let running =
            Running::start(self, storage, introduction).await.map_err(|error| {
                match self.storage_failure.borrow().clone() {
                    Some(why) => StartError::Unusable { why },
                    None => error,
                }
            })?;
        self.watch_storage(&running);
        self.watch_removal(&running);
        assert!(self.running.set(running).is_ok(), "a node takes part once");
        self.trouble.send_replace(None);
        Ok(())
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

    /// Notices that this node was removed from its cluster: by its own log, or because a member
    /// says so.
    fn watch_removal(self: &Arc<Self>, running: &Running) {
        let mut told = running.links.removal();
        let mut removed = self.store.removals();
        let node_id = self.introduction().node_id;
        let core = Arc::clone(self);
        world::spawn(async move {
            tokio::select! {
                removed = removed.wait_for(|removed| removed.contains(&node_id)) => {
                    if removed.is_err() { return }
                }
                told = told.wait_for(|told| *told) => if told.is_err() { return },
            }
            core.note_removal().await;
        });
    }

    fn folder(&self) -> MutexGuard<'_, Folder> {
        self.folder.lock().unwrap_or_else(PoisonError::into_inner)
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
    info!(node = folder.node_id, name = %folder.name, "the data folder is new");
    Ok(folder)
}

fn introduction(options: &Options, folder: &Folder, format: FormatInForce) -> Introduction {
    Introduction {
        cluster_id: folder.cluster_id,
        epoch: folder.epoch,
        node_id: folder.node_id,
        versions: options.versions,
        format,
        name: options.name.clone(),
        heartbeat_ms: options.settings.heartbeat_ms,
        election_timeout_ms_min: options.settings.election_timeout_ms_min,
        election_timeout_ms_max: options.settings.election_timeout_ms_max,
    }
}

/// The storage of a node in a cluster, as an `io` result for callers without it.
pub(crate) fn not_in_a_cluster() -> io::Error {
    io::Error::other("this node is not in a cluster yet")
}
