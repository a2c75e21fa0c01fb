//! Sessions: exactly-once writes for clients that number them.
//!
//! A session keeps the outcome of each write whose answer its client still awaits. A write that
//! comes again is answered from there; one whose outcome was given up is refused, and so is any
//! write of a session that ended: neither is ever run.
//!
//! A session ends when the replicated clock has moved by the session's time to live since its
//! last write, by the settings of that moment; it is removed a little later.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use crate::{
    kept_outcome::{KeptOutcome, OutcomeDigest},
    outcome::{Applied, Refusal},
    state_hash::{RowHasher, RowKind, StateHash},
    version::ROW_OVERHEAD_BYTES,
};

/// The most outcomes a session keeps.
pub const SESSION_OUTCOMES_MAX: u64 = 1_024;

/// Logical bytes of outcomes from which on a session takes no new write.
pub const SESSION_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// The most sessions a store holds.
pub const SESSIONS_MAX: u64 = 100_000;

/// Ended sessions and their outcomes that are removed with one entry.
const REMOVED_ROWS_MAX: usize = 4_096;

/// All sessions.
#[derive(Debug, Default)]
pub(crate) struct SessionTable {
    /// Shared with a running snapshot walk; a session is copied when it changes meanwhile.
    sessions: BTreeMap<u64, Arc<Session>>,
    /// (time of the last write, id) of every session.
    by_last_write: BTreeSet<(u64, u64)>,
    bytes: u64,
    hash: StateHash,
}

/// One session.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    id: u64,
    /// The replicated clock at the last write.
    last_write_ms: u64,
    /// Writes below this number are forgotten.
    lowest_awaited: u64,
    /// By number, ascending.
    outcomes: VecDeque<NumberedOutcome>,
    /// Logical bytes of the outcomes.
    outcome_bytes: u64,
    /// The sum of the hashes of the outcomes.
    outcome_hash: StateHash,
    /// The hash of the session without its outcomes.
    row_hash: StateHash,
}

#[derive(Debug, Clone)]
struct NumberedOutcome {
    number: u64,
    kept: KeptOutcome,
    bytes: u64,
    hash: StateHash,
}

/// What is to be done with a numbered write.
pub(crate) enum Admission {
    /// It is new: run it and keep its outcome.
    Run,
    /// It came before.
    Repeated(Applied),
}

impl SessionTable {
    pub(crate) fn open(&mut self, id: u64, clock_ms: u64) -> Result<(), Refusal> {
        if self.count() >= SESSIONS_MAX {
            return Err(Refusal::TooManySessions { limit: SESSIONS_MAX });
        }
        self.insert(id, clock_ms, 1);
        Ok(())
    }

    /// Adds a session without outcomes; there must be none of that id.
    pub(crate) fn insert(&mut self, id: u64, last_write_ms: u64, lowest_awaited: u64) {
        let session = Session {
            id,
            last_write_ms,
            lowest_awaited,
            outcomes: VecDeque::new(),
            outcome_bytes: 0,
            outcome_hash: StateHash::default(),
            row_hash: row_hash(id, last_write_ms, lowest_awaited),
        };
        self.hash += session.row_hash;
        self.bytes += ROW_OVERHEAD_BYTES;
        self.by_last_write.insert((last_write_ms, id));
        let replaced = self.sessions.insert(id, Arc::new(session));
        assert!(replaced.is_none(), "a session's id is the sequence that opened it");
    }

    /// Decides what to do with a numbered write, and notes what it says about earlier ones.
    pub(crate) fn admit(
        &mut self,
        (id, number, lowest_awaited): (u64, u64, u64),
        request: u128,
        clock_ms: u64,
        ttl_ms: u64,
    ) -> Result<Admission, Refusal> {
        let ended = Refusal::SessionEnded { session: id };
        let session = self.sessions.get_mut(&id).ok_or_else(|| ended.clone())?;
        if session.last_write_ms.saturating_add(ttl_ms) <= clock_ms {
            return Err(ended);
        }
        if number < session.lowest_awaited || number < lowest_awaited {
            return Err(Refusal::SessionNumberForgotten { number });
        }
        let session = Arc::make_mut(session);
        if session.last_write_ms != clock_ms {
            self.by_last_write.remove(&(session.last_write_ms, id));
            self.by_last_write.insert((clock_ms, id));
        }
        self.hash -= session.row_hash;
        self.hash -= session.outcome_hash;
        self.bytes -= session.outcome_bytes;
        session.last_write_ms = clock_ms;
        session.forget_below(lowest_awaited);
        session.row_hash = row_hash(id, clock_ms, session.lowest_awaited);
        self.hash += session.row_hash;
        self.hash += session.outcome_hash;
        self.bytes += session.outcome_bytes;
        if let Ok(at) = session.find(number) {
            return session.outcomes[at].kept.repeat(request).map(Admission::Repeated);
        }
        let full = session.outcomes.len() as u64 >= SESSION_OUTCOMES_MAX
            || session.outcome_bytes >= SESSION_BYTES_MAX;
        if full {
            return Err(Refusal::SessionWindowExceeded { limit: SESSION_OUTCOMES_MAX });
        }
        Ok(Admission::Run)
    }

    /// Keeps the outcome of a write that was admitted; `None` if there is no such session, or
    /// it has an outcome of that number.
    pub(crate) fn keep(
        &mut self,
        id: u64,
        number: u64,
        kept: KeptOutcome,
        digest: OutcomeDigest,
    ) -> Option<()> {
        let session = Arc::make_mut(self.sessions.get_mut(&id)?);
        let at = session.find(number).err()?;
        let hash = outcome_hash(id, number, digest.digest);
        session.outcomes.insert(at, NumberedOutcome { number, kept, bytes: digest.bytes, hash });
        session.outcome_bytes += digest.bytes;
        session.outcome_hash += hash;
        self.bytes += digest.bytes;
        self.hash += hash;
        Some(())
    }

    /// Removes sessions that ended, those idle for longest first, a bounded number of rows.
    pub(crate) fn remove_ended(&mut self, clock_ms: u64, ttl_ms: u64) {
        let mut rows = 0;
        while let Some((last_write_ms, id)) = self.by_last_write.first().copied() {
            if rows >= REMOVED_ROWS_MAX || last_write_ms.saturating_add(ttl_ms) > clock_ms {
                return;
            }
            self.by_last_write.pop_first();
            let session = self.sessions.remove(&id).expect("both maps hold the same sessions");
            rows += 1 + session.outcomes.len();
            self.bytes -= session.outcome_bytes + ROW_OVERHEAD_BYTES;
            self.hash -= session.outcome_hash;
            self.hash -= session.row_hash;
        }
    }

    /// The time of the last write of the session that has been idle for longest.
    pub(crate) fn first_last_write_ms(&self) -> Option<u64> {
        self.by_last_write.first().map(|(last_write_ms, _)| *last_write_ms)
    }

    /// All sessions as they are now, by id; they stay so.
    pub(crate) fn share(&self) -> Vec<Arc<Session>> {
        self.sessions.values().cloned().collect()
    }

    /// The session at or after an id.
    pub(crate) fn session_from(&self, id: u64) -> Option<&Session> {
        self.sessions.range(id..).next().map(|(_, session)| &**session)
    }

    pub(crate) fn count(&self) -> u64 {
        self.sessions.len() as u64
    }

    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) const fn hash(&self) -> StateHash {
        self.hash
    }

    /// The hash from the rows of the sessions and what each says its outcomes add up to.
    pub(crate) fn computed_hash(&self) -> StateHash {
        let mut sum = StateHash::default();
        for session in self.sessions.values() {
            let (id, last_write_ms, lowest_awaited) = session.row();
            sum += row_hash(id, last_write_ms, lowest_awaited);
            sum += session.outcome_hash;
        }
        sum
    }

    /// Overwrites an outcome behind the hash's back, as failing memory would.
    #[cfg(test)]
    pub(crate) fn damage(&mut self, id: u64) {
        let session = self.sessions.get_mut(&id).expect("there is such a session");
        Arc::make_mut(session).outcomes[0].kept.applied.revision ^= 1;
    }

    /// Loses a summand of the hash.
    #[cfg(test)]
    pub(crate) fn damage_sum(&mut self) {
        self.hash -= self.sessions.values().next().expect("there is a session").outcome_hash;
    }
}

impl Session {
    /// Id, time of the last write, lowest number awaited.
    pub(crate) const fn row(&self) -> (u64, u64, u64) {
        (self.id, self.last_write_ms, self.lowest_awaited)
    }

    /// What it counts for against the quota.
    pub(crate) const fn logical_bytes(&self) -> u64 {
        self.outcome_bytes + ROW_OVERHEAD_BYTES
    }

    /// The outcomes from an index on, with their numbers.
    pub(crate) fn outcomes_from(&self, at: usize) -> impl Iterator<Item = (u64, &KeptOutcome)> {
        self.outcomes.range(at.min(self.outcomes.len())..).map(|kept| (kept.number, &kept.kept))
    }

    /// Whether the outcomes are still what they were when they were kept.
    pub(crate) fn is_sound(&self, scratch: &mut Vec<u8>) -> bool {
        let mut sum = StateHash::default();
        for outcome in &self.outcomes {
            sum += outcome_hash(self.id, outcome.number, outcome.kept.digest(scratch).digest);
        }
        sum == self.outcome_hash
    }

    fn find(&self, number: u64) -> Result<usize, usize> {
        // Nearly always the next number.
        if self.outcomes.back().is_none_or(|last| last.number < number) {
            return Err(self.outcomes.len());
        }
        self.outcomes.binary_search_by_key(&number, |outcome| outcome.number)
    }

    fn forget_below(&mut self, lowest_awaited: u64) {
        self.lowest_awaited = self.lowest_awaited.max(lowest_awaited);
        while self.outcomes.front().is_some_and(|first| first.number < self.lowest_awaited) {
            if let Some(forgotten) = self.outcomes.pop_front() {
                self.outcome_bytes -= forgotten.bytes;
                self.outcome_hash -= forgotten.hash;
            }
        }
    }
}

fn row_hash(id: u64, last_write_ms: u64, lowest_awaited: u64) -> StateHash {
    RowHasher::new(RowKind::Session).word(id).word(last_write_ms).word(lowest_awaited).finish()
}

fn outcome_hash(session: u64, number: u64, digest: u128) -> StateHash {
    RowHasher::new(RowKind::SessionOutcome).word(session).word(number).wide(digest).finish()
}
