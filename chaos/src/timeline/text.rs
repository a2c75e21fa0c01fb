//! The timeline as text, for a replay: what happened, one line each, no wider than 100 columns.
//!
//! Every line begins with the time and with what each node is after it, one letter a node: `L`
//! leads, `f` follows, `c` asks for votes, `l` learns, `o` is no member, `x` is down. Acknowledged
//! writes and forwarded ones come by the thousand; those between two other events share a line.

use std::fmt::{self, Write as _};

use super::{Event, EventKind, Role, Seconds, Timeline, Voter, lanes::Lanes};

/// The widest line.
const WIDTH: usize = 100;

impl fmt::Display for Timeline {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut page =
            Page { lanes: Lanes::new(self.node_count()), crowd: Crowd::default(), out: formatter };
        page.out
            .write_str("L leads, f follows, c asks for votes, l learns, o no member, x down\n\n")?;
        for event in self.events() {
            page.event(event)?;
        }
        page.end_crowd()
    }
}

struct Page<'a, 'b> {
    lanes: Lanes,
    crowd: Crowd,
    out: &'a mut fmt::Formatter<'b>,
}

/// Events of the kinds that come in crowds, since the last line.
#[derive(Default)]
struct Crowd {
    last_us: u64,
    acknowledged: u64,
    /// The lowest and the highest acknowledged revision.
    revisions: Option<(u64, u64)>,
    unknown: u64,
    forwarded: u64,
}

impl Page<'_, '_> {
    fn event(&mut self, event: &Event) -> fmt::Result {
        if self.crowd.take(event) {
            return Ok(());
        }
        self.end_crowd()?;
        self.lanes.follow(event);
        let mut what = String::new();
        match event.node {
            Some(node) => write!(what, "node {node} {}", what_happened(&event.kind))?,
            None => what.push_str(&what_happened(&event.kind)),
        }
        self.line(event.at_us, mark(&event.kind), &what)
    }

    fn end_crowd(&mut self) -> fmt::Result {
        let crowd = std::mem::take(&mut self.crowd);
        let Some(what) = crowd.in_words()? else { return Ok(()) };
        self.line(crowd.last_us, ' ', &what)
    }

    /// Writes a line, and goes on in the next one where it gets too wide.
    fn line(&mut self, at_us: u64, mark: char, what: &str) -> fmt::Result {
        let mut head = format!("{:>11}  ", Seconds(at_us).to_string());
        for standing in &self.lanes.0 {
            head.push(standing.letter());
            head.push(' ');
        }
        let _ = write!(head, " {mark} ");
        let room = WIDTH.saturating_sub(head.chars().count()).max(20);
        for (number, part) in wrap(what, room).into_iter().enumerate() {
            if number > 0 {
                head = format!("{:width$}", "", width = head.chars().count());
            }
            writeln!(self.out, "{head}{part}")?;
        }
        Ok(())
    }
}

impl Crowd {
    fn take(&mut self, event: &Event) -> bool {
        match event.kind {
            EventKind::Acknowledged { revision, .. } => {
                self.acknowledged += 1;
                let (low, high) = self.revisions.unwrap_or((revision, revision));
                self.revisions = Some((low.min(revision), high.max(revision)));
            }
            EventKind::OutcomeUnknown { .. } => self.unknown += 1,
            EventKind::Forwarded => self.forwarded += 1,
            _ => return false,
        }
        self.last_us = event.at_us;
        true
    }

    fn in_words(&self) -> Result<Option<String>, fmt::Error> {
        let mut parts = Vec::new();
        if let Some((low, high)) = self.revisions {
            let mut part = format!("{} acknowledged", count(self.acknowledged, "write"));
            if low == high {
                write!(part, " (revision {low})")?;
            } else {
                write!(part, " (revisions {low} to {high})")?;
            }
            parts.push(part);
        }
        if self.forwarded > 0 {
            parts.push(format!("{} forwarded", count(self.forwarded, "write")));
        }
        if self.unknown > 0 {
            parts.push(format!("{} of unknown outcome", count(self.unknown, "write")));
        }
        Ok((!parts.is_empty()).then(|| parts.join(", ")))
    }
}

/// What deserves a look: faults, and what is wrong.
const fn mark(kind: &EventKind) -> char {
    match kind {
        EventKind::FaultBegan(_) => '+',
        EventKind::FaultEnded { .. } => '-',
        EventKind::Violation { .. } => '!',
        EventKind::Note(_) | EventKind::Healed => '#',
        _ => ' ',
    }
}

fn what_happened(kind: &EventKind) -> String {
    match kind {
        EventKind::Started { incarnation: 0 } => "starts".to_owned(),
        EventKind::Started { incarnation } => format!("starts again ({incarnation})"),
        EventKind::Stopped => "is down".to_owned(),
        EventKind::Role { role: Role::Leader, term } => format!("LEADS term {term}"),
        EventKind::Role { role, term } => format!("is {} in term {term}", role.as_str()),
        EventKind::FaultBegan(fault) => {
            let nodes: Vec<_> = fault.nodes.iter().map(ToString::to_string).collect();
            let mut what = format!("{} #{}", fault.kind.as_str(), fault.id);
            match nodes.len() {
                0 => {}
                1 => what.push_str(" of node "),
                _ => what.push_str(" of nodes "),
            }
            what.push_str(&nodes.join(", "));
            if !fault.detail.is_empty() {
                what.push_str(": ");
                what.push_str(&fault.detail);
            }
            if !fault.quorum_left {
                what.push_str(" (no quorum left)");
            }
            what
        }
        EventKind::FaultEnded { id } => format!("#{id} is over"),
        EventKind::Acknowledged { revision, .. } => format!("acknowledges revision {revision}"),
        EventKind::OutcomeUnknown { client } => format!("leaves client {client} without an answer"),
        EventKind::Forwarded => "forwards a write".to_owned(),
        EventKind::SnapshotTaken { index } => format!("took a snapshot at entry {index}"),
        EventKind::SnapshotInstalled { index } => format!("installed a snapshot at entry {index}"),
        EventKind::TornTail { bytes: 0 } => "cut a torn tail off its log".to_owned(),
        EventKind::TornTail { bytes } => format!("cut a torn tail of {bytes} bytes off its log"),
        EventKind::StorageFailed => "says that its storage failed".to_owned(),
        EventKind::LeadershipTransferred { to } => format!("hands leadership to node {to}"),
        EventKind::Named { id } => format!("has node id {id:016x}"),
        EventKind::VotersChange { from, to } => {
            format!("changes the voters from {} to {}", voters(from), voters(to))
        }
        EventKind::RemovalForced { id } => format!("is told to remove {id:016x} by force"),
        EventKind::Healed => "all faults are over; the cluster must recover".to_owned(),
        EventKind::Violation { what } => format!("VIOLATION {what}"),
        EventKind::Note(note) => note.clone(),
    }
}

/// Places, and the ids where a place stands twice.
fn voters(voters: &[Voter]) -> String {
    let show = |voter: &Voter| {
        let of_place = voters.iter().filter(|other| other.node == voter.node).count();
        match of_place {
            1 => voter.node.to_string(),
            _ => format!("{} ({:016x})", voter.node, voter.id),
        }
    };
    let shown: Vec<_> = voters.iter().map(show).collect();
    shown.join(", ")
}

fn count(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// Cuts a text between words into parts of at most `room` characters; a longer word is cut too.
fn wrap(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let mut rest: Vec<char> = word.chars().collect();
        while !rest.is_empty() {
            let line = lines.last_mut().expect("there is a first line");
            let used = line.chars().count();
            let space = usize::from(used > 0);
            if used + space + rest.len() <= room {
                if space > 0 {
                    line.push(' ');
                }
                line.extend(rest.drain(..));
            } else if used > 0 {
                lines.push(String::new());
            } else {
                line.extend(rest.drain(..room));
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timeline::{Fault, FaultKind};

    fn timeline() -> Timeline {
        let mut timeline = Timeline::default();
        for node in 0..3 {
            timeline.record(0, Some(node), EventKind::Started { incarnation: 0 });
        }
        timeline.record(300_000, Some(1), EventKind::Role { role: Role::Leader, term: 1 });
        for number in 0..40 {
            let kind = EventKind::Acknowledged { client: 1, invoked_us: 0, revision: 2 + number };
            timeline.record(400_000 + number, Some(1), kind);
        }
        timeline.record(500_000, Some(0), EventKind::Forwarded);
        let fault = Fault {
            id: 4,
            kind: FaultKind::Partition,
            nodes: vec![1],
            quorum_left: true,
            detail: "the leader is cut off from everybody, clients excepted, and does not know it \
                     before its lease is over"
                .to_owned(),
        };
        timeline.record(1_500_000, None, EventKind::FaultBegan(fault));
        timeline.record(2_000_000, Some(1), EventKind::Stopped);
        timeline.record(2_500_000, None, EventKind::FaultEnded { id: 4 });
        let what = "one-leader-per-term".to_owned();
        timeline.record(12_500_000, Some(2), EventKind::Violation { what });
        timeline
    }

    #[test]
    fn the_text_shows_time_lanes_and_what_happened() {
        let text = timeline().to_string();
        assert!(text.contains("    0.300 s  o L o    node 1 LEADS term 1\n"), "{text}");
        assert!(
            text.contains("    0.500 s  o L o    40 writes acknowledged (revisions 2 to 41), 1 write forwarded\n"),
            "{text}"
        );
        assert!(text.contains("    2.500 s  o x o  - #4 is over\n"), "{text}");
        assert!(
            text.contains("   12.500 s  o x o  ! node 2 VIOLATION one-leader-per-term\n"),
            "{text}"
        );
    }

    #[test]
    fn no_line_is_wider_than_the_page() {
        let text = timeline().to_string();
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(text.contains("its lease is over\n"), "a long line goes on in the next: {text}");
        let long = "x".repeat(250);
        assert_eq!(wrap(&long, 100).iter().map(String::len).collect::<Vec<_>>(), [100, 100, 50]);
    }
}
