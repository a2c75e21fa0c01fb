//! Elections that explain themselves: who leads now, since when, why, and what took how long.
//!
//! The node that wins knows best, and tells the others with its heartbeats; a node that hears of a
//! new leader before that keeps what it knows itself. Each node keeps its records in its local
//! history, so that they are still there after a restart, when people ask. Nothing is decided by
//! them.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use mainstay_world::History;
use serde::{Deserialize, Serialize};

/// Kind of the records in the history.
const KIND: &str = "elections";

/// Elections kept.
const KEPT: usize = 1_000;

/// Elections that wait for their winner's word at a time.
const OPEN_MAX: usize = 8;

/// A change of leader, explained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Election {
    /// The wall clock of the node that tells, in milliseconds since 1970; for people only.
    pub wall_ms: u64,
    /// The term that began.
    pub term: u64,
    /// Who leads in it.
    pub leader: u64,
    /// Who led before, as far as the teller knew.
    pub previous: Option<u64>,
    /// Why there was an election.
    pub cause: ElectionCause,
    /// How long each part of it took.
    pub phases: ElectionPhases,
}

/// Why there was an election.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum ElectionCause {
    /// No leader was known: a cluster's first election, or one after this node's restart.
    NoLeader,
    /// The leader was silent: phi passed the threshold in force, and the leader lease had expired.
    Silence {
        /// Phi of the silence when the campaign began.
        phi: f64,
        /// The threshold that it passed.
        threshold: f64,
    },
    /// The leader sent nothing for the longest time that the detector may object to an election,
    /// or for the timer's time while there was no detector to ask.
    LeaseExpired,
    /// The leader's disk stalled and it handed over.
    Stall {
        /// Age of its oldest unfinished sync, in milliseconds.
        oldest_sync_ms: u64,
        /// The stall budget that it passed, in milliseconds.
        budget_ms: u64,
    },
    /// The leader's storage failed and it handed over.
    StorageFailed,
    /// The leader's event loop lagged and it handed over.
    Lag {
        /// By how much its timers were late, in milliseconds.
        lag_ms: u64,
    },
    /// No quorum answered the leader in time, over links that were slow to it alone, and it handed
    /// over.
    NoQuorum {
        /// Since when no quorum had confirmed it, in milliseconds.
        quorum_age_ms: u64,
    },
    /// An operator asked for another leader.
    Operator,
    /// The leader shut down in good order and handed over.
    Shutdown,
    /// Another node won, and has not told why.
    Untold,
}

/// How long the parts of an election took, in milliseconds; `None` for what the teller did not see.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ElectionPhases {
    /// From the old leader's last sign of life to the first campaign.
    pub silence_ms: Option<u64>,
    /// From there to the pre-vote that was granted: the campaign in which the term was raised.
    pub pre_vote_ms: Option<u64>,
    /// From there to the votes of a quorum.
    pub vote_ms: Option<u64>,
    /// From there to the first entry of the term applied: from then on writes are taken.
    pub ready_ms: Option<u64>,
}

impl ElectionCause {
    /// The cause in one word, as the API and the metrics show it.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::NoLeader => "no_leader",
            Self::Silence { .. } => "silence",
            Self::LeaseExpired => "lease_expired",
            Self::Stall { .. } => "stall",
            Self::StorageFailed => "storage_failed",
            Self::Lag { .. } => "lag",
            Self::NoQuorum { .. } => "no_quorum",
            Self::Operator => "operator",
            Self::Shutdown => "shutdown",
            Self::Untold => "untold",
        }
    }

    /// Whether a leader handed over because it could not write.
    #[must_use]
    pub const fn is_trouble(&self) -> bool {
        matches!(
            self,
            Self::Stall { .. } | Self::StorageFailed | Self::Lag { .. } | Self::NoQuorum { .. }
        )
    }

    /// Every word that [`Self::as_str`] can answer.
    pub const WORDS: [&'static str; 10] = [
        "no_leader",
        "silence",
        "lease_expired",
        "stall",
        "storage_failed",
        "lag",
        "no_quorum",
        "operator",
        "shutdown",
        "untold",
    ];
}

impl fmt::Display for ElectionCause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLeader => formatter.write_str("no leader was known"),
            Self::Silence { phi, threshold } => {
                write!(formatter, "the leader was silent (phi {phi:.1} of {threshold:.1})")
            }
            Self::LeaseExpired => formatter.write_str("the leader's lease expired"),
            Self::Stall { oldest_sync_ms, budget_ms } => write!(
                formatter,
                "the leader's disk stalled (a sync of {oldest_sync_ms} ms, budget {budget_ms} ms)"
            ),
            Self::StorageFailed => formatter.write_str("the leader's storage failed"),
            Self::Lag { lag_ms } => write!(formatter, "the leader lagged by {lag_ms} ms"),
            Self::NoQuorum { quorum_age_ms } => {
                write!(formatter, "no quorum answered the leader for {quorum_age_ms} ms")
            }
            Self::Operator => formatter.write_str("an operator asked for it"),
            Self::Shutdown => formatter.write_str("the leader shut down"),
            Self::Untold => formatter.write_str("the new leader has not told why"),
        }
    }
}

/// The elections that this node knows of.
#[derive(Clone)]
pub(crate) struct Elections {
    history: Arc<dyn History>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Those that are not in the history yet, oldest first: their winners may still tell.
    open: VecDeque<Open>,
    /// The newest term in the history.
    kept_term: u64,
    /// The newest election that this node won since its start.
    won: Option<Election>,
    /// Why the leader of a term hands over to this node.
    announced: Option<(u64, ElectionCause)>,
    counts: BTreeMap<&'static str, u64>,
}

/// An election that may still be explained.
struct Open {
    election: Election,
    from_winner: bool,
}

impl Open {
    /// The winner's word is final once it has seen everything through.
    const fn is_final(&self) -> bool {
        self.from_winner && self.election.phases.ready_ms.is_some()
    }
}

impl Elections {
    /// What the history holds, and what is to come.
    pub(crate) fn new(history: Arc<dyn History>) -> Self {
        let elections = Self { history, state: Arc::default() };
        let newest = elections.newest(1).pop();
        elections.lock().kept_term = newest.map_or(0, |newest| newest.term);
        elections
    }

    /// The newest election, and older ones from the history, newest first.
    pub(crate) fn newest(&self, limit: usize) -> Vec<Election> {
        let mut elections: Vec<Election> =
            self.lock().open.iter().rev().map(|open| open.election.clone()).collect();
        let kept = self.history.newest(KIND, limit);
        elections.extend(
            kept.iter().filter_map(|record| mainstay_codec::decode(&record.bytes, RECORD_MAX).ok()),
        );
        elections.truncate(limit);
        elections
    }

    /// The newest election that this node won since its start.
    pub(crate) fn newest_won(&self) -> Option<Election> {
        self.lock().won.clone()
    }

    /// Notes a leader that this node sees; what its winner tells of it later counts more.
    pub(crate) fn seen(&self, election: Election) {
        self.note(election, false);
    }

    /// Notes an election as its winner tells it.
    pub(crate) fn told(&self, election: Election) {
        self.note(election, true);
    }

    /// Notes an election that this node won.
    pub(crate) fn won(&self, election: Election) {
        self.lock().won = Some(election.clone());
        self.told(election);
    }

    fn note(&self, election: Election, from_winner: bool) {
        let mut state = self.lock();
        if election.term <= state.kept_term {
            return;
        }
        let open = Open { election, from_winner };
        let at = state.open.partition_point(|known| known.election.term < open.election.term);
        match state.open.get_mut(at).filter(|known| known.election.term == open.election.term) {
            Some(known) if known.from_winner && !from_winner => {}
            Some(known) => *known = open,
            None => state.open.insert(at, open),
        }
        // Leaders may change twice within moments; each that won tells, in whatever order.
        while state.open.len() > OPEN_MAX || state.open.front().is_some_and(Open::is_final) {
            self.keep_oldest(&mut state);
        }
    }

    /// Writes all elections to the history, complete or not.
    pub(crate) fn settle(&self) {
        let mut state = self.lock();
        while !state.open.is_empty() {
            self.keep_oldest(&mut state);
        }
    }

    /// The same before the node ends, but for those at the end that no winner has told of: they are
    /// seen again after the next start.
    pub(crate) fn settle_told(&self) {
        let mut state = self.lock();
        while state.open.iter().any(|open| open.from_winner) {
            self.keep_oldest(&mut state);
        }
    }

    /// Notes why the leader of `term` hands over to this node.
    pub(crate) fn announce(&self, term: u64, cause: ElectionCause) {
        self.lock().announced = Some((term, cause));
    }

    /// Why the leader before `term` handed over to this node, if it did.
    pub(crate) fn announced(&self, term: u64) -> Option<ElectionCause> {
        let (before, cause) = self.lock().announced?;
        (before.checked_add(1) == Some(term)).then_some(cause)
    }

    /// Elections since the start, by cause.
    pub(crate) fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.lock().counts.clone()
    }

    fn keep_oldest(&self, state: &mut State) {
        let Some(Open { election, .. }) = state.open.pop_front() else { return };
        state.kept_term = election.term;
        *state.counts.entry(election.cause.as_str()).or_default() += 1;
        if let Ok(bytes) = mainstay_codec::encode(&election) {
            self.history.append(KIND, Bytes::from(bytes), KEPT);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// More than any record has bytes.
const RECORD_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use mainstay_world::MemoryHistory;

    use super::*;

    fn election(term: u64, cause: ElectionCause, ready_ms: Option<u64>) -> Election {
        let phases = ElectionPhases { ready_ms, ..ElectionPhases::default() };
        Election { wall_ms: 7, term, leader: 1, previous: None, cause, phases }
    }

    fn causes(elections: &Elections) -> Vec<(u64, &'static str)> {
        elections.newest(9).iter().map(|known| (known.term, known.cause.as_str())).collect()
    }

    #[test]
    fn the_word_of_the_winner_replaces_what_was_only_seen() {
        let elections = Elections::new(Arc::new(MemoryHistory::default()));
        elections.seen(election(2, ElectionCause::Untold, None));
        assert_eq!(causes(&elections), [(2, "untold")]);
        elections.told(election(2, ElectionCause::Operator, None));
        elections.seen(election(2, ElectionCause::Untold, None));
        assert_eq!(causes(&elections), [(2, "operator")]);
        elections.told(election(2, ElectionCause::Operator, Some(3)));
        let newest = elections.newest(1).pop().expect("it is known");
        assert_eq!(newest.phases.ready_ms, Some(3));
    }

    #[test]
    fn leaders_that_change_twice_within_moments_are_both_explained_in_order() {
        let elections = Elections::new(Arc::new(MemoryHistory::default()));
        elections.seen(election(2, ElectionCause::Untold, None));
        elections.seen(election(3, ElectionCause::Untold, None));
        elections.told(election(3, ElectionCause::Operator, Some(3)));
        assert_eq!(causes(&elections), [(3, "operator"), (2, "untold")]);
        elections.told(election(2, ElectionCause::Shutdown, None));
        assert_eq!(causes(&elections), [(3, "operator"), (2, "shutdown")]);
        elections.settle();
        assert_eq!(causes(&elections), [(3, "operator"), (2, "shutdown")]);
        elections.told(election(2, ElectionCause::Operator, Some(1)));
        assert_eq!(causes(&elections), [(3, "operator"), (2, "shutdown")]);
    }

    #[test]
    fn what_a_winner_told_survives_an_end_in_good_order() {
        let history = Arc::new(MemoryHistory::default());
        let elections = Elections::new(history.clone());
        elections.seen(election(2, ElectionCause::Untold, None));
        elections.won(election(3, ElectionCause::LeaseExpired, Some(3)));
        elections.seen(election(4, ElectionCause::Untold, None));
        elections.settle_told();
        let again = Elections::new(history);
        assert_eq!(causes(&again), [(3, "lease_expired"), (2, "untold")]);
    }

    #[test]
    fn elections_that_nobody_explains_are_not_waited_for_without_bound() {
        let elections = Elections::new(Arc::new(MemoryHistory::default()));
        for term in 1..=20 {
            elections.seen(election(term, ElectionCause::Untold, None));
        }
        assert_eq!(elections.counts()["untold"], 20 - OPEN_MAX as u64);
        assert_eq!(elections.newest(30).len(), 20);
    }

    #[test]
    fn what_this_node_won_is_known_after_another_one_leads() {
        let elections = Elections::new(Arc::new(MemoryHistory::default()));
        elections.won(election(2, ElectionCause::NoLeader, Some(1)));
        elections.seen(election(3, ElectionCause::Untold, None));
        assert_eq!(elections.newest_won().map(|won| won.term), Some(2));
    }

    #[test]
    fn each_term_is_kept_once_and_survives_in_the_history() {
        let history = Arc::new(MemoryHistory::default());
        let elections = Elections::new(history.clone());
        elections.told(election(1, ElectionCause::NoLeader, Some(1)));
        elections.told(election(1, ElectionCause::NoLeader, Some(1)));
        elections.seen(election(2, ElectionCause::Untold, None));
        elections.seen(election(1, ElectionCause::Untold, None));
        elections.settle();
        elections.settle();
        assert_eq!(causes(&elections), [(2, "untold"), (1, "no_leader")]);
        let again = Elections::new(history);
        again.seen(election(2, ElectionCause::Untold, None));
        again.settle();
        assert_eq!(causes(&again), [(2, "untold"), (1, "no_leader")]);
    }

    #[test]
    fn an_announced_cause_counts_for_the_next_term_only() {
        let elections = Elections::new(Arc::new(MemoryHistory::default()));
        elections.announce(4, ElectionCause::Shutdown);
        assert_eq!(elections.announced(5), Some(ElectionCause::Shutdown));
        assert_eq!(elections.announced(6), None);
    }

    #[test]
    fn every_cause_has_its_word_among_the_known_ones() {
        let causes = [
            ElectionCause::NoLeader,
            ElectionCause::Silence { phi: 8.25, threshold: 8.0 },
            ElectionCause::LeaseExpired,
            ElectionCause::Stall { oldest_sync_ms: 400, budget_ms: 300 },
            ElectionCause::StorageFailed,
            ElectionCause::Lag { lag_ms: 500 },
            ElectionCause::NoQuorum { quorum_age_ms: 700 },
            ElectionCause::Operator,
            ElectionCause::Shutdown,
            ElectionCause::Untold,
        ];
        assert_eq!(causes.map(|cause| cause.as_str()), ElectionCause::WORDS);
        assert_eq!(causes[1].to_string(), "the leader was silent (phi 8.2 of 8.0)");
    }
}
