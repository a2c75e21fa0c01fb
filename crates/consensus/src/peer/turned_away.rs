//! Who was turned away, and why: told once, not at every attempt.
//!
//! A peer that is turned away tries again for as long as it runs, many times a second.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use mainstay_world::Instant;
use tracing::{debug, warn};

use crate::peer::handshake::{HandshakeRefusal, Hello};

/// How often one peer's one reason is told.
const TELLING_INTERVAL: Duration = Duration::from_secs(60);

/// Peers that are remembered; after more, all are told anew.
const PEERS_MAX: usize = 256;

/// What was told last of each peer.
#[derive(Debug, Default)]
pub(crate) struct TurnedAway(Mutex<BTreeMap<u64, (HandshakeRefusal, Instant)>>);

impl TurnedAway {
    /// Logs that a peer was turned away, if that is news.
    pub(crate) fn tell(&self, from: &SocketAddr, theirs: &Hello, refusal: &HandshakeRefusal) {
        let node = theirs.node_id;
        // A node that was just added is dialled before it knows its cluster.
        let knows_nobody = matches!(refusal, HandshakeRefusal::Cluster { ours: 0, .. });
        if knows_nobody || !self.is_news(theirs.node_id, refusal) {
            debug!(%from, name = %theirs.name, %node, %refusal, "a peer was turned away");
        } else {
            warn!(%from, name = %theirs.name, %node, %refusal, "a peer was turned away");
        }
    }

    fn is_news(&self, peer: u64, refusal: &HandshakeRefusal) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = |(before, at): &(HandshakeRefusal, Instant)| {
            before == refusal && at.elapsed() < TELLING_INTERVAL
        };
        if told.get(&peer).is_some_and(is_known) {
            return false;
        }
        if told.len() >= PEERS_MAX {
            told.clear();
        }
        told.insert(peer, (refusal.clone(), Instant::now()));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_reason_of_one_peer_is_told_once() {
        let told = TurnedAway::default();
        let other = HandshakeRefusal::Cluster { ours: 1, theirs: 2 };
        assert!(told.is_news(4, &HandshakeRefusal::Removed));
        assert!(!told.is_news(4, &HandshakeRefusal::Removed));
        assert!(told.is_news(5, &HandshakeRefusal::Removed));
        assert!(told.is_news(4, &other) && !told.is_news(4, &other));
        for peer in 10..10 + PEERS_MAX as u64 {
            assert!(told.is_news(peer, &other));
        }
    }
}
