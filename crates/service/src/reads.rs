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

pub(crate) fn pairs_bytes(pairs: &[KeyValue]) -> usize {
    pairs.iter().map(|pair| size_of::<KeyValue>() + pair.key.len() + pair.value.len()).sum()
}
