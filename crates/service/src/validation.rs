//! What can be told wrong about a command without the store.
//!
//! These checks spare the log entries that could only be refused. They are the same rules that
//! `apply` follows, and `apply` has the last word.

use bytes::Bytes;
use mainstay_kv::{Command, KeyRange, Operation, Put, RangeEnd, Refusal, Settings, Txn};

/// How deep transactions may be nested; deeper ones are refused by the store.
const DEPTH_MAX: u64 = 128;

/// Checks what `command` carries against the limits of `settings`.
pub(crate) fn check(command: &Command, settings: &Settings) -> Result<(), Refusal> {
    match command {
        Command::Put(put) => check_put(put, settings),
        Command::Delete(delete) => check_range(&delete.range, settings),
        Command::Txn(txn) => check_txn(txn, settings, settings.txn_operations_max, DEPTH_MAX),
        _ => Ok(()),
    }
}

fn check_put(put: &Put, settings: &Settings) -> Result<(), Refusal> {
    check_key(&put.key, settings)?;
    let len = put.value.as_ref().map_or(0, |value| value.len() as u64);
    if len > settings.value_bytes_max {
        return Err(Refusal::ValueTooLarge { len, limit: settings.value_bytes_max });
    }
    Ok(())
}

/// Checks a key that a request names.
pub(crate) fn check_key(key: &Bytes, settings: &Settings) -> Result<(), Refusal> {
    let (len, limit) = (key.len() as u64, settings.key_bytes_max);
    if len == 0 {
        return Err(Refusal::KeyEmpty);
    }
    if len > limit {
        return Err(Refusal::KeyTooLarge { len, limit });
    }
    Ok(())
}

/// Checks a range: a single key like a key, and the bounds of a wide one by size alone, for all
/// keys start at the empty one.
pub(crate) fn check_range(range: &KeyRange, settings: &Settings) -> Result<(), Refusal> {
    let end = match &range.end {
        RangeEnd::Single => return check_key(&range.start, settings),
        RangeEnd::Before(end) => end.len(),
        RangeEnd::Unbounded => 0,
    };
    let (len, limit) = (range.start.len().max(end) as u64, settings.key_bytes_max);
    if len > limit { Err(Refusal::KeyTooLarge { len, limit }) } else { Ok(()) }
}

fn check_txn(
    txn: &Txn,
    settings: &Settings,
    operations_left: u64,
    depth_left: u64,
) -> Result<(), Refusal> {
    let limit = settings.txn_operations_max;
    let count = txn.compares.len().max(txn.success.len()).max(txn.failure.len()) as u64;
    let Some(nested_left) = operations_left.checked_sub(count) else {
        return Err(Refusal::TooManyOperations { count: limit - operations_left + count, limit });
    };
    let Some(nested_depth) = depth_left.checked_sub(1) else {
        return Err(Refusal::TooDeep { limit: DEPTH_MAX });
    };
    for compare in &txn.compares {
        check_range(&compare.range, settings)?;
    }
    for operation in txn.success.iter().chain(&txn.failure) {
        match operation {
            Operation::Range(query) => check_range(&query.range, settings)?,
            Operation::Put(put) => check_put(put, settings)?,
            Operation::Delete(delete) => check_range(&delete.range, settings)?,
            Operation::Txn(nested) => check_txn(nested, settings, nested_left, nested_depth)?,
        }
    }
    Ok(())
}
