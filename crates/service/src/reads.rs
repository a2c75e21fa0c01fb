//! Reads of this node's store that do not hold it for long.
//!
//! Applying waits while the store is read, so a large range is read in slices, all at the
//! revision that the first one fixed, with other tasks in between. If that revision is compacted
//! meanwhile, a read of the present starts again; a read of the past is answered as compacted.
//! Only ranges in the order of keys can be cut like that; sorted and filtered ones, which etcd's
//! lock recipes ask of a few keys, are read at once.

use bytes::{BufMut, Bytes, BytesMut};
use mainstay_consensus::Consensus;
use mainstay_kv::{
    KeyValue, QueryError, RangeAnswer, RangeEnd, RangeQuery, SortOrder, SortTarget, Store,
};

use crate::{
    admission::{Admission, AnswerRoom},
    error::DoorError,
};

/// Keys read at a time.
const SLICE_KEYS: u64 = 4_096;

/// How often a read of the present starts again after a compaction overtook it.
const RESTARTS_MAX: u32 = 3;

/// This node's store, as far as reads need it; a test holds one without consensus.
pub(crate) trait Replica: Sync {
    /// Runs `read` on the store.
    fn read<T>(&self, read: impl FnOnce(&Store) -> T) -> T;
}

impl Replica for Consensus {
    fn read<T>(&self, read: impl FnOnce(&Store) -> T) -> T {
        Self::read(self, read)
    }
}

/// Answers `query`, with the store's revision when it was read.
pub(crate) async fn range(
    replica: &impl Replica,
    admission: &Admission,
    query: &RangeQuery,
) -> Result<(RangeAnswer, u64), DoorError> {
    let mut restarts = 0;
    loop {
        let mut room = admission.answer();
        let answered = if can_be_sliced(query) {
            in_slices(replica, &mut room, query).await
        } else {
            at_once(replica, &mut room, query)
        };
        match answered {
            Err(DoorError::Query(QueryError::Compacted { .. }))
                if query.revision == 0 && restarts < RESTARTS_MAX =>
            {
                restarts += 1;
            }
            answered => return answered,
        }
    }
}

fn at_once(
    replica: &impl Replica,
    room: &mut AnswerRoom<'_>,
    query: &RangeQuery,
) -> Result<(RangeAnswer, u64), DoorError> {
    let (answer, revision) = replica.read(|store| (store.range(query), store.revision()));
    let answer = answer?;
    room.grow(pairs_bytes(&answer.pairs))?;
    Ok((answer, revision))
}

async fn in_slices(
    replica: &impl Replica,
    room: &mut AnswerRoom<'_>,
    query: &RangeQuery,
) -> Result<(RangeAnswer, u64), DoorError> {
    let limit_of = |left: u64| if query.limit == 0 { SLICE_KEYS } else { SLICE_KEYS.min(left) };
    let mut slice = RangeQuery { limit: limit_of(query.limit), ..query.clone() };
    let (mut whole, revision) = at_once(replica, room, &slice)?;
    if slice.revision == 0 {
        slice.revision = revision;
    }
    loop {
        let got = whole.pairs.len() as u64;
        let enough = query.limit > 0 && got >= query.limit;
        let Some(last) = whole.pairs.last().filter(|_last| whole.more && !enough) else {
            return Ok((whole, revision));
        };
        tokio::task::yield_now().await;
        slice.range.start = key_after(&last.key);
        slice.limit = limit_of(query.limit.saturating_sub(got));
        let (next, _revision) = at_once(replica, room, &slice)?;
        // The first slice counted the whole range.
        whole.pairs.extend(next.pairs);
        whole.more = next.more;
    }
}

/// Whether the range is wide, in the order of its keys, and nothing of it is left out.
fn can_be_sliced(query: &RangeQuery) -> bool {
    let filters = [
        query.min_mod_revision,
        query.max_mod_revision,
        query.min_create_revision,
        query.max_create_revision,
    ];
    query.range.end != RangeEnd::Single
        && !query.count_only
        && query.target == SortTarget::Key
        && query.order != SortOrder::Descend
        && filters == [0; 4]
}

/// The smallest key after `key`.
fn key_after(key: &[u8]) -> Bytes {
    let mut next = BytesMut::with_capacity(key.len() + 1);
    next.put_slice(key);
    next.put_u8(0);
    next.freeze()
}

fn pairs_bytes(pairs: &[KeyValue]) -> usize {
    pairs.iter().map(|pair| size_of::<KeyValue>() + pair.key.len() + pair.value.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_kv::KeyRange;

    use crate::{admission::Limits, store_for_tests::TestStore};

    fn filled(keys: usize) -> TestStore {
        let store = TestStore::new();
        for number in 0..keys {
            store.put(&format!("k{number:06}"), &number.to_string());
        }
        store
    }

    /// The answer as the store gives it at once.
    fn naive(store: &TestStore, query: &RangeQuery) -> RangeAnswer {
        store.read(|store| store.range(query)).expect("can be read")
    }

    async fn sliced(store: &TestStore, query: &RangeQuery) -> Result<RangeAnswer, DoorError> {
        let admission = Admission::new(Limits::default());
        range(store, &admission, query).await.map(|(answer, _revision)| answer)
    }

    #[tokio::test]
    async fn a_range_in_slices_is_the_range_at_once() {
        let keys = usize::try_from(SLICE_KEYS).expect("fits") * 2 + 10;
        let store = filled(keys);
        let all = RangeQuery::new(KeyRange::all());
        let limits = [0, 1, SLICE_KEYS - 1, SLICE_KEYS, SLICE_KEYS + 1, SLICE_KEYS * 2, 1 << 40];
        for limit in limits {
            for query in [
                RangeQuery { limit, ..all.clone() },
                RangeQuery { limit, keys_only: true, order: SortOrder::Ascend, ..all.clone() },
                RangeQuery { limit, order: SortOrder::Descend, ..all.clone() },
                RangeQuery { limit, target: SortTarget::Value, ..all.clone() },
                RangeQuery { limit, min_mod_revision: 100, ..all.clone() },
                RangeQuery { limit, revision: 5_000, ..all.clone() },
                RangeQuery { limit, count_only: true, ..all.clone() },
            ] {
                assert_eq!(sliced(&store, &query).await, Ok(naive(&store, &query)), "{query:?}");
            }
        }
    }

    #[tokio::test]
    async fn all_slices_are_of_one_moment() {
        let store = filled(usize::try_from(SLICE_KEYS).expect("fits") + 10);
        let query = RangeQuery::new(KeyRange::all());
        let before = naive(&store, &query);
        let (answer, ()) = tokio::join!(sliced(&store, &query), async {
            store.delete("k000001");
            store.put("k999999", "late");
        });
        assert_eq!(answer, Ok(before));
    }

    #[tokio::test]
    async fn a_compaction_in_between_starts_a_read_of_the_present_again() {
        let store = filled(usize::try_from(SLICE_KEYS).expect("fits") + 10);
        let revision = store.read(Store::revision);
        let compact = async {
            store.put("k999999", "late");
            store.compact(revision + 1);
        };
        let query = RangeQuery::new(KeyRange::all());
        let (answer, ()) = tokio::join!(sliced(&store, &query), compact);
        assert_eq!(answer, Ok(naive(&store, &query)));
        let past = RangeQuery { revision, ..query };
        let answer = sliced(&store, &past).await;
        assert!(matches!(answer, Err(DoorError::Query(QueryError::Compacted { .. }))));
    }

    #[tokio::test]
    async fn an_answer_that_grows_too_large_is_refused() {
        let store = filled(100);
        let limits = Limits { answer_bytes_max: 5_000, ..Limits::default() };
        let admission = Admission::new(limits);
        let query = RangeQuery::new(KeyRange::all());
        let refused = range(&store, &admission, &query).await;
        assert_eq!(refused, Err(DoorError::AnswerTooLarge { limit: 5_000 }));
        let few = RangeQuery { limit: 10, ..query };
        range(&store, &admission, &few).await.expect("fewer keys fit");
    }
}
