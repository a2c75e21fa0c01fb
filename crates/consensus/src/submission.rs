//! A proposal's way in, from whichever node it was brought to.
//!
//! On the leader it goes into the queue of `proposals`, elsewhere to `forwarding`. As long as it has
//! certainly been appended nowhere it waits for a leader; from then on it is waited for, and when
//! its fate cannot be told that is what is said.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use mainstay_kv::{ENVELOPE_BYTES_MAX, Proposal, outcome::Applied};
use mainstay_world::{self as world, Instant};

use crate::{
    Consensus, PAUSE,
    error::{NotTaken, ProposeError},
    proposals::Unapplied,
    running::Running,
    status::ReadOnlyReason,
    wait_for_change,
};

/// How long the outcome of a proposal that was sent just before its deadline is waited for after it:
/// "certainly not" is worth a moment more than "unknown".
const LAST_MOMENT: Duration = Duration::from_millis(100);

/// Room that the envelope's header and attribution take beside the largest command.
const PROPOSAL_BYTES_MAX: usize = ENVELOPE_BYTES_MAX - 4096;

impl Consensus {
    /// Has `proposal` committed and applied, through the leader if that is another node, and
    /// answers with what the store made of it on the node that led.
    ///
    /// While there is no leader it waits for one, as long as nothing has been appended anywhere.
    ///
    /// # Errors
    /// [`ProposeError::NotTaken`] if it certainly changed nothing,
    /// [`ProposeError::OutcomeUnknown`] if it may have.
    pub async fn propose(
        &self,
        proposal: &Proposal,
        deadline: Instant,
    ) -> Result<Applied, ProposeError> {
        self.counters.pending.fetch_add(1, Relaxed);
        let outcome = self.try_propose(proposal, deadline).await;
        self.counters.pending.fetch_sub(1, Relaxed);
        match &outcome {
            Ok(_applied) => self.counters.committed.fetch_add(1, Relaxed),
            Err(_error) => self.counters.failed.fetch_add(1, Relaxed),
        };
        outcome
    }

    async fn try_propose(
        &self,
        proposal: &Proposal,
        deadline: Instant,
    ) -> Result<Applied, ProposeError> {
        let running = self.running()?;
        let body = proposal.to_bytes().map_err(|_unencodable| NotTaken::NotReady)?;
        if body.len() > PROPOSAL_BYTES_MAX {
            return Err(NotTaken::TooLarge { len: body.len(), limit: PROPOSAL_BYTES_MAX }.into());
        }
        let mut leadership = self.core.leadership.subscribe();
        loop {
            self.check_open()?;
            let seen = *leadership.borrow_and_update();
            let submitted = match seen.leader {
                Some(_) if seen.leads => running.proposals.submit(body.clone()),
                Some(_) => {
                    self.core.world().buggify.note("proposal.forwarded", || []);
                    running.forwarding.submit(body.clone())
                }
                None => Err(Unapplied::NotLeader),
            };
            let outcome = match submitted {
                Ok(submitted) => {
                    let left = deadline.since(Instant::now());
                    let mut outcome = submitted.outcome;
                    match world::timeout(left, &mut outcome).await {
                        Ok(outcome) => outcome.unwrap_or(Err(Unapplied::Unknown)),
                        Err(_elapsed) if submitted.ticket.revoke() => {
                            return Err(self.why_it_waited().into());
                        }
                        // It was sent at the last moment: a little patience may tell its fate.
                        Err(_elapsed) => match world::timeout(LAST_MOMENT, outcome).await {
                            Ok(outcome) => outcome.unwrap_or(Err(Unapplied::Unknown)),
                            Err(_elapsed) => return Err(too_late()),
                        },
                    }
                }
                Err(unapplied) => Err(unapplied),
            };
            match outcome {
                Ok(applied) => return Ok(applied),
                Err(Unapplied::NotLeader) => {
                    if !wait_for_change(&mut leadership, deadline).await {
                        return Err(self.why_nobody_led().into());
                    }
                }
                Err(Unapplied::Overloaded { retry_after }) => {
                    return Err(NotTaken::Overloaded { retry_after }.into());
                }
                Err(Unapplied::DiskReserve) => {
                    return Err(NotTaken::ReadOnly { reason: ReadOnlyReason::DiskReserve }.into());
                }
                Err(Unapplied::Unknown) => {
                    let why = "the leader changed or was lost while the write was on its way";
                    return Err(ProposeError::OutcomeUnknown { why });
                }
            }
        }
    }

    fn running(&self) -> Result<Arc<Running>, NotTaken> {
        self.core.running().ok_or(NotTaken::NotReady)
    }

    fn check_open(&self) -> Result<(), NotTaken> {
        if *self.core.stopping.borrow() {
            return Err(NotTaken::ShuttingDown);
        }
        if self.core.is_storage_failed() {
            return Err(NotTaken::ReadOnly { reason: ReadOnlyReason::StorageFailed });
        }
        Ok(())
    }

    /// Why a proposal was still in the queue at its deadline.
    fn why_it_waited(&self) -> NotTaken {
        match self.read_only_reason() {
            Some(reason) => NotTaken::ReadOnly { reason },
            None => NotTaken::Overloaded { retry_after: PAUSE },
        }
    }

    /// Why no leader was found until the deadline: an election that takes its time, or more.
    fn why_nobody_led(&self) -> NotTaken {
        let reason = self.read_only_reason();
        reason.map_or(NotTaken::NoLeader, |reason| NotTaken::ReadOnly { reason })
    }
}

const fn too_late() -> ProposeError {
    ProposeError::OutcomeUnknown { why: "no outcome came within the deadline" }
}
