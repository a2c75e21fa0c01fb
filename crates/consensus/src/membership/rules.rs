//! Which change of members is made: a view of the cluster and a wish give a plan or a refusal.
//!
//! Pure: no clock, no network, no openraft. *Failures tolerated* is the number of voters that
//! answer minus a quorum; no plan lowers it unless forced, and no force makes a plan whose voters
//! could not agree on anything any more. Consensus goes through a joint configuration underneath,
//! in which both the old and the new voters must agree; what is tolerated meanwhile is the smaller
//! of the two numbers, so it is enough to look at before and after.

use std::collections::{BTreeMap, BTreeSet};

use crate::{membership::refusal::MembershipError, status::MemberRecord};

/// Members of a cluster, voters and learners.
pub(crate) const MEMBERS_MAX: usize = 16;

/// A cluster as its leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClusterView {
    /// The cluster.
    pub(crate) cluster_id: u64,
    /// The format of rules that the cluster follows.
    pub(crate) format: u64,
    /// The leader.
    pub(crate) leader: u64,
    /// The voters: one set, or two while a change is being completed.
    pub(crate) voters: Vec<BTreeSet<u64>>,
    /// Voters and learners.
    pub(crate) members: BTreeMap<u64, MemberView>,
    /// Ids that were removed.
    pub(crate) removed: BTreeSet<u64>,
}

/// A member as the leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MemberView {
    /// What the cluster records about it.
    pub(crate) record: MemberRecord,
    /// Whether it answers.
    pub(crate) answers: bool,
    /// What a learner lacks to be given a vote, as a clause.
    pub(crate) lacks: Option<String>,
}

/// A node that wants to be a member, as it says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// What is to be recorded about it; its folder id is the node id.
    pub(crate) record: MemberRecord,
    /// The cluster it is in, 0 for none.
    pub(crate) cluster_id: u64,
    /// The oldest and newest format that it knows.
    pub(crate) formats: (u64, u64),
}

/// What somebody wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wish {
    /// A node is to become a learner.
    Add(Candidate),
    /// A learner is to get a vote.
    Promote(u64),
    /// A member is to go, for ever.
    Remove(u64),
    /// A member says where and what it is now.
    Describe(MemberRecord),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Nothing: it is so already.
    Nothing,
    /// Record a learner, and forget those of its name that were never heard again.
    Add {
        /// The learner.
        record: MemberRecord,
        /// Learners of the same name that do not answer.
        instead_of: BTreeSet<u64>,
        /// The voter of the same name that it replaces when it is promoted.
        replaces: Option<u64>,
    },
    /// Give a learner a vote; the voter that it replaces goes in the same change.
    Promote {
        /// The learner.
        id: u64,
        /// The voter of the same name, which does not answer.
        replaces: Option<u64>,
    },
    /// Let a member go.
    Remove {
        /// The member.
        id: u64,
        /// Whether it has a vote.
        voter: bool,
        /// Whether it leads: then it hands over before.
        leads: bool,
    },
    /// Record a member anew.
    Describe(MemberRecord),
}

/// A plan with what it does to the failures tolerated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decision {
    /// What is to be done.
    pub(crate) plan: Plan,
    /// Failures tolerated before.
    pub(crate) before: i64,
    /// Failures tolerated after.
    pub(crate) after: i64,
}

/// Voters that answer minus quorum, in the worse of two configurations; 0 without any voter.
pub(crate) fn failures_tolerated(voters: &[BTreeSet<u64>], answers: impl Fn(u64) -> bool) -> i64 {
    let tolerated = |set: &BTreeSet<u64>| {
        let answering = set.iter().filter(|id| answers(**id)).count();
        signed(answering) - signed(quorum(set.len()))
    };
    voters.iter().map(tolerated).min().unwrap_or(0)
}

/// Decides on a wish. `force` allows fewer failures to be tolerated, and nothing else.
pub(crate) fn decide(
    view: &ClusterView,
    wish: &Wish,
    force: bool,
) -> Result<Decision, MembershipError> {
    let before = view.failures_tolerated();
    if view.voters.len() > 1 {
        return Err(MembershipError::Busy);
    }
    if before < 0 {
        return Err(MembershipError::NoQuorum);
    }
    let plan = match wish {
        Wish::Add(candidate) => view.add(candidate)?,
        Wish::Promote(id) => view.promote(*id)?,
        Wish::Remove(id) => view.remove(*id)?,
        Wish::Describe(record) => view.describe(record)?,
    };
    let after = view.tolerated_after(&plan)?;
    if after < before && !force {
        return Err(MembershipError::LowersFailuresTolerated {
            what: view.spoken(&plan),
            before,
            after,
        });
    }
    Ok(Decision { plan, before, after })
}

impl ClusterView {
    /// Voters that answer minus quorum.
    pub(crate) fn failures_tolerated(&self) -> i64 {
        failures_tolerated(&self.voters, |id| self.answers(id))
    }

    /// Whether the member has a vote.
    pub(crate) fn is_voter(&self, id: u64) -> bool {
        self.voters.iter().any(|set| set.contains(&id))
    }

    /// What people call the node.
    pub(crate) fn name(&self, id: u64) -> String {
        self.members.get(&id).map_or_else(|| format!("node {id}"), |m| m.record.name.clone())
    }

    fn answers(&self, id: u64) -> bool {
        self.members.get(&id).is_some_and(|member| member.answers)
    }

    fn member(&self, id: u64) -> Result<&MemberView, MembershipError> {
        if self.removed.contains(&id) {
            return Err(MembershipError::Removed { id });
        }
        let unknown = || MembershipError::UnknownMember { word: id.to_string() };
        self.members.get(&id).ok_or_else(unknown)
    }

    fn add(&self, candidate: &Candidate) -> Result<Plan, MembershipError> {
        let record = &candidate.record;
        let id = record.folder_id;
        let name = || record.name.clone();
        if self.removed.contains(&id) {
            return Err(MembershipError::Removed { id });
        }
        if candidate.cluster_id != 0 && candidate.cluster_id != self.cluster_id {
            let (ours, theirs) = (self.cluster_id, candidate.cluster_id);
            return Err(MembershipError::OtherCluster { name: name(), ours, theirs });
        }
        let (oldest, newest) = candidate.formats;
        if !(oldest..=newest).contains(&self.format) {
            let ours = self.format;
            return Err(MembershipError::Format { name: name(), ours, oldest, newest });
        }
        if self.members.contains_key(&id) {
            return self.describe(record);
        }
        let of_name: Vec<u64> = self.of_name(&record.name).collect();
        if let Some(id) = of_name.iter().copied().find(|id| self.answers(*id)) {
            return Err(MembershipError::NameTaken { name: name(), id });
        }
        self.check_address(record, &of_name)?;
        let instead_of: BTreeSet<u64> =
            of_name.iter().copied().filter(|id| !self.is_voter(*id)).collect();
        if self.members.len() - instead_of.len() >= MEMBERS_MAX {
            return Err(MembershipError::TooMany { max: MEMBERS_MAX });
        }
        let replaces = of_name.into_iter().find(|id| self.is_voter(*id));
        Ok(Plan::Add { record: record.clone(), instead_of, replaces })
    }

    fn promote(&self, id: u64) -> Result<Plan, MembershipError> {
        let member = self.member(id)?;
        if self.is_voter(id) {
            return Ok(Plan::Nothing);
        }
        let name = || member.record.name.clone();
        if !member.answers {
            return Err(MembershipError::Silent { name: name() });
        }
        let others = self.of_name(&member.record.name).filter(|other| *other != id);
        let replaces: Vec<u64> = others.filter(|other| self.is_voter(*other)).collect();
        if let Some(id) = replaces.iter().copied().find(|other| self.answers(*other)) {
            return Err(MembershipError::NameTaken { name: name(), id });
        }
        if let Some(why) = &member.lacks {
            return Err(MembershipError::LearnerLags { name: name(), why: why.clone() });
        }
        Ok(Plan::Promote { id, replaces: replaces.first().copied() })
    }

    fn remove(&self, id: u64) -> Result<Plan, MembershipError> {
        let member = self.member(id)?;
        let voter = self.is_voter(id);
        if voter && self.voters.iter().any(|set| set.len() == 1) {
            return Err(MembershipError::LastVoter { name: member.record.name.clone() });
        }
        Ok(Plan::Remove { id, voter, leads: self.leader == id })
    }

    fn describe(&self, record: &MemberRecord) -> Result<Plan, MembershipError> {
        let id = record.folder_id;
        let known = &self.member(id)?.record;
        if known.name != record.name {
            return Err(MembershipError::IdTaken { id, name: known.name.clone() });
        }
        if known == record {
            return Ok(Plan::Nothing);
        }
        let same_name: Vec<u64> = self.of_name(&record.name).collect();
        self.check_address(record, &same_name)?;
        Ok(Plan::Describe(record.clone()))
    }

    /// Two members at one address are one too many, unless one of them takes the other's place.
    fn check_address(
        &self,
        record: &MemberRecord,
        same_name: &[u64],
    ) -> Result<(), MembershipError> {
        let owner = self.members.iter().find(|(id, member)| {
            member.record.peer_address == record.peer_address && !same_name.contains(id)
        });
        match owner {
            Some((_id, owner)) => Err(MembershipError::AddressTaken {
                address: record.peer_address.clone(),
                name: owner.record.name.clone(),
            }),
            None => Ok(()),
        }
    }

    /// Failures tolerated after `plan`, which must leave a quorum.
    fn tolerated_after(&self, plan: &Plan) -> Result<i64, MembershipError> {
        let (Plan::Promote { id, .. } | Plan::Remove { id, .. }) = plan else {
            return Ok(self.failures_tolerated());
        };
        let voters = self.voters_after(plan);
        let after = failures_tolerated(std::slice::from_ref(&voters), |id| self.answers(id));
        if after < 0 {
            let quorum = quorum(voters.len());
            let healthy = signed(quorum) + after;
            return Err(MembershipError::BreaksQuorum {
                name: self.name(*id),
                healthy: u64::try_from(healthy).unwrap_or(0),
                quorum: quorum as u64,
            });
        }
        Ok(after)
    }

    /// The voters after `plan`.
    pub(crate) fn voters_after(&self, plan: &Plan) -> BTreeSet<u64> {
        let mut voters = self.voters.last().cloned().unwrap_or_default();
        match plan {
            Plan::Promote { id, replaces } => {
                voters.insert(*id);
                if let Some(old) = replaces {
                    voters.remove(old);
                }
            }
            Plan::Remove { id, .. } => {
                voters.remove(id);
            }
            Plan::Nothing | Plan::Add { .. } | Plan::Describe(_) => {}
        }
        voters
    }

    fn of_name<'a>(&'a self, name: &'a str) -> impl Iterator<Item = u64> + 'a {
        let named = self.members.iter().filter(move |(_id, member)| member.record.name == name);
        named.map(|(id, _member)| *id)
    }

    fn spoken(&self, plan: &Plan) -> String {
        match plan {
            Plan::Remove { id, .. } => format!("the removal of {}", self.name(*id)),
            Plan::Promote { id, .. } => format!("the promotion of {}", self.name(*id)),
            Plan::Nothing | Plan::Add { .. } | Plan::Describe(_) => "that".to_owned(),
        }
    }
}

/// Whether those for which `is_there` holds are a quorum of each of these sets of voters: of one, or
/// of both halves while they change.
pub(crate) fn has_quorum(voters: &[BTreeSet<u64>], is_there: impl Fn(u64) -> bool) -> bool {
    !voters.is_empty()
        && voters.iter().all(|set| {
            let there = set.iter().filter(|id| is_there(**id)).count();
            there >= quorum(set.len())
        })
}

/// More than half of so many voters.
const fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
