//! What is known to have been written, and at which revision.
//!
//! Acknowledged writes say it, watches say it, and reads say it of what they find. Where two of
//! them disagree about a key at a revision, something is wrong. The oracles lean on this table:
//! it costs one pass and finds most violations without a search, in words that name both sides.

use std::{collections::BTreeMap, fmt};

use bytes::Bytes;

use super::{Rule, Violation};
use crate::history::{
    Answer, Call, History, Operation, Outcome, Shown, WatchEvent, WatchMessage, Watched,
};

/// Known writes by key and revision.
#[derive(Debug, Default)]
pub(super) struct Writes<'a> {
    keys: BTreeMap<&'a Bytes, BTreeMap<u64, Write<'a>>>,
    /// The calls that may have written a value to a key.
    writers: BTreeMap<(&'a Bytes, &'a Bytes), Vec<&'a Operation>>,
    /// When the first call of unknown outcome was sent after which the key may be gone: a delete,
    /// or a write with a lease that may have ended since.
    unanswered_us: BTreeMap<&'a Bytes, u64>,
}

/// A known write.
#[derive(Debug, Clone, Copy)]
pub(super) struct Write<'a> {
    /// What was written; `None` for a deletion.
    pub(super) value: Option<&'a Bytes>,
    /// How it is known.
    pub(super) witness: Witness<'a>,
}

/// How a write is known.
#[derive(Debug, Clone, Copy)]
pub(super) enum Witness<'a> {
    /// A call wrote it, or read it.
    Operation(&'a Operation),
    /// A watch told it.
    Watch(&'a Watched),
}

impl Witness<'_> {
    pub(super) const fn at_us(&self) -> u64 {
        match self {
            // Only calls that were answered are witnesses.
            Self::Operation(operation) => operation.settled_us(),
            Self::Watch(watched) => watched.at_us,
        }
    }

    pub(super) const fn node(&self) -> u32 {
        match self {
            Self::Operation(operation) => operation.node,
            Self::Watch(watched) => watched.node,
        }
    }
}

impl fmt::Display for Witness<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operation(operation) => operation.fmt(formatter),
            Self::Watch(watched) => {
                write!(formatter, "watch {} on node {}", watched.watcher, watched.node)
            }
        }
    }
}

impl<'a> Writes<'a> {
    /// Gathers what is known, and what contradicts itself.
    pub(super) fn gather(history: &'a History) -> (Self, Vec<Violation>) {
        let mut writes = Self::default();
        let mut violations = Vec::new();
        for operation in &history.operations {
            if let Some((key, value, _)) = operation.call.write() {
                writes.writers.entry((key, value)).or_default().push(operation);
            }
            if operation.outcome == Outcome::Unknown
                && let Some(key) = may_leave_no_key(&operation.call)
            {
                writes.unanswered_us.entry(key).or_insert(operation.invoked_us);
            }
            if let Some((key, revision, value)) = told(operation) {
                let write = Write { value, witness: Witness::Operation(operation) };
                violations.extend(writes.note(key, revision, write));
            }
        }
        for watched in &history.watched {
            let WatchMessage::Changed { revision, events } = &watched.message else { continue };
            for WatchEvent { key, value } in events {
                let write = Write { value: value.as_ref(), witness: Witness::Watch(watched) };
                violations.extend(writes.note(key, *revision, write));
            }
        }
        (writes, violations)
    }

    fn note(&mut self, key: &'a Bytes, revision: u64, write: Write<'a>) -> Option<Violation> {
        let known = self.keys.entry(key).or_default().entry(revision).or_insert(write);
        if known.value == write.value {
            return None;
        }
        Some(Violation {
            at_us: write.witness.at_us(),
            rule: match write.witness {
                Witness::Operation(_) => Rule::Revisions,
                Witness::Watch(_) => Rule::WatchTruth,
            },
            node: Some(write.witness.node()),
            what: format!(
                "revision {revision} of {} is {} by {}, but {} by {}",
                Shown(key),
                shown(write.value),
                write.witness,
                shown(known.value),
                known.witness
            ),
        })
    }

    /// All keys with their known writes.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'a Bytes, &BTreeMap<u64, Write<'a>>)> {
        self.keys.iter().map(|(key, writes)| (*key, writes))
    }

    /// The newest known write of a key at or before a revision.
    pub(super) fn newest(&self, key: &Bytes, revision: u64) -> Option<(u64, &Write<'a>)> {
        let (revision, write) = self.keys.get(key)?.range(..=revision).next_back()?;
        Some((*revision, write))
    }

    /// The calls that asked to write this value to this key, refused ones too.
    pub(super) fn writers(&self, key: &'a Bytes, value: &'a Bytes) -> &[&'a Operation] {
        self.writers.get(&(key, value)).map_or(&[], Vec::as_slice)
    }

    /// Whether a call that was sent by then, and whose outcome nobody knows, may have deleted the
    /// key.
    pub(super) fn may_be_deleted(&self, key: &Bytes, by_us: u64) -> bool {
        self.unanswered_us.get(key).is_some_and(|sent_us| *sent_us <= by_us)
    }

    /// Whether a key that was written like this can be gone later although no deletion is known:
    /// by a call that got no answer, or by the end of a lease.
    pub(super) fn can_vanish(&self, key: &'a Bytes, value: &'a Bytes) -> bool {
        let writers = self.writers(key, value);
        let leases = writers.iter().filter_map(|writer| Some(writer.call.write()?.2));
        writers.is_empty()
            || self.unanswered_us.contains_key(key)
            || leases.into_iter().any(|lease| lease != 0)
    }
}

/// The write that an operation tells of: its own, or the one that it found.
fn told(operation: &Operation) -> Option<(&Bytes, u64, Option<&Bytes>)> {
    let Outcome::Ok { answer, .. } = &operation.outcome else { return None };
    match (&operation.call, answer) {
        (Call::Get { key, .. }, Answer::Got { found: Some(found), .. }) => {
            Some((key, found.mod_revision, Some(&found.value)))
        }
        (Call::Delete { key, .. }, _) => Some((key, operation.wrote_at()?, None)),
        (call, _) => {
            let (key, value, _) = call.write()?;
            Some((key, operation.wrote_at()?, Some(value)))
        }
    }
}

/// The key that may be gone after the call.
const fn may_leave_no_key(call: &Call) -> Option<&Bytes> {
    match call {
        Call::Delete { key, .. } => Some(key),
        Call::Put { key, lease, .. } | Call::CompareAndSet { key, lease, .. } if *lease != 0 => {
            Some(key)
        }
        _ => None,
    }
}

/// A value for people.
pub(super) fn shown(value: Option<&Bytes>) -> String {
    value.map_or_else(|| "deleted".to_owned(), |value| Shown(value).to_string())
}
