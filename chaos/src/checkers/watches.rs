//! Whether watches are gap-free, in order, without repetition, and true.
//!
//! A watch asks for everything in its range from some revision on. Whatever connections it takes,
//! the client must see each revision that changed the range once, in order, with all its changes.
//! What those are is put together from acknowledged writes, reads and the other watches. A watch
//! that is told that revisions are compacted goes on behind them; that is no gap.
//!
//! The client resumes where it left off; if it asks for what it has had already, that is no
//! repetition of the node's.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::{
    Rule, Violation,
    writes::{Write, Writes, shown},
};
use crate::history::{History, Shown, WatchEvent, WatchMessage, Watched, Watcher};

/// Checks the watches of a history.
#[must_use]
pub fn check(history: &History) -> Vec<Violation> {
    let (writes, _contradictions) = Writes::gather(history);
    let by_revision = by_revision(&writes);
    let mut messages: BTreeMap<u32, Vec<&Watched>> = BTreeMap::new();
    for watched in &history.watched {
        messages.entry(watched.watcher).or_default().push(watched);
    }
    let mut violations = Vec::new();
    for watcher in &history.watchers {
        let mut follower = Follower::new(watcher);
        for watched in messages.get(&watcher.watcher).map_or(&[][..], Vec::as_slice) {
            violations.extend(follower.follow(watched));
        }
        violations.extend(follower.missing(&by_revision));
    }
    violations
}

/// Every known write, by revision and key.
fn by_revision<'w, 'a>(writes: &'w Writes<'a>) -> BTreeMap<(u64, &'a Bytes), &'w Write<'a>> {
    writes
        .iter()
        .flat_map(|(key, known)| {
            known.iter().map(move |(revision, write)| ((*revision, key), write))
        })
        .collect()
}

/// Follows one watch from message to message.
struct Follower<'a> {
    watcher: &'a Watcher,
    /// The lowest revision that has not been told yet.
    next: u64,
    /// The lowest revision that the present connection may tell.
    asked_from: u64,
    /// What was told.
    told: BTreeSet<(u64, &'a Bytes)>,
    /// Spans of revisions that were compacted away: from, below.
    compacted: Vec<(u64, u64)>,
    last: Option<&'a Watched>,
}

impl<'a> Follower<'a> {
    fn new(watcher: &'a Watcher) -> Self {
        Self {
            watcher,
            next: watcher.from_revision,
            asked_from: watcher.from_revision,
            told: BTreeSet::new(),
            compacted: Vec::new(),
            last: None,
        }
    }

    fn follow(&mut self, watched: &'a Watched) -> Option<Violation> {
        self.last = Some(watched);
        if let Some(from) = watched.resumed_from {
            self.asked_from = from;
            self.next = self.next.min(from.max(self.watcher.from_revision));
        }
        match &watched.message {
            WatchMessage::Progress { revision } => {
                // Progress says what is behind; it may say the same again.
                self.next = self.next.max(revision + 1);
                None
            }
            WatchMessage::Compacted { compact_revision } => {
                self.compacted.push((self.next, *compact_revision));
                self.next = self.next.max(*compact_revision);
                None
            }
            WatchMessage::Changed { revision, events } => {
                let violation = self.changed(watched, *revision, events);
                self.next = self.next.max(revision + 1);
                violation
            }
        }
    }

    fn changed(
        &mut self,
        watched: &'a Watched,
        revision: u64,
        events: &'a [WatchEvent],
    ) -> Option<Violation> {
        let violation = |what| {
            Some(Violation {
                at_us: watched.at_us,
                rule: Rule::WatchOrder,
                node: Some(watched.node),
                what: format!("watch {} was told of revision {revision} {what}", watched.watcher),
            })
        };
        let mut twice = None;
        let mut keys = BTreeSet::new();
        for event in events {
            if !keys.insert(&event.key) {
                return violation(format!("of {} twice at once", Shown(&event.key)));
            }
            if !event.key.starts_with(&self.watcher.prefix) {
                return violation(format!("of {}, outside of its range", Shown(&event.key)));
            }
            if !self.told.insert((revision, &event.key)) {
                twice = Some(&event.key);
            }
        }
        if revision < self.asked_from {
            return violation(format!("although it had asked from {} on", self.asked_from));
        }
        if revision < self.next {
            return match twice {
                Some(key) => violation(format!("of {} again", Shown(key))),
                None => violation(format!("when {} was to come", self.next)),
            };
        }
        if events.is_empty() {
            return violation("without a change".to_owned());
        }
        None
    }

    /// The known writes between what was asked for and what was told last that were left out.
    fn missing(&self, known: &BTreeMap<(u64, &Bytes), &Write<'_>>) -> Option<Violation> {
        let last = self.last?;
        let from = (self.watcher.from_revision, &Bytes::new());
        let until = (self.next, &Bytes::new());
        if from >= until {
            return None;
        }
        let ((revision, key), write) =
            known.range(from..until).find(|((revision, key), _write)| {
                key.starts_with(&self.watcher.prefix)
                    && !self.told.contains(&(*revision, *key))
                    && !self.compacted.iter().any(|(from, below)| (from..below).contains(&revision))
            })?;
        Some(Violation {
            at_us: last.at_us,
            rule: Rule::WatchComplete,
            node: Some(last.node),
            what: format!(
                "watch {} came to revision {} without being told of revision {revision}: {} {}, by {}",
                self.watcher.watcher,
                self.next - 1,
                Shown(key),
                shown(write.value),
                write.witness
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::story::{bytes, created, history, overwritten, put, watch};

    /// Three writes, two of them in the range of watch 0.
    fn written() -> History {
        let mut history = history(vec![
            (0, 1, put("a/1", "x"), created(2)),
            (2, 3, put("b/1", "y"), created(3)),
            (4, 5, put("a/1", "z"), overwritten(4)),
            (6, 7, put("a/2", "w"), created(5)),
        ]);
        history.watch_opened(bytes("a/"), 2);
        history
    }

    fn rules(history: &History) -> Vec<Rule> {
        check(history).into_iter().map(|violation| violation.rule).collect()
    }

    fn note(history: &mut History, at_us: u64, resumed_from: Option<u64>, message: WatchMessage) {
        history.watched(Watched { watcher: 0, node: 1, at_us, resumed_from, message });
    }

    #[test]
    fn a_watch_that_is_told_everything_once_holds() {
        let mut history = written();
        watch(&mut history, 0, 10, 2, &[("a/1", Some("x"))]);
        watch(&mut history, 0, 11, 4, &[("a/1", Some("z"))]);
        note(&mut history, 12, None, WatchMessage::Progress { revision: 4 });
        note(&mut history, 13, None, WatchMessage::Progress { revision: 4 });
        watch(&mut history, 0, 14, 5, &[("a/2", Some("w"))]);
        assert_eq!(rules(&history), []);
    }

    #[test]
    fn a_gap_is_found() {
        let mut history = written();
        watch(&mut history, 0, 10, 2, &[("a/1", Some("x"))]);
        watch(&mut history, 0, 14, 5, &[("a/2", Some("w"))]);
        let violations = check(&history);
        assert_eq!(violations[0].rule, Rule::WatchComplete);
        assert!(violations[0].what.contains("without being told of revision 4: a/1 z"));
    }

    #[test]
    fn a_gap_behind_a_progress_is_found() {
        let mut history = written();
        note(&mut history, 12, None, WatchMessage::Progress { revision: 3 });
        assert_eq!(rules(&history), [Rule::WatchComplete]);
    }

    #[test]
    fn what_has_not_come_yet_is_no_gap() {
        let mut history = written();
        watch(&mut history, 0, 10, 2, &[("a/1", Some("x"))]);
        assert_eq!(rules(&history), []);
    }

    #[test]
    fn a_compacted_span_is_no_gap() {
        let mut history = written();
        note(&mut history, 9, None, WatchMessage::Compacted { compact_revision: 5 });
        watch(&mut history, 0, 14, 5, &[("a/2", Some("w"))]);
        assert_eq!(rules(&history), []);
    }

    #[test]
    fn a_change_that_comes_again_or_late_is_found() {
        let mut history = written();
        watch(&mut history, 0, 10, 2, &[("a/1", Some("x"))]);
        watch(&mut history, 0, 11, 4, &[("a/1", Some("z"))]);
        watch(&mut history, 0, 12, 2, &[("a/1", Some("x"))]);
        assert_eq!(rules(&history), [Rule::WatchOrder]);
        let mut history = written();
        watch(&mut history, 0, 11, 4, &[("a/1", Some("z"))]);
        watch(&mut history, 0, 12, 2, &[("a/1", Some("x"))]);
        assert_eq!(rules(&history), [Rule::WatchOrder]);
    }

    #[test]
    fn a_change_that_comes_twice_at_once_is_found() {
        let mut history = written();
        watch(&mut history, 0, 10, 2, &[("a/1", Some("x")), ("a/1", Some("x"))]);
        let violations = check(&history);
        assert_eq!(violations[0].rule, Rule::WatchOrder);
        assert!(violations[0].what.contains("of a/1 twice at once"), "{violations:?}");
    }

    #[test]
    fn a_resumed_watch_goes_on_where_it_asked() {
        let resumed = |from, revision, key: &str, value: &str| {
            let mut history = written();
            watch(&mut history, 0, 10, 2, &[("a/1", Some("x"))]);
            let events = vec![WatchEvent { key: bytes(key), value: Some(bytes(value)) }];
            let message = WatchMessage::Changed { revision, events };
            note(&mut history, 11, Some(from), message);
            rules(&history)
        };
        assert_eq!(resumed(3, 4, "a/1", "z"), []);
        // It asked for revision 2 again and got it again.
        assert_eq!(resumed(2, 2, "a/1", "x"), []);
        assert_eq!(resumed(3, 2, "a/1", "x"), [Rule::WatchOrder]);
        assert_eq!(resumed(3, 5, "a/2", "w"), [Rule::WatchComplete]);
    }

    #[test]
    fn a_change_outside_of_the_range_is_found() {
        let mut history = written();
        watch(&mut history, 0, 10, 2, &[("a/1", Some("x"))]);
        watch(&mut history, 0, 11, 3, &[("b/1", Some("y"))]);
        assert!(rules(&history).contains(&Rule::WatchOrder));
    }

    #[test]
    fn a_change_that_is_not_what_was_written_is_found() {
        let mut history = written();
        watch(&mut history, 0, 10, 2, &[("a/1", Some("other"))]);
        let (_writes, contradictions) = Writes::gather(&history);
        assert_eq!(contradictions[0].rule, Rule::WatchTruth);
    }
}
