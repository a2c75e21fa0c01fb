//! How good a detector is on a trace, in the measures of Chen, Toueg and Aguilera ("On the quality
//! of service of failure detectors", IEEE Transactions on Computers 51(5), 2002).
//!
//! Detection time: the sender is imagined to die at a random moment, and the wait that follows the
//! last heartbeat before it is counted from there. Mistakes: how often a wait ended although the
//! sender lived. Query accuracy: for what part of the time a living sender was not suspected.

use crate::{
    contender::Contender,
    random::Random,
    trace::{MS, Sent},
};

/// A day in nanoseconds.
const DAY: f64 = 24.0 * 3600.0 * 1e9;

/// One heartbeat in this many is imagined to be the last.
const DEATH_EVERY: usize = 8;

/// Detection times are sorted into bins of a millisecond, the last for all that are longer.
const BINS: usize = 4_000;

/// What one threshold of one detector came to on one trace.
#[derive(Debug, Clone)]
pub(crate) struct Quality {
    /// Mean time from death to its detection, in milliseconds.
    pub(crate) detection_mean_ms: f64,
    /// The time within which 99 % of deaths are detected, in milliseconds.
    pub(crate) detection_p99_ms: f64,
    /// Wrong suspicions per million heartbeats.
    pub(crate) mistakes_per_million: f64,
    /// The same in the worse of a changing network's two states.
    pub(crate) mistakes_per_million_worst: f64,
    /// Wrong suspicions per day.
    pub(crate) mistakes_per_day: f64,
    /// Share of the time for which a living sender was not suspected.
    pub(crate) accuracy: f64,
}

/// Runs a contender over a trace and measures each of its thresholds.
pub(crate) fn measure(contender: &mut dyn Contender, trace: &[Sent]) -> Vec<(String, Quality)> {
    let names = contender.names();
    let mut deadlines = vec![u64::MAX; names.len()];
    let mut tallies = vec![Tally::default(); names.len()];
    // Deaths do not depend on what is measured: all contenders see the same ones.
    let mut deaths = Random::new(0x6d61_696e);
    let mut heard = false;
    for (slot, sent) in trace.iter().enumerate() {
        if let Some(now) = sent.arrived_at {
            if heard {
                for (tally, deadline) in tallies.iter_mut().zip(&deadlines) {
                    tally.heartbeat(sent.regime, now.saturating_sub(*deadline));
                }
            }
            heard = true;
            contender.heartbeat(slot as u64 + 1, sent, now, &mut deadlines);
        }
        if heard && slot % DEATH_EVERY == 0 {
            let lived = deaths.uniform() * (sent.next_at - sent.at) as f64;
            for (tally, deadline) in tallies.iter_mut().zip(&deadlines) {
                let detection = *deadline as f64 - sent.at as f64 - lived;
                tally.death(detection.max(0.0) / MS);
            }
        }
    }
    let lasted = trace.last().map_or(0, |sent| sent.next_at) as f64;
    names.into_iter().zip(tallies.iter().map(|tally| tally.quality(lasted))).collect()
}

#[derive(Debug, Clone)]
struct Tally {
    heartbeats: [u64; 2],
    mistakes: [u64; 2],
    mistaken: u64,
    deaths: u64,
    detection_sum_ms: f64,
    bins: Vec<u64>,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            heartbeats: [0; 2],
            mistakes: [0; 2],
            mistaken: 0,
            deaths: 0,
            detection_sum_ms: 0.0,
            bins: vec![0; BINS],
        }
    }
}

impl Tally {
    fn heartbeat(&mut self, regime: usize, after_deadline: u64) {
        self.heartbeats[regime] += 1;
        self.mistakes[regime] += u64::from(after_deadline > 0);
        self.mistaken += after_deadline;
    }

    fn death(&mut self, detection_ms: f64) {
        self.deaths += 1;
        self.detection_sum_ms += detection_ms;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a detection time is not negative, and the cast saturates"
        )]
        let bin = (detection_ms as usize).min(BINS - 1);
        self.bins[bin] += 1;
    }

    fn quality(&self, lasted: f64) -> Quality {
        let per_million =
            |mistakes: u64, heartbeats: u64| 1e6 * mistakes as f64 / heartbeats.max(1) as f64;
        let mistakes: u64 = self.mistakes.iter().sum();
        let mut counted = 0;
        let p99 = self.bins.iter().position(|bin| {
            counted += bin;
            counted * 100 >= self.deaths * 99
        });
        Quality {
            detection_mean_ms: self.detection_sum_ms / self.deaths.max(1) as f64,
            detection_p99_ms: p99.map_or(0, |bin| bin + 1) as f64,
            mistakes_per_million: per_million(mistakes, self.heartbeats.iter().sum()),
            mistakes_per_million_worst: (0..2)
                .map(|regime| per_million(self.mistakes[regime], self.heartbeats[regime]))
                .fold(0.0, f64::max),
            mistakes_per_day: mistakes as f64 * DAY / lasted,
            accuracy: 1.0 - self.mistaken as f64 / lasted,
        }
    }
}
