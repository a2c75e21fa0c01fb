//! The KV service: reading, writing, transactions, compaction.
//!
//! The checks and their order are etcd's (`v3rpc/key.go`), so that a request which is wrong in two
//! ways gets the answer that its author knows.

use std::sync::Arc;

use bytes::Bytes;
use mainstay_etcd_protocol::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest,
    PutResponse, RangeRequest, RangeResponse, TxnRequest, TxnResponse, kv_server::Kv,
    range_request,
};
use mainstay_kv::{Delete, Put, RangeAnswer, RangeQuery, SortOrder, SortTarget};
use prost::Message;
use tonic::{Request, Response, Status};

use crate::{
    api::{REQUEST_BYTES_MAX, Shared, signed},
    caller::serializable,
    error,
    key_range::key_range,
    pair::{pair, pairs},
    range_stream::{self, Pieces},
    txn,
};

/// Reads and writes.
pub(crate) struct KvService(pub(crate) Arc<Shared>);

#[tonic::async_trait]
impl Kv for KvService {
    type RangeStreamStream = Pieces;

    async fn range(
        &self,
        request: Request<RangeRequest>,
    ) -> Result<Response<RangeResponse>, Status> {
        let Self(api) = self;
        let mut caller = api.caller(request.metadata())?;
        let request = request.into_inner();
        if request.serializable {
            caller = serializable(caller);
        }
        let query = range_query(request)?;
        let read = api.door.range(&caller, &query).await.map_err(error::of_door)?;
        let header = Some(api.header_at(read.revision));
        Ok(Response::new(RangeResponse { header, ..range_response(read.answer) }))
    }

    async fn range_stream(
        &self,
        request: Request<RangeRequest>,
    ) -> Result<Response<Pieces>, Status> {
        let Self(api) = self;
        let caller = api.caller(request.metadata())?;
        range_stream::pieces(Arc::clone(api), caller, request.into_inner()).map(Response::new)
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        let Self(api) = self;
        let caller = api.caller(request.metadata())?;
        let request = request.into_inner();
        check_size(&request)?;
        let written = api.door.put(caller, put(request)?).await.map_err(error::of_door)?;
        let header = Some(api.header_at(written.revision));
        let prev_kv = written.outcome.previous.map(pair);
        Ok(Response::new(PutResponse { header, prev_kv }))
    }

    async fn delete_range(
        &self,
        request: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        let Self(api) = self;
        let caller = api.caller(request.metadata())?;
        let delete = delete(request.into_inner())?;
        let written = api.door.delete(caller, delete).await.map_err(error::of_door)?;
        let header = Some(api.header_at(written.revision));
        let deleted = signed(written.outcome.deleted);
        let prev_kvs = pairs(written.outcome.previous);
        Ok(Response::new(DeleteRangeResponse { header, deleted, prev_kvs }))
    }

    async fn txn(&self, request: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        let Self(api) = self;
        let mut caller = api.caller(request.metadata())?;
        let request = request.into_inner();
        check_size(&request)?;
        if txn::is_serializable(&request) {
            caller = serializable(caller);
        }
        let operations_max = api.door.store(|store| store.settings().txn_operations_max);
        let txn = txn::read(request, operations_max)?;
        let answer = api.door.txn(caller, txn).await.map_err(error::of_door)?;
        let header = Some(api.header_at(answer.revision));
        Ok(Response::new(TxnResponse { header, ..txn::write(answer.outcome, answer.revision) }))
    }

    async fn compact(
        &self,
        request: Request<CompactionRequest>,
    ) -> Result<Response<CompactionResponse>, Status> {
        let Self(api) = self;
        let caller = api.caller(request.metadata())?;
        // No revision below the first can be compacted to.
        let revision = u64::try_from(request.into_inner().revision).unwrap_or_default();
        let written = api.door.compact(caller, revision).await.map_err(error::of_door)?;
        let header = Some(api.header_at(written.revision));
        Ok(Response::new(CompactionResponse { header }))
    }
}

/// Refuses a request over etcd's limit, which counts the whole of it.
fn check_size(request: &impl Message) -> Result<(), Status> {
    if request.encoded_len() > REQUEST_BYTES_MAX { Err(error::request_too_large()) } else { Ok(()) }
}

/// The store's form of a range request.
///
/// # Errors
/// The key is empty, or the order is none.
pub(crate) fn range_query(request: RangeRequest) -> Result<RangeQuery, Status> {
    use range_request::{SortOrder as Order, SortTarget as Target};

    if request.key.is_empty() {
        return Err(error::key_empty());
    }
    let order = Order::try_from(request.sort_order);
    let target = Target::try_from(request.sort_target);
    let (Ok(order), Ok(target)) = (order, target) else {
        return Err(error::invalid_sort_option());
    };
    let at_least = |number: i64| u64::try_from(number).unwrap_or_default();
    let mut query = RangeQuery {
        range: key_range(request.key, request.range_end),
        revision: at_least(request.revision),
        limit: at_least(request.limit),
        order: match order {
            Order::None => SortOrder::None,
            Order::Ascend => SortOrder::Ascend,
            Order::Descend => SortOrder::Descend,
        },
        target: match target {
            Target::Key => SortTarget::Key,
            Target::Version => SortTarget::Version,
            Target::Create => SortTarget::CreateRevision,
            Target::Mod => SortTarget::ModRevision,
            Target::Value => SortTarget::Value,
        },
        keys_only: request.keys_only,
        count_only: request.count_only,
        min_mod_revision: at_least(request.min_mod_revision),
        max_mod_revision: at_least(request.max_mod_revision),
        min_create_revision: at_least(request.min_create_revision),
        max_create_revision: at_least(request.max_create_revision),
    };
    if request.max_mod_revision < 0 || request.max_create_revision < 0 {
        // An upper bound below every revision lets nothing through.
        query.min_create_revision = u64::MAX;
    }
    Ok(query)
}

/// The store's form of a put.
///
/// # Errors
/// The key is empty, or something is both kept and given.
pub(crate) fn put(request: PutRequest) -> Result<Put, Status> {
    if request.key.is_empty() {
        return Err(error::key_empty());
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(error::value_provided());
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(error::lease_provided());
    }
    Ok(Put {
        // The message is a slice of what was read from the connection, which would be kept whole.
        key: Bytes::copy_from_slice(&request.key),
        value: (!request.ignore_value).then(|| Bytes::copy_from_slice(&request.value)),
        lease: (!request.ignore_lease).then_some(request.lease.cast_unsigned()),
        want_previous: request.prev_kv,
    })
}

/// The store's form of a delete.
///
/// # Errors
/// The key is empty.
pub(crate) fn delete(request: DeleteRangeRequest) -> Result<Delete, Status> {
    if request.key.is_empty() {
        return Err(error::key_empty());
    }
    let range = key_range(request.key, request.range_end);
    Ok(Delete { range, want_previous: request.prev_kv })
}

/// An answer without its header.
pub(crate) fn range_response(answer: RangeAnswer) -> RangeResponse {
    RangeResponse {
        header: None,
        kvs: pairs(answer.pairs),
        more: answer.more,
        count: signed(answer.count),
    }
}
