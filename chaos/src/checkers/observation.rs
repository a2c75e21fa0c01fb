//! What the world tells of each node, as it happens.
//!
//! [`NodeState`] is cheap and may be told after every simulated step; a state that equals the one
//! before costs one comparison. [`NodeEvent`]s are told in the order in which they happened on the
//! node, before the acknowledgements that rest on them.
//!
//! Nodes are numbered from 0 by the world; a number stays with its place in the cluster, whatever
//! node id the process in it has.

use std::collections::BTreeSet;

use crate::timeline::Role;

/// Where a node stands. Positions are log indexes; `None` is before the first entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeState {
    /// What it is.
    pub role: Role,
    /// The highest term it has seen.
    pub term: u64,
    /// The last entry in its log, in memory or on disk.
    pub last: Option<u64>,
    /// The last entry that it knows to be committed.
    pub committed: Option<u64>,
    /// The last entry that its store has applied.
    pub applied: Option<u64>,
    /// The last entry in its newest snapshot.
    pub snapshot: Option<u64>,
    /// The last entry that it removed from its log because a snapshot holds it.
    pub purged: Option<u64>,
}

/// An entry, recognisable without its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EntryMark {
    /// Its log index.
    pub index: u64,
    /// The term it was proposed in.
    pub term: u64,
    /// A hash of its payload.
    pub hash: u64,
}

/// A term, and whom the node gave its vote in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ballot {
    /// The term.
    pub term: u64,
    /// Whom it voted for; `None` if it only saw the term, or follows the leader that it got.
    pub voted_for: Option<u32>,
}

/// Who decides and who listens, as an entry of the log says. Members are named by their node ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Configuration {
    /// A majority of each of these sets decides; two while the voters change.
    pub voters: Vec<BTreeSet<u64>>,
    /// Those who receive the log and have no vote.
    pub learners: BTreeSet<u64>,
}

impl Configuration {
    /// Whether the node has a vote.
    #[must_use]
    pub fn is_voter(&self, id: u64) -> bool {
        self.voters.iter().any(|set| set.contains(&id))
    }

    /// Voters and learners.
    #[must_use]
    pub fn members(&self) -> BTreeSet<u64> {
        self.voters.iter().flatten().chain(&self.learners).copied().collect()
    }

    /// Whether a majority of each set of voters is as asked for.
    pub fn has_majority(&self, mut which: impl FnMut(u64) -> bool) -> bool {
        self.voters.iter().all(|set| {
            let count = set.iter().filter(|id| which(**id)).count();
            count > set.len() / 2
        })
    }
}

/// Something that a node did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeEvent {
    /// Its process started and read what its disk holds.
    Started {
        /// The node id in its folder; drawn anew when the folder is new.
        identity: u64,
        /// The vote on its disk.
        ballot: Option<Ballot>,
        /// The last entry in its newest snapshot.
        snapshot: Option<u64>,
        /// The last purged entry.
        purged: Option<u64>,
        /// The log, from the entry after the purged ones, without a gap.
        entries: Vec<EntryMark>,
    },
    /// Its process ended, by a kill or a power loss.
    Stopped,
    /// Its disk is gone with all that was on it. Told while the node is stopped.
    DiskLost,
    /// A bit of what its disk holds flipped. If it lies in the very last batch, or in the vote, no
    /// node can tell it from a write that was never finished: what it promised may be gone.
    DiskRotted,
    /// What an entry says that is about to be added to its log.
    Configured {
        /// The log index of the entry.
        index: u64,
        /// Its term.
        term: u64,
        /// What it says.
        configuration: Configuration,
    },
    /// Entries were added to its log, one after the other. Whose log has an entry first proposed
    /// it.
    Appended(Vec<EntryMark>),
    /// Entries from this index on were removed from its log, which disagreed with the leader's.
    Truncated {
        /// The first removed index.
        from: u64,
    },
    /// The log told consensus that everything up to here is on disk: the node's promise.
    Flushed {
        /// The last index.
        through: u64,
    },
    /// The disk really holds everything up to here and would after a power loss: the truth, from
    /// the simulated disk. See [`Evidence`].
    Durable {
        /// The last index.
        through: u64,
    },
    /// The log told consensus that this vote is on disk.
    VoteSaved(Ballot),
    /// Entries up to here were removed because a snapshot holds them.
    Purged {
        /// The last removed index.
        through: u64,
    },
    /// A snapshot of its own, or one that the leader sent, is on disk.
    SnapshotSaved {
        /// The last entry in it.
        index: u64,
    },
    /// Its store was replaced by a snapshot that the leader sent.
    SnapshotInstalled {
        /// The last entry in it.
        index: u64,
        /// The store's sequence.
        sequence: u64,
        /// The hash of the whole state.
        state_hash: u128,
    },
    /// Its store applied an entry.
    Applied {
        /// The entry.
        entry: EntryMark,
        /// The store's sequence after it. Blank and membership entries leave it as it was.
        sequence: u64,
        /// The store's revision after it.
        revision: u64,
        /// The hash of the whole state after it; `None` if it was not taken this time.
        state_hash: Option<u128>,
    },
}

/// Whose word is taken for what is on a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// The simulated disks': the world tells [`NodeEvent::Durable`].
    Disks,
    /// The nodes': [`NodeEvent::Flushed`] counts. A node that lies is caught only when a power loss
    /// shows it.
    Promises,
}
