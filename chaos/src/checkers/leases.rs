//! Whether leases live as long as promised, end when they should, and guard one holder at a time.
//!
//! Only what clients can know counts. A lease was renewed at the earliest when the renewal was
//! sent, so until that time plus its time to live it must be there; it was renewed at the latest
//! when the answer came, so some time after that plus its time to live it must be gone. In between
//! nothing is promised. The replicated clock stands still while no leader has a quorum, so only
//! time outside of the given disturbances counts for an end; a promise to live knows no excuse.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{
    Bounds, Rule, Violation,
    writes::{Witness, Writes},
};
use crate::history::{Answer, Call, Consistency, Expected, History, Operation, Outcome, Shown};

/// When each lease of the history can have ended at the earliest, in simulated microseconds: at
/// its first revocation, or else when its last certain renewal ran out.
#[must_use]
pub fn earliest_ends_us(history: &History, bounds: &Bounds) -> BTreeMap<u64, u64> {
    let leases = Leases::gather(history);
    leases.0.into_iter().map(|(id, lease)| (id, lease.earliest_end_us(bounds))).collect()
}

/// Checks the leases of a history. `disturbed_us` are the times, in order and apart, in which the
/// replicated clock may have stood still.
#[must_use]
pub fn check(history: &History, bounds: &Bounds, disturbed_us: &[(u64, u64)]) -> Vec<Violation> {
    let (writes, _contradictions) = Writes::gather(history);
    let leases = Leases::gather(history);
    let mut violations = leases.gone_early(history, bounds);
    violations.extend(leases.deleted_early(&writes, bounds));
    violations.extend(leases.outlived(history, &writes, bounds, disturbed_us));
    violations.extend(leases.two_holders(history, bounds));
    violations.extend(revived(history));
    violations
}

/// Renewals and answers that tell of a lease which was certainly gone before they were asked for.
fn revived(history: &History) -> Vec<Violation> {
    let mut gone: BTreeMap<u64, &Operation> = BTreeMap::new();
    for operation in &history.operations {
        let revoked = match (&operation.call, operation.answer()) {
            (Call::LeaseRevoke { lease }, Some(_)) => Some(*lease),
            _ => shows_gone(operation),
        };
        let Some(lease) = revoked else { continue };
        let first = gone.entry(lease).or_insert(operation);
        if operation.settled_us() < first.settled_us() {
            *first = operation;
        }
    }
    let alive = |operation: &Operation| match (&operation.call, operation.answer()?.1) {
        (Call::LeaseKeepAlive { lease }, Answer::LeaseKeptAlive { ttl_ms: Some(_) })
        | (Call::LeaseTimeToLive { lease }, Answer::LeaseTold { left_ms: Some(_) }) => Some(*lease),
        _ => None,
    };
    let revived = history.operations.iter().filter_map(|operation| {
        let first = gone.get(&alive(operation)?)?;
        // A client waits for one answer before it asks on.
        let after = first.settled_us() < operation.invoked_us
            || first.settled_us() == operation.invoked_us && first.client == operation.client;
        after.then(|| Violation {
            at_us: operation.settled_us(),
            rule: Rule::LeaseRevived,
            node: Some(operation.node),
            what: format!("{operation}; but before it was sent: {first}"),
        })
    });
    revived.collect()
}

/// What is known of each lease.
struct Leases<'a>(BTreeMap<u64, Lease<'a>>);

/// What is known of a lease.
#[derive(Default)]
struct Lease<'a> {
    /// The time to live it was granted.
    ttl_ms: u64,
    /// Its grant and the keep-alives that may have renewed it.
    renewals: Vec<&'a Operation>,
    /// When the first revocation that may have taken effect was sent.
    revoked_us: Option<u64>,
}

impl Lease<'_> {
    fn earliest_end_us(&self, bounds: &Bounds) -> u64 {
        let certain = self.renewals.iter().filter(|renewal| renewal.answer().is_some());
        let renewed_us = certain.map(|renewal| renewal.invoked_us).max().unwrap_or(0);
        let runs_out_us = renewed_us.saturating_add(bounds.shortest_us(self.ttl_ms));
        self.revoked_us.map_or(runs_out_us, |revoked_us| revoked_us.min(runs_out_us))
    }

    /// When the last renewal before `at_us` had certainly happened; never, if one of them may
    /// still be under way.
    fn last_renewed_us(&self, at_us: u64, other_than: &Operation) -> u64 {
        let earlier = self
            .renewals
            .iter()
            .filter(|renewal| !std::ptr::eq(**renewal, other_than) && renewal.invoked_us <= at_us);
        earlier.map(|renewal| renewal.settled_us()).max().unwrap_or(u64::MAX)
    }
}

impl<'a> Leases<'a> {
    fn gather(history: &'a History) -> Self {
        let mut leases: BTreeMap<u64, Lease<'a>> = BTreeMap::new();
        for operation in &history.operations {
            match (&operation.call, &operation.outcome) {
                (_, Outcome::Refused { .. }) => {}
                (_, Outcome::Ok { answer: Answer::LeaseGranted { lease, ttl_ms }, .. }) => {
                    let lease = leases.entry(*lease).or_default();
                    lease.ttl_ms = *ttl_ms;
                    lease.renewals.push(operation);
                }
                (
                    Call::LeaseKeepAlive { lease },
                    Outcome::Unknown
                    | Outcome::Ok { answer: Answer::LeaseKeptAlive { ttl_ms: Some(_) }, .. },
                ) => leases.entry(*lease).or_default().renewals.push(operation),
                (Call::LeaseRevoke { lease }, _) => {
                    let revoked_us = &mut leases.entry(*lease).or_default().revoked_us;
                    *revoked_us = Some(revoked_us.unwrap_or(u64::MAX).min(operation.invoked_us));
                }
                _ => {}
            }
        }
        Self(leases)
    }

    /// Calls that were told "no such lease" while it must have lived.
    fn gone_early(&self, history: &History, bounds: &Bounds) -> Vec<Violation> {
        let mut violations = Vec::new();
        for operation in &history.operations {
            let Some(id) = shows_gone(operation) else { continue };
            let Some(lease) = self.0.get(&id) else { continue };
            let end_us = lease.earliest_end_us(bounds);
            if operation.settled_us() < end_us {
                violations.push(too_short(id, operation, end_us, operation.to_string()));
            }
        }
        violations
    }

    /// Keys that a watch saw go with a lease that must have lived.
    fn deleted_early(&self, writes: &Writes<'a>, bounds: &Bounds) -> Vec<Violation> {
        let mut violations = Vec::new();
        for (key, known) in writes.iter() {
            let mut attached: Option<u64> = None;
            for (revision, write) in known {
                let (Witness::Watch(watched), None) = (write.witness, write.value) else {
                    attached = write.value.and_then(|value| single_lease(writes, key, value));
                    continue;
                };
                if let Some(id) = attached.take()
                    && !writes.may_be_deleted(key, watched.at_us)
                    && let Some(lease) = self.0.get(&id)
                    && watched.at_us < lease.earliest_end_us(bounds)
                {
                    violations.push(Violation {
                        at_us: watched.at_us,
                        rule: Rule::LeaseTooShort,
                        node: Some(watched.node),
                        what: format!(
                            "{} went with lease {id} at revision {revision}, but the lease was \
                             promised to live until {}",
                            Shown(key),
                            crate::timeline::Seconds(lease.earliest_end_us(bounds)),
                        ),
                    });
                }
            }
        }
        violations
    }

    /// Leases that showed signs of life long after their time.
    fn outlived(
        &self,
        history: &'a History,
        writes: &Writes<'a>,
        bounds: &Bounds,
        disturbed_us: &[(u64, u64)],
    ) -> Vec<Violation> {
        let mut violations = Vec::new();
        for operation in &history.operations {
            let Some(id) = shows_alive(operation, writes) else { continue };
            let Some(lease) = self.0.get(&id) else { continue };
            let renewed_us = lease.last_renewed_us(operation.settled_us(), operation);
            if renewed_us >= operation.invoked_us {
                continue;
            }
            let healthy_us = healthy_us(renewed_us, operation.invoked_us, disturbed_us);
            let allowed_us =
                bounds.longest_us(lease.ttl_ms) + bounds.longest_us(bounds.lease_end_ms);
            if healthy_us > allowed_us {
                violations.push(Violation {
                    at_us: operation.settled_us(),
                    rule: Rule::LeaseTooLong,
                    node: Some(operation.node),
                    what: format!(
                        "lease {id} of {} ms lives, {} ms of healthy time after it was renewed \
                         last: {operation}",
                        lease.ttl_ms,
                        healthy_us / 1_000
                    ),
                });
            }
        }
        violations
    }

    /// Locks that were taken while their holder must have had them.
    fn two_holders(&self, history: &'a History, bounds: &Bounds) -> Vec<Violation> {
        let mut held: BTreeMap<&Bytes, Vec<(u64, &Operation, u64)>> = BTreeMap::new();
        for operation in &history.operations {
            if let Call::CompareAndSet { key, expected: Expected::Absent, lease, .. } =
                &operation.call
                && *lease != 0
                && let Some(revision) = operation.wrote_at()
            {
                held.entry(key).or_default().push((revision, operation, *lease));
            }
        }
        let mut violations = Vec::new();
        for (key, mut holders) in held {
            holders.sort_by_key(|(revision, ..)| *revision);
            holders.dedup_by_key(|(revision, ..)| *revision);
            for pair in holders.windows(2) {
                let [(_, first, lease), (_, second, _)] = pair else { continue };
                let end_us = self.0.get(lease).map_or(0, |lease| lease.earliest_end_us(bounds));
                if second.settled_us() < end_us && !given_up(history, key, first, second) {
                    violations.push(Violation {
                        at_us: second.settled_us(),
                        rule: Rule::TwoHolders,
                        node: Some(second.node),
                        what: format!(
                            "{} has two holders: {first}; and while its lease {lease} lives: {second}",
                            Shown(key)
                        ),
                    });
                }
            }
        }
        violations
    }
}

/// The lease that a call did not find.
fn shows_gone(operation: &Operation) -> Option<u64> {
    match (&operation.call, operation.answer()?.1) {
        (Call::LeaseKeepAlive { lease }, Answer::LeaseKeptAlive { ttl_ms: None })
        | (Call::LeaseTimeToLive { lease }, Answer::LeaseTold { left_ms: None }) => Some(*lease),
        _ => None,
    }
}

/// The lease of a call's key, or the lease that a call renewed, if it shows that it is alive.
fn shows_alive<'a>(operation: &'a Operation, writes: &Writes<'a>) -> Option<u64> {
    match (&operation.call, operation.answer()?.1) {
        (Call::LeaseKeepAlive { lease }, Answer::LeaseKeptAlive { ttl_ms: Some(_) }) => {
            Some(*lease)
        }
        (Call::LeaseTimeToLive { lease }, Answer::LeaseTold { left_ms: Some(_) }) => Some(*lease),
        (
            Call::Get { key, consistency: Consistency::Linearizable },
            Answer::Got { found: Some(found), .. },
        ) => single_lease(writes, key, &found.value),
        _ => None,
    }
}

/// The lease that comes with a value, if only one can.
fn single_lease<'a>(writes: &Writes<'a>, key: &'a Bytes, value: &'a Bytes) -> Option<u64> {
    let mut leases =
        writes.writers(key, value).iter().filter_map(|writer| Some(writer.call.write()?.2));
    let lease = leases.next()?;
    (lease != 0 && leases.all(|other| other == lease)).then_some(lease)
}

/// Whether a call may have freed the key, or changed it, between two that took it.
fn given_up(history: &History, key: &Bytes, first: &Operation, second: &Operation) -> bool {
    history.operations.iter().any(|operation| {
        !std::ptr::eq(operation, first)
            && !std::ptr::eq(operation, second)
            && operation.invoked_us <= second.settled_us()
            && operation.settled_us() >= first.invoked_us
            && operation.call.key() == Some(key)
            && match operation.call {
                Call::Get { .. } => false,
                _ => operation.outcome == Outcome::Unknown || operation.wrote_at().is_some(),
            }
    })
}

/// The part of a span that is not disturbed.
fn healthy_us(from_us: u64, to_us: u64, disturbed_us: &[(u64, u64)]) -> u64 {
    let disturbed: u64 = disturbed_us
        .iter()
        .map(|(began_us, ended_us)| (*ended_us).min(to_us).saturating_sub((*began_us).max(from_us)))
        .sum();
    to_us.saturating_sub(from_us).saturating_sub(disturbed)
}

fn too_short(id: u64, operation: &Operation, end_us: u64, told: String) -> Violation {
    Violation {
        at_us: operation.settled_us(),
        rule: Rule::LeaseTooShort,
        node: Some(operation.node),
        what: format!(
            "lease {id} was promised to live until {}, but: {told}",
            crate::timeline::Seconds(end_us)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::story::{
        Told, compared, created, delete, deleted, found, get, granted, history, kept_alive, leased,
        lock, ok, watch,
    };

    const MS: u64 = 1_000;

    fn grant(at_ms: u64) -> Told {
        (at_ms * MS, (at_ms + 5) * MS, Call::LeaseGrant { ttl_ms: 1_000 }, granted(7, 1_000))
    }

    fn keep_alive(at_ms: u64, ttl_ms: Option<u64>) -> Told {
        let call = Call::LeaseKeepAlive { lease: 7 };
        (at_ms * MS, (at_ms + 5) * MS, call, kept_alive(2, ttl_ms))
    }

    fn revoke(at_ms: u64) -> Told {
        let outcome = ok(3, Answer::LeaseRevoked { deleted: 0 });
        (at_ms * MS, (at_ms + 5) * MS, Call::LeaseRevoke { lease: 7 }, outcome)
    }

    fn take(at_ms: u64, value: &str, lease: u64, revision: u64) -> Told {
        let call = lock("lock", Expected::Absent, value, lease);
        (at_ms * MS, (at_ms + 5) * MS, call, compared(revision, true))
    }

    fn broken(calls: Vec<Told>, disturbed_us: &[(u64, u64)]) -> Vec<Rule> {
        let violations = check(&history(calls), &Bounds::default(), disturbed_us);
        violations.into_iter().map(|violation| violation.rule).collect()
    }

    #[test]
    fn a_lease_that_is_gone_before_its_time_is_found() {
        assert_eq!(broken(vec![grant(0), keep_alive(900, None)], &[]), [Rule::LeaseTooShort]);
        let renewed = vec![grant(0), keep_alive(900, Some(1_000)), keep_alive(1_800, None)];
        assert_eq!(broken(renewed, &[]), [Rule::LeaseTooShort]);
        assert_eq!(broken(vec![grant(0), keep_alive(1_000, None)], &[]), []);
        assert_eq!(broken(vec![grant(0), revoke(500), keep_alive(900, None)], &[]), []);
    }

    #[test]
    fn a_fast_clock_is_allowed_for_only_as_far_as_stated() {
        let calls = vec![grant(0), keep_alive(960, None)];
        let bounds = Bounds { clock_error_per_mille: 50, ..Bounds::default() };
        assert_eq!(check(&history(calls.clone()), &bounds, &[]), []);
        let bounds = Bounds { clock_error_per_mille: 10, ..bounds };
        assert_eq!(check(&history(calls), &bounds, &[]).len(), 1);
    }

    #[test]
    fn a_key_that_goes_before_its_lease_is_found() {
        let calls = vec![grant(0), (10 * MS, 15 * MS, leased("a", "1", 7), created(2))];
        let seen = |calls: Vec<Told>, at_ms: u64| {
            let mut history = history(calls);
            watch(&mut history, 0, 20 * MS, 2, &[("a", Some("1"))]);
            watch(&mut history, 0, at_ms * MS, 3, &[("a", None)]);
            check(&history, &Bounds::default(), &[]).len()
        };
        assert_eq!(seen(calls.clone(), 500), 1);
        assert_eq!(seen(calls.clone(), 1_000), 0);
        let mut deleted_by_call = calls;
        deleted_by_call.push((400 * MS, 410 * MS, delete("a"), Outcome::Unknown));
        assert_eq!(seen(deleted_by_call, 500), 0);
    }

    #[test]
    fn a_lease_that_outlives_its_time_is_found() {
        let calls = vec![grant(0), keep_alive(4_000, Some(1_000))];
        assert_eq!(broken(calls.clone(), &[]), [Rule::LeaseTooLong]);
        // The clock stood still for two of the four seconds.
        assert_eq!(broken(calls, &[(1_000 * MS, 3_000 * MS)]), []);
        assert_eq!(broken(vec![grant(0), keep_alive(2_900, Some(1_000))], &[]), []);
    }

    #[test]
    fn a_key_that_outlives_its_lease_is_found() {
        let calls = |at_ms: u64| {
            vec![
                grant(0),
                (10 * MS, 15 * MS, leased("a", "1", 7), created(2)),
                (at_ms * MS, (at_ms + 5) * MS, get("a"), found(2, "1", 2)),
            ]
        };
        assert_eq!(broken(calls(3_100), &[]), [Rule::LeaseTooLong]);
        assert_eq!(broken(calls(2_900), &[]), []);
    }

    #[test]
    fn a_renewal_of_unknown_outcome_may_have_renewed_at_any_time() {
        let mut unknown = keep_alive(500, None);
        unknown.3 = Outcome::Unknown;
        assert_eq!(broken(vec![grant(0), unknown, keep_alive(9_000, Some(1_000))], &[]), []);
    }

    #[test]
    fn a_lease_that_comes_back_is_found() {
        let told = |at_ms: u64, left_ms| {
            let call = Call::LeaseTimeToLive { lease: 7 };
            (at_ms * MS, (at_ms + 5) * MS, call, ok(3, Answer::LeaseTold { left_ms }))
        };
        let revoked = vec![grant(0), revoke(100), keep_alive(200, Some(1_000))];
        assert_eq!(broken(revoked, &[]), [Rule::LeaseRevived]);
        assert_eq!(
            broken(vec![grant(0), revoke(100), told(200, Some(1))], &[]),
            [Rule::LeaseRevived]
        );
        assert_eq!(broken(vec![grant(0), revoke(100), told(200, None)], &[]), []);
        let found_ended = vec![grant(0), told(1_100, None), keep_alive(1_200, Some(1_000))];
        assert!(broken(found_ended, &[]).contains(&Rule::LeaseRevived));
        // Sent before the revocation was answered.
        assert_eq!(broken(vec![grant(0), revoke(100), keep_alive(103, Some(1_000))], &[]), []);
        assert_eq!(broken(vec![grant(0), told(900, None)], &[]), [Rule::LeaseTooShort]);
    }

    #[test]
    fn a_lock_that_is_taken_from_a_living_holder_is_found() {
        let stolen = vec![grant(0), take(10, "1", 7, 2), take(500, "2", 8, 3)];
        assert_eq!(broken(stolen, &[]), [Rule::TwoHolders]);
        let later = vec![grant(0), take(10, "1", 7, 2), take(1_000, "2", 8, 3)];
        assert_eq!(broken(later, &[]), []);
        let revoked = vec![grant(0), take(10, "1", 7, 2), revoke(400), take(500, "2", 8, 3)];
        assert_eq!(broken(revoked, &[]), []);
        let freed = vec![
            grant(0),
            take(10, "1", 7, 2),
            (400 * MS, 410 * MS, delete("lock"), deleted(3, true)),
            take(500, "2", 8, 4),
        ];
        assert_eq!(broken(freed, &[]), []);
    }
}
