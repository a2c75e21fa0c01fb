//! A trace of requests that were refused, for people who ask later why.
//!
//! Each goes to the node's history, bounded to the newest, and to the log; never with a key's
//! value or a secret. A client that is refused in a tight loop must not cost a disk write each
//! time, so only so many are kept a second and the rest are counted with the next one.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;
use mainstay_world::{History, Instant};
use serde::{Deserialize, Serialize};
use tracing::info;

/// The kind of these records in the history.
pub const REFUSED_KIND: &str = "refused";

/// How many are kept.
const REFUSED_KEEP: usize = 10_000;

/// How many are written a second.
const REFUSED_PER_SECOND: u32 = 10;

/// One refused request, as it stands in the history (`mainstay_codec`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedRequest {
    /// The node's wall clock in milliseconds since 1970.
    pub wall_ms: u64,
    /// What was asked, in one word.
    pub operation: String,
    /// The user; empty is root.
    pub principal: String,
    /// The trace of the request; zero for none.
    pub trace_id: [u8; 16],
    /// Why it was refused, as a sentence.
    pub why: String,
    /// Refusals before this one that were not written because there were too many.
    pub skipped: u64,
}

/// Writes refused requests down, not too many a second.
pub(crate) struct Audit {
    pace: Mutex<Pace>,
}

struct Pace {
    second_began: Instant,
    written: u32,
    skipped: u64,
}

impl Audit {
    pub(crate) fn new() -> Self {
        let pace = Pace { second_began: Instant::now(), written: 0, skipped: 0 };
        Self { pace: Mutex::new(pace) }
    }

    /// Notes that `operation` was refused.
    pub(crate) fn refused(
        &self,
        history: &dyn History,
        operation: &'static str,
        principal: &str,
        trace_id: [u8; 16],
        error: &dyn fmt::Display,
    ) {
        let Some(skipped) = self.admit() else { return };
        info!(operation, principal, skipped, %error, "a request was refused");
        let record = RefusedRequest {
            wall_ms: mainstay_world::wall_clock_ms(),
            operation: operation.to_owned(),
            principal: principal.to_owned(),
            trace_id,
            why: error.to_string(),
            skipped,
        };
        if let Ok(bytes) = mainstay_codec::encode(&record) {
            history.append(REFUSED_KIND, Bytes::from(bytes), REFUSED_KEEP);
        }
    }

    /// Whether one may be written now, and how many were skipped since the last.
    fn admit(&self) -> Option<u64> {
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if now.since(pace.second_began).as_secs() >= 1 {
            pace.second_began = now;
            pace.written = 0;
        }
        if pace.written >= REFUSED_PER_SECOND {
            pace.skipped += 1;
            return None;
        }
        pace.written += 1;
        Some(std::mem::take(&mut pace.skipped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use mainstay_world::MemoryHistory;

    use crate::error::DoorError;

    fn records(history: &MemoryHistory) -> Vec<RefusedRequest> {
        let newest = history.newest(REFUSED_KIND, 100);
        newest
            .iter()
            .map(|record| mainstay_codec::decode(&record.bytes, 1_000).expect("decodes"))
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_written_slowly_and_counted() {
        let (audit, history) = (Audit::new(), MemoryHistory::default());
        let refuse = || audit.refused(&history, "put", "ann", [7; 16], &DoorError::ReadTimeout);
        for _ in 0..25 {
            refuse();
        }
        assert_eq!(records(&history).len(), 10);
        mainstay_world::sleep(Duration::from_secs(1)).await;
        refuse();
        let newest = records(&history).remove(0);
        assert_eq!((newest.skipped, newest.operation.as_str()), (15, "put"));
        assert_eq!((newest.principal.as_str(), newest.trace_id), ("ann", [7; 16]));
        assert_eq!(newest.why, DoorError::ReadTimeout.to_string());
    }
}
