//! What happened in one run, in order: recorded by the runner, drawn by the report, printed by a
//! replay.
//!
//! The timeline is for people and for the questions that are about time: how long until the next
//! acknowledged write, was there a fault when the leader changed. Which values were written and
//! read is in the history; what the logs held is told to the checkers directly.

mod fault;
mod lanes;
mod text;

use std::fmt;

use serde::Serialize;

pub use self::{
    fault::{Fault, FaultKind, FaultWindow},
    lanes::{Span, Standing},
};

/// What happened in one run, in order.
#[derive(Debug, Clone, Default)]
pub struct Timeline {
    events: Vec<Event>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When, in simulated microseconds.
    pub at_us: u64,
    /// Where; `None` if it is about the whole cluster or a client.
    pub node: Option<u32>,
    /// What.
    pub kind: EventKind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// A node's process started.
    Started {
        /// How often it started before in this run.
        incarnation: u32,
    },
    /// A node's process ended, by its own will or not; the fault says why.
    Stopped,
    /// A node changed its role or its term.
    Role {
        /// What it is now.
        role: Role,
        /// The term it is in now.
        term: u64,
    },
    /// A fault began.
    FaultBegan(Fault),
    /// A fault ended; a fault without a length, such as a kill, ends when the node is started.
    FaultEnded {
        /// The number it began with.
        id: u32,
    },
    /// A client received the acknowledgement of a write; the event's node is the one it had asked.
    Acknowledged {
        /// The client.
        client: u32,
        /// When it had sent the write, in simulated microseconds.
        invoked_us: u64,
        /// The revision of the write.
        revision: u64,
    },
    /// A client gave a write up without knowing its outcome.
    OutcomeUnknown {
        /// The client.
        client: u32,
    },
    /// A node passed a write on to the leader.
    Forwarded,
    /// A node finished a snapshot of its own.
    SnapshotTaken {
        /// The last log index in it.
        index: u64,
    },
    /// A node took over a snapshot that the leader sent.
    SnapshotInstalled {
        /// The last log index in it.
        index: u64,
    },
    /// A starting node found the end of its log torn and cut it.
    TornTail {
        /// Bytes cut.
        bytes: u64,
    },
    /// A node noticed that its disk fails it and stopped taking part.
    StorageFailed,
    /// A node handed leadership over on purpose, or was asked to.
    LeadershipTransferred {
        /// To whom.
        to: u32,
    },
    /// A node's process knows which node id its folder has.
    Named {
        /// The node id.
        id: u64,
    },
    /// A leader begins to change who has a vote.
    VotersChange {
        /// The voters before.
        from: Vec<Voter>,
        /// The voters after.
        to: Vec<Voter>,
    },
    /// An operator has a member removed whatever that does to the failures tolerated.
    RemovalForced {
        /// The member's node id.
        id: u64,
    },
    /// All faults are over: from here on the cluster must recover and stay well.
    Healed,
    /// The run found something wrong.
    Violation {
        /// What, as [`Violation`](crate::checkers::Violation) words it.
        what: String,
    },
    /// The scenario's own words.
    Note(String),
}

/// A voter: a node id, and the place whose folder has it or had it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Voter {
    /// The node id.
    pub id: u64,
    /// The place.
    pub node: u32,
}

/// What a node is to its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Not in a cluster, or shut out of it.
    Outsider,
    /// Receives the log, has no vote.
    Learner,
    /// Follows a leader or waits for one.
    Follower,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}

impl Role {
    /// The role in one word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Outsider => "outsider",
            Self::Learner => "learner",
            Self::Follower => "follower",
            Self::Candidate => "candidate",
            Self::Leader => "leader",
        }
    }
}

/// A simulated time in microseconds, shown as seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seconds(pub u64);

impl fmt::Display for Seconds {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{:03} s", self.0 / 1_000_000, self.0 / 1_000 % 1_000)
    }
}

impl Timeline {
    /// Adds what happened now.
    ///
    /// # Panics
    /// If time went backwards.
    pub fn record(&mut self, at_us: u64, node: Option<u32>, kind: EventKind) {
        assert!(
            self.events.last().is_none_or(|last| last.at_us <= at_us),
            "a timeline is recorded in the order of time"
        );
        self.events.push(Event { at_us, node, kind });
    }

    /// All that happened, in order.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// When the last event happened, in simulated microseconds.
    #[must_use]
    pub fn end_us(&self) -> u64 {
        self.events.last().map_or(0, |event| event.at_us)
    }

    /// The number of nodes that anything is recorded of.
    #[must_use]
    pub fn node_count(&self) -> u32 {
        self.events.iter().filter_map(|event| event.node).max().map_or(0, |last| last + 1)
    }

    /// The faults with their ends, in the order of their beginning.
    #[must_use]
    pub fn faults(&self) -> Vec<FaultWindow> {
        fault::windows(&self.events)
    }

    /// What each node was at each time, node by node, without gaps.
    #[must_use]
    pub fn spans(&self) -> Vec<Vec<Span>> {
        lanes::spans(&self.events, self.node_count())
    }

    /// The times in which something was wrong or had been not long before, in order and apart:
    /// from the start of the run to the first leader, and from the beginning of each fault to
    /// `margin_us` after its end.
    #[must_use]
    pub fn disturbed_us(&self, margin_us: u64) -> Vec<(u64, u64)> {
        let first_leader = self
            .events
            .iter()
            .find(|event| matches!(event.kind, EventKind::Role { role: Role::Leader, .. }));
        let birth_us = first_leader.map_or(u64::MAX, |event| event.at_us + margin_us);
        let mut spans = vec![(0, birth_us)];
        for window in self.faults() {
            let until_us = window.ended_us.map_or(u64::MAX, |ended_us| ended_us + margin_us);
            match spans.last_mut() {
                Some((_, last_us)) if *last_us >= window.began_us => {
                    *last_us = until_us.max(*last_us);
                }
                _ => spans.push((window.began_us, until_us)),
            }
        }
        spans
    }
}
