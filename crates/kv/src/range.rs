//! Answering a range query.
//!
//! First the versions that the answer is made of are chosen as references, then only those that
//! are returned are copied out; so a sorted query with a small limit over many keys copies few.
//! Counting looks at the index alone.
//!
//! The rules are etcd's (`server/etcdserver/txn/range.go`), its oddity included: without an
//! order but with a target other than the key, the limit is applied first, to one pair more than
//! asked for, then the pairs are sorted, and the one too many is cut off.

use std::ops::Bound;

use crate::{
    command::{KeyRange, RangeEnd},
    keyspace::{Keyspace, bounds},
    query::{KeyValue, PartialCount, QueryError, RangeAnswer, RangeQuery, SortOrder, SortTarget},
    version::{Version, VersionRef},
};

/// The versions that make an answer.
pub(crate) struct Selection<'a> {
    pub(crate) versions: Vec<&'a Version>,
    more: bool,
    count: u64,
}

/// What the count of an answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counting {
    /// How many keys there are in the range.
    All,
    /// How many pairs are returned.
    Returned,
}

impl Keyspace {
    /// Answers a query.
    ///
    /// # Errors
    /// [`QueryError`] if its revision cannot be read.
    pub(crate) fn range(&self, query: &RangeQuery) -> Result<RangeAnswer, QueryError> {
        Ok(answer(query, &self.select(query, Counting::All)?))
    }

    /// Answers a query but counts only what it returns.
    ///
    /// # Errors
    /// As [`Self::range`].
    pub(crate) fn page(&self, query: &RangeQuery) -> Result<RangeAnswer, QueryError> {
        Ok(answer(query, &self.select(query, Counting::Returned)?))
    }

    /// Chooses the versions that answer a query.
    ///
    /// # Errors
    /// As [`Self::range`].
    pub(crate) fn select(
        &self,
        query: &RangeQuery,
        counting: Counting,
    ) -> Result<Selection<'_>, QueryError> {
        let end = self.end_of(query.revision)?;
        let references = || self.references(&query.range, end);
        let versions = || references().filter_map(|ordinal| self.log.get(ordinal));
        let count_all = || match end {
            None => self.present_count(&query.range),
            Some(_) => references().count() as u64,
        };
        // What was taken is all there is, unless it is as much as could be taken.
        let count = |taken: usize, most: usize| {
            if taken < most || counting == Counting::Returned { taken as u64 } else { count_all() }
        };
        if query.count_only {
            return Ok(Selection { versions: Vec::new(), more: false, count: count_all() });
        }
        if query.range.end == RangeEnd::Single {
            let found = self.get_before(&query.range.start, end);
            let versions = found.into_iter().filter(|version| passes(query, version)).collect();
            return Ok(Selection { versions, more: false, count: u64::from(found.is_some()) });
        }
        let limit = match usize::try_from(query.limit) {
            Ok(0) | Err(_) => usize::MAX,
            Ok(limit) => limit,
        };
        let with_one_more = limit.saturating_add(1);
        let by_key = query.target == SortTarget::Key;
        let mut chosen: Vec<&Version>;
        let total;
        if query.has_filters() || !(by_key || query.order == SortOrder::None) {
            chosen = versions().collect();
            total = chosen.len() as u64;
            chosen.retain(|version| passes(query, version));
            if by_key && query.order == SortOrder::Descend {
                chosen.reverse();
            }
        } else if query.order == SortOrder::Descend {
            chosen = versions().rev().take(with_one_more).collect();
            total = count(chosen.len(), with_one_more);
        } else {
            chosen = versions().take(with_one_more).collect();
            total = count(chosen.len(), with_one_more);
        }
        if !by_key {
            sort(&mut chosen, query, limit);
        }
        let more = chosen.len() > limit;
        chosen.truncate(limit);
        let count = if counting == Counting::All { total } else { chosen.len() as u64 };
        Ok(Selection { versions: chosen, more, count })
    }

    /// Counts the keys of a range that exist at `revision`, 0 for the present, but looks at no
    /// more than `steps_max` of each, the keys inside and those around it.
    ///
    /// # Errors
    /// As [`Self::range`].
    pub(crate) fn count_part(
        &self,
        range: &KeyRange,
        revision: u64,
        steps_max: usize,
    ) -> Result<PartialCount, QueryError> {
        let end = self.end_of(revision)?;
        if end.is_none()
            && let Some(outside) = self.count_around(range, steps_max)
        {
            return Ok(PartialCount { count: self.live_count - outside, last_key: None });
        }
        let mut count = 0;
        let newest = bounds(range).map(|bounds| self.index.range::<[u8], _>(bounds));
        for (step, (key, newest)) in newest.into_iter().flatten().enumerate() {
            let then = match end {
                None => Some(*newest),
                Some(end) => self.log.newest_before(*newest, end),
            };
            count += u64::from(then.is_some_and(|then| then.live().is_some()));
            if step + 1 >= steps_max {
                return Ok(PartialCount { count, last_key: Some(key.to_bytes()) });
            }
        }
        Ok(PartialCount { count, last_key: None })
    }

    /// How many keys exist now that lie around a range; `None` if that takes more steps.
    fn count_around(&self, range: &KeyRange, steps_max: usize) -> Option<u64> {
        let mut count = 0;
        for (step, newest) in self.around(range)?.enumerate() {
            if step >= steps_max {
                return None;
            }
            count += u64::from(newest.live().is_some());
        }
        Some(count)
    }

    /// The newest versions of the keys around a range; `None` if no key can lie in it.
    fn around(&self, range: &KeyRange) -> Option<impl Iterator<Item = VersionRef>> {
        let (start, end) = bounds(range)?;
        let before = beyond(start).map(|end| (Bound::Unbounded, end));
        let after = beyond(end).map(|start| (start, Bound::Unbounded));
        let around = [before, after].into_iter().flatten();
        Some(
            around
                .flat_map(|bounds| self.index.range::<[u8], _>(bounds))
                .map(|(_, newest)| *newest),
        )
    }

    /// How many keys of a range exist now.
    ///
    /// The store knows how many exist at all, so this walks the range and what lies around it in
    /// step, until it comes to the end of either.
    fn present_count(&self, range: &KeyRange) -> u64 {
        let mut inside = self.references(range, None);
        let Some(around) = self.around(range) else { return 0 };
        let mut outside = around.filter_map(VersionRef::live);
        let mut count = 0;
        loop {
            if inside.next().is_none() {
                return count;
            }
            if outside.next().is_none() {
                return self.live_count - count;
            }
            count += 1;
        }
    }
}

fn answer(query: &RangeQuery, selection: &Selection<'_>) -> RangeAnswer {
    let pair = |version: &&Version| -> KeyValue {
        if query.keys_only { version.pair_without_value() } else { version.pair() }
    };
    RangeAnswer {
        pairs: selection.versions.iter().map(pair).collect(),
        more: selection.more,
        count: selection.count,
    }
}

/// The bound of what lies beyond a bound; `None` if nothing does.
const fn beyond(bound: Bound<&[u8]>) -> Option<Bound<&[u8]>> {
    match bound {
        Bound::Included(key) => Some(Bound::Excluded(key)),
        Bound::Excluded(key) => Some(Bound::Included(key)),
        Bound::Unbounded => None,
    }
}

/// Whether a version lies in the query's bounds on revisions.
const fn passes(query: &RangeQuery, version: &Version) -> bool {
    const fn within(revision: u64, min: u64, max: u64) -> bool {
        revision >= min && (max == 0 || revision <= max)
    }
    within(version.mod_revision, query.min_mod_revision, query.max_mod_revision)
        && within(version.create_revision, query.min_create_revision, query.max_create_revision)
}

/// Sorts by the query's target, at least so far that the first `limit` are in their places.
fn sort(versions: &mut [&Version], query: &RangeQuery, limit: usize) {
    // Distinct keys make this a total order, so unstable sorting leaves no choice to the sorter.
    let compare = |left: &&Version, right: &&Version| {
        let by_target = match query.target {
            SortTarget::Key => std::cmp::Ordering::Equal,
            SortTarget::Version => left.version.cmp(&right.version),
            SortTarget::CreateRevision => left.create_revision.cmp(&right.create_revision),
            SortTarget::ModRevision => left.mod_revision.cmp(&right.mod_revision),
            SortTarget::Value => left.value.as_slice().cmp(right.value.as_slice()),
        };
        let by_target =
            if query.order == SortOrder::Descend { by_target.reverse() } else { by_target };
        by_target.then_with(|| left.key.cmp(&right.key))
    };
    let mut head = versions;
    if limit < head.len() {
        head.select_nth_unstable_by(limit, compare);
        head = &mut head[..limit];
    }
    head.sort_unstable_by(compare);
}
