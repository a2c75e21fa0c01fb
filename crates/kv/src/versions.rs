//! Which versions one key has: references into the log, oldest first.
//!
//! Most keys have one version, which costs no block of memory. A reference knows whether its
//! version is a tombstone, so counting keys never touches the versions themselves.

use std::collections::VecDeque;

/// A reference to a version in the log: its ordinal, and whether it is a tombstone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct VersionRef(u64);

impl VersionRef {
    pub(crate) const fn new(ordinal: u64, is_tombstone: bool) -> Self {
        Self(ordinal << 1 | is_tombstone as u64)
    }

    pub(crate) const fn ordinal(self) -> u64 {
        self.0 >> 1
    }

    pub(crate) const fn is_tombstone(self) -> bool {
        self.0 & 1 == 1
    }

    /// The ordinal, unless the version says that the key is gone.
    pub(crate) fn live(self) -> Option<u64> {
        (!self.is_tombstone()).then(|| self.ordinal())
    }
}

/// The versions of one key; never none while the key is in the index.
#[derive(Debug)]
pub(crate) enum Versions {
    One(VersionRef),
    #[expect(clippy::box_collection, reason = "keeps the far more common single version small")]
    Many(Box<VecDeque<VersionRef>>),
}

impl Versions {
    pub(crate) fn push(&mut self, newest: VersionRef) {
        match self {
            Self::One(only) => {
                let mut many = VecDeque::with_capacity(2);
                many.push_back(*only);
                many.push_back(newest);
                *self = Self::Many(Box::new(many));
            }
            Self::Many(many) => many.push_back(newest),
        }
    }

    /// Takes the oldest version out if it stands before `ordinal`; the newest always stays.
    pub(crate) fn pop_before(&mut self, ordinal: u64) -> Option<VersionRef> {
        let Self::Many(many) = self else { return None };
        let oldest = many.front().copied().filter(|oldest| oldest.ordinal() < ordinal)?;
        many.pop_front();
        if let (1, Some(newest)) = (many.len(), many.front().copied()) {
            *self = Self::One(newest);
        } else if many.len() * 4 < many.capacity() {
            many.shrink_to(many.len() * 2);
        }
        Some(oldest)
    }

    /// The newest version.
    pub(crate) fn newest(&self) -> VersionRef {
        match self {
            Self::One(only) => *only,
            Self::Many(many) => *many.back().expect("a key has at least two of many versions"),
        }
    }

    /// The newest version before an ordinal.
    pub(crate) fn before(&self, ordinal: u64) -> Option<VersionRef> {
        match self {
            Self::One(only) => Some(*only).filter(|only| only.ordinal() < ordinal),
            Self::Many(many) => {
                let newest = self.newest();
                if newest.ordinal() < ordinal {
                    return Some(newest);
                }
                let end = many.partition_point(|version| version.ordinal() < ordinal);
                many.get(end.checked_sub(1)?).copied()
            }
        }
    }

    /// Whether the version at an ordinal is among them.
    pub(crate) fn contains(&self, version: VersionRef) -> bool {
        match self {
            Self::One(only) => *only == version,
            Self::Many(many) => many.binary_search(&version).is_ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions(ordinals: &[u64]) -> Versions {
        let mut versions = Versions::One(VersionRef::new(ordinals[0], false));
        for ordinal in &ordinals[1..] {
            versions.push(VersionRef::new(*ordinal, false));
        }
        versions
    }

    #[test]
    fn the_versions_of_a_key_take_16_bytes() {
        assert_eq!(size_of::<Versions>(), 16);
    }

    #[test]
    fn the_newest_before_an_ordinal_is_found() {
        let versions = versions(&[3, 5, 9]);
        let found = |ordinal| versions.before(ordinal).map(VersionRef::ordinal);
        assert_eq!(
            [0, 3, 4, 5, 6, 9, 10].map(found),
            [None, None, Some(3), Some(3), Some(5), Some(5), Some(9)]
        );
    }

    #[test]
    fn the_newest_is_never_taken_out() {
        let mut versions = versions(&[3, 5, 9]);
        assert_eq!(versions.pop_before(5).map(VersionRef::ordinal), Some(3));
        assert_eq!(versions.pop_before(5), None);
        assert_eq!(versions.pop_before(100).map(VersionRef::ordinal), Some(5));
        assert_eq!(versions.pop_before(100), None);
        assert_eq!(versions.newest().ordinal(), 9);
        assert!(matches!(versions, Versions::One(_)));
    }
}
