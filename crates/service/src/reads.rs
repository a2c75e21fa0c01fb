//! Reads of this node's store that never hold it for long.
//!
//! Applying waits while the store is read, so a large range is read in slices, all at the
//! revision that the first one fixed, with other tasks in between. If that revision is compacted
//! meanwhile, a read of the present starts again; a read of the past is answered as compacted.

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
const SLICE_KEYS: u64 = 512;

/// How often a read of the present starts again after a compaction overtook it.
const RESTARTS_MAX: u32 = 3;

/// This node's store, as far as reads need it; a test may hold one without consensus.
pub(crate) trait Replica {
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
        let revision = replica.read(Store::revision);
        let pinned = if query.revision == 0 { revision } else { query.revision };
        let mut room = admission.answer();
        let answered = range_at(replica, &mut room, query, pinned).await;
        match answered {
            Err(DoorError::Query(QueryError::Compacted { .. }))
                if query.revision == 0 && restarts < RESTARTS_MAX =>
            {
                restarts += 1;
            }
            answered => return answered.map(|answer| (answer, revision)),
        }
    }
}

/// Answers `query` as of revision `pinned`, slice by slice.
pub(crate) async fn range_at(
    replica: &impl Replica,
    room: &mut AnswerRoom<'_>,
    query: &RangeQuery,
    pinned: u64,
) -> Result<RangeAnswer, DoorError> {
    if query.count_only || matches!(query.range.end, RangeEnd::Single) {
        let query = RangeQuery { revision: pinned, ..query.clone() };
        let answer = replica.read(|store| store.range(&query))?;
        room.grow(pairs_bytes(&answer.pairs))?;
        return Ok(answer);
    }
    let wanted = if cuts_before_sorting(query) { query.limit } else { 0 };
    let mut answer = gather(replica, room, query, pinned, wanted).await?;
    sort(&mut answer.pairs, query);
    if wanted == 0 && query.limit > 0 && answer.pairs.len() as u64 > query.limit {
        answer.pairs.truncate(usize::try_from(query.limit).unwrap_or(usize::MAX));
        answer.more = true;
    }
    Ok(answer)
}

/// Reads the pairs of `query` in key order, at most `wanted` of them (0 is all).
async fn gather(
    replica: &impl Replica,
    room: &mut AnswerRoom<'_>,
    query: &RangeQuery,
    pinned: u64,
    wanted: u64,
) -> Result<RangeAnswer, DoorError> {
    let mut slice = RangeQuery {
        revision: pinned,
        order: SortOrder::None,
        target: SortTarget::Key,
        ..query.clone()
    };
    let mut whole: Option<RangeAnswer> = None;
    loop {
        let got = whole.as_ref().map_or(0, |whole| whole.pairs.len() as u64);
        slice.limit = if wanted == 0 { SLICE_KEYS } else { SLICE_KEYS.min(wanted - got) };
        let answer = replica.read(|store| store.range(&slice))?;
        room.grow(pairs_bytes(&answer.pairs))?;
        let last_key = answer.pairs.last().map(|pair| pair.key.clone());
        let more = answer.more;
        let whole = match &mut whole {
            Some(whole) => {
                whole.pairs.extend(answer.pairs);
                whole.more = more;
                whole
            }
            // The first slice counts the whole range.
            None => whole.insert(answer),
        };
        let enough = wanted > 0 && whole.pairs.len() as u64 >= wanted;
        match last_key {
            Some(key) if more && !enough => slice.range.start = key_after(&key),
            _ => return Ok(std::mem::take(whole)),
        }
        tokio::task::yield_now().await;
    }
}

/// Whether the limit is applied before the answer is sorted, as etcd does it.
const fn cuts_before_sorting(query: &RangeQuery) -> bool {
    let filtered = query.min_mod_revision > 0
        || query.max_mod_revision > 0
        || query.min_create_revision > 0
        || query.max_create_revision > 0;
    match query.order {
        SortOrder::None => matches!(query.target, SortTarget::Key) || !filtered,
        SortOrder::Ascend => matches!(query.target, SortTarget::Key),
        SortOrder::Descend => false,
    }
}

fn sort(pairs: &mut [KeyValue], query: &RangeQuery) {
    if matches!((query.target, query.order), (SortTarget::Key, SortOrder::None | SortOrder::Ascend))
    {
        return;
    }
    pairs.sort_by(|left, right| {
        let order = match query.target {
            SortTarget::Key => left.key.cmp(&right.key),
            SortTarget::Version => left.version.cmp(&right.version),
            SortTarget::CreateRevision => left.create_revision.cmp(&right.create_revision),
            SortTarget::ModRevision => left.mod_revision.cmp(&right.mod_revision),
            SortTarget::Value => left.value.cmp(&right.value),
        };
        if query.order == SortOrder::Descend { order.reverse() } else { order }
    });
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
