//! What autopilot has decided and knows, for those who ask and for the next leader.
//!
//! It decides nothing. Decisions go to the node's local history, the rest is memory.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use mainstay_world::{self as world, History, Instant};
use tracing::{info, warn};

use super::{AutopilotDecision, AutopilotState};
use crate::{
    detection::Detector,
    membership::{
        Advice, MembershipError,
        silence::{SilenceReport, Silences},
    },
    observation::Leadership,
};

/// Kind of the records in the history.
const KIND: &str = "autopilot";

/// Decisions kept.
const KEPT: usize = 1_000;

/// More than any record has bytes.
const RECORD_MAX: usize = 16 * 1024;

/// What is known to those who ask.
#[derive(Clone)]
pub(crate) struct AutopilotRecord {
    history: Arc<dyn History>,
    state: Arc<Mutex<RecordState>>,
    /// The origin of the times in the silences.
    origin: Instant,
}

#[derive(Default)]
struct RecordState {
    advice: Vec<Advice>,
    last: Option<AutopilotDecision>,
    counts: BTreeMap<&'static str, u64>,
    silences: Silences,
}

impl AutopilotRecord {
    pub(crate) fn new(history: Arc<dyn History>) -> Self {
        Self { history, state: Arc::default(), origin: Instant::now() }
    }

    /// What this node, as the leader, makes of the members, with at most `limit` decisions.
    pub(crate) fn tell(&self, enabled: bool, leader: u64, limit: usize) -> AutopilotState {
        let advice = self.lock().advice.clone();
        let kept = self.history.newest(KIND, limit);
        let decisions = kept
            .iter()
            .filter_map(|record| mainstay_codec::decode(&record.bytes, RECORD_MAX).ok())
            .collect();
        AutopilotState { enabled, leader, advice, decisions }
    }

    /// Actions since the start that were carried out, by their word.
    pub(crate) fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.lock().counts.clone()
    }

    /// Takes over what a leader tells about members that do not answer, or, as a new leader, what it
    /// is reminded of.
    pub(crate) fn told_of_silence(
        &self,
        report: &SilenceReport,
        now: Leadership,
        detector: &Detector,
    ) {
        let heard = |id| self.heard(detector, id);
        self.silences(|silences, at| {
            if now.leads && report.term < now.term {
                silences.remind(at, report, heard);
            } else if !now.leads && report.term >= now.term {
                silences.told(at, report, heard);
            }
        });
    }

    /// When this node itself last heard a member.
    pub(super) fn heard(&self, detector: &Detector, id: u64) -> Option<Duration> {
        detector.said(id).map(|said| said.at.since(self.origin))
    }

    /// Works on what is known of who does not answer, with the time on its clock.
    pub(super) fn silences<T>(&self, work: impl FnOnce(&mut Silences, Duration) -> T) -> T {
        work(&mut self.lock().silences, self.origin.elapsed())
    }

    pub(super) fn set_advice(&self, advice: Vec<Advice>) {
        self.lock().advice = advice;
    }

    /// Keeps a decision. One that failed as the one before it did is not news.
    pub(super) fn decided(
        &self,
        term: u64,
        advice: Advice,
        outcome: Result<(i64, i64), &MembershipError>,
    ) {
        let outcome = outcome.map_err(ToString::to_string);
        let mut state = self.lock();
        if outcome.is_ok() {
            *state.counts.entry(advice.action.as_str()).or_default() += 1;
        }
        let is_news = outcome.is_ok()
            || state.last.as_ref().is_none_or(|last| {
                (last.advice.id, last.advice.action, &last.outcome)
                    != (advice.id, advice.action, &outcome)
            });
        let decision = AutopilotDecision { wall_ms: world::wall_clock_ms(), term, advice, outcome };
        if is_news {
            let Advice { action, name, why, .. } = &decision.advice;
            match &decision.outcome {
                Ok(_tolerated) => info!(what = action.as_str(), name, why, "autopilot"),
                Err(error) => warn!(what = action.as_str(), name, error, "autopilot did nothing"),
            }
            if let Ok(bytes) = mainstay_codec::encode(&decision) {
                self.history.append(KIND, Bytes::from(bytes), KEPT);
            }
        }
        state.last = Some(decision);
    }

    fn lock(&self) -> MutexGuard<'_, RecordState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use mainstay_world::MemoryHistory;

    use super::*;
    use crate::membership::AutopilotAction;

    fn promotion() -> Advice {
        let why = "it keeps up".to_owned();
        let (id, name) = (4, "n4".to_owned());
        Advice { action: AutopilotAction::Promote, id, name, replaces: None, why }
    }

    #[test]
    fn what_was_decided_is_kept_and_what_fails_again_and_again_is_kept_once() {
        let history = Arc::new(MemoryHistory::default());
        let record = AutopilotRecord::new(history.clone());
        record.decided(3, promotion(), Err(&MembershipError::Busy));
        record.decided(3, promotion(), Err(&MembershipError::Busy));
        record.decided(3, promotion(), Ok((0, 1)));
        let state = AutopilotRecord::new(history).tell(true, 1, 10);
        let outcomes: Vec<_> =
            state.decisions.iter().map(|decision| decision.outcome.is_ok()).collect();
        assert_eq!(outcomes, [true, false]);
        assert_eq!(state.decisions[0].advice, promotion());
        assert_eq!(record.counts(), BTreeMap::from([("promote", 1)]));
    }
}
