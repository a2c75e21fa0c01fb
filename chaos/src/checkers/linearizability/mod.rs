//! Whether each key behaves as if its calls had happened one at a time.
//!
//! Linearizability (Herlihy and Wing, 1990) holds for the whole store if it holds for each key, so
//! each key is searched on its own. Linearizable reads, puts, deletes and compare-and-sets count;
//! stale reads promise less and have their own checker. Refused calls are left out: if one of them
//! had an effect all the same, a read that shows it finds no writer.

#[cfg(test)]
mod brute_force;
mod key_model;
mod search;

use std::collections::BTreeMap;

use bytes::Bytes;

use self::{
    key_model::{Act, Expect, KeyCall, KeyModel, KeyState, Reply},
    search::{Interval, Verdict, search},
};
use super::{Rule, Violation};
use crate::history::{
    Answer, Call, Consistency, Expected, History, Operation, Origin, Outcome, Shown,
};

/// What came of the search.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Linearizability {
    /// The keys that cannot be explained.
    pub violations: Vec<Violation>,
    /// Keys that were searched to the end.
    pub keys_settled: u64,
    /// Keys whose search took too many steps: nothing is known of them.
    pub keys_given_up: u64,
}

/// Searches every key of the history, each in at most `steps_max` steps. `lease_ends_us` says when
/// each lease can have ended at the earliest; see [`super::leases::earliest_ends_us`].
#[must_use]
pub fn check(
    history: &History,
    lease_ends_us: &BTreeMap<u64, u64>,
    steps_max: u64,
) -> Linearizability {
    let mut found = Linearizability::default();
    for (key, operations) in by_key(history) {
        let partition = Partition::new(operations);
        match search(&KeyModel { lease_ends_us }, &partition.calls, steps_max) {
            Verdict::Explained => found.keys_settled += 1,
            Verdict::GaveUp => found.keys_given_up += 1,
            Verdict::Contradicted { stuck, states } => {
                found.keys_settled += 1;
                found.violations.push(partition.violation(key, stuck, &states));
            }
        }
    }
    found
}

/// The calls that count, by key, in the order of their invocation.
fn by_key(history: &History) -> BTreeMap<&Bytes, Vec<&Operation>> {
    let mut keys: BTreeMap<&Bytes, Vec<&Operation>> = BTreeMap::new();
    for operation in &history.operations {
        let counts = match (&operation.call, &operation.outcome) {
            (_, Outcome::Refused { .. }) | (Call::Get { .. }, Outcome::Unknown) => false,
            (Call::Get { consistency, .. }, _) => *consistency == Consistency::Linearizable,
            _ => true,
        };
        if let Some(key) = operation.call.key().filter(|_key| counts) {
            keys.entry(key).or_default().push(operation);
        }
    }
    keys
}

/// The calls of one key, as the search takes them.
struct Partition<'a> {
    operations: Vec<&'a Operation>,
    calls: Vec<Interval<KeyCall>>,
    values: Vec<&'a Bytes>,
}

impl<'a> Partition<'a> {
    fn new(operations: Vec<&'a Operation>) -> Self {
        let mut numbers = Numbers::default();
        let mut origins: BTreeMap<&Origin, u32> = BTreeMap::new();
        for operation in &operations {
            *origins.entry(operation.call.origin()).or_default() += 1;
        }
        origins.remove(&Origin::Unnumbered);
        origins.retain(|_origin, uses| *uses > 1);
        for (origin, number) in origins.values_mut().zip(0..) {
            *origin = number;
        }
        let calls = operations
            .iter()
            .map(|operation| {
                let origin = origins.get(operation.call.origin()).copied();
                interval(operation, origin, &mut numbers)
            })
            .collect();
        Self { operations, calls, values: numbers.values }
    }

    fn violation(&self, key: &Bytes, stuck: usize, states: &[KeyState]) -> Violation {
        let operation = self.operations[stuck];
        let states: Vec<_> = states.iter().take(3).map(|state| self.describe(state)).collect();
        let what = format!(
            "no order of the calls on {} explains {operation}; before it the key was {}",
            Shown(key),
            states.join(", or ")
        );
        Violation {
            at_us: operation.settled_us(),
            rule: Rule::Linearizable,
            node: Some(operation.node),
            what,
        }
    }

    fn describe(&self, state: &KeyState) -> String {
        let Some(present) = state.present else {
            return format!("absent at revision {} or later", state.revision);
        };
        let value = Shown(self.values[present.value as usize]);
        if present.earliest == present.latest {
            format!("{value} of revision {}", present.latest)
        } else {
            format!("{value} of revision {} or later", present.earliest)
        }
    }
}

/// Gives each value a number.
#[derive(Default)]
struct Numbers<'a> {
    numbers: BTreeMap<&'a Bytes, u32>,
    values: Vec<&'a Bytes>,
}

impl<'a> Numbers<'a> {
    fn of(&mut self, value: &'a Bytes) -> u32 {
        *self.numbers.entry(value).or_insert_with(|| {
            self.values.push(value);
            u32::try_from(self.values.len() - 1).expect("a run has fewer values than 2^32")
        })
    }
}

fn interval<'a>(
    operation: &'a Operation,
    origin: Option<u32>,
    numbers: &mut Numbers<'a>,
) -> Interval<KeyCall> {
    let act = match &operation.call {
        Call::Put { value, lease, .. } => Act::Put { value: numbers.of(value), lease: *lease },
        Call::CompareAndSet { expected, value, lease, .. } => {
            let expected = match expected {
                Expected::Absent | Expected::ModRevision(0) => Expect::Absent,
                Expected::ModRevision(revision) => Expect::ModRevision(*revision),
                Expected::Value(value) => Expect::Value(numbers.of(value)),
            };
            Act::CompareAndSet { expected, value: numbers.of(value), lease: *lease }
        }
        Call::Delete { .. } => Act::Delete,
        _ => Act::Get,
    };
    let reply = operation.answer().and_then(|(revision, answer)| match answer {
        Answer::Put { created: did }
        | Answer::Deleted { deleted: did }
        | Answer::Compared { succeeded: did } => Some(Reply::Wrote { revision, did: *did }),
        Answer::Got { found, .. } => Some(Reply::Read {
            revision,
            found: found.as_ref().map(|found| (numbers.of(&found.value), found.mod_revision)),
        }),
        Answer::LeaseGranted { .. }
        | Answer::LeaseKeptAlive { .. }
        | Answer::LeaseRevoked { .. } => None,
    });
    // The answer to a repetition carries the revision of the first one, which does not say when
    // the repetition came.
    let repeats =
        origin.is_some() && matches!(operation.outcome, Outcome::Ok { repeated: true, .. });
    let rank = operation
        .answer()
        .filter(|_answer| !repeats)
        .map(|(revision, _)| 2 * revision + u64::from(operation.wrote_at().is_none()));
    Interval {
        call: KeyCall { act, origin, reply },
        invoked_us: operation.invoked_us,
        settled_us: reply.map(|_reply| operation.settled_us()),
        rank,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS_MAX: u64 = 100_000;

    fn bytes(text: &str) -> Bytes {
        Bytes::copy_from_slice(text.as_bytes())
    }

    fn put(value: &str) -> Call {
        Call::Put { key: bytes("k"), value: bytes(value), lease: 0, origin: Origin::Unnumbered }
    }

    fn leased(value: &str) -> Call {
        Call::Put { key: bytes("k"), value: bytes(value), lease: 7, origin: Origin::Unnumbered }
    }

    fn keyed(value: &str, key: &str) -> Call {
        Call::Put {
            key: bytes("k"),
            value: bytes(value),
            lease: 0,
            origin: Origin::Key(bytes(key)),
        }
    }

    fn get() -> Call {
        Call::Get { key: bytes("k"), consistency: Consistency::Linearizable }
    }

    fn swap(expected: Expected, value: &str) -> Call {
        Call::CompareAndSet {
            key: bytes("k"),
            expected,
            value: bytes(value),
            lease: 0,
            origin: Origin::Unnumbered,
        }
    }

    fn delete() -> Call {
        Call::Delete { key: bytes("k"), origin: Origin::Unnumbered }
    }

    fn wrote(revision: u64, created: bool) -> Outcome {
        Outcome::Ok { revision, repeated: false, answer: Answer::Put { created } }
    }

    fn repeated(revision: u64, created: bool) -> Outcome {
        Outcome::Ok { revision, repeated: true, answer: Answer::Put { created } }
    }

    fn compared(revision: u64, succeeded: bool) -> Outcome {
        Outcome::Ok { revision, repeated: false, answer: Answer::Compared { succeeded } }
    }

    fn deleted(revision: u64, deleted: bool) -> Outcome {
        Outcome::Ok { revision, repeated: false, answer: Answer::Deleted { deleted } }
    }

    fn found(revision: u64, found: Option<(&str, u64)>) -> Outcome {
        let found = found.map(|(value, mod_revision)| crate::history::Found {
            value: bytes(value),
            mod_revision,
        });
        Outcome::Ok { revision, repeated: false, answer: Answer::Got { found, staleness: None } }
    }

    /// Calls as (invoked, returned, call, outcome).
    fn verdict(calls: Vec<(u64, u64, Call, Outcome)>) -> Linearizability {
        check(&history(calls), &BTreeMap::from([(7, 1_000)]), STEPS_MAX)
    }

    fn history(calls: Vec<(u64, u64, Call, Outcome)>) -> History {
        let operations = calls
            .into_iter()
            .zip(0..)
            .map(|((invoked_us, returned_us, call, outcome), client)| Operation {
                client,
                node: 0,
                invoked_us,
                returned_us: Some(returned_us),
                call,
                outcome,
            })
            .collect();
        History { operations, ..History::default() }
    }

    fn holds(calls: Vec<(u64, u64, Call, Outcome)>) -> bool {
        let found = verdict(calls);
        assert_eq!(found.keys_given_up, 0);
        found.violations.is_empty()
    }

    #[test]
    fn calls_one_after_the_other_hold() {
        assert!(holds(vec![
            (0, 1, get(), found(1, None)),
            (2, 3, put("a"), wrote(2, true)),
            (4, 5, swap(Expected::ModRevision(2), "b"), compared(3, true)),
            (6, 7, swap(Expected::Value(bytes("a")), "c"), compared(3, false)),
            (8, 9, get(), found(5, Some(("b", 3)))),
            (10, 11, delete(), deleted(6, true)),
            (12, 13, delete(), deleted(6, false)),
        ]));
    }

    #[test]
    fn a_stale_answer_to_a_linearizable_read_is_found() {
        let found = verdict(vec![
            (0, 1, put("a"), wrote(2, true)),
            (2, 3, put("b"), wrote(3, false)),
            (4, 5, get(), found(2, Some(("a", 2)))),
        ]);
        let [violation] = &found.violations[..] else { panic!("one violation: {found:?}") };
        assert_eq!(violation.rule, Rule::Linearizable);
        assert!(violation.what.contains("on k explains"), "{violation}");
    }

    #[test]
    fn concurrent_reads_may_see_either_side_of_a_write() {
        for seen in [found(1, None), found(2, Some(("a", 2)))] {
            assert!(holds(vec![(0, 9, put("a"), wrote(2, true)), (1, 8, get(), seen)]));
        }
    }

    #[test]
    fn two_reads_cannot_see_a_write_come_and_go() {
        assert!(!holds(vec![
            (0, 99, put("a"), wrote(5, true)),
            (1, 2, get(), found(5, Some(("a", 5)))),
            (3, 4, get(), found(4, None)),
        ]));
    }

    #[test]
    fn a_lost_acknowledged_write_is_found() {
        assert!(!holds(vec![(0, 1, put("a"), wrote(2, true)), (2, 3, get(), found(3, None)),]));
    }

    #[test]
    fn an_unknown_write_may_have_happened_or_not_or_later() {
        assert!(holds(vec![
            (0, 1, put("a"), Outcome::Unknown),
            (2, 3, get(), found(1, None)),
            (4, 5, get(), found(2, Some(("a", 2)))),
            (6, 7, get(), found(2, Some(("a", 2)))),
        ]));
        assert!(holds(vec![(0, 1, put("a"), Outcome::Unknown), (2, 3, get(), found(1, None)),]));
    }

    #[test]
    fn an_unknown_write_happens_once() {
        assert!(!holds(vec![
            (0, 1, put("a"), Outcome::Unknown),
            (2, 3, get(), found(2, Some(("a", 2)))),
            (4, 5, delete(), deleted(3, true)),
            (6, 7, get(), found(4, Some(("a", 4)))),
        ]));
    }

    #[test]
    fn a_refused_write_must_not_show() {
        assert!(!holds(vec![
            (0, 1, put("a"), Outcome::Refused { code: "overloaded".to_owned() }),
            (2, 3, get(), found(2, Some(("a", 2)))),
        ]));
    }

    #[test]
    fn two_swaps_of_the_same_value_cannot_both_succeed() {
        assert!(!holds(vec![
            (0, 1, put("a"), wrote(2, true)),
            (2, 9, swap(Expected::ModRevision(2), "b"), compared(3, true)),
            (2, 9, swap(Expected::ModRevision(2), "c"), compared(4, true)),
        ]));
        assert!(!holds(vec![
            (0, 9, swap(Expected::Absent, "b"), compared(3, true)),
            (0, 9, swap(Expected::Absent, "c"), compared(4, true)),
        ]));
    }

    #[test]
    fn a_swap_may_rest_on_a_write_of_unknown_outcome() {
        assert!(holds(vec![
            (0, 1, put("a"), Outcome::Unknown),
            (2, 3, swap(Expected::ModRevision(2), "b"), compared(3, true)),
        ]));
        assert!(!holds(vec![
            (0, 1, put("a"), Outcome::Unknown),
            (2, 3, swap(Expected::ModRevision(4), "b"), compared(3, true)),
        ]));
    }

    #[test]
    fn a_repetition_answers_what_the_first_one_did() {
        assert!(holds(vec![
            (0, 1, keyed("a", "x"), Outcome::Unknown),
            (2, 3, put("b"), wrote(3, false)),
            (4, 5, keyed("a", "x"), repeated(2, true)),
            (6, 7, get(), found(3, Some(("b", 3)))),
        ]));
    }

    #[test]
    fn a_repetition_that_happens_again_is_found() {
        assert!(!holds(vec![
            (0, 1, keyed("a", "x"), wrote(2, true)),
            (2, 3, put("b"), wrote(3, false)),
            (4, 5, keyed("a", "x"), wrote(4, false)),
            (6, 7, get(), found(4, Some(("a", 4)))),
        ]));
        assert!(!holds(vec![
            (0, 1, keyed("a", "x"), wrote(2, true)),
            (2, 3, put("b"), wrote(3, false)),
            (4, 5, keyed("a", "x"), Outcome::Unknown),
            (6, 7, get(), found(4, Some(("a", 4)))),
        ]));
    }

    #[test]
    fn a_key_goes_with_its_lease_and_not_before() {
        let calls = |at_us| {
            vec![
                (0, 1, leased("a"), wrote(2, true)),
                (at_us, at_us + 1, get(), found(3, None)),
                (at_us + 2, at_us + 3, put("b"), wrote(4, true)),
            ]
        };
        assert!(holds(calls(1_000)));
        assert!(!holds(calls(500)));
    }

    #[test]
    fn a_search_that_takes_too_long_says_so() {
        let calls = (0..30).map(|at| (at, at + 1, put("a"), Outcome::Unknown));
        let calls = calls.chain([(50, 51, get(), found(9, Some(("b", 9))))]).collect();
        let found = check(&history(calls), &BTreeMap::new(), 1_000);
        assert_eq!((found.keys_given_up, found.keys_settled), (1, 0));
        assert_eq!(found.violations, []);
    }
}
