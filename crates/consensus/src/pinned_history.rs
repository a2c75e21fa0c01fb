//! Every version of one moment of the store, read in turns with those who apply.
//!
//! It works and rests as the writer of snapshots does, so that a reader of gigabytes does not hold
//! up writes. What compaction frees meanwhile is kept for it, up to a bound: a reader who takes so
//! long that more would be kept is told to begin again.

use mainstay_kv::{HistoryLost, HistoryVersion, HistoryWalk};

use crate::{pace::Pace, state_machine::SharedStore};

/// Logical bytes that may be kept for readers, however small the store; of a large one it is
/// [half](RETAINED_PART) of it.
const RETAINED_BYTES_MIN: u64 = 256 * 1024 * 1024;

/// See [`RETAINED_BYTES_MIN`].
const RETAINED_PART: u64 = 2;

/// The history of one moment; ends with this value.
pub struct PinnedHistory {
    store: SharedStore,
    /// There until this is dropped.
    walk: Option<HistoryWalk>,
    applied_index: u64,
    applied_term: u64,
    pace: Pace,
}

/// The rest of the history cannot be read; nothing else happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// The store was replaced.
    #[error(transparent)]
    Lost(#[from] HistoryLost),
    /// Compaction freed too much meanwhile.
    #[error(
        "{bytes} bytes were compacted while the history was read, too many to keep for a reader; \
         begin again, and read faster"
    )]
    TooSlow {
        /// What was kept.
        bytes: u64,
    },
}

impl PinnedHistory {
    pub(crate) fn begin(store: SharedStore) -> Self {
        // The store may be some entries ahead of these by then, never behind.
        let applied_index = *store.applied_index().borrow();
        let applied_term = store.applied_term();
        let walk = Some(store.begin_history());
        Self { store, walk, applied_index, applied_term, pace: Pace::default() }
    }

    /// The moment, and what is known of it at once.
    ///
    /// # Panics
    /// Never: the walk is there as long as this is.
    #[must_use]
    pub fn moment(&self) -> &HistoryWalk {
        self.walk.as_ref().expect("taken only by drop")
    }

    /// A log index up to which everything is in it.
    #[must_use]
    pub const fn applied_index(&self) -> u64 {
        self.applied_index
    }

    /// The term of that entry.
    #[must_use]
    pub const fn applied_term(&self) -> u64 {
        self.applied_term
    }

    /// Begins with the first version again.
    pub const fn rewind(&mut self) {
        if let Some(walk) = &mut self.walk {
            walk.rewind();
        }
    }

    /// Shows the next versions, of about `bytes_budget` logical bytes and at least one; whether
    /// there was any. Others apply and read between two calls.
    ///
    /// # Errors
    /// [`HistoryError`]
    pub async fn next(
        &mut self,
        bytes_budget: u64,
        show: impl FnMut(HistoryVersion<'_>) + Send,
    ) -> Result<bool, HistoryError> {
        let Some(walk) = &mut self.walk else { return Ok(false) };
        let store = &self.store;
        let (shown, bytes) = self.pace.work(|| {
            store.read(|store| {
                (store.history_next(walk, bytes_budget, show), store.retained_bytes())
            })
        });
        let shown = shown?;
        if bytes > RETAINED_BYTES_MIN.max(walk.bytes() / RETAINED_PART) {
            return Err(HistoryError::TooSlow { bytes });
        }
        self.pace.pause().await;
        Ok(shown)
    }
}

impl Drop for PinnedHistory {
    fn drop(&mut self) {
        if let Some(walk) = self.walk.take() {
            self.store.end_history(walk);
        }
    }
}
