//! What waits to be written, in the order in which it was asked for.
//!
//! The queue has no bound of its own: what is put in was already taken from memory that somebody
//! bounds, before the proposal or by a follower's stream window.

use std::collections::VecDeque;

use crate::{
    entry::{LogEntry, LogPosition},
    failure::StorageFailure,
    record::{Record, entry_record_len},
    vote::Vote,
};

/// Called once, when everything asked for before it is durable or never will be.
pub type SyncCallback = Box<dyn FnOnce(Result<(), StorageFailure>) + Send>;

/// One thing to do.
pub(crate) enum WriteItem {
    Entry(LogEntry),
    /// The log ends with this position.
    Truncate(Option<LogPosition>),
    /// The log begins after this position.
    Purge(LogPosition),
    /// Tell somebody that everything before is durable.
    Synced(SyncCallback),
    Vote(Vote, SyncCallback),
}

/// What is written and synced together.
pub(crate) enum Batch {
    Frame { records: Vec<Record>, callbacks: Vec<SyncCallback> },
    Vote(Vote, SyncCallback),
}

/// The writer's queue.
#[derive(Default)]
pub(crate) struct WriteQueue {
    items: VecDeque<WriteItem>,
    /// Items that somebody waits for. Without one the rest may wait too.
    urgent: usize,
}

impl WriteQueue {
    pub(crate) fn push(&mut self, item: WriteItem) {
        // A purge is only noted: it goes with the next batch.
        if !matches!(item, WriteItem::Purge(_)) {
            self.urgent += 1;
        } else if let Some(WriteItem::Purge(older)) = self.items.back_mut()
            && let WriteItem::Purge(newer) = item
        {
            *older = newer;
            return;
        }
        self.items.push_back(item);
    }

    /// The next batch of at most `bytes_max`, at least one item; `None` if nobody waits.
    pub(crate) fn take(&mut self, bytes_max: usize, is_closing: bool) -> Option<Batch> {
        if self.urgent == 0 && !is_closing {
            return None;
        }
        let (mut records, mut callbacks) = (Vec::new(), Vec::new());
        let (mut bytes, mut has_entries) = (0, false);
        while let Some(item) = self.items.front() {
            let fits = match item {
                WriteItem::Entry(entry) => {
                    let len = entry_record_len(entry);
                    let fits = !has_entries || bytes + len <= bytes_max;
                    bytes += len;
                    fits
                }
                // The entries of a frame are one run of indexes.
                WriteItem::Truncate(_) | WriteItem::Purge(_) => !has_entries,
                WriteItem::Synced(_) => true,
                WriteItem::Vote(..) => records.is_empty() && callbacks.is_empty(),
            };
            if !fits {
                break;
            }
            let item = self.items.pop_front().expect("the front was just looked at");
            self.urgent -= usize::from(!matches!(item, WriteItem::Purge(_)));
            match item {
                WriteItem::Entry(entry) => {
                    has_entries = true;
                    records.push(Record::Entry(entry));
                }
                WriteItem::Truncate(last) => records.push(Record::Truncate(last)),
                WriteItem::Purge(upto) => records.push(Record::Purge(upto)),
                WriteItem::Synced(callback) => callbacks.push(callback),
                WriteItem::Vote(vote, callback) => return Some(Batch::Vote(vote, callback)),
            }
        }
        (!records.is_empty() || !callbacks.is_empty())
            .then_some(Batch::Frame { records, callbacks })
    }

    /// Drops what waits and gives those who wait for it.
    pub(crate) fn abandon(&mut self) -> Vec<SyncCallback> {
        self.urgent = 0;
        let waiting = std::mem::take(&mut self.items).into_iter();
        let callbacks = waiting.filter_map(|item| match item {
            WriteItem::Synced(callback) | WriteItem::Vote(_, callback) => Some(callback),
            WriteItem::Entry(_) | WriteItem::Truncate(_) | WriteItem::Purge(_) => None,
        });
        callbacks.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn entry(index: u64) -> WriteItem {
        WriteItem::Entry(LogEntry { index, term: 1, payload: Bytes::from_static(&[0; 79]) })
    }

    fn shape(batch: Option<Batch>) -> String {
        match batch {
            None => "nothing".to_owned(),
            Some(Batch::Vote(vote, _)) => format!("vote {}", vote.term),
            Some(Batch::Frame { records, callbacks }) => {
                let kinds: String = records
                    .iter()
                    .map(|record| match record {
                        Record::Entry(_) => 'e',
                        Record::Truncate(_) => 't',
                        Record::Purge(_) => 'p',
                        Record::Base(_) | Record::Committed(_) => '?',
                    })
                    .collect();
                format!("{kinds}+{}", callbacks.len())
            }
        }
    }

    fn nobody() -> SyncCallback {
        Box::new(|_outcome| {})
    }

    #[test]
    fn a_batch_ends_at_its_bytes_but_holds_at_least_one_entry() {
        let mut queue = WriteQueue::default();
        (1..=3).for_each(|index| queue.push(entry(index)));
        queue.push(WriteItem::Synced(nobody()));
        assert_eq!(shape(queue.take(200, false)), "ee+0");
        assert_eq!(shape(queue.take(1, false)), "e+1");
        assert_eq!(shape(queue.take(1, false)), "nothing");
    }

    #[test]
    fn a_vote_and_a_truncation_wait_for_the_entries_before_them() {
        let mut queue = WriteQueue::default();
        queue.push(entry(1));
        queue.push(WriteItem::Vote(Vote { term: 4, node_id: 1, committed: false }, nobody()));
        queue.push(entry(2));
        queue.push(WriteItem::Truncate(None));
        queue.push(entry(1));
        let shapes: Vec<_> = (0..5).map(|_| shape(queue.take(1_000, false))).collect();
        assert_eq!(shapes, ["e+0", "vote 4", "e+0", "te+0", "nothing"]);
    }

    #[test]
    fn a_purge_alone_waits_until_there_is_something_else_or_the_end() {
        let mut queue = WriteQueue::default();
        for index in 1..=3 {
            queue.push(WriteItem::Purge(LogPosition { index, term: 1 }));
        }
        assert_eq!(shape(queue.take(1_000, false)), "nothing");
        queue.push(entry(9));
        assert_eq!(shape(queue.take(1_000, false)), "pe+0");
        queue.push(WriteItem::Purge(LogPosition { index: 4, term: 1 }));
        assert_eq!(shape(queue.take(1_000, true)), "p+0");
    }
}
