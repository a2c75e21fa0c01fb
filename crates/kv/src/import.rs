//! Taking over the keys and leases of another store, with the numbers that they have there.
//!
//! Clients that come along with their data hold on to revisions: a watch goes on behind the last
//! one it saw, a compare names the one that was read. So the pairs of an import keep the revisions
//! that created and changed them and their count of writes, leases keep their ids, and at the end
//! the store stands at the revision that its source was read at. What was before that revision
//! did not come along: it reads as compacted.
//!
//! ```text
//! Begin  ->  Forget, Leases, Pairs, ...  ->  End
//!   |                                         |
//!   writes are refused, leases do not run      revision of the source, compacted below,
//!                                              leases get their whole time to live
//! ```
//!
//! Pairs come in the order of their last change, as the log of versions needs it, whole revisions
//! at a time, and each step says which revision it follows: a step that comes twice, or after
//! somebody else's, is refused and changes nothing. While it lasts nobody else writes, so an
//! interrupted import is told from everything else, and can be gone on with from what the store
//! holds. If its source has changed meanwhile, what is no longer there is forgotten without a
//! trace: an event of the deletion would need a revision that nobody knows.
//!
//! Where the pairs come from, and whether they are all, is not known here. The rules apply from
//! format [`IMPORT_FORMAT`] on.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    command::Command,
    key::Key,
    keyspace::Keyspace,
    lease::{LEASE_TTL_MS_MAX, LEASES_MAX},
    outcome::{Outcome, Refusal},
    query::KeyValue,
    settings::Settings,
    state_hash::{RowHasher, RowKind, StateHash},
    store::Store,
    value::Value,
    version::{Links, Version, VersionRef},
};

/// The replicated format from which on there are imports.
pub const IMPORT_FORMAT: u64 = 2;

/// The largest revision that is taken over; counting on from there cannot overflow.
const REVISION_MAX: u64 = i64::MAX as u64 / 2;

/// One step of an import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Import {
    /// Begins, in a store without keys and leases; or goes on with an import from the same source.
    Begin {
        /// What the source calls itself, its cluster id; not 0.
        source: u64,
    },
    /// Forgets keys that an interrupted import brought and that the source has changed since.
    Forget {
        /// The keys; those that are not there are passed over.
        keys: Vec<Bytes>,
    },
    /// Takes leases over; their time does not run before the end.
    Leases {
        /// Leases of an interrupted import that ended at the source since; they have no keys here.
        ended: Vec<u64>,
        /// The leases; one that is there already has the same time to live.
        granted: Vec<ImportedLease>,
    },
    /// Takes pairs over.
    Pairs {
        /// The store's revision before this step.
        after_revision: u64,
        /// Whole revisions, ascending by `mod_revision`, whose keys do not exist.
        pairs: Vec<KeyValue>,
    },
    /// Ends the import.
    End {
        /// The store's revision before this step.
        after_revision: u64,
        /// The revision that the source was read at, no lower than the store's.
        revision: u64,
    },
}

/// A lease that is taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportedLease {
    /// The lease; not 0.
    pub id: u64,
    /// The time to live that was granted, in milliseconds.
    pub ttl_ms: u64,
}

/// A step of an import that was not carried out; it changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum ImportRefusal {
    /// There is something in the store.
    #[error(
        "an import begins in an empty cluster, and this one has {keys} keys and {leases} leases"
    )]
    NotEmpty {
        /// Keys in the store.
        keys: u64,
        /// Leases in the store.
        leases: u64,
    },
    /// Another import is going on.
    #[error("an import from cluster {source_id:x} was begun here and has not ended")]
    OtherSource {
        /// What it is from.
        source_id: u64,
    },
    /// No import was begun, or it has ended.
    #[error("no import is going on")]
    NotBegun,
    /// The step does not follow the one before it.
    #[error("this step of the import follows revision {wanted}, and the store is at {revision}")]
    OutOfPlace {
        /// The revision that the step names.
        wanted: u64,
        /// The store's.
        revision: u64,
    },
    /// Something that no source can have.
    #[error("number {at} of this step of the import cannot be: {why}")]
    Impossible {
        /// Its place in the step, from 0.
        at: u64,
        /// What is wrong with it.
        why: String,
    },
}

impl Import {
    /// Says what is wrong with the step under these settings, whatever the store holds.
    pub(crate) fn check(&self, settings: &Settings) -> Result<(), Refusal> {
        if settings.format < IMPORT_FORMAT {
            return Err(Refusal::Unsupported);
        }
        match self {
            Self::Begin { source: 0 } => Err(impossible(0, "a source has an id")),
            Self::Begin { .. } | Self::Forget { .. } => Ok(()),
            Self::Leases { granted, .. } => {
                for (at, lease) in granted.iter().enumerate() {
                    if lease.id == 0 || lease.ttl_ms == 0 {
                        return Err(impossible(at, "a lease has an id and a time to live"));
                    }
                    let (ttl_ms, limit_ms) = (lease.ttl_ms, LEASE_TTL_MS_MAX);
                    if ttl_ms > limit_ms {
                        return Err(Refusal::LeaseTtlTooLarge { ttl_ms, limit_ms });
                    }
                }
                Ok(())
            }
            Self::Pairs { after_revision, pairs } => check_pairs(*after_revision, pairs, settings),
            Self::End { revision, .. } if *revision > REVISION_MAX => {
                Err(impossible(0, "nobody has counted that far"))
            }
            Self::End { .. } => Ok(()),
        }
    }
}

fn check_pairs(after: u64, pairs: &[KeyValue], settings: &Settings) -> Result<(), Refusal> {
    let mut last = after;
    for (at, pair) in pairs.iter().enumerate() {
        let (len, limit) = (pair.key.len() as u64, settings.key_bytes_max);
        if len == 0 {
            return Err(Refusal::KeyEmpty);
        }
        if len > limit {
            return Err(Refusal::KeyTooLarge { len, limit });
        }
        let (len, limit) = (pair.value.len() as u64, settings.value_bytes_max);
        if len > limit {
            return Err(Refusal::ValueTooLarge { len, limit });
        }
        let (created, changed) = (pair.create_revision, pair.mod_revision);
        if changed < last || (at == 0 && changed == after) || changed > REVISION_MAX {
            return Err(impossible(at, "its revision does not come after those before it"));
        }
        if created == 0 || created > changed || pair.version == 0 || pair.version > changed {
            return Err(impossible(at, "its revisions and its count of writes do not fit"));
        }
        last = changed;
    }
    Ok(())
}

fn impossible(at: usize, why: &str) -> Refusal {
    ImportRefusal::Impossible { at: at as u64, why: why.to_owned() }.into()
}

impl Command {
    /// Whether it is refused while an import lasts: whatever changes keys or leases and is not of
    /// the import.
    #[must_use]
    pub fn waits_for_import(&self) -> bool {
        match self {
            Self::Import(_) => false,
            Self::LeaseRevoke { .. } | Self::LeaseKeepAlive { .. } => true,
            other => other.is_held_back(),
        }
    }
}

impl Store {
    /// The source of the import that is going on, if one is.
    #[must_use]
    pub const fn import_source(&self) -> Option<u64> {
        self.import_source
    }

    /// Carries out a step that was [checked](Import::check).
    pub(crate) fn import(&mut self, step: Import) -> Result<Outcome, Refusal> {
        match step {
            Import::Begin { source } => self.import_begin(source)?,
            step if self.import_source.is_none() => {
                drop(step);
                return Err(ImportRefusal::NotBegun.into());
            }
            Import::Forget { keys } => {
                for key in keys {
                    if let Some((key, lease)) = self.keyspace.forget(&key) {
                        self.leases.detach(&key, lease);
                    }
                }
            }
            Import::Leases { ended, granted } => self.import_leases(&ended, &granted)?,
            Import::Pairs { after_revision, pairs } => self.import_pairs(after_revision, pairs)?,
            Import::End { after_revision, revision } => {
                self.import_end(after_revision, revision)?;
            }
        }
        Ok(Outcome::Imported { keys: self.key_count(), leases: self.lease_count() })
    }

    fn import_begin(&mut self, source: u64) -> Result<(), Refusal> {
        match self.import_source {
            Some(present) if present == source => return Ok(()),
            Some(source_id) => return Err(ImportRefusal::OtherSource { source_id }.into()),
            None => {}
        }
        let (keys, leases) = (self.key_count(), self.lease_count());
        if keys > 0 || leases > 0 {
            return Err(ImportRefusal::NotEmpty { keys, leases }.into());
        }
        self.import_source = Some(source);
        Ok(())
    }

    fn import_leases(&mut self, ended: &[u64], granted: &[ImportedLease]) -> Result<(), Refusal> {
        for (at, id) in ended.iter().enumerate() {
            if self.leases.ttl_and_keys(*id).is_some_and(|(_ttl_ms, keys)| keys > 0) {
                return Err(impossible(at, "a lease that ended has keys"));
            }
        }
        for (at, lease) in granted.iter().enumerate() {
            let present = self.leases.ttl_and_keys(lease.id).filter(|_| !ended.contains(&lease.id));
            if present.is_some_and(|(ttl_ms, _keys)| ttl_ms != lease.ttl_ms) {
                return Err(impossible(at, "the lease is there with another time to live"));
            }
        }
        if self.leases.count().saturating_add(granted.len() as u64) > LEASES_MAX {
            return Err(Refusal::TooManyLeases { limit: LEASES_MAX });
        }
        for id in ended {
            self.leases.remove(*id);
        }
        // No time to live lasts longer, and every lease gets its own at the end.
        let deadline_ms = self.clock_ms.saturating_add(LEASE_TTL_MS_MAX);
        for lease in granted {
            if !self.leases.contains(lease.id) {
                self.leases.insert(lease.id, lease.ttl_ms, deadline_ms);
            }
        }
        Ok(())
    }

    fn import_pairs(&mut self, after_revision: u64, pairs: Vec<KeyValue>) -> Result<(), Refusal> {
        self.follows(after_revision)?;
        let mut keys = BTreeSet::new();
        for (at, pair) in pairs.iter().enumerate() {
            if pair.lease != 0 && !self.leases.contains(pair.lease) {
                return Err(impossible(at, "its lease is not there"));
            }
            if !keys.insert(&pair.key) || self.keyspace.get(&pair.key).is_some() {
                return Err(impossible(at, "its key exists already"));
            }
        }
        let space = self.space();
        if space.full {
            let (bytes, quota_bytes) = (space.bytes, space.quota_bytes);
            return Err(Refusal::SpaceExceeded { bytes, quota_bytes });
        }
        for pair in pairs {
            let (key, lease) = self.keyspace.import(pair);
            self.leases.move_key(key, 0, lease);
        }
        Ok(())
    }

    fn import_end(&mut self, after_revision: u64, revision: u64) -> Result<(), Refusal> {
        self.follows(after_revision)?;
        if revision < after_revision {
            let (wanted, revision) = (revision, after_revision);
            return Err(ImportRefusal::OutOfPlace { wanted, revision }.into());
        }
        self.keyspace.revision = revision;
        // What was compacted further already stays so.
        if revision > self.keyspace.compact_revision {
            self.keyspace.compact(revision).expect("the store has just come to that revision");
        }
        self.leases.renew_all(self.clock_ms);
        self.import_source = None;
        Ok(())
    }

    const fn follows(&self, after_revision: u64) -> Result<(), Refusal> {
        let revision = self.keyspace.revision;
        if after_revision == revision {
            Ok(())
        } else {
            Err(Refusal::Import(ImportRefusal::OutOfPlace { wanted: after_revision, revision }))
        }
    }
}

impl Keyspace {
    /// Appends a pair as it is; its key does not exist, and its revision is no lower than any here.
    fn import(&mut self, pair: KeyValue) -> (Key, u64) {
        let sub_revision = match self.log.last_position() {
            Some((revision, sub)) if revision == pair.mod_revision => sub + 1,
            _ => 0,
        };
        let reference = VersionRef::new(self.log.next_ordinal(), false);
        let before = self.index.get(&pair.key[..]).copied();
        let links = before.map_or(Links::NONE, |before| self.log.links_after(before));
        let version = Version {
            key: Key::new(&pair.key),
            value: Value::new(pair.value),
            mod_revision: pair.mod_revision,
            sub_revision,
            create_revision: pair.create_revision,
            version: pair.version,
            lease: pair.lease,
            previous: links.previous,
            skip: links.skip,
            chain_number: links.chain_number,
        };
        let key = version.key.clone();
        self.revision = pair.mod_revision;
        self.bytes += version.logical_bytes();
        self.live_count += 1;
        self.log.push(version);
        self.index.insert(key.clone(), reference);
        (key, pair.lease)
    }

    /// Frees the present version of a key, as if it had never been; returns its lease.
    fn forget(&mut self, key: &[u8]) -> Option<(Key, u64)> {
        let newest = self.index.get(key)?.live()?;
        let version = self.log.get(newest).expect("the index refers to versions in the log");
        let (key, lease, previous) = (version.key.clone(), version.lease, version.previous);
        // From before the import, if there is anything.
        if self.log.get(previous.ordinal()).is_some() {
            self.index.insert(key.clone(), previous);
        } else {
            self.index.remove(&key);
        }
        let freed = self.log.free(newest).expect("it was there a moment ago");
        self.bytes -= freed.bytes;
        self.live_count -= 1;
        Some((key, lease))
    }
}

/// The part of the state's hash that says what is imported; nothing while nothing is.
pub(crate) fn import_hash(source: Option<u64>) -> StateHash {
    source.map_or_else(StateHash::default, |source| {
        RowHasher::new(RowKind::Import).word(source).finish()
    })
}
