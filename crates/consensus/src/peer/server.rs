//! The answering end of the peer protocol.
//!
//! Every accepted connection is a task: handshake within a deadline, then the one purpose it was
//! opened for. A stranger, garbage or an oversized frame closes that connection and nothing else.
//! Calls on a connection are worked on side by side, a bounded number at a time, and answered in
//! whatever order they finish.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::{Buf, BufMut};
use futures_util::{StreamExt, stream};
use mainstay_world::{self as world, Listener, Stream};
use openraft::raft::AppendEntriesRequest;
use tokio::sync::{Semaphore, mpsc};
use tracing::{debug, warn};

use crate::{
    core::Core,
    leaving::PeerCall,
    peer::{
        channel::chain,
        frame::{FRAME_BYTES_MAX, FrameError, FrameReader, FrameWriter, split},
        handshake::{self, ConnectionKind, HandshakeError, HandshakeRefusal, Hello},
        message::{
            ANSWER, APPEND, APPEND_ANSWER, Answer, CALL, Call, put_append_outcome, take_append,
        },
        snapshot_stream::{self, SnapshotAnswer},
    },
    read_index::Following,
    running::Running,
    state_machine::SnapshotData,
    type_config::TypeConfig,
};

/// Connections served at a time; members need four each.
const CONNECTIONS_MAX: usize = 256;

/// The longest a handshake may take.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(2);

/// Calls worked on at a time on one connection.
const CALLS_MAX: usize = 256;

/// Appends of one stream handed to openraft and not answered yet.
const APPENDS_MAX: usize = 64;

/// A connection on which nothing is heard for this long is closed; heartbeats are far denser.
const IDLE_DEADLINE: Duration = Duration::from_secs(300);

/// Accepts peers until the task is dropped.
pub(crate) async fn accept(core: Arc<Core>, mut listener: Box<dyn Listener>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "a peer connection could not be accepted");
                world::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            warn!(%from, "a peer connection was refused: {CONNECTIONS_MAX} are open");
            continue;
        };
        let core = Arc::clone(&core);
        world::spawn(async move {
            if let Err(error) = serve(&core, stream, from).await {
                debug!(%from, error = %chain(&error), "a peer connection ended");
            }
            drop(place);
        });
    }
}

async fn serve(core: &Arc<Core>, stream: Stream, from: SocketAddr) -> Result<(), HandshakeError> {
    let (mut reader, mut writer) = split(stream);
    let greeted = world::timeout(HANDSHAKE_DEADLINE, async {
        let ours = core.introduction();
        let theirs = match handshake::listen(&mut reader, ours.versions).await {
            Err(refusal @ HandshakeError::Protocol { .. }) => {
                warn!(%from, %refusal, "a peer was turned away");
                let versions = ours.versions;
                handshake::answer_without_a_common_protocol(&mut writer, versions).await?;
                return Err(refusal);
            }
            greeting => greeting?,
        };
        let verdict = if core.is_storage_failed() {
            Err(HandshakeRefusal::StorageFailed)
        } else if core.store.is_removed(theirs.node_id) {
            Err(HandshakeRefusal::Removed)
        } else {
            handshake::judge(&ours, &theirs)
        };
        match &verdict {
            Ok(protocol) => {
                if let Some(running) = core.running()
                    && theirs.cluster_id == ours.cluster_id
                {
                    running.links.announced().note(theirs.node_id, theirs.versions(*protocol));
                }
            }
            Err(refusal) => core.turned_away.tell(&from, &theirs, refusal),
        }
        handshake::answer(&mut writer, ours.hello(theirs.kind), verdict.clone()).await?;
        Ok::<_, HandshakeError>(verdict.is_ok().then_some(theirs))
    });
    let timed_out = || FrameError::Connection(std::io::ErrorKind::TimedOut.into());
    let Some(theirs) = greeted.await.map_err(|_elapsed| timed_out())?? else { return Ok(()) };
    warn_of_other_timings(core, &theirs);
    match theirs.kind {
        ConnectionKind::Control | ConnectionKind::Forward => {
            serve_calls(core, theirs.node_id, reader, writer).await?;
        }
        ConnectionKind::Log => serve_log(core, theirs.node_id, reader, writer).await?,
        ConnectionKind::Snapshot => serve_snapshot(core, reader, writer).await?,
    }
    Ok(())
}

fn warn_of_other_timings(core: &Core, theirs: &Hello) {
    let ours = core.introduction();
    let timings = (ours.heartbeat_ms, ours.election_timeout_ms_min, ours.election_timeout_ms_max);
    let other =
        (theirs.heartbeat_ms, theirs.election_timeout_ms_min, theirs.election_timeout_ms_max);
    if timings != other && theirs.kind == ConnectionKind::Log {
        warn!(peer = %theirs.name, ?timings, ?other,
            "a peer runs with other timings; elections may take longer than either promises");
    }
}

async fn serve_calls(
    core: &Arc<Core>,
    peer: u64,
    mut reader: FrameReader,
    mut writer: FrameWriter,
) -> Result<(), FrameError> {
    let (answers, mut ready) = mpsc::channel::<(u64, Answer, PeerCall)>(CALLS_MAX);
    let places = Arc::new(Semaphore::new(CALLS_MAX));
    loop {
        tokio::select! {
            biased;
            answer = ready.recv() => {
                // The sender is ours, so the channel never closes here.
                let Some((number, answer, call)) = answer else { return Ok(()) };
                // A call is over when its answer is written.
                let mut over = vec![call];
                push_answer(&mut writer, number, &answer)?;
                while let Ok((number, answer, call)) = ready.try_recv() {
                    push_answer(&mut writer, number, &answer)?;
                    over.push(call);
                }
                writer.flush().await?;
                drop(over);
            }
            frame = next_frame(&mut reader) => {
                let mut body = frame?;
                if body.kind != CALL || body.body.len() < 8 {
                    return Err(malformed());
                }
                let number = body.body.get_u64_le();
                let call: Call = mainstay_codec::decode(&body.body, FRAME_BYTES_MAX)
                    .map_err(|_malformed| malformed())?;
                if call.first_protocol() > core.options().versions.protocols.1 {
                    return Err(malformed());
                }
                let place = Arc::clone(&places)
                    .acquire_owned()
                    .await
                    .expect("the semaphore is never closed");
                let (core, answers) = (Arc::clone(core), answers.clone());
                let under_way = core.peer_calls.enter();
                world::spawn(async move {
                    let answer = answer(&core, peer, call).await;
                    // The connection may be gone by now; then nobody waits.
                    let _ = answers.send((number, answer, under_way)).await;
                    drop(place);
                });
            }
        }
    }
}

async fn next_frame(reader: &mut FrameReader) -> Result<super::frame::Frame, FrameError> {
    world::timeout(IDLE_DEADLINE, reader.next()).await.unwrap_or(Err(FrameError::Closed))
}

fn push_answer(writer: &mut FrameWriter, number: u64, answer: &Answer) -> Result<(), FrameError> {
    let body = mainstay_codec::encode(answer).map_err(std::io::Error::other)?;
    let pushed = writer.push(ANSWER, |buffer| {
        buffer.put_u64_le(number);
        buffer.put_slice(&body);
    });
    match pushed {
        Err(FrameError::TooLong { .. }) => {
            let refusal = Answer::Refused("the answer is too large for a frame".to_owned());
            let body = mainstay_codec::encode(&refusal).map_err(std::io::Error::other)?;
            writer.push(ANSWER, |buffer| {
                buffer.put_u64_le(number);
                buffer.put_slice(&body);
            })
        }
        other => other,
    }
}

/// Works on one call.
async fn answer(core: &Arc<Core>, peer: u64, call: Call) -> Answer {
    if core.is_storage_failed() {
        return Answer::Refused("this node's storage failed".to_owned());
    }
    match call {
        Call::BirthQuery => return Answer::Birth(core.birth_state()),
        Call::BirthNotice(notice) => return core.take_birth_notice(notice).await,
        // Whoever asks this wants to give leadership away, and not to a node that goes.
        Call::Ping if *core.leaving.borrow() => {
            return Answer::Refused("this node is shutting down".to_owned());
        }
        Call::TransferLeader(..) => core.world().buggify.pause("consensus.before-takeover").await,
        _ => {}
    }
    let Some(running) = core.running() else {
        return Answer::Refused("this node is not in a cluster yet".to_owned());
    };
    if core.store.is_removed(peer) {
        return Answer::Removed;
    }
    answer_running(&running, peer, call).await
}

async fn answer_running(running: &Arc<Running>, peer: u64, call: Call) -> Answer {
    match call {
        Call::Append(request) => {
            let from = request.vote;
            match running.raft.append_entries(request).await {
                Ok(response) => {
                    running.note_append(peer, &from);
                    Answer::Append(response)
                }
                Err(error) => Answer::Refused(chain(&error)),
            }
        }
        Call::Vote(request) => match running.raft.vote(request).await {
            Ok(response) => Answer::Vote(response),
            Err(error) => Answer::Refused(chain(&error)),
        },
        Call::PreVote(request) => match running.raft.pre_vote(request).await {
            Ok(response) => Answer::Vote(response),
            Err(error) => Answer::Refused(chain(&error)),
        },
        Call::TransferLeader(request, cause) => {
            running.elections.announce(request.from_leader().leader_id.term, cause);
            match running.raft.handle_transfer_leader(request).await {
                Ok(response) => Answer::TransferLeader(response),
                Err(error) => Answer::Refused(chain(&error)),
            }
        }
        Call::Heartbeat(beat) => {
            running.hear(peer, beat);
            Answer::Pong(running.pong())
        }
        Call::Ping => Answer::Pong(running.pong()),
        Call::Silences(report) => {
            running.note_silences(&report);
            Answer::Pong(running.pong())
        }
        Call::HandOver(to) => Answer::HandedOver(running.hand_over_here(to).await),
        Call::Forward(proposals) => Answer::Forwarded(running.take_forwarded(proposals).await),
        Call::ReadIndex => Answer::ReadIndex(running.leader_reads.index().await),
        Call::ReadIndexFor(following) => {
            Answer::ReadIndex(running.leader_reads.index_for(peer, following).await)
        }
        Call::Confirm(following) => {
            Answer::Confirmed(Following::of(&running.storage) == Some(following))
        }
        Call::Autopilot(limit) => {
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            Answer::Autopilot(Box::new(running.autopilot_here(limit)))
        }
        Call::ChangeMembers(request) => {
            Answer::MembersChanged(Box::new(running.change_members_here(&request).await))
        }
        Call::BirthQuery | Call::BirthNotice(_) => {
            Answer::Refused("this node is in a cluster already".to_owned())
        }
    }
}

async fn serve_log(
    core: &Arc<Core>,
    peer: u64,
    mut reader: FrameReader,
    mut writer: FrameWriter,
) -> Result<(), FrameError> {
    let Some(running) = core.running() else { return Ok(()) };
    let (requests, appends) = mpsc::channel::<AppendEntriesRequest<TypeConfig>>(APPENDS_MAX);
    let input = stream::unfold(appends, |mut appends| async move {
        appends.recv().await.map(|request| (request, appends))
    });
    let answers = running.raft.stream_append(Box::pin(input));
    let mut answers = std::pin::pin!(answers);
    loop {
        tokio::select! {
            biased;
            answer = answers.next() => {
                let Some(Ok(outcome)) = answer else { return Ok(()) };
                writer.push(APPEND_ANSWER, |buffer| put_append_outcome(&outcome, buffer))?;
                writer.flush().await?;
                if outcome.is_err() {
                    return Ok(());
                }
            }
            frame = next_frame(&mut reader), if requests.capacity() > 0 => {
                let frame = frame?;
                let refused = core.is_storage_failed() || core.store.is_removed(peer);
                if frame.kind != APPEND || refused {
                    return Err(malformed());
                }
                let request = take_append(frame.body).map_err(FrameError::from)?;
                running.note_append(peer, &request.vote);
                // There is room: only this task sends.
                if requests.try_send(request).is_err() {
                    return Ok(());
                }
            }
        }
    }
}

async fn serve_snapshot(
    core: &Arc<Core>,
    mut reader: FrameReader,
    mut writer: FrameWriter,
) -> Result<(), FrameError> {
    let Some(running) = core.running() else { return Ok(()) };
    // One at a time: the second sender is told to come back.
    let Ok(_place) = running.snapshot_place.try_acquire() else {
        let busy = SnapshotAnswer::Failed("another snapshot is being received".to_owned());
        return Ok(snapshot_stream::reply(&mut writer, &busy).await?);
    };
    let received = async {
        let begin = snapshot_stream::receive_begin(&mut reader).await?;
        snapshot_stream::receive(&mut reader, &mut writer, &running.storage, begin).await
    };
    let answer = match received.await {
        Ok(arrived) => {
            if let Err(unknown) = core.options().versions.check_store(&arrived.store) {
                warn!(error = %unknown, "a snapshot was refused");
                let refusal = SnapshotAnswer::Failed(unknown.to_string());
                return Ok(snapshot_stream::reply(&mut writer, &refusal).await?);
            }
            let snapshot = openraft::Snapshot {
                meta: arrived.meta,
                snapshot: SnapshotData::Received { store: arrived.store, removed: arrived.removed },
            };
            let installing = running.raft.install_full_snapshot(arrived.vote, snapshot);
            match snapshot_stream::working(&mut writer, installing).await? {
                Ok(response) => SnapshotAnswer::Done(response),
                Err(error) => SnapshotAnswer::Failed(chain(&error)),
            }
        }
        Err(error) => {
            warn!(error = %chain(&error), "a snapshot could not be received");
            SnapshotAnswer::Failed(chain(&error))
        }
    };
    Ok(snapshot_stream::reply(&mut writer, &answer).await?)
}

fn malformed() -> FrameError {
    FrameError::Connection(std::io::ErrorKind::InvalidData.into())
}
