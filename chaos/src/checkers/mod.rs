//! The checkers: they take what happened and say what was wrong with it.
//!
//! All are pure: no clock, no network, no randomness. Two kinds exist. [`Cluster`] sits beside the
//! run and is told what each node does as it does it, so a violation is found at the moment it
//! happens. The others read the [`History`](crate::history::History) and the
//! [`Timeline`](crate::timeline::Timeline) when the run is over. Each has tests with violations
//! planted in its input: a checker that never saw one proves nothing.
//!
//! They know the rules of the store and of Raft, and nothing of how the node keeps them.

mod bounds;
mod cluster;
mod coverage;
pub mod durability;
pub mod elections;
pub mod etcd;
mod judgement;
pub mod leases;
pub mod linearizability;
pub mod liveness;
mod observation;
pub mod revisions;
pub mod staleness;
#[cfg(test)]
mod story;
pub mod tolerance;
pub mod watches;
mod writes;

use std::fmt;

use serde::Serialize;

use crate::timeline::Seconds;

pub use self::{
    bounds::Bounds,
    cluster::{Cluster, VoterChange},
    coverage::Coverage,
    judgement::{Judgement, judge},
    observation::{Ballot, Configuration, EntryMark, Evidence, NodeEvent, NodeState},
};

/// Something that must never happen, and did.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Violation {
    /// When it was noticed, in simulated microseconds.
    pub at_us: u64,
    /// The rule that was broken.
    pub rule: Rule,
    /// Where, if it is about one node.
    pub node: Option<u32>,
    /// What happened, with the values that contradict each other.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.rule.as_str())?;
        if let Some(node) = self.node {
            write!(formatter, " on node {node}")?;
        }
        write!(formatter, " at {}: {}", Seconds(self.at_us), self.what)
    }
}

macro_rules! rules {
    ($($(#[doc = $doc:literal])+ $rule:ident => $name:literal,)+) => {
        /// The rules. Their names are stable: they stand in reports and in regression tests.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Rule {
            $($(#[doc = $doc])+ $rule,)+
        }

        impl Rule {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$rule),+];

            /// The rule's name.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$rule => $name,)+
                }
            }

            /// The rule in one sentence.
            #[must_use]
            pub const fn sentence(self) -> &'static str {
                match self {
                    $(Self::$rule => concat!($($doc),+).trim_ascii(),)+
                }
            }
        }
    };
}

rules! {
    /// An index has one committed entry, for ever.
    OneEntryPerIndex => "one-entry-per-index",
    /// All entries of a term come from one leader.
    OneLeaderPerTerm => "one-leader-per-term",
    /// A write is acknowledged only when the disks of a majority hold its entry.
    DurableOnMajority => "durable-on-majority",
    /// A node says that something is on its disk only when it is.
    PromiseKept => "promise-kept",
    /// Every later leader has every acknowledged write.
    LeaderCompleteness => "leader-completeness",
    /// A node that has seen a higher term proposes nothing in a lower one.
    NoProposalBelowTerm => "no-proposal-below-term",
    /// Two logs with the same index and term are the same up to there.
    LogMatching => "log-matching",
    /// Term, vote, committed and applied positions of a node never go back.
    Monotone => "monotone",
    /// A node votes once a term.
    OneVotePerTerm => "one-vote-per-term",
    /// Replicas at the same sequence have the same state.
    SameState => "same-state",
    /// Entries are applied in order, each once.
    ApplyOrder => "apply-order",
    /// Purged, snapshot, applied, committed and last positions stand in this order.
    PositionOrder => "position-order",
    /// A leader has a vote, and was given those of a majority of its configuration.
    ElectedByMajority => "elected-by-majority",
    /// Voters change by way of a configuration in which the old and the new ones decide together.
    JointChange => "joint-change",
    /// A change of members begins when the one before it is committed.
    OneChangeAtATime => "one-change-at-a-time",
    /// A member is given a vote only when it has kept up.
    VoterKeepsUp => "voter-keeps-up",
    /// A change of members that lost its leader is completed or undone within the bound.
    ChangeEnds => "change-ends",
    /// A change of members that was acknowledged is in force, and one that was refused is not.
    ChangeTruth => "change-truth",
    /// A node id that was removed, or whose disk was lost, never comes back.
    IdentityReused => "identity-reused",
    /// Each key behaves as if its calls had happened one at a time.
    Linearizable => "linearizable",
    /// Revisions are unique, grow with time, and name the value that was written at them.
    Revisions => "revisions",
    /// A call that was refused had no effect.
    RefusedHadNoEffect => "refused-had-no-effect",
    /// A write that is repeated under the same key or number happens once.
    ExactlyOnce => "exactly-once",
    /// A watch is told of changes in order, each once.
    WatchOrder => "watch-order",
    /// A watch is told of every change in its range.
    WatchComplete => "watch-complete",
    /// A watch tells what was written.
    WatchTruth => "watch-truth",
    /// A stream of etcd's watchers keeps its order, and its headers never go back.
    WatchStream => "watch-stream",
    /// An event tells truly what was there before.
    WatchPrevious => "watch-previous",
    /// What was compacted is refused, and nothing else is.
    Compaction => "compaction",
    /// A refusal over the etcd API has a code that clients can act on.
    EtcdStatus => "etcd-status",
    /// A lease lives at least as long as was promised.
    LeaseTooShort => "lease-too-short",
    /// A lease ends within the bound after its time.
    LeaseTooLong => "lease-too-long",
    /// A lease that is gone never comes back.
    LeaseRevived => "lease-revived",
    /// What a lease guards has one holder at a time.
    TwoHolders => "two-holders",
    /// A stale read is not older than it says.
    Staleness => "staleness",
    /// After healing, every acknowledged write is there.
    LostWrite => "lost-write",
    /// After the last fault, the cluster works again within the bound.
    Liveness => "liveness",
    /// A node never panics.
    NodePanicked => "node-panicked",
    /// After a fault, a write is acknowledged within the bound.
    RecoveryTime => "recovery-time",
    /// A leader keeps its title unless something happened that excuses an election.
    NeedlessElection => "needless-election",
    /// A leader that cannot write gives its title away, and says why.
    TitleKept => "title-kept",
    /// No change of members without force lowers the number of failures that are tolerated.
    ToleranceKept => "tolerance-kept",
    /// Rules that a member cannot follow do not come into force, and in the end the newest do.
    FormatInForce => "format-in-force",
    /// A transfer tells truly what became of it, and one that is refused changes nothing.
    TransferTruth => "transfer-truth",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_violation_reads_as_a_sentence() {
        let violation = Violation {
            at_us: 12_000_034,
            rule: Rule::OneLeaderPerTerm,
            node: Some(2),
            what: "node 1 proposed in term 7 before".to_owned(),
        };
        assert_eq!(
            violation.to_string(),
            "one-leader-per-term on node 2 at 12.000 s: node 1 proposed in term 7 before"
        );
    }

    #[test]
    fn rules_have_distinct_names_and_a_sentence_each() {
        let names: std::collections::BTreeSet<_> =
            Rule::ALL.iter().map(|rule| rule.as_str()).collect();
        assert_eq!(names.len(), Rule::ALL.len());
        assert!(Rule::ALL.iter().all(|rule| rule.sentence().ends_with('.')));
    }
}
