//! Proposals on their way from a follower to the leader.
//!
//! What waits goes as one batch over the forward connection, a few batches at a time. A proposal
//! is passed on once; whether it may be tried again is decided by what the failure proves: only an
//! answer or an error which shows that the leader appended nothing allows it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use mainstay_world as world;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tracing::debug;

use crate::{
    observation::Leadership,
    peer::{
        channel::CallError,
        link::Links,
        message::{Answer, Call, ForwardRefusal},
    },
    proposals::{Reply, Submitted, Unapplied},
    ticket::Ticket,
};

/// Proposals that may wait.
const WAITING_MAX: usize = 16 * 1024;

/// Proposals of one batch.
const BATCH_PROPOSALS_MAX: usize = 1024;

/// Bytes of one batch, after which no further proposal is added.
const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// Batches on their way.
const BATCHES_MAX: usize = 2;

/// The longest wait for a batch's outcomes; what is on its way then has an unknown outcome.
const BATCH_DEADLINE: Duration = Duration::from_secs(10);

/// What overloaded callers are told to wait.
const RETRY_AFTER: Duration = Duration::from_millis(100);

struct Waiting {
    body: Bytes,
    reply: Reply,
    ticket: Ticket,
}

/// A handle to the task.
#[derive(Clone)]
pub(crate) struct Forwarding {
    queue: mpsc::Sender<Waiting>,
}

impl Forwarding {
    /// Starts the task; it ends with the last handle.
    pub(crate) fn start(links: Arc<Links>, leadership: watch::Receiver<Leadership>) -> Self {
        let (queue, waiting) = mpsc::channel(WAITING_MAX);
        world::spawn(gather(links, leadership, waiting));
        Self { queue }
    }

    /// Queues an encoded proposal; its outcome comes through the receiver.
    pub(crate) fn submit(&self, body: Bytes) -> Result<Submitted, Unapplied> {
        let (reply, outcome) = oneshot::channel();
        let ticket = Ticket::new();
        self.queue
            .try_send(Waiting { body, reply, ticket: ticket.clone() })
            .map_err(|_full| Unapplied::Overloaded { retry_after: RETRY_AFTER })?;
        Ok(Submitted { outcome, ticket })
    }
}

async fn gather(
    links: Arc<Links>,
    leadership: watch::Receiver<Leadership>,
    mut waiting: mpsc::Receiver<Waiting>,
) {
    let places = Arc::new(Semaphore::new(BATCHES_MAX));
    while let Some(first) = waiting.recv().await {
        let place = Arc::clone(&places).acquire_owned().await;
        let place = place.expect("the semaphore is never closed");
        let mut bytes = first.body.len();
        let mut batch = vec![first];
        while batch.len() < BATCH_PROPOSALS_MAX && bytes < BATCH_BYTES_MAX {
            let Ok(next) = waiting.try_recv() else { break };
            bytes += next.body.len();
            batch.push(next);
        }
        batch.retain(|waiting| waiting.ticket.claim());
        if batch.is_empty() {
            continue;
        }
        let (links, leader) = (Arc::clone(&links), leadership.borrow().leader);
        world::spawn(async move {
            pass_on(&links, leader, batch).await;
            drop(place);
        });
    }
}

async fn pass_on(links: &Links, leader: Option<u64>, batch: Vec<Waiting>) {
    let (bodies, replies): (Vec<_>, Vec<_>) =
        batch.into_iter().map(|waiting| (waiting.body, waiting.reply)).unzip();
    let answer = match leader.and_then(|leader| links.find(leader)) {
        Some(link) => link.forward.call(&Call::Forward(bodies), BATCH_DEADLINE).await,
        None => Err(CallError::NotSent("there is no leader".into())),
    };
    let outcomes: Vec<_> = match answer {
        Ok(Answer::Forwarded(outcomes)) if outcomes.len() == replies.len() => {
            outcomes.into_iter().map(|outcome| outcome.map_err(unapplied)).collect()
        }
        Ok(_other) => vec![Err(Unapplied::Unknown); replies.len()],
        Err(error) => {
            debug!(%error, proposals = replies.len(), "proposals were not passed on");
            let unapplied = match error {
                CallError::NotSent(_) | CallError::Refused(_) | CallError::Removed => {
                    Unapplied::NotLeader
                }
                CallError::Lost | CallError::Timeout => Unapplied::Unknown,
            };
            vec![Err(unapplied); replies.len()]
        }
    };
    for (reply, outcome) in replies.into_iter().zip(outcomes) {
        // The caller may have given up.
        let _ = reply.send(outcome);
    }
}

fn unapplied(refusal: ForwardRefusal) -> Unapplied {
    match refusal {
        ForwardRefusal::NotLeader => Unapplied::NotLeader,
        ForwardRefusal::Overloaded { retry_after_ms } => {
            Unapplied::Overloaded { retry_after: Duration::from_millis(retry_after_ms) }
        }
        ForwardRefusal::DiskReserve => Unapplied::DiskReserve,
        ForwardRefusal::Unknown => Unapplied::Unknown,
    }
}

/// What a leader tells the follower that passed a proposal on.
pub(crate) fn refusal(unapplied: Unapplied) -> ForwardRefusal {
    match unapplied {
        Unapplied::NotLeader => ForwardRefusal::NotLeader,
        Unapplied::Overloaded { retry_after } => ForwardRefusal::Overloaded {
            retry_after_ms: u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX),
        },
        Unapplied::DiskReserve => ForwardRefusal::DiskReserve,
        Unapplied::Unknown => ForwardRefusal::Unknown,
    }
}
