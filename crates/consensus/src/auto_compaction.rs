//! Old revisions go by themselves, when the cluster's settings say so.
//!
//! Two settings ask for it: how many revisions stay readable, and for how long one does. Both are
//! replicated; whoever leads looks once a second and proposes a compaction like anybody else's, so
//! what is forgotten is decided by an entry of the log. To know how old a revision is every node
//! notes now and then which revision was the newest. The notes are its own and end with it: after a
//! restart of all nodes revisions stay for their full age once more, never shorter.
//!
//! A compaction for every write would be an entry for every write, so one is proposed when it frees
//! a tenth of what is kept.

use std::{collections::VecDeque, time::Duration};

use mainstay_kv::{Proposal, Settings, command::Command};
use mainstay_world::{self as world, Instant};
use tokio::sync::watch;
use tracing::{debug, info};

use crate::{observation::Leadership, proposals::Proposals, state_machine::SharedStore};

/// How often the task looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// Notes of revisions that are kept: one for each tenth of the age, and some for the ends.
const NOTES_MAX: usize = 16;

/// The longest wait for a compaction to be applied.
const DEADLINE: Duration = Duration::from_secs(10);

/// The task.
pub(crate) struct AutoCompaction {
    pub(crate) leadership: watch::Receiver<Leadership>,
    pub(crate) store: SharedStore,
    pub(crate) proposals: Proposals,
}

impl AutoCompaction {
    /// Looks for as long as the node runs.
    pub(crate) async fn run(self) {
        let mut ages = RevisionAges::default();
        loop {
            world::sleep(INTERVAL).await;
            let (settings, revision, compacted, importing) = self.store.read(|store| {
                let importing = store.import_source().is_some();
                (store.settings().clone(), store.revision(), store.compact_revision(), importing)
            });
            let age = Duration::from_millis(settings.compaction_age_ms);
            let now = Instant::now();
            ages.note(now, revision, age);
            // What an operator holds still keeps its history as well.
            if !self.leadership.borrow().leads || settings.read_only || importing {
                continue;
            }
            let aged = ages.older_than(now, age);
            if let Some(target) = target(&settings, revision, compacted, aged) {
                self.compact(target).await;
            }
        }
    }

    async fn compact(&self, revision: u64) {
        let proposal = Proposal::unattributed(Command::Compact { revision });
        let body = proposal.to_bytes().expect("a number fits into an entry");
        let Ok(submitted) = self.proposals.submit(body) else { return };
        match world::timeout(DEADLINE, submitted.outcome).await {
            Ok(Ok(Ok(applied))) if applied.result.is_ok() => {
                info!(revision, "revisions below were compacted, as the settings say");
            }
            // The next look tries again, here or at another leader.
            other => debug!(revision, ?other, "no compaction"),
        }
    }
}

/// The revision to compact to, if that is worth an entry. `aged` is the newest revision that is
/// as old as the settings let revisions become.
fn target(settings: &Settings, revision: u64, compacted: u64, aged: Option<u64>) -> Option<u64> {
    let kept = settings.compaction_revisions;
    // Only full tenths, so that the next one is as far away.
    let surplus = if kept > 0 { revision.saturating_sub(kept) } else { 0 };
    let surplus = Some(surplus).filter(|upto| *upto >= compacted.saturating_add(kept.div_ceil(10)));
    surplus.max(aged).filter(|upto| *upto > compacted)
}

/// Which revision was the newest at what time.
#[derive(Debug, Default)]
struct RevisionAges {
    /// Oldest first; both ascend.
    notes: VecDeque<(Instant, u64)>,
}

impl RevisionAges {
    /// Notes the newest revision, about ten times in an `age`; an age of 0 needs no notes.
    fn note(&mut self, now: Instant, revision: u64, age: Duration) {
        if age.is_zero() {
            self.notes.clear();
            return;
        }
        if self.notes.back().is_some_and(|(last, _revision)| now.since(*last) < age / 10) {
            return;
        }
        if self.notes.len() == NOTES_MAX {
            // The age was shortened: what is older than it is told by the newest of those.
            self.notes.pop_front();
        }
        self.notes.push_back((now, revision));
    }

    /// The newest revision that has been the past for an `age`; forgets older notes.
    fn older_than(&mut self, now: Instant, age: Duration) -> Option<u64> {
        let past = self.notes.partition_point(|(noted, _revision)| now.since(*noted) >= age);
        self.notes.drain(..past.saturating_sub(1));
        if past == 0 { None } else { self.notes.front().map(|(_noted, revision)| *revision) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keeping(revisions: u64) -> Settings {
        Settings { compaction_revisions: revisions, ..Settings::default() }
    }

    #[test]
    fn nothing_is_compacted_unless_a_setting_asks_for_it() {
        assert_eq!(target(&Settings::default(), 1_000_000, 0, None), None);
    }

    #[test]
    fn the_wanted_number_of_revisions_stays_and_a_tenth_more_may_gather() {
        for (revision, compacted, expected) in [
            (50, 0, None),
            (109, 0, None),
            (110, 0, Some(10)),
            (119, 10, None),
            (120, 10, Some(20)),
            (100_000, 10, Some(99_900)),
        ] {
            let found = target(&keeping(100), revision, compacted, None);
            assert_eq!(found, expected, "at revision {revision}, compacted to {compacted}");
        }
    }

    #[test]
    fn whichever_setting_frees_more_wins_and_nothing_is_compacted_twice() {
        assert_eq!(target(&keeping(100), 200, 0, Some(150)), Some(150));
        assert_eq!(target(&keeping(100), 300, 0, Some(150)), Some(200));
        assert_eq!(target(&Settings::default(), 300, 150, Some(150)), None);
    }

    #[test]
    fn a_revision_stays_for_its_age_and_goes_within_a_tenth_more() {
        let age = Duration::from_secs(100);
        let start = Instant::now();
        let mut ages = RevisionAges::default();
        for second in 0..1_000_u64 {
            let now = start + Duration::from_secs(second);
            // One revision a second: revision r is `second - r` old.
            ages.note(now, second, age);
            let old = ages.older_than(now, age);
            assert!(old.is_none_or(|old| second - old >= 100), "{old:?} at {second}");
            if second >= 110 {
                assert!(old.is_some_and(|old| second - old <= 110), "{old:?} at {second}");
            }
            assert!(ages.notes.len() <= NOTES_MAX);
        }
    }

    #[test]
    fn an_age_that_is_taken_away_leaves_no_notes() {
        let mut ages = RevisionAges::default();
        let now = Instant::now();
        ages.note(now, 1, Duration::from_secs(1));
        ages.note(now, 1, Duration::ZERO);
        assert_eq!(ages.older_than(now, Duration::ZERO), None);
    }
}
