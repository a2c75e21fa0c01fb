//! The kinds of faults that a run injects, and when each was on.

use serde::Serialize;

use super::{Event, EventKind};

/// A fault that begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Its number in this run; the end refers to it.
    pub id: u32,
    /// Its kind.
    pub kind: FaultKind,
    /// The nodes it touches.
    pub nodes: Vec<u32>,
    /// Whether a majority of voters that work and reach each other is left while it is on. If not,
    /// nobody can write before it ends, and the time to recover counts from its end.
    pub quorum_left: bool,
    /// More about it, for people; may be empty.
    pub detail: String,
}

/// A fault with its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultWindow {
    /// The fault.
    pub fault: Fault,
    /// When it began, in simulated microseconds.
    pub began_us: u64,
    /// When it ended; `None` if it never did.
    pub ended_us: Option<u64>,
}

impl FaultWindow {
    /// Whether the fault was on at some time in the span (both ends included).
    #[must_use]
    pub fn touches(&self, from_us: u64, to_us: u64) -> bool {
        self.began_us <= to_us && self.ended_us.is_none_or(|ended_us| ended_us >= from_us)
    }
}

macro_rules! fault_kinds {
    ($($(#[doc = $doc:literal])+ $kind:ident => $name:literal,)+) => {
        /// The kinds of faults.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum FaultKind {
            $($(#[doc = $doc])+ $kind,)+
        }

        impl FaultKind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$kind),+];

            /// The kind as it is written in reports.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)+
                }
            }
        }
    };
}

fault_kinds! {
    /// Some nodes are cut off from the others, both ways.
    Partition => "partition",
    /// Messages are lost in one direction only.
    OneWayPartition => "one-way-partition",
    /// Two groups that reach each other only through one node.
    BridgePartition => "bridge-partition",
    /// Links with a long delay.
    SlowLinks => "slow-links",
    /// Links whose delay varies a lot.
    JitteryLinks => "jittery-links",
    /// Links that lose segments, so that streams hang.
    LossyLinks => "lossy-links",
    /// Links that keep messages back and deliver them later.
    HeldLinks => "held-links",
    /// A process ends; its page cache stays, its peers see closed connections.
    ProcessKill => "process-kill",
    /// A process is told to stop, ends in good order and is started again.
    OrderlyStop => "orderly-stop",
    /// A machine ends silently; what was not synced is gone.
    PowerLoss => "power-loss",
    /// A process stands still and goes on.
    Pause => "pause",
    /// Several or all nodes end and start, perhaps again and again.
    RestartStorm => "restart-storm",
    /// A clock is set to another time.
    ClockJump => "clock-jump",
    /// A clock runs too fast or too slow.
    ClockRate => "clock-rate",
    /// Every write and sync takes long.
    SlowDisk => "slow-disk",
    /// Syncs hang for seconds.
    DiskStall => "disk-stall",
    /// A sync fails.
    FailedSync => "failed-sync",
    /// Reads or writes fail.
    IoError => "io-error",
    /// The disk is full.
    DiskFull => "disk-full",
    /// Bytes change at rest.
    BitRot => "bit-rot",
    /// A disk is lost with all that was on it.
    LostDisk => "lost-disk",
    /// Leadership is moved on purpose.
    LeadershipTransfer => "leadership-transfer",
    /// Members come or go.
    MembershipChange => "membership-change",
}

impl FaultKind {
    /// Whether a leader may rightly lose its title over it. The others are hardships that a
    /// cluster bears without an election.
    #[must_use]
    pub const fn excuses_election(self) -> bool {
        !matches!(
            self,
            Self::ClockJump
                | Self::SlowDisk
                | Self::DiskFull
                | Self::BitRot
                | Self::MembershipChange
        )
    }
}

/// Joins the beginnings and the ends.
pub(super) fn windows(events: &[Event]) -> Vec<FaultWindow> {
    let mut windows: Vec<FaultWindow> = Vec::new();
    for event in events {
        match &event.kind {
            EventKind::FaultBegan(fault) => windows.push(FaultWindow {
                fault: fault.clone(),
                began_us: event.at_us,
                ended_us: None,
            }),
            EventKind::FaultEnded { id } => {
                let open = windows
                    .iter_mut()
                    .rev()
                    .find(|window| window.fault.id == *id && window.ended_us.is_none());
                if let Some(window) = open {
                    window.ended_us = Some(event.at_us);
                }
            }
            _ => {}
        }
    }
    windows
}
