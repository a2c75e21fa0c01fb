//! Transactions, from etcd's form and back.
//!
//! The header of a nested answer carries the revision alone, as in etcd: of a write the one that
//! the transaction makes, of a read the one that it sees.

use mainstay_etcd_protocol::etcdserverpb::{
    self as proto, DeleteRangeResponse, PutResponse, RangeResponse, RequestOp, ResponseHeader,
    ResponseOp, TxnRequest, TxnResponse, compare, compare::TargetUnion, request_op::Request,
    response_op::Response,
};
use mainstay_kv::{Compare, Operand, Operation, OperationOutcome, Relation, Txn, TxnOutcome};
use tonic::Status;

use crate::{
    api::signed,
    error,
    key_range::key_range,
    kv::{delete, put, range_query, range_response},
    pair::{pair, pairs},
};

/// The store's form of a transaction of at most `operations_max` operations.
///
/// # Errors
/// What etcd says of a transaction before it looks at the store.
pub(crate) fn read(request: TxnRequest, operations_max: u64) -> Result<Txn, Status> {
    let lists = [request.compare.len(), request.success.len(), request.failure.len()];
    let longest = lists.into_iter().max().unwrap_or_default() as u64;
    // A nested transaction gets what its parent leaves over.
    let left = operations_max.checked_sub(longest).ok_or_else(error::too_many_operations)?;
    let operations = |operations: Vec<RequestOp>| -> Result<Vec<Operation>, Status> {
        operations.into_iter().map(|operation| read_operation(operation, left)).collect()
    };
    Ok(Txn {
        compares: request.compare.into_iter().map(read_compare).collect::<Result<_, _>>()?,
        success: operations(request.success)?,
        failure: operations(request.failure)?,
    })
}

fn read_operation(operation: RequestOp, operations_max: u64) -> Result<Operation, Status> {
    match operation.request {
        Some(Request::RequestRange(request)) => Ok(Operation::Range(range_query(request)?)),
        Some(Request::RequestPut(request)) => Ok(Operation::Put(put(request)?)),
        Some(Request::RequestDeleteRange(request)) => Ok(Operation::Delete(delete(request)?)),
        Some(Request::RequestTxn(request)) => Ok(Operation::Txn(read(request, operations_max)?)),
        None => Err(error::key_not_found()),
    }
}

fn read_compare(request: proto::Compare) -> Result<Compare, Status> {
    if request.key.is_empty() {
        return Err(error::key_empty());
    }
    let relation = match compare::CompareResult::try_from(request.result) {
        Ok(compare::CompareResult::Equal) => Relation::Equal,
        Ok(compare::CompareResult::Greater) => Relation::Greater,
        Ok(compare::CompareResult::Less) => Relation::Less,
        Ok(compare::CompareResult::NotEqual) => Relation::NotEqual,
        Err(_unknown) => return Err(unknown_compare("result", request.result)),
    };
    let Ok(target) = compare::CompareTarget::try_from(request.target) else {
        return Err(unknown_compare("target", request.target));
    };
    // An operand that is missing, or of another kind than the target, is zero or empty.
    let union = request.target_union;
    let operand = match target {
        compare::CompareTarget::Version => Operand::Version(match union {
            Some(TargetUnion::Version(version)) => version,
            _ => 0,
        }),
        compare::CompareTarget::Create => Operand::CreateRevision(match union {
            Some(TargetUnion::CreateRevision(revision)) => revision,
            _ => 0,
        }),
        compare::CompareTarget::Mod => Operand::ModRevision(match union {
            Some(TargetUnion::ModRevision(revision)) => revision,
            _ => 0,
        }),
        compare::CompareTarget::Value => Operand::Value(match union {
            Some(TargetUnion::Value(value)) => value,
            _ => bytes::Bytes::new(),
        }),
        compare::CompareTarget::Lease => Operand::Lease(match union {
            Some(TargetUnion::Lease(lease)) => lease,
            _ => 0,
        }),
    };
    Ok(Compare { range: key_range(request.key, request.range_end), relation, operand })
}

fn unknown_compare(what: &str, number: i32) -> Status {
    Status::invalid_argument(format!("etcdserver: there is no {what} {number} of a compare"))
}

/// Whether it only reads, and every read is content with what this node has.
pub(crate) fn is_serializable(request: &TxnRequest) -> bool {
    request.success.iter().chain(&request.failure).all(|operation| match &operation.request {
        Some(Request::RequestRange(range)) => range.serializable,
        _ => false,
    })
}

/// The answer to a transaction after which the store was at `revision`, without its header.
pub(crate) fn write(outcome: TxnOutcome, revision: u64) -> TxnResponse {
    let mut revisions = Revisions { after: revision, written: false, writes: writes(&outcome) };
    revisions.response(outcome)
}

/// Whether it changed anything.
fn writes(outcome: &TxnOutcome) -> bool {
    outcome.operations.iter().any(|operation| match operation {
        OperationOutcome::Range(_) => false,
        OperationOutcome::Put(_) => true,
        OperationOutcome::Deleted(outcome) => outcome.deleted > 0,
        OperationOutcome::Txn(nested) => writes(nested),
    })
}

/// The revisions that the operations of one transaction see.
struct Revisions {
    /// The store's revision after it.
    after: u64,
    /// Whether it changes anything.
    writes: bool,
    /// Whether an operation so far has.
    written: bool,
}

impl Revisions {
    fn header(&self) -> Option<ResponseHeader> {
        let before = self.writes && !self.written;
        let revision = signed(self.after - u64::from(before));
        Some(ResponseHeader { revision, ..ResponseHeader::default() })
    }

    fn response(&mut self, outcome: TxnOutcome) -> TxnResponse {
        let succeeded = outcome.succeeded;
        let responses =
            outcome.operations.into_iter().map(|operation| self.operation(operation)).collect();
        TxnResponse { header: Some(ResponseHeader::default()), succeeded, responses }
    }

    fn operation(&mut self, outcome: OperationOutcome) -> ResponseOp {
        let response = match outcome {
            OperationOutcome::Range(answer) => {
                let header = self.header();
                Response::ResponseRange(RangeResponse { header, ..range_response(answer) })
            }
            OperationOutcome::Put(outcome) => {
                self.written = true;
                let header = self.header();
                let prev_kv = outcome.previous.map(pair);
                Response::ResponsePut(PutResponse { header, prev_kv })
            }
            OperationOutcome::Deleted(outcome) => {
                self.written |= outcome.deleted > 0;
                Response::ResponseDeleteRange(DeleteRangeResponse {
                    header: self.header(),
                    deleted: signed(outcome.deleted),
                    prev_kvs: pairs(outcome.previous),
                })
            }
            OperationOutcome::Txn(nested) => Response::ResponseTxn(self.response(nested)),
        };
        ResponseOp { response: Some(response) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_kv::{DeleteOutcome, PutOutcome, RangeAnswer};

    fn put_outcome() -> OperationOutcome {
        OperationOutcome::Put(PutOutcome { created: true, previous: None })
    }

    fn deleted(deleted: u64) -> OperationOutcome {
        OperationOutcome::Deleted(DeleteOutcome { deleted, previous: Vec::new() })
    }

    fn revisions(response: &TxnResponse) -> Vec<i64> {
        let mut all = Vec::new();
        for operation in &response.responses {
            let header = match operation.response.as_ref().expect("has a kind") {
                Response::ResponseRange(range) => &range.header,
                Response::ResponsePut(put) => &put.header,
                Response::ResponseDeleteRange(delete) => &delete.header,
                Response::ResponseTxn(nested) => {
                    all.extend(revisions(nested));
                    &nested.header
                }
            };
            let header = header.as_ref().expect("has a header");
            assert_eq!((header.cluster_id, header.member_id, header.raft_term), (0, 0, 0));
            all.push(header.revision);
        }
        all
    }

    #[test]
    fn a_read_before_the_first_write_of_a_transaction_carries_the_revision_before_it() {
        let range = || OperationOutcome::Range(RangeAnswer::default());
        let nested = TxnOutcome { succeeded: true, operations: vec![range()] };
        let operations = vec![
            range(),
            deleted(0),
            put_outcome(),
            range(),
            deleted(0),
            OperationOutcome::Txn(nested),
        ];
        let response = write(TxnOutcome { succeeded: true, operations }, 10);
        assert_eq!(revisions(&response), [9, 9, 10, 10, 10, 10, 0]);
        let reads = TxnOutcome { succeeded: false, operations: vec![range(), deleted(0)] };
        assert_eq!(revisions(&write(reads, 10)), [10, 10]);
    }

    #[test]
    fn a_nested_transaction_gets_the_operations_that_its_parent_leaves() {
        let put = |key: &'static [u8]| RequestOp {
            request: Some(Request::RequestPut(proto::PutRequest {
                key: bytes::Bytes::from_static(key),
                ..proto::PutRequest::default()
            })),
        };
        let nested = TxnRequest { success: vec![put(b"a"), put(b"b")], ..TxnRequest::default() };
        let nest = || RequestOp { request: Some(Request::RequestTxn(nested.clone())) };
        let request = TxnRequest { success: vec![nest()], ..TxnRequest::default() };
        assert!(read(request.clone(), 3).is_ok());
        let refused = read(request, 2).expect_err("has one operation too many");
        assert_eq!(refused.message(), error::too_many_operations().message());
        let empty =
            TxnRequest { failure: vec![RequestOp { request: None }], ..TxnRequest::default() };
        let refused = read(empty, 2).expect_err("an operation has a kind");
        assert_eq!(refused.message(), "etcdserver: key not found");
    }
}
