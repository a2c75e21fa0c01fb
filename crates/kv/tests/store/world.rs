//! A store with a leader in front of it, and short ways to say what is done to it.

use bytes::Bytes;
use mainstay_kv::{
    Applied, Command, Compare, Delete, ENVELOPE_FORMAT, Envelope, KeyRange, KeyValue, Operand,
    Operation, Origin, Outcome, Proposal, Put, RangeEnd, RangeQuery, Refusal, Relation, Settings,
    Stamp, Store, Txn,
};

pub(crate) const TERM: u64 = 7;

/// A store and what its leader stamps entries with.
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) time_ms: u64,
}

impl World {
    pub(crate) fn new() -> Self {
        Self { store: Store::new(), time_ms: 0 }
    }

    pub(crate) fn with(settings: Settings) -> Self {
        let mut world = Self::new();
        world.done(Command::Configure(settings));
        world
    }

    pub(crate) fn envelope(&self, origin: Origin, command: Command) -> Envelope {
        envelope(self.time_ms, Proposal { origin, ..Proposal::unattributed(command) })
    }

    pub(crate) fn apply(&mut self, origin: Origin, command: Command) -> Applied {
        let envelope = self.envelope(origin, command);
        self.store.apply(envelope, TERM)
    }

    /// Applies a command of nobody in particular.
    pub(crate) fn run(&mut self, command: Command) -> Result<Outcome, Refusal> {
        self.apply(Origin::Unnumbered, command).result
    }

    /// Applies a command that has to be carried out, and returns the revision after it.
    pub(crate) fn done(&mut self, command: Command) -> u64 {
        let applied = self.apply(Origin::Unnumbered, command);
        assert!(applied.result.is_ok(), "{applied:?}");
        applied.revision
    }

    pub(crate) fn put(&mut self, key: &str, value: &str) -> u64 {
        self.done(put(key, value))
    }

    pub(crate) fn delete(&mut self, key: &str) -> u64 {
        self.done(delete(single(key)))
    }

    pub(crate) fn compact(&mut self, revision: u64) {
        self.done(Command::Compact { revision });
    }

    /// Applies ticks until the store has nothing to do that needs no time to pass.
    pub(crate) fn settle(&mut self) {
        while self.store.next_deadline_ms() == Some(0) {
            self.done(Command::Tick);
        }
    }

    /// Moves the clock, and applies a tick there.
    pub(crate) fn tick_at(&mut self, time_ms: u64) {
        self.time_ms = time_ms;
        self.done(Command::Tick);
    }

    pub(crate) fn open_session(&mut self) -> u64 {
        match self.run(Command::SessionOpen) {
            Ok(Outcome::SessionOpened { session }) => session,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<KeyValue> {
        let answer = self.store.range(&RangeQuery::new(single(key))).expect("the present");
        answer.pairs.into_iter().next()
    }

    pub(crate) fn value(&self, key: &str) -> Option<String> {
        self.get(key).map(|pair| String::from_utf8(pair.value.to_vec()).expect("text in tests"))
    }

    /// All keys at a revision, as text.
    pub(crate) fn keys_at(&self, revision: u64) -> Vec<String> {
        let query = RangeQuery { revision, ..RangeQuery::new(KeyRange::all()) };
        keys(&self.store.range(&query).expect("readable").pairs)
    }
}

pub(crate) fn envelope(time_ms: u64, proposal: Proposal) -> Envelope {
    Envelope {
        format: ENVELOPE_FORMAT,
        epoch: 1,
        stamp: Stamp { term: TERM, time_ms },
        wall_ms: time_ms,
        proposal,
    }
}

pub(crate) fn keys(pairs: &[KeyValue]) -> Vec<String> {
    pairs.iter().map(|pair| String::from_utf8(pair.key.to_vec()).expect("text in tests")).collect()
}

pub(crate) fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub(crate) fn single(key: &str) -> KeyRange {
    KeyRange::key(bytes(key))
}

pub(crate) fn before(start: &str, end: &str) -> KeyRange {
    KeyRange { start: bytes(start), end: RangeEnd::Before(bytes(end)) }
}

pub(crate) fn put_of(key: &str, value: &str) -> Put {
    Put { key: bytes(key), value: Some(bytes(value)), lease: Some(0), want_previous: false }
}

pub(crate) fn put(key: &str, value: &str) -> Command {
    Command::Put(put_of(key, value))
}

pub(crate) fn put_leased(key: &str, value: &str, lease: u64) -> Command {
    Command::Put(Put { lease: Some(lease), ..put_of(key, value) })
}

pub(crate) fn delete_of(range: KeyRange) -> Delete {
    Delete { range, want_previous: false }
}

pub(crate) fn delete(range: KeyRange) -> Command {
    Command::Delete(delete_of(range))
}

pub(crate) fn compare(key: &str, relation: Relation, operand: Operand) -> Compare {
    Compare { range: single(key), relation, operand }
}

pub(crate) fn txn(compares: Vec<Compare>, success: Vec<Operation>, failure: Vec<Operation>) -> Txn {
    Txn { compares, success, failure }
}

pub(crate) fn op_put(key: &str, value: &str) -> Operation {
    Operation::Put(put_of(key, value))
}

pub(crate) fn op_delete(range: KeyRange) -> Operation {
    Operation::Delete(delete_of(range))
}

pub(crate) fn op_get(key: &str) -> Operation {
    Operation::Range(RangeQuery::new(single(key)))
}
