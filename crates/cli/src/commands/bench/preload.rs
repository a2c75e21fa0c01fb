//! Writing all keys before a measurement, in transactions of many keys.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use anyhow::Context;
use bytes::Bytes;
use mainstay_client::{
    CallError, Client, TxnRequest,
    command::{Operation, Put, Txn},
};
use mainstay_world::spawn;

use super::{
    Plan, progress_bar,
    request::{key, value},
};

/// Keys of one transaction.
const BATCH: u64 = 100;
/// Transactions on their way at a time.
const WRITERS: usize = 8;
/// Bytes of values in one transaction, for values that are large.
const BATCH_BYTES: u64 = 1024 * 1024;
/// How often a transaction is tried. The values stay the same, so doing one twice does no harm.
const ATTEMPTS: u32 = 5;

pub(super) async fn run(plan: &Plan, client: &Client) -> anyhow::Result<()> {
    let bar = progress_bar(plan.keys, "loading [{bar:50}] {pos} of {len} keys");
    let next = Arc::new(AtomicU64::new(0));
    let value = Bytes::from(value(plan.value_size));
    let batch = (BATCH_BYTES / (plan.value_size as u64 + 1)).clamp(1, BATCH);
    let writers: Vec<_> = (0..WRITERS)
        .map(|index| {
            let client = client.only(plan.endpoint(index).clone());
            let (next, value, bar, keys) =
                (Arc::clone(&next), value.clone(), bar.clone(), plan.keys);
            spawn(async move {
                loop {
                    let first = next.fetch_add(batch, Ordering::Relaxed);
                    if first >= keys {
                        return Ok(());
                    }
                    let end = (first + batch).min(keys);
                    write(&client, first..end, &value).await?;
                    bar.inc(end - first);
                }
            })
        })
        .collect();
    for writer in writers {
        let written: Result<(), CallError> = writer.await.context("wait for a writer")?;
        written?;
    }
    bar.finish_and_clear();
    Ok(())
}

async fn write(
    client: &Client,
    keys: std::ops::Range<u64>,
    value: &Bytes,
) -> Result<(), CallError> {
    let put = |number| {
        Operation::Put(Put {
            key: Bytes::from(key(number)),
            value: Some(value.clone()),
            lease: Some(0),
            want_previous: false,
        })
    };
    let txn = Txn { compares: Vec::new(), success: keys.map(put).collect(), failure: Vec::new() };
    let request = TxnRequest::new(txn);
    for _ in 1..ATTEMPTS {
        if client.txn(request.clone()).await.is_ok() {
            return Ok(());
        }
    }
    client.txn(request).await.map(|_written| ())
}
