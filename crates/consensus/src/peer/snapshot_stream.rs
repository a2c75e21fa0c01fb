//! One snapshot over a connection of its own, both ends.
//!
//! The chunks of the file travel as they stand in it; the receiving node writes them to a file of
//! its own and at the same time rebuilds the store from them, so that a snapshot is installed only
//! after its hash was checked. Every chunk is answered, with a few under way; the deadline is for
//! progress, not for the whole. While it works on something long the receiver says so every second,
//! so that silence means that it or the connection is gone, however large the snapshot is.

use std::{collections::BTreeSet, future::Future, io, pin::pin, time::Duration};

use bytes::{Buf, BufMut, Bytes};
use mainstay_kv::{Store, StoreRestore};
use mainstay_storage::{SnapshotReadError, SnapshotReader, SnapshotWriter, Storage};
use mainstay_world::{self as world, Instant};
use openraft::raft::SnapshotResponse;
use serde::{Deserialize, Serialize};

use crate::{
    peer::{
        channel::Route,
        frame::{Frame, FrameError, FrameReader, FrameWriter},
        message::{SNAPSHOT_ANSWER, SNAPSHOT_BEGIN, SNAPSHOT_CHUNK, SNAPSHOT_END},
    },
    state_machine::SnapshotMark,
    type_config::{SnapshotMeta, TypeConfig, Vote, position},
};

/// Chunks on their way before the sender waits for an answer.
const CHUNKS_UNDER_WAY_MAX: usize = 8;

/// A sender rests for [`REST`] whenever it was busy for this long, and its receiver with it: a
/// snapshot is seldom urgent, and writes should hardly feel it.
const WORK: Duration = Duration::from_millis(2);

/// See [`WORK`].
const REST: Duration = Duration::from_millis(4);

/// How often a receiver that is at work says so.
const WORKING_EVERY: Duration = Duration::from_secs(1);

/// The longest silence of the other end, which may have to wait for its disk before it can send
/// the next chunk.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// The longest silence of a receiver, which says every [`WORKING_EVERY`] that it is there.
const RECEIVER_SILENCE_MAX: Duration = Duration::from_secs(5);

/// The largest opening or answer in bytes.
const MESSAGE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Opens a snapshot.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SnapshotBegin {
    /// The leader's vote.
    pub(crate) vote: Vote,
    /// Where the snapshot ends.
    pub(crate) mark: SnapshotMark,
}

/// Answers the opening, a chunk, or the end.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum SnapshotAnswer {
    /// Go on.
    Taken,
    /// The snapshot is installed, or the vote was too old for it.
    Done(SnapshotResponse<TypeConfig>),
    /// The snapshot cannot be taken now.
    Failed(String),
    /// The receiver is still at work on what it was sent; an answer will follow.
    Working,
}

/// A snapshot that did not arrive.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    /// The peer cannot be dialled.
    #[error("the peer cannot be reached: {0}")]
    Unreachable(std::sync::Arc<str>),
    /// The connection broke.
    #[error("the snapshot's connection broke")]
    Frame(#[from] FrameError),
    /// No progress within the deadline.
    #[error("the peer made no progress with the snapshot")]
    Timeout,
    /// The file cannot be read.
    #[error("the snapshot cannot be read")]
    Read(#[source] SnapshotReadError),
    /// What the file says of itself cannot be read.
    #[error("what the snapshot says of itself cannot be read")]
    Mark(#[from] io::Error),
    /// The other end cannot take it.
    #[error("the peer cannot take the snapshot: {0}")]
    Refused(String),
}

/// Sends a snapshot; the peer's answer after it installed it.
pub(crate) async fn send(
    route: &Route,
    dial_deadline: Duration,
    vote: Vote,
    mut file: SnapshotReader,
) -> Result<SnapshotResponse<TypeConfig>, SendError> {
    let (mut reader, mut writer) =
        route.dial(dial_deadline).await.map_err(SendError::Unreachable)?;
    let mark = SnapshotMark::from_bytes(&file.info().meta)?;
    push(&mut writer, SNAPSHOT_BEGIN, &SnapshotBegin { vote, mark })?;
    flush(&mut writer).await?;
    if let Some(done) = answer(&mut reader).await? {
        return Ok(done);
    }
    let mut under_way = 0;
    let mut begun = Instant::now();
    while let Some(chunk) = file.next().await.map_err(SendError::Read)? {
        writer.push(SNAPSHOT_CHUNK, |buffer| buffer.put_slice(&chunk))?;
        flush(&mut writer).await?;
        under_way += 1;
        if under_way == CHUNKS_UNDER_WAY_MAX {
            if let Some(done) = answer(&mut reader).await? {
                return Ok(done);
            }
            under_way -= 1;
        }
        if begun.elapsed() >= WORK {
            world::sleep(REST).await;
            begun = Instant::now();
        }
    }
    writer.push(SNAPSHOT_END, |_empty| ())?;
    flush(&mut writer).await?;
    loop {
        if let Some(done) = answer(&mut reader).await? {
            return Ok(done);
        }
    }
}

/// Writes what is waiting; a receiver reads while it works, or says that it is at work.
async fn flush(writer: &mut FrameWriter) -> Result<(), SendError> {
    world::timeout(SILENCE_MAX, writer.flush()).await.map_err(|_| SendError::Timeout)??;
    Ok(())
}

/// The receiver's next answer that is one: nothing when it takes more, its response at the end.
async fn answer(
    reader: &mut FrameReader,
) -> Result<Option<SnapshotResponse<TypeConfig>>, SendError> {
    loop {
        let frame = world::timeout(RECEIVER_SILENCE_MAX, reader.next())
            .await
            .map_err(|_| SendError::Timeout)??;
        if frame.kind != SNAPSHOT_ANSWER {
            return Err(SendError::Refused("an answer of another kind".to_owned()));
        }
        match mainstay_codec::decode(&frame.body, MESSAGE_BYTES_MAX) {
            Ok(SnapshotAnswer::Working) => {}
            Ok(SnapshotAnswer::Taken) => return Ok(None),
            Ok(SnapshotAnswer::Done(response)) => return Ok(Some(response)),
            Ok(SnapshotAnswer::Failed(why)) => return Err(SendError::Refused(why)),
            Err(error) => return Err(SendError::Refused(error.to_string())),
        }
    }
}

/// A snapshot that arrived whole: its file is in place, its store is checked.
pub(crate) struct Arrived {
    pub(crate) vote: Vote,
    pub(crate) meta: SnapshotMeta,
    pub(crate) store: Box<Store>,
    /// Nodes that were members once and are not any more.
    pub(crate) removed: BTreeSet<u64>,
}

/// Reads the opening of a snapshot.
pub(crate) async fn receive_begin(reader: &mut FrameReader) -> io::Result<SnapshotBegin> {
    let frame = next_frame(reader).await?;
    if frame.kind != SNAPSHOT_BEGIN {
        return Err(io::Error::other("a snapshot connection opened with another frame"));
    }
    mainstay_codec::decode(&frame.body, MESSAGE_BYTES_MAX).map_err(io::Error::other)
}

/// Receives the chunks that follow the opening, answering each.
pub(crate) async fn receive(
    reader: &mut FrameReader,
    writer: &mut FrameWriter,
    storage: &Storage,
    begin: SnapshotBegin,
) -> io::Result<Arrived> {
    let last = begin.mark.last.as_ref().map(position);
    let mut file = storage.snapshot_writer(last, begin.mark.to_bytes()?).await?;
    let mut restore = StoreRestore::new();
    reply(writer, &SnapshotAnswer::Taken).await?;
    loop {
        let frame = next_frame(reader).await?;
        match frame.kind {
            SNAPSHOT_CHUNK => {
                working(writer, take_chunk(&mut file, &mut restore, frame.body)).await??;
                reply(writer, &SnapshotAnswer::Taken).await?;
            }
            SNAPSHOT_END => break,
            _ => return Err(io::Error::other("a frame that is no part of a snapshot")),
        }
    }
    let store = restore.finish().map_err(io::Error::other)?;
    working(writer, file.finish()).await??;
    let removed = begin.mark.removed.clone();
    let meta = begin.mark.into_meta();
    Ok(Arrived { vote: begin.vote, meta, store: Box::new(store), removed })
}

/// The sender's next frame.
async fn next_frame(reader: &mut FrameReader) -> io::Result<Frame> {
    world::timeout(SILENCE_MAX, reader.next())
        .await
        .map_err(io::Error::other)?
        .map_err(io::Error::other)
}

async fn take_chunk(
    file: &mut SnapshotWriter,
    restore: &mut StoreRestore,
    chunk: Bytes,
) -> io::Result<()> {
    restore.push(chunk.chunk()).map_err(io::Error::other)?;
    file.write(chunk).await?;
    tokio::task::yield_now().await;
    Ok(())
}

/// Does `work` and tells the sender every second that it goes on.
///
/// # Errors
/// The sender is gone; the work is then left where it stands.
pub(crate) async fn working<T>(
    writer: &mut FrameWriter,
    work: impl Future<Output = T>,
) -> io::Result<T> {
    let mut work = pin!(work);
    loop {
        match world::timeout(WORKING_EVERY, &mut work).await {
            Ok(done) => return Ok(done),
            Err(_elapsed) => reply(writer, &SnapshotAnswer::Working).await?,
        }
    }
}

/// Sends one answer on a snapshot connection.
pub(crate) async fn reply(writer: &mut FrameWriter, answer: &SnapshotAnswer) -> io::Result<()> {
    push(writer, SNAPSHOT_ANSWER, answer).map_err(io::Error::other)?;
    world::timeout(SILENCE_MAX, writer.flush())
        .await
        .map_err(io::Error::other)?
        .map_err(io::Error::other)
}

fn push<T: Serialize>(writer: &mut FrameWriter, kind: u8, message: &T) -> Result<(), FrameError> {
    let body = mainstay_codec::encode(message).map_err(io::Error::other)?;
    writer.push(kind, |buffer| buffer.put_slice(&body))
}

#[cfg(test)]
mod tests {
    use mainstay_world::Stream;

    use super::*;
    use crate::peer::frame::split;

    /// Both ends of a connection that holds so many bytes.
    fn pair(bytes: usize) -> ((FrameReader, FrameWriter), (FrameReader, FrameWriter)) {
        let (near, far) = tokio::io::duplex(bytes);
        (split(Box::new(near) as Stream), split(Box::new(far)))
    }

    fn done() -> SnapshotAnswer {
        SnapshotAnswer::Done(SnapshotResponse::new(Vote::new(1, 2)))
    }

    #[tokio::test(start_paused = true)]
    async fn an_installation_may_take_minutes_as_long_as_the_receiver_says_that_it_works() {
        let ((mut reader, _writer), (_far_reader, mut far_writer)) = pair(1024);
        let receiving = async {
            working(&mut far_writer, world::sleep(Duration::from_secs(300))).await?;
            reply(&mut far_writer, &done()).await
        };
        let (answered, sent) = tokio::join!(answer(&mut reader), receiving);
        sent.expect("the sender listens");
        assert!(answered.expect("an answer").is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_sender_whose_answers_were_lost_gives_up_within_seconds() {
        let ((mut reader, _writer), _silent) = pair(1024);
        let begun = Instant::now();
        let answered = answer(&mut reader).await;
        assert!(matches!(answered, Err(SendError::Timeout)), "{answered:?}");
        assert!(begun.elapsed() <= RECEIVER_SILENCE_MAX + Duration::from_millis(10));
    }

    #[tokio::test(start_paused = true)]
    async fn a_receiver_whose_sender_reads_no_more_gives_up_within_seconds() {
        let (_deaf, (_far_reader, mut far_writer)) = pair(16);
        let begun = Instant::now();
        let gave_up = working(&mut far_writer, std::future::pending::<()>()).await;
        assert!(gave_up.is_err(), "{gave_up:?}");
        assert!(begun.elapsed() <= 3 * WORKING_EVERY + SILENCE_MAX, "{:?}", begun.elapsed());
    }
}
