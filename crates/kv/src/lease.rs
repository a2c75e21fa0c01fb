//! Leases: keys that go away with their owner.
//!
//! A lease lives until the replicated clock reaches its deadline; from then on it can be neither
//! renewed nor attached to, even while it waits its turn to be removed. Which keys a lease has
//! follows from the newest versions of the keys, so it is not part of the hash.
//!
//! Deleting the keys of an ended lease is done above, where revisions are made.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    key::Key,
    outcome::Refusal,
    state_hash::{RowHasher, RowKind, StateHash},
};

/// The longest time to live of a lease, as in etcd: 9,000,000,000 seconds.
pub const LEASE_TTL_MS_MAX: u64 = 9_000_000_000 * 1_000;

/// The most leases a store holds.
pub const LEASES_MAX: u64 = 10_000_000;

/// A lease as seen from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseView {
    /// The lease.
    pub id: u64,
    /// The time to live that was granted, in milliseconds.
    pub ttl_ms: u64,
    /// What is left of it on the replicated clock, in milliseconds.
    pub remaining_ms: u64,
    /// The attached keys, sorted.
    pub keys: Vec<Bytes>,
}

/// All leases.
#[derive(Debug, Default)]
pub(crate) struct LeaseTable {
    leases: BTreeMap<u64, Lease>,
    /// (deadline, id) of every lease.
    deadlines: BTreeSet<(u64, u64)>,
    hash: StateHash,
}

#[derive(Debug)]
struct Lease {
    ttl_ms: u64,
    deadline_ms: u64,
    keys: BTreeSet<Key>,
}

impl LeaseTable {
    /// Grants a lease and returns its id; 0 asks for one made from `sequence`.
    pub(crate) fn grant(
        &mut self,
        id: u64,
        ttl_ms: u64,
        clock_ms: u64,
        sequence: u64,
    ) -> Result<u64, Refusal> {
        if ttl_ms > LEASE_TTL_MS_MAX {
            return Err(Refusal::LeaseTtlTooLarge { ttl_ms, limit_ms: LEASE_TTL_MS_MAX });
        }
        if self.leases.contains_key(&id) {
            return Err(Refusal::LeaseExists { id });
        }
        if self.count() >= LEASES_MAX {
            return Err(Refusal::TooManyLeases { limit: LEASES_MAX });
        }
        let id = if id == 0 { self.free_id(sequence) } else { id };
        self.insert(id, ttl_ms, clock_ms.saturating_add(ttl_ms));
        Ok(id)
    }

    /// Adds a lease without keys; there must be none of that id.
    pub(crate) fn insert(&mut self, id: u64, ttl_ms: u64, deadline_ms: u64) {
        self.hash += row_hash(id, ttl_ms, deadline_ms);
        self.deadlines.insert((deadline_ms, id));
        let replaced = self.leases.insert(id, Lease { ttl_ms, deadline_ms, keys: BTreeSet::new() });
        assert!(replaced.is_none(), "a lease is granted only under a free id");
    }

    /// Renews a lease that is not due and returns its time to live.
    pub(crate) fn renew(&mut self, id: u64, clock_ms: u64) -> Option<u64> {
        let lease = self.leases.get_mut(&id).filter(|lease| lease.deadline_ms > clock_ms)?;
        let deadline_ms = clock_ms.saturating_add(lease.ttl_ms);
        if deadline_ms != lease.deadline_ms {
            self.hash -= row_hash(id, lease.ttl_ms, lease.deadline_ms);
            self.hash += row_hash(id, lease.ttl_ms, deadline_ms);
            self.deadlines.remove(&(lease.deadline_ms, id));
            self.deadlines.insert((deadline_ms, id));
            lease.deadline_ms = deadline_ms;
        }
        Some(lease.ttl_ms)
    }

    /// Gives every lease its whole time to live, those that are due included.
    pub(crate) fn renew_all(&mut self, clock_ms: u64) {
        self.deadlines.clear();
        self.hash = StateHash::default();
        for (id, lease) in &mut self.leases {
            lease.deadline_ms = clock_ms.saturating_add(lease.ttl_ms);
            self.deadlines.insert((lease.deadline_ms, *id));
            self.hash += row_hash(*id, lease.ttl_ms, lease.deadline_ms);
        }
    }

    /// Removes a lease and returns its keys in order; `None` if there is none of that id.
    pub(crate) fn remove(&mut self, id: u64) -> Option<BTreeSet<Key>> {
        let lease = self.leases.remove(&id)?;
        self.deadlines.remove(&(lease.deadline_ms, id));
        self.hash -= row_hash(id, lease.ttl_ms, lease.deadline_ms);
        Some(lease.keys)
    }

    /// The lease that has been due for longest, if any is; of several the one of the lowest id.
    pub(crate) fn first_due(&self, clock_ms: u64) -> Option<u64> {
        self.deadlines
            .first()
            .filter(|(deadline_ms, _)| *deadline_ms <= clock_ms)
            .map(|(_, id)| *id)
    }

    /// The earliest deadline.
    pub(crate) fn first_deadline_ms(&self) -> Option<u64> {
        self.deadlines.first().map(|(deadline_ms, _)| *deadline_ms)
    }

    /// Whether keys may be attached to a lease.
    pub(crate) fn is_alive(&self, id: u64, clock_ms: u64) -> bool {
        self.leases.get(&id).is_some_and(|lease| lease.deadline_ms > clock_ms)
    }

    pub(crate) fn contains(&self, id: u64) -> bool {
        self.leases.contains_key(&id)
    }

    /// The time to live that a lease was granted, and how many keys it has.
    pub(crate) fn ttl_and_keys(&self, id: u64) -> Option<(u64, usize)> {
        self.leases.get(&id).map(|lease| (lease.ttl_ms, lease.keys.len()))
    }

    /// Notes that a key moved from one lease to another; 0 is none.
    pub(crate) fn move_key(&mut self, key: Key, from: u64, to: u64) {
        if from == to {
            return;
        }
        if from != 0 {
            self.detach(&key, from);
        }
        if to != 0 {
            self.attach(key, to).expect("writes are refused when their lease does not exist");
        }
    }

    /// Notes that a key is attached to a lease; `None` if there is no such lease.
    pub(crate) fn attach(&mut self, key: Key, id: u64) -> Option<()> {
        self.leases.get_mut(&id)?.keys.insert(key);
        Some(())
    }

    /// Notes that a key is no longer attached to a lease, which may have ended before.
    pub(crate) fn detach(&mut self, key: &Key, id: u64) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.keys.remove(key);
        }
    }

    pub(crate) fn view(&self, id: u64, clock_ms: u64) -> Option<LeaseView> {
        let lease = self.leases.get(&id)?;
        Some(LeaseView {
            id,
            ttl_ms: lease.ttl_ms,
            remaining_ms: lease.deadline_ms.saturating_sub(clock_ms),
            keys: lease.keys.iter().map(Key::to_bytes).collect(),
        })
    }

    /// (id, time to live, deadline) of every lease, by id.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (u64, u64, u64)> {
        self.leases.iter().map(|(id, lease)| (*id, lease.ttl_ms, lease.deadline_ms))
    }

    pub(crate) fn count(&self) -> u64 {
        self.leases.len() as u64
    }

    pub(crate) const fn hash(&self) -> StateHash {
        self.hash
    }

    /// The hash from nothing but the rows.
    pub(crate) fn computed_hash(&self) -> StateHash {
        let mut sum = StateHash::default();
        self.rows().for_each(|(id, ttl_ms, deadline_ms)| sum += row_hash(id, ttl_ms, deadline_ms));
        sum
    }

    /// Overwrites a lease behind the hash's back, as failing memory would.
    #[cfg(test)]
    pub(crate) fn damage(&mut self, id: u64) {
        self.leases.get_mut(&id).expect("there is such a lease").ttl_ms ^= 1;
    }

    /// A positive 63-bit id that is not taken; the same on every replica.
    fn free_id(&self, sequence: u64) -> u64 {
        (0_u64..)
            .map(|attempt| xxh3_64(&[sequence.to_le_bytes(), attempt.to_le_bytes()].concat()) >> 1)
            .find(|id| *id != 0 && !self.leases.contains_key(id))
            .expect("there are more ids than leases")
    }
}

fn row_hash(id: u64, ttl_ms: u64, deadline_ms: u64) -> StateHash {
    RowHasher::new(RowKind::Lease).word(id).word(ttl_ms).word(deadline_ms).finish()
}
