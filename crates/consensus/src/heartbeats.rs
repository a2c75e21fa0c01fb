//! The task that beats to every other node.
//!
//! A beat is a call: its answer tells how the peer is and bounds how stale this node's store may
//! be. A node whose storage failed for good does not beat any more: it can neither vote nor lead,
//! and silence says so soonest.

use std::time::Duration;

use mainstay_world::{self as world, Instant};
use openraft::async_runtime::WatchReceiver as _;

use crate::{
    detection::Beat,
    election::Election,
    fitness::milliseconds,
    observation::Leadership,
    peer::message::{Answer, Call},
    running::Parts,
};

/// The longest wait for the answer to a beat.
const ANSWER_DEADLINE: Duration = Duration::from_millis(500);

/// For so long after an election its winner tells why.
const TELLING: Duration = Duration::from_secs(2);

/// What the task works with.
pub(crate) struct Heartbeats {
    pub(crate) parts: Parts,
    pub(crate) period: Duration,
}

impl Heartbeats {
    /// Beats for as long as the node can vote.
    pub(crate) async fn run(self) {
        let failure = self.parts.storage.failure();
        let mut sequence = 0;
        let mut won: Option<(u64, Instant)> = None;
        let mut next = Instant::now();
        while failure.borrow().is_none() {
            let leadership = *self.parts.leadership.borrow();
            // Told by who won even if it has lost the title again: nobody else knows why.
            let newest = self.parts.elections.newest_won();
            let telling = newest.filter(|newest| {
                let since = match won {
                    Some((term, since)) if term == newest.term => since,
                    _ => Instant::now(),
                };
                won = Some((newest.term, since));
                since.elapsed() < TELLING
            });
            sequence += 1;
            self.beat(self.make(sequence, leadership, telling));
            // Kept to the period on average, and never made up for after a pause.
            next = (next + self.period).max(Instant::now());
            world::sleep_until(next).await;
        }
    }

    fn make(&self, sequence: u64, leadership: Leadership, election: Option<Election>) -> Beat {
        let metrics = self.parts.raft.data_metrics();
        let last = metrics
            .borrow_watched()
            .last_log
            .as_ref()
            .map_or((0, 0), |last| (last.leader_id.term, last.index));
        Beat {
            incarnation: self.parts.detector.incarnation(),
            sequence,
            period_ms: milliseconds(self.period),
            oldest_sync_ms: self.parts.storage.progress().oldest_unfinished.map_or(0, milliseconds),
            lag_ms: milliseconds(self.parts.detector.own_health().scheduling_lag),
            term: leadership.term,
            leads: leadership.leads,
            last,
            election,
        }
    }

    fn beat(&self, beat: Beat) {
        let links = self.parts.links.all();
        self.parts.detector.count_sent(links.len());
        for link in links {
            let beat = beat.clone();
            world::spawn(async move {
                let asked_at = Instant::now();
                let answer = link.control.call(&Call::Heartbeat(beat), ANSWER_DEADLINE).await;
                if let Ok(Answer::Pong(pong)) = answer {
                    link.record(asked_at, pong);
                }
            });
        }
    }
}
