//! What peers say on control and forward connections, and how appends are laid out.
//!
//! Calls are answered one to one, recognised by the caller's number. Appends are the hot path and
//! have a layout of their own, which copies no payload twice:
//!
//! ```text
//! vote: term u64, node u64, committed u8
//! previous log id: u8 present, term u64, index u64
//! commit: u8 present, term u64, index u64
//! count u32, first index u64, then per entry: term u64, length u32, payload
//! ```

use std::io;

use bytes::{Buf, BufMut, Bytes};
use mainstay_kv::outcome::Applied;
use mainstay_storage::{LogEntry, LogPosition};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, StreamAppendError, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use serde::{Deserialize, Serialize};

use crate::{
    autopilot::AutopilotState,
    birth::{BirthNotice, BirthState},
    detection::Beat,
    election::ElectionCause,
    handover::{HandOver, HandOverError},
    log_store::{entry_of, stored_entry},
    membership::{MemberChange, MemberRequest, MembershipError, silence::SilenceReport},
    read_index::Following,
    type_config::{LogId, TypeConfig, Vote, log_id, position},
    versions::{CONFIRMATIONS_SINCE, SILENCES_SINCE},
};

/// Frame kind of a call on a control or forward connection.
pub(crate) const CALL: u8 = 3;
/// Frame kind of the answer to a call.
pub(crate) const ANSWER: u8 = 4;
/// Frame kind of an append on a log connection.
pub(crate) const APPEND: u8 = 5;
/// Frame kind of the answer to an append.
pub(crate) const APPEND_ANSWER: u8 = 6;
/// Frame kind that opens a snapshot.
pub(crate) const SNAPSHOT_BEGIN: u8 = 7;
/// Frame kind of one chunk of a snapshot.
pub(crate) const SNAPSHOT_CHUNK: u8 = 8;
/// Frame kind that ends a snapshot.
pub(crate) const SNAPSHOT_END: u8 = 9;
/// Frame kind of every answer on a snapshot connection.
pub(crate) const SNAPSHOT_ANSWER: u8 = 10;

/// A call.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Call {
    /// A heartbeat, or any append that is not worth a stream.
    Append(AppendEntriesRequest<TypeConfig>),
    /// A candidate asks for a vote.
    Vote(VoteRequest<TypeConfig>),
    /// A node asks whether it would get a vote.
    PreVote(VoteRequest<TypeConfig>),
    /// The leader hands over, and says why.
    TransferLeader(TransferLeaderRequest<TypeConfig>, ElectionCause),
    /// I am here, and this is how I am; how are you?
    Heartbeat(Beat),
    /// Do you answer right now?
    Ping,
    /// An operator wants another leader: this member, or whichever is fittest.
    HandOver(Option<u64>),
    /// Are you in a cluster?
    BirthQuery,
    /// You are a founding member of this cluster, or were added to it.
    BirthNotice(BirthNotice),
    /// Encoded proposals for the leader's log.
    Forward(Vec<Bytes>),
    /// Up to which index must a linearizable read see the log?
    ReadIndex,
    /// The members are to be changed; only the leader does.
    ChangeMembers(MemberRequest),
    /// What do you, the leader, make of the members? With at most so many decisions.
    Autopilot(u64),
    /// I lead, and these do not answer; or: you lead now, and these did not answer before.
    Silences(SilenceReport),
    /// As [`Self::ReadIndex`], asked by one who follows whom it says.
    ReadIndexFor(Following),
    /// Do you still follow me?
    Confirm(Following),
}

impl Call {
    /// The first protocol that has it; nobody who speaks an older one is sent it.
    pub(crate) const fn first_protocol(&self) -> u16 {
        match self {
            Self::Silences(_) => SILENCES_SINCE,
            Self::ReadIndexFor(_) | Self::Confirm(_) => CONFIRMATIONS_SINCE,
            _ => 1,
        }
    }
}

/// An answer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// To [`Call::Append`].
    Append(AppendEntriesResponse<TypeConfig>),
    /// To [`Call::Vote`] and [`Call::PreVote`].
    Vote(VoteResponse<TypeConfig>),
    /// To [`Call::TransferLeader`].
    TransferLeader(TransferLeaderResponse<TypeConfig>),
    /// To [`Call::Heartbeat`], [`Call::Ping`] and [`Call::Silences`].
    Pong(Pong),
    /// To [`Call::HandOver`].
    HandedOver(Result<HandOver, HandOverError>),
    /// To [`Call::BirthQuery`] and [`Call::BirthNotice`].
    Birth(BirthState),
    /// To [`Call::Forward`], one for each proposal, in order.
    Forwarded(Vec<Result<Applied, ForwardRefusal>>),
    /// To [`Call::ReadIndex`] and [`Call::ReadIndexFor`].
    ReadIndex(Option<u64>),
    /// The call cannot be served now, for the reason given.
    Refused(String),
    /// To [`Call::ChangeMembers`].
    MembersChanged(Box<Result<MemberChange, MembershipError>>),
    /// To [`Call::Autopilot`].
    Autopilot(Box<Result<AutopilotState, MembershipError>>),
    /// To anything: the caller was removed from the cluster.
    Removed,
    /// To [`Call::Confirm`].
    Confirmed(bool),
}

/// How a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pong {
    /// The node's term.
    pub(crate) term: u64,
    /// Whether it leads.
    pub(crate) leads: bool,
    /// Its committed index; of a leader, up to where entries may be committed at most.
    pub(crate) committed_index: u64,
    /// Milliseconds since a quorum last acknowledged it as leader.
    pub(crate) quorum_age_ms: Option<u64>,
    /// Age in milliseconds of its oldest unfinished sync.
    pub(crate) oldest_sync_ms: Option<u64>,
}

/// Why a forwarded proposal has no outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ForwardRefusal {
    /// It was certainly not appended: that node does not lead.
    NotLeader,
    /// It was certainly not appended: too much waits there.
    Overloaded {
        /// When to try again, in milliseconds.
        retry_after_ms: u64,
    },
    /// It was certainly not appended: that node's disk is nearly full.
    DiskReserve,
    /// It may have been appended.
    Unknown,
}

/// Appends an append request in its own layout.
pub(crate) fn put_append(
    request: AppendEntriesRequest<TypeConfig>,
    buffer: &mut Vec<u8>,
) -> io::Result<()> {
    buffer.put_u64_le(request.vote.leader_id.term);
    buffer.put_u64_le(request.vote.leader_id.voted_for);
    buffer.put_u8(u8::from(request.vote.committed));
    put_log_id(request.prev_log_id.as_ref(), buffer);
    put_log_id(request.leader_commit.as_ref(), buffer);
    let count = u32::try_from(request.entries.len()).map_err(io::Error::other)?;
    buffer.put_u32_le(count);
    buffer.put_u64_le(request.entries.first().map_or(0, |entry| entry.log_id.index));
    for entry in request.entries {
        let stored = stored_entry(entry)?;
        buffer.put_u64_le(stored.term);
        buffer.put_u32_le(u32::try_from(stored.payload.len()).map_err(io::Error::other)?);
        buffer.put_slice(&stored.payload);
    }
    Ok(())
}

/// Reads an append request; payloads are slices of `body`.
pub(crate) fn take_append(mut body: Bytes) -> io::Result<AppendEntriesRequest<TypeConfig>> {
    let vote = take_vote(&mut body)?;
    let prev_log_id = take_log_id(&mut body)?;
    let leader_commit = take_log_id(&mut body)?;
    let count = need(&mut body, 4)?.get_u32_le();
    let first = need(&mut body, 8)?.get_u64_le();
    // Each entry has at least twelve bytes: an absurd count allocates nothing absurd.
    let mut entries = Vec::with_capacity((count as usize).min(body.len() / 12 + 1));
    for offset in 0..u64::from(count) {
        let mut head = need(&mut body, 12)?;
        let term = head.get_u64_le();
        let len = head.get_u32_le() as usize;
        let payload = need(&mut body, len)?;
        let index = first.checked_add(offset).ok_or_else(malformed)?;
        entries.push(entry_of(LogEntry { index, term, payload })?);
    }
    if !body.is_empty() {
        return Err(malformed());
    }
    Ok(AppendEntriesRequest { vote, prev_log_id, entries, leader_commit })
}

/// What comes of one append of a stream.
pub(crate) type AppendOutcome = Result<Option<LogId>, StreamAppendError<TypeConfig>>;

/// Appends the answer to an append.
pub(crate) fn put_append_outcome(outcome: &AppendOutcome, buffer: &mut Vec<u8>) {
    match outcome {
        Ok(last) => {
            buffer.put_u8(0);
            put_log_id(last.as_ref(), buffer);
        }
        Err(StreamAppendError::Conflict(at)) => {
            buffer.put_u8(1);
            put_log_id(Some(at), buffer);
        }
        Err(StreamAppendError::HigherVote(vote)) => {
            buffer.put_u8(2);
            buffer.put_u64_le(vote.leader_id.term);
            buffer.put_u64_le(vote.leader_id.voted_for);
            buffer.put_u8(u8::from(vote.committed));
        }
    }
}

/// Reads the answer to an append.
pub(crate) fn take_append_outcome(mut body: Bytes) -> io::Result<AppendOutcome> {
    match need(&mut body, 1)?.get_u8() {
        0 => Ok(Ok(take_log_id(&mut body)?)),
        1 => {
            let at = take_log_id(&mut body)?.ok_or_else(malformed)?;
            Ok(Err(StreamAppendError::Conflict(at)))
        }
        2 => Ok(Err(StreamAppendError::HigherVote(take_vote(&mut body)?))),
        _ => Err(malformed()),
    }
}

fn put_log_id(id: Option<&LogId>, buffer: &mut Vec<u8>) {
    buffer.put_u8(u8::from(id.is_some()));
    let position = id.map_or(LogPosition { index: 0, term: 0 }, position);
    buffer.put_u64_le(position.term);
    buffer.put_u64_le(position.index);
}

fn take_log_id(body: &mut Bytes) -> io::Result<Option<LogId>> {
    let mut head = need(body, 17)?;
    let present = head.get_u8();
    let (term, index) = (head.get_u64_le(), head.get_u64_le());
    match present {
        0 => Ok(None),
        1 => Ok(Some(log_id(LogPosition { index, term }))),
        _ => Err(malformed()),
    }
}

fn take_vote(body: &mut Bytes) -> io::Result<Vote> {
    let mut head = need(body, 17)?;
    let (term, node_id) = (head.get_u64_le(), head.get_u64_le());
    Ok(if head.get_u8() == 0 {
        Vote::new(term, node_id)
    } else {
        Vote::new_committed(term, node_id)
    })
}

/// The next `len` bytes, taken off `body`.
fn need(body: &mut Bytes, len: usize) -> io::Result<Bytes> {
    if body.len() < len { Err(malformed()) } else { Ok(body.split_to(len)) }
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a malformed message")
}
