//! The rules by table, and by random clusters and wishes.

use proptest::prelude::*;

use super::*;

/// A member called `n<id>` at `h<id>:1`.
fn member(id: u64, answers: bool) -> MemberView {
    let record = MemberRecord {
        name: format!("n{id}"),
        folder_id: id,
        peer_address: format!("h{id}:1"),
        ..MemberRecord::default()
    };
    MemberView { record, answers, lacks: None }
}

/// Voters 1 to `voters`, of whom those in `dead` do not answer, and learners 11 and up; 1 leads.
fn cluster(voters: u64, dead: &[u64], learners: u64) -> ClusterView {
    let ids = (1..=voters).chain(11..11 + learners);
    ClusterView {
        cluster_id: 7,
        format: 1,
        leader: 1,
        voters: vec![(1..=voters).collect()],
        members: ids.map(|id| (id, member(id, !dead.contains(&id)))).collect(),
        removed: BTreeSet::from([99]),
    }
}

fn candidate(id: u64, name: &str, address: &str) -> Candidate {
    let record = MemberRecord {
        name: name.to_owned(),
        folder_id: id,
        peer_address: address.to_owned(),
        ..MemberRecord::default()
    };
    Candidate { record, cluster_id: 0, formats: (1, 1) }
}

fn refusal(view: &ClusterView, wish: &Wish, force: bool) -> &'static str {
    decide(view, wish, force).expect_err("it is refused").code()
}

fn after(view: &ClusterView, wish: &Wish) -> (i64, i64) {
    let decision = decide(view, wish, false).expect("it is granted");
    (decision.before, decision.after)
}

#[test]
fn the_failures_tolerated_are_the_voters_that_answer_minus_a_quorum() {
    for (voters, dead, tolerated) in [
        (1, &[][..], 0),
        (2, &[], 0),
        (3, &[], 1),
        (3, &[2], 0),
        (3, &[2, 3], -1),
        (4, &[], 1),
        (5, &[], 2),
        (5, &[5], 1),
    ] {
        let view = cluster(voters, dead, 0);
        assert_eq!(view.failures_tolerated(), tolerated, "{voters} voters, {dead:?} dead");
    }
    // In a joint configuration the worse half counts, and learners count for nothing.
    let mut joint = cluster(5, &[5], 2);
    joint.voters = vec![BTreeSet::from([1, 2, 3]), BTreeSet::from([1, 2, 5])];
    assert_eq!(joint.failures_tolerated(), 0);
    assert_eq!(failures_tolerated(&[], |_id| true), 0);
}

#[test]
fn a_removal_is_granted_if_it_tolerates_no_fewer_failures_than_before() {
    for (voters, dead, id, expected) in [
        // A spare one goes, or one that is dead anyway.
        (4, &[][..], 4, Ok((1, 1))),
        (3, &[3], 3, Ok((0, 0))),
        (4, &[4], 4, Ok((0, 1))),
        (2, &[], 2, Ok((0, 0))),
        // The leader too, after it has handed over.
        (4, &[], 1, Ok((1, 1))),
        (3, &[], 3, Err("lowers_failures_tolerated")),
        (5, &[], 5, Err("lowers_failures_tolerated")),
        (5, &[5], 4, Err("lowers_failures_tolerated")),
        // Two of five are dead: without a third one nobody is a quorum.
        (3, &[3], 2, Err("breaks_quorum")),
        (2, &[2], 2, Err("no_quorum")),
        (1, &[], 1, Err("last_voter")),
        (3, &[2, 3], 3, Err("no_quorum")),
        (3, &[], 99, Err("removed")),
        (3, &[], 50, Err("unknown_member")),
    ] {
        let view = cluster(voters, dead, 0);
        let decided = decide(&view, &Wish::Remove(id), false)
            .map(|decision| (decision.before, decision.after))
            .map_err(|refusal| refusal.code());
        assert_eq!(decided, expected, "{id} of {voters} voters, {dead:?} dead");
    }
}

#[test]
fn force_lowers_the_failures_tolerated_and_never_breaks_the_quorum() {
    let decision = decide(&cluster(3, &[], 0), &Wish::Remove(3), true).expect("it is forced");
    assert_eq!((decision.before, decision.after), (1, 0));
    assert_eq!(decision.plan, Plan::Remove { id: 3, voter: true, leads: false });
    assert_eq!(refusal(&cluster(3, &[3], 0), &Wish::Remove(2), true), "breaks_quorum");
    assert_eq!(refusal(&cluster(1, &[], 0), &Wish::Remove(1), true), "last_voter");
    assert_eq!(refusal(&cluster(3, &[], 0), &Wish::Remove(99), true), "removed");
}

#[test]
fn a_learner_goes_at_any_time_and_a_leader_hands_over_before() {
    let view = cluster(3, &[3, 11], 2);
    for id in [11, 12] {
        let decision = decide(&view, &Wish::Remove(id), false).expect("it is granted");
        assert_eq!(decision.plan, Plan::Remove { id, voter: false, leads: false });
        assert_eq!((decision.before, decision.after), (0, 0));
    }
    let decision = decide(&cluster(4, &[], 0), &Wish::Remove(1), false).expect("it is granted");
    assert_eq!(decision.plan, Plan::Remove { id: 1, voter: true, leads: true });
}

#[test]
fn a_learner_is_promoted_when_it_answers_and_lacks_nothing() {
    let mut view = cluster(3, &[], 2);
    assert_eq!(after(&view, &Wish::Promote(11)), (1, 1));
    assert_eq!(after(&cluster(4, &[], 1), &Wish::Promote(11)), (1, 2));
    assert_eq!(after(&cluster(3, &[3], 1), &Wish::Promote(11)), (0, 0));
    let twice = decide(&view, &Wish::Promote(3), false).expect("a voter is one already");
    assert_eq!(twice.plan, Plan::Nothing);
    let learner = view.members.get_mut(&11).expect("there is one");
    learner.lacks = Some("it is 7 log entries behind".to_owned());
    let lagging = decide(&view, &Wish::Promote(11), true).expect_err("it lags");
    assert!(lagging.to_string().contains("it is 7 log entries behind"), "{lagging}");
    assert_eq!(lagging.code(), "learner_lags");
    assert_eq!(refusal(&cluster(3, &[11], 1), &Wish::Promote(11), true), "silent");
    assert_eq!(refusal(&view, &Wish::Promote(99), false), "removed");
    assert_eq!(refusal(&view, &Wish::Promote(50), false), "unknown_member");
}

#[test]
fn a_node_of_the_name_of_a_dead_one_takes_its_place_in_one_change() {
    let mut view = cluster(3, &[3], 0);
    let new = candidate(20, "n3", "h3:1");
    let decision = decide(&view, &Wish::Add(new.clone()), false).expect("it is granted");
    let (record, instead_of) = (new.record.clone(), BTreeSet::new());
    assert_eq!(decision.plan, Plan::Add { record, instead_of, replaces: Some(3) });
    // It is a learner now, and keeps up.
    let learner = MemberView { record: new.record, answers: true, lacks: None };
    view.members.insert(20, learner);
    let decision = decide(&view, &Wish::Promote(20), false).expect("it is granted");
    assert_eq!(decision.plan, Plan::Promote { id: 20, replaces: Some(3) });
    assert_eq!((decision.before, decision.after), (0, 1));
    assert_eq!(view.voters_after(&decision.plan), BTreeSet::from([1, 2, 20]));
    // Its own disk is lost too before that: a third one takes its place as a learner.
    view.members.get_mut(&20).expect("there is one").answers = false;
    let third = candidate(21, "n3", "h3:1");
    let decision = decide(&view, &Wish::Add(third.clone()), false).expect("it is granted");
    let (record, instead_of) = (third.record, BTreeSet::from([20]));
    assert_eq!(decision.plan, Plan::Add { record, instead_of, replaces: Some(3) });
    // Should the old one come back after all, nobody takes its place.
    view.members.get_mut(&20).expect("there is one").answers = true;
    view.members.get_mut(&3).expect("there is one").answers = true;
    assert_eq!(refusal(&view, &Wish::Promote(20), true), "name_taken");
}

#[test]
fn who_may_not_join_is_told_why() {
    let view = cluster(3, &[3], 1);
    let of_cluster = |cluster_id| Candidate { cluster_id, ..candidate(20, "n4", "h4:1") };
    let knows = |formats| Candidate { formats, ..candidate(20, "n4", "h4:1") };
    for (candidate, code) in [
        (candidate(20, "n2", "h4:1"), "name_taken"),
        (candidate(20, "n1", "h4:1"), "name_taken"),
        (candidate(20, "n4", "h2:1"), "address_taken"),
        // The dead one's address, under another name: it is no replacement.
        (candidate(20, "n4", "h3:1"), "address_taken"),
        (candidate(2, "n4", "h4:1"), "id_taken"),
        (candidate(99, "n4", "h4:1"), "removed"),
        (of_cluster(8), "other_cluster"),
        (knows((2, 3)), "format"),
        (knows((0, 0)), "format"),
    ] {
        let spoken = format!("{candidate:?}");
        assert_eq!(refusal(&view, &Wish::Add(candidate), true), code, "{spoken}");
    }
    let full = cluster(3, &[], MEMBERS_MAX as u64 - 3);
    assert_eq!(refusal(&full, &Wish::Add(candidate(60, "n", "h:1")), false), "too_many_members");
}

#[test]
fn joining_twice_is_joining_once_and_a_moved_member_is_recorded_anew() {
    let view = cluster(3, &[], 1);
    let again = Wish::Add(Candidate { cluster_id: 7, ..candidate(11, "n11", "h11:1") });
    assert_eq!(decide(&view, &again, false).expect("it is so already").plan, Plan::Nothing);
    let moved = candidate(11, "n11", "h12:1").record;
    let decision = decide(&view, &Wish::Describe(moved.clone()), false).expect("it is granted");
    assert_eq!(decision.plan, Plan::Describe(moved));
    let onto_another = candidate(11, "n11", "h2:1").record;
    assert_eq!(refusal(&view, &Wish::Describe(onto_another), true), "address_taken");
    let renamed = candidate(11, "n12", "h11:1").record;
    assert_eq!(refusal(&view, &Wish::Describe(renamed), true), "id_taken");
}

#[test]
fn while_a_change_is_half_done_no_other_begins() {
    let mut view = cluster(3, &[], 1);
    view.voters = vec![BTreeSet::from([1, 2, 3]), BTreeSet::from([1, 2, 3, 11])];
    for wish in [Wish::Remove(2), Wish::Promote(11), Wish::Add(candidate(20, "n", "h:1"))] {
        assert_eq!(refusal(&view, &wish, true), "busy", "{wish:?}");
    }
}

/// Any cluster of up to nine voters and four learners, of whom any may be dead or lag, where a
/// learner may have the name of a voter.
fn any_cluster() -> impl Strategy<Value = ClusterView> {
    let members = prop::collection::vec((any::<bool>(), any::<bool>(), any::<bool>()), 1..13);
    (members, 1..10_usize).prop_map(|(members, voters)| {
        let voters = voters.min(members.len()) as u64;
        let mut view = cluster(0, &[], 0);
        view.voters = vec![(1..=voters).collect()];
        for (id, (answers, lags, namesake)) in (1..).zip(members) {
            let mut member = member(id, answers || id == view.leader);
            if id > voters {
                member.lacks = lags.then(|| "it lags".to_owned());
                if namesake {
                    member.record.name = format!("n{}", id - voters);
                }
            }
            view.members.insert(id, member);
        }
        view
    })
}

fn any_wish() -> impl Strategy<Value = Wish> {
    prop_oneof![
        (1..15_u64).prop_map(Wish::Promote),
        (1..15_u64).prop_map(Wish::Remove),
        (1..15_u64, 1..15_u64, 1..15_u64).prop_map(|(id, name, address)| {
            Wish::Add(candidate(id, &format!("n{name}"), &format!("h{address}:1")))
        }),
    ]
}

/// The cluster after the plan.
fn carried_out(mut view: ClusterView, plan: &Plan) -> ClusterView {
    view.voters = vec![view.voters_after(plan)];
    match plan {
        Plan::Nothing => {}
        Plan::Add { record, instead_of, .. } => {
            view.members.retain(|id, _member| !instead_of.contains(id));
            let new = MemberView { record: record.clone(), answers: true, lacks: None };
            view.members.insert(record.folder_id, new);
        }
        Plan::Promote { replaces, .. } => {
            view.members.retain(|id, _member| Some(*id) != *replaces);
        }
        Plan::Remove { id, .. } => {
            view.members.remove(id);
        }
        Plan::Describe(record) => {
            let member = view.members.get_mut(&record.folder_id).expect("it is a member");
            member.record = record.clone();
        }
    }
    view
}

proptest! {
    #[test]
    fn no_plan_lowers_the_failures_tolerated_unless_forced_or_leaves_no_quorum(
        mut view in any_cluster(),
        wishes in prop::collection::vec((any_wish(), any::<bool>()), 1..12),
    ) {
        for (wish, force) in wishes {
            let before = view.failures_tolerated();
            let Ok(decision) = decide(&view, &wish, force) else { continue };
            let next = carried_out(view.clone(), &decision.plan);
            let after = next.failures_tolerated();
            prop_assert_eq!((decision.before, decision.after), (before, after));
            prop_assert!(force || after >= before, "{} to {}: {:?}", before, after, decision);
            prop_assert!(after >= 0, "no quorum is left: {:?}", decision);
            prop_assert!(!next.voters[0].is_empty());
            // While both configurations are in force, nothing is tolerated that either forbids.
            let joint = [view.voters[0].clone(), next.voters[0].clone()];
            let meanwhile = failures_tolerated(&joint, |id| view.answers(id));
            prop_assert_eq!(meanwhile, before.min(after));
            // Old and new voters differ by one, or by one out and one in.
            prop_assert!(view.voters[0].difference(&next.voters[0]).count() <= 1);
            prop_assert!(next.voters[0].difference(&view.voters[0]).count() <= 1);
            // Of those who answer, no two have a name, and no two names have an address.
            let voters_named = |name: &str| {
                next.voters[0].iter().filter(|id| next.members[*id].record.name == name).count()
            };
            for member in next.members.values() {
                prop_assert!(voters_named(&member.record.name) <= 1);
            }
            view = next;
        }
    }

    #[test]
    fn a_learner_that_lags_or_is_silent_is_never_promoted(
        view in any_cluster(),
        id in 1..15_u64,
        force in any::<bool>(),
    ) {
        let Ok(decision) = decide(&view, &Wish::Promote(id), force) else { return Ok(()) };
        let member = &view.members[&id];
        let granted = matches!(decision.plan, Plan::Promote { .. });
        prop_assert!(!granted || member.answers && member.lacks.is_none());
    }
}
