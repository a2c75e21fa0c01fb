//! One peer: its window, its model, and the two moments at which it passes a level.
//!
//! Both moments are computed when something changes (a heartbeat, a sign of life, the thresholds
//! in force), so that asking is a comparison. A level that was told stays until the peer is heard
//! again: raising a threshold afterwards does not take it back.

use std::time::Duration;

use crate::{
    health::{Adaptation, Levels},
    heartbeat::{Heard, Heartbeat, Ignored, IgnoredCounts, Step},
    model::Model,
    nanos::whole_nanos,
    reading::{Change, Level, Reading},
    rhythm::Rhythm,
};

/// How often in one silence a pause of this node may restart the wait: a node that pauses all the
/// time must still find out in the end.
const RESTARTS_MAX: u8 = 3;

/// One watched peer. All times are nanoseconds.
#[derive(Debug)]
pub(crate) struct Peer {
    /// What was learned; `None` until the first heartbeat.
    rhythm: Option<Rhythm>,
    /// What was told last.
    told: Level,
    /// When the silence began.
    silent_since: u64,
    /// When phi reaches the thresholds; the failed one alone counts for a peer never heard.
    suspect_at: u64,
    failed_at: u64,
    /// Pauses of this node since the peer was heard.
    restarts: u8,
    heartbeats: u64,
    missed: u64,
    mistakes: u64,
    ignored: IgnoredCounts,
}

impl Peer {
    /// A peer that has until `join_by` to be heard.
    pub(crate) fn new(now: u64, join_by: u64) -> Self {
        Self {
            rhythm: None,
            told: Level::Unheard,
            silent_since: now,
            suspect_at: u64::MAX,
            failed_at: join_by,
            restarts: 0,
            heartbeats: 0,
            missed: 0,
            mistakes: 0,
            ignored: IgnoredCounts::default(),
        }
    }

    /// Takes in a heartbeat that arrived `now`.
    #[inline]
    pub(crate) fn heartbeat(
        &mut self,
        heartbeat: &Heartbeat,
        now: u64,
        levels: &Levels,
    ) -> Result<Heard, Ignored> {
        let step = match &self.rhythm {
            None => heartbeat.check().map(|()| Step::First),
            Some(rhythm) => heartbeat.check().and_then(|()| heartbeat.step_from(rhythm.last())),
        };
        let step = match step {
            Ok(step) => step,
            Err(ignored) => {
                return Err(self.ignored.count(ignored));
            }
        };
        let heard = Heard {
            was: self.level(now),
            silence: Duration::from_nanos(now.saturating_sub(self.silent_since)),
            missed: if let Step::Next { missed } = step { missed } else { 0 },
            new_incarnation: step == Step::NewIncarnation,
        };
        self.heartbeats += 1;
        self.missed = self.missed.saturating_add(heard.missed);
        match (&mut self.rhythm, step) {
            (Some(rhythm), Step::Next { .. }) => {
                self.mistakes += u64::from(heard.was >= Level::Suspect);
                rhythm.heartbeat(heartbeat, now, levels);
            }
            (rhythm, _first) => *rhythm = Some(Rhythm::new(heartbeat, now, levels)),
        }
        self.alive(now);
        Ok(heard)
    }

    /// Notes a sign of life that is no heartbeat; answers what the peer was taken for. Without a
    /// rhythm there is nothing to judge by.
    pub(crate) fn contact(&mut self, now: u64) -> Level {
        let was = self.level(now);
        if self.rhythm.is_some() {
            self.mistakes += u64::from(was >= Level::Suspect);
            self.alive(now);
        }
        was
    }

    #[inline]
    fn alive(&mut self, now: u64) {
        self.told = Level::Alive;
        self.restarts = 0;
        self.wait_from(now);
    }

    /// Starts the wait again because this node was not listening. A silence that begins in the
    /// future, because the clock went back, would last until then: that one is always cut.
    pub(crate) fn restart(&mut self, now: u64) {
        if self.restarts < RESTARTS_MAX || now < self.silent_since {
            self.restarts = self.restarts.saturating_add(1);
            if self.rhythm.is_none() {
                let join_wait = self.failed_at.saturating_sub(self.silent_since);
                self.failed_at = now.saturating_add(join_wait);
            }
            self.wait_from(now);
        }
        if let Some(rhythm) = &mut self.rhythm {
            rhythm.spoil();
        }
    }

    /// Puts other thresholds in force.
    pub(crate) fn adapt(&mut self, levels: &Levels) {
        if let Some(rhythm) = &mut self.rhythm {
            rhythm.adapt(levels);
            self.wait_from(self.silent_since);
        }
    }

    #[inline]
    fn wait_from(&mut self, silent_since: u64) {
        self.silent_since = silent_since;
        if let Some(rhythm) = &self.rhythm {
            self.suspect_at = silent_since.saturating_add(rhythm.suspect_wait());
            self.failed_at = silent_since.saturating_add(rhythm.failed_wait());
        }
    }

    /// Tells the level as of `now`, once.
    pub(crate) fn change(
        &mut self,
        peer: u64,
        now: u64,
        adaptation: Adaptation,
        levels: &Levels,
    ) -> Option<Change> {
        let (from, to) = (self.told, self.level(now));
        if from == to {
            return None;
        }
        self.told = to;
        let silence = now.saturating_sub(self.silent_since);
        let failed = to == Level::Failed;
        let threshold = if failed { levels.failed } else { levels.suspect };
        Some(Change {
            peer,
            from,
            to,
            at: Duration::from_nanos(if failed { self.failed_at } else { self.suspect_at }),
            silence: Duration::from_nanos(silence),
            phi: self.rhythm.as_ref().map(|rhythm| rhythm.model().phi(silence)),
            threshold: self.rhythm.as_ref().map(|_rhythm| threshold.phi),
            adaptation,
        })
    }

    /// What the peer is taken for.
    #[inline]
    pub(crate) fn level(&self, now: u64) -> Level {
        let passed = if now >= self.failed_at {
            Level::Failed
        } else if now >= self.suspect_at {
            Level::Suspect
        } else {
            Level::Unheard
        };
        passed.max(self.told)
    }

    /// What was told last.
    pub(crate) fn told(&self) -> Level {
        self.told
    }

    /// When the next level that was not told yet is passed.
    pub(crate) fn next_at(&self) -> u64 {
        match self.told {
            Level::Alive => self.suspect_at.min(self.failed_at),
            Level::Unheard | Level::Suspect => self.failed_at,
            Level::Failed => u64::MAX,
        }
    }

    /// When the peer passes both levels, if it was ever heard.
    pub(crate) fn deadlines(&self) -> Option<(u64, u64)> {
        self.rhythm.as_ref().map(|_rhythm| (self.suspect_at, self.failed_at))
    }

    /// Phi of the present silence, if the peer was ever heard.
    pub(crate) fn phi(&self, now: u64) -> Option<f64> {
        let rhythm = self.rhythm.as_ref()?;
        Some(rhythm.model().phi(now.saturating_sub(self.silent_since)))
    }

    /// Everything that is known of the peer.
    pub(crate) fn reading(
        &self,
        peer: u64,
        now: u64,
        adaptation: Adaptation,
        levels: &Levels,
    ) -> Reading {
        let rhythm = self.rhythm.as_ref();
        let model = rhythm.map(Rhythm::model);
        let time = |of: fn(&Model) -> u64| Duration::from_nanos(model.map_or(0, of));
        let last = rhythm.map(Rhythm::last);
        Reading {
            peer,
            level: self.level(now),
            phi: self.phi(now),
            suspect_threshold: levels.suspect.phi,
            failed_threshold: levels.failed.phi,
            adaptation,
            mean: time(|model| model.mean),
            deviation: time(|model| whole_nanos(model.deviation)),
            acceptable_pause: time(|model| model.pause),
            tail_scale: time(|model| whole_nanos(model.scale)),
            tail_share: model.map_or(0.0, |model| libm::exp(model.share_ln)),
            samples: rhythm.map_or(0, Rhythm::samples),
            period: last.map_or(Duration::ZERO, |last| last.period),
            heartbeat_age: rhythm
                .map(|rhythm| Duration::from_nanos(now.saturating_sub(rhythm.heartbeat_at()))),
            silence: Duration::from_nanos(now.saturating_sub(self.silent_since)),
            incarnation: last.map_or(0, |last| last.incarnation),
            oldest_sync_age: last.map_or(Duration::ZERO, |last| last.oldest_sync_age),
            scheduling_lag: last.map_or(Duration::ZERO, |last| last.scheduling_lag),
            heartbeats: self.heartbeats,
            missed: self.missed,
            mistakes: self.mistakes,
            ignored: self.ignored,
        }
    }
}
