//! Which learners keep up with the leader, and for how long they have.
//!
//! Pure: the caller brings the time. A learner keeps up while it has matched what the leader's log
//! held one second ago and its disk works; it is ready when it has done so for a while without a
//! break. A new leader starts from nothing, because it has seen nothing.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

/// A learner may be this far behind the leader.
const BEHIND_MAX: Duration = Duration::from_secs(1);

/// Looks that are remembered; they come four a second.
const LOOKS_MAX: usize = 64;

/// A learner at one look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LearnerLook {
    /// The node.
    pub(crate) id: u64,
    /// The last entry that it is known to have; 0 for none.
    pub(crate) matched: u64,
    /// What is wrong with it besides, as a clause.
    pub(crate) unwell: Option<String>,
}

/// What is remembered of the looks.
#[derive(Debug, Default)]
pub(crate) struct Readiness {
    /// When the leader's log ended where, oldest first.
    ends: VecDeque<(Duration, u64)>,
    learners: BTreeMap<u64, Learner>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Learner {
    keeps_up_since: Option<Duration>,
    behind: u64,
    unwell: Option<String>,
}

impl Readiness {
    /// Takes in where the leader's log ends, and how far its learners are.
    pub(crate) fn look(&mut self, now: Duration, end: u64, learners: Vec<LearnerLook>) {
        self.ends.push_back((now, end));
        if self.ends.len() > LOOKS_MAX {
            self.ends.pop_front();
        }
        let old_enough = |(at, _end): &&(Duration, u64)| now.saturating_sub(*at) >= BEHIND_MAX;
        let target = self.ends.iter().rev().find(old_enough).map(|(_at, end)| *end);
        let before = std::mem::take(&mut self.learners);
        for look in learners {
            let keeps_up = look.unwell.is_none() && target.is_some_and(|end| look.matched >= end);
            let since = before.get(&look.id).and_then(|learner| learner.keeps_up_since);
            let learner = Learner {
                keeps_up_since: keeps_up.then(|| since.unwrap_or(now)),
                behind: end.saturating_sub(look.matched),
                unwell: look.unwell,
            };
            self.learners.insert(look.id, learner);
        }
    }

    /// Forgets everything: this node does not lead.
    pub(crate) fn clear(&mut self) {
        self.ends.clear();
        self.learners.clear();
    }

    /// What the learner lacks to be given a vote, as a clause.
    pub(crate) fn lacks(&self, id: u64, now: Duration, stable: Duration) -> Option<String> {
        let Some(learner) = self.learners.get(&id) else {
            return Some("the leader has not looked at it yet".to_owned());
        };
        if let Some(unwell) = &learner.unwell {
            return Some(unwell.clone());
        }
        let Some(since) = learner.keeps_up_since else {
            return Some(format!("it is {} log entries behind", learner.behind));
        };
        let kept_up = now.saturating_sub(since);
        (kept_up < stable).then(|| {
            let (kept_up, stable) = (kept_up.as_secs_f64(), stable.as_secs_f64());
            format!("it has kept up for {kept_up:.1} s of the {stable:.0} s that are asked for")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STABLE: Duration = Duration::from_secs(10);

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn look(readiness: &mut Readiness, ms: u64, end: u64, matched: u64, unwell: Option<&str>) {
        let unwell = unwell.map(str::to_owned);
        readiness.look(at(ms), end, vec![LearnerLook { id: 4, matched, unwell }]);
    }

    #[test]
    fn a_learner_is_ready_when_it_has_kept_up_for_a_while() {
        let mut readiness = Readiness::default();
        for step in 0..=44 {
            let ms = step * 250;
            // It is half a second behind a log that grows by ten entries at each look.
            look(&mut readiness, ms, step * 10, (step * 10).saturating_sub(20), None);
            let lacks = readiness.lacks(4, at(ms), STABLE);
            // Nothing is known to compare with in the first second.
            assert_eq!(lacks.is_none(), ms >= 11_000, "{ms} ms: {lacks:?}");
        }
    }

    #[test]
    fn one_look_at_which_it_lags_or_its_disk_hangs_starts_the_time_anew() {
        for (matched, unwell) in [(0, None), (100, Some("its disk hangs"))] {
            let mut readiness = Readiness::default();
            for step in 0..60 {
                look(&mut readiness, step * 250, 100, 100, None);
            }
            assert_eq!(readiness.lacks(4, at(15_000), STABLE), None);
            look(&mut readiness, 15_000, 100, matched, unwell);
            let lacks = readiness.lacks(4, at(15_000), STABLE).expect("it is not ready");
            assert!(lacks.contains(unwell.unwrap_or("100 log entries behind")), "{lacks}");
            look(&mut readiness, 15_250, 100, 100, None);
            let lacks = readiness.lacks(4, at(16_250), STABLE).expect("it is not ready");
            assert!(lacks.contains("1.0 s of the 10 s"), "{lacks}");
        }
    }

    #[test]
    fn who_was_never_looked_at_is_not_ready_and_a_new_leader_has_looked_at_nobody() {
        let mut readiness = Readiness::default();
        for step in 0..60 {
            look(&mut readiness, step * 250, 1, 1, None);
        }
        assert!(readiness.lacks(5, at(15_000), STABLE).is_some());
        assert!(readiness.lacks(4, at(15_000), STABLE).is_none());
        readiness.clear();
        assert!(readiness.lacks(4, at(15_000), STABLE).is_some());
    }
}
