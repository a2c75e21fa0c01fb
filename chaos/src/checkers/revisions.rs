//! What revisions promise, checked in one pass.
//!
//! A revision belongs to one write; a write has a higher one than everything answered before it was
//! sent; a linearizable answer is at no lower one; and what a read finds at a revision is what was
//! written there, by a call that had been sent and was not refused. This needs no search and so
//! has no limit; the linearizability checker finds what is left.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{
    Rule, Violation,
    writes::{Witness, Write, Writes},
};
use crate::history::{Answer, Call, Consistency, History, Operation, Origin, Outcome, Shown};

/// Checks the revisions of a history.
#[must_use]
pub fn check(history: &History) -> Vec<Violation> {
    let (writes, mut violations) = Writes::gather(history);
    violations.extend(one_write_each(history, &writes));
    violations.extend(one_outcome_each(history));
    violations.extend(one_write_per_request(&writes));
    violations.extend(in_real_time(history));
    for operation in &history.operations {
        violations.extend(as_written(operation, &writes));
    }
    for (key, known) in writes.iter() {
        let mut before = None;
        for (revision, write) in known {
            let (node, at_us) = (write.witness.node(), write.witness.at_us());
            let wrong = match (before, write.value) {
                (_, Some(value)) => has_writer(&writes, key, value, *revision, at_us),
                (Some(before), None) => has_deleter(&writes, key, before, *revision, write),
                (None, None) => None,
            };
            violations.extend(wrong.map(|(rule, what)| Violation {
                at_us,
                rule,
                node: Some(node),
                what,
            }));
            before = write.value;
        }
    }
    violations
}

/// A revision writes one key. Only the end of a lease deletes several at once.
fn one_write_each(history: &History, writes: &Writes<'_>) -> Vec<Violation> {
    let mut owners: BTreeMap<u64, &Operation> = BTreeMap::new();
    let mut violations = Vec::new();
    for operation in &history.operations {
        let Some(revision) = operation.wrote_at() else { continue };
        let owner = owners.entry(revision).or_insert(operation);
        let same_request = operation.call.origin() != &Origin::Unnumbered
            && owner.call.origin() == operation.call.origin();
        if !std::ptr::eq(*owner, operation) && !same_request {
            violations.push(Violation {
                at_us: operation.settled_us(),
                rule: Rule::Revisions,
                node: Some(operation.node),
                what: format!(
                    "revision {revision} was given twice: to {owner}; and to {operation}"
                ),
            });
        }
    }
    let mut put_at: BTreeMap<u64, &Bytes> = BTreeMap::new();
    for (key, known) in writes.iter() {
        for (revision, write) in known.iter().filter(|(_revision, write)| write.value.is_some()) {
            let first = *put_at.entry(*revision).or_insert(key);
            if first != key {
                violations.push(Violation {
                    at_us: write.witness.at_us(),
                    rule: Rule::Revisions,
                    node: Some(write.witness.node()),
                    what: format!(
                        "revision {revision} wrote both {} and {}",
                        Shown(first),
                        Shown(key)
                    ),
                });
            }
        }
    }
    violations
}

/// A request that was sent several times under one origin has one outcome.
fn one_outcome_each(history: &History) -> Vec<Violation> {
    let mut firsts: BTreeMap<&Origin, (u64, &Answer)> = BTreeMap::new();
    let mut violations = Vec::new();
    for operation in &history.operations {
        let (origin, Some(outcome)) = (operation.call.origin(), operation.answer()) else {
            continue;
        };
        if origin == &Origin::Unnumbered {
            continue;
        }
        let first = *firsts.entry(origin).or_insert(outcome);
        if first != outcome {
            violations.push(Violation {
                at_us: operation.settled_us(),
                rule: Rule::ExactlyOnce,
                node: Some(operation.node),
                what: format!(
                    "{operation}; the same request was answered at revision {} before",
                    first.0
                ),
            });
        }
    }
    violations
}

/// A value that one request writes appears at one revision, however often the request was sent.
fn one_write_per_request(writes: &Writes<'_>) -> Vec<Violation> {
    let mut written: BTreeMap<(&Bytes, &Bytes), u64> = BTreeMap::new();
    let mut violations = Vec::new();
    for (key, known) in writes.iter() {
        for (revision, write) in known {
            let Some(value) = write.value else { continue };
            let [writer, others @ ..] = writes.writers(key, value) else { continue };
            let origin = writer.call.origin();
            let one_request = others.is_empty()
                || origin != &Origin::Unnumbered
                    && others.iter().all(|other| other.call.origin() == origin);
            let first = *written.entry((key, value)).or_insert(*revision);
            if one_request && first != *revision {
                violations.push(Violation {
                    at_us: write.witness.at_us(),
                    rule: Rule::ExactlyOnce,
                    node: Some(write.witness.node()),
                    what: format!("{writer} was written at revision {first} and at {revision}"),
                });
            }
        }
    }
    violations
}

/// Revisions grow with time: no answer is behind one that was there before its call.
fn in_real_time(history: &History) -> Vec<Violation> {
    let mut by_return: Vec<&Operation> =
        history.operations.iter().filter(|operation| operation.answer().is_some()).collect();
    by_return.sort_by_key(|operation| operation.settled_us());
    let mut returned = by_return.into_iter().peekable();
    let mut newest: Option<(u64, &Operation)> = None;
    let mut violations = Vec::new();
    for operation in &history.operations {
        while let Some(earlier) =
            returned.next_if(|earlier| earlier.settled_us() < operation.invoked_us)
        {
            if let Some((revision, _)) = earlier.answer()
                && newest.is_none_or(|(newest, _)| newest < revision)
            {
                newest = Some((revision, earlier));
            }
        }
        let (Some((newest, earlier)), Some(revision)) = (newest, judged_revision(operation)) else {
            continue;
        };
        let writes = operation.wrote_at().is_some();
        if revision < newest || writes && revision == newest {
            violations.push(Violation {
                at_us: operation.settled_us(),
                rule: Rule::Revisions,
                node: Some(operation.node),
                what: format!("{operation}; but before it was sent: {earlier}"),
            });
        }
    }
    violations
}

/// The revision of an answer that must not lie behind earlier ones. A stale read may; the answer
/// to a repetition is an old one; a keep-alive promises a time and no revision.
fn judged_revision(operation: &Operation) -> Option<u64> {
    let stale = matches!(operation.call, Call::Get { consistency: Consistency::Stale, .. });
    match &operation.outcome {
        Outcome::Ok { answer: Answer::LeaseKeptAlive { .. }, .. } => None,
        Outcome::Ok { revision, repeated: false, .. } if !stale => Some(*revision),
        _ => None,
    }
}

/// A read finds the newest write at or before its revision, stale or not.
fn as_written<'a>(operation: &'a Operation, writes: &Writes<'a>) -> Option<Violation> {
    let Call::Get { key, consistency } = &operation.call else { return None };
    let Some((told, Answer::Got { found, .. })) = operation.answer() else { return None };
    let revision = match consistency {
        Consistency::Past(asked) => *asked,
        Consistency::Linearizable | Consistency::Stale => told,
    };
    let violation = |what| {
        Some(Violation {
            at_us: operation.settled_us(),
            rule: Rule::Revisions,
            node: Some(operation.node),
            what,
        })
    };
    let found_at = found.as_ref().map_or(0, |found| found.mod_revision);
    if found_at > revision {
        return violation(format!("{operation}: it found a revision of its future"));
    }
    match (found, writes.newest(key, revision)) {
        (Some(_), Some((newest, write))) if newest > found_at => {
            violation(format!("{operation}; but revision {newest} is by {}", write.witness))
        }
        // The linearizability checker knows whether a key that can vanish did so in time.
        (None, Some((newest, write))) if !write.value.is_none_or(|v| writes.can_vanish(key, v)) => {
            violation(format!("{operation}; but revision {newest} is by {}", write.witness))
        }
        _ => None,
    }
}

/// Whether some call can have written the value at the revision, and what is wrong if not.
fn has_writer<'a>(
    writes: &Writes<'a>,
    key: &'a Bytes,
    value: &'a Bytes,
    revision: u64,
    at_us: u64,
) -> Option<(Rule, String)> {
    let writers = writes.writers(key, value);
    let told = || format!("revision {revision} of {} is {}", Shown(key), Shown(value));
    if writers.is_empty() {
        return Some((Rule::Revisions, format!("{}, which nobody wrote", told())));
    }
    let can_have = |writer: &&&Operation| match &writer.outcome {
        Outcome::Refused { .. } => false,
        Outcome::Unknown => true,
        Outcome::Ok { .. } => writer.wrote_at() == Some(revision),
    };
    if writers.iter().filter(|writer| writer.invoked_us <= at_us).any(|writer| can_have(&writer)) {
        return None;
    }
    let writer = writers[0];
    Some(match &writer.outcome {
        Outcome::Refused { .. } => {
            (Rule::RefusedHadNoEffect, format!("{}, in spite of: {writer}", told()))
        }
        _ => (Rule::Revisions, format!("{}, but: {writer}", told())),
    })
}

/// What is wrong with a deletion that a watch tells of, if no call and no lease can be behind it.
fn has_deleter<'a>(
    writes: &Writes<'a>,
    key: &'a Bytes,
    before: &'a Bytes,
    revision: u64,
    write: &Write<'_>,
) -> Option<(Rule, String)> {
    let by_call = matches!(write.witness, Witness::Operation(_));
    (!by_call && !writes.can_vanish(key, before)).then(|| {
        let what = format!(
            "revision {revision} deleted {}, by {}, which nobody asked for",
            Shown(key),
            write.witness
        );
        (Rule::Revisions, what)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checkers::story::{
            Told, created, delete, deleted, found, get, history, keyed, leased, nothing,
            overwritten, put, refused, repeated, stale, stale_get, watch,
        },
        history::Staleness,
    };

    fn broken(calls: Vec<Told>) -> Vec<Rule> {
        let mut rules: Vec<_> =
            check(&history(calls)).into_iter().map(|violation| violation.rule).collect();
        rules.dedup();
        rules
    }

    #[test]
    fn an_ordinary_history_holds() {
        let calls = vec![
            (0, 1, get("a"), nothing(1)),
            (2, 3, put("a", "1"), created(2)),
            (2, 4, put("b", "2"), created(3)),
            (5, 6, keyed("a", "3", "x"), Outcome::Unknown),
            (7, 8, keyed("a", "3", "x"), repeated(4)),
            (9, 10, get("a"), found(4, "3", 4)),
            (9, 11, stale_get("a"), stale(1, Staleness::Unknown)),
            (12, 13, delete("a"), deleted(5, true)),
            (14, 15, get("a"), nothing(5)),
        ];
        assert_eq!(broken(calls), []);
    }

    #[test]
    fn a_revision_that_is_given_twice_is_found() {
        let calls = vec![(0, 1, put("a", "1"), created(2)), (0, 1, put("b", "2"), created(2))];
        assert!(broken(calls).contains(&Rule::Revisions));
    }

    #[test]
    fn a_write_or_read_behind_an_earlier_answer_is_found() {
        let first = (0, 1, put("a", "1"), created(5));
        let write = (2, 3, put("b", "2"), created(4));
        assert_eq!(broken(vec![first.clone(), write]), [Rule::Revisions]);
        let read = (2, 3, get("b"), nothing(4));
        assert_eq!(broken(vec![first.clone(), read]), [Rule::Revisions]);
        let concurrent = (1, 3, get("b"), nothing(4));
        assert_eq!(broken(vec![first, concurrent]), []);
    }

    #[test]
    fn a_value_of_another_revision_is_found() {
        let calls = vec![
            (0, 1, put("a", "1"), created(2)),
            (2, 3, put("a", "2"), overwritten(3)),
            (4, 5, get("a"), found(3, "1", 3)),
        ];
        assert!(broken(calls).contains(&Rule::Revisions));
    }

    #[test]
    fn a_read_that_misses_a_write_at_its_own_revision_is_found() {
        let calls = |seen| {
            vec![
                (0, 1, put("a", "1"), created(2)),
                (2, 3, put("a", "2"), overwritten(3)),
                (0, 9, get("a"), seen),
            ]
        };
        assert_eq!(broken(calls(found(3, "1", 2))), [Rule::Revisions]);
        assert_eq!(broken(calls(nothing(3))), [Rule::Revisions]);
        assert_eq!(broken(calls(found(2, "1", 2))), []);
    }

    #[test]
    fn a_key_may_vanish_with_its_lease_or_an_unanswered_delete() {
        let lease = vec![(0, 1, leased("a", "1", 7), created(2)), (2, 3, get("a"), nothing(3))];
        assert_eq!(broken(lease), []);
        let unanswered = vec![
            (0, 1, put("a", "1"), created(2)),
            (2, 3, delete("a"), Outcome::Unknown),
            (4, 5, get("a"), nothing(3)),
        ];
        assert_eq!(broken(unanswered), []);
    }

    #[test]
    fn a_value_that_nobody_wrote_is_found() {
        assert_eq!(broken(vec![(0, 1, get("a"), found(2, "x", 2))]), [Rule::Revisions]);
        let from_the_future =
            vec![(0, 1, get("a"), found(2, "1", 2)), (5, 6, put("a", "1"), Outcome::Unknown)];
        assert_eq!(broken(from_the_future), [Rule::Revisions]);
    }

    #[test]
    fn a_deletion_that_nobody_asked_for_is_found() {
        let seen = |call| {
            let mut history = history(vec![(0, 1, call, created(2))]);
            watch(&mut history, 0, 5, 3, &[("a", None)]);
            check(&history).len()
        };
        assert_eq!(seen(put("a", "1")), 1);
        assert_eq!(seen(leased("a", "1", 7)), 0);
    }

    #[test]
    fn a_leased_write_of_unknown_outcome_may_take_the_key_with_it() {
        let calls = vec![
            (0, 1, put("a", "1"), created(2)),
            (2, 3, leased("a", "2", 7), Outcome::Unknown),
            (4, 5, get("a"), nothing(4)),
        ];
        assert_eq!(broken(calls), []);
    }

    #[test]
    fn a_refused_write_that_shows_is_found() {
        let calls = vec![(0, 1, put("a", "1"), refused()), (2, 3, get("a"), found(2, "1", 2))];
        assert_eq!(broken(calls), [Rule::RefusedHadNoEffect]);
    }

    #[test]
    fn a_repetition_with_another_answer_is_found() {
        let calls = vec![
            (0, 1, keyed("a", "1", "x"), created(2)),
            (2, 3, keyed("a", "1", "x"), overwritten(3)),
        ];
        assert!(broken(calls).contains(&Rule::ExactlyOnce));
    }

    #[test]
    fn a_request_that_is_written_twice_is_found() {
        let mut history = history(vec![
            (0, 1, keyed("a", "1", "x"), Outcome::Unknown),
            (2, 3, keyed("a", "1", "x"), Outcome::Unknown),
        ]);
        watch(&mut history, 0, 5, 2, &[("a", Some("1"))]);
        assert_eq!(check(&history), []);
        watch(&mut history, 0, 6, 3, &[("a", Some("1"))]);
        let violations = check(&history);
        assert_eq!(violations.len(), 1, "{violations:?}");
        assert_eq!(violations[0].rule, Rule::ExactlyOnce);
    }
}
