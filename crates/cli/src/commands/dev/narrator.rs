//! Who leads and why, told when it changes.
//!
//! Any node knows its leader, and after a failure some know it later than others; the news with the
//! highest term counts. A leader that is gone is told only when no other follows within moments.

use std::time::Duration;

use mainstay_client::{Cluster, Election};
use mainstay_world::Instant;

use crate::commands::dev::node::Node;

/// How often the nodes are looked at.
pub(super) const POLL: Duration = Duration::from_millis(100);
/// For so long a cluster may be without a leader before that is news.
const LEADERLESS_MAX: Duration = Duration::from_secs(2);

/// The last elections among which the reason is looked for: there may have been two since.
const ELECTIONS: u32 = 3;

/// What was told last.
#[derive(Debug)]
pub(super) struct Narrator {
    told: Option<Leader>,
    leaderless_since: Option<Instant>,
    leaderless_was_told: bool,
}

/// A leader and its term.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Leader {
    pub(super) term: u64,
    pub(super) name: String,
}

impl Narrator {
    /// A narrator to whom `told` is no news: the leader that the welcome named.
    pub(super) const fn new(told: Option<Leader>) -> Self {
        Self { told, leaderless_since: None, leaderless_was_told: false }
    }

    /// Asks the nodes that run, and says what is new.
    pub(super) async fn look(&mut self, nodes: &[Node]) -> Option<String> {
        let mut newest: Option<Leader> = None;
        for node in nodes.iter().filter(|node| node.pid().is_some()) {
            let Ok(answer) = node.client().cluster().await else { continue };
            let leader = leader_of(&answer.value);
            if leader.as_ref().map(|leader| leader.term) > newest.as_ref().map(|leader| leader.term)
            {
                newest = leader;
            }
        }
        let term = newest.as_ref().map(|leader| leader.term);
        let news = self.tell(newest, Instant::now())?;
        let why = match term {
            Some(term) => why(nodes, term).await,
            None => None,
        };
        Some(why.map_or_else(|| news.clone(), |why| format!("{news}: {why}")))
    }

    fn tell(&mut self, newest: Option<Leader>, now: Instant) -> Option<String> {
        let Some(leader) = newest else {
            let since = *self.leaderless_since.get_or_insert(now);
            let is_news = now.since(since) > LEADERLESS_MAX && !self.leaderless_was_told;
            self.leaderless_was_told |= is_news;
            return is_news.then(|| {
                "there is no leader: writes wait until more than half of the nodes run".to_owned()
            });
        };
        self.leaderless_since = None;
        let was_leaderless = std::mem::take(&mut self.leaderless_was_told);
        let Leader { term, name } = &leader;
        let text = match &self.told {
            Some(told) if *told == leader && !was_leaderless => None,
            None => Some(format!("{name} leads, in term {term}")),
            Some(told) if told.name == *name => Some(format!("{name} leads again, in term {term}")),
            Some(told) => Some(format!("{name} leads now, in term {term}; it was {}", told.name)),
        };
        self.told = Some(leader);
        text
    }
}

/// Why the leader of `term` was elected; the node that leads knows it at once.
async fn why(nodes: &[Node], term: u64) -> Option<String> {
    for node in nodes.iter().filter(|node| node.pid().is_some()) {
        let Ok(answer) = node.client().failure_detector(ELECTIONS).await else { continue };
        let told = |election: &&Election| election.term == term && election.cause != "untold";
        if let Some(election) = answer.value.elections.iter().find(told) {
            return Some(election.why.clone());
        }
    }
    None
}

pub(super) fn leader_of(cluster: &Cluster) -> Option<Leader> {
    let id = cluster.leader?;
    let member = cluster.members.iter().find(|member| member.id == id)?;
    Some(Leader { term: cluster.term, name: member.name.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leader(term: u64, name: &str) -> Option<Leader> {
        Some(Leader { term, name: name.to_owned() })
    }

    #[test]
    fn changes_are_told_and_nothing_else() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut narrator = Narrator::new(leader(1, "n1"));
        assert_eq!(narrator.tell(leader(1, "n1"), at(0)), None);
        assert_eq!(narrator.tell(leader(1, "n1"), at(100)), None);
        let told = narrator.tell(leader(2, "n2"), at(200));
        assert_eq!(told.as_deref(), Some("n2 leads now, in term 2; it was n1"));
        let told = narrator.tell(leader(3, "n2"), at(300));
        assert_eq!(told.as_deref(), Some("n2 leads again, in term 3"));
    }

    #[test]
    fn a_leader_that_dies_before_the_first_look_has_a_successor_that_is_told() {
        let mut narrator = Narrator::new(leader(1, "n1"));
        let told = narrator.tell(leader(2, "n3"), Instant::now());
        assert_eq!(told.as_deref(), Some("n3 leads now, in term 2; it was n1"));
    }

    #[test]
    fn a_missing_leader_is_told_once_and_only_when_it_stays_away() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut narrator = Narrator::new(None);
        assert_eq!(narrator.tell(leader(1, "n1"), at(0)).as_deref(), Some("n1 leads, in term 1"));
        assert_eq!(narrator.tell(None, at(100)), None);
        assert_eq!(narrator.tell(None, at(2_000)), None);
        assert!(narrator.tell(None, at(2_200)).is_some());
        assert_eq!(narrator.tell(None, at(9_000)), None);
        let told = narrator.tell(leader(1, "n1"), at(9_100));
        assert_eq!(told.as_deref(), Some("n1 leads again, in term 1"));
    }
}
