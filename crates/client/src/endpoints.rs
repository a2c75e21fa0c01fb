//! The nodes that a client knows, and which of them it asks.
//!
//! It begins with the endpoints it was configured with and never forgets them. What the members of
//! the cluster publish as their client URLs comes on top, and goes again with the members; a list
//! of another cluster is not believed. Requests go to one node as long as that works: the leader,
//! once it is known, since every other node would only pass them on. A node that failed is left
//! alone for a while, unless there is no other.
//!
//! This file decides and remembers; it sends nothing. When to ask for the members again is decided
//! here too: see [`Endpoints::is_refresh_due`].

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mainstay_world::{Instant, Net};

use crate::{client::ClientOptions, cluster::Cluster, endpoint::Endpoint, transport::Transport};

/// For how long a node that failed is asked only if there is no other.
const AVOIDED: Duration = Duration::from_secs(5);

/// How old a client is when it first asks for the members, unless something fails before: short
/// programs need not pay for it.
const FIRST_REFRESH: Duration = Duration::from_secs(1);

/// The time between two questions for the members, when something hints at a change.
const HINTED_REFRESH: Duration = Duration::from_millis(250);

/// Endpoints known at most; a list without end is no list of members.
const ENDPOINTS_MAX: usize = 64;

/// See the module comment.
pub(crate) struct Endpoints {
    dial: Dial,
    configured: Vec<Endpoint>,
    refresh_interval: Duration,
    discovers: bool,
    known: Mutex<Known>,
}

/// How to make the connections of an endpoint.
struct Dial {
    net: Arc<dyn Net>,
    connect_timeout: Duration,
    connections_max: usize,
}

struct Known {
    /// Those configured first, in their order; never empty.
    nodes: Vec<Node>,
    /// The place of the one that is asked.
    preferred: usize,
    cluster_id: u64,
    /// The highest term that was seen, and that of the last list of members.
    term: u64,
    listed_term: u64,
    refresh_at: Instant,
    last_refresh: Instant,
    refreshing: bool,
}

struct Node {
    transport: Arc<Transport>,
    avoided_until: Option<Instant>,
}

impl Endpoints {
    /// Knows what `options` say.
    pub(crate) fn new(net: Arc<dyn Net>, options: &ClientOptions, now: Instant) -> Self {
        let dial = Dial {
            net,
            connect_timeout: options.connect_timeout,
            connections_max: options.connections_max,
        };
        let mut nodes: Vec<Node> = Vec::new();
        for endpoint in &options.endpoints {
            if nodes.iter().all(|node| node.transport.endpoint() != endpoint) {
                nodes.push(dial.node(endpoint));
            }
        }
        assert!(!nodes.is_empty(), "a client needs an endpoint");
        Self {
            configured: nodes.iter().map(|node| node.transport.endpoint().clone()).collect(),
            dial,
            refresh_interval: options.refresh_interval,
            discovers: options.discover,
            known: Mutex::new(Known {
                nodes,
                preferred: 0,
                cluster_id: 0,
                term: 0,
                listed_term: 0,
                refresh_at: now + FIRST_REFRESH,
                last_refresh: now,
                refreshing: false,
            }),
        }
    }

    /// All endpoints that are known now, those configured first.
    pub(crate) fn all(&self) -> Vec<Endpoint> {
        self.lock().nodes.iter().map(|node| node.transport.endpoint().clone()).collect()
    }

    /// The node to ask, none of `tried`; `None` when all were tried.
    pub(crate) fn pick(&self, tried: &[Endpoint], now: Instant) -> Option<Arc<Transport>> {
        let known = self.lock();
        let untried =
            known.ring(known.preferred).filter(|node| !tried.contains(node.transport.endpoint()));
        let (mut avoided, mut first) = (None, None);
        for node in untried {
            if node.is_avoided(now) {
                avoided = avoided.or(Some(node));
            } else {
                first = Some(node);
                break;
            }
        }
        first.or(avoided).map(|node| Arc::clone(&node.transport))
    }

    /// The node to ask.
    pub(crate) fn preferred(&self, now: Instant) -> Arc<Transport> {
        self.pick(&[], now).expect("there is always a node")
    }

    /// The node to go on with after `endpoint`, which may be the same if it is the only one.
    pub(crate) fn after(&self, endpoint: &Endpoint, now: Instant) -> Arc<Transport> {
        let known = self.lock();
        let at = known.place(endpoint).unwrap_or(known.preferred);
        let mut others = known.ring(at).skip(1);
        let first = known.ring((at + 1) % known.nodes.len()).next();
        let next = others.find(|node| !node.is_avoided(now)).or(first);
        Arc::clone(&next.expect("there is always a node").transport)
    }

    /// Notes that a node answered, and the term that it is in.
    pub(crate) fn answered(&self, endpoint: &Endpoint, term: u64) {
        let mut known = self.lock();
        if let Some(at) = known.place(endpoint) {
            known.nodes[at].avoided_until = None;
        }
        known.term = known.term.max(term);
    }

    /// Notes that a node could not help: another one is asked from now on.
    pub(crate) fn failed(&self, endpoint: &Endpoint, now: Instant) {
        let mut known = self.lock();
        if let Some(at) = known.place(endpoint) {
            known.nodes[at].avoided_until = Some(now + AVOIDED);
            if at == known.preferred {
                let ring: Vec<_> =
                    (1..known.nodes.len()).map(|step| (at + step) % known.nodes.len()).collect();
                let well = ring.iter().find(|place| !known.nodes[**place].is_avoided(now));
                known.preferred = well.or(ring.first()).copied().unwrap_or(at);
            }
        }
        known.hint(now);
    }

    /// Whether the members should be asked for now; true for one caller, who must tell
    /// [`Endpoints::refreshed`] what came of it.
    pub(crate) fn is_refresh_due(&self, now: Instant) -> bool {
        if !self.discovers {
            return false;
        }
        let mut known = self.lock();
        // Another leader is in another term.
        if known.term > known.listed_term && known.listed_term > 0 {
            known.hint(now);
        }
        let due = !known.refreshing && now >= known.refresh_at;
        known.refreshing |= due;
        due
    }

    /// Takes in the members as a node told them; `None` if none did.
    pub(crate) fn refreshed(&self, cluster: Option<&Cluster>, now: Instant) {
        let mut known = self.lock();
        known.refreshing = false;
        known.last_refresh = now;
        known.refresh_at = now + self.refresh_interval;
        let Some(cluster) = cluster else { return };
        if known.cluster_id == 0 {
            known.cluster_id = cluster.cluster_id;
        }
        if known.cluster_id != cluster.cluster_id {
            tracing::warn!(
                known = known.cluster_id,
                told = cluster.cluster_id,
                "an endpoint tells of the members of another cluster; they are not taken over"
            );
            return;
        }
        known.listed_term = cluster.term;
        known.term = known.term.max(cluster.term);
        self.merge(&mut known, cluster);
        // In the same term there is no other leader: one that is not there yet will be soon.
        if cluster.leader.is_none() {
            known.hint(now);
        }
        follow_leader(&mut known, cluster, now);
    }

    /// Adds the endpoints of members that are new, and forgets those of members that are gone.
    fn merge(&self, known: &mut Known, cluster: &Cluster) {
        let listed: Vec<Endpoint> = cluster
            .members
            .iter()
            .flat_map(|member| &member.client_urls)
            .filter_map(|url| url.parse().ok())
            .collect();
        let preferred = known.nodes[known.preferred].transport.endpoint().clone();
        known.nodes.retain(|node| {
            let endpoint = node.transport.endpoint();
            self.configured.contains(endpoint) || listed.contains(endpoint)
        });
        for endpoint in listed {
            if known.nodes.len() < ENDPOINTS_MAX && known.place(&endpoint).is_none() {
                known.nodes.push(self.dial.node(&endpoint));
            }
        }
        known.preferred = known.place(&preferred).unwrap_or(0);
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Prefers the leader, unless none of its addresses works from here.
fn follow_leader(known: &mut Known, cluster: &Cluster, now: Instant) {
    let leader = cluster.members.iter().find(|member| Some(member.id) == cluster.leader);
    let urls = leader.into_iter().flat_map(|leader| &leader.client_urls);
    let endpoints = urls.filter_map(|url| url.parse::<Endpoint>().ok());
    let mut places = endpoints.filter_map(|endpoint| known.place(&endpoint));
    if let Some(at) = places.find(|at| !known.nodes[*at].is_avoided(now)) {
        known.preferred = at;
    }
}

impl Known {
    /// All nodes, from the one at `first` on.
    fn ring(&self, first: usize) -> impl Iterator<Item = &Node> {
        self.nodes[first..].iter().chain(&self.nodes[..first])
    }

    fn place(&self, endpoint: &Endpoint) -> Option<usize> {
        self.nodes.iter().position(|node| node.transport.endpoint() == endpoint)
    }

    /// Something may have changed: the members are asked for soon.
    fn hint(&mut self, now: Instant) {
        let soon = (self.last_refresh + HINTED_REFRESH).max(now);
        self.refresh_at = self.refresh_at.min(soon);
    }
}

impl Node {
    fn is_avoided(&self, now: Instant) -> bool {
        self.avoided_until.is_some_and(|until| now < until)
    }
}

impl Dial {
    fn node(&self, endpoint: &Endpoint) -> Node {
        let transport = Transport::new(
            Arc::clone(&self.net),
            endpoint.clone(),
            self.connect_timeout,
            self.connections_max,
        );
        Node { transport: Arc::new(transport), avoided_until: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Member, NodeState};
    use mainstay_world::RealNet;

    fn endpoint(port: u16) -> Endpoint {
        format!("127.0.0.1:{port}").parse().expect("an endpoint")
    }

    fn endpoints(ports: &[u16], now: Instant) -> Endpoints {
        let options = ClientOptions::new(ports.iter().map(|port| endpoint(*port)).collect());
        Endpoints::new(Arc::new(RealNet), &options, now)
    }

    /// A cluster whose members serve at these ports; the first number of a member is its id.
    fn cluster(term: u64, leader: Option<u64>, members: &[(u64, u16)]) -> Cluster {
        let member = |(id, port): &(u64, u16)| Member {
            id: *id,
            name: format!("n{id}"),
            role: "follower".to_owned(),
            voter: true,
            peer_address: String::new(),
            client_urls: vec![format!("http://127.0.0.1:{port}")],
            zone: String::new(),
            healthy: true,
        };
        Cluster {
            cluster_id: 9,
            epoch: 1,
            term,
            leader,
            revision: 1,
            failures_tolerated: 1,
            settings: std::collections::BTreeMap::new(),
            members: members.iter().map(member).collect(),
            node: NodeState::default(),
        }
    }

    fn asked(endpoints: &Endpoints, now: Instant) -> Endpoint {
        endpoints.preferred(now).endpoint().clone()
    }

    #[test]
    fn members_come_and_go_and_what_was_configured_stays() {
        let now = Instant::now();
        let known = endpoints(&[1, 2], now);
        known.refreshed(Some(&cluster(3, None, &[(1, 1), (3, 3)])), now);
        assert_eq!(known.all(), [endpoint(1), endpoint(2), endpoint(3)]);
        known.refreshed(Some(&cluster(3, None, &[(4, 4)])), now);
        assert_eq!(known.all(), [endpoint(1), endpoint(2), endpoint(4)]);
        known.refreshed(None, now);
        known.refreshed(Some(&cluster(3, None, &[])), now);
        assert_eq!(known.all(), [endpoint(1), endpoint(2)]);
    }

    #[test]
    fn another_clusters_members_and_addresses_that_are_none_are_not_taken_over() {
        let now = Instant::now();
        let known = endpoints(&[1], now);
        known.refreshed(Some(&cluster(3, None, &[(2, 2)])), now);
        let other = Cluster { cluster_id: 8, ..cluster(9, Some(5), &[(5, 5)]) };
        known.refreshed(Some(&other), now);
        assert_eq!(known.all(), [endpoint(1), endpoint(2)]);
        let mut odd = cluster(3, None, &[(2, 2)]);
        odd.members[0].client_urls.push("https://elsewhere".to_owned());
        known.refreshed(Some(&odd), now);
        assert_eq!(known.all(), [endpoint(1), endpoint(2)]);
    }

    #[test]
    fn requests_go_to_the_leader_and_away_from_it_when_it_fails() {
        let now = Instant::now();
        let known = endpoints(&[1, 2, 3], now);
        assert_eq!(asked(&known, now), endpoint(1));
        let members = [(1, 1), (2, 2), (3, 3)];
        known.refreshed(Some(&cluster(3, Some(2), &members)), now);
        assert_eq!(asked(&known, now), endpoint(2));
        known.failed(&endpoint(2), now);
        assert_eq!(asked(&known, now), endpoint(3));
        // Until it is worth a try again, whoever says that it leads.
        known.refreshed(Some(&cluster(3, Some(2), &members)), now);
        assert_eq!(asked(&known, now), endpoint(3));
        let later = now + AVOIDED;
        known.refreshed(Some(&cluster(3, Some(2), &members)), later);
        assert_eq!(asked(&known, later), endpoint(2));
    }

    #[test]
    fn every_node_is_tried_once_those_that_failed_last() {
        let now = Instant::now();
        let known = endpoints(&[1, 2, 3], now);
        known.failed(&endpoint(2), now);
        let mut tried = Vec::new();
        while let Some(node) = known.pick(&tried, now) {
            tried.push(node.endpoint().clone());
        }
        assert_eq!(tried, [endpoint(1), endpoint(3), endpoint(2)]);
        for port in [1, 3] {
            known.failed(&endpoint(port), now);
        }
        assert!(known.pick(&[], now).is_some(), "when all failed, one is tried all the same");
        assert_eq!(known.after(&endpoint(1), now).endpoint(), &endpoint(2));
        known.answered(&endpoint(3), 0);
        assert_eq!(known.after(&endpoint(1), now).endpoint(), &endpoint(3));
    }

    #[test]
    fn the_members_are_asked_for_after_a_second_then_seldom_and_when_something_changed() {
        let now = Instant::now();
        let known = endpoints(&[1, 2], now);
        assert!(!known.is_refresh_due(now));
        let at = now + FIRST_REFRESH;
        assert!(known.is_refresh_due(at));
        assert!(!known.is_refresh_due(at), "one caller is enough");
        known.refreshed(Some(&cluster(3, Some(1), &[(1, 1)])), at);
        let quiet = at + Duration::from_secs(29);
        assert!(!known.is_refresh_due(quiet));
        // An answer from a later term tells of another leader.
        known.answered(&endpoint(1), 4);
        assert!(known.is_refresh_due(quiet));
        known.refreshed(Some(&cluster(4, Some(1), &[(1, 1)])), quiet);
        known.failed(&endpoint(2), quiet);
        assert!(!known.is_refresh_due(quiet), "not at once again");
        assert!(known.is_refresh_due(quiet + HINTED_REFRESH));
    }

    #[test]
    fn a_client_that_is_told_not_to_does_not_ask() {
        let now = Instant::now();
        let options = ClientOptions { discover: false, ..ClientOptions::new(vec![endpoint(1)]) };
        let known = Endpoints::new(Arc::new(RealNet), &options, now);
        assert!(!known.is_refresh_due(now + Duration::from_secs(3_600)));
    }
}
