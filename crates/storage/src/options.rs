//! What can be set, with the values that production uses.

use std::time::Duration;

use crate::frame::SECTOR_LEN;

const MIB: u64 = 1024 * 1024;

/// Sizes and waits of one [`crate::Storage`].
#[derive(Debug, Clone)]
pub struct StorageOptions {
    /// Largest segment of the log in bytes. A single batch that needs more gets a larger one.
    pub segment_bytes: u64,
    /// Size of the segment made at start, in bytes. Each next one is twice as large, up to
    /// `segment_bytes`, so that a start is quick and a node that starts often wastes little.
    pub first_segment_bytes: u64,
    /// A segment is filled with zeros ahead of use in steps of this many bytes.
    pub preallocate_step_bytes: u64,
    /// Largest batch in bytes; a single entry may be larger.
    pub batch_bytes_max: usize,
    /// Entries kept in memory for readers, in bytes of payload. What is not synced yet is always
    /// kept.
    pub cache_bytes: usize,
    /// At start a last segment with at most this much in it is copied whole and removed; of a
    /// larger one only the last batch is copied.
    pub copy_bytes_max: u64,
    /// After this long without a write, a one-block write and sync shows whether the disk lives.
    pub probe_interval: Duration,
    /// A failure is published at once and reported to callers this much later, so that a leader
    /// can hand over first.
    pub failure_report_delay: Duration,
    /// Pause between two looks at the free space, and between two tries on a full disk.
    pub space_check_interval: Duration,
    /// Room that is kept for one snapshot, in bytes; more when the last snapshot was larger.
    pub snapshot_reserve_bytes: u64,
    /// Bytes of log that are kept behind a snapshot, and that alone never cause one. Storage itself
    /// does not look at it: whoever takes snapshots and purges does.
    pub log_bytes_min: u64,
    /// A snapshot is synced each time this many bytes of it have been written.
    pub snapshot_sync_bytes: u64,
}

impl Default for StorageOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 16 * MIB,
            first_segment_bytes: 8 * MIB,
            preallocate_step_bytes: MIB,
            batch_bytes_max: 2 * 1024 * 1024,
            cache_bytes: 16 * 1024 * 1024,
            copy_bytes_max: 8 * MIB,
            probe_interval: Duration::from_secs(1),
            failure_report_delay: Duration::from_millis(200),
            space_check_interval: Duration::from_secs(1),
            snapshot_reserve_bytes: 64 * MIB,
            log_bytes_min: 64 * MIB,
            snapshot_sync_bytes: 2 * MIB,
        }
    }
}

impl StorageOptions {
    /// # Panics
    /// If a size is 0 or a segment could not hold a header and a frame.
    pub(crate) fn assert_sound(&self) {
        let smallest = 4 * SECTOR_LEN as u64;
        assert!(
            self.segment_bytes >= smallest && self.first_segment_bytes >= smallest,
            "a segment holds at least {smallest} bytes"
        );
        assert!(self.preallocate_step_bytes > 0, "segments are filled in steps of some bytes");
        assert!(self.batch_bytes_max > 0, "a batch holds some bytes");
        assert!(self.snapshot_sync_bytes > 0, "a snapshot is synced after some bytes");
        assert!(!self.space_check_interval.is_zero(), "a full disk is looked at with pauses");
    }

    /// The size of the segment after one of `len` bytes.
    pub(crate) fn next_segment_bytes(&self, len: u64) -> u64 {
        len.saturating_mul(2)
            .clamp(self.first_segment_bytes.min(self.segment_bytes), self.segment_bytes)
    }
}
