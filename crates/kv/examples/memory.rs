//! What a key costs in resident memory: `cargo run --release -p mainstay-kv --example memory`.
//!
//! Prints the growth of the process (Linux, `/proc/self/statm`) for a million keys of 10 bytes
//! with values of 16 bytes, put one by one in order and in no order, written twice and compacted,
//! and restored from a snapshot.

#![expect(clippy::print_stdout, reason = "printing is what this program is for")]

use std::time::Instant;

use bytes::Bytes;
use mainstay_kv::{Command, Envelope, Proposal, Put, Stamp, Store, StoreRestore};

const KEYS: u64 = 1_000_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let which = std::env::args().nth(1);
    let cases = ["ordered", "unordered", "rewritten", "restored"];
    let Some(which) = which else {
        // One process a case: what one frees must not serve the next.
        for case in cases {
            let status = std::process::Command::new(std::env::current_exe()?).arg(case).status()?;
            if !status.success() {
                return Err(format!("the case {case} failed").into());
            }
        }
        return Ok(());
    };
    let before = resident_bytes()?;
    #[expect(clippy::disallowed_methods, reason = "a measurement measures time")]
    let start = Instant::now();
    let mut store = Store::new();
    fill(&mut store, if which == "ordered" { 1 } else { 618_033 });
    let mut restored_from = 0;
    if which == "rewritten" {
        fill(&mut store, 618_033);
        let revision = store.revision();
        apply(&mut store, Command::Compact { revision });
        while store.next_deadline_ms() == Some(0) {
            apply(&mut store, Command::Tick);
        }
    }
    if which == "restored" {
        let mut walk = store.snapshot_begin();
        let mut chunks = Vec::new();
        while let Some(chunk) = store.snapshot_next(&mut walk, 1024 * 1024) {
            chunks.push(chunk);
        }
        drop(store);
        restored_from = chunks.iter().map(Bytes::len).sum();
        let mut restore = StoreRestore::new();
        for chunk in chunks {
            restore.push(&chunk)?;
        }
        store = restore.finish()?;
    }
    let grown = resident_bytes()?.saturating_sub(before);
    println!(
        "{which:>10}: {} keys, {} bytes resident a key, {} MiB in all, snapshot of {} MiB, {:?}",
        store.key_count(),
        grown / KEYS,
        grown >> 20,
        restored_from >> 20,
        start.elapsed(),
    );
    Ok(())
}

fn fill(store: &mut Store, step: u64) {
    for number in 0..KEYS {
        let key = Bytes::from(format!("k{:09}", number * step % KEYS));
        let value = Some(Bytes::from(vec![b'v'; 16]));
        apply(store, Command::Put(Put { key, value, lease: Some(0), want_previous: false }));
    }
}

fn apply(store: &mut Store, command: Command) {
    let envelope = Envelope {
        format: mainstay_kv::ENVELOPE_FORMAT,
        epoch: 1,
        stamp: Stamp { term: 1, time_ms: 1 },
        wall_ms: 1,
        proposal: Proposal::unattributed(command),
    };
    store.apply(envelope, 1);
}

fn resident_bytes() -> Result<u64, Box<dyn std::error::Error>> {
    const PAGE_BYTES: u64 = 4_096;
    let fields = std::fs::read_to_string("/proc/self/statm")?;
    let resident = fields.split_whitespace().nth(1).ok_or("statm has no second field")?;
    Ok(resident.parse::<u64>()? * PAGE_BYTES)
}
