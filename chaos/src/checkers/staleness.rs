//! Whether stale reads are no older than they say.
//!
//! A read that says "at most 40 ms old" must show at least what had been acknowledged 40 ms before
//! it was sent. The node measures with its own clock, which may run a little wrong, and cuts the
//! answer to whole milliseconds; both are allowed for. What a stale read finds must be true of the
//! revision that it names: the revision oracle sees to that.

use super::{Bounds, Rule, Violation};
use crate::history::{Answer, History, Operation, Staleness};

/// A node tells whole milliseconds, so its word may be short by less than one.
const ROUNDING_US: u64 = 1_000;

/// Checks the stale reads of a history that say how old they are.
#[must_use]
pub fn check(history: &History, bounds: &Bounds) -> Vec<Violation> {
    let newest = Newest::of(history);
    let mut violations = Vec::new();
    for operation in &history.operations {
        let Some((revision, Answer::Got { staleness: Some(Staleness::Ms(staleness_ms)), .. })) =
            operation.answer()
        else {
            continue;
        };
        let age_us = bounds.longest_us(*staleness_ms) + ROUNDING_US;
        let Some(fresh_from_us) = operation.invoked_us.checked_sub(age_us) else { continue };
        if let Some((newest, earlier)) = newest.before(fresh_from_us)
            && newest > revision
        {
            violations.push(Violation {
                at_us: operation.settled_us(),
                rule: Rule::Staleness,
                node: Some(operation.node),
                what: format!("{operation}; but it lacks {earlier}"),
            });
        }
    }
    violations
}

/// The highest revision that had been told by any time.
struct Newest<'a>(Vec<(u64, u64, &'a Operation)>);

impl<'a> Newest<'a> {
    fn of(history: &'a History) -> Self {
        let mut told: Vec<_> = history
            .operations
            .iter()
            .filter_map(|operation| {
                Some((operation.settled_us(), operation.answer()?.0, operation))
            })
            .collect();
        told.sort_by_key(|(at_us, revision, _)| (*at_us, *revision));
        let mut highest = 0;
        told.retain(|(_, revision, _)| {
            let higher = *revision > highest;
            highest = highest.max(*revision);
            higher
        });
        Self(told)
    }

    fn before(&self, at_us: u64) -> Option<(u64, &'a Operation)> {
        let count = self.0.partition_point(|(told_us, ..)| *told_us < at_us);
        self.0[..count].last().map(|(_, revision, operation)| (*revision, *operation))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::story::{created, history, overwritten, put, stale, stale_get};

    fn broken(invoked_ms: u64, revision: u64, staleness: Staleness) -> bool {
        let invoked_us = invoked_ms * 1_000;
        let history = history(vec![
            (0, 1_000, put("a", "1"), created(2)),
            (50_000, 51_000, put("a", "2"), overwritten(3)),
            (invoked_us, invoked_us + 5_000, stale_get("b"), stale(revision, staleness)),
        ]);
        let violations = check(&history, &Bounds::default());
        assert!(violations.iter().all(|violation| violation.rule == Rule::Staleness));
        !violations.is_empty()
    }

    #[test]
    fn a_read_that_is_older_than_it_says_is_found() {
        assert!(broken(100, 2, Staleness::Ms(40)));
        assert!(broken(60, 1, Staleness::Ms(40)));
        assert!(broken(100, 2, Staleness::Ms(0)));
    }

    #[test]
    fn a_read_as_old_as_it_says_holds() {
        assert!(!broken(100, 2, Staleness::Ms(50)));
        assert!(!broken(100, 3, Staleness::Ms(0)));
        assert!(!broken(60, 2, Staleness::Ms(40)));
        assert!(!broken(100, 1, Staleness::Unknown));
    }
}
