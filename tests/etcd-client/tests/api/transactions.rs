//! Transactions: compares, both branches, nested ones, all at one revision.

use etcd_client::{
    Compare, CompareOp, DeleteOptions, GetOptions, PutOptions, Txn, TxnOp, TxnOpResponse,
};
use tonic::Code;

use crate::{client, cluster, pair, refusal};

#[tokio::test]
async fn a_transaction_does_one_branch_as_one_change() {
    let cluster = cluster().await;
    let mut client = client(&cluster).await;
    client.put("a", "1", None).await.expect("is written");
    let before = client.put("c/1", "old", None).await.expect("is written");
    let before = before.header().expect("has a header").revision();

    let nested = Txn::new()
        .when([Compare::value("a", CompareOp::Equal, "something else")])
        .and_then([TxnOp::put("wrong", "branch", None)])
        .or_else([TxnOp::put("d", "1", None), TxnOp::get("a", None)]);
    let txn = Txn::new()
        .when([
            Compare::value("a", CompareOp::Equal, "1"),
            Compare::version("a", CompareOp::Less, 2),
            Compare::create_revision("never/written", CompareOp::Equal, 0),
            Compare::mod_revision("c/", CompareOp::Greater, 0).with_prefix(),
            Compare::lease("a", CompareOp::NotEqual, 7),
        ])
        .and_then([
            TxnOp::put("a", "2", Some(PutOptions::new().with_prev_key())),
            TxnOp::get("", Some(GetOptions::new().with_all_keys().with_limit(1))),
            TxnOp::delete("c/", Some(DeleteOptions::new().with_prefix().with_prev_key())),
            TxnOp::txn(nested),
        ])
        .or_else([TxnOp::put("wrong", "branch", None)]);
    let done = client.txn(txn).await.expect("is decided");
    assert!(done.succeeded());
    let [put, get, delete, inner] = &done.op_responses()[..] else { panic!("{done:?}") };
    let TxnOpResponse::Put(put) = put else { panic!("{put:?}") };
    assert_eq!(put.prev_key().map(pair), Some(("a", "1")));
    // It reads what it has written itself.
    let TxnOpResponse::Get(get) = get else { panic!("{get:?}") };
    assert_eq!(get.kvs().iter().map(pair).collect::<Vec<_>>(), [("a", "2")]);
    let TxnOpResponse::Delete(delete) = delete else { panic!("{delete:?}") };
    assert_eq!(delete.prev_kvs().iter().map(pair).collect::<Vec<_>>(), [("c/1", "old")]);
    let TxnOpResponse::Txn(inner) = inner else { panic!("{inner:?}") };
    assert!(!inner.succeeded());
    let [_put, TxnOpResponse::Get(get)] = &inner.op_responses()[..] else { panic!("{inner:?}") };
    assert_eq!(get.kvs().iter().map(pair).collect::<Vec<_>>(), [("a", "2")]);

    assert_eq!(done.header().expect("has a header").revision(), before + 1);
    for key in ["a", "d"] {
        let read = client.get(key, None).await.expect("is read");
        assert_eq!(read.kvs()[0].mod_revision(), before + 1);
    }
    for key in ["c/1", "wrong"] {
        assert!(client.get(key, None).await.expect("is read").kvs().is_empty(), "{key} is there");
    }
}

#[tokio::test]
async fn of_two_who_compare_and_swap_one_wins() {
    let cluster = cluster().await;
    let rounds = 20;
    let contender = async |name: &'static str| {
        let mut client = client(&cluster).await;
        let mut won = Vec::new();
        for round in 0..rounds {
            let key = format!("round/{round}");
            let txn = Txn::new()
                .when([Compare::version(key.as_str(), CompareOp::Equal, 0)])
                .and_then([TxnOp::put(key.as_str(), name, None)])
                .or_else([TxnOp::get(key.as_str(), None)]);
            if client.txn(txn).await.expect("is decided").succeeded() {
                won.push(round);
            }
        }
        won
    };
    let (one, other) = tokio::join!(contender("one"), contender("other"));
    let mut all: Vec<_> = one.iter().chain(&other).copied().collect();
    all.sort_unstable();
    assert_eq!(all, (0..rounds).collect::<Vec<_>>(), "{one:?} and {other:?}");
}

#[tokio::test]
async fn a_transaction_that_changes_a_key_twice_changes_nothing() {
    let cluster = cluster().await;
    let mut client = client(&cluster).await;
    let txn = Txn::new().and_then([TxnOp::put("a", "1", None), TxnOp::put("a", "2", None)]);
    let text = "etcdserver: duplicate key given in txn request";
    assert_eq!(refusal(client.txn(txn).await), (Code::InvalidArgument, text.to_owned()));
    let many: Vec<_> = (0..129).map(|at| TxnOp::put(format!("k{at}"), "1", None)).collect();
    let text = "etcdserver: too many operations in txn request";
    let refused = refusal(client.txn(Txn::new().and_then(many)).await);
    assert_eq!(refused, (Code::InvalidArgument, text.to_owned()));
    assert!(client.get("a", None).await.expect("is read").kvs().is_empty());
}
