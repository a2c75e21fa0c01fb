//! openraft's network on links and streams.
//!
//! It translates and nothing more: which connection serves which purpose, and which of openraft's
//! errors says what a failure of ours proves.
#![expect(clippy::result_large_err, reason = "the error type is openraft's")]

use std::{
    future::Future,
    sync::{Arc, PoisonError},
    time::Duration,
};

use futures_util::{Stream, StreamExt};
use mainstay_world::Buggify;
use openraft::{
    OptionalSend, RaftNetworkFactory, RaftNetworkV2,
    base::{BoxFuture, BoxStream},
    errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable},
    network::{RPCOption, stream_append_sequential},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
        TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
    },
};

use crate::{
    handover::TransferCause,
    peer::{
        channel::CallError,
        handshake::ConnectionKind,
        link::{Link, Links},
        log_stream::{self, LogConnection, LogStreamError},
        message::{Answer, Call},
        snapshot_stream::{self, SendError},
    },
    state_machine::SnapshotData,
    status::MemberRecord,
    type_config::{RpcError, TypeConfig, Vote},
};

/// Makes openraft's connections to the other members.
pub(crate) struct PeerNetworkFactory {
    pub(crate) links: Arc<Links>,
    pub(crate) buggify: Buggify,
    /// The longest wait for the answer to one append; after it the stream is dropped.
    pub(crate) answer_deadline: Duration,
    /// Why leadership is being handed over, if it is.
    pub(crate) cause: TransferCause,
}

impl RaftNetworkFactory<TypeConfig> for PeerNetworkFactory {
    type Network = PeerNetwork;

    async fn new_client(&mut self, target: u64, node: &MemberRecord) -> PeerNetwork {
        self.network(target, node, Use::Stream)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &MemberRecord) -> PeerNetwork {
        self.network(target, node, Use::Calls)
    }
}

impl PeerNetworkFactory {
    fn network(&self, target: u64, node: &MemberRecord, purpose: Use) -> PeerNetwork {
        PeerNetwork {
            link: self.links.to(target, node),
            links: Arc::clone(&self.links),
            buggify: self.buggify.clone(),
            dial_deadline: self.links.dial_deadline(),
            answer_deadline: self.answer_deadline,
            cause: Arc::clone(&self.cause),
            purpose,
            connection: None,
        }
    }
}

/// What a client of openraft's is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    /// Log replication, pipelined on a connection of its own.
    Stream,
    /// Heartbeats, one call each on the control connection.
    Calls,
}

/// openraft's connection to one member.
pub(crate) struct PeerNetwork {
    /// The link as it was when the client was made.
    link: Link,
    links: Arc<Links>,
    buggify: Buggify,
    dial_deadline: Duration,
    answer_deadline: Duration,
    cause: TransferCause,
    purpose: Use,
    connection: Option<LogConnection>,
}

impl PeerNetwork {
    /// The link as it is now: openraft keeps its clients when a member moves to another address.
    fn link(&self) -> Link {
        self.links.find(self.link.node_id).unwrap_or_else(|| self.link.clone())
    }

    async fn call(&self, call: Call, option: &RPCOption) -> Result<Answer, RpcError> {
        self.link().control.call(&call, option.soft_ttl()).await.map_err(rpc_error)
    }
}

impl RaftNetworkV2<TypeConfig> for PeerNetwork {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RpcError> {
        let (term, number) = (rpc.vote.leader_id.term, self.links.contact.draw());
        match self.call(Call::Append(rpc), &option).await? {
            Answer::Append(response) => {
                if !matches!(response, AppendEntriesResponse::HigherVote(_)) {
                    self.links.contact.answered(self.link.node_id, term, number);
                }
                Ok(response)
            }
            _ => Err(out_of_turn()),
        }
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RpcError>>, RpcError>,
    >
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        if self.purpose == Use::Calls {
            return stream_append_sequential(self, input, option);
        }
        Box::pin(async move {
            let route = self.link().route(ConnectionKind::Log);
            let answers = log_stream::run(
                &mut self.connection,
                &route,
                self.dial_deadline,
                self.answer_deadline,
                input,
            )
            .await
            .map_err(stream_error)?;
            let answers: BoxStream<'s, _> =
                Box::pin(answers.map(|answer| answer.map_err(stream_error)));
            Ok(answers)
        })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        let own = own_vote_again(&self.buggify, &rpc);
        match self.call(Call::Vote(rpc), &option).await {
            Ok(Answer::Vote(response)) => Ok(own.unwrap_or(response)),
            Ok(_) => own.ok_or_else(out_of_turn),
            Err(error) => own.ok_or(error),
        }
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        let own = own_vote_again(&self.buggify, &rpc);
        match self.call(Call::PreVote(rpc), &option).await {
            Ok(Answer::Vote(response)) => Ok(own.unwrap_or(response)),
            Ok(_) => own.ok_or_else(out_of_turn),
            Err(error) => own.ok_or(error),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: openraft::alias::SnapshotOf<TypeConfig, SnapshotData>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let SnapshotData::Stored(file) = snapshot.snapshot else {
            return Err(network_error("a received snapshot cannot be passed on").into());
        };
        let route = self.link().route(ConnectionKind::Snapshot);
        let last = snapshot.meta.last_log_id.as_ref().map_or(0, |last| last.index);
        let _under_way = self.links.snapshot_begins(self.link.node_id, last);
        let sending = snapshot_stream::send(&route, self.dial_deadline, vote, file);
        tokio::select! {
            biased;
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = sending => sent.map_err(|error| match error {
                SendError::Frame(_) => network_error(&error).into(),
                SendError::Unreachable(_)
                | SendError::Timeout
                | SendError::Read(_)
                | SendError::Mark(_)
                | SendError::Refused(_) => unreachable_peer(&error).into(),
            }),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RpcError> {
        let cause = *self.cause.lock().unwrap_or_else(PoisonError::into_inner);
        match self.call(Call::TransferLeader(request, cause), &option).await? {
            Answer::TransferLeader(response) => Ok(response),
            _ => Err(out_of_turn()),
        }
    }
}

/// The planted bug `count-vote-twice`: the candidate's own vote counts once more, as its peer's.
fn own_vote_again(
    buggify: &Buggify,
    rpc: &VoteRequest<TypeConfig>,
) -> Option<VoteResponse<TypeConfig>> {
    buggify
        .is_planted("count-vote-twice")
        .then(|| VoteResponse::new(rpc.vote, rpc.last_log_id, true))
}

fn rpc_error(error: CallError) -> RpcError {
    match error {
        CallError::NotSent(_) | CallError::Refused(_) | CallError::Removed => {
            RPCError::Unreachable(unreachable_peer(&error))
        }
        CallError::Lost | CallError::Timeout => RPCError::Network(network_error(&error)),
    }
}

fn stream_error(error: LogStreamError) -> RpcError {
    match error {
        LogStreamError::Unreachable(_) | LogStreamError::Timeout => {
            RPCError::Unreachable(unreachable_peer(&error))
        }
        LogStreamError::Broken(_) => RPCError::Network(network_error(&error)),
    }
}

fn out_of_turn() -> RpcError {
    RPCError::Network(network_error("the peer gave an answer of another kind"))
}

fn network_error(error: impl ToString) -> NetworkError<TypeConfig> {
    NetworkError::from_string(error.to_string())
}

fn unreachable_peer(error: impl ToString) -> Unreachable<TypeConfig> {
    Unreachable::from_string(error.to_string())
}
