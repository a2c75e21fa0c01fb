//! Which members answered this leader, and when it sent what they answered.
//!
//! A linearizable read needs a quorum that still followed this leader after the read began (Raft's
//! thesis, section 6.4, step 3). openraft counts acknowledgements by log position: when nothing was
//! written meanwhile, the late answer to an append of long ago also counts for one that was sent
//! just now and not answered yet, so a leader that was paused may take an old answer for a fresh
//! one. Here every heartbeat has a number of its own, drawn before it is sent, and its answer counts
//! for that number alone.
//!
//! It knows nothing of logs and does not decide who leads: it only tells what a quorum has proved.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::watch;

use crate::membership::rules::has_quorum;

/// What was sent and answered in the present term of this leader.
#[derive(Debug)]
pub(crate) struct Contact(watch::Sender<Answers>);

#[derive(Debug, Default)]
struct Answers {
    /// The number drawn last.
    last: u64,
    /// The term of the answers.
    term: u64,
    /// By member, the highest number that it answered.
    answered: BTreeMap<u64, u64>,
}

impl Contact {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(Answers::default()))
    }

    /// A number above all that were drawn before.
    pub(crate) fn draw(&self) -> u64 {
        let mut drawn = 0;
        // Nobody waits for a number to be drawn.
        self.0.send_if_modified(|answers| {
            answers.last += 1;
            drawn = answers.last;
            false
        });
        drawn
    }

    /// Notes that `member` answered as a follower of this leader in `term` to what was sent under
    /// `number`.
    pub(crate) fn answered(&self, member: u64, term: u64, number: u64) {
        self.0.send_if_modified(|answers| answers.note(member, term, number));
    }

    /// Returns when a quorum of each of `voters`, this leader among them, has answered in `term` to
    /// something sent after `number` was drawn. It may never: the caller brings the deadline.
    pub(crate) async fn quorum_since(
        &self,
        number: u64,
        term: u64,
        own: u64,
        voters: &[BTreeSet<u64>],
    ) {
        let mut answers = self.0.subscribe();
        let proved = |answers: &Answers| answers.prove(number, term, own, voters);
        // It ends with the sender, which is this.
        let _proof = answers.wait_for(proved).await;
    }
}

impl Answers {
    /// Whether it says something new.
    fn note(&mut self, member: u64, term: u64, number: u64) -> bool {
        if term < self.term {
            return false;
        }
        if term > self.term {
            self.term = term;
            self.answered.clear();
        }
        let highest = self.answered.entry(member).or_default();
        let is_new = number > *highest;
        *highest = number.max(*highest);
        is_new
    }

    fn prove(&self, number: u64, term: u64, own: u64, voters: &[BTreeSet<u64>]) -> bool {
        has_quorum(voters, |member| {
            member == own
                || (self.term == term && self.answered.get(&member).is_some_and(|at| *at > number))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sets(sets: &[&[u64]]) -> Vec<BTreeSet<u64>> {
        sets.iter().map(|set| set.iter().copied().collect()).collect()
    }

    fn proved(contact: &Contact, number: u64, term: u64, voters: &[&[u64]]) -> bool {
        contact.0.borrow().prove(number, term, 1, &sets(voters))
    }

    #[test]
    fn an_answer_to_what_was_sent_before_proves_nothing() {
        let contact = Contact::new();
        let early = contact.draw();
        let round = contact.draw();
        let late = contact.draw();
        contact.answered(2, 7, early);
        assert!(!proved(&contact, round, 7, &[&[1, 2, 3]]));
        contact.answered(2, 7, late);
        assert!(proved(&contact, round, 7, &[&[1, 2, 3]]));
        assert!(!proved(&contact, round, 7, &[&[1, 2, 3, 4, 5]]));
        // What was answered stays answered when an older answer comes late.
        contact.answered(2, 7, early);
        assert!(proved(&contact, round, 7, &[&[1, 2, 3]]));
    }

    #[test]
    fn answers_of_another_term_prove_nothing() {
        let contact = Contact::new();
        let round = contact.draw();
        contact.answered(2, 8, contact.draw());
        assert!(!proved(&contact, round, 7, &[&[1, 2, 3]]));
        contact.answered(3, 7, contact.draw());
        assert!(!proved(&contact, round, 7, &[&[1, 2, 3]]));
        assert!(proved(&contact, round, 8, &[&[1, 2, 3]]));
    }

    #[test]
    fn a_change_of_voters_needs_a_quorum_of_both_sets_and_a_leader_alone_needs_nobody() {
        let contact = Contact::new();
        let round = contact.draw();
        contact.answered(2, 1, contact.draw());
        assert!(!proved(&contact, round, 1, &[&[1, 2, 3], &[3, 4, 5]]));
        contact.answered(3, 1, contact.draw());
        contact.answered(4, 1, contact.draw());
        assert!(proved(&contact, round, 1, &[&[1, 2, 3], &[3, 4, 5]]));
        assert!(proved(&contact, contact.draw(), 1, &[&[1]]));
    }

    #[tokio::test]
    async fn who_waits_is_woken_by_the_answer_that_makes_a_quorum() {
        let contact = Contact::new();
        let round = contact.draw();
        let voters = sets(&[&[1, 2, 3]]);
        let waiting = contact.quorum_since(round, 3, 1, &voters);
        let answering = async {
            tokio::task::yield_now().await;
            contact.answered(3, 3, contact.draw());
        };
        tokio::join!(waiting, answering);
    }
}
