//! Aligns tokio's task ids, on which the order of a dropped runtime's tasks depends.
//!
//! Tokio keeps the tasks of a runtime in shards chosen by task id, drops them shard by shard, and
//! draws the ids from one counter of the process. So a crash closes sockets in an order that
//! depends on how many tasks the process had before this run; each run therefore starts at the
//! same remainder.

/// More shards than any runtime has.
const PERIOD: u64 = 1024;

/// Spends task ids until the next one is a multiple of the period.
pub(super) fn align() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime without drivers needs nothing that could fail");
    runtime.block_on(async {
        loop {
            #[expect(clippy::disallowed_methods, reason = "it does nothing and is in no node")]
            let task = tokio::spawn(std::future::ready(()));
            let id: u64 = task.id().to_string().parse().unwrap_or(PERIOD - 1);
            if id % PERIOD == PERIOD - 1 {
                return;
            }
        }
    });
}
