//! Transactions in the shapes that clients send.

use mainstay_etcd_protocol::etcdserverpb::{
    Compare, RequestOp, TxnRequest, TxnResponse,
    compare::{CompareResult, CompareTarget, TargetUnion},
    request_op::Request,
    response_op::Response,
};
use tonic::Code;

use super::{Api, bytes, delete, get, put, refused, says};
use crate::harness::with_node;

fn operation(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn compare(key: &'static str, target: CompareTarget, union: TargetUnion) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: target.into(),
        key: bytes(key),
        target_union: Some(union),
        range_end: bytes(""),
    }
}

fn created_at(key: &'static str, revision: i64) -> Compare {
    compare(key, CompareTarget::Create, TargetUnion::CreateRevision(revision))
}

async fn run(api: &mut Api, txn: TxnRequest) -> TxnResponse {
    api.kv.txn(txn).await.expect("is run").into_inner()
}

#[test]
fn a_leader_takes_its_key_in_a_nested_transaction() {
    with_node(async |node| {
        let mut api = Api::of(&node);
        // What a database's failover manager sends: mine? then renew, else take it if it is free.
        let take = |me: &'static str| {
            let write = || operation(Request::RequestPut(put("leader", me)));
            let free = TxnRequest {
                compare: vec![created_at("leader", 0)],
                success: vec![write()],
                failure: Vec::new(),
            };
            TxnRequest {
                compare: vec![compare(
                    "leader",
                    CompareTarget::Value,
                    TargetUnion::Value(bytes(me)),
                )],
                success: vec![write()],
                failure: vec![operation(Request::RequestTxn(free))],
            }
        };
        let nested = |response: &TxnResponse| match &response.responses[0].response {
            Some(Response::ResponseTxn(nested)) => nested.succeeded,
            other => panic!("{other:?}"),
        };
        let first = run(&mut api, take("one")).await;
        assert!(!first.succeeded && nested(&first));
        let again = run(&mut api, take("one")).await;
        assert!(again.succeeded);
        let other = run(&mut api, take("two")).await;
        assert!(!other.succeeded && !nested(&other));
        let revision = |response: &TxnResponse| response.header.as_ref().map(|h| h.revision);
        assert_eq!(revision(&other), revision(&again));
        node
    });
}

#[test]
fn what_is_not_there_compares_as_zero_and_its_value_never() {
    with_node(async |node| {
        let mut api = Api::of(&node);
        for (target, union, holds) in [
            (CompareTarget::Version, TargetUnion::Version(0), true),
            (CompareTarget::Create, TargetUnion::CreateRevision(0), true),
            (CompareTarget::Mod, TargetUnion::ModRevision(0), true),
            (CompareTarget::Lease, TargetUnion::Lease(0), true),
            (CompareTarget::Mod, TargetUnion::ModRevision(1), false),
            (CompareTarget::Value, TargetUnion::Value(bytes("")), false),
        ] {
            let request = TxnRequest {
                compare: vec![compare("none", target, union)],
                ..TxnRequest::default()
            };
            assert_eq!(run(&mut api, request).await.succeeded, holds, "{target:?}");
        }
        api.put("b", "x").await;
        api.put("c", "x").await;
        let whole = Compare { range_end: bytes("z"), ..created_at("a", 0) };
        let txn = TxnRequest { compare: vec![whole], ..TxnRequest::default() };
        assert!(!run(&mut api, txn).await.succeeded);
        let value = compare("a", CompareTarget::Value, TargetUnion::Value(bytes("x")));
        let whole = Compare { range_end: bytes("z"), ..value };
        let txn = TxnRequest { compare: vec![whole], ..TxnRequest::default() };
        assert!(run(&mut api, txn).await.succeeded);
        node
    });
}

#[test]
fn all_writes_of_a_transaction_share_a_revision_and_reads_see_them() {
    with_node(async |node| {
        let mut api = Api::of(&node);
        let before = api.put("a", "1").await;
        let txn = TxnRequest {
            success: vec![
                operation(Request::RequestRange(get("b"))),
                operation(Request::RequestPut(put("b", "2"))),
                operation(Request::RequestRange(get("b"))),
                operation(Request::RequestDeleteRange(delete("a"))),
            ],
            ..TxnRequest::default()
        };
        let response = run(&mut api, txn).await;
        assert_eq!(response.header.expect("has a header").revision, before + 1);
        let found: Vec<(i64, i64)> = response
            .responses
            .iter()
            .map(|response| match response.response.as_ref().expect("has a kind") {
                Response::ResponseRange(range) => {
                    (range.count, range.header.as_ref().expect("has a header").revision)
                }
                Response::ResponsePut(put) => {
                    (-1, put.header.as_ref().expect("has a header").revision)
                }
                Response::ResponseDeleteRange(delete) => {
                    (delete.deleted, delete.header.as_ref().expect("has a header").revision)
                }
                Response::ResponseTxn(_) => panic!("nothing is nested"),
            })
            .collect();
        assert_eq!(found, [(0, before), (-1, before + 1), (1, before + 1), (1, before + 1)]);
        node
    });
}

#[test]
fn a_transaction_that_cannot_be_is_refused_in_etcds_words() {
    with_node(async |node| {
        let mut api = Api::of(&node);
        let puts = |keys: &[&'static str]| TxnRequest {
            success: keys.iter().map(|key| operation(Request::RequestPut(put(key, "v")))).collect(),
            ..TxnRequest::default()
        };
        let twice = says(Code::InvalidArgument, "duplicate key given in txn request");
        assert_eq!(refused(api.kv.txn(puts(&["a", "a"])).await), twice);
        let mut deletes_too = puts(&["a"]);
        deletes_too.success.push(operation(Request::RequestDeleteRange(delete("a"))));
        assert_eq!(refused(api.kv.txn(deletes_too).await), twice);
        let many = says(Code::InvalidArgument, "too many operations in txn request");
        assert_eq!(refused(api.kv.txn(puts(&["a"; 129])).await), many);
        let empty = says(Code::InvalidArgument, "key is not provided");
        assert_eq!(refused(api.kv.txn(puts(&[""])).await), empty);
        let read = api.kv.range(get("a")).await.expect("is read").into_inner();
        assert_eq!(read.count, 0);
        node
    });
}
