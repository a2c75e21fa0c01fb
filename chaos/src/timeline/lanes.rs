//! Where each node stood at each time: the lanes of the timeline's text and picture.

use super::{Event, EventKind, Role};

/// What a node was at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Its process has never run.
    Absent,
    /// Its process does not run.
    Down,
    /// Its process runs.
    Up {
        /// What it is to the cluster.
        role: Role,
        /// The term it is in.
        term: u64,
    },
}

impl Standing {
    /// The standing in one character.
    #[must_use]
    pub const fn letter(self) -> char {
        match self {
            Self::Absent => '.',
            Self::Down => 'x',
            Self::Up { role: Role::Outsider, .. } => 'o',
            Self::Up { role: Role::Learner, .. } => 'l',
            Self::Up { role: Role::Follower, .. } => 'f',
            Self::Up { role: Role::Candidate, .. } => 'c',
            Self::Up { role: Role::Leader, .. } => 'L',
        }
    }
}

/// A time during which a node's standing did not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// From when, in simulated microseconds.
    pub from_us: u64,
    /// Until when.
    pub until_us: u64,
    /// What it was.
    pub standing: Standing,
}

/// The standings of all nodes, moved along event by event.
#[derive(Debug, Clone)]
pub(super) struct Lanes(pub(super) Vec<Standing>);

impl Lanes {
    pub(super) fn new(nodes: u32) -> Self {
        Self((0..nodes).map(|_node| Standing::Absent).collect())
    }

    /// Takes an event in; the lane that it changed, if any.
    pub(super) fn follow(&mut self, event: &Event) -> Option<usize> {
        let lane = event.node? as usize;
        let standing = self.0.get_mut(lane)?;
        let now = match event.kind {
            EventKind::Started { .. } => Standing::Up { role: Role::Outsider, term: 0 },
            EventKind::Stopped => Standing::Down,
            EventKind::Role { role, term } => Standing::Up { role, term },
            _ => return None,
        };
        (std::mem::replace(standing, now) != now).then_some(lane)
    }
}

/// Each node's spans, in order and without gaps.
pub(super) fn spans(events: &[Event], nodes: u32) -> Vec<Vec<Span>> {
    let mut lanes = Lanes::new(nodes);
    let first = |standing: &Standing| vec![Span { from_us: 0, until_us: 0, standing: *standing }];
    let mut spans: Vec<Vec<Span>> = lanes.0.iter().map(first).collect();
    let mut end_us = 0;
    for event in events {
        end_us = event.at_us;
        if let Some(lane) = lanes.follow(event) {
            let spans = &mut spans[lane];
            if let Some(last) = spans.last_mut() {
                last.until_us = event.at_us;
            }
            let standing = lanes.0[lane];
            spans.push(Span { from_us: event.at_us, until_us: event.at_us, standing });
        }
    }
    for spans in &mut spans {
        if let Some(last) = spans.last_mut() {
            last.until_us = end_us;
        }
        spans.retain(|span| span.from_us < span.until_us);
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timeline::Timeline;

    #[test]
    fn spans_follow_each_other_without_gaps() {
        let mut timeline = Timeline::default();
        timeline.record(5, Some(0), EventKind::Started { incarnation: 0 });
        timeline.record(7, Some(0), EventKind::Role { role: Role::Leader, term: 1 });
        timeline.record(7, Some(1), EventKind::Started { incarnation: 0 });
        timeline.record(9, Some(0), EventKind::Stopped);
        timeline.record(12, None, EventKind::Healed);
        let spans = timeline.spans();
        let letters = |lane: usize| -> Vec<_> {
            spans[lane]
                .iter()
                .map(|span| (span.from_us, span.until_us, span.standing.letter()))
                .collect()
        };
        assert_eq!(letters(0), [(0, 5, '.'), (5, 7, 'o'), (7, 9, 'L'), (9, 12, 'x')]);
        assert_eq!(letters(1), [(0, 7, '.'), (7, 12, 'o')]);
    }
}
