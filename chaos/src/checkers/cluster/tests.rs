//! Violations planted in what the nodes do: each is found, and under its own rule.

use super::*;
use crate::timeline::Role;

mod members;

/// A cluster of three whose nodes have started with empty disks.
struct Told {
    cluster: Cluster,
    at_us: u64,
}

const fn mark(index: u64, term: u64) -> EntryMark {
    EntryMark { index, term, hash: 100 * term + index }
}

fn state(role: Role, term: u64, committed: u64) -> NodeState {
    NodeState {
        role,
        term,
        last: Some(committed.max(3)),
        committed: Some(committed),
        applied: Some(committed),
        snapshot: None,
        purged: None,
    }
}

fn start(identity: u64, entries: Vec<EntryMark>) -> NodeEvent {
    NodeEvent::Started { identity, ballot: None, snapshot: None, purged: None, entries }
}

fn applied(index: u64, term: u64) -> NodeEvent {
    NodeEvent::Applied {
        entry: mark(index, term),
        sequence: index,
        revision: 10 + index,
        state_hash: Some(u128::from(index)),
    }
}

impl Told {
    fn new(evidence: Evidence) -> Self {
        let mut told = Self { cluster: Cluster::new(evidence), at_us: 0 };
        told.configured(0, 0, 1, &[&[0, 1, 2]], &[]);
        for node in 0..3 {
            told.happened(node, start(u64::from(node), Vec::new()));
        }
        told
    }

    fn happened(&mut self, node: u32, event: NodeEvent) {
        self.at_us += 1;
        self.cluster.happened(self.at_us, node, event);
    }

    /// The entry at this place, which the node is about to append, names these members.
    fn configured(
        &mut self,
        node: u32,
        index: u64,
        term: u64,
        voters: &[&[u64]],
        learners: &[u64],
    ) {
        let configuration = Configuration {
            voters: voters.iter().map(|set| set.iter().copied().collect()).collect(),
            learners: learners.iter().copied().collect(),
        };
        self.happened(node, NodeEvent::Configured { index, term, configuration });
    }

    /// The node stands there now; who leads was given the votes of all three.
    fn stands(&mut self, node: u32, state: NodeState) {
        if state.role == Role::Leader {
            for id in 0..3 {
                self.cluster.members.vote(state.term, node, id);
            }
        }
        self.at_us += 1;
        self.cluster.stands(self.at_us, node, state);
    }

    /// The nodes take the entries over, and their disks have them.
    fn replicated(&mut self, nodes: &[u32], entries: &[EntryMark]) {
        for node in nodes {
            self.happened(*node, NodeEvent::Appended(entries.to_vec()));
            let through = entries.last().expect("some entries").index;
            self.happened(*node, NodeEvent::Durable { through });
            self.happened(*node, NodeEvent::Flushed { through });
        }
    }

    /// Entries 0 to 3 of term 1, led by node 0, on the disks of nodes 0 and 1 and committed.
    fn settled() -> Self {
        let mut told = Self::new(Evidence::Disks);
        let entries: Vec<_> = (0..4).map(|index| mark(index, 1)).collect();
        told.happened(0, NodeEvent::VoteSaved(Ballot { term: 1, voted_for: Some(0) }));
        told.replicated(&[0, 1], &entries);
        told.stands(0, state(Role::Leader, 1, 3));
        for index in 0..4 {
            told.happened(0, applied(index, 1));
        }
        told.cluster.acknowledged(told.at_us, 0, 13);
        assert_eq!(told.rules(), []);
        told
    }

    fn rules(&self) -> Vec<Rule> {
        self.cluster.violations().iter().map(|violation| violation.rule).collect()
    }
}

#[test]
fn a_cluster_that_keeps_the_rules_has_no_violations() {
    let mut told = Told::settled();
    told.replicated(&[2], &(0..4).map(|index| mark(index, 1)).collect::<Vec<_>>());
    for index in 0..4 {
        told.happened(1, applied(index, 1));
    }
    told.stands(1, state(Role::Leader, 2, 3));
    told.replicated(&[1, 2], &[mark(4, 2)]);
    told.stands(1, state(Role::Leader, 2, 4));
    told.happened(0, NodeEvent::Stopped);
    let entries = (0..4).map(|index| mark(index, 1)).collect();
    let ballot = Some(Ballot { term: 1, voted_for: Some(0) });
    let started = NodeEvent::Started { identity: 0, ballot, snapshot: None, purged: None, entries };
    told.happened(0, started);
    told.replicated(&[0], &[mark(4, 2)]);
    assert_eq!(told.cluster.violations(), []);
}

#[test]
fn two_committed_entries_at_an_index_are_found() {
    let mut told = Told::settled();
    told.replicated(&[2], &[mark(0, 1), mark(1, 2)]);
    told.happened(2, applied(0, 1));
    told.happened(2, applied(1, 2));
    assert!(told.rules().contains(&Rule::OneEntryPerIndex));
}

#[test]
fn a_log_that_a_snapshot_is_about_to_replace_says_nothing_of_what_is_committed() {
    let installs = |snapshot, applied| {
        let mut told = Told::settled();
        told.replicated(&[2], &[mark(0, 1), EntryMark { term: 0, ..mark(1, 1) }]);
        let now = state(Role::Follower, 1, 3);
        told.stands(2, NodeState { snapshot: Some(snapshot), applied: Some(applied), ..now });
        told.rules()
    };
    assert_eq!(installs(3, 0), []);
    assert!(installs(0, 0).contains(&Rule::OneEntryPerIndex));
}

#[test]
fn a_committed_entry_that_is_cut_off_is_found() {
    let mut told = Told::settled();
    told.happened(1, NodeEvent::Truncated { from: 3 });
    assert_eq!(told.rules(), [Rule::OneEntryPerIndex]);
}

#[test]
fn two_leaders_of_a_term_are_found() {
    let mut told = Told::settled();
    told.happened(1, NodeEvent::Appended(vec![mark(4, 1)]));
    assert_eq!(told.rules(), [Rule::OneLeaderPerTerm]);
    let mut told = Told::settled();
    told.stands(1, state(Role::Leader, 1, 3));
    assert_eq!(told.rules(), [Rule::OneLeaderPerTerm]);
}

#[test]
fn an_entry_committed_without_a_majority_of_disks_is_found() {
    let mut told = Told::settled();
    told.replicated(&[0], &[mark(4, 1)]);
    told.happened(1, NodeEvent::Appended(vec![mark(4, 1)]));
    told.stands(0, state(Role::Leader, 1, 4));
    assert_eq!(told.rules(), [Rule::DurableOnMajority]);
    told.happened(0, applied(4, 1));
    told.cluster.take_violations();
    told.cluster.acknowledged(told.at_us, 0, 14);
    assert_eq!(told.rules(), [Rule::DurableOnMajority]);
}

#[test]
fn an_acknowledgement_of_nothing_is_found() {
    let mut told = Told::settled();
    told.cluster.acknowledged(9, 0, 99);
    assert_eq!(told.rules(), [Rule::DurableOnMajority]);
}

#[test]
fn a_lost_disk_does_not_make_an_acknowledgement_wrong() {
    let mut told = Told::settled();
    told.happened(1, NodeEvent::Stopped);
    told.happened(1, NodeEvent::DiskLost);
    told.cluster.acknowledged(told.at_us, 0, 13);
    assert_eq!(told.rules(), []);
}

#[test]
fn rot_may_take_what_was_promised_and_no_more() {
    let mut told = Told::settled();
    told.happened(1, NodeEvent::DiskRotted);
    told.happened(1, NodeEvent::Stopped);
    told.happened(1, start(1, vec![mark(0, 1), mark(1, 1), mark(2, 1)]));
    told.cluster.acknowledged(told.at_us, 0, 13);
    assert_eq!(told.rules(), []);
    told.happened(1, NodeEvent::Stopped);
    told.happened(1, start(1, vec![mark(0, 1)]));
    assert_eq!(told.rules(), [Rule::PromiseKept]);
}

#[test]
fn a_promise_before_the_disk_has_it_is_found() {
    let mut told = Told::settled();
    told.happened(0, NodeEvent::Appended(vec![mark(4, 1)]));
    told.happened(0, NodeEvent::Flushed { through: 4 });
    assert_eq!(told.rules(), [Rule::PromiseKept]);
}

#[test]
fn a_promised_entry_that_is_gone_after_a_start_is_found() {
    for evidence in [Evidence::Disks, Evidence::Promises] {
        let mut told = Told::new(evidence);
        told.replicated(&[0], &[mark(0, 1), mark(1, 1)]);
        told.happened(0, NodeEvent::Stopped);
        told.happened(0, start(0, vec![mark(0, 1)]));
        assert_eq!(told.rules(), [Rule::PromiseKept], "{evidence:?}");
    }
}

#[test]
fn an_entry_that_was_not_promised_may_be_gone_after_a_start() {
    let mut told = Told::new(Evidence::Promises);
    told.replicated(&[0], &[mark(0, 1)]);
    told.happened(0, NodeEvent::Appended(vec![mark(1, 1)]));
    told.happened(0, NodeEvent::Stopped);
    told.happened(0, start(0, vec![mark(0, 1)]));
    assert_eq!(told.rules(), []);
}

#[test]
fn a_recovered_tail_that_is_trusted_before_it_is_synced_is_found() {
    let mut told = Told::new(Evidence::Disks);
    told.happened(0, NodeEvent::Appended(vec![mark(0, 1)]));
    told.happened(0, NodeEvent::Stopped);
    told.happened(0, start(0, vec![mark(0, 1)]));
    assert_eq!(told.rules(), [Rule::PromiseKept]);
}

#[test]
fn a_forgotten_vote_is_found() {
    let vote = |term, voted_for| Ballot { term, voted_for };
    for (found, rules) in [
        (None, &[Rule::PromiseKept][..]),
        (Some(vote(1, Some(1))), &[Rule::PromiseKept]),
        (Some(vote(2, Some(2))), &[Rule::PromiseKept]),
        (Some(vote(2, Some(1))), &[]),
        (Some(vote(2, None)), &[]),
        (Some(vote(3, None)), &[]),
    ] {
        let mut told = Told::new(Evidence::Disks);
        told.happened(0, NodeEvent::VoteSaved(vote(2, Some(1))));
        told.happened(0, NodeEvent::Stopped);
        told.happened(
            0,
            NodeEvent::Started {
                identity: 0,
                ballot: found,
                snapshot: None,
                purged: None,
                entries: Vec::new(),
            },
        );
        assert_eq!(told.rules(), rules, "{found:?}");
    }
}

#[test]
fn two_votes_in_a_term_are_found() {
    let mut told = Told::settled();
    told.happened(0, NodeEvent::VoteSaved(Ballot { term: 1, voted_for: Some(1) }));
    assert_eq!(told.rules(), [Rule::OneVotePerTerm]);
}

#[test]
fn following_the_leader_of_a_term_does_not_free_a_vote() {
    let mut told = Told::new(Evidence::Disks);
    for (voted_for, rules) in
        [(Some(1), &[][..]), (None, &[]), (Some(1), &[]), (Some(2), &[Rule::OneVotePerTerm])]
    {
        told.happened(0, NodeEvent::VoteSaved(Ballot { term: 2, voted_for }));
        assert_eq!(told.rules(), rules, "{voted_for:?}");
    }
}

#[test]
fn a_leader_without_a_committed_entry_is_found() {
    let mut told = Told::settled();
    told.replicated(&[2], &[mark(0, 1), mark(1, 1)]);
    told.stands(2, state(Role::Leader, 2, 1));
    assert_eq!(told.rules(), [Rule::LeaderCompleteness]);
    assert!(told.cluster.violations()[0].what.contains("committed and acknowledged"));
}

#[test]
fn a_leader_with_a_snapshot_instead_of_the_entries_is_complete() {
    let mut told = Told::settled();
    let installed = NodeEvent::SnapshotInstalled { index: 3, sequence: 3, state_hash: 3 };
    told.happened(2, NodeEvent::SnapshotSaved { index: 3 });
    told.happened(2, installed);
    told.stands(2, state(Role::Leader, 2, 3));
    assert_eq!(told.rules(), []);
}

#[test]
fn a_proposal_below_a_seen_term_is_found() {
    let mut told = Told::settled();
    told.stands(0, state(Role::Follower, 2, 3));
    told.happened(0, NodeEvent::Appended(vec![mark(4, 1)]));
    assert_eq!(told.rules(), [Rule::NoProposalBelowTerm]);
}

#[test]
fn logs_that_do_not_match_are_found() {
    let mut told = Told::settled();
    told.happened(2, NodeEvent::Appended(vec![mark(0, 1)]));
    told.happened(2, NodeEvent::Appended(vec![EntryMark { hash: 7, ..mark(1, 1) }]));
    assert_eq!(told.rules(), [Rule::LogMatching]);
    let mut told = Told::settled();
    told.happened(2, NodeEvent::Appended(vec![mark(0, 1), mark(2, 1)]));
    assert_eq!(told.rules(), [Rule::LogMatching]);
    let mut told = Told::settled();
    told.replicated(&[0], &[mark(4, 2)]);
    told.happened(2, NodeEvent::Appended(vec![mark(0, 1), mark(1, 1), mark(2, 1)]));
    told.happened(2, NodeEvent::Appended(vec![EntryMark { term: 9, ..mark(3, 1) }, mark(4, 2)]));
    assert_eq!(told.rules(), [Rule::LogMatching]);
}

#[test]
fn positions_that_go_back_are_found() {
    let mut told = Told::settled();
    told.stands(0, state(Role::Leader, 1, 2));
    assert_eq!(told.rules(), [Rule::Monotone, Rule::Monotone]);
    let mut told = Told::settled();
    told.stands(1, state(Role::Follower, 4, 3));
    told.stands(1, state(Role::Follower, 3, 3));
    assert_eq!(told.rules(), [Rule::Monotone]);
}

#[test]
fn applied_positions_may_go_back_with_a_restart_and_terms_may_not() {
    let mut told = Told::settled();
    told.happened(0, NodeEvent::Stopped);
    let ballot = Some(Ballot { term: 1, voted_for: Some(0) });
    let entries = (0..4).map(|index| mark(index, 1)).collect();
    let started = NodeEvent::Started { identity: 0, ballot, snapshot: None, purged: None, entries };
    told.happened(0, started);
    told.stands(0, state(Role::Follower, 1, 0));
    assert_eq!(told.rules(), []);
    told.stands(0, state(Role::Follower, 0, 0));
    assert_eq!(told.rules(), [Rule::Monotone]);
}

#[test]
fn positions_out_of_order_are_found() {
    let mut told = Told::settled();
    let applied_too_far = NodeState { applied: Some(4), ..state(Role::Leader, 1, 3) };
    told.stands(0, applied_too_far);
    assert_eq!(told.rules(), [Rule::PositionOrder]);
}

#[test]
fn a_snapshot_past_the_store_is_one_that_was_sent_and_is_committed() {
    for (role, snapshot, rules) in [
        (Role::Follower, 3, &[][..]),
        (Role::Leader, 3, &[Rule::PositionOrder]),
        (Role::Follower, 4, &[Rule::PositionOrder]),
    ] {
        let mut told = Told::settled();
        let before_it_is_taken_over =
            NodeState { applied: Some(1), snapshot: Some(snapshot), ..state(role, 2, 1) };
        told.stands(1, before_it_is_taken_over);
        assert_eq!(told.rules(), rules, "{role:?} {snapshot}");
    }
}

#[test]
fn a_saved_vote_may_be_ahead_of_where_the_node_stands() {
    let mut told = Told::settled();
    told.happened(0, NodeEvent::VoteSaved(Ballot { term: 2, voted_for: None }));
    told.stands(0, state(Role::Follower, 1, 3));
    assert_eq!(told.rules(), []);
}

#[test]
fn different_states_at_a_sequence_are_found() {
    let mut told = Told::settled();
    let other_hash =
        NodeEvent::Applied { entry: mark(0, 1), sequence: 0, revision: 10, state_hash: Some(77) };
    told.happened(1, other_hash);
    assert_eq!(told.rules(), [Rule::SameState]);
    let mut told = Told::settled();
    told.happened(2, NodeEvent::SnapshotInstalled { index: 3, sequence: 3, state_hash: 77 });
    assert_eq!(told.rules(), [Rule::SameState]);
}

#[test]
fn entries_applied_out_of_order_are_found() {
    let mut told = Told::settled();
    told.happened(1, applied(0, 1));
    told.happened(1, applied(2, 1));
    assert!(told.rules().contains(&Rule::ApplyOrder));
    let mut told = Told::settled();
    told.happened(1, applied(0, 1));
    let elsewhere =
        NodeEvent::Applied { entry: mark(1, 1), sequence: 5, revision: 11, state_hash: None };
    told.happened(1, elsewhere);
    assert_eq!(told.rules(), [Rule::ApplyOrder]);
}

#[test]
fn a_node_id_that_comes_back_without_its_disk_is_found() {
    let mut told = Told::settled();
    told.happened(1, NodeEvent::Stopped);
    told.happened(1, NodeEvent::DiskLost);
    told.happened(1, start(77, Vec::new()));
    assert_eq!(told.rules(), []);
    told.happened(1, start(1, Vec::new()));
    assert_eq!(told.rules(), [Rule::IdentityReused]);
}

#[test]
fn a_run_that_goes_wrong_throughout_does_not_fill_the_memory() {
    let mut told = Told::settled();
    for _ in 0..1_000 {
        told.cluster.acknowledged(9, 0, 99);
    }
    assert_eq!(told.cluster.take_violations().len(), VIOLATIONS_MAX);
    told.cluster.acknowledged(9, 0, 99);
    assert_eq!(told.rules(), []);
}
