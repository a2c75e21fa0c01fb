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
        | Answer::LeaseRevoked { .. }
        | Answer::LeaseTold { .. }
        | Answer::Compacted => None,
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

    use crate::checkers::story::{
        self, Told, bytes, compared, created, delete, deleted, found, get, keyed, leased, nothing,
        overwritten, put, refused, repeated, swap,
    };

    const STEPS_MAX: u64 = 100_000;

    fn verdict(calls: Vec<Told>) -> Linearizability {
        check(&story::history(calls), &BTreeMap::from([(7, 1_000)]), STEPS_MAX)
    }

    fn holds(calls: Vec<Told>) -> bool {
        let verdict = verdict(calls);
        assert_eq!(verdict.keys_given_up, 0);
        verdict.violations.is_empty()
    }

    #[test]
    fn calls_one_after_the_other_hold() {
        assert!(holds(vec![
            (0, 1, get("k"), nothing(1)),
            (2, 3, put("k", "a"), created(2)),
            (4, 5, swap("k", Expected::ModRevision(2), "b"), compared(3, true)),
            (6, 7, swap("k", Expected::Value(bytes("a")), "c"), compared(3, false)),
            (8, 9, get("k"), found(5, "b", 3)),
            (10, 11, delete("k"), deleted(6, true)),
            (12, 13, delete("k"), deleted(6, false)),
        ]));
    }

    #[test]
    fn a_stale_answer_to_a_linearizable_read_is_found() {
        let verdict = verdict(vec![
            (0, 1, put("k", "a"), created(2)),
            (2, 3, put("k", "b"), overwritten(3)),
            (4, 5, get("k"), found(2, "a", 2)),
        ]);
        let [violation] = &verdict.violations[..] else { panic!("one violation: {verdict:?}") };
        assert_eq!(violation.rule, Rule::Linearizable);
        assert!(violation.what.contains("on k explains"), "{violation}");
    }

    #[test]
    fn concurrent_reads_may_see_either_side_of_a_write() {
        for seen in [nothing(1), found(2, "a", 2)] {
            assert!(holds(vec![(0, 9, put("k", "a"), created(2)), (1, 8, get("k"), seen)]));
        }
    }

    #[test]
    fn two_reads_cannot_see_a_write_come_and_go() {
        assert!(!holds(vec![
            (0, 99, put("k", "a"), created(5)),
            (1, 2, get("k"), found(5, "a", 5)),
            (3, 4, get("k"), nothing(4)),
        ]));
    }

    #[test]
    fn a_lost_acknowledged_write_is_found() {
        assert!(!holds(vec![(0, 1, put("k", "a"), created(2)), (2, 3, get("k"), nothing(3)),]));
    }

    #[test]
    fn an_unknown_write_may_have_happened_or_not_or_later() {
        assert!(holds(vec![
            (0, 1, put("k", "a"), Outcome::Unknown),
            (2, 3, get("k"), nothing(1)),
            (4, 5, get("k"), found(2, "a", 2)),
            (6, 7, get("k"), found(2, "a", 2)),
        ]));
        assert!(holds(
            vec![(0, 1, put("k", "a"), Outcome::Unknown), (2, 3, get("k"), nothing(1)),]
        ));
    }

    #[test]
    fn an_unknown_write_happens_once() {
        assert!(!holds(vec![
            (0, 1, put("k", "a"), Outcome::Unknown),
            (2, 3, get("k"), found(2, "a", 2)),
            (4, 5, delete("k"), deleted(3, true)),
            (6, 7, get("k"), found(4, "a", 4)),
        ]));
    }

    #[test]
    fn a_refused_write_must_not_show() {
        assert!(!holds(
            vec![(0, 1, put("k", "a"), refused()), (2, 3, get("k"), found(2, "a", 2)),]
        ));
    }

    #[test]
    fn two_swaps_of_the_same_value_cannot_both_succeed() {
        assert!(!holds(vec![
            (0, 1, put("k", "a"), created(2)),
            (2, 9, swap("k", Expected::ModRevision(2), "b"), compared(3, true)),
            (2, 9, swap("k", Expected::ModRevision(2), "c"), compared(4, true)),
        ]));
        assert!(!holds(vec![
            (0, 9, swap("k", Expected::Absent, "b"), compared(3, true)),
            (0, 9, swap("k", Expected::Absent, "c"), compared(4, true)),
        ]));
    }

    #[test]
    fn a_swap_may_rest_on_a_write_of_unknown_outcome() {
        assert!(holds(vec![
            (0, 1, put("k", "a"), Outcome::Unknown),
            (2, 3, swap("k", Expected::ModRevision(2), "b"), compared(3, true)),
        ]));
        assert!(!holds(vec![
            (0, 1, put("k", "a"), Outcome::Unknown),
            (2, 3, swap("k", Expected::ModRevision(4), "b"), compared(3, true)),
        ]));
    }

    #[test]
    fn a_repetition_answers_what_the_first_one_did() {
        assert!(holds(vec![
            (0, 1, keyed("k", "a", "x"), Outcome::Unknown),
            (2, 3, put("k", "b"), overwritten(3)),
            (4, 5, keyed("k", "a", "x"), repeated(2)),
            (6, 7, get("k"), found(3, "b", 3)),
        ]));
    }

    #[test]
    fn a_repetition_that_happens_again_is_found() {
        assert!(!holds(vec![
            (0, 1, keyed("k", "a", "x"), created(2)),
            (2, 3, put("k", "b"), overwritten(3)),
            (4, 5, keyed("k", "a", "x"), overwritten(4)),
            (6, 7, get("k"), found(4, "a", 4)),
        ]));
        assert!(!holds(vec![
            (0, 1, keyed("k", "a", "x"), created(2)),
            (2, 3, put("k", "b"), overwritten(3)),
            (4, 5, keyed("k", "a", "x"), Outcome::Unknown),
            (6, 7, get("k"), found(4, "a", 4)),
        ]));
    }

    #[test]
    fn a_key_goes_with_its_lease_and_not_before() {
        let calls = |at_us| {
            vec![
                (0, 1, leased("k", "a", 7), created(2)),
                (at_us, at_us + 1, get("k"), nothing(3)),
                (at_us + 2, at_us + 3, put("k", "b"), created(4)),
            ]
        };
        assert!(holds(calls(1_000)));
        assert!(!holds(calls(500)));
    }

    #[test]
    fn a_search_that_takes_too_long_says_so() {
        let calls = (0..30).map(|at| (at, at + 1, put("k", "a"), Outcome::Unknown));
        let calls = calls.chain([(50, 51, get("k"), found(9, "b", 9))]).collect();
        let verdict = check(&story::history(calls), &BTreeMap::new(), 1_000);
        assert_eq!((verdict.keys_given_up, verdict.keys_settled), (1, 0));
        assert_eq!(verdict.violations, []);
    }
}
