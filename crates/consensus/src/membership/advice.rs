//! What the leader makes of its members by itself: whom to promote, whom to let go, whom to wait
//! for, each with the reason.
//!
//! Pure, and bound by the same [`rules`](crate::membership::rules) as people are. A dead voter is
//! let go only if the cluster tolerates more failures without it, which is so only when a
//! replacement has a vote already; of three voters a dead one stays.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::membership::rules::{ClusterView, Plan, Wish, decide};

/// What is to be done about one member, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advice {
    /// What is to be done.
    pub action: AutopilotAction,
    /// The member.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// The member whose place it takes.
    pub replaces: Option<u64>,
    /// Why, as a sentence without its end.
    pub why: String,
}

/// What the leader does about a member by itself; in the order in which it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum AutopilotAction {
    /// Completes a change that a former leader left half done.
    Complete,
    /// Gives a learner the vote of the member that it replaces.
    Replace,
    /// Gives a learner a vote.
    Promote,
    /// Lets a dead voter go.
    Remove,
    /// Nothing yet.
    Wait,
}

impl AutopilotAction {
    /// The action in one word, as the API and the metrics show it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Replace => "replace",
            Self::Promote => "promote",
            Self::Remove => "remove",
            Self::Wait => "wait",
        }
    }
}

/// What there is to do or to wait for, what comes first in front. `silent` says since when members
/// do not answer; one that does not for `dead_after` is taken for dead.
pub(crate) fn advise(
    view: &ClusterView,
    silent: &BTreeMap<u64, Duration>,
    dead_after: Duration,
) -> Vec<Advice> {
    let mut advice = Vec::new();
    for (id, member) in &view.members {
        if !view.is_voter(*id) {
            advice.push(on_learner(view, *id));
        } else if !member.answers {
            let silence = silent.get(id).copied().unwrap_or_default();
            advice.push(on_silent_voter(view, *id, silence, dead_after));
        }
    }
    advice.sort_by_key(|advice| (advice.action, advice.id));
    advice
}

fn on_learner(view: &ClusterView, id: u64) -> Advice {
    let (action, replaces, why) = match decide(view, &Wish::Promote(id), false) {
        Ok(decision) => {
            let replaces = match decision.plan {
                Plan::Promote { replaces, .. } => replaces,
                _ => None,
            };
            let action = match replaces {
                Some(_) => AutopilotAction::Replace,
                None => AutopilotAction::Promote,
            };
            let (before, after) = (decision.before, decision.after);
            let place = match replaces {
                Some(old) => format!("takes the place of node {old}, which does not answer"),
                None => "gets a vote".to_owned(),
            };
            let why = format!(
                "it keeps up and {place}; failures tolerated: {before} before, {after} after"
            );
            (action, replaces, why)
        }
        Err(refusal) => (AutopilotAction::Wait, None, refusal.to_string()),
    };
    Advice { action, id, name: view.name(id), replaces, why }
}

fn on_silent_voter(view: &ClusterView, id: u64, silence: Duration, dead_after: Duration) -> Advice {
    let name = view.name(id);
    let silent_s = silence.as_secs();
    let wait = |why: String| (AutopilotAction::Wait, why);
    let namesake = view
        .members
        .iter()
        .find(|(other, member)| **other != id && member.record.name == name)
        .map(|(other, _member)| *other);
    let (action, why) = match (namesake, decide(view, &Wish::Remove(id), false)) {
        (Some(other), _) => {
            wait(format!("it does not answer; node {other} takes its place when it keeps up"))
        }
        (None, Ok(decision)) if decision.after > decision.before => {
            let (before, after) = (decision.before, decision.after);
            let why = format!(
                "it has not answered for {silent_s} s, and a replacement has a vote; failures \
                 tolerated: {before} before, {after} after"
            );
            if silence >= dead_after {
                (AutopilotAction::Remove, why)
            } else {
                let dead_after_s = dead_after.as_secs();
                wait(format!("{why}; it is let go after {dead_after_s} s"))
            }
        }
        (None, Ok(_)) => wait(format!(
            "it has not answered for {silent_s} s and stays, since without it no more failures \
             would be tolerated; start it again, or a new one in its place: mainstay serve --name \
             {name} --join URL"
        )),
        (None, Err(refusal)) => wait(format!("it has not answered for {silent_s} s; {refusal}")),
    };
    Advice { action, id, name, replaces: None, why }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{membership::rules::MemberView, status::MemberRecord};

    const DEAD_AFTER: Duration = Duration::from_secs(600);

    /// Voters with whether they answer, and learners with what they lack; names by id.
    fn cluster(voters: &[(u64, bool)], learners: &[(u64, &str, Option<&str>)]) -> ClusterView {
        let member = |id: u64, name: String, answers, lacks: Option<&str>| {
            let record = MemberRecord { name, folder_id: id, ..MemberRecord::default() };
            (id, MemberView { record, answers, lacks: lacks.map(str::to_owned) })
        };
        let named =
            voters.iter().map(|(id, answers)| member(*id, format!("n{id}"), *answers, None));
        let learning =
            learners.iter().map(|(id, name, lacks)| member(*id, (*name).to_owned(), true, *lacks));
        ClusterView {
            cluster_id: 7,
            format: 1,
            leader: 1,
            voters: vec![voters.iter().map(|(id, _answers)| *id).collect()],
            members: named.chain(learning).collect(),
            removed: BTreeSet::new(),
        }
    }

    fn actions(view: &ClusterView, silence: Duration) -> Vec<(u64, AutopilotAction)> {
        let silent = view.members.keys().map(|id| (*id, silence)).collect();
        let advice = advise(view, &silent, DEAD_AFTER);
        advice.iter().map(|advice| (advice.id, advice.action)).collect()
    }

    #[test]
    fn in_a_well_cluster_there_is_nothing_to_do() {
        let view = cluster(&[(1, true), (2, true), (3, true)], &[]);
        assert_eq!(actions(&view, DEAD_AFTER), []);
    }

    #[test]
    fn a_learner_is_promoted_when_it_keeps_up_and_waited_for_until_then() {
        use AutopilotAction::{Promote, Wait};
        let three = [(1, true), (2, true), (3, true)];
        let view = cluster(&three, &[(4, "n4", None), (5, "n5", Some("it lags"))]);
        assert_eq!(actions(&view, Duration::ZERO), [(4, Promote), (5, Wait)]);
    }

    #[test]
    fn a_dead_voter_is_let_go_only_when_its_replacement_has_a_vote_and_after_a_while() {
        use AutopilotAction::{Remove, Wait};
        let dead = cluster(&[(1, true), (2, true), (3, false)], &[]);
        assert_eq!(actions(&dead, DEAD_AFTER * 10), [(3, Wait)], "of three it stays for ever");
        let replaced = cluster(&[(1, true), (2, true), (3, false), (4, true)], &[]);
        assert_eq!(actions(&replaced, DEAD_AFTER), [(3, Remove)]);
        assert_eq!(actions(&replaced, DEAD_AFTER / 2), [(3, Wait)]);
        let of_five = cluster(&[(1, true), (2, true), (3, true), (4, true), (5, false)], &[]);
        assert_eq!(actions(&of_five, DEAD_AFTER), [(5, Wait)]);
    }

    #[test]
    fn a_learner_of_the_name_of_a_dead_voter_takes_its_place_and_nobody_else_lets_that_go() {
        use AutopilotAction::{Replace, Wait};
        let three = [(1, true), (2, true), (3, false)];
        let lagging = cluster(&three, &[(9, "n3", Some("it lags"))]);
        assert_eq!(actions(&lagging, DEAD_AFTER), [(3, Wait), (9, Wait)]);
        let ready = cluster(&three, &[(9, "n3", None)]);
        assert_eq!(actions(&ready, DEAD_AFTER), [(9, Replace), (3, Wait)]);
    }

    #[test]
    fn without_a_quorum_everything_waits() {
        use AutopilotAction::Wait;
        let view = cluster(&[(1, true), (2, false), (3, false)], &[(4, "n4", None)]);
        let expected = [(2, Wait), (3, Wait), (4, Wait)];
        assert_eq!(actions(&view, DEAD_AFTER), expected);
    }
}
