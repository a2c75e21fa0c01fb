//! The calling end of a control or forward connection.
//!
//! A channel is dialled when first used and again after it was lost; calls made meanwhile wait for
//! the dial. Many calls share the connection and are told apart by number. What a failure proves
//! matters more than what caused it: [`CallError::NotSent`] is the only one after which a caller
//! may assume that the other end has seen nothing.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::{Buf, BufMut};
use mainstay_world::{self as world, Net};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{debug, warn};

use crate::peer::{
    frame::{Frame, FrameError, FrameReader, FrameWriter, split},
    handshake::{ConnectionKind, HandshakeError, HandshakeRefusal, Introduction, greet},
    message::{ANSWER, Answer, CALL, Call},
};
use crate::versions::Announced;

/// Calls that may wait to be written.
const CALLS_WAITING_MAX: usize = 4096;

/// Bytes after which waiting calls are written even if more wait.
const WRITE_BYTES_MAX: usize = 1024 * 1024;

/// A write that makes no progress for this long ends the connection.
const WRITE_DEADLINE: Duration = Duration::from_secs(2);

/// The largest answer in bytes.
const ANSWER_BYTES_MAX: usize = super::frame::FRAME_BYTES_MAX;

/// A call without an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    /// The other end has seen nothing of the call.
    #[error("the peer cannot be reached: {0}")]
    NotSent(Arc<str>),
    /// The connection was lost after the call may have left.
    #[error("the connection to the peer was lost")]
    Lost,
    /// The deadline passed after the call may have left.
    #[error("the peer did not answer in time")]
    Timeout,
    /// The other end cannot serve the call now.
    #[error("the peer refuses: {0}")]
    Refused(String),
    /// The other end says that this node was removed from the cluster.
    #[error("the peer says that this node was removed from the cluster")]
    Removed,
}

/// How to reach one peer for one purpose.
#[derive(Clone)]
pub(crate) struct Route {
    pub(crate) net: Arc<dyn Net>,
    pub(crate) address: String,
    pub(crate) introduction: Arc<Introduction>,
    /// The node that must answer; `None` while ids are not known yet.
    pub(crate) expected: Option<u64>,
    pub(crate) kind: ConnectionKind,
    /// Set when the peer says that this node was removed from the cluster.
    pub(crate) removal: watch::Sender<bool>,
    /// What peers announce, and why nothing can be said to some.
    pub(crate) announced: Announced,
}

impl Route {
    /// Dials and greets within `deadline`.
    pub(crate) async fn dial(
        &self,
        deadline: Duration,
    ) -> Result<(FrameReader, FrameWriter), Arc<str>> {
        let dialled = world::timeout(deadline, async {
            let stream = self.net.connect(&self.address).await.map_err(FrameError::from)?;
            let (mut reader, mut writer) = split(stream);
            let hello = self.introduction.hello(self.kind);
            let theirs = greet(&mut reader, &mut writer, &hello).await?;
            Ok::<_, HandshakeError>((reader, writer, theirs))
        });
        match dialled.await {
            Ok(Ok((_, _, (theirs, _)))) if self.expected.is_some_and(|id| id != theirs.node_id) => {
                Err(format!("{} is now node {}", self.address, theirs.node_id).into())
            }
            Ok(Ok((reader, writer, theirs))) => {
                self.announced.clear(&self.address);
                self.announced.note(theirs.0.node_id, theirs.1);
                Ok((reader, writer))
            }
            Ok(Err(error)) if error.is_of_versions() => {
                let why: Arc<str> = chain(&error).into();
                if self.announced.note_obstacle(&self.address, &why) {
                    warn!(peer = %self.address, %why, "nothing can be said to a peer");
                }
                Err(why)
            }
            Ok(Err(error)) => {
                if let HandshakeError::Refused { refusal: HandshakeRefusal::Removed, .. } = &error {
                    self.removal.send_replace(true);
                }
                Err(chain(&error).into())
            }
            Err(_elapsed) => Err(format!("{} did not answer in time", self.address).into()),
        }
    }
}

/// A handle to the task that owns the connection.
#[derive(Clone)]
pub(crate) struct Channel {
    calls: mpsc::Sender<Waiting>,
    timeouts: Arc<AtomicU32>,
    timeouts_max: u32,
    failures: Arc<AtomicU64>,
}

struct Waiting {
    body: Vec<u8>,
    answer: oneshot::Sender<Result<Answer, CallError>>,
}

impl Channel {
    /// Starts the task. The connection is dropped after `timeouts_max` timeouts in a row.
    pub(crate) fn start(route: Route, dial_deadline: Duration, timeouts_max: u32) -> Self {
        let (calls, waiting) = mpsc::channel(CALLS_WAITING_MAX);
        let timeouts = Arc::new(AtomicU32::new(0));
        let task = ChannelTask {
            route,
            dial_deadline,
            waiting,
            timeouts: Arc::clone(&timeouts),
            timeouts_max,
            pending: BTreeMap::new(),
            next_number: 0,
        };
        world::spawn(task.run());
        Self { calls, timeouts, timeouts_max, failures: Arc::default() }
    }

    /// Calls and waits for the answer, at most for `deadline`.
    pub(crate) async fn call(&self, call: &Call, deadline: Duration) -> Result<Answer, CallError> {
        let outcome = self.try_call(call, deadline).await;
        if outcome.is_err() {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        outcome
    }

    /// Calls that failed since the start.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    async fn try_call(&self, call: &Call, deadline: Duration) -> Result<Answer, CallError> {
        let body = mainstay_codec::encode(call)
            .map_err(|error| CallError::NotSent(error.to_string().into()))?;
        let (answer, outcome) = oneshot::channel();
        if self.calls.try_send(Waiting { body, answer }).is_err() {
            return Err(CallError::NotSent("too many calls wait for it".into()));
        }
        match world::timeout(deadline, outcome).await {
            Ok(Ok(Ok(Answer::Refused(why)))) => {
                self.timeouts.store(0, Ordering::Relaxed);
                Err(CallError::Refused(why))
            }
            Ok(Ok(Ok(Answer::Removed))) => Err(CallError::Removed),
            Ok(Ok(outcome)) => {
                self.timeouts.store(0, Ordering::Relaxed);
                outcome
            }
            Ok(Err(_task_ended)) => Err(CallError::Lost),
            Err(_elapsed) => {
                let _ = self.timeouts.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| {
                    Some(n.saturating_add(1).min(self.timeouts_max))
                });
                Err(CallError::Timeout)
            }
        }
    }
}

/// Owns the connection.
struct ChannelTask {
    route: Route,
    dial_deadline: Duration,
    waiting: mpsc::Receiver<Waiting>,
    timeouts: Arc<AtomicU32>,
    timeouts_max: u32,
    pending: BTreeMap<u64, oneshot::Sender<Result<Answer, CallError>>>,
    next_number: u64,
}

impl ChannelTask {
    async fn run(mut self) {
        while let Some(first) = self.waiting.recv().await {
            match self.route.dial(self.dial_deadline).await {
                Ok((reader, writer)) => {
                    self.timeouts.store(0, Ordering::Relaxed);
                    let ended = self.serve(first, reader, writer).await;
                    debug!(peer = %self.route.address, kind = ?self.route.kind, reason = %chain(&ended), "a peer connection ended");
                    self.fail_pending();
                }
                Err(why) => self.fail_waiting(first, &why),
            }
        }
    }

    /// Works on one connection until it is lost; says why it was.
    async fn serve(
        &mut self,
        first: Waiting,
        mut reader: FrameReader,
        mut writer: FrameWriter,
    ) -> FrameError {
        if let Err(error) = self.write(first, &mut writer).await {
            return error;
        }
        loop {
            tokio::select! {
                biased;
                frame = reader.next() => {
                    let resolved = frame.and_then(|frame| self.resolve(frame));
                    if let Err(error) = resolved {
                        return error;
                    }
                }
                waiting = self.waiting.recv() => {
                    let Some(waiting) = waiting else { return FrameError::Closed };
                    if let Err(error) = self.write(waiting, &mut writer).await {
                        return error;
                    }
                }
            }
        }
    }

    /// Writes a call and whatever else waits.
    async fn write(&mut self, first: Waiting, writer: &mut FrameWriter) -> Result<(), FrameError> {
        if self.timeouts.load(Ordering::Relaxed) >= self.timeouts_max {
            let _ = first.answer.send(Err(CallError::NotSent("it stopped answering".into())));
            return Err(FrameError::Connection(std::io::ErrorKind::TimedOut.into()));
        }
        self.push(first, writer)?;
        while writer.waiting() < WRITE_BYTES_MAX {
            let Ok(next) = self.waiting.try_recv() else { break };
            self.push(next, writer)?;
        }
        world::timeout(WRITE_DEADLINE, writer.flush()).await.unwrap_or_else(|_elapsed| {
            Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into())
        })
    }

    fn push(&mut self, waiting: Waiting, writer: &mut FrameWriter) -> Result<(), FrameError> {
        if waiting.answer.is_closed() {
            return Ok(());
        }
        let number = self.next_number;
        self.next_number += 1;
        let pushed = writer.push(CALL, |buffer| {
            buffer.put_u64_le(number);
            buffer.extend_from_slice(&waiting.body);
        });
        match pushed {
            Ok(()) => {
                self.pending.insert(number, waiting.answer);
                Ok(())
            }
            Err(error) => {
                let _ = waiting.answer.send(Err(CallError::NotSent(error.to_string().into())));
                Ok(())
            }
        }
    }

    fn resolve(&mut self, frame: Frame) -> Result<(), FrameError> {
        let malformed =
            || FrameError::Connection(std::io::Error::from(std::io::ErrorKind::InvalidData));
        let mut body = frame.body;
        if frame.kind != ANSWER || body.len() < 8 {
            return Err(malformed());
        }
        let number = body.get_u64_le();
        // An answer nobody waits for any more is no error.
        let Some(answer) = self.pending.remove(&number) else { return Ok(()) };
        let decoded: Answer =
            mainstay_codec::decode(&body, ANSWER_BYTES_MAX).map_err(|_malformed| malformed())?;
        if matches!(decoded, Answer::Removed) {
            self.route.removal.send_replace(true);
        }
        let _ = answer.send(Ok(decoded));
        Ok(())
    }

    fn fail_pending(&mut self) {
        for (_number, answer) in std::mem::take(&mut self.pending) {
            let _ = answer.send(Err(CallError::Lost));
        }
    }

    fn fail_waiting(&mut self, first: Waiting, why: &Arc<str>) {
        let _ = first.answer.send(Err(CallError::NotSent(Arc::clone(why))));
        while let Ok(next) = self.waiting.try_recv() {
            let _ = next.answer.send(Err(CallError::NotSent(Arc::clone(why))));
        }
    }
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
