//! What a stopped node's data folder amounts to: a store, and the cluster that it was part of.
//!
//! Everything in the log counts, also what lies behind the saved commit index: an entry there may
//! have been acknowledged, and to take one that was not is allowed, because its outcome was unknown
//! to whoever proposed it. So a survivor never loses what its own disk still has.
//!
//! Of several folders of one cluster the one whose log goes furthest is the best, by the rule by
//! which Raft compares logs (Ongaro and Ousterhout 2014, section 5.4.1): the higher last term, and
//! of equal ones the higher index. The vote says nothing about data. If the folders of a quorum of
//! the voters are there, the best of them holds every acknowledged write; with fewer, nobody can
//! tell what is missing.
//!
//! It reads and computes; it changes no folder and decides nothing about what to do with one.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use mainstay_kv::{Envelope, EnvelopeError, Store};
use mainstay_storage::{FolderReading, LogEntry, LogPosition, ReadError, SnapshotReadError};

use crate::{
    log_store::entry_of,
    membership::rules::has_quorum,
    state_machine::{SnapshotMark, restore},
    status::MemberRecord,
    type_config::{EntryPayload, StoredMembership, position},
    versions::{UnknownRules, Versions},
};

/// The store of a stopped node after its last entry, and its cluster as it knew it.
#[derive(Debug)]
pub struct Survivor {
    /// The store, with every entry of the log applied.
    pub store: Store,
    /// The last entry.
    pub last: LogPosition,
    /// Members of the cluster, by id.
    pub members: BTreeMap<u64, MemberRecord>,
    /// Entries that were applied on top of the snapshot.
    pub entries: u64,
    /// Ids of the voters; two sets while the membership was changing.
    voters: Vec<BTreeSet<u64>>,
}

/// A folder that no store can be made of.
#[derive(Debug, thiserror::Error)]
pub enum SurvivorError {
    /// The folder holds no entry and no snapshot.
    #[error("it holds nothing of a cluster: its node never took part in one")]
    Nothing,
    /// The snapshot cannot be read to its end.
    #[error("its snapshot cannot be used")]
    Snapshot(#[source] SnapshotReadError),
    /// The snapshot's content is not a store.
    #[error("its snapshot cannot be made into a store; nothing of it may be used")]
    SnapshotContent(#[source] io::Error),
    /// The log cannot be read to its end.
    #[error("its log cannot be read")]
    Log(#[source] ReadError),
    /// An entry is missing between the snapshot and the end of the log.
    #[error("its log has no entry {index}, which must be applied; nothing of it may be used")]
    Gap {
        /// The missing index.
        index: u64,
    },
    /// An entry that this version cannot read.
    #[error("entry {index} of its log cannot be read; use the version of Mainstay that wrote it")]
    Entry {
        /// The entry.
        index: u64,
        /// What is wrong with it.
        #[source]
        source: EnvelopeError,
    },
    /// Rules that this version does not know.
    #[error(
        "entry {index} of its log cannot be applied; use the version of Mainstay that wrote it"
    )]
    Rules {
        /// The entry.
        index: u64,
        /// The rules.
        #[source]
        source: UnknownRules,
    },
    /// A membership that this version cannot read.
    #[error("entry {index} of its log cannot be read; use the version of Mainstay that wrote it")]
    Membership {
        /// The entry.
        index: u64,
        /// What is wrong with it.
        #[source]
        source: io::Error,
    },
}

/// How far a log goes, to be compared: the higher one is at least as complete.
#[must_use]
pub fn completeness(last: Option<LogPosition>) -> (u64, u64) {
    last.map_or((0, 0), |last| (last.term, last.index))
}

impl Survivor {
    /// Applies everything that the folder holds.
    ///
    /// # Errors
    /// [`SurvivorError`]: then nothing of the folder may be used.
    pub async fn of(reading: &FolderReading) -> Result<Self, SurvivorError> {
        let last = reading.last().ok_or(SurvivorError::Nothing)?;
        let mut survivor = Self {
            store: Store::new(),
            last,
            members: BTreeMap::new(),
            entries: 0,
            voters: Vec::new(),
        };
        let reader = reading.snapshot_reader().await.map_err(SurvivorError::Snapshot)?;
        let mut applied: Option<LogPosition> = None;
        if let Some(reader) = reader {
            let mark = SnapshotMark::from_bytes(&reader.info().meta);
            let mark = mark.map_err(SurvivorError::SnapshotContent)?;
            survivor.store = restore(reader, Versions::default())
                .await
                .map_err(SurvivorError::SnapshotContent)?;
            survivor.note_membership(&mark.membership);
            applied = mark.last.as_ref().map(position);
        }
        let mut next = match applied {
            Some(applied) => applied.index + 1,
            // A log begins at 0 with the membership of the cluster's birth.
            None => 0,
        };
        while next <= last.index {
            let entries = reading.entries(next).await.map_err(SurvivorError::Log)?;
            if entries.is_empty() {
                return Err(SurvivorError::Gap { index: next });
            }
            for entry in entries {
                if entry.index != next {
                    return Err(SurvivorError::Gap { index: next });
                }
                next += 1;
                survivor.apply(entry)?;
            }
        }
        Ok(survivor)
    }

    /// Whether the member has a vote.
    #[must_use]
    pub fn is_voter(&self, id: u64) -> bool {
        self.voters.iter().any(|voters| voters.contains(&id))
    }

    /// Whether these nodes include a quorum of the voters, in both halves of a changing membership:
    /// then the best log among them holds every acknowledged write, and they can go on by
    /// themselves.
    #[must_use]
    pub fn is_quorum(&self, ids: &BTreeSet<u64>) -> bool {
        has_quorum(&self.voters, |id| ids.contains(&id))
    }

    fn apply(&mut self, stored: LogEntry) -> Result<(), SurvivorError> {
        let index = stored.index;
        let term = stored.term;
        let entry =
            entry_of(stored).map_err(|source| SurvivorError::Membership { index, source })?;
        match entry.payload {
            EntryPayload::Blank => {}
            EntryPayload::Normal(encoded) => {
                let envelope = Envelope::from_bytes(&encoded.0)
                    .map_err(|source| SurvivorError::Entry { index, source })?;
                let is_empty = || self.store.sequence() == 0;
                Versions::default()
                    .check_command(&envelope.proposal.command, is_empty)
                    .map_err(|source| SurvivorError::Rules { index, source })?;
                self.store.apply(envelope, term);
            }
            EntryPayload::Membership(membership) => {
                self.note_membership(&StoredMembership::new(Some(entry.log_id), membership));
            }
        }
        self.entries += 1;
        Ok(())
    }

    fn note_membership(&mut self, membership: &StoredMembership) {
        self.members = membership.nodes().map(|(id, record)| (*id, record.clone())).collect();
        self.voters = membership.get_joint_config().clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn survivor(voters: &[&[u64]]) -> Survivor {
        Survivor {
            store: Store::new(),
            last: LogPosition { index: 1, term: 1 },
            members: BTreeMap::new(),
            entries: 0,
            voters: voters.iter().map(|ids| ids.iter().copied().collect()).collect(),
        }
    }

    #[test]
    fn the_log_that_goes_furthest_is_told_by_term_first() {
        let at = |index, term| Some(LogPosition { index, term });
        assert!(completeness(at(3, 5)) > completeness(at(900, 4)));
        assert!(completeness(at(4, 5)) > completeness(at(3, 5)));
        assert!(completeness(at(1, 1)) > completeness(None));
    }

    #[test]
    fn a_quorum_is_needed_in_both_halves_of_a_changing_membership() {
        let is_quorum = |voters: &[&[u64]], ids: &[u64]| {
            survivor(voters).is_quorum(&ids.iter().copied().collect())
        };
        assert!(is_quorum(&[&[1]], &[1]));
        assert!(!is_quorum(&[&[1, 2]], &[1]));
        assert!(is_quorum(&[&[1, 2, 3]], &[1, 3, 9]));
        assert!(!is_quorum(&[&[1, 2, 3]], &[1, 9]));
        assert!(!is_quorum(&[&[1, 2, 3], &[3, 4, 5]], &[1, 2, 3]));
        assert!(is_quorum(&[&[1, 2, 3], &[3, 4, 5]], &[2, 3, 4]));
        assert!(!is_quorum(&[], &[1]));
    }
}
