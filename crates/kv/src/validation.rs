//! What can be said against a command without looking at the keys.
//!
//! `apply` asks this of every command, because only what is in the log is the same everywhere;
//! whoever takes requests in asks first, to answer without a round of consensus.
//!
//! The rules for transactions are etcd's: the longest of the three lists counts, a nested
//! transaction gets what its parent leaves over, and no key is changed twice on any path through
//! the branches. We are stricter in one place: a key put in one nested transaction and deleted in
//! a later sibling is a key changed twice, in either order.

use std::collections::BTreeSet;

use crate::{
    command::{Command, Delete, KeyRange, Operation, Put, RangeEnd, Txn},
    nesting::TXN_DEPTH_MAX,
    outcome::Refusal,
    settings::Settings,
};

impl Command {
    /// Says what is wrong with the command under these settings, whatever the keys hold.
    ///
    /// # Errors
    /// The [`Refusal`] that applying it would come to.
    pub fn check(&self, settings: &Settings) -> Result<(), Refusal> {
        match self {
            Self::Put(put) => check_put(put, settings),
            Self::Delete(delete) => check_range(&delete.range),
            Self::Txn(txn) => txn.check(settings),
            Self::Configure(next) => next.check(),
            Self::Import(step) => step.check(settings),
            Self::Replicated { .. } => Err(Refusal::Unsupported),
            Self::Tick
            | Self::Compact { .. }
            | Self::LeaseGrant { .. }
            | Self::LeaseRevoke { .. }
            | Self::LeaseKeepAlive { .. }
            | Self::SessionOpen
            | Self::RaiseFormat { .. } => Ok(()),
        }
    }
}

impl Txn {
    /// Says what is wrong with the transaction under these settings, whatever the keys hold.
    ///
    /// # Errors
    /// The [`Refusal`] that applying it would come to.
    pub fn check(&self, settings: &Settings) -> Result<(), Refusal> {
        check_txn(self, settings, settings.txn_operations_max, 1)?;
        for branch in [&self.success, &self.failure] {
            Changes::of(branch)?;
        }
        Ok(())
    }
}

fn check_txn(txn: &Txn, settings: &Settings, limit: u64, depth: u64) -> Result<(), Refusal> {
    if depth > TXN_DEPTH_MAX {
        return Err(Refusal::TooDeep { limit: TXN_DEPTH_MAX });
    }
    let lists = [txn.compares.len(), txn.success.len(), txn.failure.len()];
    let count = lists.into_iter().max().unwrap_or(0) as u64;
    if count > limit {
        return Err(Refusal::TooManyOperations { count, limit });
    }
    for compare in &txn.compares {
        check_range(&compare.range)?;
    }
    for operation in txn.success.iter().chain(&txn.failure) {
        match operation {
            Operation::Range(query) => check_range(&query.range)?,
            Operation::Put(put) => check_put(put, settings)?,
            Operation::Delete(Delete { range, .. }) => check_range(range)?,
            Operation::Txn(nested) => check_txn(nested, settings, limit - count, depth + 1)?,
        }
    }
    Ok(())
}

fn check_put(put: &Put, settings: &Settings) -> Result<(), Refusal> {
    if put.key.is_empty() {
        return Err(Refusal::KeyEmpty);
    }
    let (len, limit) = (put.key.len() as u64, settings.key_bytes_max);
    if len > limit {
        return Err(Refusal::KeyTooLarge { len, limit });
    }
    let (len, limit) =
        (put.value.as_ref().map_or(0, |value| value.len() as u64), settings.value_bytes_max);
    if len > limit {
        return Err(Refusal::ValueTooLarge { len, limit });
    }
    Ok(())
}

/// An empty start is the first of all keys in a range, and no key by itself.
fn check_range(range: &KeyRange) -> Result<(), Refusal> {
    if range.start.is_empty() && range.end == RangeEnd::Single {
        return Err(Refusal::KeyEmpty);
    }
    Ok(())
}

/// The keys that some path through a list of operations changes.
#[derive(Default)]
struct Changes<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletes: Vec<&'a KeyRange>,
}

impl<'a> Changes<'a> {
    /// What a list changes, or [`Refusal::DuplicateKey`] if some path changes a key twice.
    fn of(operations: &'a [Operation]) -> Result<Self, Refusal> {
        let mut all = Self::default();
        for operation in operations {
            let mut one = Self::default();
            match operation {
                Operation::Range(_) => continue,
                Operation::Put(put) => {
                    one.puts.insert(&put.key);
                }
                Operation::Delete(delete) => one.deletes.push(&delete.range),
                // Only one of the branches is taken, so they may change the same keys.
                Operation::Txn(nested) => {
                    one.merge(Self::of(&nested.success)?);
                    one.merge(Self::of(&nested.failure)?);
                }
            }
            if !one.puts.is_disjoint(&all.puts)
                || one.deletes_any_of(&all)
                || all.deletes_any_of(&one)
            {
                return Err(Refusal::DuplicateKey);
            }
            all.merge(one);
        }
        Ok(all)
    }

    fn deletes_any_of(&self, other: &Self) -> bool {
        other.puts.iter().any(|key| self.deletes.iter().any(|range| range.contains(key)))
    }

    fn merge(&mut self, other: Self) {
        self.puts.extend(other.puts);
        self.deletes.extend(other.deletes);
    }
}
