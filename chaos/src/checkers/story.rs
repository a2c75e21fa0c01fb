//! Short histories for tests, one line a call.

use bytes::Bytes;

use crate::history::{
    Answer, Call, Consistency, Expected, Found, History, Operation, Origin, Outcome, Staleness,
    WatchEvent, WatchMessage, Watched,
};

/// A call with the times of its invocation and its answer, and what came of it.
pub(super) type Told = (u64, u64, Call, Outcome);

/// The calls as a history, each of a client of its own, all on node 0.
pub(super) fn history(calls: Vec<Told>) -> History {
    let mut operations: Vec<Operation> = calls
        .into_iter()
        .zip(0..)
        .map(|((invoked_us, returned_us, call, outcome), client)| Operation {
            client,
            node: 0,
            invoked_us,
            returned_us: Some(returned_us),
            call,
            outcome,
        })
        .collect();
    operations.sort_by_key(|operation| operation.invoked_us);
    History { operations, ..History::default() }
}

/// Adds a message of a watch on everything: at a time, of a revision.
pub(super) fn watch(
    history: &mut History,
    watcher: u32,
    at_us: u64,
    revision: u64,
    events: &[(&str, Option<&str>)],
) {
    let events = events
        .iter()
        .map(|(key, value)| WatchEvent { key: bytes(key), value: value.map(bytes) })
        .collect();
    let message = WatchMessage::Changed { revision, events };
    history.watched(Watched { watcher, node: 0, at_us, resumed_from: None, message });
}

pub(super) fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub(super) fn put(key: &str, value: &str) -> Call {
    leased(key, value, 0)
}

pub(super) fn leased(key: &str, value: &str, lease: u64) -> Call {
    Call::Put { key: bytes(key), value: bytes(value), lease, origin: Origin::Unnumbered }
}

pub(super) fn keyed(key: &str, value: &str, origin: &str) -> Call {
    Call::Put { key: bytes(key), value: bytes(value), lease: 0, origin: Origin::Key(bytes(origin)) }
}

pub(super) fn delete(key: &str) -> Call {
    Call::Delete { key: bytes(key), origin: Origin::Unnumbered }
}

pub(super) fn get(key: &str) -> Call {
    Call::Get { key: bytes(key), consistency: Consistency::Linearizable }
}

pub(super) fn stale_get(key: &str) -> Call {
    Call::Get { key: bytes(key), consistency: Consistency::Stale }
}

pub(super) fn swap(key: &str, expected: Expected, value: &str) -> Call {
    lock(key, expected, value, 0)
}

pub(super) fn lock(key: &str, expected: Expected, value: &str, lease: u64) -> Call {
    Call::CompareAndSet {
        key: bytes(key),
        expected,
        value: bytes(value),
        lease,
        origin: Origin::Unnumbered,
    }
}

pub(super) const fn ok(revision: u64, answer: Answer) -> Outcome {
    Outcome::Ok { revision, repeated: false, answer }
}

pub(super) const fn created(revision: u64) -> Outcome {
    ok(revision, Answer::Put { created: true })
}

pub(super) const fn overwritten(revision: u64) -> Outcome {
    ok(revision, Answer::Put { created: false })
}

/// The answer to a repeated put that created the key.
pub(super) const fn repeated(revision: u64) -> Outcome {
    Outcome::Ok { revision, repeated: true, answer: Answer::Put { created: true } }
}

pub(super) const fn compared(revision: u64, succeeded: bool) -> Outcome {
    ok(revision, Answer::Compared { succeeded })
}

pub(super) const fn deleted(revision: u64, deleted: bool) -> Outcome {
    ok(revision, Answer::Deleted { deleted })
}

pub(super) const fn nothing(revision: u64) -> Outcome {
    ok(revision, Answer::Got { found: None, staleness: None })
}

pub(super) fn found(revision: u64, value: &str, mod_revision: u64) -> Outcome {
    let found = Some(Found { value: bytes(value), mod_revision });
    ok(revision, Answer::Got { found, staleness: None })
}

/// The answer to a stale read that found nothing.
pub(super) const fn stale(revision: u64, staleness: Staleness) -> Outcome {
    ok(revision, Answer::Got { found: None, staleness: Some(staleness) })
}

pub(super) const fn kept_alive(revision: u64, ttl_ms: Option<u64>) -> Outcome {
    ok(revision, Answer::LeaseKeptAlive { ttl_ms })
}

pub(super) const fn granted(lease: u64, ttl_ms: u64) -> Outcome {
    ok(1, Answer::LeaseGranted { lease, ttl_ms })
}

pub(super) fn refused() -> Outcome {
    Outcome::Refused { code: "overloaded".to_owned() }
}
