//! Changes that a reader who follows the store has not read yet, kept from being compacted away.
//!
//! A store applies entries in batches, and whoever follows its changes reads after the batch. A
//! write and a compaction past it may stand in one batch: the write is then out of reach before
//! anybody could read it, although the reader was never behind. So whoever applies a compaction
//! has the changes that it takes away set aside before, for the one reader that follows; etcd has
//! no such gap because it tells its watchers while it applies.
//!
//! This is no part of the state: replicas with readers at different places apply the same. What is
//! set aside is bounded; a reader that is further behind finds its changes compacted, as any other.

use std::collections::VecDeque;

use crate::{
    changes::{Changes, Event, RevisionChanges},
    command::Command,
    query::QueryError,
    store::Store,
};

/// Bytes of changes that are set aside at most.
const SET_ASIDE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Bytes of changes that are set aside at a time; one slice more than needed may be looked at.
const SLICE_BYTES: usize = 256 * 1024;

/// What one reader of all changes has not read yet, as far as compaction took it away.
#[derive(Debug)]
pub struct UnreadChanges {
    /// The first revision not yet read; `None` while nobody reads.
    next_revision: Option<u64>,
    /// Everything unread below `set_aside_below`, ascending.
    set_aside: VecDeque<RevisionChanges>,
    set_aside_below: u64,
    bytes: u64,
    bytes_max: u64,
}

impl Default for UnreadChanges {
    /// Nobody reads yet.
    fn default() -> Self {
        Self {
            next_revision: None,
            set_aside: VecDeque::new(),
            set_aside_below: 0,
            bytes: 0,
            bytes_max: SET_ASIDE_BYTES_MAX,
        }
    }
}

impl UnreadChanges {
    /// Sets aside what `command` will take away. To be called with the store as it is before the
    /// command is applied.
    pub fn before_command(&mut self, store: &Store, command: &Command) {
        if let Command::Compact { revision } = command {
            self.before_compaction(store, *revision);
        }
    }

    /// Sets aside what is unread up to `compact_revision`. To be called with the store as it is
    /// before it is compacted there, or replaced by one that was.
    pub fn before_compaction(&mut self, store: &Store, compact_revision: u64) {
        let Some(next_revision) = self.next_revision else { return };
        let last = compact_revision.min(store.revision());
        let mut from = next_revision.max(self.set_aside_below);
        while from <= last {
            let Ok(changes) = store.changes(from, SLICE_BYTES) else { return self.forget() };
            let unread = changes.revisions.into_iter().take_while(|next| next.revision <= last);
            for revision in unread {
                self.bytes += bytes(&revision);
                self.set_aside.push_back(revision);
            }
            if self.bytes > self.bytes_max {
                return self.forget();
            }
            from = changes.next_revision;
            self.set_aside_below = from.min(last + 1);
        }
    }

    /// The next changes for the reader that has read everything below `from_revision`, as
    /// [`Store::changes`] has them.
    ///
    /// # Errors
    /// [`QueryError::Compacted`] if they are gone, [`QueryError::Future`] if the store never came
    /// to the revision before.
    pub fn read(
        &mut self,
        store: &Store,
        from_revision: u64,
        bytes_max: usize,
    ) -> Result<Changes, QueryError> {
        let revision = store.revision();
        if revision + 1 < from_revision {
            return Err(QueryError::Future { wanted: from_revision, revision });
        }
        while self.set_aside.front().is_some_and(|first| first.revision < from_revision) {
            self.pop();
        }
        let mut read = Changes {
            revisions: Vec::new(),
            next_revision: from_revision.max(self.set_aside_below),
        };
        let mut read_bytes = 0;
        while let Some(next) = self.set_aside.front() {
            if !read.revisions.is_empty() && read_bytes >= bytes_max as u64 {
                read.next_revision = next.revision;
                break;
            }
            read_bytes += bytes(next);
            read.revisions.extend(self.pop());
        }
        if read.revisions.is_empty() {
            read = store.changes(read.next_revision, bytes_max)?;
        }
        self.next_revision = Some(read.next_revision);
        Ok(read)
    }

    /// Has the reader go on with what comes after the present; the present revision.
    pub fn skip(&mut self, store: &Store) -> u64 {
        self.forget();
        self.next_revision = Some(store.revision() + 1);
        store.revision()
    }

    /// Nothing is set aside from now on, until somebody reads again.
    fn forget(&mut self) {
        *self = Self { bytes_max: self.bytes_max, ..Self::default() };
    }

    fn pop(&mut self) -> Option<RevisionChanges> {
        let first = self.set_aside.pop_front()?;
        self.bytes -= bytes(&first);
        Some(first)
    }
}

fn bytes(revision: &RevisionChanges) -> u64 {
    revision.events.iter().map(Event::logical_bytes).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        command::Put,
        envelope::{ENVELOPE_FORMAT, Envelope, Proposal, Stamp},
    };
    use bytes::Bytes;

    fn apply(store: &mut Store, unread: &mut UnreadChanges, command: Command) {
        unread.before_command(store, &command);
        let envelope = Envelope {
            format: ENVELOPE_FORMAT,
            epoch: 1,
            stamp: Stamp { term: 1, time_ms: 0 },
            wall_ms: 0,
            proposal: Proposal::unattributed(command),
        };
        assert!(store.apply(envelope, 1).result.is_ok());
    }

    fn put(value: &'static str) -> Command {
        Command::Put(Put {
            key: Bytes::from_static(b"key"),
            value: Some(Bytes::from_static(value.as_bytes())),
            lease: Some(0),
            want_previous: false,
        })
    }

    /// Revisions and values of everything that can be read, with the values before.
    fn read_all(
        unread: &mut UnreadChanges,
        store: &Store,
        mut from: u64,
    ) -> Result<Vec<(u64, Bytes, Option<Bytes>)>, QueryError> {
        let mut all = Vec::new();
        loop {
            let read = unread.read(store, from, 1)?;
            if read.revisions.is_empty() {
                return Ok(all);
            }
            from = read.next_revision;
            for revision in read.revisions {
                let number = revision.revision;
                let event = |event: Event| {
                    (number, event.pair.value, event.previous.map(|previous| previous.value))
                };
                all.extend(revision.events.into_iter().map(event));
            }
        }
    }

    #[test]
    fn what_is_compacted_before_it_is_read_can_be_read_all_the_same() {
        let (mut store, mut unread) = (Store::new(), UnreadChanges::default());
        assert_eq!(unread.skip(&store), 1);
        for value in ["a", "b", "c"] {
            apply(&mut store, &mut unread, put(value));
        }
        apply(&mut store, &mut unread, Command::Compact { revision: 3 });
        apply(&mut store, &mut unread, put("d"));
        apply(&mut store, &mut unread, Command::Compact { revision: 5 });
        for _ in 0..10 {
            apply(&mut store, &mut unread, Command::Tick);
        }
        assert!(store.changes(2, 1).is_err(), "the store itself has forgotten it");
        let read = read_all(&mut unread, &store, 2).expect("is set aside");
        let [a, b, c, d] = ["a", "b", "c", "d"].map(|value| Bytes::from_static(value.as_bytes()));
        let expected = [
            (2, a.clone(), None),
            (3, b.clone(), Some(a)),
            (4, c.clone(), Some(b)),
            (5, d, Some(c)),
        ];
        assert_eq!(read, expected);
        assert_eq!((unread.bytes, unread.set_aside.len()), (0, 0));
        apply(&mut store, &mut unread, put("e"));
        assert_eq!(read_all(&mut unread, &store, 6).expect("is there").len(), 1);
    }

    #[test]
    fn nothing_is_set_aside_for_nobody_or_for_one_who_has_read_it() {
        let (mut store, mut unread) = (Store::new(), UnreadChanges::default());
        apply(&mut store, &mut unread, put("a"));
        apply(&mut store, &mut unread, Command::Compact { revision: 2 });
        assert!(unread.set_aside.is_empty());
        unread.skip(&store);
        apply(&mut store, &mut unread, put("b"));
        assert_eq!(read_all(&mut unread, &store, 3).expect("is there").len(), 1);
        apply(&mut store, &mut unread, Command::Compact { revision: 3 });
        assert!(unread.set_aside.is_empty());
    }

    #[test]
    fn a_reader_that_is_too_far_behind_finds_its_changes_compacted() {
        let (mut store, mut unread) = (Store::new(), UnreadChanges::default());
        unread.bytes_max = 300;
        unread.skip(&store);
        for _ in 0..10 {
            apply(&mut store, &mut unread, put("a"));
        }
        apply(&mut store, &mut unread, Command::Compact { revision: 10 });
        assert!(unread.set_aside.is_empty());
        let read = read_all(&mut unread, &store, 2);
        assert_eq!(read, Err(QueryError::Compacted { wanted: 2, compact_revision: 10 }));
    }
}
