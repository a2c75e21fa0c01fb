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

use crate::{
    peer::{
        channel::{Channel, Route},
        handshake::{ConnectionKind, Introduction},
        message::Pong,
    },
    status::MemberRecord,
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
    links: Mutex<BTreeMap<u64, (String, Link)>>,
}

impl Links {
    pub(crate) fn new(
        net: Arc<dyn Net>,
        introduction: Arc<Introduction>,
        dial_deadline: Duration,
    ) -> Self {
        Self { net, introduction, dial_deadline, links: Mutex::default() }
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
