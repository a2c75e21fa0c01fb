//! One key of the store, as a model for the search.
//!
//! A key is absent or has a value that some revision wrote; its revisions only grow. What a write of
//! unknown outcome leaves open, its revision, is filled in by the first read that shows it. A key
//! with a lease may be gone at any time after the lease can have ended; whether the lease did end
//! is the lease checker's question. A repeated write is answered from what the first one came to.
//!
//! The model relies on one thing that it cannot see: that the store keeps the outcomes of repeated
//! writes for longer than a run lasts.

use std::collections::BTreeMap;

use super::search::Model;

/// One key.
pub(super) struct KeyModel<'a> {
    /// When each lease can have ended at the earliest, in microseconds; others at any time.
    pub(super) lease_ends_us: &'a BTreeMap<u64, u64>,
}

/// What the key can be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct KeyState {
    /// What there is.
    pub(super) present: Option<Present>,
    /// The store was at this revision at least.
    pub(super) revision: u64,
    /// What writes that are repeated came to, by origin.
    pub(super) kept: BTreeMap<u32, Kept>,
}

/// A key that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Present {
    /// The number of its value.
    pub(super) value: u32,
    /// The lowest revision that can have written it.
    pub(super) earliest: u64,
    /// The highest revision that can have written it; the same as the lowest if that is known.
    pub(super) latest: u64,
    /// Its lease, or 0.
    pub(super) lease: u64,
}

/// What a write came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kept {
    /// The revision that its answer carried or will carry, if it is known.
    revision: Option<u64>,
    did: bool,
}

/// A call on the key and what is known of its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyCall {
    /// What was asked.
    pub(super) act: Act,
    /// The number of its origin, if other calls have the same.
    pub(super) origin: Option<u32>,
    /// What came back, if anything did.
    pub(super) reply: Option<Reply>,
}

/// What was asked of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// To write it.
    Put {
        /// The number of the value.
        value: u32,
        /// The lease, or 0.
        lease: u64,
    },
    /// To delete it.
    Delete,
    /// To write it if it is as expected.
    CompareAndSet {
        /// What it must be.
        expected: Expect,
        /// The number of the value.
        value: u32,
        /// The lease, or 0.
        lease: u64,
    },
    /// To read it.
    Get,
}

/// What a compare expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expect {
    /// No such key.
    Absent,
    /// The key as this revision wrote it.
    ModRevision(u64),
    /// The key with the value of this number.
    Value(u32),
}

/// What came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reply {
    /// Of a call that may write.
    Wrote {
        /// The revision that the answer carries.
        revision: u64,
        /// Whether the key was created, deleted, or as expected.
        did: bool,
    },
    /// Of a read.
    Read {
        /// The store's revision.
        revision: u64,
        /// The number of the value and the revision that wrote it.
        found: Option<(u32, u64)>,
    },
}

impl Model for KeyModel<'_> {
    type State = KeyState;
    type Call = KeyCall;

    fn initial(&self) -> KeyState {
        KeyState { present: None, revision: 0, kept: BTreeMap::new() }
    }

    fn step(&self, state: &KeyState, call: &KeyCall, latest_us: u64, after: &mut Vec<KeyState>) {
        apply(state, call, after);
        if let Some(Present { lease, .. }) = state.present
            && lease != 0
            && self.lease_ends_us.get(&lease).is_none_or(|end_us| *end_us <= latest_us)
        {
            let gone =
                KeyState { present: None, revision: state.revision + 1, kept: state.kept.clone() };
            apply(&gone, call, after);
        }
    }
}

/// The states that the call can leave behind, lease ends aside.
fn apply(state: &KeyState, call: &KeyCall, after: &mut Vec<KeyState>) {
    if let Some((origin, kept)) =
        call.origin.and_then(|origin| Some((origin, *state.kept.get(&origin)?)))
    {
        after.extend(repeat(state, origin, kept, call.reply));
        return;
    }
    match call.act {
        Act::Get => after.extend(read(state, call.reply)),
        Act::Put { value, lease } => {
            let did = state.present.is_none();
            after.extend(write(state, call, did, Some((value, lease))));
        }
        Act::Delete => match state.present {
            Some(_) => after.extend(write(state, call, true, None)),
            None => after.extend(look(state, call)),
        },
        Act::CompareAndSet { expected, value, lease } => {
            for (state, holds) in compare(state, expected) {
                if holds {
                    after.extend(write(&state, call, true, Some((value, lease))));
                } else {
                    after.extend(look(&state, call));
                }
            }
        }
    }
}

/// The answer to a repeated write is that of the first.
fn repeat(state: &KeyState, origin: u32, kept: Kept, reply: Option<Reply>) -> Option<KeyState> {
    let Some(Reply::Wrote { revision, did }) = reply else {
        return reply.is_none().then(|| state.clone());
    };
    if did != kept.did || kept.revision.is_some_and(|kept| kept != revision) {
        return None;
    }
    let mut state = state.clone();
    state.kept.insert(origin, Kept { revision: Some(revision), did });
    Some(state)
}

/// A call that writes the key, or deletes it if there is nothing to write.
fn write(
    state: &KeyState,
    call: &KeyCall,
    did: bool,
    value: Option<(u32, u64)>,
) -> Option<KeyState> {
    let mut next = state.clone();
    let (earliest, latest) = match call.reply {
        Some(Reply::Wrote { revision, did: told }) => {
            if told != did || revision <= state.revision {
                return None;
            }
            (revision, revision)
        }
        Some(Reply::Read { .. }) => return None,
        None => (state.revision + 1, u64::MAX),
    };
    next.revision = earliest;
    next.present = value.map(|(value, lease)| Present { value, earliest, latest, lease });
    keep(&mut next, call, did);
    Some(next)
}

/// A call that finds that it has nothing to do.
fn look(state: &KeyState, call: &KeyCall) -> Option<KeyState> {
    let mut next = match call.reply {
        Some(Reply::Wrote { did: true, .. } | Reply::Read { .. }) => return None,
        Some(Reply::Wrote { revision, did: false }) => seen_at(state, revision)?,
        None => state.clone(),
    };
    keep(&mut next, call, false);
    Some(next)
}

fn read(state: &KeyState, reply: Option<Reply>) -> Option<KeyState> {
    let Some(Reply::Read { revision, found }) = reply else { return None };
    let next = seen_at(state, revision)?;
    match (next.present, found) {
        (None, None) => Some(next),
        (Some(present), Some((value, mod_revision))) if present.value == value => {
            narrow(&next, mod_revision, mod_revision)
        }
        _ => None,
    }
}

/// The state, known to have been the store's at `revision`.
fn seen_at(state: &KeyState, revision: u64) -> Option<KeyState> {
    if revision < state.revision {
        return None;
    }
    let mut next = narrow(state, 0, revision)?;
    next.revision = revision;
    Some(next)
}

/// Whether a compare holds; if that is open, each possibility with the state in which it is so.
fn compare(state: &KeyState, expected: Expect) -> Vec<(KeyState, bool)> {
    let holds = match (expected, state.present) {
        (Expect::Absent, present) => present.is_none(),
        (Expect::Value(value), present) => present.is_some_and(|present| present.value == value),
        (Expect::ModRevision(_), None) => false,
        (Expect::ModRevision(wanted), Some(_)) => {
            let below = narrow(state, 0, wanted.saturating_sub(1)).map(|state| (state, false));
            let same = narrow(state, wanted, wanted).map(|state| (state, true));
            let above = narrow(state, wanted + 1, u64::MAX).map(|state| (state, false));
            return [below, same, above].into_iter().flatten().collect();
        }
    };
    vec![(state.clone(), holds)]
}

/// The state, given that what is present was written in this range; `None` if it cannot have been.
fn narrow(state: &KeyState, earliest: u64, latest: u64) -> Option<KeyState> {
    let mut next = state.clone();
    if let Some(present) = &mut next.present {
        present.earliest = present.earliest.max(earliest);
        present.latest = present.latest.min(latest);
        if present.earliest > present.latest {
            return None;
        }
        next.revision = next.revision.max(present.earliest);
    }
    Some(next)
}

fn keep(state: &mut KeyState, call: &KeyCall, did: bool) {
    if let Some(origin) = call.origin {
        let revision = match call.reply {
            Some(Reply::Wrote { revision, .. }) => Some(revision),
            _ => None,
        };
        state.kept.insert(origin, Kept { revision, did });
    }
}
