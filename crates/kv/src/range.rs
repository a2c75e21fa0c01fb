//! Answering a range query.
//!
//! First the versions that the answer is made of are chosen as references, then only those that
//! are returned are copied out; so a sorted query with a small limit over many keys copies few.
//! Counting looks at the index alone.
//!
//! The rules are etcd's (`server/etcdserver/txn/range.go`), its oddity included: without an
//! order but with a target other than the key, the limit is applied first, to one pair more than
//! asked for, then the pairs are sorted, and the one too many is cut off.

use crate::{
    command::{KeyRange, RangeEnd},
    keyspace::Keyspace,
    query::{KeyValue, QueryError, RangeAnswer, RangeQuery, SortOrder, SortTarget},
    version::Version,
};

/// The versions that make an answer.
pub(crate) struct Selection<'a> {
    pub(crate) versions: Vec<&'a Version>,
    more: bool,
    count: u64,
}

impl Keyspace {
    /// Answers a query.
    ///
    /// # Errors
    /// [`QueryError`] if its revision cannot be read.
    pub(crate) fn range(&self, query: &RangeQuery) -> Result<RangeAnswer, QueryError> {
        let selection = self.select(query)?;
        let pair = |version: &&Version| -> KeyValue {
            if query.keys_only { version.pair_without_value() } else { version.pair() }
        };
        Ok(RangeAnswer {
            pairs: selection.versions.iter().map(pair).collect(),
            more: selection.more,
            count: selection.count,
        })
    }

    /// Chooses the versions that answer a query.
    ///
    /// # Errors
    /// As [`Self::range`].
    pub(crate) fn select(&self, query: &RangeQuery) -> Result<Selection<'_>, QueryError> {
        let end = self.end_of(query.revision)?;
        let references = || self.references(&query.range, end);
        let versions = || references().filter_map(|ordinal| self.log.get(ordinal));
        let whole = query.range == KeyRange::all() && end.is_none();
        let count = |taken: usize, exhausted: bool| {
            if exhausted {
                taken as u64
            } else if whole {
                self.live_count
            } else {
                references().count() as u64
            }
        };
        if query.count_only {
            return Ok(Selection { versions: Vec::new(), more: false, count: count(0, false) });
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
        if has_filters(query) || !(by_key || query.order == SortOrder::None) {
            chosen = versions().collect();
            total = chosen.len() as u64;
            chosen.retain(|version| passes(query, version));
            if by_key && query.order == SortOrder::Descend {
                chosen.reverse();
            }
        } else if query.order == SortOrder::Descend {
            chosen = versions().rev().take(with_one_more).collect();
            total = count(chosen.len(), chosen.len() < with_one_more);
        } else {
            chosen = versions().take(with_one_more).collect();
            total = count(chosen.len(), chosen.len() < with_one_more);
        }
        if !by_key {
            sort(&mut chosen, query, limit);
        }
        let more = chosen.len() > limit;
        chosen.truncate(limit);
        Ok(Selection { versions: chosen, more, count: total })
    }
}

const fn has_filters(query: &RangeQuery) -> bool {
    query.min_mod_revision != 0
        || query.max_mod_revision != 0
        || query.min_create_revision != 0
        || query.max_create_revision != 0
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
