//! What an acknowledged append costs on a real folder: one at a time, and many at once.
//!
//! `cargo run --release -p mainstay-storage --example append_latency -- FOLDER [SECONDS]` writes
//! into FOLDER, which should lie on the disk in question and be empty.
#![expect(clippy::print_stdout, reason = "the figures are the output of this program")]

use std::{error::Error, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use mainstay_storage::{Identity, LogEntry, Storage, StorageOptions};
use mainstay_world::{Buggify, Instant, RealDisk, free_bytes};
use tokio::sync::mpsc;

/// A key of 16 bytes, a value of 256 and an envelope around them.
const PAYLOAD_LEN: usize = 320;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("give a folder to write into")?;
    let seconds = arguments.next().map_or(Ok(3), |seconds| seconds.parse())?;
    std::fs::create_dir_all(&folder)?;
    let folder = Path::new(&folder);
    println!("{} MiB free", free_bytes(folder)? / 1024 / 1024);
    let log = Arc::new(RealDisk::start(folder, "log")?);
    let side = Arc::new(RealDisk::start(folder, "side")?);
    let identity = Identity { cluster_id: 1, node_id: 1, epoch: 1 };
    let began = Instant::now();
    let (storage, recovered) =
        Storage::open(log, side, identity, StorageOptions::default(), Buggify::none()).await?;
    println!("open: {:?}, last {:?}", began.elapsed(), recovered.last);
    let mut next = recovered.last.map_or(1, |last| last.index + 1);
    for at_once in [1, 16, 256] {
        next = measure(&storage, next, at_once, Duration::from_secs(seconds)).await?;
    }
    storage.shutdown().await;
    Ok(())
}

/// Keeps `at_once` appends of one entry waiting, each submitted when another is acknowledged.
async fn measure(
    storage: &Storage,
    mut next: u64,
    at_once: usize,
    duration: Duration,
) -> Result<u64, Box<dyn Error>> {
    let payload = Bytes::from(vec![7; PAYLOAD_LEN]);
    let (done, mut finished) = mpsc::channel(at_once);
    let before = storage.sync_stats();
    let mut submit = || {
        let (done, began) = (done.clone(), Instant::now());
        let entry = LogEntry { index: next, term: 1, payload: payload.clone() };
        next += 1;
        let answer = Box::new(move |outcome: Result<(), _>| {
            // There is room: one place for each append that waits.
            let _ = done.try_send(outcome.map(|()| began.elapsed()));
        });
        storage.append(vec![entry], answer);
    };
    let began = Instant::now();
    for _ in 0..at_once {
        submit();
    }
    let mut latencies = Vec::new();
    while let Some(outcome) = finished.recv().await {
        latencies.push(outcome?);
        if began.elapsed() < duration {
            submit();
        } else if storage.progress().synced == storage.last() && finished.is_empty() {
            break;
        }
    }
    let took = began.elapsed();
    let after = storage.sync_stats();
    latencies.sort_unstable();
    let quantile = |share: usize| latencies[(latencies.len() - 1) * share / 1_000];
    println!(
        "{at_once:>4} at once: {:>8.0} appends/s, p50 {:?}, p99 {:?}, p99.9 {:?}, {} a sync",
        latencies.len() as f64 / took.as_secs_f64(),
        quantile(500),
        quantile(990),
        quantile(999),
        latencies.len() as u64 / (after.count - before.count).max(1),
    );
    Ok(next)
}
