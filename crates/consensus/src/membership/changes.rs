//! Carrying a change of members out, on the leader, one at a time.
//!
//! The view that [`rules`](crate::membership::rules) decide on is made here: every member is asked
//! whether it answers this very moment, and a node that is to be added is asked at its peer address
//! who it is, so that what is recorded is what it says itself. The proposal then carries the
//! membership that was looked at as its condition: if another change came between, nothing is done.
//!
//! A leader that dies between the two halves of a joint change leaves it to its successor, which
//! completes it (see `autopilot`).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;
use mainstay_world::{self as world, Instant};
use openraft::{
    ChangeMembers, Membership,
    errors::{ClientWriteError, RaftError},
    raft::Precondition,
};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex as AsyncMutex, MutexGuard as AsyncMutexGuard};
use tracing::{info, warn};

use crate::{
    birth::{BirthNotice, BirthState},
    election::ElectionCause,
    handover::HandOvers,
    membership::{
        readiness::Readiness,
        refusal::MembershipError,
        rules::{Candidate, ClusterView, Decision, MemberView, Plan, Wish, decide},
    },
    peer::{
        channel::CallError,
        handshake::Introduction,
        message::{Answer, Call},
    },
    running::Parts,
    status::MemberRecord,
    type_config::{EntryPayload, StoredMembership, TypeConfig},
};

/// The longest wait for a member to say that it is there.
const PING_DEADLINE: Duration = Duration::from_millis(300);

/// The longest wait for a node that is to be added to say who it is.
const INTERVIEW_DEADLINE: Duration = Duration::from_secs(2);

/// The longest time that a change that was begun is followed, so that its outcome is known.
const CHANGE_DEADLINE: Duration = Duration::from_secs(30);

/// How often, and how many times, a new member is told which cluster it is in.
const TELLING_INTERVAL: Duration = Duration::from_millis(250);
const TELLINGS_MAX: u32 = 40;

/// A wish about the members, and how it is meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRequest {
    /// What is wanted.
    pub wish: MemberWish,
    /// Whether fewer failures may be tolerated afterwards.
    pub force: bool,
    /// Whether only to say what would be done.
    pub dry_run: bool,
}

/// What can be wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberWish {
    /// The node at a peer address is to become a learner; it replaces the member of its name that
    /// does not answer.
    Add {
        /// Where it is dialled, `host:port`.
        peer_address: String,
        /// The node that must answer there, if it is known.
        id: Option<u64>,
    },
    /// A learner is to get a vote.
    Promote {
        /// The learner.
        id: u64,
    },
    /// A member is to go; its id is never admitted again.
    Remove {
        /// The member.
        id: u64,
    },
    /// A member says where and what it is now.
    Describe(MemberRecord),
}

/// What a change of members did, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberChange {
    /// What was done.
    pub kind: MemberChangeKind,
    /// The member.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// The member of the same name that it replaces, or will when it is promoted.
    pub replaces: Option<u64>,
    /// Whether nothing was done, because only the plan was asked for.
    pub dry_run: bool,
    /// Failures tolerated before.
    pub failures_tolerated_before: i64,
    /// Failures tolerated after.
    pub failures_tolerated_after: i64,
    /// The cluster.
    pub cluster_id: u64,
    /// Its epoch.
    pub epoch: u64,
    /// From the request to the outcome.
    pub took: Duration,
}

/// What a change of members did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberChangeKind {
    /// Nothing: it was so already.
    Unchanged,
    /// A learner was added.
    Added,
    /// A learner got a vote.
    Promoted,
    /// A learner got the vote of the member that it replaces.
    Replaced,
    /// A member was removed.
    Removed,
    /// A member is recorded with another address, or another attribute.
    Described,
}

impl MemberChangeKind {
    /// The kind in one word, as the API shows it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unchanged => "unchanged",
            Self::Added => "added",
            Self::Promoted => "promoted",
            Self::Replaced => "replaced",
            Self::Removed => "removed",
            Self::Described => "described",
        }
    }
}

/// Changes the members of the cluster that this node leads.
#[derive(Clone)]
pub(crate) struct MemberChanges(Arc<Shared>);

struct Shared {
    parts: Parts,
    hand_overs: HandOvers,
    introduction: Arc<Introduction>,
    turn: AsyncMutex<()>,
    origin: Instant,
    readiness: Mutex<Readiness>,
}

/// The right to change the members; one at a time.
pub(crate) struct Turn<'a>(
    #[expect(dead_code, reason = "it is held, not read")] AsyncMutexGuard<'a, ()>,
);

/// The cluster as it was looked at, and the membership that was in force then.
pub(crate) struct Look {
    pub(crate) view: ClusterView,
    membership: Arc<StoredMembership>,
}

impl MemberChanges {
    pub(crate) fn new(
        parts: Parts,
        hand_overs: HandOvers,
        introduction: Arc<Introduction>,
    ) -> Self {
        Self(Arc::new(Shared {
            parts,
            hand_overs,
            introduction,
            turn: AsyncMutex::default(),
            origin: Instant::now(),
            readiness: Mutex::default(),
        }))
    }

    /// The right to change the members, unless somebody has it.
    pub(crate) fn turn(&self) -> Option<Turn<'_>> {
        self.0.turn.try_lock().ok().map(Turn)
    }

    /// Works on what is known of how the learners keep up, with the time on its clock.
    pub(crate) fn readiness<T>(&self, work: impl FnOnce(&mut Readiness, Duration) -> T) -> T {
        let mut readiness = self.0.readiness.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut readiness, self.0.origin.elapsed())
    }

    /// What a learner lacks to be given a vote, as a clause.
    pub(crate) fn lacks(&self, id: u64) -> Option<String> {
        if self.0.parts.buggify.is_planted("promote-unready") {
            return None;
        }
        let stable_ms = self.0.parts.store.read(|store| store.settings().learner_stable_ms);
        let stable = Duration::from_millis(stable_ms);
        self.readiness(|readiness, now| readiness.lacks(id, now, stable))
    }

    /// Does what is asked for, or says what it would do.
    ///
    /// When this node was to go and handed over for it, the answer is [`MembershipError::NoLeader`]:
    /// the next leader is to be asked.
    pub(crate) async fn run(
        &self,
        request: &MemberRequest,
        deadline: Instant,
    ) -> Result<MemberChange, MembershipError> {
        let turn = self.turn().ok_or(MembershipError::Busy)?;
        let started = Instant::now();
        let wish = self.understand(&request.wish).await?;
        let look = self.look().await?;
        let force = request.force || self.0.parts.buggify.is_planted("always-force");
        let decision = decide(&look.view, &wish, force)?;
        let mut change = self.describe(&look.view, &wish, &decision);
        change.dry_run = request.dry_run;
        if !request.dry_run {
            self.carry_out(&turn, &look, &decision.plan, deadline).await?;
        }
        change.took = started.elapsed();
        if !request.dry_run && change.kind != MemberChangeKind::Unchanged {
            info!(what = change.kind.as_str(), name = %change.name,
                node = change.id, replaces = ?change.replaces,
                tolerated_before = change.failures_tolerated_before,
                tolerated_after = change.failures_tolerated_after,
                "the members were changed");
        }
        Ok(change)
    }

    /// What the wish means; a node that is to be added is asked who it is.
    async fn understand(&self, wish: &MemberWish) -> Result<Wish, MembershipError> {
        Ok(match wish {
            MemberWish::Add { peer_address, id } => {
                Wish::Add(self.interview(peer_address, *id).await?)
            }
            MemberWish::Promote { id } => Wish::Promote(*id),
            MemberWish::Remove { id } => Wish::Remove(*id),
            MemberWish::Describe(record) => Wish::Describe(record.clone()),
        })
    }

    async fn interview(
        &self,
        address: &str,
        wanted: Option<u64>,
    ) -> Result<Candidate, MembershipError> {
        let unreachable =
            |why: String| MembershipError::Unreachable { address: address.to_owned(), why };
        let (channel, announced) = self.0.parts.links.stranger(address);
        let answer = channel.call(&Call::BirthQuery, INTERVIEW_DEADLINE).await;
        if let Some(why) = announced.obstacle() {
            let address = address.to_owned();
            return Err(MembershipError::Protocol { address, why: why.to_string() });
        }
        let state: BirthState = match answer {
            Ok(Answer::Birth(state)) => state,
            Ok(_other) => return Err(unreachable("it gave an answer of another kind".to_owned())),
            Err(CallError::NotSent(why)) => return Err(unreachable(why.to_string())),
            Err(error) => return Err(unreachable(error.to_string())),
        };
        if let Some(wanted) = wanted.filter(|wanted| *wanted != state.node_id) {
            return Err(MembershipError::OtherNode {
                address: address.to_owned(),
                wanted,
                found: state.node_id,
                name: state.record.name,
            });
        }
        let BirthState { cluster_id, record, formats, .. } = state;
        Ok(Candidate { record, cluster_id, formats })
    }

    /// Looks at the cluster: who is in it, and who answers right now.
    pub(crate) async fn look(&self) -> Result<Look, MembershipError> {
        let parts = &self.0.parts;
        let leadership = *parts.leadership.borrow();
        // What was removed before is known for certain once an entry of this term is applied.
        if !leadership.leads || parts.store.applied_term() != leadership.term {
            return Err(MembershipError::NoLeader);
        }
        let membership = Arc::clone(&parts.membership.borrow());
        let asked = membership.nodes().map(|(id, _record)| self.answers(*id));
        let answers: BTreeMap<u64, bool> = join_all(asked).await.into_iter().collect();
        let voters = membership.get_joint_config().clone();
        let is_voter = |id: u64| voters.iter().any(|set| set.contains(&id));
        let member = |(id, record): (&u64, &MemberRecord)| {
            let lacks = if is_voter(*id) { None } else { self.lacks(*id) };
            let answers = answers.get(id).copied().unwrap_or(false);
            (*id, MemberView { record: record.clone(), answers, lacks })
        };
        let members = membership.nodes().map(member).collect();
        let view = ClusterView {
            cluster_id: self.0.introduction.cluster_id,
            format: parts.store.read(|store| store.settings().format),
            leader: parts.node_id,
            voters,
            members,
            removed: parts.store.removed(),
        };
        Ok(Look { view, membership })
    }

    /// Whether a member answers this very moment.
    async fn answers(&self, id: u64) -> (u64, bool) {
        let parts = &self.0.parts;
        if id == parts.node_id {
            return (id, parts.storage.failure().borrow().is_none());
        }
        let Some(link) = parts.links.find(id) else { return (id, false) };
        let answer = link.control.call(&Call::Ping, PING_DEADLINE).await;
        (id, matches!(answer, Ok(Answer::Pong(_))))
    }

    fn describe(&self, view: &ClusterView, wish: &Wish, decision: &Decision) -> MemberChange {
        let (id, name) = match wish {
            Wish::Add(Candidate { record, .. }) | Wish::Describe(record) => {
                (record.folder_id, record.name.clone())
            }
            Wish::Promote(id) | Wish::Remove(id) => (*id, view.name(*id)),
        };
        let (kind, replaces) = match &decision.plan {
            Plan::Nothing => (MemberChangeKind::Unchanged, None),
            Plan::Add { replaces, .. } => (MemberChangeKind::Added, *replaces),
            Plan::Promote { replaces: None, .. } => (MemberChangeKind::Promoted, None),
            Plan::Promote { replaces, .. } => (MemberChangeKind::Replaced, *replaces),
            Plan::Remove { .. } => (MemberChangeKind::Removed, None),
            Plan::Describe(_) => (MemberChangeKind::Described, None),
        };
        MemberChange {
            kind,
            id,
            name,
            replaces,
            dry_run: false,
            failures_tolerated_before: decision.before,
            failures_tolerated_after: decision.after,
            cluster_id: self.0.introduction.cluster_id,
            epoch: self.0.introduction.epoch,
            took: Duration::ZERO,
        }
    }

    /// Carries `plan` out, on the membership that was looked at or not at all.
    pub(crate) async fn carry_out(
        &self,
        turn: &Turn<'_>,
        look: &Look,
        plan: &Plan,
        deadline: Instant,
    ) -> Result<(), MembershipError> {
        let voters = || ChangeMembers::ReplaceAllVoters(look.view.voters_after(plan));
        let change = match plan {
            Plan::Nothing => return Ok(()),
            Plan::Remove { id, leads: true, .. } => {
                return self.hand_over(&look.view, *id, deadline).await;
            }
            Plan::Add { record, instead_of, .. } => {
                let added = BTreeMap::from([(record.folder_id, record.clone())]);
                ChangeMembers::Batch(vec![
                    ChangeMembers::RemoveNodes(instead_of.clone()),
                    ChangeMembers::AddNodes(added),
                ])
            }
            Plan::Promote { .. } | Plan::Remove { voter: true, .. } => voters(),
            Plan::Remove { id, voter: false, .. } => {
                ChangeMembers::RemoveNodes(BTreeSet::from([*id]))
            }
            Plan::Describe(record) => {
                ChangeMembers::SetNodes(BTreeMap::from([(record.folder_id, record.clone())]))
            }
        };
        self.propose(turn, &look.membership, change).await?;
        if let Plan::Add { record, .. } = plan {
            self.tell(record.clone());
        }
        Ok(())
    }

    /// A leader that is to go hands over first; the next leader removes it.
    async fn hand_over(
        &self,
        view: &ClusterView,
        id: u64,
        deadline: Instant,
    ) -> Result<(), MembershipError> {
        match self.0.hand_overs.run(None, ElectionCause::Operator, deadline).await {
            Ok(_handed_over) => Err(MembershipError::NoLeader),
            Err(error) => {
                let name = view.name(id);
                Err(MembershipError::NotHandedOver { name, why: error.to_string() })
            }
        }
    }

    /// Completes a joint configuration that a former leader left behind.
    pub(crate) async fn complete(&self, turn: &Turn<'_>) -> Result<(), MembershipError> {
        let membership = Arc::clone(&self.0.parts.membership.borrow());
        let nothing = ChangeMembers::AddVoterIds(BTreeSet::new());
        self.propose(turn, &membership, nothing).await
    }

    async fn propose(
        &self,
        _turn: &Turn<'_>,
        membership: &Arc<StoredMembership>,
        change: ChangeMembers<u64, MemberRecord>,
    ) -> Result<(), MembershipError> {
        let parts = &self.0.parts;
        let before = *membership.log_id();
        let unchanged =
            Precondition::<TypeConfig>::LastMembershipLogId { last_membership_log_id: before };
        let raft = parts.raft.clone();
        let in_one_step = self.in_one_step(membership, &change);
        // It goes on if the caller gives up: half a change is completed by whoever leads.
        let changing = world::spawn(async move {
            match in_one_step {
                None => raft.change_membership_if(change, false, [unchanged]).await,
                Some(next) => raft.append_membership(next, EntryPayload::Blank, [unchanged]).await,
            }
        });
        if parts.buggify.is_planted("answer-before-change") {
            return Ok(());
        }
        let Ok(Ok(outcome)) = world::timeout(CHANGE_DEADLINE, changing).await else {
            return Err(MembershipError::OutcomeUnknown);
        };
        let Err(error) = outcome else { return Ok(()) };
        warn!(%error, "a change of members did not come about");
        let is_untouched = *parts.membership.borrow().log_id() == before;
        Err(match error {
            RaftError::APIError(ClientWriteError::ForwardToLeader(_)) if is_untouched => {
                MembershipError::NoLeader
            }
            RaftError::APIError(
                ClientWriteError::ChangeMembershipError(_)
                | ClientWriteError::PreconditionFailed(_),
            ) if is_untouched => MembershipError::Busy,
            RaftError::APIError(ClientWriteError::PreconditionFailed(_)) => MembershipError::Busy,
            _ => MembershipError::OutcomeUnknown,
        })
    }

    /// The voters as one entry, which both sides of the change do not decide about: a planted bug.
    fn in_one_step(
        &self,
        membership: &StoredMembership,
        change: &ChangeMembers<u64, MemberRecord>,
    ) -> Option<Membership<u64, MemberRecord>> {
        let ChangeMembers::ReplaceAllVoters(voters) = change else { return None };
        if !self.0.parts.buggify.is_planted("change-without-joint") {
            return None;
        }
        let goes =
            |id: &u64| membership.voter_ids().any(|voter| voter == *id) && !voters.contains(id);
        let stays = membership.nodes().filter(|(id, _record)| !goes(id));
        let nodes: BTreeMap<u64, MemberRecord> =
            stays.map(|(id, record)| (*id, record.clone())).collect();
        Membership::new(vec![voters.clone()], nodes).ok()
    }

    /// Tells a new member which cluster it is in, until it has heard it.
    fn tell(&self, record: MemberRecord) {
        let Introduction { cluster_id, epoch, .. } = *self.0.introduction;
        let (channel, _announced) = self.0.parts.links.stranger(&record.peer_address);
        let founders = BTreeMap::from([(record.folder_id, record)]);
        let notice = BirthNotice { cluster_id, epoch, founders };
        world::spawn(async move {
            for _attempt in 0..TELLINGS_MAX {
                let call = Call::BirthNotice(notice.clone());
                match channel.call(&call, INTERVIEW_DEADLINE).await {
                    Ok(Answer::Birth(state)) if state.cluster_id == cluster_id => return,
                    Ok(_) | Err(_) => world::sleep(TELLING_INTERVAL).await,
                }
            }
        });
    }
}
