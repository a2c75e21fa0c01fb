//! How the model finds keys that a transaction changes twice: by going every way there is.

use mainstay_kv::{Operation, Refusal};

/// Every way through a list of operations, nested branches unfolded.
pub(super) fn paths(operations: &[Operation]) -> Vec<Vec<&Operation>> {
    let mut all: Vec<Vec<&Operation>> = vec![vec![]];
    for operation in operations {
        let ways: Vec<Vec<&Operation>> = match operation {
            Operation::Txn(nested) => {
                paths(&nested.success).into_iter().chain(paths(&nested.failure)).collect()
            }
            leaf => vec![vec![leaf]],
        };
        all = all
            .iter()
            .flat_map(|path| ways.iter().map(|way| [&path[..], &way[..]].concat()))
            .collect();
    }
    all
}

/// No key is put twice, and none is put and deleted.
pub(super) fn check_path(path: &[&Operation]) -> Result<(), Refusal> {
    for (at, operation) in path.iter().enumerate() {
        let Operation::Put(put) = operation else { continue };
        for (other_at, other) in path.iter().enumerate() {
            let clash = match other {
                Operation::Put(other) => at != other_at && other.key == put.key,
                Operation::Delete(delete) => delete.range.contains(&put.key),
                Operation::Range(_) | Operation::Txn(_) => false,
            };
            if clash {
                return Err(Refusal::DuplicateKey);
            }
        }
    }
    Ok(())
}
