//! What a node knows of and keeps open to each of its peers.
//!
//! One link per peer: a control and a forward channel, dialled on demand, and what the pings tell.
//! Links follow the membership; a peer whose address changes gets a new link.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mainstay_world::{Instant, Net};
use tokio::sync::watch;

use crate::{
    peer::{
        channel::{Channel, Route},
        contact::Contact,
        handshake::{ConnectionKind, Introduction},
        message::Pong,
    },
    status::MemberRecord,
    versions::Announced,
};

/// A peer that answered a ping within this time is healthy.
const HEALTHY_WITHIN: Duration = Duration::from_secs(1);

/// Timeouts in a row after which a control connection is given up: a late heartbeat is no reason.
const CONTROL_TIMEOUTS_MAX: u32 = 3;

/// Timeouts after which a forward connection is given up.
const FORWARD_TIMEOUTS_MAX: u32 = 1;

/// One peer.
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) node_id: u64,
    pub(crate) control: Channel,
    pub(crate) forward: Channel,
    log_route: Route,
    pulse: Arc<Mutex<Pulse>>,
}

/// What the newest answered ping told.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pulse {
    /// When the ping was sent.
    pub(crate) asked_at: Option<Instant>,
    /// How long the answer took.
    pub(crate) round_trip: Duration,
    /// The answer.
    pub(crate) pong: Option<Pong>,
}

impl Pulse {
    /// Whether the peer answered lately.
    fn is_fresh(&self) -> bool {
        self.asked_at.is_some_and(|asked_at| asked_at.elapsed() < HEALTHY_WITHIN)
    }

    /// Whether the peer may well lead in `term`: it answered lately, and did not say otherwise in
    /// this term or a later one.
    pub(crate) fn leads(&self, term: u64) -> bool {
        self.is_fresh() && self.pong.is_some_and(|pong| pong.leads || pong.term < term)
    }
}

impl Link {
    /// How to dial a connection of `kind`.
    pub(crate) fn route(&self, kind: ConnectionKind) -> Route {
        Route { kind, ..self.log_route.clone() }
    }

    /// Keeps what a ping told.
    pub(crate) fn record(&self, asked_at: Instant, pong: Pong) {
        *self.lock() =
            Pulse { asked_at: Some(asked_at), round_trip: asked_at.elapsed(), pong: Some(pong) };
    }

    /// What the newest answered ping told.
    pub(crate) fn pulse(&self) -> Pulse {
        *self.lock()
    }

    /// Whether the peer said lately that it leads.
    pub(crate) fn claims_to_lead(&self) -> bool {
        let pulse = self.pulse();
        pulse.is_fresh() && pulse.pong.is_some_and(|pong| pong.leads)
    }

    /// Whether the peer answered lately.
    pub(crate) fn is_healthy(&self) -> bool {
        self.pulse().is_fresh()
    }

    fn lock(&self) -> MutexGuard<'_, Pulse> {
        self.pulse.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All links of a node.
pub(crate) struct Links {
    net: Arc<dyn Net>,
    introduction: Arc<Introduction>,
    dial_deadline: Duration,
    removal: watch::Sender<bool>,
    announced: Announced,
    /// Who answered this node as a leader.
    pub(crate) contact: Contact,
    /// The last entry in the snapshot that is being sent to a peer.
    snapshots: Arc<Mutex<BTreeMap<u64, u64>>>,
    links: Mutex<BTreeMap<u64, (String, Link)>>,
}

impl Links {
    pub(crate) fn new(
        net: Arc<dyn Net>,
        introduction: Arc<Introduction>,
        dial_deadline: Duration,
    ) -> Self {
        let removal = watch::Sender::new(false);
        Self {
            net,
            introduction,
            dial_deadline,
            removal,
            announced: Announced::default(),
            contact: Contact::new(),
            snapshots: Arc::default(),
            links: Mutex::default(),
        }
    }

    /// Notes that a snapshot whose last entry is `last` is on its way to a peer, until what is
    /// returned is dropped.
    pub(crate) fn snapshot_begins(&self, peer: u64, last: u64) -> SnapshotUnderWay {
        let under_way = SnapshotUnderWay { snapshots: Arc::clone(&self.snapshots), peer };
        under_way.lock().insert(peer, last);
        under_way
    }

    /// The last entries of the snapshots that are on their way.
    pub(crate) fn snapshots_under_way(&self) -> Vec<u64> {
        let snapshots = self.snapshots.lock().unwrap_or_else(PoisonError::into_inner);
        snapshots.values().copied().collect()
    }

    /// Becomes true when a member says that this node was removed from the cluster.
    pub(crate) fn removal(&self) -> watch::Receiver<bool> {
        self.removal.subscribe()
    }

    /// What the peers announced in their greetings.
    pub(crate) const fn announced(&self) -> &Announced {
        &self.announced
    }

    /// A control channel to whoever answers at `address`, in a cluster or not; and what it
    /// announces.
    pub(crate) fn stranger(&self, address: &str) -> (Channel, Announced) {
        let introduction = Introduction { cluster_id: 0, epoch: 0, ..(*self.introduction).clone() };
        let route = Route {
            net: Arc::clone(&self.net),
            address: address.to_owned(),
            introduction: Arc::new(introduction),
            expected: None,
            kind: ConnectionKind::Control,
            removal: watch::Sender::new(false),
            announced: Announced::default(),
        };
        let announced = route.announced.clone();
        (Channel::start(route, self.dial_deadline, 1), announced)
    }

    /// The time a dial may take.
    pub(crate) const fn dial_deadline(&self) -> Duration {
        self.dial_deadline
    }

    /// The link to a member, made if there is none or its address changed.
    pub(crate) fn to(&self, node_id: u64, record: &MemberRecord) -> Link {
        let mut links = self.lock();
        if let Some((address, link)) = links.get(&node_id)
            && *address == record.peer_address
        {
            return link.clone();
        }
        let route = |kind| Route {
            net: Arc::clone(&self.net),
            address: record.peer_address.clone(),
            introduction: Arc::clone(&self.introduction),
            expected: Some(node_id),
            kind,
            removal: self.removal.clone(),
            announced: self.announced.clone(),
        };
        let channel =
            |kind, timeouts_max| Channel::start(route(kind), self.dial_deadline, timeouts_max);
        let link = Link {
            node_id,
            control: channel(ConnectionKind::Control, CONTROL_TIMEOUTS_MAX),
            forward: channel(ConnectionKind::Forward, FORWARD_TIMEOUTS_MAX),
            log_route: route(ConnectionKind::Log),
            pulse: Arc::default(),
        };
        links.insert(node_id, (record.peer_address.clone(), link.clone()));
        link
    }

    /// An existing link.
    pub(crate) fn find(&self, node_id: u64) -> Option<Link> {
        self.lock().get(&node_id).map(|(_address, link)| link.clone())
    }

    /// All links.
    pub(crate) fn all(&self) -> Vec<Link> {
        self.lock().values().map(|(_address, link)| link.clone()).collect()
    }

    /// Drops the links of nodes that are no longer members.
    pub(crate) fn retain(&self, is_member: impl Fn(u64) -> bool) {
        self.lock().retain(|node_id, _link| is_member(*node_id));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, (String, Link)>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A snapshot that is on its way to a peer.
pub(crate) struct SnapshotUnderWay {
    snapshots: Arc<Mutex<BTreeMap<u64, u64>>>,
    peer: u64,
}

impl SnapshotUnderWay {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, u64>> {
        self.snapshots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for SnapshotUnderWay {
    fn drop(&mut self) {
        self.lock().remove(&self.peer);
    }
}
