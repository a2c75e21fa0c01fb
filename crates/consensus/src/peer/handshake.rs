//! The first frame each way on a peer connection: who is there, and what for.
//!
//! The one who dials says everything about itself; the other answers with the same and a verdict.
//! A node of another cluster, another protocol or format, a removed member or a folder that changed
//! hands is turned away here with a sentence, before anything it sends can matter.
//!
//! Both frames begin with a front that every version understands, for ever, little endian:
//!
//! ```text
//! 0   MSTYPEER                 so that a stranger on the port is recognised
//! 8   oldest protocol spoken   u16
//! 10  newest protocol spoken   u16
//! ```
//!
//! What follows is in the codec's form and belongs to the protocols; it is read only if the two
//! ranges have one in common.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    peer::frame::{FrameError, FrameReader, FrameWriter},
    versions::{FormatInForce, PeerVersions, Span, Versions, holds},
};

/// Frame kind of a greeting.
pub(crate) const HELLO: u8 = 1;
/// Frame kind of the answer to a greeting.
pub(crate) const HELLO_ANSWER: u8 = 2;

/// First bytes of a greeting.
const MAGIC: [u8; 8] = *b"MSTYPEER";

/// Length of the front.
const FRONT_LEN: usize = 12;

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
    /// Oldest and newest protocol spoken; they stand in the front.
    #[serde(skip)]
    pub(crate) protocols: (u16, u16),
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
    /// Oldest and newest replicated format that is applied.
    pub(crate) formats: (u64, u64),
    /// The format that its store follows; 0 while that is empty.
    pub(crate) format: u64,
    /// What the connection is for.
    pub(crate) kind: ConnectionKind,
}

/// Who a node is, in every greeting it sends.
#[derive(Debug, Clone)]
pub(crate) struct Introduction {
    pub(crate) cluster_id: u64,
    pub(crate) epoch: u64,
    pub(crate) node_id: u64,
    pub(crate) versions: Versions,
    pub(crate) format: FormatInForce,
    pub(crate) name: String,
    pub(crate) heartbeat_ms: u64,
    pub(crate) election_timeout_ms_min: u64,
    pub(crate) election_timeout_ms_max: u64,
}

impl Hello {
    /// What it announces, to be spoken to in `protocol`.
    pub(crate) const fn versions(&self, protocol: u16) -> PeerVersions {
        PeerVersions { protocol, formats: self.formats }
    }
}

impl Introduction {
    pub(crate) fn hello(&self, kind: ConnectionKind) -> Hello {
        Hello {
            protocols: self.versions.protocols,
            cluster_id: self.cluster_id,
            epoch: self.epoch,
            node_id: self.node_id,
            folder_id: self.node_id,
            name: self.name.clone(),
            heartbeat_ms: self.heartbeat_ms,
            election_timeout_ms_min: self.election_timeout_ms_min,
            election_timeout_ms_max: self.election_timeout_ms_max,
            formats: self.versions.formats,
            format: self.format.now(),
            kind,
        }
    }
}

/// Why a greeting is turned away.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub(crate) enum HandshakeRefusal {
    /// The two belong to different clusters.
    #[error("it belongs to cluster {theirs}, this node to cluster {ours}")]
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
    #[error(
        "it speaks peer protocol {}, this node {}; upgrade the older of the two, one release at a \
         time", Span(theirs.0, theirs.1), Span(ours.0, ours.1)
    )]
    Protocol {
        /// Those of the answering node.
        ours: (u16, u16),
        /// Those of the greeting node.
        theirs: (u16, u16),
    },
    /// A known id with another folder.
    #[error("node {node_id} is known with another data folder")]
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
    /// One of the two cannot apply the format that the other follows, or none is known to both.
    #[error(
        "it applies format {} of the log{}, this node {}{}; run a version on both that knows the \
         format in force, one release apart at most",
        Span(theirs.0, theirs.1), following(*theirs_now), Span(ours.0, ours.1), following(*ours_now)
    )]
    Format {
        /// What the answering node applies.
        ours: (u64, u64),
        /// The format that its store follows, 0 while that is empty.
        ours_now: u64,
        /// What the greeting node applies.
        theirs: (u64, u64),
        /// The format that its store follows, 0 while that is empty.
        theirs_now: u64,
    },
}

/// The format in force, as the end of a clause.
fn following(format: u64) -> String {
    if format == 0 { String::new() } else { format!(" and follows {format}") }
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
    /// No protocol is spoken by both; what else the other end said cannot be read.
    #[error(
        "the other end speaks peer protocol {}, this node {}; upgrade the older of the two, one \
         release at a time", Span(theirs.0, theirs.1), Span(ours.0, ours.1)
    )]
    Protocol {
        /// Those of this node.
        ours: (u16, u16),
        /// Those of the other end.
        theirs: (u16, u16),
    },
    /// The other end turned us away.
    #[error("the peer {name} turned this node away: {refusal}")]
    Refused {
        /// The peer's name.
        name: String,
        /// Why.
        refusal: HandshakeRefusal,
    },
}

impl HandshakeError {
    /// Whether the two nodes run versions of the program that cannot work together.
    pub(crate) const fn is_of_versions(&self) -> bool {
        match self {
            Self::Protocol { .. } => true,
            Self::Refused { refusal, .. } => matches!(
                refusal,
                HandshakeRefusal::Protocol { .. } | HandshakeRefusal::Format { .. }
            ),
            Self::Frame(_) | Self::Stranger => false,
        }
    }
}

/// Greets, from the dialling end; what the other end says of itself, and what can be spoken and
/// applied with it.
pub(crate) async fn greet(
    reader: &mut FrameReader,
    writer: &mut FrameWriter,
    hello: &Hello,
) -> Result<(Hello, PeerVersions), HandshakeError> {
    let answer = exchange(reader, writer, hello).await?;
    match answer.verdict {
        Ok(protocol) => {
            let versions = answer.hello.versions(protocol);
            Ok((answer.hello, versions))
        }
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
    send(writer, HELLO, hello.protocols, hello).await?;
    let frame = reader.next().await?;
    if frame.kind != HELLO_ANSWER {
        return Err(HandshakeError::Stranger);
    }
    let (theirs, mut answer): (_, HelloAnswer) = read(hello.protocols, &frame.body)?;
    answer.hello.protocols = theirs;
    Ok(answer)
}

/// Reads a greeting, at the answering end. [`HandshakeError::Protocol`] is to be answered with
/// [`answer_without_a_common_protocol`].
pub(crate) async fn listen(
    reader: &mut FrameReader,
    versions: Versions,
) -> Result<Hello, HandshakeError> {
    let frame = reader.next().await?;
    if frame.kind != HELLO {
        return Err(HandshakeError::Stranger);
    }
    let (theirs, mut hello): (_, Hello) = read(versions.protocols, &frame.body)?;
    hello.protocols = theirs;
    Ok(hello)
}

/// Tells a node with which there is no common protocol what is spoken here, and nothing else.
pub(crate) async fn answer_without_a_common_protocol(
    writer: &mut FrameWriter,
    versions: Versions,
) -> Result<(), HandshakeError> {
    let front = front(versions.protocols);
    writer.push(HELLO_ANSWER, |buffer| buffer.extend_from_slice(&front))?;
    writer.flush().await?;
    Ok(())
}

/// Sends the answer to a greeting.
pub(crate) async fn answer(
    writer: &mut FrameWriter,
    hello: Hello,
    verdict: Result<u16, HandshakeRefusal>,
) -> Result<(), HandshakeError> {
    let protocols = hello.protocols;
    send(writer, HELLO_ANSWER, protocols, &HelloAnswer { hello, verdict }).await
}

async fn send<T: Serialize>(
    writer: &mut FrameWriter,
    kind: u8,
    protocols: (u16, u16),
    message: &T,
) -> Result<(), HandshakeError> {
    let body = mainstay_codec::encode(message).expect("a greeting has a fixed shape");
    writer.push(kind, |buffer| {
        buffer.extend_from_slice(&front(protocols));
        buffer.extend_from_slice(&body);
    })?;
    writer.flush().await?;
    Ok(())
}

/// What every version understands.
fn front(protocols: (u16, u16)) -> [u8; FRONT_LEN] {
    let mut front = [0; FRONT_LEN];
    front[..8].copy_from_slice(&MAGIC);
    front[8..10].copy_from_slice(&protocols.0.to_le_bytes());
    front[10..].copy_from_slice(&protocols.1.to_le_bytes());
    front
}

/// The other end's protocols, and what follows the front if one of them is spoken here.
fn read<T: DeserializeOwned>(
    ours: (u16, u16),
    frame: &[u8],
) -> Result<((u16, u16), T), HandshakeError> {
    let Some((front, body)) = frame.split_first_chunk::<FRONT_LEN>() else {
        return Err(HandshakeError::Stranger);
    };
    if !front.starts_with(&MAGIC) {
        return Err(HandshakeError::Stranger);
    }
    let theirs =
        (u16::from_le_bytes([front[8], front[9]]), u16::from_le_bytes([front[10], front[11]]));
    if ours.1.min(theirs.1) < ours.0.max(theirs.0) {
        return Err(HandshakeError::Protocol { ours, theirs });
    }
    let message = mainstay_codec::decode(body, HELLO_BYTES_MAX)
        .map_err(|_malformed| HandshakeError::Stranger)?;
    Ok((theirs, message))
}

/// What two nodes have in common, or why they have nothing to say to each other.
///
/// A node that is not in a cluster yet (id 0) is let in on control connections only: that is how
/// clusters are born.
pub(crate) fn judge(ours: &Introduction, theirs: &Hello) -> Result<u16, HandshakeRefusal> {
    let versions = ours.versions;
    let Some(protocol) = versions.common_protocol(theirs.protocols) else {
        let (ours, theirs) = (versions.protocols, theirs.protocols);
        return Err(HandshakeRefusal::Protocol { ours, theirs });
    };
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
    judge_formats(ours, theirs)?;
    Ok(protocol)
}

/// Each of the two must be able to apply what the other's store follows; and if that is nothing
/// yet, there must be something that both can.
fn judge_formats(ours: &Introduction, theirs: &Hello) -> Result<(), HandshakeRefusal> {
    let (known, ours_now) = (ours.versions.formats, ours.format.now());
    let applies = |range, now| now == 0 || holds(range, now);
    let overlap = known.0 <= theirs.formats.1 && theirs.formats.0 <= known.1;
    if overlap && applies(theirs.formats, ours_now) && applies(known, theirs.format) {
        return Ok(());
    }
    Err(HandshakeRefusal::Format {
        ours: known,
        ours_now,
        theirs: theirs.formats,
        theirs_now: theirs.format,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn introduction(cluster_id: u64, node_id: u64) -> Introduction {
        Introduction {
            cluster_id,
            epoch: u64::from(cluster_id != 0),
            node_id,
            versions: Versions::default(),
            format: FormatInForce::default(),
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
        assert_eq!(judge(&ours, &hello(7, 2, ConnectionKind::Log)), Ok(ours.versions.protocols.1));
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
        newer.protocols = (ours.versions.protocols.1 + 1, 9);
        assert!(matches!(judge(&ours, &newer), Err(HandshakeRefusal::Protocol { .. })));
    }

    #[test]
    fn a_node_without_a_cluster_gets_a_control_connection_and_nothing_else() {
        let ours = introduction(7, 1);
        assert!(judge(&ours, &introduction(0, 2).hello(ConnectionKind::Control)).is_ok());
        assert!(judge(&ours, &introduction(0, 2).hello(ConnectionKind::Log)).is_err());
    }

    #[test]
    fn each_must_be_able_to_apply_what_the_other_follows() {
        let follows = |node_id, formats, now| {
            let mut store = mainstay_kv::Store::new();
            let ours = Introduction {
                versions: Versions { protocols: (1, 1), formats },
                ..introduction(7, node_id)
            };
            if now > 0 {
                let settings = mainstay_kv::Settings { format: now, ..Default::default() };
                let command = mainstay_kv::Command::Configure(settings);
                let envelope = mainstay_kv::Envelope {
                    format: 1,
                    epoch: 1,
                    stamp: mainstay_kv::Stamp { term: 1, time_ms: 0 },
                    wall_ms: 0,
                    proposal: mainstay_kv::Proposal::unattributed(command),
                };
                store.apply(envelope, 1);
            }
            ours.format.note(&store);
            ours
        };
        for (ours, theirs, welcome) in [
            (((1, 1), 1), ((1, 2), 1), true),
            (((1, 2), 1), ((1, 1), 1), true),
            (((1, 2), 2), ((1, 1), 1), false),
            (((1, 1), 1), ((1, 2), 2), false),
            (((1, 2), 1), ((2, 3), 0), false),
            (((1, 2), 2), ((2, 3), 0), true),
            (((1, 2), 0), ((2, 3), 0), true),
            (((1, 1), 0), ((2, 3), 0), false),
        ] {
            let here = follows(1, ours.0, ours.1);
            let hello = follows(2, theirs.0, theirs.1).hello(ConnectionKind::Log);
            let verdict = judge(&here, &hello);
            assert_eq!(verdict.is_ok(), welcome, "{ours:?} {theirs:?}: {verdict:?}");
        }
        let here = follows(1, (1, 2), 2);
        let older = follows(2, (1, 1), 1).hello(ConnectionKind::Log);
        let refusal = judge(&here, &older).expect_err("it cannot follow").to_string();
        assert!(
            refusal.contains("applies format 1 only") && refusal.contains("1 to 2 and follows 2"),
            "{refusal}"
        );
    }

    #[test]
    fn the_front_has_golden_bytes_and_is_all_that_strangers_to_the_protocol_read() {
        let ours = (1, 2);
        assert_eq!(&front(ours), b"MSTYPEER\x01\x00\x02\x00");
        let newer = [&front((3, 4))[..], b"something that nobody here understands"].concat();
        match read::<Hello>(ours, &newer) {
            Err(HandshakeError::Protocol { theirs, .. }) => assert_eq!(theirs, (3, 4)),
            other => panic!("{other:?}"),
        }
        for stranger in [&b"GET / HTTP/1.1"[..], &front(ours)[..7], &[0; 64], &front(ours)[..]] {
            let read = read::<Hello>(ours, stranger);
            assert!(matches!(read, Err(HandshakeError::Stranger)), "{read:?}");
        }
    }

    #[test]
    fn a_greeting_comes_back_as_it_was_sent() {
        let hello = introduction(7, 1).hello(ConnectionKind::Log);
        let mut frame = front(hello.protocols).to_vec();
        mainstay_codec::encode_into(&hello, &mut frame).expect("encodes");
        let (protocols, mut found): (_, Hello) = read((1, 1), &frame).expect("reads");
        found.protocols = protocols;
        assert_eq!(found, hello);
    }
}
