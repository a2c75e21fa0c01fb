//! openraft's log store on `storage`.
//!
//! The two agree on what matters: an append returns when the entries can be read from memory, and
//! its callback fires after their sync. Storage keeps index, term and bytes; this file owns what
//! the bytes of an entry are:
//!
//! ```text
//! (nothing)             a blank entry
//! u16 format, ...       an envelope of `kv`; its format is never 0xffff
//! 0xffff, codec         a membership
//! ```
//!
//! so that an envelope is stored and sent as it was made, without a copy.

use std::{
    fmt::Debug,
    io,
    ops::{Bound, RangeBounds},
};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, stream};
use mainstay_storage::{LogEntry, LogPosition, Storage, StorageFailure};
use mainstay_world::Buggify;
use openraft::{
    LogState, Membership, OptionalSend, RaftLogReader,
    entry::RaftEntry,
    storage::{IOFlushed, RaftLogStorage},
};

use crate::{
    status::MemberRecord,
    type_config::{
        EncodedEnvelope, Entry, EntryPayload, LogId, TypeConfig, Vote, log_id, position,
        stored_vote, vote,
    },
};

/// Bytes of entries in one replication request; at least one entry goes whatever its size.
const REPLICATION_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of entries read at once where the caller takes them as a stream.
const STREAM_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The largest membership in bytes.
const MEMBERSHIP_BYTES_MAX: usize = 1024 * 1024;

/// First two bytes of a membership entry.
const MEMBERSHIP_TAG: [u8; 2] = [0xff, 0xff];

/// openraft's view of the storage.
#[derive(Clone)]
pub(crate) struct LogStore {
    storage: Storage,
    buggify: Buggify,
}

impl LogStore {
    pub(crate) const fn new(storage: Storage, buggify: Buggify) -> Self {
        Self { storage, buggify }
    }

    async fn read(&self, start: u64, end: u64, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let stored = self.storage.read(start..end, bytes_max).await.map_err(io::Error::other)?;
        stored.into_iter().map(entry_of).collect()
    }

    /// Every entry of the range that the log has.
    async fn read_all(&self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        let mut entries = self.read(start, end, usize::MAX).await?;
        while let Some(last) = entries.last() {
            let next = last.log_id.index + 1;
            if next >= end {
                break;
            }
            let more = self.read(next, end, usize::MAX).await?;
            if more.is_empty() {
                break;
            }
            entries.extend(more);
        }
        Ok(entries)
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let (start, end) = bounds(&range);
        self.read_all(start, end).await
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        self.read(start, end, REPLICATION_BYTES_MAX).await
    }

    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = Result<Entry, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (start, end) = bounds(&range);
        let state = EntryStream {
            store: self.clone(),
            next: start,
            end,
            ready: Vec::new().into_iter(),
            failed: false,
        };
        Box::pin(stream::unfold(state, EntryStream::next))
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.storage.vote().map(vote))
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let purged = self.storage.purged();
        Ok(LogState {
            last_purged_log_id: purged.map(log_id),
            last_log_id: self.storage.last().or(purged).map(log_id),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let vote = stored_vote(vote);
        self.storage.save_vote(vote).await.map_err(failure)?;
        // Notes term, candidate, and whether a quorum is known to have voted so.
        self.buggify
            .note("log.vote-saved", || [vote.term, vote.node_id, u64::from(vote.committed)]);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        if let Some(committed) = committed {
            self.storage.save_committed(position(&committed));
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.storage.committed().map(log_id))
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: IOFlushed<TypeConfig>,
    ) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let tell = |entry: &Entry| {
            if let EntryPayload::Membership(membership) = &entry.payload {
                let position = position(&entry.log_id);
                self.buggify.note_all("log.membership", || membership_note(position, membership));
            }
        };
        let entries = entries.into_iter().inspect(tell).map(stored_entry);
        let entries = entries.collect::<io::Result<Vec<_>>>()?;
        let last = entries.last().map_or(0, |entry| entry.index);
        for entry in &entries {
            self.buggify.note("log.appended", || entry_note(entry));
        }
        let buggify = self.buggify.clone();
        self.storage.append(
            entries,
            Box::new(move |outcome| {
                if outcome.is_ok() {
                    // Notes the last index that consensus is told to be durable.
                    buggify.note("log.flushed", || [last]);
                }
                callback.io_completed(outcome.map_err(failure));
            }),
        );
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        // Notes the first index that goes.
        self.buggify.note("log.truncated", || [last.as_ref().map_or(0, |last| last.index + 1)]);
        self.storage.truncate_after(last.map(|last| last.index)).await.map_err(failure)
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        // Notes the last index that goes.
        self.buggify.note("log.purged", || [upto.index]);
        self.storage.purge(position(&upto));
        Ok(())
    }
}

/// A range of entries, read in pieces.
struct EntryStream {
    store: LogStore,
    next: u64,
    end: u64,
    ready: std::vec::IntoIter<Entry>,
    failed: bool,
}

impl EntryStream {
    async fn next(mut self) -> Option<(io::Result<Entry>, Self)> {
        if self.failed {
            return None;
        }
        if self.ready.len() == 0 && self.next < self.end {
            match self.store.read(self.next, self.end, STREAM_BYTES_MAX).await {
                Ok(entries) => self.ready = entries.into_iter(),
                Err(error) => {
                    self.failed = true;
                    return Some((Err(error), self));
                }
            }
        }
        let entry = self.ready.next()?;
        self.next = entry.log_id.index + 1;
        Some((Ok(entry), self))
    }
}

/// Index, term and checksum of the payload: an entry, recognisable without its bytes.
pub(crate) fn entry_note(entry: &LogEntry) -> [u64; 3] {
    let checksum = mainstay_codec::checksum(0, &entry.payload);
    [entry.index, entry.term, u64::from(checksum)]
}

/// Index, term, how many sets of voters there are, then for each of them, and for the learners, how
/// many and who.
fn membership_note(position: LogPosition, membership: &Membership<u64, MemberRecord>) -> Vec<u64> {
    let sets = membership.get_joint_config();
    let mut numbers = vec![position.index, position.term, sets.len() as u64];
    let learners = membership.learner_ids().collect();
    for set in sets.iter().chain([&learners]) {
        numbers.push(set.len() as u64);
        numbers.extend(set);
    }
    numbers
}

/// An entry in the form that storage keeps and peers send.
pub(crate) fn stored_entry(entry: Entry) -> io::Result<LogEntry> {
    let payload = match entry.payload {
        EntryPayload::Blank => Bytes::new(),
        EntryPayload::Normal(envelope) => envelope.0,
        EntryPayload::Membership(membership) => membership_bytes(&membership)?,
    };
    Ok(LogEntry { index: entry.log_id.index, term: *entry.log_id.leader_id, payload })
}

/// The entry of a stored one.
pub(crate) fn entry_of(stored: LogEntry) -> io::Result<Entry> {
    let payload = if stored.payload.is_empty() {
        EntryPayload::Blank
    } else if let Some(membership) = stored.payload.strip_prefix(&MEMBERSHIP_TAG) {
        let membership: Membership<u64, MemberRecord> =
            mainstay_codec::decode(membership, MEMBERSHIP_BYTES_MAX).map_err(io::Error::other)?;
        EntryPayload::Membership(membership)
    } else {
        EntryPayload::Normal(EncodedEnvelope(stored.payload))
    };
    let position = LogPosition { index: stored.index, term: stored.term };
    Ok(Entry::new(log_id(position), payload))
}

fn membership_bytes(membership: &Membership<u64, MemberRecord>) -> io::Result<Bytes> {
    let mut bytes = MEMBERSHIP_TAG.to_vec();
    mainstay_codec::encode_into(membership, &mut bytes).map_err(io::Error::other)?;
    Ok(BytesMut::from(&bytes[..]).freeze())
}

fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(start) => start + 1,
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(end) => end + 1,
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    (start, end)
}

fn failure(failure: StorageFailure) -> io::Error {
    io::Error::other(failure)
}
