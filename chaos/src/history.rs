//! What clients did and saw: the evidence that the checkers judge.
//!
//! A client notes every call before it is sent and once more when it is answered, so that the real
//! time order of calls is known. What a node refused had certainly no effect; what got no answer,
//! or an answer that does not settle it, is unknown: it may have happened, may yet happen, or
//! never. Watches note every message as it came.
//!
//! Nothing here is judged, and nothing knows how the calls travelled. A call that a client library
//! repeated by itself is one operation, from the first attempt to the last answer; a call that the
//! scenario repeated with the same [`Origin`] is two.

use std::fmt;

use bytes::Bytes;

use crate::timeline::Seconds;

/// Everything that the clients of one run did and saw.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// The calls, in the order of their invocation.
    pub operations: Vec<Operation>,
    /// The watches that were opened.
    pub watchers: Vec<Watcher>,
    /// The messages of the watches, in the order of their arrival.
    pub watched: Vec<Watched>,
    /// What came over streams of etcd's protocol, in the order of its arrival, as it came.
    pub streamed: Vec<Streamed>,
    /// The refusals that came over etcd's protocol.
    pub statuses: Vec<Status>,
}

/// The place of an operation in its history, for noting the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct OperationId(usize);

impl History {
    /// Notes a call that is about to be sent. Its outcome is unknown until [`Self::returned`].
    ///
    /// # Panics
    /// If time went backwards: calls are noted in the order of their invocation.
    pub fn invoked(&mut self, at_us: u64, client: u32, node: u32, call: Call) -> OperationId {
        assert!(
            self.operations.last().is_none_or(|last| last.invoked_us <= at_us),
            "calls are noted in the order of their invocation"
        );
        self.operations.push(Operation {
            client,
            node,
            invoked_us: at_us,
            returned_us: None,
            call,
            outcome: Outcome::Unknown,
        });
        OperationId(self.operations.len() - 1)
    }

    /// Notes how a call ended. An unknown outcome ends the client's wait, not the operation.
    ///
    /// # Panics
    /// If the call was answered before, or is of another history.
    pub fn returned(&mut self, at_us: u64, id: OperationId, outcome: Outcome) {
        let operation = &mut self.operations[id.0];
        assert!(operation.returned_us.is_none(), "a call is answered once");
        operation.returned_us = Some(at_us);
        operation.outcome = outcome;
    }

    /// The operation that was noted under `id`.
    ///
    /// # Panics
    /// If it is of another history.
    pub fn operation_mut(&mut self, id: OperationId) -> &mut Operation {
        &mut self.operations[id.0]
    }

    /// Notes a watch that is opened now, and returns its number.
    ///
    /// # Panics
    /// If there are 2^32 of them.
    pub fn watch_opened(&mut self, prefix: Bytes, from_revision: u64) -> u32 {
        let watcher = u32::try_from(self.watchers.len()).expect("a run opens few watches");
        self.watchers.push(Watcher { watcher, prefix, from_revision });
        watcher
    }

    /// Notes a message of a watch.
    pub fn watched(&mut self, message: Watched) {
        self.watched.push(message);
    }
}

/// One call of one client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// Who called. A client that waits for one answer at a time may still have several calls open:
    /// those that it gave up on.
    pub client: u32,
    /// The node that was asked last.
    pub node: u32,
    /// When the call was sent first, in simulated microseconds.
    pub invoked_us: u64,
    /// When the client stopped waiting, in simulated microseconds; `None` while it waits.
    pub returned_us: Option<u64>,
    /// What was asked.
    pub call: Call,
    /// How it ended, as far as the client knows.
    pub outcome: Outcome,
}

impl Operation {
    /// When the effect, if any, was certainly over: at the answer if there was one, else never.
    #[must_use]
    pub const fn settled_us(&self) -> u64 {
        match (&self.outcome, self.returned_us) {
            (Outcome::Ok { .. } | Outcome::Refused { .. }, Some(at_us)) => at_us,
            _ => u64::MAX,
        }
    }

    /// The revision and the answer, if the call was carried out.
    #[must_use]
    pub const fn answer(&self) -> Option<(u64, &Answer)> {
        match &self.outcome {
            Outcome::Ok { revision, answer, .. } => Some((*revision, answer)),
            Outcome::Refused { .. } | Outcome::Unknown => None,
        }
    }

    /// The revision at which this call certainly wrote, if it certainly did.
    #[must_use]
    pub const fn wrote_at(&self) -> Option<u64> {
        match self.answer() {
            Some((
                revision,
                Answer::Put { .. }
                | Answer::Deleted { deleted: true }
                | Answer::Compared { succeeded: true }
                | Answer::LeaseRevoked { deleted: 1.. },
            )) => Some(revision),
            _ => None,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client, node, invoked_us, returned_us, call, outcome } = self;
        write!(formatter, "client {client}'s {call} on node {node} [{}, ", Seconds(*invoked_us))?;
        match returned_us {
            Some(returned_us) => write!(formatter, "{}], {outcome}", Seconds(*returned_us)),
            None => write!(formatter, "...], {outcome}"),
        }
    }
}

/// What a client asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// Write a key.
    Put {
        /// The key.
        key: Bytes,
        /// The value; the checkers are sharpest when no two writes of a run have the same.
        value: Bytes,
        /// The lease to attach, 0 for none.
        lease: u64,
        /// What makes a repetition recognisable.
        origin: Origin,
    },
    /// Read a key.
    Get {
        /// The key.
        key: Bytes,
        /// How fresh the answer must be.
        consistency: Consistency,
    },
    /// Delete a key.
    Delete {
        /// The key.
        key: Bytes,
        /// What makes a repetition recognisable.
        origin: Origin,
    },
    /// Write a key if it is as expected, in one transaction.
    CompareAndSet {
        /// The key.
        key: Bytes,
        /// What it must be.
        expected: Expected,
        /// The value to write then.
        value: Bytes,
        /// The lease to attach then, 0 for none.
        lease: u64,
        /// What makes a repetition recognisable.
        origin: Origin,
    },
    /// Grant a lease.
    LeaseGrant {
        /// The time to live asked for, in milliseconds.
        ttl_ms: u64,
    },
    /// Renew a lease.
    LeaseKeepAlive {
        /// The lease.
        lease: u64,
    },
    /// End a lease and delete its keys.
    LeaseRevoke {
        /// The lease.
        lease: u64,
    },
    /// Ask how long a lease has to live.
    LeaseTimeToLive {
        /// The lease.
        lease: u64,
    },
    /// Forget what was before a revision.
    Compact {
        /// The lowest revision that can be read afterwards.
        revision: u64,
    },
}

impl Call {
    /// The key that the call is about, if it is about one.
    #[must_use]
    pub const fn key(&self) -> Option<&Bytes> {
        match self {
            Self::Put { key, .. }
            | Self::Get { key, .. }
            | Self::Delete { key, .. }
            | Self::CompareAndSet { key, .. } => Some(key),
            Self::LeaseGrant { .. }
            | Self::LeaseKeepAlive { .. }
            | Self::LeaseRevoke { .. }
            | Self::LeaseTimeToLive { .. }
            | Self::Compact { .. } => None,
        }
    }

    /// The key, value and lease that the call writes, or may write.
    #[must_use]
    pub const fn write(&self) -> Option<(&Bytes, &Bytes, u64)> {
        match self {
            Self::Put { key, value, lease, .. } | Self::CompareAndSet { key, value, lease, .. } => {
                Some((key, value, *lease))
            }
            _ => None,
        }
    }

    /// What makes a repetition recognisable.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        match self {
            Self::Put { origin, .. }
            | Self::Delete { origin, .. }
            | Self::CompareAndSet { origin, .. } => origin,
            _ => &Origin::Unnumbered,
        }
    }
}

/// What makes a repeated write recognisable to the store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// Nothing: it happens as often as it is committed.
    Unnumbered,
    /// An idempotency key.
    Key(Bytes),
    /// A numbered write of a session.
    Session {
        /// The session.
        session: u64,
        /// The write's number in it.
        number: u64,
    },
}

/// How fresh an answer must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consistency {
    /// As fresh as anything acknowledged before the call.
    Linearizable,
    /// As old as the answer says.
    Stale,
    /// As it was at this revision; the answer is as fresh as a linearizable one.
    Past(u64),
}

/// What a compare-and-set expects to find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// No such key.
    Absent,
    /// The key as this revision wrote it.
    ModRevision(u64),
    /// The key with this value.
    Value(Bytes),
}

/// How a call ended, as far as the client knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was carried out. A compare that did not hold was carried out too.
    Ok {
        /// The store's revision that the answer carries: of the write, or of the state read.
        revision: u64,
        /// Whether the store says that it answers a repetition.
        repeated: bool,
        /// What came back.
        answer: Answer,
    },
    /// It had certainly no effect, and never will.
    Refused {
        /// The code of the refusal.
        code: String,
    },
    /// It may have had an effect, or may yet.
    Unknown,
}

/// What a call that was carried out came back with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Of a put.
    Put {
        /// Whether the key did not exist before.
        created: bool,
    },
    /// Of a get.
    Got {
        /// What was there, if anything.
        found: Option<Found>,
        /// How old the answer is by its own word; `None` for a linearizable one.
        staleness: Option<Staleness>,
    },
    /// Of a delete.
    Deleted {
        /// Whether there was such a key.
        deleted: bool,
    },
    /// Of a compare-and-set.
    Compared {
        /// Whether the key was as expected and so was written.
        succeeded: bool,
    },
    /// Of a lease grant.
    LeaseGranted {
        /// The lease.
        lease: u64,
        /// The time to live granted, in milliseconds.
        ttl_ms: u64,
    },
    /// Of a keep-alive.
    LeaseKeptAlive {
        /// The time to live from now on in milliseconds; `None` if there was no such lease.
        ttl_ms: Option<u64>,
    },
    /// Of a revocation.
    LeaseRevoked {
        /// How many keys went with the lease; 0 if the answer does not say.
        deleted: u64,
    },
    /// Of the question how long a lease has to live.
    LeaseTold {
        /// What is left in milliseconds; `None` if there is no such lease.
        left_ms: Option<u64>,
    },
    /// Of a compaction.
    Compacted,
}

/// How old a stale answer may be, by its own word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Staleness {
    /// At most this many milliseconds.
    Ms(u64),
    /// It cannot be bounded.
    Unknown,
}

/// A key as a read found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The value.
    pub value: Bytes,
    /// The revision that wrote it.
    pub mod_revision: u64,
}

/// A watch that was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watcher {
    /// Its number.
    pub watcher: u32,
    /// It is told of the keys that start with this.
    pub prefix: Bytes,
    /// The first revision it wants to be told of; at least 1.
    pub from_revision: u64,
}

/// A message of a watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// The watch; see [`History::watch_opened`].
    pub watcher: u32,
    /// The node that sent it.
    pub node: u32,
    /// When it came, in simulated microseconds.
    pub at_us: u64,
    /// Set on the first message of a new connection: the first revision that was asked for there.
    pub resumed_from: Option<u64>,
    /// What it says.
    pub message: WatchMessage,
}

/// What a message of a watch says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchMessage {
    /// All that one revision changed in the watched range.
    Changed {
        /// The revision.
        revision: u64,
        /// The changes, in order.
        events: Vec<WatchEvent>,
    },
    /// All changes up to this revision have been sent.
    Progress {
        /// The revision.
        revision: u64,
    },
    /// The revisions below this one cannot be sent any more; the watch goes on there.
    Compacted {
        /// The lowest revision that can be.
        compact_revision: u64,
    },
}

/// A message of a stream of etcd's watchers, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Streamed {
    /// The stream; each connection has one of its own.
    pub stream: u32,
    /// The watcher in it; `None` if the message is about all of them.
    pub watch_id: Option<i64>,
    /// The node that sent it.
    pub node: u32,
    /// When it came, in simulated microseconds.
    pub at_us: u64,
    /// The revision of its header.
    pub header_revision: u64,
    /// What it says.
    pub message: StreamMessage,
}

/// What a message of a stream of etcd's watchers says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamMessage {
    /// The watcher is there.
    Created {
        /// The first revision that was asked for; 0 for the next one.
        from_revision: u64,
    },
    /// What happened.
    Events(Vec<StreamEvent>),
    /// Nothing but how far it is.
    Progress,
    /// The watcher is gone: what it asked for was compacted.
    Compacted {
        /// The lowest revision that can be watched.
        compact_revision: u64,
    },
    /// The watcher is gone, or never was.
    Cancelled,
}

/// A change as etcd's watchers are told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamEvent {
    /// What was written; of a deletion without a value.
    pub pair: StreamPair,
    /// Whether the key was deleted.
    pub deleted: bool,
    /// What was there before, if the watcher was told.
    pub previous: Option<StreamPair>,
}

/// A key with its revisions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamPair {
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// The revision that created it; 0 for a deletion.
    pub create_revision: u64,
    /// The revision that wrote it.
    pub mod_revision: u64,
    /// How often it was written since it was created; 0 for a deletion.
    pub version: u64,
}

/// A refusal in the words of etcd's protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// When it came, in simulated microseconds.
    pub at_us: u64,
    /// Who sent it.
    pub node: u32,
    /// The name of the code.
    pub code: String,
    /// The text.
    pub text: String,
}

/// A change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchEvent {
    /// The key.
    pub key: Bytes,
    /// The new value; `None` if the key was deleted.
    pub value: Option<Bytes>,
}

impl fmt::Display for Call {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put { key, value, lease, .. } => {
                write!(formatter, "put {}={}", Shown(key), Shown(value))?;
                show_lease(formatter, *lease)?;
            }
            Self::Get { key, consistency: Consistency::Linearizable } => {
                write!(formatter, "get {}", Shown(key))?;
            }
            Self::Get { key, consistency: Consistency::Stale } => {
                write!(formatter, "stale get {}", Shown(key))?;
            }
            Self::Get { key, consistency: Consistency::Past(revision) } => {
                write!(formatter, "get {} of revision {revision}", Shown(key))?;
            }
            Self::Delete { key, .. } => write!(formatter, "delete {}", Shown(key))?,
            Self::CompareAndSet { key, expected, value, lease, .. } => {
                write!(formatter, "if {} is {expected} put {}", Shown(key), Shown(value))?;
                show_lease(formatter, *lease)?;
            }
            Self::LeaseGrant { ttl_ms } => write!(formatter, "grant of a lease of {ttl_ms} ms")?,
            Self::LeaseKeepAlive { lease } => write!(formatter, "keep-alive of lease {lease}")?,
            Self::LeaseRevoke { lease } => write!(formatter, "revocation of lease {lease}")?,
            Self::LeaseTimeToLive { lease } => write!(formatter, "question after lease {lease}")?,
            Self::Compact { revision } => write!(formatter, "compaction to revision {revision}")?,
        }
        match self.origin() {
            Origin::Unnumbered => Ok(()),
            Origin::Key(key) => write!(formatter, " (key {})", Shown(key)),
            Origin::Session { session, number } => {
                write!(formatter, " (write {number} of session {session})")
            }
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => formatter.write_str("absent"),
            Self::ModRevision(revision) => write!(formatter, "of revision {revision}"),
            Self::Value(value) => write!(formatter, "{}", Shown(value)),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (revision, repeated, answer) = match self {
            Self::Refused { code } => return write!(formatter, "refused as {code}"),
            Self::Unknown => return formatter.write_str("outcome unknown"),
            Self::Ok { revision, repeated, answer } => (revision, repeated, answer),
        };
        match answer {
            Answer::Put { created: true } => formatter.write_str("created")?,
            Answer::Put { created: false } => formatter.write_str("overwritten")?,
            Answer::Got { found: None, .. } => formatter.write_str("nothing found")?,
            Answer::Got { found: Some(found), .. } => {
                write!(
                    formatter,
                    "found {} of revision {}",
                    Shown(&found.value),
                    found.mod_revision
                )?;
            }
            Answer::Deleted { deleted: true } => formatter.write_str("deleted")?,
            Answer::Deleted { deleted: false } => formatter.write_str("nothing to delete")?,
            Answer::Compared { succeeded: true } => formatter.write_str("as expected, written")?,
            Answer::Compared { succeeded: false } => formatter.write_str("not as expected")?,
            Answer::LeaseGranted { lease, ttl_ms } => {
                write!(formatter, "lease {lease} of {ttl_ms} ms")?;
            }
            Answer::LeaseKeptAlive { ttl_ms: Some(ttl_ms) } => {
                write!(formatter, "alive for {ttl_ms} ms")?;
            }
            Answer::LeaseKeptAlive { ttl_ms: None } => formatter.write_str("no such lease")?,
            Answer::LeaseRevoked { deleted } => write!(formatter, "ended with {deleted} keys")?,
            Answer::LeaseTold { left_ms: Some(left_ms) } => {
                write!(formatter, "{left_ms} ms are left")?;
            }
            Answer::LeaseTold { left_ms: None } => formatter.write_str("no such lease")?,
            Answer::Compacted => formatter.write_str("compacted")?,
        }
        write!(formatter, ", revision {revision}")?;
        if *repeated {
            formatter.write_str(", a repetition")?;
        }
        match answer {
            Answer::Got { staleness: Some(Staleness::Ms(ms)), .. } => {
                write!(formatter, ", stale by {ms} ms")
            }
            Answer::Got { staleness: Some(Staleness::Unknown), .. } => {
                formatter.write_str(", stale by an unknown time")
            }
            _ => Ok(()),
        }
    }
}

/// A key or value for people: printable, and not longer than a line bears.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a>(pub &'a [u8]);

/// The most characters of a key or value that are shown.
const SHOWN_LEN_MAX: usize = 24;

impl fmt::Display for Shown<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cut = &self.0[..self.0.len().min(SHOWN_LEN_MAX)];
        write!(formatter, "{}", cut.escape_ascii())?;
        if cut.len() < self.0.len() { formatter.write_str("...") } else { Ok(()) }
    }
}

fn show_lease(formatter: &mut fmt::Formatter<'_>, lease: u64) -> fmt::Result {
    if lease == 0 { Ok(()) } else { write!(formatter, " with lease {lease}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get() -> Call {
        Call::Get { key: Bytes::from_static(b"k"), consistency: Consistency::Linearizable }
    }

    #[test]
    fn a_call_without_an_answer_never_settles() {
        let mut history = History::default();
        let id = history.invoked(5, 0, 1, get());
        assert_eq!(history.operations[0].settled_us(), u64::MAX);
        history.returned(9, id, Outcome::Unknown);
        assert_eq!(history.operations[0].settled_us(), u64::MAX);
    }

    #[test]
    fn an_answer_settles_the_call() {
        let mut history = History::default();
        let id = history.invoked(5, 0, 1, get());
        history.returned(9, id, Outcome::Refused { code: "no_leader".to_owned() });
        assert_eq!(history.operations[0].settled_us(), 9);
        assert_eq!(history.operations[0].answer(), None);
    }

    #[test]
    fn an_operation_reads_as_a_line() {
        let operation = Operation {
            client: 2,
            node: 1,
            invoked_us: 1_500_000,
            returned_us: Some(1_512_000),
            call: Call::CompareAndSet {
                key: Bytes::from_static(b"lock"),
                expected: Expected::Absent,
                value: Bytes::from_static(b"me\n"),
                lease: 7,
                origin: Origin::Key(Bytes::from_static(b"k1")),
            },
            outcome: Outcome::Ok {
                revision: 9,
                repeated: true,
                answer: Answer::Compared { succeeded: true },
            },
        };
        assert_eq!(
            operation.to_string(),
            "client 2's if lock is absent put me\\n with lease 7 (key k1) on node 1 \
             [1.500 s, 1.512 s], as expected, written, revision 9, a repetition"
        );
    }

    #[test]
    #[should_panic(expected = "in the order of their invocation")]
    fn calls_are_noted_in_order() {
        let mut history = History::default();
        history.invoked(5, 0, 1, get());
        history.invoked(4, 0, 1, get());
    }
}
