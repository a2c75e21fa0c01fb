//! Going over to a newer replicated format, once every member can follow it.
//!
//! The leader looks from time to time. If all members are heard, learners included, and each has
//! announced that it applies a newer format than the one in force, the newest of those comes into
//! force, by an entry like any other: every replica goes over at the same place in the log. There
//! is no way back, so a member that is away holds it up, and who does is told.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use mainstay_kv::{Command, Proposal};
use mainstay_world::{self as world, Instant};
use tracing::{info, warn};

use crate::{
    proposals::Proposals,
    running::Parts,
    versions::{PeerVersions, Versions},
};

/// How often the leader looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// After how long a format that is held up is worth a warning, and how often one is.
const WARNING_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// A format that this node knows and that is not in force, because a member cannot follow it or
/// has not said so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldUp {
    /// The newest format that this node knows.
    pub format: u64,
    /// For how long this node has led without being able to go over to it.
    pub since: Duration,
    /// The members that hold it up.
    pub by: BTreeSet<u64>,
}

/// What holds the newest format up, for those who ask; `None` on a node that does not lead.
#[derive(Debug, Clone, Default)]
pub(crate) struct FormatRecord(Arc<Mutex<Option<(Instant, HeldUp)>>>);

impl FormatRecord {
    pub(crate) fn held_up(&self) -> Option<HeldUp> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.as_ref().map(|(since, held)| HeldUp { since: since.elapsed(), ..held.clone() })
    }

    /// Notes who holds the format up; nobody while it is not held up.
    fn set(&self, format: u64, by: BTreeSet<u64>) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = held.as_ref().map_or_else(Instant::now, |(since, _held)| *since);
        let now = HeldUp { format, since: Duration::ZERO, by };
        *held = (!now.by.is_empty()).then_some((since, now));
    }
}

/// The task.
pub(crate) struct FormatTask {
    pub(crate) parts: Parts,
    pub(crate) own: Versions,
    pub(crate) proposals: Proposals,
    pub(crate) record: FormatRecord,
}

impl FormatTask {
    /// Ends when the newest format of this program is in force: there is nothing left to do.
    pub(crate) async fn run(self) {
        let mut warned_at = Instant::now();
        while self.present() < self.own.formats.1 {
            world::sleep(INTERVAL).await;
            let leadership = *self.parts.leadership.borrow();
            // What is in force is known for certain once an entry of this term is applied.
            let knows = self.parts.store.applied_term() == leadership.term && self.present() > 0;
            if !leadership.leads || !knows {
                self.record.set(0, BTreeSet::new());
                warned_at = Instant::now();
                continue;
            }
            let (newest, held_up_by) = self.look();
            self.record.set(self.own.formats.1, held_up_by.clone());
            if warned_at.elapsed() >= WARNING_INTERVAL && !held_up_by.is_empty() {
                warned_at = Instant::now();
                self.warn(&held_up_by);
            }
            if newest > self.present() {
                self.raise(newest).await;
            }
        }
        self.record.set(0, BTreeSet::new());
    }

    /// The format in force; 0 while the store is empty.
    fn present(&self) -> u64 {
        self.parts.store.format().now()
    }

    async fn raise(&self, format: u64) {
        let from = self.present();
        let proposal = Proposal::unattributed(Command::RaiseFormat { format });
        let Ok(body) = proposal.to_bytes() else { return };
        let Ok(submitted) = self.proposals.submit(body) else { return };
        match submitted.outcome.await {
            Ok(Ok(_applied)) => {
                info!(from, to = format, "every member can follow a newer format: it is in force");
            }
            // The next look tells.
            Ok(Err(_)) | Err(_) => warn!(to = format, "the newer format is not in force yet"),
        }
    }

    /// The newest format that this node and every member that is heard can follow, at least the
    /// present one if a member is not heard; and the members for which it is not the newest of all.
    fn look(&self) -> (u64, BTreeSet<u64>) {
        if self.parts.buggify.is_planted("raise-format-early") {
            return (self.own.formats.1, BTreeSet::new());
        }
        let announced = self.parts.links.announced().all();
        let membership = self.parts.membership.borrow();
        let others = membership.nodes().map(|(id, _record)| *id);
        let told = others.filter(|id| *id != self.parts.node_id).map(|id| {
            let is_heard = self.parts.links.find(id).is_some_and(|link| link.is_healthy());
            (id, announced.get(&id).copied().filter(|_told| is_heard))
        });
        common_format(self.own.formats.1, self.present(), told)
    }

    fn warn(&self, held_up_by: &BTreeSet<u64>) {
        let membership = self.parts.membership.borrow();
        let name = |id: &u64| membership.get_node(id).map_or_else(String::new, |r| r.name.clone());
        let names: Vec<String> = held_up_by.iter().map(name).collect();
        warn!(
            newest = self.own.formats.1, in_force = self.present(), held_up_by = ?names,
            "a newer format cannot come into force: start these members with the version that \
             this node runs, or remove them"
        );
    }
}

/// The newest format up to `newest` that all `others` apply, `present` if one has not said so; and
/// who cannot follow `newest`.
fn common_format(
    newest: u64,
    present: u64,
    others: impl Iterator<Item = (u64, Option<PeerVersions>)>,
) -> (u64, BTreeSet<u64>) {
    let mut common = newest;
    let mut held_up_by = BTreeSet::new();
    for (id, told) in others {
        let theirs = told.map_or(present, |told| told.formats.1);
        if theirs < newest {
            held_up_by.insert(id);
        }
        common = common.min(theirs);
    }
    (common, held_up_by)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_common_when_everybody_has_said_so() {
        let knows = |newest| Some(PeerVersions { protocol: 1, formats: (1, newest) });
        let common = |others: &[(u64, Option<PeerVersions>)]| {
            let (common, by) = common_format(3, 1, others.iter().copied());
            (common, by.into_iter().collect::<Vec<_>>())
        };
        assert_eq!(common(&[(2, knows(2)), (3, knows(3))]), (2, vec![2]));
        assert_eq!(common(&[(2, knows(3)), (3, None)]), (1, vec![3]));
        assert_eq!(common(&[(2, knows(3)), (3, knows(4))]), (3, vec![]));
        assert_eq!(common(&[]), (3, vec![]));
    }
}
