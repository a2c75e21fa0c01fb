//! Work and rest of whoever walks the whole store beside those who apply.
//!
//! Taking turns alone is not enough where the nodes share few cores: each hop of a write would wait
//! for a chunk. Only what is measured as work counts; waiting for the disk or a peer is rest already.
//! The sender of a snapshot has another measure, the time on its connection: see
//! `peer::snapshot_stream`.

use std::time::Duration;

use mainstay_world::{self as world, Instant};

/// After so much work there is a rest.
const WORK: Duration = Duration::from_micros(500);

/// See [`WORK`].
const REST: Duration = Duration::from_millis(1);

/// Somebody who works and rests.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    worked: Duration,
}

impl Pace {
    /// Does `work` and counts the time that it takes.
    pub(crate) fn work<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let done = work();
        self.worked += begun.elapsed();
        done
    }

    /// Lets others have their turn; a rest, if one is due.
    pub(crate) async fn pause(&mut self) {
        if self.worked < WORK {
            tokio::task::yield_now().await;
        } else {
            world::sleep(REST).await;
            self.worked = Duration::ZERO;
        }
    }
}
