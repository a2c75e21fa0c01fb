//! Bare idempotency keys: exactly-once writes, within a stated time, for clients without a
//! session.
//!
//! A key belongs to its user. Its outcome is kept for the settings' time on the replicated clock,
//! counted from the first application; older ones are forgotten at once and removed a little
//! later. When the table has its share of the quota, new keys are refused: nothing is dropped
//! early.
//!
//! Rows are immutable and ordered by the sequence that made them, so they are also ordered by
//! age, and a snapshot walk reads them like a log; what is removed meanwhile is set aside for it.

use std::collections::BTreeMap;

use crate::{
    kept_outcome::{KeptOutcome, OutcomeDigest},
    key::Key,
    state_hash::{RowHasher, RowKind, StateHash},
};

/// The longest idempotency key in bytes.
pub const IDEMPOTENCY_KEY_LEN_MAX: usize = 64;

/// Rows removed with one entry.
const REMOVED_ROWS_MAX: usize = 1_000;

/// The table of idempotency keys.
#[derive(Debug, Default)]
pub(crate) struct IdempotencyTable {
    /// By the sequence of the first application.
    rows: BTreeMap<u64, KeyRow>,
    /// The row of each key; see [`scoped_key`].
    by_key: BTreeMap<Key, u64>,
    bytes: u64,
    hash: StateHash,
    /// Rows made up to this sequence belong to a running walk.
    pinned_end: u64,
    /// Removed rows that the walk still wants.
    retained: BTreeMap<u64, KeyRow>,
}

/// One key and its outcome; the outcome's sequence is where the row stands.
#[derive(Debug)]
pub(crate) struct KeyRow {
    /// The user and the key, see [`scoped_key`].
    pub(crate) key: Key,
    /// The replicated clock at the first application.
    pub(crate) applied_ms: u64,
    pub(crate) kept: KeptOutcome,
    bytes: u64,
    hash: StateHash,
}

/// A user's key as one: the length of the user's name in front keeps the two apart.
pub(crate) fn scoped_key(principal: &str, key: &[u8]) -> Key {
    let mut scoped = Vec::with_capacity(8 + principal.len() + key.len());
    scoped.extend((principal.len() as u64).to_le_bytes());
    scoped.extend(principal.as_bytes());
    scoped.extend(key);
    Key::new(&scoped)
}

impl IdempotencyTable {
    /// The outcome of a key, unless it is older than `ttl_ms`.
    pub(crate) fn get(&self, key: &Key, clock_ms: u64, ttl_ms: u64) -> Option<&KeptOutcome> {
        let row = self.rows.get(self.by_key.get(key)?)?;
        (row.applied_ms.saturating_add(ttl_ms) > clock_ms).then_some(&row.kept)
    }

    /// Where the row of a key stands, however old it is.
    pub(crate) fn sequence_of(&self, key: &Key) -> Option<u64> {
        self.by_key.get(key).copied()
    }

    /// Keeps an outcome; an older row of the same key makes room. `None` if the sequence of the
    /// outcome has a row.
    pub(crate) fn keep(
        &mut self,
        key: Key,
        applied_ms: u64,
        kept: KeptOutcome,
        digest: OutcomeDigest,
    ) -> Option<()> {
        let sequence = kept.applied.sequence;
        if self.rows.contains_key(&sequence) {
            return None;
        }
        if let Some(old) = self.by_key.insert(key.clone(), sequence) {
            self.remove_row(old);
        }
        let bytes = digest.bytes + key.len() as u64;
        let hash = row_hash(&key, applied_ms, digest.digest);
        self.bytes += bytes;
        self.hash += hash;
        self.rows.insert(sequence, KeyRow { key, applied_ms, kept, bytes, hash });
        Some(())
    }

    /// Removes rows older than `ttl_ms`, the oldest first, a bounded number.
    pub(crate) fn remove_old(&mut self, clock_ms: u64, ttl_ms: u64) {
        for _ in 0..REMOVED_ROWS_MAX {
            let Some((sequence, row)) = self.rows.first_key_value() else { return };
            if row.applied_ms.saturating_add(ttl_ms) > clock_ms {
                return;
            }
            let sequence = *sequence;
            self.by_key.remove(&row.key);
            self.remove_row(sequence);
        }
    }

    /// The replicated time at which the oldest row was made.
    pub(crate) fn first_applied_ms(&self) -> Option<u64> {
        self.rows.first_key_value().map(|(_, row)| row.applied_ms)
    }

    /// Keeps every row of this moment, all made up to `sequence`, readable by
    /// [`Self::pinned_from`].
    pub(crate) fn pin(&mut self, sequence: u64) {
        self.retained.clear();
        self.pinned_end = sequence + 1;
    }

    /// Ends [`Self::pin`].
    pub(crate) fn unpin(&mut self) {
        self.pinned_end = 0;
        self.retained = BTreeMap::new();
    }

    /// The rows made at or after a sequence as they were when [`Self::pin`] was called.
    pub(crate) fn pinned_from(&self, sequence: u64) -> impl Iterator<Item = (u64, &KeyRow)> {
        let end = self.pinned_end.max(sequence);
        let mut live = self.rows.range(sequence..end).peekable();
        let mut retained = self.retained.range(sequence..end).peekable();
        std::iter::from_fn(move || {
            let next = match (live.peek(), retained.peek()) {
                (Some((live_at, _)), Some((retained_at, _))) if retained_at < live_at => {
                    retained.next()
                }
                (None, _) => retained.next(),
                _ => live.next(),
            };
            next.map(|(at, row)| (*at, row))
        })
    }

    /// The rows at and after a sequence.
    pub(crate) fn rows_from(&self, sequence: u64) -> impl Iterator<Item = (u64, &KeyRow)> {
        self.rows.range(sequence..).map(|(at, row)| (*at, row))
    }

    pub(crate) fn count(&self) -> u64 {
        self.rows.len() as u64
    }

    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) const fn hash(&self) -> StateHash {
        self.hash
    }

    /// The hash from what each row says it was when it was made.
    pub(crate) fn computed_hash(&self) -> StateHash {
        let mut sum = StateHash::default();
        self.rows.values().for_each(|row| sum += row.hash);
        sum
    }

    /// Overwrites an outcome behind the hash's back, as failing memory would.
    #[cfg(test)]
    pub(crate) fn damage(&mut self, sequence: u64) {
        let row = self.rows.get_mut(&sequence).expect("there is such a row");
        row.kept.applied.revision ^= 1;
    }

    /// Takes a row out whose key leads elsewhere, or nowhere, already.
    fn remove_row(&mut self, sequence: u64) {
        let row = self.rows.remove(&sequence).expect("a key leads to a row");
        self.bytes -= row.bytes;
        self.hash -= row.hash;
        if sequence < self.pinned_end {
            self.retained.insert(sequence, row);
        }
    }
}

impl KeyRow {
    /// Whether the row is still what it was when it was made.
    pub(crate) fn is_sound(&self, scratch: &mut Vec<u8>) -> bool {
        row_hash(&self.key, self.applied_ms, self.kept.digest(scratch).digest) == self.hash
    }
}

fn row_hash(key: &Key, applied_ms: u64, digest: u128) -> StateHash {
    RowHasher::new(RowKind::IdempotencyKey)
        .bytes(key.as_slice())
        .word(applied_ms)
        .wide(digest)
        .finish()
}
