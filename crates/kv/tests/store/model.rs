//! A second store, as naive as can be: a full copy of all keys for every revision, plain maps for
//! everything else, and transactions that work on a copy which is thrown away when they fail.
//!
//! It is slow and forgets nothing, and shares no code with the real one beyond the command types.
//! Where the two disagree, one of them is wrong.

mod importing;
mod paths;
mod reading;

use std::collections::BTreeMap;

use bytes::Bytes;
use mainstay_kv::{
    Applied, Command, Delete, DeleteOutcome, Envelope, Event, EventKind, KeepAlive, KeyRange,
    KeyValue, Operation, OperationOutcome, Origin, Outcome, Put, PutOutcome, QueryError,
    RangeAnswer, RangeEnd, RangeQuery, Refusal, Settings, Txn, TxnOutcome,
};

use paths::{check_path, paths};
use reading::{holds, range};

pub(crate) type Pairs = BTreeMap<Bytes, KeyValue>;

#[derive(Debug, Clone)]
pub(crate) struct Model {
    pub(crate) sequence: u64,
    pub(crate) revision: u64,
    pub(crate) compact_revision: u64,
    pub(crate) clock_ms: u64,
    pub(crate) settings: Settings,
    /// All keys at every revision.
    states: BTreeMap<u64, Pairs>,
    /// All events of every revision that wrote something.
    events: BTreeMap<u64, Vec<Event>>,
    /// What still takes space: (revision, place in it), key, bytes, whether it is a tombstone.
    versions: BTreeMap<(u64, u64), (Bytes, u64, bool)>,
    sweep: Option<(u64, u64)>,
    /// Time to live and deadline.
    leases: BTreeMap<u64, (u64, u64)>,
    sessions: BTreeMap<u64, ModelSession>,
    /// User and key to time, request and outcome.
    keys: BTreeMap<(String, Bytes), (u64, Command, Applied)>,
    pub(crate) import_source: Option<u64>,
}

#[derive(Debug, Clone)]
struct ModelSession {
    last_write_ms: u64,
    lowest_awaited: u64,
    outcomes: BTreeMap<u64, (Command, Applied)>,
}

/// A transaction at work on a copy.
struct Draft {
    revision: u64,
    pairs: Pairs,
    events: Vec<Event>,
}

impl Model {
    pub(crate) fn new() -> Self {
        Self {
            sequence: 0,
            revision: 1,
            compact_revision: 0,
            clock_ms: 0,
            settings: Settings::default(),
            states: BTreeMap::from([(1, Pairs::new())]),
            events: BTreeMap::new(),
            versions: BTreeMap::new(),
            sweep: None,
            leases: BTreeMap::new(),
            sessions: BTreeMap::new(),
            keys: BTreeMap::new(),
            import_source: None,
        }
    }

    pub(crate) fn apply(&mut self, envelope: &Envelope, entry_term: u64) -> Applied {
        self.sequence += 1;
        if envelope.stamp.term == entry_term && envelope.stamp.time_ms > self.clock_ms {
            self.clock_ms = envelope.stamp.time_ms;
        }
        let command = &envelope.proposal.command;
        self.keep_house(command);
        match &envelope.proposal.origin {
            Origin::Unnumbered => self.run(command),
            Origin::Session { session, number, lowest_awaited } => {
                self.run_numbered(*session, *number, *lowest_awaited, command)
            }
            Origin::Key(key) => {
                self.run_keyed(envelope.proposal.principal.clone(), key.clone(), command)
            }
        }
    }

    pub(crate) fn begin_epoch(&mut self) {
        const JUMP: u64 = 1 << 20;
        let pairs = self.states[&self.revision].clone();
        self.sequence += JUMP;
        self.revision += JUMP;
        self.states.insert(self.revision, pairs);
        let from = (self.compact_revision, 0);
        self.sweep = Some(self.sweep.map_or(from, |pending| pending.min(from)));
        self.compact_revision = self.revision;
        for (ttl_ms, deadline_ms) in self.leases.values_mut() {
            *deadline_ms = self.clock_ms + *ttl_ms;
        }
    }

    fn keep_house(&mut self, command: &Command) {
        loop {
            let clock_ms = self.clock_ms;
            let due = self.leases.iter().filter(|(_, (_, deadline_ms))| *deadline_ms <= clock_ms);
            let first = due.map(|(id, (_, deadline_ms))| (*deadline_ms, *id)).min();
            let Some((_, id)) = first else { break };
            self.end_lease(id);
        }
        let ended = self.clock_ms.saturating_sub(self.settings.session_ttl_ms);
        if self.clock_ms >= self.settings.session_ttl_ms {
            self.sessions.retain(|_, session| session.last_write_ms > ended);
        }
        let old = self.clock_ms.saturating_sub(self.settings.idempotency_ttl_ms);
        if self.clock_ms >= self.settings.idempotency_ttl_ms {
            self.keys.retain(|_, (applied_ms, ..)| *applied_ms > old);
        }
        self.sweep(if matches!(command, Command::Tick) { 4_096 } else { 64 });
    }

    /// Frees versions in the order of positions, a bounded number of them.
    fn sweep(&mut self, mut budget: u64) {
        let Some(from) = self.sweep else { return };
        let reach: Vec<_> =
            self.versions.range(from..).map(|(at, version)| (*at, version.clone())).collect();
        for (at, (key, own_bytes, is_tombstone)) in reach {
            if at.0 > self.compact_revision {
                break;
            }
            if budget == 0 {
                self.sweep = Some(at);
                return;
            }
            let older: Vec<_> = self
                .versions
                .range(..at)
                .filter(|(_, (other, ..))| *other == key)
                .map(|(at, (_, bytes, _))| (*at, *bytes))
                .collect();
            let mut freed: u64 = older.iter().map(|(_, bytes)| bytes).sum();
            older.iter().for_each(|(at, _)| drop(self.versions.remove(at)));
            if is_tombstone && at.0 < self.compact_revision {
                self.versions.remove(&at);
                freed += own_bytes;
            }
            budget = budget.saturating_sub(1 + freed / 4_096);
        }
        self.sweep = None;
    }

    fn run_numbered(
        &mut self,
        id: u64,
        number: u64,
        lowest_awaited: u64,
        command: &Command,
    ) -> Applied {
        let clock_ms = self.clock_ms;
        let Some(session) = self.sessions.get_mut(&id) else {
            return self.applied(Err(Refusal::SessionEnded { session: id }));
        };
        if number < session.lowest_awaited || number < lowest_awaited {
            return self.applied(Err(Refusal::SessionNumberForgotten { number }));
        }
        session.last_write_ms = clock_ms;
        session.lowest_awaited = session.lowest_awaited.max(lowest_awaited);
        let lowest_awaited = session.lowest_awaited;
        session.outcomes.retain(|number, _| *number >= lowest_awaited);
        if let Some((known, applied)) = session.outcomes.get(&number) {
            if known != command {
                return self.applied(Err(Refusal::KeyReused));
            }
            return Applied { repeated: true, ..applied.clone() };
        }
        if session.outcomes.len() >= 1_024 {
            return self.applied(Err(Refusal::SessionWindowExceeded { limit: 1_024 }));
        }
        let applied = self.run(command);
        if is_fact(&applied) {
            let session = self.sessions.get_mut(&id).expect("it was there before");
            session.outcomes.insert(number, (command.clone(), applied.clone()));
        }
        applied
    }

    fn run_keyed(&mut self, principal: String, key: Bytes, command: &Command) -> Applied {
        if key.is_empty() || key.len() > 64 {
            return self.applied(Err(Refusal::IdempotencyKeyLength { len: key.len() as u64 }));
        }
        if let Some((_, known, applied)) = self.keys.get(&(principal.clone(), key.clone())) {
            if known != command {
                return self.applied(Err(Refusal::KeyReused));
            }
            return Applied { repeated: true, ..applied.clone() };
        }
        let share = self.settings.quota_bytes * self.settings.idempotency_share_percent / 100;
        if self.key_bytes() >= share {
            let oldest_ms = self.keys.values().map(|(applied_ms, ..)| *applied_ms).min();
            let oldest_ms = oldest_ms.unwrap_or(self.clock_ms);
            let retry_after_ms = oldest_ms + self.settings.idempotency_ttl_ms - self.clock_ms;
            return self.applied(Err(Refusal::IdempotencyTableFull { retry_after_ms }));
        }
        let applied = self.run(command);
        if is_fact(&applied) {
            let row = (self.clock_ms, command.clone(), applied.clone());
            self.keys.insert((principal, key), row);
        }
        applied
    }

    fn run(&mut self, command: &Command) -> Applied {
        let result = self.outcome(command);
        self.applied(result)
    }

    fn applied(&self, result: Result<Outcome, Refusal>) -> Applied {
        Applied { sequence: self.sequence, revision: self.revision, repeated: false, result }
    }

    /// Whether an operator or an import is in the way.
    fn check_that_it_is_taken(&self, command: &Command) -> Result<(), Refusal> {
        let begins = match command {
            Command::Txn(txn) => !txn.is_read_only(),
            Command::Put(_)
            | Command::Delete(_)
            | Command::Compact { .. }
            | Command::LeaseGrant { .. }
            | Command::Import(_)
            | Command::Replicated { .. } => true,
            _ => false,
        };
        if self.settings.read_only && begins {
            return Err(Refusal::ReadOnly);
        }
        let goes_on =
            matches!(command, Command::LeaseRevoke { .. } | Command::LeaseKeepAlive { .. });
        let imports = matches!(command, Command::Import(_));
        if self.import_source.is_some() && (begins || goes_on) && !imports {
            return Err(Refusal::Importing);
        }
        Ok(())
    }

    fn outcome(&mut self, command: &Command) -> Result<Outcome, Refusal> {
        self.check_that_it_is_taken(command)?;
        match command {
            Command::Tick => Ok(Outcome::Ticked),
            Command::Put(put) => {
                let operations = vec![Operation::Put(put.clone())];
                match self.single(operations)? {
                    OperationOutcome::Put(outcome) => Ok(Outcome::Put(outcome)),
                    other => panic!("a put came to {other:?}"),
                }
            }
            Command::Delete(delete) => {
                let operations = vec![Operation::Delete(delete.clone())];
                match self.single(operations)? {
                    OperationOutcome::Deleted(outcome) => Ok(Outcome::Deleted(outcome)),
                    other => panic!("a delete came to {other:?}"),
                }
            }
            Command::Txn(txn) => self.txn(txn).map(Outcome::Txn),
            Command::Compact { revision } => {
                self.readable(*revision)?;
                if *revision <= self.compact_revision {
                    return Err(Refusal::Query(QueryError::Compacted {
                        wanted: *revision,
                        compact_revision: self.compact_revision,
                    }));
                }
                let from = (self.compact_revision, 0);
                self.sweep = Some(self.sweep.map_or(from, |pending| pending.min(from)));
                self.compact_revision = *revision;
                Ok(Outcome::Compacted { compact_revision: *revision })
            }
            Command::LeaseGrant { id, ttl_ms } => {
                let ttl_ms = (*ttl_ms).max(self.settings.lease_ttl_ms_min);
                let limit_ms = 9_000_000_000_000;
                if ttl_ms > limit_ms {
                    return Err(Refusal::LeaseTtlTooLarge { ttl_ms, limit_ms });
                }
                if self.leases.contains_key(id) {
                    return Err(Refusal::LeaseExists { id: *id });
                }
                // An id that the store makes is the one thing that a model cannot know.
                assert_ne!(*id, 0, "the model is given explicit ids");
                self.leases.insert(*id, (ttl_ms, self.clock_ms + ttl_ms));
                Ok(Outcome::LeaseGranted { id: *id, ttl_ms })
            }
            Command::LeaseRevoke { id } => {
                let deleted = self.end_lease(*id).ok_or(Refusal::LeaseNotFound { id: *id })?;
                Ok(Outcome::LeaseRevoked { deleted })
            }
            Command::LeaseKeepAlive { ids } => {
                let clock_ms = self.clock_ms;
                let renew = |id: &u64| {
                    let lease = self.leases.get_mut(id);
                    let ttl_ms = lease.map(|(ttl_ms, deadline_ms)| {
                        *deadline_ms = clock_ms + *ttl_ms;
                        *ttl_ms
                    });
                    KeepAlive { id: *id, ttl_ms }
                };
                Ok(Outcome::KeptAlive(ids.iter().map(renew).collect()))
            }
            Command::SessionOpen => {
                let session = ModelSession {
                    last_write_ms: self.clock_ms,
                    lowest_awaited: 1,
                    outcomes: BTreeMap::new(),
                };
                self.sessions.insert(self.sequence, session);
                Ok(Outcome::SessionOpened { session: self.sequence })
            }
            Command::Configure(settings) => {
                let format =
                    if self.sequence == 1 { settings.format } else { self.settings.format };
                self.settings = Settings { format, ..settings.clone() };
                Ok(Outcome::Configured)
            }
            Command::RaiseFormat { format } => {
                self.settings.format = self.settings.format.max(*format);
                Ok(Outcome::Configured)
            }
            Command::Import(step) => self.import(step),
            Command::Replicated { .. } => Err(Refusal::Unsupported),
        }
    }

    fn single(&mut self, operations: Vec<Operation>) -> Result<OperationOutcome, Refusal> {
        // Not counted against the limit on operations, so the limit must not be in the way.
        let txn = Txn { compares: vec![], success: operations, failure: vec![] };
        let mut outcome = self.txn_limited(&txn, u64::MAX)?;
        Ok(outcome.operations.remove(0))
    }

    fn txn(&mut self, txn: &Txn) -> Result<TxnOutcome, Refusal> {
        self.txn_limited(txn, self.settings.txn_operations_max)
    }

    fn txn_limited(&mut self, txn: &Txn, limit: u64) -> Result<TxnOutcome, Refusal> {
        self.check_shape(txn, limit, 1)?;
        for branch in [&txn.success, &txn.failure] {
            for path in paths(branch) {
                check_path(&path)?;
            }
        }
        let before = self.states[&self.revision].clone();
        let revision = self.revision + 1;
        let mut draft = Draft { revision, pairs: before.clone(), events: vec![] };
        let outcome = self.branch(txn, &before, &mut draft)?;
        let puts = draft.events.iter().any(|event| event.kind == EventKind::Put);
        if puts && self.bytes() >= self.settings.quota_bytes {
            let (bytes, quota_bytes) = (self.bytes(), self.settings.quota_bytes);
            return Err(Refusal::SpaceExceeded { bytes, quota_bytes });
        }
        self.commit(draft);
        Ok(outcome)
    }

    fn commit(&mut self, draft: Draft) {
        if draft.events.is_empty() {
            return;
        }
        self.revision = draft.revision;
        for (place, event) in draft.events.iter().enumerate() {
            let bytes = (event.pair.key.len() + event.pair.value.len()) as u64 + 64;
            let version = (event.pair.key.clone(), bytes, event.kind == EventKind::Delete);
            self.versions.insert((draft.revision, place as u64), version);
        }
        self.states.insert(draft.revision, draft.pairs);
        self.events.insert(draft.revision, draft.events);
    }

    fn branch(&self, txn: &Txn, before: &Pairs, draft: &mut Draft) -> Result<TxnOutcome, Refusal> {
        let succeeded = txn.compares.iter().all(|compare| holds(compare, before));
        let mut operations = vec![];
        for operation in if succeeded { &txn.success } else { &txn.failure } {
            operations.push(match operation {
                Operation::Range(query) => {
                    let pairs = match query.revision {
                        0 => draft.pairs.clone(),
                        revision => self.state_at(revision)?,
                    };
                    OperationOutcome::Range(range(&pairs, query))
                }
                Operation::Put(put) => OperationOutcome::Put(self.put(put, draft)?),
                Operation::Delete(delete) => OperationOutcome::Deleted(remove(delete, draft)),
                Operation::Txn(nested) => {
                    OperationOutcome::Txn(self.branch(nested, before, draft)?)
                }
            });
        }
        Ok(TxnOutcome { succeeded, operations })
    }

    fn put(&self, put: &Put, draft: &mut Draft) -> Result<PutOutcome, Refusal> {
        let previous = draft.pairs.get(&put.key).cloned();
        let kept = || previous.clone().ok_or(Refusal::KeyNotFound);
        let value = match &put.value {
            Some(value) => value.clone(),
            None => kept()?.value,
        };
        let lease = match put.lease {
            Some(lease) => lease,
            None => kept()?.lease,
        };
        if put.lease.is_some_and(|id| id != 0 && !self.leases.contains_key(&id)) {
            return Err(Refusal::LeaseNotFound { id: lease });
        }
        let pair = KeyValue {
            key: put.key.clone(),
            value,
            create_revision: previous.as_ref().map_or(draft.revision, |pair| pair.create_revision),
            mod_revision: draft.revision,
            version: previous.as_ref().map_or(1, |pair| pair.version + 1),
            lease,
        };
        draft.pairs.insert(put.key.clone(), pair.clone());
        draft.events.push(Event { kind: EventKind::Put, pair, previous: previous.clone() });
        let created = previous.is_none();
        Ok(PutOutcome { created, previous: previous.filter(|_| put.want_previous) })
    }

    fn end_lease(&mut self, id: u64) -> Option<u64> {
        self.leases.remove(&id)?;
        let pairs = self.states[&self.revision].clone();
        let keys: Vec<Bytes> =
            pairs.values().filter(|pair| pair.lease == id).map(|pair| pair.key.clone()).collect();
        let mut draft = Draft { revision: self.revision + 1, pairs, events: vec![] };
        for key in &keys {
            remove(&Delete { range: KeyRange::key(key.clone()), want_previous: false }, &mut draft);
        }
        self.commit(draft);
        Some(keys.len() as u64)
    }

    fn check_shape(&self, txn: &Txn, limit: u64, depth: u64) -> Result<(), Refusal> {
        if depth > 16 {
            return Err(Refusal::TooDeep { limit: 16 });
        }
        let count = txn.compares.len().max(txn.success.len()).max(txn.failure.len()) as u64;
        if count > limit {
            return Err(Refusal::TooManyOperations { count, limit });
        }
        let nameless = |range: &KeyRange| match range.end {
            RangeEnd::Single if range.start.is_empty() => Err(Refusal::KeyEmpty),
            _ => Ok(()),
        };
        for compare in &txn.compares {
            nameless(&compare.range)?;
        }
        for operation in txn.success.iter().chain(&txn.failure) {
            match operation {
                Operation::Range(query) => nameless(&query.range)?,
                Operation::Delete(delete) => nameless(&delete.range)?,
                Operation::Txn(nested) => self.check_shape(nested, limit - count, depth + 1)?,
                Operation::Put(put) => {
                    let (key, value) =
                        (put.key.len() as u64, put.value.as_ref().map_or(0, Bytes::len) as u64);
                    if key == 0 {
                        return Err(Refusal::KeyEmpty);
                    }
                    let limit = self.settings.key_bytes_max;
                    if key > limit {
                        return Err(Refusal::KeyTooLarge { len: key, limit });
                    }
                    let limit = self.settings.value_bytes_max;
                    if value > limit {
                        return Err(Refusal::ValueTooLarge { len: value, limit });
                    }
                }
            }
        }
        Ok(())
    }

    fn readable(&self, revision: u64) -> Result<(), QueryError> {
        if revision > self.revision {
            return Err(QueryError::Future { wanted: revision, revision: self.revision });
        }
        if revision < self.compact_revision {
            let compact_revision = self.compact_revision;
            return Err(QueryError::Compacted { wanted: revision, compact_revision });
        }
        Ok(())
    }

    fn state_at(&self, revision: u64) -> Result<Pairs, QueryError> {
        self.readable(revision)?;
        let (_, pairs) = self.states.range(..=revision).next_back().expect("revision 1 is there");
        Ok(pairs.clone())
    }

    pub(crate) fn range(&self, query: &RangeQuery) -> Result<RangeAnswer, QueryError> {
        let revision = if query.revision == 0 { self.revision } else { query.revision };
        Ok(range(&self.state_at(revision)?, query))
    }

    /// All events from a revision on.
    pub(crate) fn changes(&self, from: u64) -> Result<Vec<(u64, Vec<Event>)>, QueryError> {
        if from < self.compact_revision {
            let compact_revision = self.compact_revision;
            return Err(QueryError::Compacted { wanted: from, compact_revision });
        }
        let visible = |(revision, events): (&u64, &Vec<Event>)| {
            let events = events.iter().cloned().map(|event| Event {
                previous: event.previous.filter(|_| *revision > self.compact_revision),
                ..event
            });
            (*revision, events.collect())
        };
        Ok(self.events.range(from..).map(visible).collect())
    }

    pub(crate) fn lease_keys(&self, id: u64) -> Vec<Bytes> {
        let pairs = self.states[&self.revision].values();
        pairs.filter(|pair| pair.lease == id).map(|pair| pair.key.clone()).collect()
    }

    pub(crate) fn lease_ids(&self) -> Vec<u64> {
        self.leases.keys().copied().collect()
    }

    pub(crate) fn key_count(&self) -> u64 {
        self.states[&self.revision].len() as u64
    }

    pub(crate) fn session_count(&self) -> u64 {
        self.sessions.len() as u64
    }

    pub(crate) fn idempotency_key_count(&self) -> u64 {
        self.keys.len() as u64
    }

    /// Every version that still takes space, in order: where it stands, what it says, and whether
    /// it is a deletion.
    pub(crate) fn history(&self) -> Vec<((u64, u64), KeyValue, bool)> {
        let version = |at: &(u64, u64)| {
            let place = usize::try_from(at.1).expect("a place in a list");
            let event = &self.events[&at.0][place];
            (*at, event.pair.clone(), event.kind == EventKind::Delete)
        };
        self.versions.keys().map(version).collect()
    }

    /// The time to live that each lease was granted, by id.
    pub(crate) fn lease_ttls(&self) -> Vec<(u64, u64)> {
        self.leases.iter().map(|(id, (ttl_ms, _deadline_ms))| (*id, *ttl_ms)).collect()
    }

    /// Whether all is freed that nobody may read.
    pub(crate) const fn is_swept(&self) -> bool {
        self.sweep.is_none()
    }

    pub(crate) fn version_count(&self) -> u64 {
        self.versions.len() as u64
    }

    pub(crate) fn bytes(&self) -> u64 {
        let versions: u64 = self.versions.values().map(|(_, bytes, _)| bytes).sum();
        let outcomes = self.sessions.values().flat_map(|session| session.outcomes.values());
        let outcomes: u64 = outcomes.map(|(_, applied)| outcome_bytes(applied)).sum();
        let rows = (self.sessions.len() + self.leases.len()) as u64 * 64;
        versions + outcomes + rows + self.key_bytes()
    }

    fn key_bytes(&self) -> u64 {
        let rows = self.keys.iter();
        let bytes = rows.map(|((principal, key), (.., applied))| {
            8 + (principal.len() + key.len()) as u64 + outcome_bytes(applied)
        });
        bytes.sum()
    }

    pub(crate) fn next_deadline_ms(&self) -> Option<u64> {
        if self.sweep.is_some() {
            return Some(0);
        }
        let leases = self.leases.values().map(|(_, deadline_ms)| *deadline_ms);
        let sessions = self.sessions.values();
        let sessions =
            sessions.map(|session| session.last_write_ms + self.settings.session_ttl_ms + 1_000);
        let keys = self.keys.values();
        let keys =
            keys.map(|(applied_ms, ..)| applied_ms + self.settings.idempotency_ttl_ms + 1_000);
        let deadline_ms = leases.chain(sessions).chain(keys).min()?;
        Some(if deadline_ms > self.clock_ms { deadline_ms } else { 0 })
    }
}

/// An outcome with its request's digest of 128 bits, encoded, and what every row counts for.
fn outcome_bytes(applied: &Applied) -> u64 {
    17 + mainstay_codec::encode(applied).expect("encodes").len() as u64 + 64
}

fn is_fact(applied: &Applied) -> bool {
    !matches!(
        applied.result,
        Err(Refusal::SpaceExceeded { .. }
            | Refusal::ReadOnly
            | Refusal::Import(_)
            | Refusal::Importing
            | Refusal::Unsupported
            | Refusal::TooManySessions { .. }
            | Refusal::TooManyLeases { .. })
    )
}

fn remove(delete: &Delete, draft: &mut Draft) -> DeleteOutcome {
    let gone: Vec<KeyValue> =
        draft.pairs.values().filter(|pair| delete.range.contains(&pair.key)).cloned().collect();
    for pair in &gone {
        draft.pairs.remove(&pair.key);
        let tombstone = KeyValue {
            key: pair.key.clone(),
            value: Bytes::new(),
            create_revision: 0,
            mod_revision: draft.revision,
            version: 0,
            lease: 0,
        };
        let previous = Some(pair.clone());
        draft.events.push(Event { kind: EventKind::Delete, pair: tombstone, previous });
    }
    let deleted = gone.len() as u64;
    DeleteOutcome { deleted, previous: if delete.want_previous { gone } else { vec![] } }
}
