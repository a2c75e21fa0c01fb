//! Reads of this node's store that do not hold it for long.
//!
//! Applying waits while the store is read, so a large range is read in slices, all at the
//! revision that the first one fixed, with other tasks in between. If that revision is compacted
//! meanwhile, a read of the present starts again; a read of the past is answered as compacted.
//! Only ranges in the order of keys can be cut like that; sorted and filtered ones, which etcd's
//! lock recipes ask of a few keys, are read at once. What an answer leaves out is counted in the
//! same way, unless it continues a listing whose count is known.

use mainstay_consensus::Consensus;
use mainstay_kv::{KeyRange, KeyValue, QueryError, RangeAnswer, RangeEnd, RangeQuery, Store};
use mainstay_world::Instant;

use crate::{
    admission::{Admission, AnswerRoom},
    error::DoorError,
};

/// Keys read at a time.
const SLICE_KEYS: u64 = 4_096;

/// Keys looked at at a time when they are only counted.
const COUNT_STEPS: usize = 8_192;

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

/// How an answer may fall short of the whole range.
#[derive(Debug, Clone, Copy)]
pub struct PageBounds {
    /// Bytes after which the answer is cut, as by a limit, instead of being refused as too large.
    /// Only ranges that can be sliced can be cut.
    pub bytes_max: usize,
    /// Whether all keys of the range are counted, which costs more than a page; otherwise `count`
    /// is the number of pairs returned.
    pub counted: bool,
}

/// A read and its bounds.
pub(crate) struct RangeRead<'a> {
    pub(crate) query: &'a RangeQuery,
    pub(crate) admission: &'a Admission,
    /// When to give up.
    pub(crate) deadline: Instant,
    /// `None` if nothing but the query's own limit may cut the answer.
    pub(crate) page: Option<PageBounds>,
}

impl RangeRead<'_> {
    /// Answers the query, with the store's revision when it was read.
    pub(crate) async fn run(
        &self,
        replica: &impl Replica,
    ) -> Result<(RangeAnswer, u64), DoorError> {
        let mut restarts = 0;
        loop {
            let mut room = self.admission.answer();
            let answered = if self.query.range.end == RangeEnd::Single {
                at_once(replica, &mut room, self.query)
            } else if self.query.count_only {
                self.count_only(replica).await
            } else if self.query.is_plain() {
                self.in_slices(replica, &mut room).await
            } else {
                at_once(replica, &mut room, self.query)
            };
            match answered {
                Err(DoorError::Query(QueryError::Compacted { .. }))
                    if self.query.revision == 0 && restarts < RESTARTS_MAX =>
                {
                    restarts += 1;
                }
                answered => return answered,
            }
        }
    }

    async fn in_slices(
        &self,
        replica: &impl Replica,
        room: &mut AnswerRoom<'_>,
    ) -> Result<(RangeAnswer, u64), DoorError> {
        let limit = self.query.limit;
        let next_limit =
            |got: u64| if limit == 0 { SLICE_KEYS } else { SLICE_KEYS.min(limit - got) };
        let mut slice = RangeQuery { limit: next_limit(0), ..self.query.clone() };
        let mut whole: Option<(RangeAnswer, u64)> = None;
        loop {
            let (mut next, revision) = replica.read(|store| (store.page(&slice), store.revision()));
            let next = next.as_mut().map_err(|error| DoorError::Query(*error))?;
            let cut = self.cut(next, room.bytes());
            room.grow(pairs_bytes(&next.pairs))?;
            // The first slice fixes the revision.
            let (answer, revision) = whole.get_or_insert_with(|| {
                (RangeAnswer { pairs: Vec::new(), more: false, count: 0 }, revision)
            });
            if slice.revision == 0 {
                slice.revision = *revision;
            }
            answer.pairs.append(&mut next.pairs);
            answer.more = next.more || cut;
            let got = answer.pairs.len() as u64;
            let enough = cut || (limit > 0 && got >= limit);
            let last = answer.pairs.last().filter(|_last| answer.more && !enough);
            let Some(last) = last else {
                answer.count = got + self.count_left_out(replica, answer, slice.revision).await?;
                return Ok((std::mem::take(answer), *revision));
            };
            slice.range.start_after(&last.key);
            slice.limit = next_limit(got);
            self.let_others_run().await?;
        }
    }

    async fn count_only(&self, replica: &impl Replica) -> Result<(RangeAnswer, u64), DoorError> {
        let now = replica.read(Store::revision);
        let revision = if self.query.revision == 0 { now } else { self.query.revision };
        let count = self.count(replica, self.query.range.clone(), revision).await?;
        Ok((RangeAnswer { count, ..RangeAnswer::default() }, now))
    }

    /// How many keys of the range lie behind those of an answer, if that is to be known.
    async fn count_left_out(
        &self,
        replica: &impl Replica,
        answer: &RangeAnswer,
        revision: u64,
    ) -> Result<u64, DoorError> {
        let counted = self.page.is_none_or(|page| page.counted);
        let Some(last) = answer.pairs.last().filter(|_last| answer.more && counted) else {
            return Ok(0);
        };
        let mut left_out = self.query.range.clone();
        left_out.start_after(&last.key);
        self.count(replica, left_out, revision).await
    }

    async fn count(
        &self,
        replica: &impl Replica,
        mut range: KeyRange,
        revision: u64,
    ) -> Result<u64, DoorError> {
        let mut count = 0;
        loop {
            let part = replica.read(|store| store.count_part(&range, revision, COUNT_STEPS))?;
            count += part.count;
            let Some(last_key) = part.last_key else { return Ok(count) };
            range.start_after(&last_key);
            self.let_others_run().await?;
        }
    }

    /// Between two slices.
    async fn let_others_run(&self) -> Result<(), DoorError> {
        tokio::task::yield_now().await;
        if Instant::now() >= self.deadline { Err(DoorError::ReadTimeout) } else { Ok(()) }
    }

    /// Cuts `slice` where the answer, of `before` bytes so far, has enough bytes; whether it did.
    /// One pair always stays.
    fn cut(&self, slice: &mut RangeAnswer, before: usize) -> bool {
        let Some(cut_bytes) = self.page.map(|page| page.bytes_max) else { return false };
        let mut bytes = before;
        let stays = slice.pairs.iter().position(|pair| {
            let enough = bytes > 0 && bytes >= cut_bytes;
            bytes += pair_bytes(pair);
            enough
        });
        // What is cut off is more than there is in the slice, so `None` means that all stays.
        stays.inspect(|stays| slice.pairs.truncate(*stays)).is_some()
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

fn pairs_bytes(pairs: &[KeyValue]) -> usize {
    pairs.iter().map(pair_bytes).sum()
}

const fn pair_bytes(pair: &KeyValue) -> usize {
    size_of::<KeyValue>() + pair.key.len() + pair.value.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use mainstay_kv::{SortOrder, SortTarget};

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
        bounded(store, query, Limits::default(), None).await
    }

    async fn bounded(
        store: &TestStore,
        query: &RangeQuery,
        limits: Limits,
        page: Option<PageBounds>,
    ) -> Result<RangeAnswer, DoorError> {
        let admission = Admission::new(limits);
        let deadline = Instant::now() + std::time::Duration::from_secs(60);
        let read = RangeRead { query, admission: &admission, deadline, page };
        read.run(store).await.map(|(answer, _revision)| answer)
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
    async fn a_count_is_of_one_moment() {
        let store = filled(COUNT_STEPS * 3);
        let revision = store.read(Store::revision);
        let limited = RangeQuery { limit: 10, ..RangeQuery::new(KeyRange::all()) };
        let count_only = RangeQuery { count_only: true, ..limited.clone() };
        for query in [limited, count_only] {
            // The whole store is known at once; a range in its middle is walked.
            let middle = KeyRange { start: Bytes::from("k012000"), end: RangeEnd::Unbounded };
            let query = RangeQuery { range: middle, ..query };
            let before = naive(&store, &query);
            let (answer, ()) = tokio::join!(sliced(&store, &query), async {
                store.delete("k020000");
            });
            assert_eq!(answer, Ok(before));
            let query = RangeQuery { revision, ..query };
            assert_eq!(sliced(&store, &query).await, Ok(naive(&store, &query)));
        }
    }

    #[tokio::test]
    async fn an_answer_that_grows_too_large_is_refused() {
        let store = filled(100);
        let limits = Limits { answer_bytes_max: 5_000, ..Limits::default() };
        let query = RangeQuery::new(KeyRange::all());
        let refused = bounded(&store, &query, limits.clone(), None).await;
        assert_eq!(refused, Err(DoorError::AnswerTooLarge { limit: 5_000 }));
        let few = RangeQuery { limit: 10, ..query };
        bounded(&store, &few, limits, None).await.expect("fewer keys fit");
    }

    #[tokio::test]
    async fn a_page_is_cut_by_bytes_as_by_a_limit() {
        let keys = usize::try_from(SLICE_KEYS).expect("fits") + 100;
        let store = filled(keys);
        let query = RangeQuery::new(KeyRange::all());
        let all = naive(&store, &query);
        let mut cuts: Vec<usize> = vec![0, 1, 1_000, pairs_bytes(&all.pairs) - 1];
        cuts.push(pairs_bytes(&all.pairs[..keys - 50]));
        for cut_bytes in cuts {
            let bounds = PageBounds { bytes_max: cut_bytes, counted: true };
            let page = bounded(&store, &query, Limits::default(), Some(bounds)).await;
            let page = page.expect("is answered");
            let bounds = PageBounds { counted: false, ..bounds };
            let uncounted = bounded(&store, &query, Limits::default(), Some(bounds)).await;
            let count = page.pairs.len() as u64;
            assert_eq!(uncounted, Ok(RangeAnswer { count, ..page.clone() }));
            let stays = page.pairs.len();
            assert_eq!(page.pairs, all.pairs[..stays]);
            assert_eq!((page.more, page.count), (stays < keys, all.count), "{cut_bytes}");
            assert!(stays == 1 || pairs_bytes(&page.pairs[..stays - 1]) < cut_bytes);
            assert!(pairs_bytes(&page.pairs) >= cut_bytes, "{cut_bytes}: {stays} pairs");
        }
        let bounds = PageBounds { bytes_max: 1 << 30, counted: true };
        let whole = bounded(&store, &query, Limits::default(), Some(bounds)).await;
        assert_eq!(whole, Ok(all));
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_that_takes_too_long_is_given_up() {
        let store = filled(usize::try_from(SLICE_KEYS).expect("fits") + 1);
        let query = RangeQuery::new(KeyRange::all());
        let admission = Admission::new(Limits::default());
        let deadline = Instant::now();
        let read = RangeRead { query: &query, admission: &admission, deadline, page: None };
        assert_eq!(read.run(&store).await, Err(DoorError::ReadTimeout));
    }
}
