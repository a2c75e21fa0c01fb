//! The life of a node, from taking its folder to letting go of it.
//!
//! The order matters. Folder and sockets come first, because their errors are a person's to fix
//! and nothing has happened yet. Then consensus, then the front. At the end it is the other way
//! round: the front refuses new work while leadership is handed over, running work is finished with
//! the next leader, consensus stops.

use std::{
    future::Future,
    io,
    path::Path,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use mainstay_consensus::{Birth, Consensus, StartError};
use mainstay_etcd::EtcdApi;
use mainstay_service::{Door, Limits};
use mainstay_storage::StorageOptions;
use mainstay_world::{
    Buggify, FolderError, FolderLock, History, Instant, Listener, MemoryHistory, Net, RealDisk,
    RealNet, Scope, SledHistory, World,
};
use tokio::runtime::{Builder, Runtime};
use tracing::{error, info, warn};

use crate::{
    config::{Config, RuntimeKind},
    http::{connection::Connections, front::Front, server::Server, starting::answer_meanwhile},
    joining::{JoinError, join},
    metrics::Metrics,
    read_only,
};

/// The program's version, as peers and clients see it.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// How long running work may take to finish after a node was told to stop.
const DRAIN_MAX: Duration = Duration::from_secs(30);

/// How long a node whose storage failed goes on serving what it has in memory.
const STORAGE_FAILED_MAX: Duration = Duration::from_secs(60);

/// Why a node ended in good order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExitReason {
    /// It was told to.
    Requested,
    /// Its storage failed; a supervisor should start it again.
    StorageFailed {
        /// What failed.
        why: String,
    },
    /// The cluster removed it; starting it again on the same folder is of no use.
    Removed,
}

impl ExitReason {
    /// The exit code of a process that runs one node: 0, or 74 (`EX_IOERR` of sysexits.h) when
    /// the storage failed.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Requested | Self::Removed => 0,
            Self::StorageFailed { .. } => 74,
        }
    }
}

/// A node that could not start. Nothing was served.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The data folder cannot be used.
    #[error("the data folder cannot be used")]
    Folder(#[from] FolderError),
    /// The thread of the disk could not be started.
    #[error("the disk thread of {folder} could not be started")]
    Disk {
        /// The data folder.
        folder: String,
        /// What the OS says.
        #[source]
        source: io::Error,
    },
    /// An address is taken.
    #[error(
        "{address} is in use by another process; stop that process, or choose another {option}"
    )]
    AddressInUse {
        /// The option that named the address.
        option: &'static str,
        /// The address.
        address: String,
    },
    /// An address cannot be listened on.
    #[error("cannot listen on {address} (option {option})")]
    Bind {
        /// The option that named the address.
        option: &'static str,
        /// The address.
        address: String,
        /// What the OS says.
        #[source]
        source: io::Error,
    },
    /// Consensus did not start.
    #[error("the node cannot start")]
    Start(#[from] StartError),
    /// The node could not join the cluster that it was pointed to.
    #[error("the node cannot join")]
    Join(#[from] JoinError),
}

/// The two sockets of a node, bound.
pub struct Listeners {
    /// For clients.
    pub client: Box<dyn Listener>,
    /// For peers.
    pub peer: Box<dyn Listener>,
}

impl Listeners {
    /// Binds the two addresses of `config`; port 0 picks a free one, which
    /// [`Listener::local_addr`] then tells.
    ///
    /// # Errors
    /// [`RunError::AddressInUse`] or [`RunError::Bind`], with the option to change.
    pub async fn bind(net: &dyn Net, config: &Config) -> Result<Self, RunError> {
        Ok(Self {
            client: bind(net, "client_addr", &config.client_addr).await?,
            peer: bind(net, "peer_addr", &config.peer_addr).await?,
        })
    }
}

async fn bind(
    net: &dyn Net,
    option: &'static str,
    address: &str,
) -> Result<Box<dyn Listener>, RunError> {
    net.bind(address).await.map_err(|source| {
        let address = address.to_owned();
        if source.kind() == io::ErrorKind::AddrInUse {
            RunError::AddressInUse { option, address }
        } else {
            RunError::Bind { option, address, source }
        }
    })
}

/// The runtime that a process should run its node on.
///
/// # Errors
/// When the OS gives no thread or no event queue.
pub fn runtime(kind: RuntimeKind) -> io::Result<Runtime> {
    match kind {
        RuntimeKind::CurrentThread => Builder::new_current_thread().enable_all().build(),
        RuntimeKind::MultiThread => {
            Builder::new_multi_thread().disable_lifo_slot().enable_all().build()
        }
    }
}

/// Runs a node on this machine until `shutdown` is done or its storage failed.
///
/// # Errors
/// [`RunError`] if it cannot start; once it runs it ends in good order, see [`ExitReason`].
pub async fn run(
    config: Config,
    shutdown: impl Future<Output = ()>,
) -> Result<ExitReason, RunError> {
    Scope::production().run(Box::pin(run_on_this_machine(config, shutdown))).await
}

async fn run_on_this_machine(
    config: Config,
    shutdown: impl Future<Output = ()>,
) -> Result<ExitReason, RunError> {
    let _lock = FolderLock::take(&config.data_dir)?;
    let disk = |name| {
        RealDisk::start(&config.data_dir, name).map_err(|source| RunError::Disk {
            folder: config.data_dir.display().to_string(),
            source,
        })
    };
    let world = World {
        log_disk: Arc::new(disk("log-disk")?),
        snapshot_disk: Arc::new(disk("snapshot-disk")?),
        net: Arc::new(RealNet),
        history: open_history(&config.data_dir.join("history")),
        buggify: Buggify::none(),
    };
    let listeners = Listeners::bind(world.net.as_ref(), &config).await?;
    run_in(world, listeners, config, shutdown).await
}

/// Runs a node in `world`, on sockets that are bound already, until `shutdown` is done or its
/// storage failed. The caller provides the scope and holds the right to the data folder.
///
/// # Errors
/// As [`run`].
pub async fn run_in(
    world: World,
    listeners: Listeners,
    config: Config,
    shutdown: impl Future<Output = ()>,
) -> Result<ExitReason, RunError> {
    run_observed(world, listeners, config, StorageOptions::default(), |_consensus| {}, shutdown)
        .await
}

/// Runs a node as [`run_in`] does, with log sizes of the caller's choice, and hands its consensus
/// to `observe` when it has started: for simulations, which look at a node from outside.
///
/// # Errors
/// As [`run`].
pub async fn run_observed(
    world: World,
    listeners: Listeners,
    config: Config,
    storage: StorageOptions,
    observe: impl FnOnce(&Consensus),
    shutdown: impl Future<Output = ()>,
) -> Result<ExitReason, RunError> {
    let started = Instant::now();
    let Listeners { mut client, peer } = listeners;
    let client_addr = bound(client.as_ref(), &config.client_addr);
    let peer_addr = bound(peer.as_ref(), &config.peer_addr);
    let options = consensus_options(&config, &client_addr, &peer_addr, storage);
    let mut shutdown = pin!(shutdown);
    let consensus = tokio::select! {
        biased;
        () = shutdown.as_mut() => return Ok(ExitReason::Requested),
        started = Consensus::start(options, world.clone(), peer) => started?,
        never = answer_meanwhile(client.as_mut()) => match never {},
    };
    observe(&consensus);
    let door = Door::open(consensus.clone(), &world, Limits::default());
    let connections = Arc::new(Connections::default());
    let etcd = EtcdApi::new(door.clone(), config.watch_progress_interval);
    let metrics = Metrics::new(door.clone(), etcd.clone(), Arc::clone(&connections), started);
    let front = Arc::new(Front::new(door.clone(), etcd, metrics));
    let server = Server::start(client, front, connections);
    let status = consensus.status();
    info!(
        name = config.name,
        node_id = status.node_id,
        cluster_id = status.cluster_id,
        %client_addr,
        %peer_addr,
        data_dir = %config.data_dir.display(),
        version = VERSION,
        "the node has started"
    );
    let joining = async {
        match &config.birth {
            Birth::Join(url) => {
                join(&consensus, Arc::clone(&world.net), url, config.join_timeout).await
            }
            Birth::Bootstrap(_) | Birth::Resume => Ok(()),
        }
    };
    let reason = tokio::select! {
        biased;
        reason = until_the_end(&consensus, shutdown) => Ok(reason),
        Err(error) = joining => Err(RunError::Join(error)),
        never = read_only::tell(&door) => match never {},
    };
    info!(?reason, "the node is stopping");
    let (unfinished, ()) = tokio::join!(server.stop(DRAIN_MAX), consensus.step_down());
    if unfinished > 0 {
        warn!(unfinished, "requests were left unfinished after the time to finish them");
    }
    consensus.shutdown().await;
    info!("the node has stopped");
    reason
}

/// Waits until the node is told to stop, or has served from memory long enough after its storage
/// failed.
async fn until_the_end(
    consensus: &Consensus,
    mut shutdown: Pin<&mut impl Future<Output = ()>>,
) -> ExitReason {
    let mut failure = consensus.storage_failure();
    let failed = async {
        loop {
            let why = failure.borrow_and_update().clone();
            match why {
                Some(why) => return why,
                // When consensus is gone without a failure, only a request ends the node.
                None if failure.changed().await.is_err() => std::future::pending().await,
                None => {}
            }
        }
    };
    let mut removal = consensus.removal();
    let why = tokio::select! {
        biased;
        () = shutdown.as_mut() => return ExitReason::Requested,
        why = failed => why,
        Ok(_removed) = removal.wait_for(|removed| *removed) => {
            warn!("the cluster removed this node, so it ends");
            return ExitReason::Removed;
        }
    };
    error!(%why, "the storage failed; reads go on from memory for a while, then the node exits");
    // Either way the process ends with the code that has it started again.
    let _either = mainstay_world::timeout(STORAGE_FAILED_MAX, shutdown).await;
    ExitReason::StorageFailed { why }
}

fn consensus_options(
    config: &Config,
    client_addr: &str,
    peer_addr: &str,
    storage: StorageOptions,
) -> mainstay_consensus::Options {
    let or_bound = |said: &str, bound: &str| {
        if said.is_empty() { bound.to_owned() } else { said.to_owned() }
    };
    let client_urls = if config.advertise_client_urls.is_empty() {
        vec![format!("http://{client_addr}")]
    } else {
        config.advertise_client_urls.clone()
    };
    mainstay_consensus::Options {
        name: config.name.clone(),
        peer_address: or_bound(&config.advertise_peer_addr, peer_addr),
        client_urls,
        zone: config.zone.clone(),
        site: config.site.clone(),
        version: VERSION.to_owned(),
        birth: config.birth.clone(),
        settings: config.settings(),
        storage,
        versions: config.versions,
    }
}

/// The address that was bound: the host as it was written, since people know it by that, and the
/// port that was picked.
fn bound(listener: &dyn Listener, configured: &str) -> String {
    match (listener.local_addr(), configured.rsplit_once(':')) {
        (Ok(address), Some((host, _port))) => format!("{host}:{}", address.port()),
        (Ok(address), None) => address.to_string(),
        (Err(_unknown), _) => configured.to_owned(),
    }
}

/// Opens the node's history; a damaged one is set aside, because nothing depends on it. A full disk
/// is no damage.
fn open_history(folder: &Path) -> Arc<dyn History> {
    let error = match SledHistory::open(folder) {
        Ok(history) => return Arc::new(history),
        Err(error) => error,
    };
    if SledHistory::is_full(&error) {
        warn!(%error, "there is no room to open the history; it stays as it is");
    } else {
        let aside = folder.with_extension(format!("damaged-{}", mainstay_world::wall_clock_ms()));
        warn!(%error, aside = %aside.display(), "the history cannot be read and is set aside");
        if std::fs::rename(folder, &aside).is_ok()
            && let Ok(history) = SledHistory::open(folder)
        {
            return Arc::new(history);
        }
    }
    warn!("this run's history is kept in memory only");
    Arc::new(MemoryHistory::default())
}
