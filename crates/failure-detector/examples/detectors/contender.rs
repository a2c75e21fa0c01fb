//! The detectors that are compared: ours, fixed timeouts, and phi with a plain normal distribution.
//!
//! Each is told of a heartbeat and answers until when it waits for the next one. One contender may
//! answer for several thresholds at once.

use std::{collections::VecDeque, time::Duration};

use mainstay_failure_detector::{FailureDetector, Heartbeat, Settings, WINDOW};

use crate::trace::Sent;

/// Something that waits for heartbeats.
pub(crate) trait Contender {
    /// The names of its thresholds.
    fn names(&self) -> Vec<String>;

    /// Told of a heartbeat that arrived `now`, writes down until when each threshold waits. Times
    /// in nanoseconds.
    fn heartbeat(&mut self, sequence: u64, sent: &Sent, now: u64, deadlines: &mut [u64]);
}

/// Our detector, driven as its contract says: asked again whenever it wants to be.
pub(crate) struct Ours {
    detector: FailureDetector,
    levels: [f64; 2],
    ask_again_at: Duration,
}

impl Ours {
    const PEER: u64 = 1;

    pub(crate) fn new(suspect: f64, failed: f64) -> Self {
        let settings = Settings { suspect, failed, ..Settings::default() };
        let mut detector =
            FailureDetector::new(settings, Duration::ZERO).expect("the levels are in order");
        detector.watch(Self::PEER, Duration::ZERO).expect("one peer is few");
        Self { detector, levels: [suspect, failed], ask_again_at: Duration::ZERO }
    }
}

impl Contender for Ours {
    fn names(&self) -> Vec<String> {
        self.levels.iter().map(|level| format!("phi {level}, hybrid")).collect()
    }

    fn heartbeat(&mut self, sequence: u64, sent: &Sent, now: u64, deadlines: &mut [u64]) {
        let now = Duration::from_nanos(now);
        while self.ask_again_at <= now {
            self.ask_again_at = self.detector.poll(self.ask_again_at).ask_again_at;
        }
        let heartbeat = Heartbeat {
            incarnation: 1,
            sequence,
            period: Duration::from_nanos(sent.period),
            oldest_sync_age: Duration::ZERO,
            scheduling_lag: Duration::ZERO,
        };
        self.detector.heartbeat(Self::PEER, &heartbeat, now).expect("the trace is in order");
        let found = self.detector.deadlines(Self::PEER).expect("the peer was heard");
        for (deadline, found) in deadlines.iter_mut().zip([found.suspect_at, found.failed_at]) {
            *deadline = u64::try_from(found.as_nanos()).unwrap_or(u64::MAX);
        }
    }
}

/// Timeouts that never change, in milliseconds.
pub(crate) struct Fixed {
    pub(crate) timeouts_ms: Vec<u64>,
}

impl Contender for Fixed {
    fn names(&self) -> Vec<String> {
        self.timeouts_ms.iter().map(|timeout| format!("fixed {timeout} ms")).collect()
    }

    fn heartbeat(&mut self, _sequence: u64, _sent: &Sent, now: u64, deadlines: &mut [u64]) {
        for (deadline, timeout) in deadlines.iter_mut().zip(&self.timeouts_ms) {
            *deadline = now + timeout * 1_000_000;
        }
    }
}

/// Phi as in the paper: a normal distribution over all intervals of the window, with a deviation
/// of at least a tenth of the mean, and optionally an acceptable pause.
pub(crate) struct Gaussian {
    pause_periods: u64,
    window: VecDeque<f64>,
    last: Option<u64>,
}

impl Gaussian {
    /// Phi and the standard deviations at which a normal distribution reaches it.
    const THRESHOLDS: [(f64, f64); 5] =
        [(1.0, 1.2816), (3.0, 3.0902), (8.0, 5.6120), (12.0, 7.0344), (16.0, 8.2221)];

    pub(crate) fn new(pause_periods: u64) -> Self {
        Self { pause_periods, window: VecDeque::new(), last: None }
    }
}

impl Contender for Gaussian {
    fn names(&self) -> Vec<String> {
        let pause = match self.pause_periods {
            0 => String::new(),
            periods => format!(", pause {periods} T"),
        };
        let name = |(phi, _deviations): &(f64, f64)| format!("phi {phi}, Gaussian{pause}");
        Self::THRESHOLDS.iter().map(name).collect()
    }

    fn heartbeat(&mut self, _sequence: u64, sent: &Sent, now: u64, deadlines: &mut [u64]) {
        if let Some(last) = self.last.replace(now) {
            if self.window.len() == WINDOW {
                self.window.pop_front();
            }
            self.window.push_back((now - last) as f64);
        }
        let count = self.window.len().max(1) as f64;
        let (sum, squares) =
            self.window.iter().fold((0.0, 0.0), |(sum, squares), x| (sum + x, squares + x * x));
        let mean = if self.window.is_empty() { sent.period as f64 } else { sum / count };
        let deviation = (squares / count - mean * mean).max(0.0).sqrt().max(0.1 * mean);
        let pause = (self.pause_periods * sent.period) as f64;
        for (deadline, (_phi, deviations)) in deadlines.iter_mut().zip(Self::THRESHOLDS) {
            let wait = Duration::from_secs_f64((mean + pause + deviations * deviation) / 1e9);
            *deadline = now + u64::try_from(wait.as_nanos()).expect("a wait of seconds");
        }
    }
}
