//! Why a change of members is refused, with the command that would work.

use serde::{Deserialize, Serialize};

/// A change of members that was refused, or whose outcome is not known.
///
/// Unless it says otherwise nothing has changed. Members are called by their names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum MembershipError {
    /// Nobody leads, or the leader cannot be reached.
    #[error("there is no leader that could change the members; nothing was done")]
    NoLeader,
    /// The asked node is in no cluster.
    #[error("this node is not in a cluster yet; ask another one")]
    NotReady,
    /// The node is stopping.
    #[error("this node is shutting down; ask another one")]
    ShuttingDown,
    /// Another change is under way.
    #[error("another change of members is under way; nothing was done, try again in a moment")]
    Busy,
    /// No quorum answers.
    #[error(
        "a quorum of the voters does not answer, so no change can be agreed on; bring voters back \
         first (mainstay status shows who is missing)"
    )]
    NoQuorum,
    /// There is no such member.
    #[error("there is no member {word}; nothing was done (mainstay member list shows who is)")]
    UnknownMember {
        /// What was asked for.
        word: String,
    },
    /// The id was removed before.
    #[error(
        "node {id} was removed already, and an id that was removed is never admitted again; to \
         bring that machine back, start it with an empty data folder and --join"
    )]
    Removed {
        /// The node.
        id: u64,
    },
    /// It is the only voter.
    #[error(
        "{name} is the last voter, and without it there is no cluster; add another node first: \
         mainstay serve --name NAME --join URL"
    )]
    LastVoter {
        /// The member.
        name: String,
    },
    /// The voters that would be left and answer are no quorum.
    #[error(
        "without {name} the voters that answer would be {healthy}, and a quorum is {quorum}: \
         nothing could be written any more, not even by force; bring the silent voters back, or \
         remove those instead"
    )]
    BreaksQuorum {
        /// The member.
        name: String,
        /// Voters that would be left and answer.
        healthy: u64,
        /// Voters needed for a quorum then.
        quorum: u64,
    },
    /// Fewer failures would be tolerated.
    #[error(
        "the cluster tolerates {before} failures now and would tolerate {after} after {what}; add \
         a node first (mainstay serve --name NAME --join URL), or repeat this with --force"
    )]
    LowersFailuresTolerated {
        /// What was asked for, as a noun.
        what: String,
        /// Failures tolerated now.
        before: i64,
        /// Failures tolerated then.
        after: i64,
    },
    /// It has no vote yet, because it has to catch up.
    #[error(
        "{name} cannot be given a vote yet: {why}; it is promoted by itself as soon as it keeps up \
         (mainstay status shows how far it is)"
    )]
    LearnerLags {
        /// The learner.
        name: String,
        /// What is missing, as a clause.
        why: String,
    },
    /// It does not answer.
    #[error("{name} does not answer; start it, and it is promoted by itself when it keeps up")]
    Silent {
        /// The member.
        name: String,
    },
    /// A living member has the name.
    #[error(
        "{name} is a member already (node {id}) and answers; stop that node first if this one is to \
         replace it, or start this one with another --name"
    )]
    NameTaken {
        /// The name.
        name: String,
        /// Its owner.
        id: u64,
    },
    /// The node is a member under another name.
    #[error("node {id} is a member already, as {name}; start it with --name {name}")]
    IdTaken {
        /// The node.
        id: u64,
        /// Its name.
        name: String,
    },
    /// Another member has the address.
    #[error(
        "{address} is the peer address of {name}; start this node with another --peer-addr, or \
         remove that one first: mainstay member remove {name}"
    )]
    AddressTaken {
        /// The address.
        address: String,
        /// Its owner.
        name: String,
    },
    /// No node answers at the address.
    #[error(
        "no node answers at the peer address {address}: {why}; start it first (mainstay serve \
         --name NAME --join URL), with an address that the members can dial"
    )]
    Unreachable {
        /// The address.
        address: String,
        /// What happened, as a clause.
        why: String,
    },
    /// Another node answers at the address than was meant.
    #[error(
        "at {address} answers node {found} ({name}), not node {wanted}; check --advertise-peer-addr"
    )]
    OtherNode {
        /// The address.
        address: String,
        /// The node that was meant.
        wanted: u64,
        /// The node that answers.
        found: u64,
        /// Its name.
        name: String,
    },
    /// The node is in another cluster.
    #[error(
        "{name} is in cluster {theirs}, this is cluster {ours}; start it with an empty \
         data folder to have it join this one"
    )]
    OtherCluster {
        /// The node.
        name: String,
        /// This cluster.
        ours: u64,
        /// Its cluster.
        theirs: u64,
    },
    /// The node does not know the rules that the cluster follows.
    #[error(
        "the cluster follows format {ours}, and {name} knows {oldest} to {newest}; run a version of \
         mainstay on it that knows {ours}"
    )]
    Format {
        /// The node.
        name: String,
        /// The cluster's format.
        ours: u64,
        /// The oldest that the node knows.
        oldest: u64,
        /// The newest that the node knows.
        newest: u64,
    },
    /// The node and the leader have no protocol in common.
    #[error("the node at {address} cannot be a member: {why}")]
    Protocol {
        /// Where it answers.
        address: String,
        /// What both speak, and what to do.
        why: String,
    },
    /// There are as many members as there may be.
    #[error("a cluster has at most {max} members; remove one first: mainstay member remove NAME")]
    TooMany {
        /// Members allowed.
        max: usize,
    },
    /// The leader had to hand over before, and could not.
    #[error("{name} leads, and nobody can take over from it now: {why}; nothing was done")]
    NotHandedOver {
        /// The leader.
        name: String,
        /// Why, as a clause.
        why: String,
    },
    /// It was begun, and it is not known how it ended.
    #[error(
        "the change was begun and its outcome is unknown; the leader completes what is half done, \
         mainstay member list tells"
    )]
    OutcomeUnknown,
}

impl MembershipError {
    /// The refusal in one word, as the API shows it.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoLeader => "no_leader",
            Self::NotReady => "not_ready",
            Self::ShuttingDown => "shutting_down",
            Self::Busy => "busy",
            Self::NoQuorum => "no_quorum",
            Self::UnknownMember { .. } => "unknown_member",
            Self::Removed { .. } => "removed",
            Self::LastVoter { .. } => "last_voter",
            Self::BreaksQuorum { .. } => "breaks_quorum",
            Self::LowersFailuresTolerated { .. } => "lowers_failures_tolerated",
            Self::LearnerLags { .. } => "learner_lags",
            Self::Silent { .. } => "silent",
            Self::NameTaken { .. } => "name_taken",
            Self::IdTaken { .. } => "id_taken",
            Self::AddressTaken { .. } => "address_taken",
            Self::Unreachable { .. } => "unreachable",
            Self::OtherNode { .. } => "other_node",
            Self::OtherCluster { .. } => "other_cluster",
            Self::Format { .. } => "format",
            Self::Protocol { .. } => "protocol",
            Self::TooMany { .. } => "too_many_members",
            Self::NotHandedOver { .. } => "not_handed_over",
            Self::OutcomeUnknown => "outcome_unknown",
        }
    }

    /// Whether the same request may well be granted a little later, without anybody doing anything.
    #[must_use]
    pub const fn passes(&self) -> bool {
        matches!(
            self,
            Self::NoLeader
                | Self::NotReady
                | Self::ShuttingDown
                | Self::Busy
                | Self::NoQuorum
                | Self::LearnerLags { .. }
                | Self::NotHandedOver { .. }
                | Self::OutcomeUnknown
        )
    }
}
