//! Levels: when they are passed, how often they are told, and what ends them.

use std::time::Duration;

use mainstay_failure_detector::{FailureDetector, Level, PEERS_MAX, Settings, WatchError};

use crate::pair::{PEER, PERIOD, Pair, heartbeat, ms};

#[test]
fn a_silent_peer_is_suspected_and_fails_at_the_moments_told_in_advance() {
    let mut pair = Pair::running();
    let deadlines = pair.deadlines();
    let changes = pair.pass(PERIOD * 30);

    let told: Vec<_> = changes.iter().map(|change| (change.from, change.to, change.at)).collect();
    assert_eq!(
        told,
        [
            (Level::Alive, Level::Suspect, deadlines.suspect_at),
            (Level::Suspect, Level::Failed, deadlines.failed_at),
        ]
    );
    for (change, threshold) in changes.iter().zip([8.0, 16.0]) {
        assert_eq!(change.peer, PEER);
        assert_eq!(change.threshold, Some(threshold));
        let phi = change.phi.expect("the peer was heard");
        assert!((phi - threshold).abs() < 1e-5, "phi was {phi} when {threshold} was told");
    }
}

#[test]
fn a_clean_network_needs_four_periods_to_suspect_and_seven_to_fail() {
    let pair = Pair::running();
    let deadlines = pair.deadlines();
    assert!((PERIOD * 3..PERIOD * 4).contains(&(deadlines.suspect_at - pair.now)));
    assert!((PERIOD * 6..PERIOD * 7).contains(&(deadlines.failed_at - pair.now)));
}

#[test]
fn asking_for_a_level_is_right_to_the_nanosecond() {
    let pair = Pair::running();
    let deadlines = pair.deadlines();
    let level = |at| pair.detector.level(PEER, at);
    let before = Duration::from_nanos(1);
    assert_eq!(level(deadlines.suspect_at - before), Some(Level::Alive));
    assert_eq!(level(deadlines.suspect_at), Some(Level::Suspect));
    assert_eq!(level(deadlines.failed_at - before), Some(Level::Suspect));
    assert_eq!(level(deadlines.failed_at), Some(Level::Failed));
    assert_eq!(pair.detector.level(PEER + 1, pair.now), None);
}

#[test]
fn a_heartbeat_ends_a_suspicion_which_counts_as_a_mistake() {
    let mut pair = Pair::running();
    pair.pass(PERIOD * 5);
    assert_eq!(pair.level(), Level::Suspect);
    assert_eq!(pair.reading().mistakes, 0);

    let heard = pair.beat().unwrap();
    assert_eq!((heard.was, heard.silence), (Level::Suspect, PERIOD * 5));
    assert_eq!(pair.level(), Level::Alive);
    assert_eq!(pair.reading().mistakes, 1);
    assert_eq!(pair.pass(PERIOD), [], "a heartbeat's own answer tells that the peer is back");
}

#[test]
fn other_traffic_proves_life_and_is_not_sampled() {
    let mut pair = Pair::running();
    let wait = pair.wait();
    let samples = pair.reading();
    for _millisecond in 0..2_000 {
        pair.pass(ms(1));
        pair.detector.contact(PEER, pair.now);
    }
    assert_eq!(pair.level(), Level::Alive);
    assert_eq!(pair.wait(), wait, "the wait starts again, and is no shorter");
    assert_eq!(pair.reading().mean, samples.mean);
    assert_eq!(pair.reading().heartbeat_age, Some(ms(2_000)));
}

#[test]
fn other_traffic_ends_a_suspicion_which_counts_as_a_mistake_once() {
    let mut pair = Pair::running();
    pair.pass(PERIOD * 5);
    assert_eq!(pair.detector.own_reading().silent, 1);
    assert_eq!(pair.detector.contact(PEER, pair.now), Some(Level::Suspect));
    assert_eq!((pair.level(), pair.reading().mistakes), (Level::Alive, 1));
    assert_eq!(pair.detector.own_reading().silent, 0);
    assert_eq!(pair.beat().unwrap().was, Level::Alive);
    assert_eq!(pair.reading().mistakes, 1);
    assert_eq!(pair.detector.contact(PEER + 1, pair.now), None);
}

#[test]
fn a_peer_that_was_never_heard_is_judged_by_its_time_to_join() {
    let mut pair = Pair::new();
    assert_eq!(pair.level(), Level::Unheard);
    assert_eq!(pair.reading().phi, None);
    assert_eq!(pair.detector.deadlines(PEER), None);
    assert_eq!(pair.detector.contact(PEER, pair.now), Some(Level::Unheard));

    let join_by = pair.now + Settings::default().join_wait;
    let changes = pair.pass(PERIOD * 100);
    assert_eq!(changes.len(), 1);
    assert_eq!((changes[0].from, changes[0].to), (Level::Unheard, Level::Failed));
    assert_eq!((changes[0].at, changes[0].phi, changes[0].threshold), (join_by, None, None));

    assert_eq!(pair.beat().unwrap().was, Level::Failed);
    assert_eq!(pair.level(), Level::Alive);
    assert_eq!(pair.reading().mistakes, 0, "it was not there, and nobody said that it was");
}

#[test]
fn a_peer_that_nobody_asked_about_for_long_fails_in_one_step() {
    // Longer asleep than both waits, and not called late: that is what it asked for.
    let settings = Settings { tick: Duration::from_secs(60), ..Settings::default() };
    let mut pair = Pair::with(settings);
    pair.beat().unwrap();
    let failed_at = pair.deadlines().failed_at;
    let poll = pair.detector.poll(failed_at);
    let change = poll.change.expect("both levels were passed");
    assert_eq!((change.from, change.to, change.at), (Level::Alive, Level::Failed, failed_at));
    assert_eq!(pair.detector.poll(failed_at).change, None);
}

#[test]
fn phi_is_reported_from_the_first_heartbeat_on() {
    let mut pair = Pair::new();
    pair.beat().unwrap();
    let mut phis = Vec::new();
    for _step in 0..20 {
        pair.pass(PERIOD);
        phis.push(pair.reading().phi.expect("the peer was heard"));
    }
    assert!(phis[0] < 1.0, "a single period is no surprise: {}", phis[0]);
    assert!(phis.is_sorted() && phis[19] > 16.0, "{phis:?}");
}

#[test]
fn a_reading_explains_the_judgement() {
    let mut pair = Pair::running();
    pair.sent.oldest_sync_age = ms(80);
    pair.sent.scheduling_lag = ms(3);
    pair.sent.sequence += 2;
    pair.pass(PERIOD * 3);
    pair.beat().unwrap();
    pair.pass(PERIOD);

    let reading = pair.reading();
    assert_eq!((reading.peer, reading.level, reading.incarnation), (PEER, Level::Alive, 1));
    assert_eq!((reading.suspect_threshold, reading.failed_threshold), (8.0, 16.0));
    assert_eq!((reading.mean, reading.period), (PERIOD, PERIOD));
    assert_eq!(reading.deviation, PERIOD / 10);
    assert_eq!((reading.samples, reading.heartbeats, reading.missed), (200, 251, 2));
    assert_eq!((reading.heartbeat_age, reading.silence), (Some(PERIOD), PERIOD));
    assert_eq!((reading.oldest_sync_age, reading.scheduling_lag), (ms(80), ms(3)));
    assert!((reading.tail_share - 1.5 / 201.0).abs() < 1e-12, "{}", reading.tail_share);
    assert!(reading.acceptable_pause > PERIOD && reading.tail_scale > PERIOD / 10);
    assert_eq!(pair.detector.readings(pair.now).collect::<Vec<_>>(), [reading]);
}

#[test]
fn as_many_peers_are_watched_as_there_can_be_and_no_more() {
    let now = Duration::ZERO;
    let mut detector = FailureDetector::new(Settings::default(), now).unwrap();
    for peer in 0..PEERS_MAX as u64 {
        assert_eq!(detector.watch(peer, now), Ok(()));
    }
    assert_eq!(detector.watch(1_000, now), Err(WatchError { peer: 1_000 }));
    assert_eq!(detector.watch(3, now), Ok(()), "watching again needs no room");
    assert!(detector.forget(3) && !detector.forget(3));
    assert_eq!(detector.watch(1_000, now), Ok(()));
    assert_eq!(detector.level(3, now), None);
}

#[test]
fn watching_again_forgets_nothing_and_forgetting_forgets_all() {
    let mut pair = Pair::running();
    pair.detector.watch(PEER, pair.now).unwrap();
    assert_eq!(pair.reading().samples, 200);
    pair.detector.forget(PEER);
    pair.detector.watch(PEER, pair.now).unwrap();
    assert_eq!((pair.reading().samples, pair.level()), (0, Level::Unheard));
    // An incarnation number that went backwards is accepted then.
    assert!(pair.detector.heartbeat(PEER, &heartbeat(0, 1), pair.now).is_ok());
}

#[test]
fn several_peers_are_told_one_after_the_other() {
    let mut pair = Pair::running();
    pair.detector.watch(PEER + 1, pair.now).unwrap();
    pair.detector.heartbeat(PEER + 1, &heartbeat(1, 1), pair.now).unwrap();
    let told: Vec<_> =
        pair.pass(PERIOD * 40).iter().map(|change| (change.peer, change.to)).collect();
    assert_eq!(told.len(), 4);
    for peer in [PEER, PEER + 1] {
        let of_peer: Vec<_> = told.iter().filter(|(id, _)| *id == peer).collect();
        assert_eq!(of_peer, [&(peer, Level::Suspect), &(peer, Level::Failed)]);
    }
}
