//! A transaction that only reads, answered without the log.
//!
//! All of it sees one revision. What holds and what does not is decided by the same rules as in
//! `kv`, from the same pairs.

use std::future::Future;
use std::pin::Pin;

use mainstay_kv::{
    Compare, KeyValue, Operand, Operation, OperationOutcome, QueryError, RangeQuery, Relation,
    Store, Txn, TxnOutcome,
};

use crate::{
    admission::{Admission, AnswerRoom},
    error::DoorError,
    reads::{Replica, range_at},
};

/// How often a transaction starts again after a compaction overtook it.
const RESTARTS_MAX: u32 = 3;

/// Whether `txn` cannot write, whichever way its compares go.
pub(crate) fn is_read_only(txn: &Txn) -> bool {
    txn.success.iter().chain(&txn.failure).all(|operation| match operation {
        Operation::Range(_) => true,
        Operation::Put(_) | Operation::Delete(_) => false,
        Operation::Txn(nested) => is_read_only(nested),
    })
}

/// Answers `txn`, with the store's revision when it was read.
pub(crate) async fn read_txn<R: Replica + Sync>(
    replica: &R,
    admission: &Admission,
    txn: &Txn,
) -> Result<(TxnOutcome, u64), DoorError> {
    let mut restarts = 0;
    loop {
        let revision = replica.read(Store::revision);
        let mut room = admission.answer();
        match run(replica, &mut room, txn, revision).await {
            // Only a revision that the transaction asks for by number is answered as compacted.
            Err(DoorError::Query(QueryError::Compacted { wanted, .. }))
                if wanted == revision && restarts < RESTARTS_MAX =>
            {
                restarts += 1;
            }
            outcome => return outcome.map(|outcome| (outcome, revision)),
        }
    }
}

type Running<'a> = Pin<Box<dyn Future<Output = Result<TxnOutcome, DoorError>> + Send + 'a>>;

/// Runs one level; boxed because levels nest.
fn run<'a, R: Replica + Sync>(
    replica: &'a R,
    room: &'a mut AnswerRoom<'_>,
    txn: &'a Txn,
    revision: u64,
) -> Running<'a> {
    Box::pin(async move {
        let mut succeeded = true;
        for compare in &txn.compares {
            let query = RangeQuery { revision, ..RangeQuery::new(compare.range.clone()) };
            let answer = range_at(replica, room, &query, revision).await?;
            succeeded = if answer.pairs.is_empty() {
                holds(compare, None)
            } else {
                answer.pairs.iter().all(|pair| holds(compare, Some(pair)))
            };
            if !succeeded {
                break;
            }
        }
        let chosen = if succeeded { &txn.success } else { &txn.failure };
        let mut operations = Vec::with_capacity(chosen.len());
        for operation in chosen {
            operations.push(match operation {
                Operation::Range(query) => {
                    let pinned = if query.revision == 0 { revision } else { query.revision };
                    OperationOutcome::Range(range_at(replica, room, query, pinned).await?)
                }
                Operation::Txn(nested) => {
                    OperationOutcome::Txn(run(replica, room, nested, revision).await?)
                }
                Operation::Put(_) | Operation::Delete(_) => {
                    unreachable!("a transaction that only reads has neither puts nor deletes")
                }
            });
        }
        Ok(TxnOutcome { succeeded, operations })
    })
}

/// Whether `compare` holds for a pair, or for a key that does not exist.
fn holds(compare: &Compare, pair: Option<&KeyValue>) -> bool {
    let number = |value: Option<u64>, operand: i64| {
        i128::from(value.unwrap_or_default()).cmp(&i128::from(operand))
    };
    let order = match &compare.operand {
        Operand::Version(operand) => number(pair.map(|pair| pair.version), *operand),
        Operand::CreateRevision(operand) => number(pair.map(|pair| pair.create_revision), *operand),
        Operand::ModRevision(operand) => number(pair.map(|pair| pair.mod_revision), *operand),
        Operand::Lease(operand) => number(pair.map(|pair| pair.lease), *operand),
        Operand::Value(operand) => match pair {
            Some(pair) => pair.value.cmp(operand),
            None => return false,
        },
    };
    match compare.relation {
        Relation::Equal => order.is_eq(),
        Relation::Greater => order.is_gt(),
        Relation::Less => order.is_lt(),
        Relation::NotEqual => order.is_ne(),
    }
}
