//! Keep-alives of many clients, proposed together.
//!
//! A lease is renewed by a command in the log, like everything else, so that a keep-alive that was
//! answered holds on whichever node leads next. Ten thousand clients would mean as many entries;
//! so what waits is taken together into one command, bounded, and each is answered after it is
//! applied. A few batches are in flight, the next gathers meanwhile.

use std::{collections::BTreeMap, sync::Arc};

use mainstay_kv::{Command, KeepAlive, Origin, Outcome};
use mainstay_world::Instant;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::{
    caller::{Caller, Consistency, Written},
    error::DoorError,
    writes::Writes,
};

/// Keep-alives that may wait to be proposed.
const WAITING_MAX: usize = 16_384;

/// Keep-alives in one command.
const BATCH_MAX: usize = 1_000;

/// Batches in flight.
const IN_FLIGHT_MAX: usize = 4;

/// A keep-alive that waits for its answer.
struct Waiting {
    principal: String,
    auth_revision: u64,
    id: u64,
    deadline: Instant,
    answer: oneshot::Sender<Result<Written<KeepAlive>, DoorError>>,
}

/// The way in; the batching ends when it is dropped.
#[derive(Clone)]
pub(crate) struct KeepAlives {
    waiting: mpsc::Sender<Waiting>,
}

impl KeepAlives {
    /// Starts the task that batches.
    pub(crate) fn start(writes: Arc<Writes>) -> Self {
        let (waiting, queue) = mpsc::channel(WAITING_MAX);
        mainstay_world::spawn(run(writes, queue));
        Self { waiting }
    }

    /// Renews the lease `id`.
    pub(crate) async fn keep_alive(
        &self,
        caller: Caller,
        id: u64,
    ) -> Result<Written<KeepAlive>, DoorError> {
        let (answer, outcome) = oneshot::channel();
        let Caller { principal, auth_revision, deadline, .. } = caller;
        let waiting = Waiting { principal, auth_revision, id, deadline, answer };
        if self.waiting.try_send(waiting).is_err() {
            return Err(DoorError::overloaded("keep-alives"));
        }
        match mainstay_world::timeout(deadline.since(Instant::now()), outcome).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_dropped)) => {
                Err(DoorError::OutcomeUnknown { why: "the node stopped while it was running" })
            }
            Err(_elapsed) => Err(DoorError::OutcomeUnknown { why: "the deadline passed" }),
        }
    }
}

async fn run(writes: Arc<Writes>, mut queue: mpsc::Receiver<Waiting>) {
    let in_flight = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
    let mut batch = Vec::new();
    loop {
        let Ok(place) = Arc::clone(&in_flight).acquire_owned().await else { return };
        if queue.recv_many(&mut batch, BATCH_MAX).await == 0 {
            return;
        }
        // A command has one principal.
        let mut by_principal: BTreeMap<(String, u64), Vec<Waiting>> = BTreeMap::new();
        for waiting in batch.drain(..) {
            let principal = (waiting.principal.clone(), waiting.auth_revision);
            by_principal.entry(principal).or_default().push(waiting);
        }
        let writes = Arc::clone(&writes);
        mainstay_world::spawn(async move {
            for ((principal, auth_revision), waiting) in by_principal {
                propose(&writes, principal, auth_revision, waiting).await;
            }
            drop(place);
        });
    }
}

async fn propose(writes: &Writes, principal: String, auth_revision: u64, waiting: Vec<Waiting>) {
    let Some(deadline) = waiting.iter().map(|one| one.deadline).max() else { return };
    let caller = Caller {
        principal,
        auth_revision,
        trace_id: [0; 16],
        deadline,
        origin: Origin::Unnumbered,
        consistency: Consistency::Linearizable,
    };
    let ids = waiting.iter().map(|one| one.id).collect();
    let written = writes.write("lease_keep_alive", caller, Command::LeaseKeepAlive { ids }).await;
    match written {
        Ok(written) => {
            let Outcome::KeptAlive(kept) = &written.outcome else {
                unreachable!("a keep-alive comes to an outcome of its own kind")
            };
            assert_eq!(kept.len(), waiting.len(), "keep-alives are answered one by one");
            for (one, kept) in waiting.into_iter().zip(kept) {
                // Whoever gave up waiting is not told.
                let _ = one.answer.send(Ok(written.with(*kept)));
            }
        }
        Err(error) => {
            for one in waiting {
                let _ = one.answer.send(Err(error.clone()));
            }
        }
    }
}
