//! What an operator asks of the cluster through any of its nodes: a follower passes it on to the
//! leader, which decides.

use mainstay_world::Instant;

use crate::{
    Consensus,
    autopilot::AutopilotState,
    election::ElectionCause,
    handover::{HandOver, HandOverError},
    membership::{MemberChange, MemberRequest, MembershipError},
    observation::Leadership,
    peer::{
        channel::CallError,
        link::Link,
        message::{Answer, Call},
    },
    running::Running,
    wait_for_change,
};

impl Consensus {
    /// Has leadership handed to `to`, or to the fittest voter; a follower passes it on.
    ///
    /// # Errors
    /// [`HandOverError`]: it was refused and the leader carries on, or the outcome is unknown.
    pub async fn hand_over(
        &self,
        to: Option<u64>,
        deadline: Instant,
    ) -> Result<HandOver, HandOverError> {
        let running = self.core.running().ok_or(HandOverError::NotReady)?;
        if *self.core.stopping.borrow() {
            return Err(HandOverError::ShuttingDown);
        }
        let leadership = *self.core.leadership.borrow();
        if leadership.leads {
            return running.hand_overs.run(to, ElectionCause::Operator, deadline).await;
        }
        let leader = leadership.leader.ok_or(HandOverError::NoLeader)?;
        if to == Some(leader) {
            return Err(HandOverError::AlreadyLeads { id: leader });
        }
        let link = running.links.find(leader).ok_or(HandOverError::NoLeader)?;
        let left = deadline.since(Instant::now());
        match link.forward.call(&Call::HandOver(to), left).await {
            Ok(Answer::HandedOver(outcome)) => outcome,
            Ok(_) | Err(CallError::NotSent(_) | CallError::Refused(_) | CallError::Removed) => {
                Err(HandOverError::NoLeader)
            }
            Err(CallError::Lost | CallError::Timeout) => Err(HandOverError::OutcomeUnknown),
        }
    }

    /// Has the members changed, or says what would be done; a follower passes it on.
    ///
    /// # Errors
    /// [`MembershipError`]: it was refused and nothing changed, or the outcome is unknown.
    pub async fn change_members(
        &self,
        request: &MemberRequest,
        deadline: Instant,
    ) -> Result<MemberChange, MembershipError> {
        let mut leadership = self.core.leadership.subscribe();
        loop {
            if *self.core.stopping.borrow() {
                return Err(MembershipError::ShuttingDown);
            }
            let outcome = self.try_change_members(request, deadline).await;
            let may_repeat = matches!(outcome, Err(MembershipError::NoLeader));
            leadership.borrow_and_update();
            if !may_repeat || !wait_for_change(&mut leadership, deadline).await {
                return outcome;
            }
        }
    }

    async fn try_change_members(
        &self,
        request: &MemberRequest,
        deadline: Instant,
    ) -> Result<MemberChange, MembershipError> {
        let running = self.core.running().ok_or(MembershipError::NotReady)?;
        let leadership = *self.core.leadership.borrow();
        if leadership.leads {
            return running.member_changes.run(request, deadline).await;
        }
        let link = leader_link(leadership, &running).ok_or(MembershipError::NoLeader)?;
        let left = deadline.since(Instant::now());
        match link.forward.call(&Call::ChangeMembers(request.clone()), left).await {
            Ok(Answer::MembersChanged(outcome)) => *outcome,
            Ok(_) | Err(CallError::NotSent(_) | CallError::Refused(_) | CallError::Removed) => {
                Err(MembershipError::NoLeader)
            }
            Err(CallError::Lost | CallError::Timeout) => Err(MembershipError::OutcomeUnknown),
        }
    }

    /// What the leader makes of the members by itself, with at most `limit` of its decisions.
    ///
    /// # Errors
    /// [`MembershipError`]: there is no leader that answers.
    pub async fn autopilot(
        &self,
        limit: usize,
        deadline: Instant,
    ) -> Result<AutopilotState, MembershipError> {
        let running = self.core.running().ok_or(MembershipError::NotReady)?;
        let leadership = *self.core.leadership.borrow();
        if leadership.leads {
            return running.autopilot_here(limit);
        }
        let link = leader_link(leadership, &running).ok_or(MembershipError::NoLeader)?;
        let left = deadline.since(Instant::now());
        match link.forward.call(&Call::Autopilot(limit as u64), left).await {
            Ok(Answer::Autopilot(state)) => *state,
            Ok(_) | Err(_) => Err(MembershipError::NoLeader),
        }
    }
}

/// The link to the leader. A node that moved is not heard by its leader, and learns who leads only
/// by asking.
fn leader_link(leadership: Leadership, running: &Running) -> Option<Link> {
    let claims = || running.links.all().into_iter().find(Link::claims_to_lead);
    let named = leadership.leader.and_then(|leader| running.links.find(leader));
    named.or_else(claims)
}
