//! Giving leadership to another voter, on purpose.
//!
//! In openraft the trigger is one-way: after it the leader neither writes nor beats again in its
//! term. So everything is checked before: the target is a voter, is heard, has a disk that works,
//! and holds the whole log. For that proposals are held, for at most [`HELD_MAX`]; when a check
//! fails they are released and the leader carries on as if nothing had been asked. After the
//! trigger there is a new leader soon: the target, or, if it died, whoever an ordinary election
//! chooses. Nothing here needs the leader's own disk.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use mainstay_failure_detector::Level;
use mainstay_world::{self as world, Instant};
use openraft::async_runtime::WatchReceiver as _;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex as AsyncMutex;
use tracing::{info, warn};

use crate::{
    detection::{Said, stall_budget},
    election::ElectionCause,
    peer::message::{Answer, Call},
    proposals::Proposals,
    running::Parts,
};

/// The longest time for which proposals are held while the target catches up.
pub(crate) const HELD_MAX: Duration = Duration::from_millis(100);

/// A voter that is behind by more entries than this is refused at once.
const LAG_ENTRIES_MAX: u64 = 10_000;

/// A beat that is older than this says nothing about the target's disk any more.
const SAID_AGE_MAX: Duration = Duration::from_secs(1);

/// A hand-over that came to an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandOver {
    /// Who led.
    pub from: u64,
    /// Who was to lead.
    pub wanted: u64,
    /// Who leads; another than wanted if that one died after the trigger.
    pub leader: u64,
    /// The new term.
    pub term: u64,
    /// From the first check to the new leader.
    pub took: Duration,
}

/// A hand-over that was refused, or whose outcome is not known.
///
/// Unless it says otherwise nothing has changed: the leader carries on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum HandOverError {
    /// Nobody leads, or the leader cannot be reached.
    #[error("there is no leader right now")]
    NoLeader,
    /// This node is not in a cluster.
    #[error("this node is not a member of a cluster yet")]
    NotReady,
    /// There is no such member.
    #[error("there is no member {id}")]
    UnknownMember {
        /// The id that was asked for.
        id: u64,
    },
    /// It has no vote.
    #[error("member {id} has no vote")]
    NotAVoter {
        /// The member.
        id: u64,
    },
    /// It leads already.
    #[error("member {id} leads already")]
    AlreadyLeads {
        /// The member.
        id: u64,
    },
    /// It is silent, or its disk is slow.
    #[error("member {id} would not be a good leader: {why}")]
    NotHealthy {
        /// The member.
        id: u64,
        /// Why, as a clause.
        why: String,
    },
    /// It does not hold the whole log, and did not catch up in time.
    #[error("member {id} is {behind} entries behind")]
    Lagging {
        /// The member.
        id: u64,
        /// Entries that it does not have.
        behind: u64,
    },
    /// No voter is healthy and holds the whole log.
    #[error("no other voter is healthy and holds the whole log")]
    NoCandidate,
    /// Another hand-over is under way.
    #[error("another hand-over is under way")]
    Busy,
    /// The node is stopping.
    #[error("this node is shutting down")]
    ShuttingDown,
    /// It was triggered, and no new leader was seen by the deadline.
    #[error("leadership was given away, and no new leader was seen in time")]
    OutcomeUnknown,
}

/// Hands over; shared by whoever has a reason to.
#[derive(Clone)]
pub(crate) struct HandOvers(Arc<Shared>);

struct Shared {
    parts: Parts,
    proposals: Proposals,
    cause: TransferCause,
    turn: AsyncMutex<()>,
    refused: AtomicU64,
}

/// Why leadership is being handed over, for the message to the next leader.
pub(crate) type TransferCause = Arc<Mutex<ElectionCause>>;

impl HandOvers {
    pub(crate) fn new(parts: Parts, proposals: Proposals, cause: TransferCause) -> Self {
        let (turn, refused) = (AsyncMutex::default(), AtomicU64::new(0));
        Self(Arc::new(Shared { parts, proposals, cause, turn, refused }))
    }

    /// Hands over from this node to `to`, or to the voter that is fittest.
    pub(crate) async fn run(
        &self,
        to: Option<u64>,
        cause: ElectionCause,
        deadline: Instant,
    ) -> Result<HandOver, HandOverError> {
        let outcome = self.try_run(to, cause, deadline).await;
        match &outcome {
            Ok(done) => {
                info!(%cause, leader = done.leader, term = done.term,
                    took_ms = done.took.as_millis(), "leadership was handed over");
            }
            Err(HandOverError::OutcomeUnknown) => {
                warn!(%cause, "leadership was given away and no new leader was seen in time");
            }
            Err(refusal) => {
                self.0.refused.fetch_add(1, Ordering::Relaxed);
                info!(%cause, %refusal, "leadership was not handed over");
            }
        }
        outcome
    }

    /// Hand-overs that were refused.
    pub(crate) fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }

    /// Whether a voter could take over right now, as far as its beats tell.
    pub(crate) fn has_candidate(&self) -> bool {
        !self.by_fitness().is_empty()
    }

    async fn try_run(
        &self,
        to: Option<u64>,
        cause: ElectionCause,
        deadline: Instant,
    ) -> Result<HandOver, HandOverError> {
        let shared = &self.0;
        let _turn = shared.turn.try_lock().map_err(|_taken| HandOverError::Busy)?;
        let start = Instant::now();
        let before = *shared.parts.leadership.borrow();
        if !before.leads {
            return Err(HandOverError::NoLeader);
        }
        let wanted = match to {
            Some(id) => {
                let id = self.check(id)?;
                self.answers(id).await?;
                id
            }
            None => self.fittest_that_answers().await?,
        };
        // From here on no proposal is on its way; dropping this lets them go again.
        let held_until = Instant::now() + HELD_MAX;
        let Ok(held) = world::timeout(HELD_MAX, shared.proposals.hold()).await else {
            return Err(HandOverError::Lagging { id: wanted, behind: self.behind(wanted) });
        };
        self.caught_up(wanted, held_until).await?;
        *shared.cause.lock().unwrap_or_else(PoisonError::into_inner) = cause;
        if shared.parts.raft.trigger().transfer_leader(wanted).await.is_err() {
            return Err(HandOverError::ShuttingDown);
        }
        let mut leadership = shared.parts.leadership.clone();
        let left = deadline.since(Instant::now());
        let next = leadership.wait_for(|now| now.term > before.term && now.leader.is_some());
        let next = world::timeout(left, next).await;
        drop(held);
        match next {
            Ok(Ok(next)) => Ok(HandOver {
                from: shared.parts.node_id,
                wanted,
                leader: next.leader.unwrap_or(wanted),
                term: next.term,
                took: start.elapsed(),
            }),
            Ok(Err(_)) | Err(_) => Err(HandOverError::OutcomeUnknown),
        }
    }

    /// Checks what an operator asks for.
    fn check(&self, id: u64) -> Result<u64, HandOverError> {
        let shared = &self.0;
        let membership = Arc::clone(&shared.parts.membership.borrow());
        if id == shared.parts.node_id {
            return Err(HandOverError::AlreadyLeads { id });
        }
        if membership.get_node(&id).is_none() {
            return Err(HandOverError::UnknownMember { id });
        }
        if !membership.voter_ids().any(|voter| voter == id) {
            return Err(HandOverError::NotAVoter { id });
        }
        self.health(id).map_err(|why| HandOverError::NotHealthy { id, why })?;
        match self.behind(id) {
            behind if behind > LAG_ENTRIES_MAX => Err(HandOverError::Lagging { id, behind }),
            _ => Ok(id),
        }
    }

    /// The fittest voter of those that answer this very moment: one that is stopping does not.
    async fn fittest_that_answers(&self) -> Result<u64, HandOverError> {
        for id in self.by_fitness() {
            if self.answers(id).await.is_ok() {
                return Ok(id);
            }
        }
        Err(HandOverError::NoCandidate)
    }

    /// The healthy voters, those with the most of the log first; of equals the one with the
    /// quickest disk.
    fn by_fitness(&self) -> Vec<u64> {
        let shared = &self.0;
        let membership = Arc::clone(&shared.parts.membership.borrow());
        let mut voters: Vec<_> = membership
            .voter_ids()
            .filter(|id| *id != shared.parts.node_id)
            .filter_map(|id| {
                let said = self.health(id).ok()?;
                let behind = self.behind(id);
                (behind <= LAG_ENTRIES_MAX).then_some((behind, said.oldest_sync, id))
            })
            .collect();
        voters.sort_unstable();
        voters.into_iter().map(|(_behind, _oldest_sync, id)| id).collect()
    }

    /// What a healthy peer said last, or why it is not healthy.
    fn health(&self, id: u64) -> Result<Said, String> {
        let shared = &self.0;
        if shared.parts.detector.level(id) != Some(Level::Alive) {
            return Err("it is not heard".to_owned());
        }
        let said = shared.parts.detector.said(id).filter(|said| said.at.elapsed() < SAID_AGE_MAX);
        let said = said.ok_or_else(|| "it has not said how it is".to_owned())?;
        let budget = stall_budget(&shared.parts.storage);
        let unchecked = shared.parts.buggify.is_planted("transfer-unchecked");
        if said.oldest_sync * 2 >= budget && !unchecked {
            let ms = said.oldest_sync.as_millis();
            return Err(format!("its disk is slow, its oldest sync is {ms} ms old"));
        }
        Ok(said)
    }

    /// Asks the target whether it is there this very moment: a beat may be 200 ms old.
    async fn answers(&self, id: u64) -> Result<(), HandOverError> {
        if self.0.parts.buggify.is_planted("transfer-unchecked") {
            return Ok(());
        }
        let silent = |why: String| HandOverError::NotHealthy { id, why };
        let link = self.0.parts.links.find(id);
        let link = link.ok_or_else(|| silent("there is no connection to it".to_owned()))?;
        match link.control.call(&Call::Ping, HELD_MAX).await {
            Ok(Answer::Pong(_pong)) => Ok(()),
            Ok(_other) => Err(silent("it does not answer".to_owned())),
            Err(error) => Err(silent(format!("it is not heard: {error}"))),
        }
    }

    /// How many entries of this leader's log a peer is not known to have.
    fn behind(&self, id: u64) -> u64 {
        let metrics = self.0.parts.raft.data_metrics();
        let metrics = metrics.borrow_watched();
        let next = |id: Option<u64>| id.map_or(0, |index| index + 1);
        let last = next(metrics.last_log.as_ref().map(|last| last.index));
        let matched = metrics.replication.as_ref().and_then(|replication| replication.get(&id));
        let matched = matched.and_then(|matched| matched.as_ref()).map(|matched| matched.index);
        last.saturating_sub(next(matched))
    }

    /// Waits until the target holds the whole log.
    async fn caught_up(&self, id: u64, until: Instant) -> Result<(), HandOverError> {
        if self.0.parts.buggify.is_planted("transfer-unchecked") {
            return Ok(());
        }
        let mut metrics = self.0.parts.raft.data_metrics();
        let caught_up = async {
            while self.behind(id) > 0 {
                if metrics.changed().await.is_err() {
                    return Err(HandOverError::ShuttingDown);
                }
            }
            Ok(())
        };
        match world::timeout(until.since(Instant::now()), caught_up).await {
            Ok(outcome) => outcome,
            Err(_elapsed) => Err(HandOverError::Lagging { id, behind: self.behind(id) }),
        }
    }
}
