//! The operator: what people have a running cluster do, through the same API as everybody.
//!
//! A scenario hands out errands, one call each, and reads what became of them. An errand is carried
//! out once: whoever wants it again sends it again. Errands run beside each other.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mainstay_client::{Answer, CallError, Client, MemberChange, NewMember, TookEffect};
use mainstay_world::Net;

use super::{Orders, caller};
use crate::{cluster::peer_address, record::SharedRecord};

/// How long one attempt may take: longer than a hand-over may, or its outcome is never told.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(2_500);

/// One thing to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Errand {
    /// Another node shall lead.
    Transfer {
        /// The node that is asked.
        through: u32,
        /// Who is to lead; `None` leaves it to the leader.
        to: Option<u32>,
    },
    /// All revisions before the present one shall be forgotten.
    Compact {
        /// The node that is asked.
        through: u32,
    },
    /// A node that waits shall become a learner.
    AddMember {
        /// The node that is asked.
        through: u32,
        /// The node to add.
        node: u32,
    },
    /// A learner shall get a vote.
    PromoteMember {
        /// The node that is asked.
        through: u32,
        /// The learner's node id.
        id: u64,
    },
    /// A member shall go.
    RemoveMember {
        /// The node that is asked.
        through: u32,
        /// The member's node id.
        id: u64,
        /// Even if fewer failures are tolerated then.
        force: bool,
    },
    /// What the removal of a member would do is asked for, and nothing done.
    RehearseRemoval {
        /// The node that is asked.
        through: u32,
        /// The member's node id.
        id: u64,
        /// See [`Errand::RemoveMember`].
        force: bool,
    },
}

/// Which errand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ErrandId(u64);

/// What became of an errand, as its answer tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErrandOutcome {
    /// This node leads now.
    Leads(Option<u32>),
    /// Revisions below this one are forgotten.
    Compacted(u64),
    /// The members are as was wished for.
    Members {
        /// What was done, in the API's word.
        change: String,
        /// The member's node id.
        id: u64,
        /// The member whose place it takes, or will.
        replaces: Option<u64>,
    },
    /// It was refused and had no effect.
    Refused {
        /// Why, as the problem's code.
        code: String,
    },
    /// Nobody knows whether it had an effect.
    Unknown,
}

/// The errands of a run.
#[derive(Debug, Default)]
pub(super) struct Errands(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    handed_out: u64,
    waiting: VecDeque<(ErrandId, Errand)>,
    outcomes: BTreeMap<ErrandId, ErrandOutcome>,
}

impl Errands {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Orders {
    /// Has the operator do something.
    pub(crate) fn send(&self, errand: Errand) -> ErrandId {
        let mut state = self.inner.errands.lock();
        state.handed_out += 1;
        let id = ErrandId(state.handed_out);
        state.waiting.push_back((id, errand));
        id
    }

    /// What became of an errand; `None` while it is under way.
    #[must_use]
    pub(crate) fn outcome(&self, errand: ErrandId) -> Option<ErrandOutcome> {
        self.inner.errands.lock().outcomes.get(&errand).cloned()
    }

    /// The next errand that nobody has begun.
    pub(super) fn next_errand(&self) -> Option<(ErrandId, Errand)> {
        self.inner.errands.lock().waiting.pop_front()
    }
}

/// See the module comment.
#[derive(Clone)]
pub(super) struct Operator {
    /// One client for each node.
    clients: Arc<[Client]>,
    record: SharedRecord,
    orders: Orders,
}

impl Operator {
    pub(super) fn new(
        places: u32,
        net: &Arc<dyn Net>,
        record: SharedRecord,
        orders: Orders,
    ) -> Self {
        let clients = (0..places)
            .map(|node| caller::client(Arc::clone(net), &[node], ATTEMPT_TIMEOUT, false));
        Self { clients: clients.collect(), record, orders }
    }

    /// Carries out one errand.
    pub(super) async fn carry_out(self, (id, errand): (ErrandId, Errand)) {
        let outcome = match errand {
            Errand::Transfer { through, to } => self.transfer(through, to).await,
            Errand::Compact { through } => self.compact(through).await,
            Errand::AddMember { through, node } => {
                let member = NewMember { peer_address: peer_address(node), id: None };
                changed(self.of(through).add_member(&member, false).await)
            }
            Errand::PromoteMember { through, id } => {
                changed(self.of(through).promote_member(&id.to_string(), false).await)
            }
            Errand::RemoveMember { through, id, force } => {
                changed(self.of(through).remove_member(&id.to_string(), force, false).await)
            }
            Errand::RehearseRemoval { through, id, force } => {
                changed(self.of(through).remove_member(&id.to_string(), force, true).await)
            }
        };
        self.orders.inner.errands.lock().outcomes.insert(
            id,
            outcome.unwrap_or_else(|error| {
                if error.took_effect == TookEffect::No {
                    ErrandOutcome::Refused { code: error.code().unwrap_or("not_sent").to_owned() }
                } else {
                    ErrandOutcome::Unknown
                }
            }),
        );
    }

    async fn transfer(&self, through: u32, to: Option<u32>) -> Result<ErrandOutcome, CallError> {
        let to = to.map(|node| format!("n{node}"));
        let answer = self.of(through).transfer_leadership(to.as_deref()).await?;
        Ok(ErrandOutcome::Leads(self.record.lock().node_of(answer.value.leader)))
    }

    async fn compact(&self, through: u32) -> Result<ErrandOutcome, CallError> {
        let revision = self.of(through).cluster().await?.value.revision;
        let answer = self.of(through).compact(revision).await?;
        Ok(ErrandOutcome::Compacted(answer.value.compact_revision))
    }

    fn of(&self, node: u32) -> &Client {
        &self.clients[node as usize]
    }
}

fn changed(answer: Result<Answer<MemberChange>, CallError>) -> Result<ErrandOutcome, CallError> {
    let MemberChange { change, id, replaces, .. } = answer?.value;
    Ok(ErrandOutcome::Members { change, id, replaces })
}
