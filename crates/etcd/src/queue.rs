//! Waiting one's turn: the recipe under locks and elections, as etcd's own clients have it.
//!
//! Who wants something writes a key of its own under a common prefix, attached to its lease. The
//! key that was created first has it; everybody else waits for the key just before its own to go.
//! Clients that follow the recipe by themselves stand in the same queue.

use std::sync::Arc;

use bytes::Bytes;
use mainstay_etcd_protocol::etcdserverpb::ResponseHeader;
use mainstay_kv::{
    Compare, Delete, EventKind, KeyRange, KeyValue, Operand, Operation, OperationOutcome, Put,
    RangeQuery, Relation, SortOrder, SortTarget, Txn,
};
use mainstay_service::{WatchMessage, WatchRequest};
use tokio::sync::oneshot;
use tonic::Status;

use crate::{api::Shared, error};

/// Time to live of the lease that is granted to who brings none, as in etcd's sessions.
const LEASE_TTL_MS: u64 = 60_000;

/// A place in a queue.
pub(crate) struct Place {
    prefix: Bytes,
    /// The key that stands for it.
    pub(crate) key: Bytes,
    /// The revision that created the key.
    pub(crate) revision: u64,
    /// The lease that the key is attached to.
    pub(crate) lease: u64,
    /// The header of the answer that gave it.
    pub(crate) header: ResponseHeader,
    /// What stood there, if it was taken before.
    pub(crate) value_before: Option<Bytes>,
    /// Keeps the place when it is used; when it is dropped, the place is given up.
    keep: Option<oneshot::Sender<()>>,
}

/// Takes a place in the queue `name`, or finds the one that the lease has already.
pub(crate) async fn take_place(
    api: &Arc<Shared>,
    name: &[u8],
    lease: i64,
    value: Bytes,
) -> Result<Place, Status> {
    let lease = match lease.cast_unsigned() {
        0 => {
            let granted = api.door.lease_grant(api.caller_on_stream(), 0, LEASE_TTL_MS).await;
            granted.map_err(error::of_door)?.outcome.0
        }
        lease => lease,
    };
    let prefix = Bytes::from([name, b"/"].concat());
    let key = Bytes::from([&prefix[..], format!("{lease:x}").as_bytes()].concat());
    let put = Put {
        key: key.clone(),
        value: Some(Bytes::copy_from_slice(&value)),
        lease: Some(lease),
        want_previous: false,
    };
    let txn = Txn {
        compares: vec![created_at(&key, 0)],
        success: vec![Operation::Put(put)],
        failure: vec![Operation::Range(RangeQuery::new(KeyRange::key(key.clone())))],
    };
    let answer = api.door.txn(api.caller_on_stream(), txn).await.map_err(error::of_door)?;
    let header = api.header_at(answer.revision);
    let before = match answer.outcome.operations.into_iter().next() {
        Some(OperationOutcome::Range(answer)) => answer.pairs.into_iter().next(),
        _ => None,
    };
    let revision = before.as_ref().map_or(answer.revision, |pair| pair.create_revision);
    let value_before = before.map(|pair| pair.value);
    let mut place = Place { prefix, key, revision, lease, header, value_before, keep: None };
    place.keep = Some(place.give_up_unless_kept(Arc::clone(api)));
    Ok(place)
}

impl Place {
    /// Waits until nobody stands before; fails if the place was lost meanwhile.
    pub(crate) async fn wait_for_turn(&mut self, api: &Shared) -> Result<(), Status> {
        let before = RangeQuery {
            limit: 1,
            order: SortOrder::Descend,
            target: SortTarget::CreateRevision,
            max_create_revision: self.revision - 1,
            ..RangeQuery::new(KeyRange::prefix(self.prefix.clone()))
        };
        let mut waited = false;
        // The first write of a store makes revision 2, so the bound is one.
        loop {
            let read = api.door.range(&api.caller_on_stream(), &before).await;
            let read = read.map_err(error::of_door)?;
            let Some(last) = read.answer.pairs.into_iter().next() else { break };
            waited = true;
            deleted(api, last.key, read.revision + 1).await?;
        }
        if waited {
            let read = api.door.get(&api.caller_on_stream(), self.key.clone(), 0).await;
            let read = read.map_err(error::of_door)?;
            if read.answer.is_none_or(|pair| pair.create_revision != self.revision) {
                return Err(Status::unknown("mutex: session is expired"));
            }
            self.header = api.header_at(read.revision);
        }
        Ok(())
    }

    /// The place is the caller's from now on, until its key goes.
    pub(crate) fn keep(&mut self) {
        if let Some(keep) = self.keep.take() {
            let _kept = keep.send(());
        }
    }

    /// Gives the place up when its owner stops waiting for its turn.
    fn give_up_unless_kept(&self, api: Arc<Shared>) -> oneshot::Sender<()> {
        let (keep, kept) = oneshot::channel();
        let (key, revision) = (self.key.clone(), self.revision);
        mainstay_world::spawn(async move {
            if kept.await.is_err() {
                // If this does not succeed either, the place ends with its lease.
                let _given_up = give_up(&api, key, revision).await;
            }
        });
        keep
    }
}

/// Deletes a key if it is still the one that was created at `revision`; the header of the answer.
pub(crate) async fn give_up(
    api: &Shared,
    key: Bytes,
    revision: u64,
) -> Result<ResponseHeader, Status> {
    let compares = vec![created_at(&key, revision)];
    let delete = Delete { range: KeyRange::key(key), want_previous: false };
    let txn = Txn { compares, success: vec![Operation::Delete(delete)], failure: Vec::new() };
    let answer = api.door.txn(api.caller_on_stream(), txn).await.map_err(error::of_door)?;
    Ok(api.header_at(answer.revision))
}

/// Writes a key if it is still the one that was created at `revision`; the header of the answer,
/// or `None` if it is not.
pub(crate) async fn write(
    api: &Shared,
    key: Bytes,
    revision: u64,
    lease: u64,
    value: Bytes,
) -> Result<Option<ResponseHeader>, Status> {
    let compares = vec![created_at(&key, revision)];
    let value = Some(Bytes::copy_from_slice(&value));
    let put = Put { key, value, lease: Some(lease), want_previous: false };
    let txn = Txn { compares, success: vec![Operation::Put(put)], failure: Vec::new() };
    let answer = api.door.txn(api.caller_on_stream(), txn).await.map_err(error::of_door)?;
    Ok(answer.outcome.succeeded.then(|| api.header_at(answer.revision)))
}

/// Who is first in the queue `name`, and the store's revision then.
pub(crate) async fn first(api: &Shared, name: &[u8]) -> Result<(Option<KeyValue>, u64), Status> {
    let query = RangeQuery {
        limit: 1,
        order: SortOrder::Ascend,
        target: SortTarget::CreateRevision,
        ..RangeQuery::new(KeyRange::prefix(Bytes::from([name, b"/"].concat())))
    };
    let read = api.door.range(&api.caller_on_stream(), &query).await.map_err(error::of_door)?;
    Ok((read.answer.pairs.into_iter().next(), read.revision))
}

/// A watch of a range from a revision on.
pub(crate) fn watch_from(
    api: &Shared,
    range: KeyRange,
    from_revision: u64,
) -> Result<mainstay_service::Watch, Status> {
    let request = WatchRequest {
        range,
        from_revision,
        previous: false,
        no_put: false,
        no_delete: false,
        progress_interval: None,
        catch_up_when_slow: true,
    };
    api.door.watch(&api.caller_on_stream(), request).map_err(error::of_door)
}

/// What a watch that ended comes to for whoever needed it.
pub(crate) fn of_ended(message: Option<&WatchMessage>) -> Status {
    match message {
        Some(WatchMessage::Compacted { .. }) => error::compacted(),
        _ => error::server_stopped(),
    }
}

/// Returns when a key was deleted at `from_revision` or later.
async fn deleted(api: &Shared, key: Bytes, from_revision: u64) -> Result<(), Status> {
    let mut watch = watch_from(api, KeyRange::key(key), from_revision)?;
    loop {
        match watch.next().await {
            Some(WatchMessage::Changes(changes)) => {
                if changes.events().any(|event| event.kind == EventKind::Delete) {
                    return Ok(());
                }
            }
            Some(WatchMessage::Progress { .. }) => {}
            // Whoever asks again finds out how it stands now.
            Some(WatchMessage::Compacted { .. }) => return Ok(()),
            ended => return Err(of_ended(ended.as_ref())),
        }
    }
}

fn created_at(key: &Bytes, revision: u64) -> Compare {
    Compare {
        range: KeyRange::key(key.clone()),
        relation: Relation::Equal,
        operand: Operand::CreateRevision(revision.cast_signed()),
    }
}
