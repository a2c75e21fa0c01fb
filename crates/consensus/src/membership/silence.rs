//! For how long members have not answered, whoever led meanwhile.
//!
//! A leader asks everybody about once a second. What counts is the time between two looks in a row
//! at which a quorum answered and this member did not: a leader that is new, stands still or is cut
//! off finds nobody silent for long. While somebody is silent the leader tells the others, and
//! whoever leads next goes on from there; if it has just started, they remind it. Otherwise a dead
//! voter would stay for ever in a cluster whose leader changes often. What is told is no proof: it
//! is forgotten when it is old, and of everybody whom this node has heard itself since, and the next
//! leader asks again before it acts.
//!
//! Pure: the caller brings the time, as the time since an origin of its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::fitness::milliseconds;

/// Two looks are a second apart, or as long as a change of members takes. What is longer is no time
/// in which this node listened, and counts as this much.
const STEP_MAX: Duration = Duration::from_secs(5);

/// How old may be what is known for a new leader to go on from it: longer than most elections take,
/// and short enough that nobody has come, been heard by others, and gone again.
const KNOWN_FOR: Duration = Duration::from_secs(60);

/// For how long a new leader that knows nothing lets itself be reminded.
const REMINDED_FOR: Duration = Duration::from_secs(10);

/// A member that was heard this lately is not silent, whatever a leader tells.
const HEARD_LATELY: Duration = Duration::from_secs(1);

/// What a leader tells the others, or what they remind the next one of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SilenceReport {
    /// The term of the leader that found it so.
    pub(crate) term: u64,
    /// Milliseconds since then.
    pub(crate) age_ms: u64,
    /// The members that do not answer, with the milliseconds since they did.
    pub(crate) members: Vec<(u64, u64)>,
}

/// What a node knows of who does not answer.
#[derive(Debug, Default)]
pub(crate) struct Silences {
    lasted: BTreeMap<u64, Duration>,
    /// When that was so, and in which term.
    known: Option<(u64, Duration)>,
    /// The last look of this leader, if a quorum answered it.
    looked: Option<Duration>,
    /// Until when this leader lets itself be reminded.
    reminded_until: Duration,
}

impl Silences {
    /// Goes on, as the new leader, from what is known. `heard` says when this node itself last heard
    /// a member, if it did.
    pub(crate) fn take_over(&mut self, now: Duration, heard: impl Fn(u64) -> Option<Duration>) {
        self.looked = None;
        match self.known {
            Some((_term, at)) if now.saturating_sub(at) <= KNOWN_FOR => {
                self.lasted.retain(|id, _lasted| is_unheard_since(at, heard(*id)));
                self.reminded_until = Duration::ZERO;
            }
            _ => {
                self.forget();
                self.reminded_until = now + REMINDED_FOR;
            }
        }
    }

    /// Takes over, as a new leader that knew nothing, what another member knows of the time before.
    pub(crate) fn remind(
        &mut self,
        now: Duration,
        report: &SilenceReport,
        heard: impl Fn(u64) -> Option<Duration>,
    ) {
        let age = Duration::from_millis(report.age_ms);
        if now > self.reminded_until || age > KNOWN_FOR {
            return;
        }
        let at = now.saturating_sub(age);
        for (id, lasted_ms) in &report.members {
            let answered = self.looked.is_some() && !self.lasted.contains_key(id);
            if !answered && is_unheard_since(at, heard(*id)) {
                let lasted = self.lasted.entry(*id).or_default();
                *lasted = Duration::from_millis(*lasted_ms).max(*lasted);
            }
        }
    }

    /// What the new leader of `term` is to be reminded of, if there is something.
    pub(crate) fn reminder(
        &self,
        now: Duration,
        term: u64,
        heard: impl Fn(u64) -> Option<Duration>,
    ) -> Option<SilenceReport> {
        let (known_in, at) = self.known.filter(|(known_in, _at)| *known_in < term)?;
        let age = now.saturating_sub(at);
        let mut report = self.report(known_in);
        report.age_ms = milliseconds(age);
        report.members.retain(|(id, _lasted_ms)| is_unheard_since(at, heard(*id)));
        (age <= KNOWN_FOR && !report.members.is_empty()).then_some(report)
    }

    /// Takes in a look of this leader: who did not answer, and whether a quorum did.
    pub(crate) fn look(
        &mut self,
        now: Duration,
        term: u64,
        silent: &BTreeSet<u64>,
        has_quorum: bool,
    ) {
        // This leader was followed by another while it looked.
        if self.known.is_some_and(|(known_in, _at)| term < known_in) {
            return;
        }
        self.lasted.retain(|id, _lasted| silent.contains(id));
        let before = self.looked.take();
        if !has_quorum {
            return;
        }
        let step = before.map_or(Duration::ZERO, |before| now.saturating_sub(before).min(STEP_MAX));
        for id in silent {
            // Who has just fallen silent answered between the two looks.
            self.lasted.entry(*id).and_modify(|lasted| *lasted += step).or_default();
        }
        self.looked = Some(now);
        self.known = Some((term, now));
    }

    /// Takes over what the leader of `report.term` tells. `heard` is as in [`Self::take_over`].
    pub(crate) fn told(
        &mut self,
        now: Duration,
        report: &SilenceReport,
        heard: impl Fn(u64) -> Option<Duration>,
    ) {
        if self.known.is_some_and(|(known_in, _at)| report.term < known_in) {
            return;
        }
        let is_silent =
            |id: u64| heard(id).is_none_or(|heard| now.saturating_sub(heard) >= HEARD_LATELY);
        let members = report.members.iter().filter(|(id, _lasted_ms)| is_silent(*id));
        self.lasted =
            members.map(|(id, lasted_ms)| (*id, Duration::from_millis(*lasted_ms))).collect();
        self.known = Some((report.term, now));
        self.looked = None;
    }

    /// Forgets everything.
    pub(crate) fn forget(&mut self) {
        self.lasted.clear();
        self.known = None;
        self.looked = None;
    }

    /// Who does not answer, and for how long.
    pub(crate) const fn lasted(&self) -> &BTreeMap<u64, Duration> {
        &self.lasted
    }

    /// What the leader of `term` tells the others.
    pub(crate) fn report(&self, term: u64) -> SilenceReport {
        let members = self.lasted.iter().map(|(id, lasted)| (*id, milliseconds(*lasted)));
        SilenceReport { term, age_ms: 0, members: members.collect() }
    }
}

/// Whether this node has heard nothing of a member after `at`, by when it last did.
fn is_unheard_since(at: Duration, heard: Option<Duration>) -> bool {
    heard.is_none_or(|heard| heard <= at)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEAD: u64 = 4;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn unheard(_id: u64) -> Option<Duration> {
        None
    }

    fn dead() -> BTreeSet<u64> {
        BTreeSet::from([DEAD])
    }

    /// Looks once a second, from one moment to another, at a member that does not answer.
    fn looks(silences: &mut Silences, term: u64, from: u64, to: u64) {
        for second in from..=to {
            silences.look(at(second), term, &dead(), true);
        }
    }

    fn lasted(silences: &Silences) -> Option<u64> {
        silences.lasted().get(&DEAD).map(Duration::as_secs)
    }

    #[test]
    fn silence_lasts_over_a_change_of_leader() {
        let (mut first, mut second) = (Silences::default(), Silences::default());
        looks(&mut first, 1, 0, 400);
        assert_eq!(lasted(&first), Some(400));
        second.told(at(400), &first.report(1), unheard);
        second.take_over(at(403), unheard);
        looks(&mut second, 2, 403, 603);
        assert_eq!(lasted(&second), Some(600), "the time between the two leaders does not count");
        // The first leads again, and was told meanwhile.
        first.told(at(603), &second.report(2), unheard);
        first.take_over(at(604), unheard);
        looks(&mut first, 3, 604, 605);
        assert_eq!(lasted(&first), Some(601));
    }

    #[test]
    fn whoever_answers_once_is_silent_anew() {
        let mut silences = Silences::default();
        looks(&mut silences, 1, 0, 500);
        silences.look(at(501), 1, &BTreeSet::new(), true);
        looks(&mut silences, 1, 502, 510);
        assert_eq!(lasted(&silences), Some(8));
    }

    #[test]
    fn a_leader_that_is_cut_off_or_stands_still_counts_nothing() {
        let mut silences = Silences::default();
        looks(&mut silences, 1, 0, 10);
        // It stood still for an hour.
        silences.look(at(3_610), 1, &dead(), true);
        assert_eq!(lasted(&silences), Some(15));
        // Nobody but itself answers for an hour.
        for second in 3_611..7_211 {
            silences.look(at(second), 1, &BTreeSet::from([2, 3, DEAD]), false);
        }
        silences.look(at(7_211), 1, &dead(), true);
        assert_eq!(silences.lasted(), &BTreeMap::from([(DEAD, at(15))]));
        silences.look(at(7_212), 1, &dead(), true);
        assert_eq!(lasted(&silences), Some(16));
    }

    #[test]
    fn a_new_leader_forgets_who_was_heard_since_and_what_is_old() {
        let report =
            SilenceReport { term: 1, age_ms: 0, members: vec![(DEAD, 500_000), (5, 300_000)] };
        let heard = |id| (id == DEAD).then(|| at(102));
        let mut silences = Silences::default();
        silences.told(at(100), &report, heard);
        silences.take_over(at(103), heard);
        assert_eq!(silences.lasted(), &BTreeMap::from([(5, at(300))]));
        silences.told(at(200), &report, unheard);
        silences.take_over(at(261), unheard);
        assert!(silences.lasted().is_empty());
    }

    #[test]
    fn a_leader_that_has_just_started_is_reminded_by_the_others() {
        let (mut follower, mut started) = (Silences::default(), Silences::default());
        let mut first = Silences::default();
        looks(&mut first, 1, 0, 400);
        follower.told(at(1_400), &first.report(1), unheard);
        let reminder = follower.reminder(at(1_405), 2, unheard).expect("it knows something");
        assert_eq!((reminder.term, reminder.age_ms), (1, 5_000));
        assert_eq!(follower.reminder(at(1_405), 1, unheard), None, "who told needs no reminder");
        assert_eq!(follower.reminder(at(1_405), 2, |_id| Some(at(1_401))), None);
        assert_eq!(follower.reminder(at(1_500), 2, unheard), None, "that is too long ago");

        // The clock of a process that has just started is at its beginning.
        started.take_over(at(2), unheard);
        started.look(at(2), 2, &dead(), true);
        started.remind(at(3), &reminder, unheard);
        started.look(at(3), 2, &dead(), true);
        assert_eq!(lasted(&started), Some(401));
        started.look(at(4), 2, &BTreeSet::new(), true);
        started.remind(at(5), &reminder, unheard);
        assert_eq!(lasted(&started), None, "it has answered");
        started.look(at(6), 2, &dead(), true);
        started.remind(at(13), &reminder, unheard);
        assert_eq!(lasted(&started), Some(0), "only in the beginning");
    }

    #[test]
    fn a_follower_believes_its_own_ears_and_no_leader_of_the_past() {
        let report = |term, lasted_ms| {
            let members = vec![(DEAD, lasted_ms)];
            SilenceReport { term, age_ms: 0, members }
        };
        let mut silences = Silences::default();
        silences.told(at(100), &report(3, 500_000), |_id| Some(at(100)));
        assert_eq!(lasted(&silences), None);
        silences.told(at(101), &report(3, 501_000), |_id| Some(at(100)));
        assert_eq!(lasted(&silences), Some(501));
        silences.told(at(102), &report(2, 900_000), unheard);
        assert_eq!(lasted(&silences), Some(501));
        silences.look(at(102), 2, &BTreeSet::new(), true);
        assert_eq!(lasted(&silences), Some(501));
        silences.told(at(103), &SilenceReport { term: 3, age_ms: 0, members: Vec::new() }, unheard);
        assert_eq!(lasted(&silences), None, "the leader hears it again");
    }
}
