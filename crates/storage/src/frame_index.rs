//! Where on disk each entry of the log stands, frame by frame.
//!
//! One span per frame that still holds entries, in order of index: the log is read back a frame at
//! a time, so more detail would buy nothing. Each span also knows how many bytes of log had been
//! written when it ended, which answers questions about the log's size.

use std::{collections::VecDeque, ops::Range};

/// The entries of one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameSpan {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) segment: u64,
    pub(crate) offset: u64,
    pub(crate) len: usize,
    /// Bytes of frames written up to the end of this one.
    written: u64,
}

/// All frames that hold entries of the log.
#[derive(Debug, Default)]
pub(crate) struct FrameIndex {
    spans: VecDeque<FrameSpan>,
    written: u64,
    /// Bytes that had been written up to the end of the last entry that was purged.
    purged: u64,
}

impl FrameIndex {
    /// Adds a frame of `len` bytes that holds the entries `first..=last`.
    pub(crate) fn push(&mut self, segment: u64, offset: u64, len: usize, first: u64, last: u64) {
        self.written += len as u64;
        self.spans.push_back(FrameSpan {
            first,
            last,
            segment,
            offset,
            len,
            written: self.written,
        });
    }

    /// Counts a frame without entries.
    pub(crate) const fn push_empty(&mut self, len: usize) {
        self.written += len as u64;
    }

    /// Forgets the entries after `index`, or all.
    pub(crate) fn truncate_after(&mut self, index: Option<u64>) {
        let keeps = |first: u64| index.is_some_and(|index| first <= index);
        while self.spans.back().is_some_and(|span| !keeps(span.first)) {
            self.spans.pop_back();
        }
        if let (Some(span), Some(index)) = (self.spans.back_mut(), index) {
            span.last = span.last.min(index);
        }
    }

    /// Forgets the frames whose entries all lie at or before `index`.
    pub(crate) fn purge(&mut self, index: u64) {
        while let Some(span) = self.spans.front()
            && span.last <= index
        {
            self.purged = span.written;
            self.spans.pop_front();
        }
        if self.spans.is_empty() {
            self.purged = self.written;
        }
    }

    /// The frame that holds `index`.
    pub(crate) fn find(&self, index: u64) -> Option<FrameSpan> {
        let at = self.spans.partition_point(|span| span.last < index);
        self.spans.get(at).copied().filter(|span| span.first <= index)
    }

    /// Frames from the first of `range` on that stand side by side in one segment, at least one if
    /// there is one, and then as many as fit into `bytes_max`.
    pub(crate) fn side_by_side(&self, range: Range<u64>, bytes_max: usize) -> Vec<FrameSpan> {
        let mut frames: Vec<FrameSpan> = Vec::new();
        let mut bytes = 0;
        let mut next = range.start;
        while let Some(span) = self.find(next).filter(|span| span.first < range.end) {
            let follows = frames.last().is_none_or(|before| {
                before.segment == span.segment
                    && before.offset + before.len as u64 == span.offset
                    && bytes + span.len <= bytes_max
            });
            if !follows {
                break;
            }
            bytes += span.len;
            next = span.last + 1;
            frames.push(span);
        }
        frames
    }

    /// The oldest segment that still holds entries.
    pub(crate) fn oldest_segment(&self) -> Option<u64> {
        self.spans.front().map(|span| span.segment)
    }

    /// Bytes of log behind the purge point.
    pub(crate) const fn bytes(&self) -> u64 {
        self.written - self.purged
    }

    /// Bytes of log behind the frame that holds `index`; all if that was purged.
    pub(crate) fn bytes_since(&self, index: u64) -> u64 {
        let at = self.spans.partition_point(|span| span.last < index);
        match self.spans.get(at) {
            Some(span) if span.first <= index => self.written - span.written,
            Some(_) => self.bytes(),
            None => 0,
        }
    }

    /// The largest index with at least `bytes` of log behind it; `None` if the whole log is less.
    pub(crate) fn index_at_bytes_from_end(&self, bytes: u64) -> Option<u64> {
        let limit = self.written.checked_sub(bytes)?;
        let at = self.spans.partition_point(|span| span.written <= limit);
        self.spans.get(at.checked_sub(1)?).map(|span| span.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three frames of 100, 200 and 300 bytes with entries 1-10, 11-20 and 21-30.
    fn index() -> FrameIndex {
        let mut index = FrameIndex::default();
        index.push(1, 512, 100, 1, 10);
        index.push(1, 1024, 200, 11, 20);
        index.push(2, 512, 300, 21, 30);
        index
    }

    #[test]
    fn an_entry_is_found_in_its_frame() {
        let index = index();
        assert_eq!(index.find(0), None);
        assert_eq!(index.find(11).map(|span| span.offset), Some(1024));
        assert_eq!(index.find(20).map(|span| span.offset), Some(1024));
        assert_eq!(index.find(31), None);
    }

    #[test]
    fn bytes_are_counted_from_the_end() {
        let mut index = index();
        assert_eq!((index.bytes(), index.bytes_since(5), index.bytes_since(30)), (600, 500, 0));
        assert_eq!(index.index_at_bytes_from_end(600), None);
        assert_eq!(index.index_at_bytes_from_end(500), Some(10));
        assert_eq!(index.index_at_bytes_from_end(301), Some(10));
        assert_eq!(index.index_at_bytes_from_end(300), Some(20));
        index.purge(20);
        assert_eq!(
            (index.bytes(), index.bytes_since(5), index.oldest_segment()),
            (300, 300, Some(2))
        );
    }

    #[test]
    fn a_truncated_frame_ends_where_the_log_does() {
        let mut index = index();
        index.truncate_after(Some(15));
        assert_eq!(index.find(16), None);
        index.push(2, 1024, 50, 16, 16);
        assert_eq!(index.find(15).map(|span| span.offset), Some(1024));
        assert_eq!(index.find(16).map(|span| span.segment), Some(2));
        index.truncate_after(None);
        assert_eq!(index.oldest_segment(), None);
    }
}
