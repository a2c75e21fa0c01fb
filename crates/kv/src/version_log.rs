//! All versions of all keys, in the order in which they were written.
//!
//! Each version gets an ordinal, its place in this log; ordinals are local to a process and mean
//! nothing to other replicas. Versions lie in chunks of up to [`CHUNK_SPAN`] ordinals. Freed ones
//! leave gaps, and a chunk that is half gaps is packed, so memory goes with what lives.
//!
//! ```text
//! closed chunks, by first ordinal          open chunk
//! [0: v v . v v] [512: v . . v] [1900: v]  [2048: v v v v ->
//! ```
//!
//! Being append-only and in the order of revisions, the log is at once the index by revision that
//! watches start from, and what a snapshot walks: whoever knows the next ordinal at some moment
//! knows the log of that moment. While a walk is on, versions that compaction frees are set aside
//! for it; the hash and the counts no longer include them.
//!
//! The log knows neither which version of a key is newest nor what may be freed.

use std::collections::BTreeMap;

use crate::{
    state_hash::StateHash,
    version::{Position, Version},
};

/// Ordinals of one chunk.
const CHUNK_SPAN: u64 = 512;

/// Logical bytes after which a chunk is closed early, so that one can be checked in one go.
const CHUNK_BYTES_MAX: u64 = 1024 * 1024;

/// The log of versions.
#[derive(Debug, Default)]
pub(crate) struct VersionLog {
    /// Full chunks by their first ordinal; none is empty.
    closed: BTreeMap<u64, Chunk>,
    /// First ordinals of the full chunks by the first position each was opened with.
    closed_by_position: BTreeMap<Position, u64>,
    /// Where new versions go.
    open: Chunk,
    /// First ordinal of the open chunk.
    open_start: u64,
    /// The ordinal of the next version.
    next: u64,
    count: u64,
    hash: StateHash,
    /// Ordinals below it belong to a running walk.
    pinned_end: u64,
    /// Freed versions that the walk still wants.
    retained: BTreeMap<u64, Version>,
}

impl VersionLog {
    /// Appends a version, newer than all before, and returns its ordinal.
    pub(crate) fn push(&mut self, version: Version) -> u64 {
        debug_assert!(self.last_position().is_none_or(|last| last < version.position()));
        let ordinal = self.next;
        if ordinal - self.open_start >= CHUNK_SPAN || self.open.bytes >= CHUNK_BYTES_MAX {
            self.close_chunk();
        }
        let hash = version.hash();
        self.hash += hash;
        self.count += 1;
        self.next += 1;
        self.open.push(ordinal - self.open_start, version, hash);
        ordinal
    }

    /// Frees a version and returns the logical bytes it counted for.
    pub(crate) fn free(&mut self, ordinal: u64) -> u64 {
        let (start, chunk) = if ordinal >= self.open_start {
            (self.open_start, &mut self.open)
        } else {
            let found = self.closed.range_mut(..=ordinal).next_back();
            let (start, chunk) = found.expect("a version is freed once, while its chunk exists");
            (*start, chunk)
        };
        let version = chunk.remove(ordinal - start);
        let version = version.expect("a version is freed once");
        let hash = version.hash();
        chunk.hash -= hash;
        if chunk.live == 0 && start != self.open_start {
            let first = chunk.first_position;
            self.closed.remove(&start);
            self.closed_by_position.remove(&first);
        }
        self.hash -= hash;
        self.count -= 1;
        let bytes = version.logical_bytes();
        if ordinal < self.pinned_end {
            self.retained.insert(ordinal, version);
        }
        bytes
    }

    /// Keeps every version of this moment readable by [`Self::pinned_from`].
    pub(crate) fn pin(&mut self) -> u64 {
        self.retained.clear();
        self.pinned_end = self.next;
        self.next
    }

    /// Ends [`Self::pin`].
    pub(crate) fn unpin(&mut self) {
        self.pinned_end = 0;
        self.retained = BTreeMap::new();
    }

    /// The version at an ordinal, unless it was freed.
    pub(crate) fn get(&self, ordinal: u64) -> Option<&Version> {
        if ordinal >= self.open_start {
            return self.open.get(ordinal - self.open_start);
        }
        let (start, chunk) = self.closed.range(..=ordinal).next_back()?;
        chunk.get(ordinal - start)
    }

    /// The versions at and above an ordinal, in order.
    pub(crate) fn from(&self, ordinal: u64) -> impl Iterator<Item = (u64, &Version)> {
        let first = self.closed.range(..=ordinal).next_back().map_or(ordinal, |(start, _)| *start);
        self.closed
            .range(first..)
            .map(|(start, chunk)| (*start, chunk))
            .chain(std::iter::once((self.open_start, &self.open)))
            .flat_map(move |(start, chunk)| chunk.from(ordinal.saturating_sub(start), start))
    }

    /// The versions at and above an ordinal as they were when [`Self::pin`] was called.
    pub(crate) fn pinned_from(&self, ordinal: u64) -> impl Iterator<Item = (u64, &Version)> {
        let end = self.pinned_end;
        let mut live = self.from(ordinal).take_while(move |(at, _)| *at < end).peekable();
        let retained = self.retained.range(ordinal..).map(|(at, version)| (*at, version));
        let mut retained = retained.peekable();
        std::iter::from_fn(move || {
            let Some((next_retained, _)) = retained.peek() else { return live.next() };
            let retained_first = live.peek().is_none_or(|(next_live, _)| next_retained < next_live);
            if retained_first { retained.next() } else { live.next() }
        })
    }

    /// The first ordinal whose version stands at or after a position.
    pub(crate) fn first_at(&self, position: Position) -> u64 {
        if self.open.live > 0 && position >= self.open.first_position {
            return self.open_start + self.open.first_at(position);
        }
        let chunk = self.closed_by_position.range(..=position).next_back();
        let Some((_, start)) = chunk else {
            return self.closed.keys().next().copied().unwrap_or(self.open_start);
        };
        let chunk = self.closed.get(start).expect("a chunk leaves both maps at once");
        start + chunk.first_at(position)
    }

    /// Where the newest version stands that is still there.
    pub(crate) fn last_position(&self) -> Option<Position> {
        let last_closed = || self.closed.values().next_back().and_then(Chunk::last);
        self.open.last().or_else(last_closed).map(Version::position)
    }

    /// How many versions there are.
    pub(crate) const fn count(&self) -> u64 {
        self.count
    }

    /// The sum of all versions' hashes.
    pub(crate) const fn hash(&self) -> StateHash {
        self.hash
    }

    /// The chunk at or after an ordinal, for a check: its first ordinal, the ordinal to go on
    /// with, what its versions' hashes should add up to, and the versions.
    pub(crate) fn chunk_from(&self, ordinal: u64) -> Option<ChunkView<'_>> {
        let closed = self.closed.range(ordinal..).next();
        let (start, chunk) = match closed {
            Some((start, chunk)) => (*start, chunk),
            None if ordinal <= self.open_start && self.open.live > 0 => {
                (self.open_start, &self.open)
            }
            None => return None,
        };
        Some(ChunkView { start, chunk })
    }

    /// The sum of what all chunks should add up to.
    pub(crate) fn hash_of_chunks(&self) -> StateHash {
        let mut sum = self.open.hash;
        self.closed.values().for_each(|chunk| sum += chunk.hash);
        sum
    }

    /// Overwrites a version behind the hash's back, as failing memory would.
    #[cfg(test)]
    pub(crate) fn damage(&mut self, ordinal: u64, damage: impl FnOnce(&mut Version)) {
        let slot = self.open.slots[usize::try_from(ordinal - self.open_start).unwrap()].as_mut();
        damage(slot.unwrap());
    }

    fn close_chunk(&mut self) {
        let mut chunk = std::mem::take(&mut self.open);
        if chunk.live > 0 {
            chunk.pack();
            self.closed_by_position.insert(chunk.first_position, self.open_start);
            self.closed.insert(self.open_start, chunk);
        }
        self.open_start = self.next;
    }
}

/// One chunk of the log, to be checked.
pub(crate) struct ChunkView<'a> {
    start: u64,
    chunk: &'a Chunk,
}

impl<'a> ChunkView<'a> {
    /// The ordinal from which the next chunk is found.
    pub(crate) const fn next(&self) -> u64 {
        self.start + 1
    }

    /// What the versions' hashes should add up to.
    pub(crate) const fn hash(&self) -> StateHash {
        self.chunk.hash
    }

    pub(crate) fn versions(&self) -> impl Iterator<Item = (u64, &'a Version)> + use<'a> {
        self.chunk.from(0, self.start)
    }
}

/// Neighbouring versions.
#[derive(Debug, Default)]
struct Chunk {
    /// Distance of each slot from the chunk's first ordinal, ascending.
    offsets: Vec<u16>,
    /// The versions; `None` where one was freed.
    slots: Vec<Option<Version>>,
    /// Slots that are not `None`.
    live: usize,
    /// Logical bytes ever put in.
    bytes: u64,
    /// The sum of the hashes of what is in.
    hash: StateHash,
    /// Position of the first version ever put in; no later one stands before it.
    first_position: Position,
}

impl Chunk {
    fn push(&mut self, offset: u64, version: Version, hash: StateHash) {
        let offset = u16::try_from(offset).expect("a chunk spans at most CHUNK_SPAN ordinals");
        if self.live == 0 {
            // Empty, or emptied while open: whatever was there stands before this version.
            *self = Self { bytes: self.bytes, ..Self::default() };
            self.first_position = version.position();
        }
        self.bytes += version.logical_bytes();
        self.hash += hash;
        self.live += 1;
        self.offsets.push(offset);
        self.slots.push(Some(version));
    }

    fn remove(&mut self, offset: u64) -> Option<Version> {
        let slot = self.slot(offset)?;
        let version = self.slots[slot].take()?;
        self.live -= 1;
        if self.live * 2 < self.slots.len() {
            self.pack();
        }
        Some(version)
    }

    fn get(&self, offset: u64) -> Option<&Version> {
        self.slots[self.slot(offset)?].as_ref()
    }

    /// The versions from an offset on, with their ordinals.
    fn from(&self, offset: u64, start: u64) -> impl Iterator<Item = (u64, &Version)> {
        let at = self.offsets.partition_point(|present| u64::from(*present) < offset);
        self.offsets[at..].iter().zip(&self.slots[at..]).filter_map(move |(offset, slot)| {
            slot.as_ref().map(|version| (start + u64::from(*offset), version))
        })
    }

    /// The offset of the first version at or after a position, or one behind the last.
    fn first_at(&self, position: Position) -> u64 {
        let (mut low, mut high) = (0, self.slots.len());
        while low < high {
            let middle = low.midpoint(high);
            // Gaps have no position: the next version to the right stands for them.
            let found = (middle..high).find_map(|at| Some((at, self.slots[at].as_ref()?)));
            match found {
                Some((at, version)) if version.position() < position => low = at + 1,
                _ => high = middle,
            }
        }
        match self.offsets.get(low) {
            Some(offset) => u64::from(*offset),
            None => self.offsets.last().map_or(0, |last| u64::from(*last) + 1),
        }
    }

    fn last(&self) -> Option<&Version> {
        self.slots.iter().rev().find_map(Option::as_ref)
    }

    /// The slot of an offset.
    fn slot(&self, offset: u64) -> Option<usize> {
        let offset = u16::try_from(offset).ok()?;
        let dense = usize::from(offset);
        // Ascending and distinct: an offset in its own place has all smaller ones before it.
        if self.offsets.get(dense) == Some(&offset) {
            return Some(dense);
        }
        self.offsets.binary_search(&offset).ok()
    }

    /// Closes the gaps and gives back what memory is left over.
    fn pack(&mut self) {
        if self.live < self.slots.len() {
            let mut slots = self.slots.iter();
            self.offsets.retain(|_| slots.next().is_some_and(Option::is_some));
            self.slots.retain(Option::is_some);
        }
        self.offsets.shrink_to_fit();
        self.slots.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{key::Key, value::Value};

    fn version(number: u64) -> Version {
        Version {
            key: Key::new(&number.to_le_bytes()),
            value: Value::EMPTY,
            mod_revision: number / 3,
            sub_revision: u32::try_from(number % 3).unwrap(),
            create_revision: 1,
            version: 1,
            lease: 0,
        }
    }

    /// A log of 2,000 versions, three a revision, without those that `freed` names.
    fn log(freed: impl Fn(u64) -> bool) -> VersionLog {
        let mut log = VersionLog::default();
        for number in 0..2_000 {
            assert_eq!(log.push(version(number)), number);
        }
        for number in (0..2_000).filter(|number| freed(*number)) {
            log.free(number);
        }
        log
    }

    #[test]
    fn versions_are_found_whatever_was_freed_around_them() {
        let patterns: [fn(u64) -> bool; 5] = [
            |_| false,
            |number| !number.is_multiple_of(7),
            |number| number < 1_100,
            |number| number > 400,
            |number| (300..1_800).contains(&number),
        ];
        for freed in patterns {
            let log = log(freed);
            let kept: Vec<u64> = (0..2_000).filter(|number| !freed(*number)).collect();
            assert_eq!(log.count(), kept.len() as u64);
            for number in 0..2_000 {
                assert_eq!(log.get(number).is_some(), !freed(number), "{number}");
            }
            for from in [0, 1, 511, 512, 513, 700, 1_999, 2_000] {
                let found: Vec<u64> = log.from(from).map(|(ordinal, _)| ordinal).collect();
                let expected: Vec<u64> = kept.iter().copied().filter(|at| *at >= from).collect();
                assert_eq!(found, expected, "from {from}");
            }
            for revision in 0..700 {
                let ordinal = log.first_at((revision, 1));
                let expected = kept.iter().copied().find(|number| *number > revision * 3);
                let found = log.from(ordinal).next().map(|(found, _)| found);
                assert_eq!(found, expected, "revision {revision}");
                let before = log.from(0).take_while(|(at, _)| *at < ordinal).last();
                assert!(before.is_none_or(|(_, version)| version.position() < (revision, 1)));
            }
        }
    }

    #[test]
    fn hash_and_chunks_add_up_after_every_kind_of_change() {
        let log = log(|number| number % 3 == 1 || number < 600);
        let mut sum = StateHash::default();
        log.from(0).for_each(|(_, version)| sum += version.hash());
        assert_eq!(log.hash(), sum);
        assert_eq!(log.hash_of_chunks(), sum);
        let mut ordinal = 0;
        let mut count = 0;
        while let Some(chunk) = log.chunk_from(ordinal) {
            let mut sum = StateHash::default();
            chunk.versions().for_each(|(_, version)| sum += version.hash());
            assert_eq!(chunk.hash(), sum);
            count += chunk.versions().count() as u64;
            ordinal = chunk.next();
        }
        assert_eq!(count, log.count());
    }

    #[test]
    fn a_pinned_walk_sees_what_is_freed_meanwhile_and_nothing_newer() {
        let mut log = log(|number| number % 5 == 0);
        log.pin();
        let before: Vec<u64> = log.from(0).map(|(ordinal, _)| ordinal).collect();
        log.push(version(2_000));
        for number in (0..2_000).filter(|number| number % 5 == 1 || number % 5 == 3) {
            log.free(number);
        }
        log.free(2_000);
        let walked: Vec<u64> = log.pinned_from(0).map(|(ordinal, _)| ordinal).collect();
        assert_eq!(walked, before);
        let later: Vec<u64> = log.pinned_from(801).map(|(ordinal, _)| ordinal).collect();
        assert_eq!(later, before.iter().copied().filter(|at| *at >= 801).collect::<Vec<_>>());
        log.unpin();
        assert_eq!(log.get(1), None);
        assert!(log.retained.is_empty());
    }

    #[test]
    fn large_versions_close_a_chunk_early() {
        let mut log = VersionLog::default();
        for number in 0..8 {
            let value = Value::new(bytes::Bytes::from(vec![0; 600_000]));
            log.push(Version { value, ..version(number) });
        }
        assert_eq!(log.closed.len(), 3);
        assert_eq!(log.from(0).count(), 8);
    }
}
