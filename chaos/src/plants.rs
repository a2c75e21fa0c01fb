//! The bugs that can be planted in the node, to prove that the checkers see them.
//!
//! Each name stands at one or more places of the node's code, where `Buggify::is_planted` asks for
//! it; in production the answer is always no.

use crate::checkers::{Rule, Violation};

/// A bug that can be planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plant {
    /// Its name.
    pub name: &'static str,
    /// What the node does wrong with it, in one line.
    pub summary: &'static str,
    /// The scenario that shows it best.
    pub scenario: &'static str,
    /// The rules that it breaks; to break others instead is no proof that it was seen.
    pub rules: &'static [Rule],
}

impl Plant {
    /// Whether these violations show the bug, and not just anything.
    #[must_use]
    pub fn is_seen_in(&self, violations: &[Violation]) -> bool {
        violations.iter().any(|violation| self.rules.contains(&violation.rule))
    }
}

/// All of them.
pub const PLANTS: &[Plant] = &[
    Plant {
        name: "ack-before-sync",
        summary: "the log says that entries are durable before they are",
        scenario: "power-loss-of-all",
        rules: &[Rule::PromiseKept, Rule::DurableOnMajority],
    },
    Plant {
        name: "skip-dir-sync",
        summary: "files are created and renamed without a sync of the folder",
        scenario: "power-loss-of-all",
        rules: &[Rule::PromiseKept, Rule::LostWrite],
    },
    Plant {
        name: "count-vote-twice",
        summary: "a candidate's own vote counts once for each peer it asked",
        scenario: "isolate-the-leader",
        rules: &[Rule::OneLeaderPerTerm, Rule::LeaderCompleteness, Rule::ElectedByMajority],
    },
    Plant {
        name: "read-without-index",
        summary: "a leader answers reads without asking whether it still leads",
        scenario: "isolate-the-leader",
        rules: &[Rule::Linearizable, Rule::Revisions],
    },
    Plant {
        name: "lease-on-local-clock",
        summary: "a new leader goes on with its own wall clock, not the replicated one",
        scenario: "skewed-clocks",
        rules: &[Rule::LeaseTooShort, Rule::TwoHolders],
    },
    Plant {
        name: "forget-vote",
        summary: "a vote is promised and never written",
        scenario: "restart-storm",
        rules: &[Rule::PromiseKept, Rule::OneVotePerTerm],
    },
    Plant {
        name: "apply-out-of-order",
        summary: "two entries of a batch change places before they are applied",
        scenario: "steady",
        rules: &[Rule::ApplyOrder],
    },
    Plant {
        name: "drop-watch-event",
        summary: "a watch is not told of every change",
        scenario: "steady",
        rules: &[Rule::WatchComplete],
    },
    Plant {
        name: "trust-recovered-tail",
        summary: "a start takes the end of the log for durable because it can be read",
        scenario: "failed-sync-then-power-loss",
        rules: &[Rule::PromiseKept, Rule::LostWrite],
    },
    Plant {
        name: "reuse-wiped-id",
        summary: "a node whose folder was lost takes part under its old id",
        scenario: "lost-disk",
        rules: &[Rule::IdentityReused],
    },
    Plant {
        name: "campaign-in-haste",
        summary: "a follower campaigns without asking the detector, the lease or for a pre-vote",
        scenario: "jitter",
        rules: &[Rule::NeedlessElection],
    },
    Plant {
        name: "keep-title",
        summary: "a leader that cannot write leads on",
        scenario: "stalled-leader",
        rules: &[Rule::TitleKept],
    },
    Plant {
        name: "transfer-unchecked",
        summary: "leadership is handed over without asking whether the target can take it",
        scenario: "leadership-transfers",
        rules: &[Rule::TransferTruth, Rule::NeedlessElection],
    },
    Plant {
        name: "raise-format-early",
        summary: "a newer format comes into force without asking whether all members can follow it",
        scenario: "rolling-upgrade",
        rules: &[Rule::FormatInForce],
    },
    Plant {
        name: "promote-unready",
        summary: "a learner is given a vote without having kept up",
        scenario: "join-under-load",
        rules: &[Rule::VoterKeepsUp],
    },
    Plant {
        name: "change-without-joint",
        summary: "voters are changed in one entry, about which the old and the new do not decide together",
        scenario: "members-come-and-go",
        rules: &[Rule::JointChange],
    },
    Plant {
        name: "always-force",
        summary: "members are changed whatever that does to the failures tolerated",
        scenario: "members-come-and-go",
        rules: &[Rule::ToleranceKept],
    },
    Plant {
        name: "answer-before-change",
        summary: "a change of members is acknowledged when it is proposed",
        scenario: "members-come-and-go",
        rules: &[Rule::ChangeTruth],
    },
    Plant {
        name: "leave-half-done",
        summary: "a change that lost its leader is never completed",
        scenario: "change-interrupted",
        rules: &[Rule::ChangeEnds],
    },
    Plant {
        name: "count-silence-anew",
        summary: "a new leader does not know for how long the one before it has missed a voter",
        scenario: "restless-leaders",
        rules: &[Rule::Liveness],
    },
    Plant {
        name: "remember-silence",
        summary: "a voter that was missed once is missed for ever, even while it answers",
        scenario: "restless-leaders",
        rules: &[Rule::ToleranceKept],
    },
    Plant {
        name: "forget-removed",
        summary: "nobody remembers who was removed",
        scenario: "members-come-and-go",
        rules: &[Rule::IdentityReused],
    },
    Plant {
        name: "apply-again-after-start",
        summary: "the first command after a start from a snapshot is applied twice",
        scenario: "etcd-crashes",
        rules: &[Rule::SameState, Rule::ApplyOrder],
    },
    Plant {
        name: "skip-after-start",
        summary: "the first command after a start from a snapshot is taken for applied",
        scenario: "etcd-alone",
        rules: &[Rule::LostWrite, Rule::Revisions, Rule::ApplyOrder],
    },
    Plant {
        name: "one-snapshot-only",
        summary: "a node cannot take a second snapshot from the leader before it has applied anything",
        scenario: "etcd-snapshots",
        rules: &[Rule::NodePanicked],
    },
    Plant {
        name: "forgive-compacted-read",
        summary: "followers apply a transaction that reads what was compacted, the leader does not",
        scenario: "etcd-steady",
        rules: &[Rule::SameState, Rule::RefusedHadNoEffect],
    },
    Plant {
        name: "progress-ahead",
        summary: "a watch is told that it is up to date before it has been told everything",
        scenario: "etcd-steady",
        rules: &[Rule::WatchOrder, Rule::WatchComplete, Rule::WatchStream],
    },
    Plant {
        name: "watch-ignores-start",
        summary: "a watch that follows is told of what was before its start",
        scenario: "etcd-partitions",
        rules: &[Rule::WatchOrder, Rule::WatchStream],
    },
    Plant {
        name: "repeat-watch-event",
        summary: "a watch that reads the past is told of a revision twice",
        scenario: "etcd-steady",
        rules: &[Rule::WatchOrder],
    },
    Plant {
        name: "lose-slow-watch",
        summary: "a watch that did not read for long goes on behind a revision that it was not told",
        scenario: "etcd-slow-watchers",
        rules: &[Rule::WatchComplete],
    },
    Plant {
        name: "drop-delete-at-compaction",
        summary: "a watch is not told of a deletion at the compaction revision",
        scenario: "etcd-steady",
        rules: &[Rule::WatchComplete],
    },
    Plant {
        name: "index-before-first-entry",
        summary: "a new leader gives read indexes before its first entry is committed",
        scenario: "etcd-young-leaders",
        rules: &[Rule::Linearizable, Rule::Revisions],
    },
    Plant {
        name: "renew-revoked",
        summary: "the renewal of a lease that is gone is said to have succeeded",
        scenario: "etcd-steady",
        rules: &[Rule::LeaseRevived],
    },
];

/// The bug of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Plant> {
    PLANTS.iter().find(|plant| plant.name == name)
}
