//! What a node speaks and what it can apply: how two versions of the program run together.
//!
//! Two ranges, announced in every greeting. The *protocol* is how peers talk; two nodes use the
//! newest that both speak, and have nothing to say to each other if there is none. The *format* is
//! the replicated number of the rules by which the store applies entries: all members must follow
//! the same, so the number is state, and a new one is switched on by an entry. The leader writes
//! that entry when every member has announced that it can follow it (`format.rs`), which is when
//! the last one was upgraded; from then on an older program can neither join nor come back.
//!
//! A release speaks the protocol and applies the format of the release before it, so a cluster is
//! upgraded one node at a time, one release at a time. The program's own version decides nothing.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use mainstay_kv::{Command, SETTINGS_FORMAT, Store};
use serde::{Deserialize, Serialize};

/// The peer protocols that this version speaks, oldest and newest. Each knows what the one before it
/// does, and the second one [`SILENCES_SINCE`] and [`CONFIRMATIONS_SINCE`].
const PROTOCOLS: (u16, u16) = (1, 2);

/// The first protocol in which a leader tells the others who does not answer.
pub(crate) const SILENCES_SINCE: u16 = 2;

/// The first protocol in which nodes say whom they follow.
pub(crate) const CONFIRMATIONS_SINCE: u16 = 2;

/// The oldest replicated format that this version applies.
const FORMAT_MIN: u64 = 1;

/// What a node speaks and applies, oldest and newest of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// Peer protocols.
    pub protocols: (u16, u16),
    /// Replicated formats.
    pub formats: (u64, u64),
}

impl Default for Versions {
    /// Those of this program.
    fn default() -> Self {
        Self { protocols: PROTOCOLS, formats: (FORMAT_MIN, SETTINGS_FORMAT) }
    }
}

impl Versions {
    /// The newest protocol that is spoken by both, if there is one.
    pub(crate) fn common_protocol(&self, theirs: (u16, u16)) -> Option<u16> {
        let newest = self.protocols.1.min(theirs.1);
        (newest >= self.protocols.0 && newest >= theirs.0).then_some(newest)
    }

    /// Whether the format can be applied.
    pub(crate) const fn applies(&self, format: u64) -> bool {
        holds(self.formats, format)
    }

    /// Whether every rule that the command switches on can be followed. Only the first settings of
    /// a store choose its format, so of settings it is asked whether the store is empty.
    ///
    /// # Errors
    /// [`UnknownRules`]: going on would make another store of it than the other replicas make.
    pub(crate) fn check_command(
        &self,
        command: &Command,
        is_empty: impl FnOnce() -> bool,
    ) -> Result<(), UnknownRules> {
        let unknown = |format| UnknownRules { format, known: self.formats };
        match command {
            Command::RaiseFormat { format } if !self.applies(*format) => Err(unknown(*format)),
            Command::Configure(settings) if !self.applies(settings.format) && is_empty() => {
                Err(unknown(settings.format))
            }
            _ => Ok(()),
        }
    }

    /// Whether a store that came from elsewhere can be gone on with.
    ///
    /// # Errors
    /// As [`Self::check_envelope`].
    pub(crate) fn check_store(&self, store: &Store) -> Result<(), UnknownRules> {
        let format = store.settings().format;
        if self.applies(format) {
            Ok(())
        } else {
            Err(UnknownRules { format, known: self.formats })
        }
    }
}

/// Whether `number` is in a range of an oldest and a newest one.
pub(crate) const fn holds(range: (u64, u64), number: u64) -> bool {
    range.0 <= number && number <= range.1
}

/// Rules that this program does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the cluster follows format {format}, and this program knows {}; start this node with the \
     version of mainstay that the other members run, the data is safe",
    Span(known.0, known.1)
)]
pub struct UnknownRules {
    /// The format that is in force.
    pub format: u64,
    /// The oldest and the newest that are known.
    pub known: (u64, u64),
}

/// A range as people read it.
pub(crate) struct Span<T>(pub(crate) T, pub(crate) T);

impl<T: fmt::Display + PartialEq> fmt::Display for Span<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == self.1 {
            write!(formatter, "{} only", self.0)
        } else {
            write!(formatter, "{} to {}", self.0, self.1)
        }
    }
}

/// The format that this node's store follows; 0 while the store is empty.
#[derive(Debug, Clone, Default)]
pub(crate) struct FormatInForce(Arc<AtomicU64>);

impl FormatInForce {
    pub(crate) fn now(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Takes over what the store follows.
    pub(crate) fn note(&self, store: &Store) {
        let format = if store.sequence() == 0 { 0 } else { store.settings().format };
        self.0.store(format, Ordering::Release);
    }
}

/// What a peer announced when it was last greeted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerVersions {
    /// The protocol that is spoken with it.
    pub protocol: u16,
    /// The replicated formats that it applies, oldest and newest.
    pub formats: (u64, u64),
}

/// What the peers announced, and what stood between them and this node.
#[derive(Debug, Clone, Default)]
pub(crate) struct Announced(Arc<Mutex<Announcements>>);

#[derive(Debug, Default)]
struct Announcements {
    versions: BTreeMap<u64, PeerVersions>,
    /// Why nothing can be said to a peer, by its address.
    obstacles: BTreeMap<String, Arc<str>>,
}

impl Announced {
    /// Notes what a peer said in a greeting that both agreed to.
    pub(crate) fn note(&self, peer: u64, versions: PeerVersions) {
        self.lock().versions.insert(peer, versions);
    }

    /// Notes that the node at `address` was reached.
    pub(crate) fn clear(&self, address: &str) {
        self.lock().obstacles.remove(address);
    }

    /// Notes that nothing can be said to the node at `address`; whether that is news.
    pub(crate) fn note_obstacle(&self, address: &str, why: &Arc<str>) -> bool {
        let before = self.lock().obstacles.insert(address.to_owned(), Arc::clone(why));
        before.as_ref() != Some(why)
    }

    /// Why nothing can be said to some peer, if that is so.
    pub(crate) fn obstacle(&self) -> Option<Arc<str>> {
        self.lock().obstacles.values().next().cloned()
    }

    /// Whether a peer speaks a protocol that came with `first` or later.
    pub(crate) fn speaks(&self, peer: u64, first: u16) -> bool {
        self.lock().versions.get(&peer).is_some_and(|versions| versions.protocol >= first)
    }

    /// What every peer announced.
    pub(crate) fn all(&self) -> BTreeMap<u64, PeerVersions> {
        self.lock().versions.clone()
    }

    /// Forgets the peers that are no members any more, and their addresses.
    pub(crate) fn retain(&self, is_member: impl Fn(u64) -> bool, address: impl Fn(&str) -> bool) {
        let mut announcements = self.lock();
        announcements.versions.retain(|id, _versions| is_member(*id));
        announcements.obstacles.retain(|at, _why| address(at));
    }

    fn lock(&self) -> MutexGuard<'_, Announcements> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use mainstay_kv::{Envelope, Proposal, Settings, Stamp};

    use super::*;

    #[test]
    fn the_newest_common_protocol_is_spoken_and_without_one_none() {
        for (ours, theirs, common) in [
            ((1, 1), (1, 1), Some(1)),
            ((1, 2), (1, 1), Some(1)),
            ((1, 1), (1, 2), Some(1)),
            ((1, 2), (2, 3), Some(2)),
            ((2, 3), (1, 2), Some(2)),
            ((1, 3), (2, 3), Some(3)),
            ((2, 2), (1, 1), None),
            ((1, 1), (2, 3), None),
        ] {
            let versions = Versions { protocols: ours, formats: (1, 1) };
            assert_eq!(versions.common_protocol(theirs), common, "{ours:?} {theirs:?}");
        }
    }

    #[test]
    fn rules_that_are_not_known_are_named_with_those_that_are() {
        let present = Versions { protocols: (1, 1), formats: (1, 2) };
        let raise = |format| Command::RaiseFormat { format };
        assert!(present.check_command(&raise(2), || false).is_ok());
        let error = present.check_command(&raise(3), || false).expect_err("three is not known");
        let sentence = error.to_string();
        assert!(sentence.contains("follows format 3") && sentence.contains("1 to 2"), "{sentence}");
        let newer = Command::Configure(Settings { format: 3, ..Settings::default() });
        assert!(present.check_command(&newer, || false).is_ok(), "the format stays as it is");
        assert!(present.check_command(&newer, || true).is_err(), "the first settings choose it");
        let mut store = Store::new();
        let envelope = Envelope {
            format: 1,
            epoch: 1,
            stamp: Stamp { term: 1, time_ms: 0 },
            wall_ms: 0,
            proposal: Proposal::unattributed(newer),
        };
        store.apply(envelope, 1);
        assert_eq!(present.check_store(&store), Err(UnknownRules { format: 3, known: (1, 2) }));
        let format = FormatInForce::default();
        assert_eq!(format.now(), 0);
        format.note(&store);
        assert_eq!(format.now(), 3);
    }
}
