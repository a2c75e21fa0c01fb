//! Violations of the rules of changing members.

use super::*;

/// A node that was not there from the beginning, with so many entries of the log on its disk.
fn joined(told: &mut Told, node: u32, entries: u64) {
    told.happened(node, start(u64::from(node), Vec::new()));
    let log: Vec<_> = (0..entries).map(|index| mark(index, 1)).collect();
    told.replicated(&[node], &log);
}

/// These nodes have been members for long enough.
fn known(told: &mut Told, ids: &[u64]) {
    told.cluster.members.since_us.extend(ids.iter().map(|id| (*id, 0)));
    told.at_us += 10_000_000;
}

/// The entry that changes the members, on the disks of these nodes.
fn changed(told: &mut Told, nodes: &[u32], index: u64, voters: &[&[u64]], learners: &[u64]) {
    told.configured(nodes[0], index, 1, voters, learners);
    told.replicated(nodes, &[mark(index, 1)]);
}

fn committed(told: &mut Told, index: u64) {
    told.stands(0, state(Role::Leader, 1, index));
    told.cluster.step_ended(told.at_us);
}

#[test]
fn both_majorities_decide_while_the_voters_change() {
    for (nodes, rules) in [
        (&[0, 1][..], &[Rule::DurableOnMajority][..]),
        (&[0, 1, 3], &[]),
        (&[0, 3, 4], &[Rule::DurableOnMajority]),
    ] {
        let mut told = Told::settled();
        joined(&mut told, 3, 4);
        joined(&mut told, 4, 4);
        known(&mut told, &[3, 4]);
        changed(&mut told, nodes, 4, &[&[0, 1, 2], &[2, 3, 0]], &[]);
        committed(&mut told, 4);
        assert_eq!(told.rules(), rules, "{nodes:?}");
    }
}

#[test]
fn what_a_later_configuration_decides_on_may_stand_in_front_of_it() {
    let mut told = Told::settled();
    joined(&mut told, 3, 4);
    known(&mut told, &[3]);
    changed(&mut told, &[0, 1, 3], 4, &[&[0, 1, 2], &[0, 3]], &[]);
    committed(&mut told, 4);
    told.configured(0, 6, 1, &[&[0, 3]], &[]);
    told.replicated(&[0, 3], &[mark(5, 1), mark(6, 1)]);
    committed(&mut told, 6);
    assert_eq!(told.rules(), []);
}

#[test]
fn a_change_of_voters_in_one_step_is_found() {
    for (voters, rules) in [
        (&[&[0, 1, 2, 3][..]][..], &[Rule::JointChange][..]),
        (&[&[0, 1]], &[Rule::JointChange]),
        (&[&[0, 1], &[0, 1, 2]], &[Rule::JointChange]),
        (&[&[0, 1, 2], &[0, 1]], &[]),
        (&[&[0, 1, 2]], &[]),
    ] {
        let mut told = Told::settled();
        joined(&mut told, 3, 4);
        known(&mut told, &[3]);
        changed(&mut told, &[0, 1], 4, voters, &[9]);
        assert_eq!(told.rules(), rules, "{voters:?}");
    }
}

#[test]
fn a_change_before_the_one_in_front_of_it_is_committed_is_found() {
    let mut told = Told::settled();
    changed(&mut told, &[0], 4, &[&[0, 1, 2], &[0, 1]], &[]);
    told.cluster.step_ended(told.at_us);
    assert_eq!(told.rules(), []);
    changed(&mut told, &[0], 5, &[&[0, 1]], &[]);
    told.cluster.step_ended(told.at_us);
    assert_eq!(told.rules(), [Rule::OneChangeAtATime]);
}

#[test]
fn an_id_that_was_removed_and_comes_back_is_found() {
    let mut told = Told::settled();
    changed(&mut told, &[0, 1], 4, &[&[0, 1, 2]], &[9]);
    committed(&mut told, 4);
    changed(&mut told, &[0, 1], 5, &[&[0, 1, 2]], &[]);
    committed(&mut told, 5);
    assert_eq!(told.rules(), []);
    changed(&mut told, &[0, 1], 6, &[&[0, 1, 2]], &[9]);
    assert_eq!(told.rules(), [Rule::IdentityReused]);
}

#[test]
fn a_vote_for_a_node_that_lags_or_has_just_come_is_found() {
    let promoted = |has: u64, after_s: u64| {
        let mut told = Told::settled();
        told.cluster.step_ended(told.at_us);
        changed(&mut told, &[0, 1], 4, &[&[0, 1, 2]], &[3]);
        committed(&mut told, 4);
        joined(&mut told, 3, has);
        told.at_us += after_s * 1_000_000;
        changed(&mut told, &[0, 1], 5, &[&[0, 1, 2], &[0, 1, 2, 3]], &[]);
        told.rules()
    };
    assert_eq!(promoted(4, 10), [Rule::VoterKeepsUp]);
    assert_eq!(promoted(5, 5), [Rule::VoterKeepsUp]);
    assert_eq!(promoted(5, 10), []);
}

#[test]
fn a_leader_without_the_votes_of_a_majority_is_found() {
    for (votes, rules) in
        [(&[0, 1][..], &[][..]), (&[0], &[Rule::ElectedByMajority]), (&[1, 2], &[])]
    {
        let mut told = Told::settled();
        told.replicated(&[2], &(0..4).map(|index| mark(index, 1)).collect::<Vec<_>>());
        for voter in votes {
            told.happened(*voter, NodeEvent::VoteSaved(Ballot { term: 2, voted_for: Some(1) }));
        }
        let at_us = told.at_us;
        told.cluster.stands(at_us, 1, state(Role::Leader, 2, 3));
        assert_eq!(told.rules(), rules, "{votes:?}");
    }
}

#[test]
fn a_leader_that_has_no_vote_is_found() {
    let mut told = Told::settled();
    joined(&mut told, 3, 4);
    told.stands(3, state(Role::Leader, 2, 3));
    assert_eq!(told.rules(), [Rule::ElectedByMajority]);
}

#[test]
fn the_vote_of_a_node_whose_disk_was_lost_is_not_that_of_the_one_in_its_place() {
    let mut told = Told::settled();
    told.happened(1, NodeEvent::Stopped);
    told.happened(1, NodeEvent::DiskLost);
    told.happened(1, start(77, Vec::new()));
    for voter in [1, 2] {
        told.happened(voter, NodeEvent::VoteSaved(Ballot { term: 2, voted_for: Some(2) }));
    }
    told.replicated(&[2], &(0..4).map(|index| mark(index, 1)).collect::<Vec<_>>());
    let at_us = told.at_us;
    told.cluster.stands(at_us, 2, state(Role::Leader, 2, 3));
    assert_eq!(told.rules(), [Rule::ElectedByMajority]);
}

#[test]
fn changes_of_voters_are_told_with_both_sides() {
    let mut told = Told::settled();
    changed(&mut told, &[0, 1], 4, &[&[0, 1, 2]], &[9]);
    committed(&mut told, 4);
    assert_eq!(told.cluster.take_voter_changes(), []);
    changed(&mut told, &[0, 1], 5, &[&[0, 1, 2], &[0, 1]], &[9]);
    let change = VoterChange { leader: 0, from: (0..3).collect(), to: (0..2).collect() };
    assert_eq!(told.cluster.take_voter_changes(), [change]);
    assert_eq!(told.cluster.configurations().len(), 2);
}
