//! How long syncs take: a histogram for dashboards, and the recent tail for the stall budget.

use std::{collections::VecDeque, time::Duration};

/// Upper bounds of the histogram's buckets; the last bucket has none.
const BUCKETS: [Duration; 16] = {
    let mut bounds = [Duration::from_micros(125); 16];
    let mut at = 1;
    while at < bounds.len() {
        bounds[at] = Duration::from_micros(125 << at);
        at += 1;
    }
    bounds
};
/// Syncs that the recent tail looks back on.
const RECENT_MAX: usize = 1_000;

/// Durations of the log's writes with their syncs, since start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncStats {
    /// How many there were.
    pub count: u64,
    /// How long they took together.
    pub sum: Duration,
    /// For each bound, how many took at most that long (cumulative, as Prometheus counts).
    pub buckets: Vec<(Duration, u64)>,
    /// What 99 % of the last 1,000 stayed within; `None` before the first.
    pub recent_p99: Option<Duration>,
    /// Bytes written to the log, frames and padding included.
    pub bytes_written: u64,
}

/// Counts syncs.
#[derive(Debug, Default)]
pub(crate) struct SyncRecorder {
    count: u64,
    sum: Duration,
    /// Not cumulative; the last one counts what exceeds every bound.
    buckets: [u64; BUCKETS.len() + 1],
    recent: VecDeque<Duration>,
    bytes_written: u64,
}

impl SyncRecorder {
    pub(crate) fn record(&mut self, took: Duration, bytes: u64) {
        self.count += 1;
        self.sum += took;
        self.buckets[BUCKETS.partition_point(|bound| *bound < took)] += 1;
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(took);
        self.bytes_written += bytes;
    }

    pub(crate) fn stats(&self) -> SyncStats {
        let mut below = 0;
        let buckets = BUCKETS.iter().zip(&self.buckets).map(|(bound, count)| {
            below += count;
            (*bound, below)
        });
        SyncStats {
            count: self.count,
            sum: self.sum,
            buckets: buckets.collect(),
            recent_p99: self.recent_p99(),
            bytes_written: self.bytes_written,
        }
    }

    fn recent_p99(&self) -> Option<Duration> {
        let mut sorted: Vec<Duration> = self.recent.iter().copied().collect();
        sorted.sort_unstable();
        // The smallest value that at least 99 of 100 do not exceed.
        let rank = (sorted.len() * 99).div_ceil(100);
        sorted.get(rank.checked_sub(1)?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_histogram_is_cumulative_and_the_tail_is_the_recent_one() {
        let mut recorder = SyncRecorder::default();
        assert_eq!(recorder.stats().recent_p99, None);
        for _ in 0..2_000 {
            recorder.record(Duration::from_secs(9), 1);
        }
        for took_us in 1..=1_000 {
            recorder.record(Duration::from_micros(took_us), 1);
        }
        let stats = recorder.stats();
        assert_eq!((stats.count, stats.bytes_written), (3_000, 3_000));
        assert_eq!(stats.buckets[0], (Duration::from_micros(125), 125));
        assert_eq!(stats.buckets[3], (Duration::from_millis(1), 1_000));
        assert_eq!(stats.buckets[15].1, 1_000, "nine seconds exceed every bound");
        assert_eq!(stats.recent_p99, Some(Duration::from_micros(990)));
    }
}
