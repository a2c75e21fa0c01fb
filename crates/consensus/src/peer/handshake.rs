//! The first frame each way on a peer connection: who is there, and what for.
//!
//! The one who dials says everything about itself; the other answers with the same and a verdict.
//! A node of another cluster, a newer protocol, a removed member or a folder that changed hands is
//! turned away here with a sentence, before anything it sends can matter.

use serde::{Deserialize, Serialize};

use crate::peer::frame::{FrameError, FrameReader, FrameWriter};

/// The protocol this version speaks, oldest and newest.
pub(crate) const PROTOCOL: (u16, u16) = (1, 1);

/// Frame kind of a greeting.
pub(crate) const HELLO: u8 = 1;
/// Frame kind of the answer to a greeting.
pub(crate) const HELLO_ANSWER: u8 = 2;

/// First bytes of a greeting, so that a stranger on the port is recognised.
const MAGIC: [u8; 8] = *b"MSTYPEER";

/// The largest greeting in bytes.
const HELLO_BYTES_MAX: usize = 16 * 1024;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ConnectionKind {
    /// Heartbeats, votes, pings, birth.
    Control,
    /// A stream of appends.
    Log,
    /// One snapshot.
    Snapshot,
    /// Proposals and read indexes on their way to the leader.
    Forward,
}

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    magic: [u8; 8],
    /// Oldest protocol spoken.
    pub(crate) protocol_min: u16,
    /// Newest protocol spoken.
    pub(crate) protocol_max: u16,
    /// The cluster, 0 before it is born.
    pub(crate) cluster_id: u64,
    /// The cluster's epoch, 0 before it is born.
    pub(crate) epoch: u64,
    /// The node.
    pub(crate) node_id: u64,
    /// The data folder; the node id names one for ever.
    pub(crate) folder_id: u64,
    /// The node's name.
    pub(crate) name: String,
    /// Heartbeat interval in milliseconds.
    pub(crate) heartbeat_ms: u64,
    /// Shortest election timeout in milliseconds.
    pub(crate) election_timeout_ms_min: u64,
    /// Longest election timeout in milliseconds.
    pub(crate) election_timeout_ms_max: u64,
    /// Newest envelope format that can be read.
    pub(crate) format_max: u16,
    /// What the connection is for.
    pub(crate) kind: ConnectionKind,
}

/// Who a node is, in every greeting it sends.
#[derive(Debug, Clone)]
pub(crate) struct Introduction {
    pub(crate) cluster_id: u64,
    pub(crate) epoch: u64,
    pub(crate) node_id: u64,
    pub(crate) name: String,
    pub(crate) heartbeat_ms: u64,
    pub(crate) election_timeout_ms_min: u64,
    pub(crate) election_timeout_ms_max: u64,
}

impl Introduction {
    pub(crate) fn hello(&self, kind: ConnectionKind) -> Hello {
        Hello {
            magic: MAGIC,
            protocol_min: PROTOCOL.0,
            protocol_max: PROTOCOL.1,
            cluster_id: self.cluster_id,
            epoch: self.epoch,
            node_id: self.node_id,
            folder_id: self.node_id,
            name: self.name.clone(),
            heartbeat_ms: self.heartbeat_ms,
            election_timeout_ms_min: self.election_timeout_ms_min,
            election_timeout_ms_max: self.election_timeout_ms_max,
            format_max: mainstay_kv::ENVELOPE_FORMAT,
            kind,
        }
    }
}

/// Why a greeting is turned away.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub(crate) enum HandshakeRefusal {
    /// The two belong to different clusters.
    #[error("it belongs to cluster {theirs:016x}, this node to cluster {ours:016x}")]
    Cluster {
        /// The answering node's cluster.
        ours: u64,
        /// The greeting node's cluster.
        theirs: u64,
    },
    /// The two are in different epochs: one was restored, the other was not.
    #[error("it is in epoch {theirs}, this node in epoch {ours}")]
    Epoch {
        /// The answering node's epoch.
        ours: u64,
        /// The greeting node's epoch.
        theirs: u64,
    },
    /// No protocol is spoken by both.
    #[error("it speaks peer protocol {theirs_min} to {theirs_max}, this node {} to {}", PROTOCOL.0, PROTOCOL.1)]
    Protocol {
        /// Oldest spoken by the greeting node.
        theirs_min: u16,
        /// Newest spoken by the greeting node.
        theirs_max: u16,
    },
    /// A known id with another folder.
    #[error("node {node_id:016x} is known with another data folder")]
    Folder {
        /// The greeting node.
        node_id: u64,
    },
    /// The greeting is from the node itself: an address is wrong.
    #[error("that is this node itself; check the peer addresses")]
    Myself,
    /// This node answers nobody for now.
    #[error("this node's storage failed; it answers no peer until it is restarted")]
    StorageFailed,
    /// The greeting node was removed from the cluster.
    #[error("it was removed from the cluster, and a removed node is never admitted again")]
    Removed,
}

/// The answer to a greeting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HelloAnswer {
    /// Who answers.
    pub(crate) hello: Hello,
    /// Whether the connection goes on, and with which protocol.
    pub(crate) verdict: Result<u16, HandshakeRefusal>,
}

/// A handshake that did not come about.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    /// The connection broke.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The other end is not a Mainstay peer.
    #[error("the other end does not speak the peer protocol")]
    Stranger,
    /// The other end turned us away.
    #[error("the peer {name} turned this node away: {refusal}")]
    Refused {
        /// The peer's name.
        name: String,
        /// Why.
        refusal: HandshakeRefusal,
    },
}

/// Greets, from the dialling end; what the other end says of itself.
pub(crate) async fn greet(
    reader: &mut FrameReader,
    writer: &mut FrameWriter,
    hello: &Hello,
) -> Result<Hello, HandshakeError> {
    let answer = exchange(reader, writer, hello).await?;
    match answer.verdict {
        Ok(_protocol) => Ok(answer.hello),
        Err(refusal) => Err(HandshakeError::Refused { name: answer.hello.name, refusal }),
    }
}

/// Greets to learn who is there, whatever the other end thinks of it.
pub(crate) async fn inquire(
    reader: &mut FrameReader,
    writer: &mut FrameWriter,
    hello: &Hello,
) -> Result<Hello, HandshakeError> {
    exchange(reader, writer, hello).await.map(|answer| answer.hello)
}

async fn exchange(
    reader: &mut FrameReader,
    writer: &mut FrameWriter,
    hello: &Hello,
) -> Result<HelloAnswer, HandshakeError> {
    send(writer, HELLO, hello).await?;
    let frame = reader.next().await?;
    if frame.kind != HELLO_ANSWER {
        return Err(HandshakeError::Stranger);
    }
    mainstay_codec::decode(&frame.body, HELLO_BYTES_MAX)
        .map_err(|_malformed| HandshakeError::Stranger)
}

/// Reads a greeting, at the answering end.
pub(crate) async fn listen(reader: &mut FrameReader) -> Result<Hello, HandshakeError> {
    let frame = reader.next().await?;
    if frame.kind != HELLO {
        return Err(HandshakeError::Stranger);
    }
    let hello: Hello = mainstay_codec::decode(&frame.body, HELLO_BYTES_MAX)
        .map_err(|_malformed| HandshakeError::Stranger)?;
    if hello.magic == MAGIC { Ok(hello) } else { Err(HandshakeError::Stranger) }
}

/// Sends the answer to a greeting.
pub(crate) async fn answer(
    writer: &mut FrameWriter,
    hello: Hello,
    verdict: Result<u16, HandshakeRefusal>,
) -> Result<(), HandshakeError> {
    send(writer, HELLO_ANSWER, &HelloAnswer { hello, verdict }).await
}

async fn send<T: Serialize>(
    writer: &mut FrameWriter,
    kind: u8,
    message: &T,
) -> Result<(), HandshakeError> {
    let body = mainstay_codec::encode(message).expect("a greeting has a fixed shape");
    writer.push(kind, |buffer| buffer.extend_from_slice(&body))?;
    writer.flush().await?;
    Ok(())
}

/// What two nodes have in common, or why they have nothing to say to each other.
///
/// A node that is not in a cluster yet (id 0) is let in on control connections only: that is how
/// clusters are born.
pub(crate) fn judge(ours: &Introduction, theirs: &Hello) -> Result<u16, HandshakeRefusal> {
    let protocol = PROTOCOL.1.min(theirs.protocol_max);
    if protocol < PROTOCOL.0 || protocol < theirs.protocol_min {
        return Err(HandshakeRefusal::Protocol {
            theirs_min: theirs.protocol_min,
            theirs_max: theirs.protocol_max,
        });
    }
    if theirs.node_id == ours.node_id {
        return Err(HandshakeRefusal::Myself);
    }
    if theirs.folder_id != theirs.node_id {
        return Err(HandshakeRefusal::Folder { node_id: theirs.node_id });
    }
    let unborn = ours.cluster_id == 0 || theirs.cluster_id == 0;
    if unborn && theirs.kind == ConnectionKind::Control {
        return Ok(protocol);
    }
    if theirs.cluster_id != ours.cluster_id {
        return Err(HandshakeRefusal::Cluster { ours: ours.cluster_id, theirs: theirs.cluster_id });
    }
    if theirs.epoch != ours.epoch {
        return Err(HandshakeRefusal::Epoch { ours: ours.epoch, theirs: theirs.epoch });
    }
    Ok(protocol)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn introduction(cluster_id: u64, node_id: u64) -> Introduction {
        Introduction {
            cluster_id,
            epoch: u64::from(cluster_id != 0),
            node_id,
            name: "n".to_owned(),
            heartbeat_ms: 50,
            election_timeout_ms_min: 150,
            election_timeout_ms_max: 300,
        }
    }

    #[test]
    fn members_of_one_cluster_get_along_and_others_are_told_why_not() {
        let ours = introduction(7, 1);
        let hello = |cluster, node, kind| introduction(cluster, node).hello(kind);
        assert_eq!(judge(&ours, &hello(7, 2, ConnectionKind::Log)), Ok(1));
        assert_eq!(
            judge(&ours, &hello(8, 2, ConnectionKind::Control)),
            Err(HandshakeRefusal::Cluster { ours: 7, theirs: 8 })
        );
        assert_eq!(
            judge(&ours, &hello(7, 1, ConnectionKind::Control)),
            Err(HandshakeRefusal::Myself)
        );
        let mut later = hello(7, 2, ConnectionKind::Log);
        later.epoch = 2;
        assert_eq!(judge(&ours, &later), Err(HandshakeRefusal::Epoch { ours: 1, theirs: 2 }));
        let mut newer = hello(7, 2, ConnectionKind::Log);
        (newer.protocol_min, newer.protocol_max) = (2, 3);
        assert!(matches!(judge(&ours, &newer), Err(HandshakeRefusal::Protocol { .. })));
    }

    #[test]
    fn a_node_without_a_cluster_gets_a_control_connection_and_nothing_else() {
        let ours = introduction(7, 1);
        assert!(judge(&ours, &introduction(0, 2).hello(ConnectionKind::Control)).is_ok());
        assert!(judge(&ours, &introduction(0, 2).hello(ConnectionKind::Log)).is_err());
    }
}
