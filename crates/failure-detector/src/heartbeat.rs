//! What a peer says of itself, and which of it is not believed.
//!
//! Only heartbeats made for this purpose are sampled. Other traffic proves that a peer lives, but
//! its rhythm is the load's: under load the mean interval would shrink to a millisecond, and the
//! first idle moment after it would look like a death.

use std::time::Duration;

use crate::reading::Level;

/// The shortest period that is believed.
pub const PERIOD_MIN: Duration = Duration::from_millis(1);

/// The longest period that is believed.
pub const PERIOD_MAX: Duration = Duration::from_secs(60);

/// The longest gap between the sequences of two heartbeats that is believed: 49 days of
/// heartbeats at the shortest period.
pub const SEQUENCE_GAP_MAX: u64 = 1 << 32;

/// The highest sequence that is believed: none could follow a sequence at the end of its numbers.
pub const SEQUENCE_MAX: u64 = 1 << 62;

/// The longest age or lag that is believed.
const AGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// One heartbeat, as its sender made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    /// Which run of the sender's process this is; a later run has a greater number.
    pub incarnation: u64,
    /// The heartbeat's number within the incarnation, one more than that of the one before.
    pub sequence: u64,
    /// When the sender's next heartbeat is due, counted from this one.
    pub period: Duration,
    /// How long the sender's oldest unfinished sync has been under way; zero when none is.
    pub oldest_sync_age: Duration,
    /// By how much the sender's timers are late.
    pub scheduling_lag: Duration,
}

impl Heartbeat {
    /// Refuses values that no working sender sends.
    #[inline]
    pub(crate) fn check(&self) -> Result<(), Ignored> {
        let age = self.oldest_sync_age.max(self.scheduling_lag);
        if self.period < PERIOD_MIN || self.period > PERIOD_MAX {
            return Err(Ignored::AbsurdPeriod { period: self.period });
        }
        if age > AGE_MAX {
            return Err(Ignored::AbsurdAge { age });
        }
        if self.sequence > SEQUENCE_MAX {
            return Err(Ignored::AbsurdSequence { sequence: self.sequence });
        }
        Ok(())
    }

    /// What lies between `last` and this heartbeat; refuses one that does not follow it.
    #[inline]
    pub(crate) fn step_from(&self, last: &Self) -> Result<Step, Ignored> {
        let sequence = self.sequence;
        if self.incarnation != last.incarnation {
            return if self.incarnation > last.incarnation {
                Ok(Step::NewIncarnation)
            } else {
                let current = last.incarnation;
                Err(Ignored::OldIncarnation { incarnation: self.incarnation, current })
            };
        }
        match sequence.checked_sub(last.sequence) {
            None => Err(Ignored::Reordered { sequence, newest: last.sequence }),
            Some(0) => Err(Ignored::Duplicate { sequence }),
            Some(gap) if gap > SEQUENCE_GAP_MAX => Err(Ignored::AbsurdSequence { sequence }),
            Some(gap) => Ok(Step::Next { missed: gap - 1 }),
        }
    }
}

/// What lies between a heartbeat and the one used before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// There was none before.
    First,
    /// This is the first of another process of the sender.
    NewIncarnation,
    /// So many never came.
    Next { missed: u64 },
}

/// What a heartbeat that was used came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// What the peer was taken for until now, told by a poll or not; it is alive again.
    pub was: Level,
    /// How long it had been silent: since its last sign of life.
    pub silence: Duration,
    /// How many heartbeats between the last one and this were never seen.
    pub missed: u64,
    /// The peer's process is another one than before; what was learned of the old is forgotten.
    pub new_incarnation: bool,
}

/// A heartbeat was counted and not used; nothing that is believed of the peer has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ignored {
    /// Nobody asked to watch this peer.
    #[error("peer {peer} is not watched: its heartbeat was ignored")]
    UnknownPeer {
        /// The peer.
        peer: u64,
    },
    /// The newest heartbeat came again.
    #[error("heartbeat {sequence} came twice: the second was ignored")]
    Duplicate {
        /// Its sequence.
        sequence: u64,
    },
    /// A heartbeat came after a later one.
    #[error("heartbeat {sequence} came after {newest}: it was ignored")]
    Reordered {
        /// Its sequence.
        sequence: u64,
        /// The newest sequence seen.
        newest: u64,
    },
    /// A heartbeat of a process that is gone.
    #[error("a heartbeat of incarnation {incarnation} came after one of {current}: it was ignored")]
    OldIncarnation {
        /// Its incarnation.
        incarnation: u64,
        /// The newest incarnation seen.
        current: u64,
    },
    /// A period that no sender keeps.
    #[error(
        "a heartbeat announced a period of {period:?}, which is not from {PERIOD_MIN:?} to {PERIOD_MAX:?}: it was ignored"
    )]
    AbsurdPeriod {
        /// The period.
        period: Duration,
    },
    /// A sequence that no sender has reached.
    #[error("no sender can have come to heartbeat {sequence}: it was ignored")]
    AbsurdSequence {
        /// Its sequence.
        sequence: u64,
    },
    /// A sync age or scheduling lag beyond a day.
    #[error("a heartbeat announced a delay of {age:?}, more than a day: it was ignored")]
    AbsurdAge {
        /// The longer of the two.
        age: Duration,
    },
}

/// How many heartbeats of a peer were ignored, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IgnoredCounts {
    /// Came twice.
    pub duplicate: u64,
    /// Came after a later one.
    pub reordered: u64,
    /// Of an earlier incarnation.
    pub old_incarnation: u64,
    /// With a period, sequence or age that cannot be.
    pub absurd: u64,
}

impl IgnoredCounts {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.duplicate + self.reordered + self.old_incarnation + self.absurd
    }

    /// Counts one and hands it back; a peer that is not watched has no counts.
    #[cold]
    pub(crate) fn count(&mut self, ignored: Ignored) -> Ignored {
        match ignored {
            Ignored::UnknownPeer { .. } => {}
            Ignored::Duplicate { .. } => self.duplicate += 1,
            Ignored::Reordered { .. } => self.reordered += 1,
            Ignored::OldIncarnation { .. } => self.old_incarnation += 1,
            Ignored::AbsurdPeriod { .. }
            | Ignored::AbsurdSequence { .. }
            | Ignored::AbsurdAge { .. } => self.absurd += 1,
        }
        ignored
    }
}
