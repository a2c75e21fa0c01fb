//! A client that watches all keys over etcd's protocol, resumes behind what it was told last, asks
//! for progress, and watches from odd revisions beside that.

use std::{ops::RangeInclusive, time::Duration};

use bytes::Bytes;
use mainstay_world::{self as world, Instant};
use tonic::Status;

use super::{
    calls::note_status,
    stream::{Manner, Told, WatchStream},
};
use crate::workload::{Orders, caller::Caller};

/// What is watched: the keys of the workers and the lock.
const PREFIX: &[u8] = b"k/";

/// A stream that says nothing for this long is taken for dead.
const SILENCE_MAX: Duration = Duration::from_millis(2_000);

/// How long a client waits for a stream.
const OPEN_TIMEOUT: Duration = Duration::from_millis(1_000);

/// Watchers beside the main one in one stream.
const OTHERS_MAX: usize = 4;

/// Where the main watch is, and how it reads.
struct Position {
    watcher: u32,
    next: u64,
    /// How long it does not read now and then.
    naps_ms: RangeInclusive<u64>,
}

/// Watches until told to stop.
pub(in crate::workload) async fn run(
    mut caller: Caller,
    naps_ms: RangeInclusive<u64>,
    orders: Orders,
) {
    let watcher = caller.record.lock().history.watch_opened(Bytes::from_static(PREFIX), 1);
    let mut position = Position { watcher, next: 1, naps_ms };
    while !orders.is_stopped() {
        let ended = Box::pin(watch(&mut caller, &mut position, &orders)).await;
        if let Err(status) = ended {
            note_status(&caller.record, caller.node(), &status);
            world::sleep(Duration::from_millis(50)).await;
        }
        caller.move_on();
    }
    orders.one_stopped();
}

/// Watches over one stream, until it ends or the client has enough of it.
async fn watch(
    caller: &mut Caller,
    position: &mut Position,
    orders: &Orders,
) -> Result<(), Status> {
    let (node, needs_leader) = (caller.node(), caller.dice.percent(50));
    let number = caller.record.lock().next_stream();
    let channel = caller.etcd().channel_of_its_own(node);
    let opened = WatchStream::open(channel, number, node, caller.record.clone(), needs_leader);
    let Ok(opened) = world::timeout(OPEN_TIMEOUT, Box::pin(opened)).await else { return Ok(()) };
    let mut stream = opened?;
    let manner = manner(caller);
    stream.resume(position.watcher, PREFIX, position.next, manner);
    let mut heard = Instant::now();
    while !orders.is_stopped() {
        let ms = caller.dice.between(30..=300);
        let told = tokio::select! {
            biased;
            told = stream.next() => Some(told?),
            () = world::sleep(Duration::from_millis(ms)) => None,
        };
        match told {
            Some(told) => {
                heard = Instant::now();
                match told {
                    Told::Nothing => {}
                    Told::Below(next) => position.next = position.next.max(next),
                    Told::Compacted(revision) => {
                        position.next = position.next.max(revision);
                        stream.resume(position.watcher, PREFIX, position.next, manner);
                    }
                    Told::Gone => return Ok(()),
                }
            }
            None if heard.elapsed() > SILENCE_MAX => return Ok(()),
            None => {}
        }
        if caller.dice.percent(25) && !act(caller, &mut stream, position).await {
            return Ok(());
        }
    }
    Ok(())
}

/// Does one of the things that clients do; whether the client stays with the stream.
async fn act(caller: &mut Caller, stream: &mut WatchStream, position: &Position) -> bool {
    match caller.dice.below(100) {
        0..60 => stream.ask_progress(),
        60..85 if stream.count() <= OTHERS_MAX => {
            let (compacted, newest) = {
                let record = caller.record.lock();
                (record.compacted(), record.newest_revision())
            };
            let from = match caller.dice.below(5) {
                0 => 0,
                // Of the future, and perhaps of this node's future only.
                1 => newest + caller.dice.between(1..=12),
                2 => compacted.saturating_sub(1),
                3 => position.next,
                _ => compacted,
            };
            let manner = manner(caller);
            stream.watch_too(PREFIX, from, manner);
        }
        85..92 => stream.cancel_one(),
        92..96 => {
            // It does something else for a while.
            let ms = caller.dice.between(position.naps_ms.clone());
            world::sleep(Duration::from_millis(ms)).await;
        }
        96..98 => return false,
        _ => {}
    }
    true
}

fn manner(caller: &mut Caller) -> Manner {
    Manner { previous: caller.dice.percent(70), fragment: caller.dice.percent(50) }
}
