//! All versions of all keys, in the order in which they were written.
//!
//! Each version gets an ordinal, its place in this log; ordinals are local to a process and mean
//! nothing to other replicas. Versions lie in chunks of up to [`CHUNK_SPAN`] ordinals. Freed ones
//! leave gaps, and a chunk that is half gaps is packed, so memory goes with what lives.
//!
//! ```text
//! closed chunks, by first ordinal             open chunk
//! [0: v v . v v] [512: v . . v] [1024: v]     [1536: v v v v ->
//! ```
//!
//! Being append-only and in the order of revisions, the log is at once the index by revision that
//! watches start from, and what a snapshot walks: whoever knows the next ordinal at some moment
//! knows the log of that moment. While walks are on, versions that compaction frees are set aside
//! for them; the hash and the count no longer include them.
//!
//! The versions of one key are chained, newest to oldest, see [`Links`]. Which is the newest, and
//! what may be freed, is not known here.

use std::collections::BTreeMap;

use crate::{
    state_hash::StateHash,
    version::{Links, Position, Version, VersionRef},
};

/// Ordinals of one chunk.
const CHUNK_SPAN: u64 = 512;

/// Logical bytes after which a chunk is closed early, so that one can be checked in one go.
const CHUNK_BYTES_MAX: u64 = 1024 * 1024;

/// The log of versions.
#[derive(Debug, Default)]
pub(crate) struct VersionLog {
    /// Full chunks, ascending; those that became empty are dropped when they are many.
    closed: Vec<Chunk>,
    /// Chunks among them that are empty.
    closed_empty: usize,
    /// Where new versions go.
    open: Chunk,
    /// The ordinal of the next version.
    next: u64,
    count: u64,
    hash: StateHash,
    /// Running walks, in the order in which they began.
    pins: Vec<LogPin>,
    /// The number of the next walk.
    next_pin: u64,
    /// Freed versions that walks still want.
    retained: BTreeMap<u64, Retained>,
    /// Logical bytes of them.
    retained_bytes: u64,
}

/// A moment of the log that a walk goes back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogPin {
    number: u64,
    /// Ordinals below it belong to the walk.
    end: u64,
}

/// A version that was freed while a walk was on.
#[derive(Debug)]
struct Retained {
    version: Version,
    /// Walks from this number on began when it was gone.
    freed_before: u64,
}

/// What was kept for a walk that has ended. Dropping it takes time where much was kept, so whoever
/// shares the store with others does that when they may go on.
#[derive(Debug)]
pub struct Released {
    _versions: BTreeMap<u64, Retained>,
}

impl LogPin {
    /// Whether a version that was freed belongs to its moment.
    const fn has(self, ordinal: u64, retained: &Retained) -> bool {
        ordinal < self.end && self.number < retained.freed_before
    }
}

impl VersionLog {
    /// Appends a version, newer than all before, and returns its ordinal.
    pub(crate) fn push(&mut self, version: Version) -> u64 {
        debug_assert!(self.last_position().is_none_or(|last| last < version.position()));
        let ordinal = self.next;
        if ordinal - self.open.start >= CHUNK_SPAN || self.open.bytes >= CHUNK_BYTES_MAX {
            self.close_chunk();
        }
        let hash = version.hash();
        self.hash += hash;
        self.count += 1;
        self.next += 1;
        self.open.push(ordinal, version, hash);
        ordinal
    }

    /// The links of a version that follows another one of its key.
    pub(crate) fn links_after(&self, previous: VersionRef) -> Links {
        let Some(before) = self.get(previous.ordinal()) else { return Links::NONE };
        let chain_number = before.chain_number.wrapping_add(1);
        let mut skip = previous;
        if chain_number.is_multiple_of(2) {
            skip = before.skip;
            for _ in 1..chain_number.trailing_zeros() {
                let Some(skipped) = self.get(skip.ordinal()) else { break };
                skip = skipped.skip;
            }
        }
        Links { previous, skip, chain_number }
    }

    /// The newest version of a key that stands before an ordinal, given its newest of all. It
    /// may be a tombstone.
    pub(crate) fn newest_before(&self, newest: VersionRef, end: u64) -> Option<VersionRef> {
        let mut reference = newest;
        while reference.ordinal() >= end {
            reference = self.get(reference.ordinal())?.older_towards(end);
        }
        Some(reference)
    }

    /// Frees a version and returns it, or what is left of it to know.
    pub(crate) fn free(&mut self, ordinal: u64) -> Option<Freed> {
        let in_open = ordinal >= self.open.start;
        let at = if in_open { None } else { Some(self.closed_at(ordinal)?) };
        let chunk = match at {
            Some(at) => &mut self.closed[at],
            None => &mut self.open,
        };
        let (version, hash) = chunk.remove(ordinal)?;
        if !in_open && chunk.live == 0 {
            self.closed_empty += 1;
            if self.closed_empty * 2 > self.closed.len() {
                self.closed.retain(|chunk| chunk.live > 0);
                self.closed_empty = 0;
            }
        }
        self.hash -= hash;
        self.count -= 1;
        let freed = Freed { bytes: version.logical_bytes(), previous: version.previous };
        // The newest walk reaches furthest.
        if self.pins.last().is_some_and(|pin| ordinal < pin.end) {
            self.retained_bytes += freed.bytes;
            self.retained.insert(ordinal, Retained { version, freed_before: self.next_pin });
        }
        Some(freed)
    }

    /// Keeps every version of this moment readable by [`Self::pinned_from`].
    pub(crate) fn pin(&mut self) -> LogPin {
        let pin = LogPin { number: self.next_pin, end: self.next };
        self.next_pin += 1;
        self.pins.push(pin);
        pin
    }

    /// Ends [`Self::pin`]; what no other walk wants is for the caller to free.
    pub(crate) fn unpin(&mut self, pin: LogPin) -> Released {
        let Self { pins, retained, retained_bytes, .. } = self;
        pins.retain(|other| *other != pin);
        if pins.is_empty() {
            *retained_bytes = 0;
            return Released { _versions: std::mem::take(retained) };
        }
        let unwanted = retained.extract_if(.., |ordinal, kept| {
            let wanted = pins.iter().any(|pin| pin.has(*ordinal, kept));
            if !wanted {
                *retained_bytes -= kept.version.logical_bytes();
            }
            !wanted
        });
        Released { _versions: unwanted.collect() }
    }

    /// Logical bytes of freed versions that walks still want.
    pub(crate) const fn retained_bytes(&self) -> u64 {
        self.retained_bytes
    }

    /// The version at an ordinal, unless it was freed.
    pub(crate) fn get(&self, ordinal: u64) -> Option<&Version> {
        if ordinal >= self.open.start {
            return self.open.get(ordinal);
        }
        self.closed[self.closed_at(ordinal)?].get(ordinal)
    }

    /// The versions at and above an ordinal, in order.
    pub(crate) fn from(&self, ordinal: u64) -> impl Iterator<Item = (u64, &Version)> {
        let first = self.closed_at(ordinal).unwrap_or(0);
        let chunks = self.closed[first..].iter().chain(std::iter::once(&self.open));
        chunks.flat_map(move |chunk| chunk.from(ordinal))
    }

    /// The versions at and above an ordinal as they were when [`Self::pin`] was called.
    pub(crate) fn pinned_from(
        &self,
        pin: LogPin,
        ordinal: u64,
    ) -> impl Iterator<Item = (u64, &Version)> {
        let mut live = self.from(ordinal).take_while(move |(at, _)| *at < pin.end).peekable();
        let retained = self.retained.range(ordinal..pin.end.max(ordinal));
        let retained = retained.filter(move |(at, kept)| pin.has(**at, kept));
        let mut retained = retained.map(|(at, kept)| (*at, &kept.version)).peekable();
        std::iter::from_fn(move || {
            let Some((next_retained, _)) = retained.peek() else { return live.next() };
            let retained_first = live.peek().is_none_or(|(next_live, _)| next_retained < next_live);
            if retained_first { retained.next() } else { live.next() }
        })
    }

    /// The first ordinal whose version stands at or after a position.
    pub(crate) fn first_at(&self, position: Position) -> u64 {
        if self.open.live > 0 && position >= self.open.first_position {
            return self.open.first_at(position);
        }
        let chunks = self.closed.partition_point(|chunk| chunk.first_position <= position);
        chunks.checked_sub(1).map_or(0, |at| self.closed[at].first_at(position))
    }

    /// Where the newest version stands that is still there.
    pub(crate) fn last_position(&self) -> Option<Position> {
        let last_closed = || self.closed.iter().rev().find_map(Chunk::last);
        self.open.last().or_else(last_closed).map(Version::position)
    }

    /// The ordinal that the next version will get.
    pub(crate) const fn next_ordinal(&self) -> u64 {
        self.next
    }

    /// How many versions there are.
    pub(crate) const fn count(&self) -> u64 {
        self.count
    }

    /// The sum of all versions' hashes.
    pub(crate) const fn hash(&self) -> StateHash {
        self.hash
    }

    /// The chunk with the first version at or after an ordinal, to be checked.
    pub(crate) fn chunk_from(&self, ordinal: u64) -> Option<ChunkView<'_>> {
        let first = self.closed_at(ordinal).unwrap_or(0);
        let mut chunks = self.closed[first..].iter().chain(std::iter::once(&self.open));
        chunks.find(|chunk| chunk.from(ordinal).next().is_some()).map(ChunkView)
    }

    /// The sum of what all chunks should add up to.
    pub(crate) fn hash_of_chunks(&self) -> StateHash {
        let mut sum = self.open.hash;
        self.closed.iter().for_each(|chunk| sum += chunk.hash);
        sum
    }

    /// Overwrites a version behind the hash's back, as failing memory would.
    #[cfg(test)]
    pub(crate) fn damage(&mut self, ordinal: u64, damage: impl FnOnce(&mut Version)) {
        let slot = self.open.slot(ordinal).expect("it is in the open chunk");
        damage(self.open.slots[slot].as_mut().expect("it is there"));
    }

    /// The closed chunk that an ordinal lies in.
    fn closed_at(&self, ordinal: u64) -> Option<usize> {
        let first = self.closed.first()?.start;
        let holds = |at: usize| {
            let next = self.closed.get(at + 1).unwrap_or(&self.open);
            self.closed.get(at).is_some_and(|chunk| chunk.start <= ordinal) && ordinal < next.start
        };
        // Where it is if no chunk before was closed early or dropped.
        let guess = usize::try_from(ordinal.checked_sub(first)? / CHUNK_SPAN).ok()?;
        if holds(guess) {
            return Some(guess);
        }
        self.closed.partition_point(|chunk| chunk.start <= ordinal).checked_sub(1)
    }

    fn close_chunk(&mut self) {
        let mut chunk =
            std::mem::replace(&mut self.open, Chunk { start: self.next, ..Chunk::default() });
        if chunk.live > 0 {
            chunk.pack();
            self.closed.push(chunk);
        }
    }
}

/// What is left to know of a freed version.
pub(crate) struct Freed {
    /// The logical bytes that it counted for.
    pub(crate) bytes: u64,
    /// The version of its key before it.
    pub(crate) previous: VersionRef,
}

/// One chunk of the log, to be checked.
pub(crate) struct ChunkView<'a>(&'a Chunk);

impl<'a> ChunkView<'a> {
    /// What the versions' hashes should add up to.
    pub(crate) const fn hash(&self) -> StateHash {
        self.0.hash
    }

    pub(crate) fn versions(&self) -> impl Iterator<Item = (u64, &'a Version)> + use<'a> {
        self.0.from(0)
    }
}

/// Neighbouring versions.
#[derive(Debug, Default)]
struct Chunk {
    /// The first ordinal.
    start: u64,
    /// Distance of each slot from the first ordinal, ascending; empty while all are in place.
    offsets: Vec<u16>,
    /// The versions; `None` where one was freed.
    slots: Vec<Option<Version>>,
    /// Slots that are not `None`.
    live: usize,
    /// Logical bytes ever put in.
    bytes: u64,
    /// The sum of the hashes of what is in.
    hash: StateHash,
    /// No version in it stands before, and none of the chunk before stands at it or after.
    first_position: Position,
}

impl Chunk {
    fn push(&mut self, ordinal: u64, version: Version, hash: StateHash) {
        if self.live == 0 {
            // Fresh, or emptied while open: whatever was there stands before this version.
            let bytes = self.bytes;
            *self = Self { start: ordinal, bytes, ..Self::default() };
            self.first_position = version.position();
        }
        if !self.offsets.is_empty() || self.slots.len() as u64 != ordinal - self.start {
            self.ensure_offsets();
            self.offsets.push(offset(ordinal - self.start));
        }
        self.bytes += version.logical_bytes();
        self.hash += hash;
        self.live += 1;
        self.slots.push(Some(version));
    }

    fn remove(&mut self, ordinal: u64) -> Option<(Version, StateHash)> {
        let slot = self.slot(ordinal)?;
        let version = self.slots[slot].take()?;
        let hash = version.hash();
        self.hash -= hash;
        self.live -= 1;
        if self.live * 2 < self.slots.len() {
            self.pack();
        }
        Some((version, hash))
    }

    fn get(&self, ordinal: u64) -> Option<&Version> {
        self.slots[self.slot(ordinal)?].as_ref()
    }

    /// The versions at and above an ordinal.
    fn from(&self, ordinal: u64) -> impl Iterator<Item = (u64, &Version)> {
        let wanted = ordinal.saturating_sub(self.start);
        let first = if self.offsets.is_empty() {
            usize::try_from(wanted).unwrap_or(usize::MAX).min(self.slots.len())
        } else {
            self.offsets.partition_point(|present| u64::from(*present) < wanted)
        };
        (first..self.slots.len())
            .filter_map(|slot| Some((self.ordinal(slot), self.slots[slot].as_ref()?)))
    }

    /// The ordinal of the first version at or after a position, or one behind the last.
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
        match low.checked_sub(1) {
            Some(before) => self.ordinal(before) + 1,
            None => self.start,
        }
    }

    fn last(&self) -> Option<&Version> {
        self.slots.iter().rev().find_map(Option::as_ref)
    }

    fn ordinal(&self, slot: usize) -> u64 {
        self.start + self.offsets.get(slot).map_or(slot as u64, |offset| u64::from(*offset))
    }

    /// The slot of an ordinal.
    fn slot(&self, ordinal: u64) -> Option<usize> {
        let offset = u16::try_from(ordinal.checked_sub(self.start)?).ok()?;
        if self.offsets.is_empty() {
            return Some(usize::from(offset)).filter(|slot| *slot < self.slots.len());
        }
        self.offsets.binary_search(&offset).ok()
    }

    /// Closes the gaps and gives back what memory is left over.
    fn pack(&mut self) {
        if self.live < self.slots.len() {
            self.ensure_offsets();
            let mut slots = self.slots.iter();
            self.offsets.retain(|_| slots.next().is_some_and(Option::is_some));
            self.slots.retain(Option::is_some);
        }
        self.offsets.shrink_to_fit();
        self.slots.shrink_to_fit();
    }

    fn ensure_offsets(&mut self) {
        if self.offsets.is_empty() {
            self.offsets = (0..self.slots.len() as u64).map(offset).collect();
        }
    }
}

fn offset(distance: u64) -> u16 {
    u16::try_from(distance).expect("a chunk spans at most CHUNK_SPAN ordinals")
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
            previous: VersionRef::NONE,
            skip: VersionRef::NONE,
            chain_number: 0,
        }
    }

    /// A log of 2,000 versions, three a revision, without those that `freed` names.
    fn log(freed: impl Fn(u64) -> bool) -> VersionLog {
        let mut log = VersionLog::default();
        for number in 0..2_000 {
            assert_eq!(log.push(version(number)), number);
        }
        for number in (0..2_000).filter(|number| freed(*number)) {
            assert!(log.free(number).is_some());
        }
        log
    }

    #[test]
    fn versions_are_found_whatever_was_freed_around_them() {
        let patterns: [fn(u64) -> bool; 6] = [
            |_| false,
            |number| !number.is_multiple_of(7),
            |number| number < 1_100,
            |number| number > 400,
            |number| (300..1_800).contains(&number),
            |_| true,
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
    fn a_log_goes_on_after_everything_in_it_was_freed() {
        let mut log = log(|_| true);
        assert_eq!(log.push(version(2_000)), 2_000);
        assert_eq!(log.push(version(2_001)), 2_001);
        assert!(log.free(2_000).is_some() && log.free(2_000).is_none());
        assert_eq!(log.from(0).map(|(ordinal, _)| ordinal).collect::<Vec<_>>(), [2_001]);
        assert_eq!(log.from(log.first_at((1, 0))).count(), 1);
    }

    #[test]
    fn hash_and_chunks_add_up_after_every_kind_of_change() {
        let log = log(|number| number % 3 == 1 || number < 600);
        let mut sum = StateHash::default();
        log.from(0).for_each(|(_, version)| sum += version.hash());
        assert_eq!(log.hash(), sum);
        assert_eq!(log.hash_of_chunks(), sum);
        let mut next = 0;
        let mut count = 0;
        while let Some(chunk) = log.chunk_from(next) {
            let mut sum = StateHash::default();
            chunk.versions().for_each(|(_, version)| sum += version.hash());
            assert_eq!(chunk.hash(), sum);
            count += chunk.versions().count() as u64;
            next = chunk.versions().last().map_or(next, |(ordinal, _)| ordinal + 1);
        }
        assert_eq!(count, log.count());
    }

    #[test]
    fn a_pinned_walk_sees_what_is_freed_meanwhile_and_nothing_newer() {
        let mut log = log(|number| number % 5 == 0);
        let pin = log.pin();
        let before: Vec<u64> = log.from(0).map(|(ordinal, _)| ordinal).collect();
        log.push(version(2_000));
        for number in (0..2_000).filter(|number| number % 5 == 1 || number % 5 == 3) {
            log.free(number);
        }
        log.free(2_000);
        let walked: Vec<u64> = log.pinned_from(pin, 0).map(|(ordinal, _)| ordinal).collect();
        assert_eq!(walked, before);
        let later: Vec<u64> = log.pinned_from(pin, 801).map(|(ordinal, _)| ordinal).collect();
        assert_eq!(later, before.iter().copied().filter(|at| *at >= 801).collect::<Vec<_>>());
        log.unpin(pin);
        assert_eq!(log.get(1), None);
        assert!(log.retained.is_empty());
    }

    #[test]
    fn walks_beside_each_other_see_each_its_own_moment_and_hold_only_that() {
        let mut log = log(|_| false);
        let bytes = version(0).logical_bytes();
        let mut walks = Vec::new();
        let ordinals = |log: &VersionLog| -> Vec<u64> { log.from(0).map(|(at, _)| at).collect() };
        // Each walk begins in another state: more written, more freed.
        for round in 0..4 {
            walks.push((log.pin(), ordinals(&log)));
            for at in 0..50 {
                assert!(log.free(round * 300 + at * 3).is_some());
                log.push(version(2_000 + round * 50 + at));
            }
        }
        assert_eq!(log.retained_bytes(), 200 * bytes);
        // They end in yet another order.
        for ended in [1, 2, 0, 0] {
            for (pin, before) in &walks {
                let walked: Vec<u64> = log.pinned_from(*pin, 0).map(|(at, _)| at).collect();
                assert_eq!(&walked, before);
            }
            let (pin, _before) = walks.remove(ended);
            log.unpin(pin);
            let wanted = log
                .retained
                .iter()
                .filter(|(at, kept)| walks.iter().any(|(pin, _before)| pin.has(**at, kept)));
            assert_eq!(wanted.count(), log.retained.len(), "what nobody wants is freed");
            assert_eq!(log.retained_bytes(), log.retained.len() as u64 * bytes);
        }
        assert!(log.retained.is_empty() && log.pins.is_empty());
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
        assert!((0..8).all(|ordinal| log.get(ordinal).is_some()));
    }

    #[test]
    fn any_version_of_a_long_chain_is_found_in_few_steps() {
        let mut log = VersionLog::default();
        let mut newest = VersionRef::NONE;
        for number in 0..10_000 {
            let links = log.links_after(newest);
            newest = VersionRef::new(log.push(version(number).linked(links)), false);
        }
        for end in (0..10_000).step_by(7) {
            let found = log.newest_before(newest, end);
            assert_eq!(found.map(VersionRef::ordinal), end.checked_sub(1), "before {end}");
            let mut steps = 0;
            let mut reference = newest;
            while reference.ordinal() >= end {
                reference = log.get(reference.ordinal()).unwrap().older_towards(end);
                steps += 1;
                if reference == VersionRef::NONE {
                    break;
                }
            }
            assert!(steps < 110, "{steps} steps to {end}");
        }
    }
}
