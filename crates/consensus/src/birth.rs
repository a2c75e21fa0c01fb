//! How a cluster is born, and how a node that is in none behaves.
//!
//! Every founding node is started with the same list of names and addresses. The first of the list
//! waits until all others answer with an empty folder and the same list, draws the cluster's id,
//! tells it to them, and initialises consensus when all have stored it. Every step is stored before
//! the next is taken, so a crash in between is continued by starting again.
//!
//! A node whose folder is empty while its peers are in a cluster already is a new node, whatever
//! its name: it says so, casts no vote and changes nothing.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future::join_all;
use mainstay_world as world;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::{
    core::Core,
    error::StartError,
    peer::{
        channel::{Channel, Route},
        handshake::ConnectionKind,
        message::{Answer, Call},
    },
    status::MemberRecord,
    versions::{Announced, Span},
};

/// How often the peers are asked while a cluster is being born.
const INTERVAL: Duration = Duration::from_millis(50);

/// The longest wait for one answer.
const CALL_DEADLINE: Duration = Duration::from_millis(500);

/// Looks at a born cluster before this node says that it is not part of it.
const LOOKS_BEFORE_TROUBLE: u32 = 20;

/// How a node finds its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Birth {
    /// The same list on every founding node; the first of it creates the cluster.
    Bootstrap(Vec<BootstrapPeer>),
    /// The cluster of the node that serves clients at this URL; whoever runs this node asks there,
    /// and tells it with [`Consensus::enter_cluster`](crate::Consensus::enter_cluster).
    Join(String),
    /// The data folder knows.
    Resume,
}

/// One founding node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootstrapPeer {
    /// Its name.
    pub name: String,
    /// Where its peers dial it, `host:port`.
    pub peer_address: String,
}

/// What a node answers when asked about its birth.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BirthState {
    /// The node.
    pub(crate) node_id: u64,
    /// Its cluster, 0 for none.
    pub(crate) cluster_id: u64,
    /// What it would be recorded as.
    pub(crate) record: MemberRecord,
    /// The list it was started with; empty if without one.
    pub(crate) list: Vec<BootstrapPeer>,
    /// The oldest and the newest format of rules that it knows.
    pub(crate) formats: (u64, u64),
    /// Whether anything is in its log: its cluster was initialised.
    pub(crate) initialised: bool,
}

/// Tells a founding node, or one that was added, which cluster it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BirthNotice {
    /// The new cluster.
    pub(crate) cluster_id: u64,
    /// Its epoch.
    pub(crate) epoch: u64,
    /// The founding members, or the one that was added.
    pub(crate) founders: BTreeMap<u64, MemberRecord>,
}

/// Refuses a folder of another cluster than the one that the listed nodes are in.
///
/// Members come and go while a list stays as it was: it is wrong only if one of its nodes is in
/// another cluster and none is in this one. Nodes that do not answer prove nothing.
pub(crate) async fn check_cluster(
    core: &Arc<Core>,
    list: &[BootstrapPeer],
) -> Result<(), StartError> {
    let folder = core.introduction().cluster_id;
    let answers = ask_all(&channels(core, list)).await;
    if answers.iter().any(|state| state.cluster_id == folder) {
        return Ok(());
    }
    match answers.into_iter().find(|state| state.cluster_id != 0) {
        Some(other) => Err(StartError::OtherCluster {
            folder,
            peer: other.record.name,
            found: other.cluster_id,
        }),
        None => Ok(()),
    }
}

/// Brings this node's cluster about, or says why it cannot. Ends when the node is in a cluster.
pub(crate) async fn bring_about(core: Arc<Core>, list: Vec<BootstrapPeer>) {
    let founder = list.first().is_some_and(|first| first.name == core.options().name);
    let others = channels(&core, &list);
    let mut looks = 0;
    while !core.is_initialised().await {
        let answers = ask_all(&others).await;
        if let Some(stranger) = answers.iter().find(|state| belongs_elsewhere(&core, state)) {
            looks += 1;
            if core.world().buggify.is_planted("reuse-wiped-id") {
                let cluster_id = stranger.cluster_id;
                let founders = BTreeMap::new();
                let _ = core.enter(&BirthNotice { cluster_id, epoch: 1, founders }).await;
            }
            if looks >= LOOKS_BEFORE_TROUBLE || founder {
                say_that_the_folder_is_new(&core, stranger);
            }
        } else if answers.iter().any(|state| state.initialised) {
            // It was founded before, and this node was added to it: the log will come.
            debug!("the cluster is born already");
        } else if founder
            && answers.len() == others.len()
            && same_list(&core, &list, &answers)
            && same_oldest_format(&core, &answers)
        {
            found(&core, &others, &answers).await;
        }
        world::sleep(INTERVAL).await;
    }
}

/// The peer is in a cluster and this node in another or none.
fn belongs_elsewhere(core: &Core, peer: &BirthState) -> bool {
    peer.cluster_id != 0 && peer.cluster_id != core.introduction().cluster_id
}

fn say_that_the_folder_is_new(core: &Core, peer: &BirthState) {
    core.set_trouble(&format!(
        "the data folder of {} is new, and {} is in cluster {} already: this node casts no vote and changes nothing; \
         if its folder was lost, have it replace its former self with: mainstay member add {}",
        core.options().name, peer.record.name, peer.cluster_id, core.options().peer_address,
    ));
}

fn same_list(core: &Core, list: &[BootstrapPeer], answers: &[BirthState]) -> bool {
    let other = answers.iter().find(|state| state.list != list);
    if let Some(other) = other {
        core.set_trouble(&format!(
            "{} was started with another bootstrap list; start all nodes with the same one",
            other.record.name
        ));
    }
    other.is_none()
}

/// A cluster begins at the oldest format that its founders know, so they must agree on which that
/// is; afterwards they may differ.
fn same_oldest_format(core: &Core, answers: &[BirthState]) -> bool {
    let ours = core.options().versions.formats;
    let other = answers.iter().find(|state| state.formats.0 != ours.0);
    if let Some(BirthState { record, formats, .. }) = other {
        core.set_trouble(&format!(
            "{} applies format {} of the log and this node {}; found a cluster with one version of \
             mainstay on all nodes",
            record.name,
            Span(formats.0, formats.1),
            Span(ours.0, ours.1),
        ));
    }
    other.is_none()
}

/// Founds the cluster: every step can be taken again.
async fn found(core: &Arc<Core>, others: &[Channel], answers: &[BirthState]) {
    let mut founders: BTreeMap<_, _> =
        answers.iter().map(|state| (state.node_id, state.record.clone())).collect();
    let myself = core.birth_state();
    founders.insert(myself.node_id, myself.record);
    if founders.len() != answers.len() + 1 {
        core.set_trouble("two nodes of the bootstrap list have the same id; check the addresses");
        return;
    }
    let cluster_id = match core.introduction().cluster_id {
        0 => world::random_u64().max(1),
        stored => stored,
    };
    let notice = BirthNotice { cluster_id, epoch: 1, founders };
    if let Err(error) = core.enter(&notice).await {
        core.set_trouble(&error);
        return;
    }
    for other in others {
        let answer = other.call(&Call::BirthNotice(notice.clone()), CALL_DEADLINE).await;
        match answer {
            Ok(Answer::Birth(state)) if state.cluster_id == cluster_id => {}
            Ok(_) | Err(_) => {
                debug!(?answer, "a founding node has not taken notice of the cluster yet");
                return;
            }
        }
    }
    if let Some(running) = core.running() {
        match running.raft.initialize(notice.founders).await {
            Ok(()) => {
                info!(cluster = cluster_id, "the cluster is born");
            }
            Err(error) => warn!(%error, "the cluster could not be initialised yet"),
        }
    }
}

/// The answers of those that answer, in order.
async fn ask_all(others: &[Channel]) -> Vec<BirthState> {
    let asked = others.iter().map(|other| other.call(&Call::BirthQuery, CALL_DEADLINE));
    let answers = join_all(asked).await.into_iter();
    answers
        .filter_map(|answer| match answer {
            Ok(Answer::Birth(state)) => Some(state),
            Ok(_) | Err(_) => None,
        })
        .collect()
}

fn channels(core: &Core, list: &[BootstrapPeer]) -> Vec<Channel> {
    list.iter()
        .filter(|peer| peer.name != core.options().name)
        .map(|peer| {
            let route = Route {
                net: Arc::clone(&core.world().net),
                address: peer.peer_address.clone(),
                // As a node without a cluster: the peer may be in none itself.
                introduction: Arc::new(core.unborn_introduction()),
                expected: None,
                kind: ConnectionKind::Control,
                // Whoever is in no cluster cannot be removed from one.
                removal: watch::Sender::new(false),
                announced: Announced::default(),
            };
            Channel::start(route, CALL_DEADLINE, 1)
        })
        .collect()
}
