//! Heartbeats that are counted and ignored, and those that begin anew.

use std::time::Duration;

use mainstay_failure_detector::{
    Heartbeat, Ignored, IgnoredCounts, Level, PERIOD_MAX, PERIOD_MIN, SEQUENCE_GAP_MAX,
};

use crate::pair::{PEER, PERIOD, Pair, heartbeat, ms};

/// Hands in a heartbeat that must be ignored, and checks that nothing else happened.
fn refused(pair: &mut Pair, heartbeat: Heartbeat) -> Ignored {
    let (before, deadlines) = (pair.reading(), pair.deadlines());
    let ignored = pair
        .detector
        .heartbeat(PEER, &heartbeat, pair.now)
        .expect_err("this heartbeat must be ignored");
    let after = pair.reading();
    assert_eq!(after.ignored.total(), before.ignored.total() + 1);
    assert_eq!(pair.deadlines(), deadlines);
    let same_but_for_the_count =
        mainstay_failure_detector::Reading { ignored: before.ignored, ..after };
    assert_eq!(same_but_for_the_count, before);
    ignored
}

#[test]
fn what_cannot_be_right_is_counted_and_changes_nothing() {
    let mut pair = Pair::new();
    pair.sent.incarnation = 5;
    pair.beats(250);
    pair.pass(ms(20));
    let good = pair.sent;
    let next = Heartbeat { sequence: good.sequence + 1, ..good };

    let again = refused(&mut pair, good);
    assert_eq!(again, Ignored::Duplicate { sequence: 250 });
    let late = refused(&mut pair, Heartbeat { sequence: 249, ..good });
    assert_eq!(late, Ignored::Reordered { sequence: 249, newest: 250 });
    let old = refused(&mut pair, Heartbeat { incarnation: 4, ..next });
    assert_eq!(old, Ignored::OldIncarnation { incarnation: 4, current: 5 });
    for period in [Duration::ZERO, PERIOD_MIN / 2, PERIOD_MAX * 2, Duration::MAX] {
        let absurd = refused(&mut pair, Heartbeat { period, ..next });
        assert_eq!(absurd, Ignored::AbsurdPeriod { period });
    }
    for sequence in [good.sequence + SEQUENCE_GAP_MAX + 1, u64::MAX] {
        let absurd = refused(&mut pair, Heartbeat { sequence, ..next });
        assert_eq!(absurd, Ignored::AbsurdSequence { sequence });
    }
    let age = Duration::MAX;
    let absurd = refused(&mut pair, Heartbeat { oldest_sync_age: age, ..next });
    assert_eq!(absurd, Ignored::AbsurdAge { age });
    let absurd = refused(&mut pair, Heartbeat { scheduling_lag: age, ..next });
    assert_eq!(absurd, Ignored::AbsurdAge { age });

    let counts = IgnoredCounts { duplicate: 1, reordered: 1, old_incarnation: 1, absurd: 8 };
    assert_eq!(pair.reading().ignored, counts);
}

#[test]
fn a_first_heartbeat_at_the_end_of_the_numbers_does_not_shut_out_those_that_follow() {
    let mut pair = Pair::new();
    let last = Heartbeat { sequence: u64::MAX, ..pair.sent };
    let ignored = pair.detector.heartbeat(PEER, &last, pair.now).unwrap_err();
    assert_eq!(ignored, Ignored::AbsurdSequence { sequence: u64::MAX });
    assert_eq!(pair.level(), Level::Unheard);
    pair.beats(2);
    assert_eq!((pair.level(), pair.reading().ignored.absurd), (Level::Alive, 1));
}

#[test]
fn an_ignored_heartbeat_is_no_proof_of_life() {
    let mut pair = Pair::running();
    let replayed = pair.sent;
    for _period in 0..10 {
        pair.pass(PERIOD);
        pair.detector.heartbeat(PEER, &replayed, pair.now).unwrap_err();
    }
    assert_eq!(pair.level(), Level::Failed);
}

#[test]
fn a_heartbeat_of_a_peer_that_nobody_watches_is_counted_for_this_node() {
    let mut pair = Pair::running();
    let ignored = pair.detector.heartbeat(99, &heartbeat(1, 1), pair.now).unwrap_err();
    assert_eq!(ignored, Ignored::UnknownPeer { peer: 99 });
    assert_eq!(ignored.to_string(), "peer 99 is not watched: its heartbeat was ignored");
    assert_eq!(pair.detector.own_reading().unknown_peers, 1);
    assert_eq!(pair.detector.own_reading().peers, 1);
}

#[test]
fn a_new_incarnation_starts_anew_and_may_count_from_one() {
    let mut pair = Pair::running();
    pair.pass(PERIOD * 40);
    pair.sent = heartbeat(2, 0);
    let heard = pair.beat().unwrap();
    assert!(heard.new_incarnation);
    assert_eq!((heard.was, heard.missed), (Level::Failed, 0));
    let reading = pair.reading();
    assert_eq!((reading.samples, reading.incarnation), (0, 2));
    assert_eq!(reading.mistakes, 0, "the process that was suspected is dead indeed");
}

#[test]
fn gaps_in_the_sequence_are_counted_as_missed() {
    let mut pair = Pair::running();
    pair.sent.sequence += 3;
    pair.pass(PERIOD);
    assert_eq!(pair.beat().unwrap().missed, 3);
    assert_eq!(pair.reading().missed, 3);
}
