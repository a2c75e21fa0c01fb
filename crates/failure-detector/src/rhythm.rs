//! What the heartbeats of one incarnation under one period taught: the window, the model that
//! follows from it, and how long to wait for the next heartbeat.
//!
//! A heartbeat must cost little more than reading the clock. So what seldom changes is kept: on a
//! quiet network, where intervals deviate by less than the least deviation, the shape of the model
//! stays what it was from one heartbeat to the next, and only its center moves.

use crate::{
    health::Levels,
    heartbeat::Heartbeat,
    model::{Counts, Model},
    nanos::nanos,
    window::Window,
};

/// An interval below this part of the period is a heartbeat that catches up.
const CATCH_UP_PART: u64 = 8;

/// How fast the smoothed jitter follows: by a quarter of each difference.
const JITTER_SHIFT: u32 = 2;

/// The rhythm of one sender. All times are nanoseconds.
#[derive(Debug)]
pub(crate) struct Rhythm {
    window: Window,
    counts: Counts,
    model: Model,
    /// Smoothed deviation of the intervals from the period.
    jitter: u64,
    last: Heartbeat,
    heartbeat_at: u64,
    /// Whether this node listened all the time since then, so that the interval may be sampled.
    listened: bool,
    /// Whether the network was quiet when the shape of the model was last taken.
    quiet: bool,
    suspect_margin: u64,
    failed_margin: u64,
    suspect_wait: u64,
    failed_wait: u64,
}

impl Rhythm {
    /// After the first heartbeat of an incarnation, or the first that announces another period:
    /// whatever was measured before says nothing.
    #[cold]
    #[inline(never)]
    pub(crate) fn new(heartbeat: &Heartbeat, now: u64, levels: &Levels) -> Self {
        let window = Window::new(nanos(heartbeat.period));
        let mut rhythm = Self {
            counts: Counts::new(&window),
            window,
            model: Model::default(),
            jitter: 0,
            last: *heartbeat,
            heartbeat_at: now,
            listened: true,
            quiet: false,
            suspect_margin: 0,
            failed_margin: 0,
            suspect_wait: 0,
            failed_wait: 0,
        };
        rhythm.fit(levels);
        rhythm
    }

    /// After one more heartbeat of the same incarnation.
    #[inline]
    pub(crate) fn heartbeat(&mut self, heartbeat: &Heartbeat, now: u64, levels: &Levels) {
        if heartbeat.period != self.last.period {
            *self = Self::new(heartbeat, now, levels);
            return;
        }
        // A clock that went backwards measured nothing. Heartbeats that piled up somewhere and come
        // at once tell nothing of the rhythm either, and many of them would wipe the window.
        if let Some(interval) = now.checked_sub(self.heartbeat_at).filter(|_| self.listened) {
            if interval > self.suspect_wait {
                self.sample_suspicion();
            } else if interval >= self.window.period() / CATCH_UP_PART {
                self.sample(interval);
            }
        }
        self.last = *heartbeat;
        self.heartbeat_at = now;
        self.listened = true;
        self.fit(levels);
    }

    /// Notes that this node did not listen: the present interval will not be sampled.
    pub(crate) fn spoil(&mut self) {
        self.listened = false;
    }

    /// Puts other thresholds in force.
    pub(crate) fn adapt(&mut self, levels: &Levels) {
        self.suspect_margin = self.model.margin(&levels.suspect);
        self.failed_margin = self.model.margin(&levels.failed);
        self.wait();
    }

    #[inline]
    fn sample(&mut self, interval: u64) {
        self.window.push(interval);
        let jitter = interval.abs_diff(self.window.period());
        self.jitter = self.jitter - (self.jitter >> JITTER_SHIFT) + (jitter >> JITTER_SHIFT);
    }

    /// What ended a suspicion is sampled as just suspicious, however long it was: a rhythm that
    /// became slower is learned, and an outage of an hour leaves no trace of its length.
    #[cold]
    fn sample_suspicion(&mut self) {
        self.sample(self.suspect_wait);
    }

    #[inline]
    fn fit(&mut self, levels: &Levels) {
        let same = self.counts.are_of(&self.window);
        let quiet = same && self.window.spread() <= self.counts.quiet;
        if !(quiet && self.quiet) {
            self.fit_shape(same, levels);
        }
        let lag = nanos(self.last.scheduling_lag);
        self.model.center(&self.window, &self.counts, self.jitter, lag);
        self.wait();
    }

    #[inline(never)]
    fn fit_shape(&mut self, same: bool, levels: &Levels) {
        if !same {
            self.counts = Counts::new(&self.window);
        }
        self.quiet = self.window.spread() <= self.counts.quiet;
        self.model.shape(&self.window, &self.counts);
        self.adapt(levels);
    }

    #[inline]
    fn wait(&mut self) {
        let expected = self.model.expected();
        self.suspect_wait = expected + self.suspect_margin;
        self.failed_wait = expected + self.failed_margin;
    }

    /// The heartbeat that was used last.
    #[inline]
    pub(crate) fn last(&self) -> &Heartbeat {
        &self.last
    }

    /// When it arrived.
    pub(crate) fn heartbeat_at(&self) -> u64 {
        self.heartbeat_at
    }

    /// How many intervals were measured.
    pub(crate) fn samples(&self) -> usize {
        self.window.measured()
    }

    /// What follows from them.
    pub(crate) fn model(&self) -> &Model {
        &self.model
    }

    /// After how long a silence the sender is suspected.
    #[inline]
    pub(crate) fn suspect_wait(&self) -> u64 {
        self.suspect_wait
    }

    /// After how long a silence it has failed.
    #[inline]
    pub(crate) fn failed_wait(&self) -> u64 {
        self.failed_wait
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        health::{Adaptation, Reason, Thresholds},
        settings::Settings,
    };

    const PERIOD: u64 = 50_000_000;

    proptest! {
        #[test]
        fn what_is_kept_between_heartbeats_is_what_would_be_computed_anew(
            // Quiet stretches, where nothing is computed, between others where everything is.
            stretches in proptest::collection::vec(
                (prop_oneof![Just(0), Just(PERIOD / 100), Just(PERIOD / 2), Just(PERIOD * 2)],
                 1..120_usize, 0..9_u8),
                1..8,
            ),
            noise in proptest::collection::vec(0.0..1.0_f64, 50),
        ) {
            let thresholds = Thresholds::new(&Settings::default()).unwrap();
            let mut levels = thresholds.in_force(Adaptation::WELL);
            let mut heartbeat = Heartbeat {
                incarnation: 1,
                sequence: 1,
                period: Duration::from_nanos(PERIOD),
                oldest_sync_age: Duration::ZERO,
                scheduling_lag: Duration::ZERO,
            };
            let mut now = 0;
            let mut rhythm = Rhythm::new(&heartbeat, now, &levels);
            let mut noise = noise.iter().cycle();
            for (jitter, count, score) in stretches {
                levels = thresholds.in_force(Adaptation { score, reason: Reason::SyncAge });
                rhythm.adapt(&levels);
                for noise in noise.by_ref().take(count) {
                    heartbeat.sequence += 1;
                    now += PERIOD + crate::nanos::whole_nanos(noise * jitter as f64);
                    rhythm.heartbeat(&heartbeat, now, &levels);

                    let counts = Counts::new(&rhythm.window);
                    let mut model = Model::default();
                    model.center(&rhythm.window, &counts, rhythm.jitter, 0);
                    model.shape(&rhythm.window, &counts);
                    let wait = |threshold| model.expected() + model.margin(threshold);
                    prop_assert_eq!(rhythm.suspect_wait(), wait(&levels.suspect));
                    prop_assert_eq!(rhythm.failed_wait(), wait(&levels.failed));
                }
            }
        }
    }
}
