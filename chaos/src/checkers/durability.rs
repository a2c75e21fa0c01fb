//! Whether every acknowledged write is there after healing: a recovery point objective of 0.
//!
//! Each replica is read whole when the run is over. An acknowledged write is there if the replica
//! has its revision and the key shows it or a later one. A key that is gone must have been deleted
//! by somebody, or have gone with a lease.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Serialize;

use super::{Rule, Violation, writes::Writes};
use crate::history::{Found, History, Operation, Shown};

/// What a replica holds when the run is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    /// The node.
    pub node: u32,
    /// How many commands its store applied.
    pub sequence: u64,
    /// Its store's revision.
    pub revision: u64,
    /// The hash of its whole state.
    pub state_hash: u128,
    /// Its keys.
    pub pairs: BTreeMap<Bytes, Found>,
}

/// What acknowledged writes the cluster lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Loss {
    /// Acknowledged writes that were looked for.
    pub acknowledged: u64,
    /// Those that some replica lacks.
    pub lost: u64,
    /// The time over which acknowledged writes were lost, in simulated microseconds: from the
    /// oldest lost one to the newest acknowledged one.
    pub lost_span_us: u64,
}

/// Looks for every acknowledged write in every replica; without any, none was looked for.
#[must_use]
pub fn check(history: &History, replicas: &[Replica]) -> (Loss, Vec<Violation>) {
    if replicas.is_empty() {
        return (Loss::default(), Vec::new());
    }
    let (writes, _contradictions) = Writes::gather(history);
    let mut loss = Loss::default();
    let mut oldest_lost_us: Option<u64> = None;
    let mut newest_us = 0;
    let mut violations = Vec::new();
    for operation in &history.operations {
        let Some(revision) = operation.wrote_at() else { continue };
        loss.acknowledged += 1;
        newest_us = newest_us.max(operation.settled_us());
        let missing = replicas
            .iter()
            .filter_map(|replica| Some((replica, lacks(replica, operation, revision, &writes)?)));
        let mut is_lost = false;
        for (replica, what) in missing {
            is_lost = true;
            violations.push(Violation {
                at_us: operation.settled_us(),
                rule: Rule::LostWrite,
                node: Some(replica.node),
                what: format!("{what}, but was acknowledged: {operation}"),
            });
        }
        if is_lost {
            loss.lost += 1;
            let settled_us = operation.settled_us();
            oldest_lost_us = Some(oldest_lost_us.unwrap_or(u64::MAX).min(settled_us));
        }
    }
    loss.lost_span_us = oldest_lost_us.map_or(0, |oldest_us| newest_us - oldest_us);
    (loss, violations)
}

/// Why the replica cannot have the write, if it cannot.
fn lacks<'a>(
    replica: &Replica,
    operation: &'a Operation,
    revision: u64,
    writes: &Writes<'a>,
) -> Option<String> {
    if replica.revision < revision {
        return Some(format!("the store is at revision {} only", replica.revision));
    }
    let key = operation.call.key()?;
    let written = operation.call.write().map(|(_, value, _)| value);
    match (replica.pairs.get(key), written) {
        (Some(found), _) if found.mod_revision < revision => Some(format!(
            "{} is still {} of revision {}",
            Shown(key),
            Shown(&found.value),
            found.mod_revision
        )),
        (Some(found), Some(value)) if found.mod_revision == revision && found.value != *value => {
            Some(format!("{} is {} at this revision", Shown(key), Shown(&found.value)))
        }
        (None, Some(_)) => {
            // The newest known write decides whether the key may be gone.
            let (newest, write) = writes.newest(key, u64::MAX)?;
            let may_be_gone = write.value.is_none_or(|value| writes.can_vanish(key, value));
            (newest <= revision && !may_be_gone).then(|| format!("{} is gone", Shown(key)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checkers::story::{bytes, created, delete, deleted, history, leased, overwritten, put},
        history::Outcome,
    };

    fn replica(revision: u64, pairs: &[(&str, &str, u64)]) -> Replica {
        let pairs = pairs.iter().map(|(key, value, mod_revision)| {
            (bytes(key), Found { value: bytes(value), mod_revision: *mod_revision })
        });
        Replica { node: 2, sequence: 9, revision, state_hash: 1, pairs: pairs.collect() }
    }

    fn written() -> History {
        history(vec![
            (0, 1, put("a", "1"), created(2)),
            (2, 3, put("a", "2"), overwritten(3)),
            (4, 5, put("b", "3"), created(4)),
            (6, 7, delete("b"), deleted(5, true)),
        ])
    }

    #[test]
    fn a_write_is_there_if_it_or_a_later_one_shows() {
        let (loss, violations) = check(&written(), &[replica(5, &[("a", "2", 3)])]);
        assert_eq!(violations, []);
        assert_eq!(loss, Loss { acknowledged: 4, lost: 0, lost_span_us: 0 });
        let (loss, _) = check(&written(), &[replica(7, &[("a", "9", 7)])]);
        assert_eq!(loss.lost, 0);
    }

    #[test]
    fn a_replica_that_stopped_early_lacks_writes() {
        let (loss, violations) = check(&written(), &[replica(3, &[("a", "2", 3)])]);
        assert_eq!((loss.lost, loss.lost_span_us), (2, 2));
        assert!(violations.iter().all(|violation| violation.rule == Rule::LostWrite));
    }

    #[test]
    fn an_overwritten_delete_or_write_is_found() {
        let undeleted = [replica(5, &[("a", "2", 3), ("b", "3", 4)])];
        assert_eq!(check(&written(), &undeleted).0.lost, 1);
        let reverted = [replica(5, &[("a", "1", 2)])];
        assert_eq!(check(&written(), &reverted).0.lost, 1);
        let gone = [replica(5, &[])];
        assert_eq!(check(&written(), &gone).0.lost, 1);
        let other_value = [replica(5, &[("a", "x", 3)])];
        assert_eq!(check(&written(), &other_value).0.lost, 1);
    }

    #[test]
    fn a_key_may_be_gone_with_its_lease_or_an_unanswered_delete() {
        let lease = history(vec![(0, 1, leased("a", "1", 7), created(2))]);
        assert_eq!(check(&lease, &[replica(3, &[])]).0.lost, 0);
        let unanswered =
            history(vec![(0, 1, put("a", "1"), created(2)), (2, 3, delete("a"), Outcome::Unknown)]);
        assert_eq!(check(&unanswered, &[replica(3, &[])]).0.lost, 0);
    }
}
