//! Asking an address who is there, as one who belongs to no cluster.
//!
//! For tools that must know whether a node lives before they do what cannot be taken back. It
//! counts every sign of life: a node that turns the caller away has answered, and an address that
//! takes connections without a word may be a node that stands still.

use std::{sync::Arc, time::Duration};

use mainstay_world::{self as world, Net};

use crate::{
    peer::{
        frame::split,
        handshake::{self, ConnectionKind, Introduction},
    },
    versions::{FormatInForce, Versions},
};

/// What stands behind a peer address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerAnswer {
    /// Nothing takes connections there.
    Nobody,
    /// A connection was taken, and nothing came that says who took it: a node that stands still, or
    /// another program.
    Silent,
    /// A node.
    Node {
        /// Its id.
        node_id: u64,
        /// Its name.
        name: String,
        /// Its cluster, 0 for none.
        cluster_id: u64,
        /// The epoch of its cluster.
        epoch: u64,
    },
}

/// Asks the peer address `address` who is there; waits `deadline` for each of connection and answer.
pub async fn ask_peer(net: &Arc<dyn Net>, address: &str, deadline: Duration) -> PeerAnswer {
    let Ok(Ok(stream)) = world::timeout(deadline, net.connect(address)).await else {
        return PeerAnswer::Nobody;
    };
    let introduction = Introduction {
        cluster_id: 0,
        epoch: 0,
        node_id: world::random_u64().max(1),
        versions: Versions::default(),
        format: FormatInForce::default(),
        name: "inquiry".to_owned(),
        heartbeat_ms: 0,
        election_timeout_ms_min: 0,
        election_timeout_ms_max: 0,
    };
    let (mut reader, mut writer) = split(stream);
    let hello = introduction.hello(ConnectionKind::Control);
    let answer = handshake::inquire(&mut reader, &mut writer, &hello);
    match world::timeout(deadline, answer).await {
        Ok(Ok(theirs)) => PeerAnswer::Node {
            node_id: theirs.node_id,
            name: theirs.name,
            cluster_id: theirs.cluster_id,
            epoch: theirs.epoch,
        },
        Ok(Err(_)) | Err(_) => PeerAnswer::Silent,
    }
}
