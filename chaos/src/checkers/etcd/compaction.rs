//! Whether exactly what was compacted is refused.
//!
//! A read of a revision is refused as compacted only if somebody asked to compact past it before
//! the refusal came, and is answered only if no compaction past it was acknowledged before it was
//! sent. A watcher is ended by a compaction only if it had not been told everything below it, and
//! hears from where it can go on; which node lags behind a compaction is nobody's business. What is
//! refused as of the future is above everything acknowledged.

use std::collections::BTreeMap;

use crate::{
    checkers::{Rule, Violation},
    history::{Answer, Call, Consistency, History, Operation, Outcome, StreamMessage, Streamed},
};

/// What etcd says of a revision that was compacted.
const COMPACTED: &str = "mvcc: required revision has been compacted";

/// What etcd says of a revision that does not exist yet.
const FUTURE: &str = "mvcc: required revision is a future revision";

pub(super) fn check(history: &History) -> Vec<Violation> {
    let compactions = Compactions::of(history);
    let mut violations = Vec::new();
    let mut newest = Newest::of(history);
    for operation in &history.operations {
        newest.advance(operation.invoked_us);
        let wrong = match (&operation.call, &operation.outcome) {
            (Call::Get { consistency: Consistency::Past(revision), .. }, outcome) => {
                compactions.of_read(*revision, operation, outcome, newest.revision)
            }
            (Call::Compact { revision }, Outcome::Refused { code })
                if code == FUTURE && *revision <= newest.revision =>
            {
                Some(format!("revision {} was acknowledged before", newest.revision))
            }
            _ => None,
        };
        violations.extend(wrong.map(|what| Violation {
            at_us: operation.settled_us(),
            rule: Rule::Compaction,
            node: Some(operation.node),
            what: format!("{operation}; but {what}"),
        }));
    }
    violations.extend(compactions.of_watchers(history));
    violations
}

/// The highest revision that was told by some time.
struct Newest {
    told: Vec<(u64, u64)>,
    next: usize,
    revision: u64,
}

impl Newest {
    fn of(history: &History) -> Self {
        let mut told: Vec<(u64, u64)> = history
            .operations
            .iter()
            .filter_map(|operation| Some((operation.settled_us(), operation.answer()?.0)))
            .collect();
        told.sort_unstable();
        Self { told, next: 0, revision: 0 }
    }

    fn advance(&mut self, until_us: u64) {
        while let Some((at_us, revision)) = self.told.get(self.next)
            && *at_us < until_us
        {
            self.revision = self.revision.max(*revision);
            self.next += 1;
        }
    }
}

/// The compactions that may have happened.
struct Compactions<'a>(Vec<(u64, &'a Operation)>);

impl<'a> Compactions<'a> {
    fn of(history: &'a History) -> Self {
        let compactions = history.operations.iter().filter_map(|operation| match operation {
            Operation { outcome: Outcome::Refused { .. }, .. } => None,
            Operation { call: Call::Compact { revision }, .. } => Some((*revision, operation)),
            _ => None,
        });
        Self(compactions.collect())
    }

    /// The highest revision that was certainly compacted to before this time.
    fn certain(&self, before_us: u64) -> u64 {
        let done = self.0.iter().filter(|(_revision, operation)| {
            matches!(operation.answer(), Some((_, Answer::Compacted)))
                && operation.settled_us() < before_us
        });
        done.map(|(revision, _operation)| *revision).max().unwrap_or(0)
    }

    /// The highest revision that may have been compacted to by this time.
    fn possible(&self, by_us: u64) -> u64 {
        let asked = self.0.iter().filter(|(_revision, operation)| operation.invoked_us <= by_us);
        asked.map(|(revision, _operation)| *revision).max().unwrap_or(0)
    }

    fn of_read(
        &self,
        revision: u64,
        operation: &Operation,
        outcome: &Outcome,
        newest: u64,
    ) -> Option<String> {
        match outcome {
            Outcome::Refused { code } if code == COMPACTED => {
                let possible = self.possible(operation.settled_us());
                (revision >= possible).then(|| format!("nobody compacted past {possible}"))
            }
            Outcome::Refused { code } if code == FUTURE => {
                (revision <= newest).then(|| format!("revision {newest} was acknowledged before"))
            }
            Outcome::Ok { .. } => {
                let certain = self.certain(operation.invoked_us);
                (revision < certain).then(|| format!("{certain} had been compacted to"))
            }
            Outcome::Refused { .. } | Outcome::Unknown => None,
        }
    }

    fn of_watchers(&self, history: &History) -> Vec<Violation> {
        // What each watcher would be told next.
        let mut next: BTreeMap<(u32, i64), u64> = BTreeMap::new();
        let mut violations = Vec::new();
        for streamed in &history.streamed {
            let Streamed { stream, header_revision, .. } = *streamed;
            let Some(id) = streamed.watch_id else {
                let watchers = next.range_mut((stream, i64::MIN)..=(stream, i64::MAX));
                watchers.for_each(|(_id, next)| *next = (*next).max(header_revision + 1));
                continue;
            };
            let watcher = (stream, id);
            match &streamed.message {
                StreamMessage::Created { from_revision: 0 } => {
                    next.insert(watcher, header_revision + 1);
                }
                StreamMessage::Created { from_revision } => {
                    next.insert(watcher, *from_revision);
                }
                StreamMessage::Events(events) => {
                    let last = events.last().map_or(0, |event| event.pair.mod_revision);
                    next.entry(watcher).and_modify(|next| *next = (*next).max(last + 1));
                }
                StreamMessage::Compacted { compact_revision } => {
                    let next = next.get(&watcher).copied().unwrap_or_default();
                    let possible = self.possible(streamed.at_us);
                    if (next + 1..=possible).contains(compact_revision) {
                        continue;
                    }
                    violations.push(Violation {
                        at_us: streamed.at_us,
                        rule: Rule::Compaction,
                        node: Some(streamed.node),
                        what: format!(
                            "watcher {id} of stream {stream} was to be told of {next} next, and was \
                             ended by a compaction to {compact_revision}; the highest that anybody \
                             asked for was to {possible}"
                        ),
                    });
                }
                StreamMessage::Progress | StreamMessage::Cancelled => {}
            }
        }
        violations
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::story::{bytes, created, history, ok, overwritten, put};

    fn past(revision: u64) -> Call {
        Call::Get { key: bytes("a"), consistency: Consistency::Past(revision) }
    }

    fn refused(code: &str) -> Outcome {
        Outcome::Refused { code: code.to_owned() }
    }

    fn got() -> Outcome {
        ok(3, Answer::Got { found: None, staleness: None })
    }

    /// Two writes, a compaction to revision 3, and a read sent at a time.
    fn read(at_us: u64, revision: u64, outcome: Outcome) -> Vec<Violation> {
        check(&history(vec![
            (0, 1, put("a", "1"), created(2)),
            (2, 3, put("a", "2"), overwritten(3)),
            (10, 20, Call::Compact { revision: 3 }, ok(3, Answer::Compacted)),
            (at_us, at_us + 3, past(revision), outcome),
        ]))
    }

    #[test]
    fn what_was_compacted_is_refused_and_nothing_else() {
        assert_eq!(read(30, 2, refused(COMPACTED)), []);
        assert_eq!(read(15, 2, refused(COMPACTED)), []);
        assert_eq!(read(15, 2, got()), []);
        assert_eq!(read(30, 3, got()), []);
        assert_eq!(read(30, 2, got())[0].rule, Rule::Compaction);
        assert_eq!(read(30, 3, refused(COMPACTED))[0].rule, Rule::Compaction);
        assert_eq!(read(5, 2, refused(COMPACTED))[0].rule, Rule::Compaction);
    }

    #[test]
    fn what_was_acknowledged_is_not_of_the_future() {
        assert_eq!(read(30, 4, refused(FUTURE)), []);
        assert_eq!(read(30, 3, refused(FUTURE))[0].rule, Rule::Compaction);
    }

    fn watched(from_revision: u64, message: StreamMessage) -> Vec<Violation> {
        let mut history =
            history(vec![(10, 20, Call::Compact { revision: 3 }, ok(3, Answer::Compacted))]);
        let mut note = |at_us, message| {
            let (stream, watch_id, node) = (0, Some(1), 0);
            let header_revision = 3;
            let streamed = Streamed { stream, watch_id, node, at_us, header_revision, message };
            history.streamed.push(streamed);
        };
        note(31, StreamMessage::Created { from_revision });
        note(32, message);
        check(&history)
    }

    #[test]
    fn a_watcher_below_the_compaction_is_told_so() {
        let compacted = |compact_revision| StreamMessage::Compacted { compact_revision };
        assert_eq!(watched(2, compacted(3)), []);
        assert_eq!(watched(3, compacted(3))[0].rule, Rule::Compaction);
        assert_eq!(watched(2, compacted(4))[0].rule, Rule::Compaction);
    }
}
