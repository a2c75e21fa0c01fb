//! The store: one deterministic state machine over keys, leases, sessions and settings.
//!
//! [`Store::apply`] takes entry after entry and changes the state; everything else reads. An
//! entry goes through the same steps on every replica: count it, move the clock, end due leases
//! and sessions, free a bounded part of what was compacted, answer from the tables if the request
//! was there before, and only then do what it asks for.
//!
//! The store has no clock, no log and no lock of its own. Whoever owns it applies entries in the
//! order of the replicated log and keeps readers away meanwhile.

use std::fmt;

use bytes::Bytes;

use crate::{
    changes::Changes,
    command::{Command, KeyRange, Txn},
    compaction::sweep_budget,
    envelope::{Envelope, Origin, Proposal},
    idempotency::{IDEMPOTENCY_KEY_LEN_MAX, IdempotencyTable, scoped_key},
    import::import_hash,
    kept_outcome::{KeptOutcome, request_digest},
    keyspace::Keyspace,
    lease::{LeaseTable, LeaseView},
    outcome::{Applied, KeepAlive, Outcome, Refusal, TxnOutcome},
    query::{PartialCount, QueryError, RangeAnswer, RangeQuery},
    session::{Admission, SessionTable},
    settings::Settings,
    snapshot::Pin,
    space::Space,
    state_hash::{RowHasher, RowKind, StateHash},
    transaction::{self, Check, Run},
    version::ROW_OVERHEAD_BYTES,
};

/// Leases that end with one entry.
const ENDED_LEASES_MAX: usize = 1_000;

/// How much later than due a tick is asked for on behalf of sessions and idempotency keys, in
/// milliseconds. They are forgotten in time without it; the tick only frees memory, and one of
/// them serves all that became due meanwhile.
const REMOVAL_SLACK_MS: u64 = 1_000;

/// How much scratch space is kept from one entry to the next.
const SCRATCH_BYTES_MAX: usize = 64 * 1024;

/// The replicated state machine.
pub struct Store {
    pub(crate) keyspace: Keyspace,
    pub(crate) leases: LeaseTable,
    pub(crate) sessions: SessionTable,
    pub(crate) idempotency: IdempotencyTable,
    settings: Settings,
    settings_hash: StateHash,
    pub(crate) sequence: u64,
    pub(crate) clock_ms: u64,
    pub(crate) wall_ms: u64,
    /// What is being imported, if anything is.
    pub(crate) import_source: Option<u64>,
    /// A running snapshot walk.
    pub(crate) pin: Option<Pin>,
    /// Running walks of the history.
    pub(crate) history_pins: Vec<Pin>,
    /// Encoding space; empty between entries as far as anybody can tell.
    scratch: Vec<u8>,
}

impl Store {
    /// The store before the first entry: no keys, revision 1, nothing compacted, sequence 0, the
    /// clock at 0 and default settings.
    #[must_use]
    pub fn new() -> Self {
        let mut store = Self {
            keyspace: Keyspace::new(),
            leases: LeaseTable::default(),
            sessions: SessionTable::default(),
            idempotency: IdempotencyTable::default(),
            settings: Settings::default(),
            settings_hash: StateHash::default(),
            sequence: 0,
            clock_ms: 0,
            wall_ms: 0,
            import_source: None,
            pin: None,
            history_pins: Vec::new(),
            scratch: Vec::new(),
        };
        store.set_settings(Settings::default());
        store
    }

    /// Applies the next entry of the log, which was written in `entry_term`, and says what it
    /// came to. It never fails as a whole: what cannot be done is an outcome too.
    pub fn apply(&mut self, envelope: Envelope, entry_term: u64) -> Applied {
        self.sequence += 1;
        self.wall_ms = self.wall_ms.max(envelope.wall_ms);
        // A stamp of another term was read by a leader that no longer is, at a clock that the
        // present leader knows nothing of.
        if envelope.stamp.term == entry_term {
            self.clock_ms = self.clock_ms.max(envelope.stamp.time_ms);
        }
        let Proposal { principal, origin, command, .. } = envelope.proposal;
        self.keep_house(&command);
        let applied = match origin {
            Origin::Unnumbered => self.run(command),
            Origin::Session { session, number, lowest_awaited } => {
                self.run_numbered((session, number, lowest_awaited), command)
            }
            Origin::Key(key) => self.run_keyed(&principal, &key, command),
        };
        if self.scratch.capacity() > SCRATCH_BYTES_MAX {
            self.scratch = Vec::new();
        }
        applied
    }

    /// How many envelopes were applied.
    #[must_use]
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The revision of the newest write.
    #[must_use]
    pub const fn revision(&self) -> u64 {
        self.keyspace.revision
    }

    /// The lowest readable revision; 0 while nothing was compacted.
    #[must_use]
    pub const fn compact_revision(&self) -> u64 {
        self.keyspace.compact_revision
    }

    /// The replicated clock in milliseconds.
    #[must_use]
    pub const fn clock_ms(&self) -> u64 {
        self.clock_ms
    }

    /// The leader's wall clock at the newest entry, in milliseconds since 1970; for people.
    #[must_use]
    pub const fn wall_ms(&self) -> u64 {
        self.wall_ms
    }

    /// The hash of the whole state: equal at equal sequence, or a replica is damaged.
    #[must_use]
    pub fn hash(&self) -> u128 {
        let (sweep_revision, sweep_sub) = self.keyspace.sweep.unwrap_or_default();
        let mut sum = RowHasher::new(RowKind::Position)
            .word(self.sequence)
            .word(self.revision())
            .word(self.compact_revision())
            .word(u64::from(self.keyspace.sweep.is_some()))
            .word(sweep_revision)
            .word(u64::from(sweep_sub))
            .word(self.clock_ms)
            .word(self.wall_ms)
            .finish();
        sum += import_hash(self.import_source);
        sum += self.settings_hash;
        sum += self.keyspace.log.hash();
        sum += self.leases.hash();
        sum += self.sessions.hash();
        sum += self.idempotency.hash();
        sum.value()
    }

    /// The replicated settings.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// How much the store holds.
    #[must_use]
    pub fn space(&self) -> Space {
        let bytes = self.keyspace.bytes
            + self.sessions.bytes()
            + self.idempotency.bytes()
            + self.leases.count() * ROW_OVERHEAD_BYTES;
        Space::new(bytes, &self.settings)
    }

    /// Keys that exist now.
    #[must_use]
    pub const fn key_count(&self) -> u64 {
        self.keyspace.live_count
    }

    /// Versions in memory, old ones and tombstones included.
    #[must_use]
    pub const fn version_count(&self) -> u64 {
        self.keyspace.log.count()
    }

    /// Leases, due ones that wait to be removed included.
    #[must_use]
    pub fn lease_count(&self) -> u64 {
        self.leases.count()
    }

    /// Sessions, ended ones that wait to be removed included.
    #[must_use]
    pub fn session_count(&self) -> u64 {
        self.sessions.count()
    }

    /// Idempotency keys, old ones that wait to be removed included.
    #[must_use]
    pub fn idempotency_key_count(&self) -> u64 {
        self.idempotency.count()
    }

    /// The replicated time from which on a [`Command::Tick`] has something to do; 0 while work
    /// is waiting that needs no time to pass.
    #[must_use]
    pub fn next_deadline_ms(&self) -> Option<u64> {
        if self.keyspace.sweep.is_some() {
            return Some(0);
        }
        let removal = |since_ms: u64, ttl_ms: u64| {
            since_ms.saturating_add(ttl_ms).saturating_add(REMOVAL_SLACK_MS)
        };
        let session = self.sessions.first_last_write_ms();
        let key = self.idempotency.first_applied_ms();
        let deadlines = [
            self.leases.first_deadline_ms(),
            session.map(|since_ms| removal(since_ms, self.settings.session_ttl_ms)),
            key.map(|since_ms| removal(since_ms, self.settings.idempotency_ttl_ms)),
        ];
        let deadline_ms = deadlines.into_iter().flatten().min()?;
        Some(if deadline_ms <= self.clock_ms { 0 } else { deadline_ms })
    }

    /// Answers a range query.
    ///
    /// # Errors
    /// [`QueryError`] if the revision is compacted or does not exist yet.
    pub fn range(&self, query: &RangeQuery) -> Result<RangeAnswer, QueryError> {
        self.keyspace.range(query)
    }

    /// As [`Self::range`], but `count` is the number of pairs returned: counting all keys of a
    /// large range costs far more than a page of it.
    ///
    /// # Errors
    /// As [`Self::range`].
    pub fn page(&self, query: &RangeQuery) -> Result<RangeAnswer, QueryError> {
        self.keyspace.page(query)
    }

    /// A part of counting the keys of a range that exist at `revision`, 0 for the present, in at
    /// most about `steps_max` steps, so that a large count need not hold up everything else.
    ///
    /// # Errors
    /// As [`Self::range`].
    pub fn count_part(
        &self,
        range: &KeyRange,
        revision: u64,
        steps_max: usize,
    ) -> Result<PartialCount, QueryError> {
        self.keyspace.count_part(range, revision, steps_max)
    }

    /// Evaluates a transaction that writes nothing; see [`Txn::is_read_only`].
    ///
    /// # Errors
    /// As when it is applied; [`Refusal::Unsupported`] if it would write.
    pub fn read(&self, txn: &Txn) -> Result<TxnOutcome, Refusal> {
        txn.check(&self.settings)?;
        if !txn.is_read_only() {
            return Err(Refusal::Unsupported);
        }
        let choices = self.check().txn(txn)?;
        Ok(transaction::read_only(&self.keyspace, txn, &mut choices.into_iter()))
    }

    /// A lease, if there is one of that id.
    #[must_use]
    pub fn lease(&self, id: u64) -> Option<LeaseView> {
        self.leases.view(id, self.clock_ms)
    }

    /// The ids of all leases, ascending.
    #[must_use]
    pub fn lease_ids(&self) -> Vec<u64> {
        self.leases.rows().map(|(id, ..)| id).collect()
    }

    /// The events of whole revisions from `from_revision` on, in order, until they make up about
    /// `bytes_max` logical bytes: of at least one revision, if there is any.
    ///
    /// # Errors
    /// [`QueryError::Compacted`] if `from_revision` lies below the compaction revision. The
    /// compaction revision itself can still be watched from; the previous values of its events
    /// are gone.
    pub fn changes(&self, from_revision: u64, bytes_max: usize) -> Result<Changes, QueryError> {
        self.keyspace.changes(from_revision, bytes_max)
    }

    /// As [`Store::changes`], but of the keys of `range` only, and without the work for others as
    /// far as that can be. It looks at a bounded number of versions: it may find nothing and still
    /// name a `next_revision` that is not behind the present.
    ///
    /// # Errors
    /// As [`Store::changes`].
    pub fn changes_of(
        &self,
        range: &KeyRange,
        from_revision: u64,
        bytes_max: usize,
    ) -> Result<Changes, QueryError> {
        self.keyspace.changes_of(range, from_revision, bytes_max)
    }

    pub(crate) fn set_settings(&mut self, settings: Settings) {
        self.scratch.clear();
        mainstay_codec::encode_into(&settings, &mut self.scratch)
            .expect("settings are numbers, which can be encoded");
        self.settings_hash = RowHasher::new(RowKind::Settings).bytes(&self.scratch).finish();
        self.settings = settings;
    }

    /// What falls due with time, before the command of the entry.
    fn keep_house(&mut self, command: &Command) {
        self.release_abandoned_walk();
        self.release_abandoned_histories();
        for _ in 0..ENDED_LEASES_MAX {
            let Some(id) = self.leases.first_due(self.clock_ms) else { break };
            self.run_parts().end_lease(id);
        }
        self.sessions.remove_ended(self.clock_ms, self.settings.session_ttl_ms);
        self.idempotency.remove_old(self.clock_ms, self.settings.idempotency_ttl_ms);
        self.keyspace.sweep(sweep_budget(command));
    }

    fn run_numbered(&mut self, origin: (u64, u64, u64), command: Command) -> Applied {
        let request = request_digest(&command, &mut self.scratch);
        let ttl_ms = self.settings.session_ttl_ms;
        match self.sessions.admit(origin, request, self.clock_ms, ttl_ms) {
            Err(refusal) => self.applied(Err(refusal)),
            Ok(Admission::Repeated(applied)) => applied,
            Ok(Admission::Run) => {
                let applied = self.run(command);
                if is_kept(&applied) {
                    let kept = KeptOutcome { request, applied: applied.clone() };
                    let digest = kept.digest(&mut self.scratch);
                    let (session, number, _) = origin;
                    self.sessions
                        .keep(session, number, kept, digest)
                        .expect("the write was admitted to a session that lacks its outcome");
                }
                applied
            }
        }
    }

    fn run_keyed(&mut self, principal: &str, key: &Bytes, command: Command) -> Applied {
        if key.is_empty() || key.len() > IDEMPOTENCY_KEY_LEN_MAX {
            return self.applied(Err(Refusal::IdempotencyKeyLength { len: key.len() as u64 }));
        }
        let request = request_digest(&command, &mut self.scratch);
        let key = scoped_key(principal, key);
        let ttl_ms = self.settings.idempotency_ttl_ms;
        if let Some(kept) = self.idempotency.get(&key, self.clock_ms, ttl_ms) {
            return kept.repeat(request).unwrap_or_else(|refusal| self.applied(Err(refusal)));
        }
        if self.idempotency.bytes() >= self.settings.idempotency_bytes_max() {
            let oldest_ms = self.idempotency.first_applied_ms().unwrap_or(self.clock_ms);
            let retry_after_ms =
                oldest_ms.saturating_add(ttl_ms).saturating_sub(self.clock_ms).max(1);
            return self.applied(Err(Refusal::IdempotencyTableFull { retry_after_ms }));
        }
        let applied = self.run(command);
        if is_kept(&applied) {
            let kept = KeptOutcome { request, applied: applied.clone() };
            let digest = kept.digest(&mut self.scratch);
            self.idempotency
                .keep(key, self.clock_ms, kept, digest)
                .expect("every entry has a sequence of its own");
        }
        applied
    }

    fn run(&mut self, command: Command) -> Applied {
        let result = self.outcome(command);
        self.applied(result)
    }

    fn outcome(&mut self, command: Command) -> Result<Outcome, Refusal> {
        if self.settings.read_only && command.is_held_back() {
            return Err(Refusal::ReadOnly);
        }
        if self.import_source.is_some() && command.waits_for_import() {
            return Err(Refusal::Importing);
        }
        command.check(&self.settings)?;
        match command {
            Command::Tick => Ok(Outcome::Ticked),
            Command::Put(put) => {
                self.check().put(&put)?;
                let mut writing = self.keyspace.begin();
                let outcome = self.run_parts().put(&mut writing, put);
                self.keyspace.end(writing);
                Ok(Outcome::Put(outcome))
            }
            Command::Delete(delete) => {
                self.check().delete(&delete)?;
                let mut writing = self.keyspace.begin();
                let outcome = self.run_parts().delete(&mut writing, &delete);
                self.keyspace.end(writing);
                Ok(Outcome::Deleted(outcome))
            }
            Command::Txn(txn) => {
                let choices = self.check().txn(&txn)?;
                let mut writing = self.keyspace.begin();
                let outcome = self.run_parts().txn(&mut writing, txn, &mut choices.into_iter());
                self.keyspace.end(writing);
                Ok(Outcome::Txn(outcome))
            }
            Command::Compact { revision } => {
                self.keyspace.compact(revision)?;
                Ok(Outcome::Compacted { compact_revision: revision })
            }
            Command::LeaseGrant { id, ttl_ms } => {
                let ttl_ms = ttl_ms.max(self.settings.lease_ttl_ms_min);
                let id = self.leases.grant(id, ttl_ms, self.clock_ms, self.sequence)?;
                Ok(Outcome::LeaseGranted { id, ttl_ms })
            }
            Command::LeaseRevoke { id } => {
                let deleted = self.run_parts().end_lease(id);
                let deleted = deleted.ok_or(Refusal::LeaseNotFound { id })?;
                Ok(Outcome::LeaseRevoked { deleted })
            }
            Command::LeaseKeepAlive { ids } => {
                let renew = |id| KeepAlive { id, ttl_ms: self.leases.renew(id, self.clock_ms) };
                Ok(Outcome::KeptAlive(ids.into_iter().map(renew).collect()))
            }
            Command::SessionOpen => {
                self.sessions.open(self.sequence, self.clock_ms)?;
                Ok(Outcome::SessionOpened { session: self.sequence })
            }
            Command::Configure(settings) => {
                let format = self.format_after(settings.format);
                self.set_settings(Settings { format, ..settings });
                Ok(Outcome::Configured)
            }
            Command::RaiseFormat { format } => {
                let format = format.max(self.settings.format);
                self.set_settings(Settings { format, ..self.settings.clone() });
                Ok(Outcome::Configured)
            }
            Command::Import(step) => self.import(step),
            Command::Replicated { .. } => Err(Refusal::Unsupported),
        }
    }

    /// The format after settings that state `stated`: the first settings of a cluster choose it.
    const fn format_after(&self, stated: u64) -> u64 {
        if self.sequence == 1 { stated } else { self.settings.format }
    }

    const fn applied(&self, result: Result<Outcome, Refusal>) -> Applied {
        Applied { sequence: self.sequence, revision: self.revision(), repeated: false, result }
    }

    fn check(&self) -> Check<'_> {
        Check {
            keyspace: &self.keyspace,
            leases: &self.leases,
            settings: &self.settings,
            clock_ms: self.clock_ms,
            space: self.space(),
        }
    }

    const fn run_parts(&mut self) -> Run<'_> {
        Run { keyspace: &mut self.keyspace, leases: &mut self.leases }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Store")
            .field("sequence", &self.sequence)
            .field("revision", &self.revision())
            .field("compact_revision", &self.compact_revision())
            .field("clock_ms", &self.clock_ms)
            .field("keys", &self.key_count())
            .finish_non_exhaustive()
    }
}

fn is_kept(applied: &Applied) -> bool {
    applied.result.as_ref().err().is_none_or(Refusal::is_kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_may_be_shared_and_sent_between_threads() {
        fn check<T: Send + Sync>() {}
        check::<Store>();
    }
}
