//! The leader's end of a log connection: a pipelined stream of appends.
//!
//! One task takes requests from openraft and writes them as fast as the window allows; the answers
//! are read in the order of the requests. The window is bounded by bytes and by count, so a slow
//! follower holds back its own stream and nobody else's. When the stream ends in order the
//! connection is kept for the next one; in any other case it is dropped.

use std::{io, sync::Arc, time::Duration};

use futures_util::{Stream, StreamExt, stream};
use mainstay_world as world;
use openraft::raft::AppendEntriesRequest;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::{
    peer::{
        channel::Route,
        frame::{FrameReader, FrameWriter},
        message::{APPEND, APPEND_ANSWER, AppendOutcome, put_append, take_append_outcome},
    },
    type_config::TypeConfig,
};

/// Unanswered bytes of one stream, in KiB.
const WINDOW_KIB: u32 = 8 * 1024;

/// Unanswered requests of one stream.
const REQUESTS_MAX: usize = 256;

/// A connection between two streams.
pub(crate) struct LogConnection {
    reader: FrameReader,
    writer: FrameWriter,
}

/// A stream that broke.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum LogStreamError {
    /// The peer cannot be dialled.
    #[error("the peer cannot be reached: {0}")]
    Unreachable(Arc<str>),
    /// The connection broke, or an answer made no sense.
    #[error("the log stream broke: {0}")]
    Broken(String),
    /// No answer came in time.
    #[error("the peer did not answer an append in time")]
    Timeout,
}

/// The writer's end gives the writer back when the requests end.
struct Session<'a> {
    home: &'a mut Option<LogConnection>,
    reader: FrameReader,
    sent: mpsc::Receiver<OwnedSemaphorePermit>,
    writing: AbortOnDrop<io::Result<FrameWriter>>,
    answer_deadline: Duration,
    over: bool,
}

/// Sends `requests` over the connection in `home`, dialling one if there is none, and streams the
/// answers.
pub(crate) async fn run<'a, S>(
    home: &'a mut Option<LogConnection>,
    route: &Route,
    dial_deadline: Duration,
    answer_deadline: Duration,
    mut requests: S,
) -> Result<impl Stream<Item = Result<AppendOutcome, LogStreamError>> + Send + 'a, LogStreamError>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
{
    // openraft waits out its backoff inside this stream. Dialling before it was asked would repeat
    // a dial that is refused at once, again and again without a pause.
    // What ended already is not asked again, which is not allowed.
    let Some(first) = requests.next().await else { return Ok(stream::empty().left_stream()) };
    let requests = stream::iter([first]).chain(requests);
    let LogConnection { reader, writer } = match home.take() {
        Some(connection) => connection,
        None => {
            let (reader, writer) =
                route.dial(dial_deadline).await.map_err(LogStreamError::Unreachable)?;
            LogConnection { reader, writer }
        }
    };
    let (sent_tx, sent) = mpsc::channel(REQUESTS_MAX);
    let writing = AbortOnDrop(world::spawn(write(requests, writer, sent_tx)));
    let session = Session { home, reader, sent, writing, answer_deadline, over: false };
    Ok(stream::unfold(session, Session::next).right_stream())
}

impl Session<'_> {
    async fn next(mut self) -> Option<(Result<AppendOutcome, LogStreamError>, Self)> {
        if self.over {
            return None;
        }
        let Some(permit) = self.sent.recv().await else {
            return self.finish().await;
        };
        let answer = world::timeout(self.answer_deadline, self.reader.next()).await;
        drop(permit);
        let outcome = match answer {
            Ok(Ok(frame)) if frame.kind == APPEND_ANSWER => take_append_outcome(frame.body)
                .map_err(|error| LogStreamError::Broken(error.to_string())),
            Ok(Ok(_other)) => Err(LogStreamError::Broken("an answer of another kind".to_owned())),
            Ok(Err(error)) => Err(LogStreamError::Broken(error.to_string())),
            Err(_elapsed) => Err(LogStreamError::Timeout),
        };
        // After a conflict or a higher vote the other end closes the connection too.
        self.over = !matches!(outcome, Ok(Ok(_)));
        Some((outcome, self))
    }

    /// The requests ended and all are answered.
    async fn finish(mut self) -> Option<(Result<AppendOutcome, LogStreamError>, Self)> {
        match (&mut self.writing.0).await {
            Ok(Ok(writer)) => {
                *self.home = Some(LogConnection { reader: self.reader, writer });
                None
            }
            Ok(Err(error)) => {
                self.over = true;
                Some((Err(LogStreamError::Broken(error.to_string())), self))
            }
            Err(_aborted) => None,
        }
    }
}

async fn write<S>(
    mut requests: S,
    mut writer: FrameWriter,
    sent: mpsc::Sender<OwnedSemaphorePermit>,
) -> io::Result<FrameWriter>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
{
    let window = Arc::new(Semaphore::new(WINDOW_KIB as usize));
    while let Some(request) = requests.next().await {
        let mut failed = None;
        writer
            .push(APPEND, |buffer| failed = put_append(request, buffer).err())
            .map_err(io::Error::other)?;
        if let Some(error) = failed {
            return Err(error);
        }
        let kib = u32::try_from(writer.waiting() / 1024 + 1).unwrap_or(u32::MAX).min(WINDOW_KIB);
        let permit = Arc::clone(&window).acquire_many_owned(kib).await.map_err(io::Error::other)?;
        // Before it is written: the deadline for the answer is then one for the writing as well.
        if sent.send(permit).await.is_err() {
            break;
        }
        writer.flush().await.map_err(io::Error::other)?;
    }
    Ok(writer)
}

/// A task that ends with its owner.
struct AbortOnDrop<T>(world::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
