//! The additive 128-bit hash of the state.
//!
//! Every row of the state (a version of a key, a lease, a session, a kept outcome) has a hash of
//! its own, and the state's hash is their sum modulo 2^128: adding or removing a row costs one
//! hash, in whatever order rows come and go. Two replicas that hold the same rows hold the same
//! sum, and the sum over a part of the rows can be checked without the others.
//!
//! It finds damage and divergence; it is no defence against somebody who writes memory on purpose.

use std::ops::{AddAssign, SubAssign};

use xxhash_rust::xxh3::xxh3_128;

/// A sum of row hashes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct StateHash(u128);

impl StateHash {
    /// The sum as a number.
    pub(crate) const fn value(self) -> u128 {
        self.0
    }
}

impl AddAssign for StateHash {
    fn add_assign(&mut self, row: Self) {
        self.0 = self.0.wrapping_add(row.0);
    }
}

impl SubAssign for StateHash {
    fn sub_assign(&mut self, row: Self) {
        self.0 = self.0.wrapping_sub(row.0);
    }
}

/// What a row is; rows of different kinds never have the same hash by construction.
#[derive(Debug, Clone, Copy)]
pub(crate) enum RowKind {
    /// The sequence, the revisions, the clocks and whatever else exists once.
    Position = 1,
    Settings = 2,
    Version = 3,
    Lease = 4,
    Session = 5,
    SessionOutcome = 6,
    IdempotencyKey = 7,
    /// What is imported; there while an import lasts.
    Import = 8,
}

/// Room for the kind and the fields of the largest row.
const ROW_BYTES_MAX: usize = 128;

/// The fields of one row on their way into a hash; long ones go in as digests.
pub(crate) struct RowHasher {
    buffer: [u8; ROW_BYTES_MAX],
    len: usize,
}

impl RowHasher {
    pub(crate) const fn new(kind: RowKind) -> Self {
        let mut buffer = [0; ROW_BYTES_MAX];
        buffer[0] = kind as u8;
        Self { buffer, len: 1 }
    }

    /// Adds a number.
    pub(crate) fn word(&mut self, word: u64) -> &mut Self {
        self.append(&word.to_le_bytes())
    }

    /// Adds a 128-bit number.
    pub(crate) fn wide(&mut self, wide: u128) -> &mut Self {
        self.append(&wide.to_le_bytes())
    }

    /// Adds bytes of any length.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.wide(xxh3_128(bytes))
    }

    pub(crate) fn finish(&self) -> StateHash {
        StateHash(xxh3_128(&self.buffer[..self.len]))
    }

    fn append(&mut self, part: &[u8]) -> &mut Self {
        let end = self.len + part.len();
        assert!(end <= ROW_BYTES_MAX, "a row of the state has more fields than its hasher holds");
        self.buffer[self.len..end].copy_from_slice(part);
        self.len = end;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(kind: RowKind, number: u64) -> StateHash {
        RowHasher::new(kind).word(number).finish()
    }

    #[test]
    fn the_sum_forgets_order_and_what_was_removed() {
        let (one, two) = (row(RowKind::Lease, 1), row(RowKind::Lease, 2));
        let mut left = StateHash::default();
        left += one;
        left += two;
        let mut right = StateHash::default();
        right += two;
        right += row(RowKind::Lease, 3);
        right += one;
        assert_ne!(left, right);
        right -= row(RowKind::Lease, 3);
        assert_eq!(left, right);
    }

    #[test]
    fn the_kind_of_a_row_is_part_of_its_hash() {
        assert_ne!(row(RowKind::Lease, 1), row(RowKind::Session, 1));
    }
}
