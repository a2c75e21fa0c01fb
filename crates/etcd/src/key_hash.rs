//! A hash over all versions of keys up to a revision, by which members are compared.
//!
//! Members with the same compaction revision have the same hash of the same revision: it covers
//! what was there at the compaction revision and every change since, and nothing that depends on
//! when a member frees what is compacted. It is not etcd's own number, whose bytes are those of
//! etcd's file.

use mainstay_kv::{EventKind, KeyRange, KeyValue, RangeQuery, SortOrder};
use mainstay_service::Door;
use mainstay_world::Instant;
use tonic::Status;

use crate::error;

/// Keys, and bytes of changes, that are read at a time.
const SLICE_KEYS: u64 = 1_024;
const SLICE_BYTES: usize = 256 * 1024;

/// A hash and what it covers.
pub(crate) struct KeyHash {
    pub(crate) hash: u32,
    pub(crate) revision: u64,
    pub(crate) compact_revision: u64,
}

/// The hash of this node's store up to `revision`, 0 for the present.
///
/// # Errors
/// The revision is compacted or lies in the future, or it takes too long.
pub(crate) async fn key_hash(
    door: &Door,
    revision: u64,
    deadline: Instant,
) -> Result<KeyHash, Status> {
    let (present, compact_revision) =
        door.store(|store| (store.revision(), store.compact_revision()));
    let revision = if revision == 0 { present } else { revision };
    if revision > present {
        return Err(error::future_revision());
    }
    if revision < compact_revision {
        return Err(error::compacted());
    }
    let mut hash = 0;
    if compact_revision > 0 {
        let mut query = RangeQuery {
            revision: compact_revision,
            limit: SLICE_KEYS,
            order: SortOrder::Ascend,
            ..RangeQuery::new(KeyRange::all())
        };
        loop {
            let slice = door.store(|store| store.page(&query)).map_err(error::of_query)?;
            slice.pairs.iter().for_each(|pair| add(&mut hash, EventKind::Put, pair));
            let Some(last) = slice.pairs.last().filter(|_| slice.more) else { break };
            query.range.start_after(&last.key);
            breathe(deadline).await?;
        }
    }
    let mut next_revision = compact_revision + 1;
    while next_revision <= revision {
        let changes = door.store(|store| store.changes(next_revision, SLICE_BYTES));
        let changes = changes.map_err(error::of_query)?;
        for change in changes.revisions.iter().filter(|change| change.revision <= revision) {
            change.events.iter().for_each(|event| add(&mut hash, event.kind, &event.pair));
        }
        next_revision = changes.next_revision;
        breathe(deadline).await?;
    }
    Ok(KeyHash { hash, revision, compact_revision })
}

/// Lets others at the store.
async fn breathe(deadline: Instant) -> Result<(), Status> {
    tokio::task::yield_now().await;
    if Instant::now() >= deadline { Err(error::timed_out()) } else { Ok(()) }
}

fn add(hash: &mut u32, kind: EventKind, pair: &KeyValue) {
    let numbers = [
        pair.key.len() as u64,
        pair.value.len() as u64,
        pair.create_revision,
        pair.mod_revision,
        pair.version,
        pair.lease,
        u64::from(kind == EventKind::Delete),
    ];
    for number in numbers {
        *hash = crc32c::crc32c_append(*hash, &number.to_le_bytes());
    }
    *hash = crc32c::crc32c_append(*hash, &pair.key);
    *hash = crc32c::crc32c_append(*hash, &pair.value);
}
