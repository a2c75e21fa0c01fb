//! One sender and one detector that watches it, in made-up time.
//!
//! [`Pair::pass`] lets time pass as the detector's contract asks: it is polled whenever it wants to
//! be, and what it tells is collected.

use std::time::Duration;

use mainstay_failure_detector::{
    Change, Deadlines, FailureDetector, Heard, Heartbeat, Ignored, Level, Reading, Settings,
};

/// The sender.
pub(crate) const PEER: u64 = 7;

/// Its period.
pub(crate) const PERIOD: Duration = Duration::from_millis(50);

pub(crate) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(crate) fn heartbeat(incarnation: u64, sequence: u64) -> Heartbeat {
    Heartbeat {
        incarnation,
        sequence,
        period: PERIOD,
        oldest_sync_age: Duration::ZERO,
        scheduling_lag: Duration::ZERO,
    }
}

pub(crate) struct Pair {
    pub(crate) detector: FailureDetector,
    pub(crate) now: Duration,
    /// The heartbeat that was sent last.
    pub(crate) sent: Heartbeat,
    ask_again_at: Duration,
}

impl Pair {
    /// A peer that is watched and was never heard.
    pub(crate) fn new() -> Self {
        Self::with(Settings::default())
    }

    pub(crate) fn with(settings: Settings) -> Self {
        let now = Duration::from_secs(1_000);
        let mut detector = FailureDetector::new(settings, now).expect("the settings are in order");
        detector.watch(PEER, now).expect("one peer is few");
        Self { detector, now, sent: heartbeat(1, 0), ask_again_at: now }
    }

    /// A peer whose heartbeats filled the window, each exactly on time.
    pub(crate) fn running() -> Self {
        let mut pair = Self::new();
        pair.beats(250);
        pair
    }

    /// Lets time pass, polling as asked; answers what was told meanwhile.
    pub(crate) fn pass(&mut self, time: Duration) -> Vec<Change> {
        let until = self.now + time;
        let mut changes = Vec::new();
        while self.ask_again_at <= until {
            self.now = self.now.max(self.ask_again_at);
            let poll = self.detector.poll(self.now);
            changes.extend(poll.change);
            assert!(
                poll.change.is_some() || poll.ask_again_at > self.now,
                "a poll without a change must not ask for another at once"
            );
            self.ask_again_at = poll.ask_again_at;
        }
        self.now = until;
        changes
    }

    /// Lets time pass without polling, as a process does that is stopped.
    pub(crate) fn freeze(&mut self, time: Duration) {
        self.now += time;
    }

    /// The next heartbeat arrives now.
    pub(crate) fn beat(&mut self) -> Result<Heard, Ignored> {
        self.sent.sequence += 1;
        self.detector.heartbeat(PEER, &self.sent, self.now)
    }

    /// The next heartbeats arrive, a period apart each, the first after a period.
    pub(crate) fn beats(&mut self, count: usize) {
        for _beat in 0..count {
            self.pass(self.sent.period);
            self.beat().expect("an ordinary heartbeat is used");
        }
    }

    pub(crate) fn reading(&self) -> Reading {
        self.detector.reading(PEER, self.now).expect("the peer is watched")
    }

    pub(crate) fn level(&self) -> Level {
        self.detector.level(PEER, self.now).expect("the peer is watched")
    }

    pub(crate) fn deadlines(&self) -> Deadlines {
        self.detector.deadlines(PEER).expect("the peer was heard")
    }

    /// How long from now until the peer is suspected.
    pub(crate) fn wait(&self) -> Duration {
        self.deadlines().suspect_at.saturating_sub(self.now)
    }
}
