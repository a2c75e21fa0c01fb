//! What this node's own health, pauses and clock change.

use std::time::Duration;

use mainstay_failure_detector::{Level, OwnHealth, Reason, SCORE_MAX};

use crate::pair::{PEER, PERIOD, Pair, heartbeat, ms};

fn lag(ms: u64) -> OwnHealth {
    OwnHealth { scheduling_lag: Duration::from_millis(ms), ..OwnHealth::default() }
}

#[test]
fn an_unwell_node_is_more_patient_says_why_and_recovers() {
    let mut pair = Pair::running();
    let well = pair.deadlines();
    pair.detector.own_health(lag(40), pair.now);
    let reading = pair.reading();
    assert_eq!((reading.suspect_threshold, reading.failed_threshold), (12.0, 24.0));
    assert_eq!((reading.adaptation.score, reading.adaptation.reason), (4, Reason::SchedulingLag));
    let lagging = pair.deadlines();
    assert!(lagging.suspect_at > well.suspect_at && lagging.failed_at > well.failed_at);

    let slow_disk = OwnHealth { oldest_sync_age: ms(10_000), ..lag(40) };
    pair.detector.own_health(slow_disk, pair.now);
    let own = pair.detector.own_reading();
    assert_eq!((own.adaptation.score, own.adaptation.reason), (SCORE_MAX, Reason::SyncAge));
    assert_eq!(pair.reading().suspect_threshold, 16.0);

    pair.detector.own_health(OwnHealth::default(), pair.now);
    assert_eq!(pair.deadlines(), well);
}

#[test]
fn a_change_tells_the_threshold_that_was_in_force_and_why() {
    let mut pair = Pair::running();
    pair.detector.own_health(lag(20), pair.now);
    let changes = pair.pass(PERIOD * 30);
    assert_eq!(changes[0].threshold, Some(10.0));
    assert_eq!(changes[0].adaptation.reason, Reason::SchedulingLag);
    assert!((changes[0].phi.unwrap() - 10.0).abs() < 1e-5);
}

#[test]
fn raised_thresholds_do_not_bring_back_who_was_suspected() {
    let mut pair = Pair::running();
    pair.pass(PERIOD * 4);
    assert_eq!(pair.level(), Level::Suspect);
    pair.detector.own_health(lag(1_000), pair.now);
    assert_eq!(pair.level(), Level::Suspect);
    pair.beats(1);
    assert_eq!(pair.level(), Level::Alive);
}

#[test]
fn own_health_handed_in_before_the_poll_counts_for_what_was_not_told_yet() {
    let mut pair = Pair::running();
    let suspect_at = pair.deadlines().suspect_at;
    pair.pass(suspect_at - pair.now - ms(1));
    pair.freeze(ms(1));
    assert_eq!(pair.level(), Level::Suspect);
    pair.detector.own_health(lag(40), pair.now);
    assert_eq!(pair.pass(ms(1)), [], "its own lag explains the silence");
    assert_eq!(pair.level(), Level::Alive);
}

#[test]
fn more_than_half_of_the_peers_silent_at_once_makes_a_node_doubt_itself() {
    let mut pair = Pair::running();
    for peer in [20, 21, 22] {
        pair.detector.watch(peer, pair.now).unwrap();
        pair.detector.heartbeat(peer, &heartbeat(1, 1), pair.now).unwrap();
    }
    let changes = pair.pass(PERIOD * 40);
    let of = |to| changes.iter().filter(move |change| change.to == to);
    assert_eq!((of(Level::Suspect).count(), of(Level::Failed).count()), (4, 4));
    let alone = |change: &&mainstay_failure_detector::Change| {
        change.adaptation.reason == Reason::Alone && change.threshold > Some(16.0)
    };
    assert_eq!(of(Level::Failed).filter(alone).count(), 4, "{changes:?}");
    assert_eq!(pair.detector.own_reading().silent, 4);

    // Half of them back is enough to trust oneself again.
    for peer in [20, 21] {
        pair.detector.heartbeat(peer, &heartbeat(1, 2), pair.now).unwrap();
    }
    let own = pair.detector.own_reading();
    assert_eq!((own.silent, own.adaptation.reason), (2, Reason::Well));
}

#[test]
fn a_pause_of_this_node_is_not_held_against_its_peers() {
    let mut pair = Pair::running();
    let (wait, samples) = (pair.wait(), pair.reading());
    pair.freeze(Duration::from_secs(30));
    assert_eq!(pair.pass(Duration::ZERO), [], "nobody is suspected for what nobody heard");
    assert_eq!(pair.level(), Level::Alive);
    assert_eq!(pair.wait(), wait, "the peer has all of its time again");
    assert_eq!(pair.detector.own_reading().local_pauses, 1);

    // What piled up unread meanwhile says nothing about the rhythm.
    pair.sent.sequence += 600;
    pair.beat().unwrap();
    assert_eq!(pair.reading().mean, samples.mean);
    assert_eq!(pair.wait(), wait);
}

#[test]
fn a_pause_is_seen_by_whatever_comes_first_after_it() {
    let mut pair = Pair::running();
    pair.freeze(Duration::from_secs(2));
    let heard = pair.beat().unwrap();
    assert_eq!((heard.was, heard.silence), (Level::Alive, Duration::ZERO));
    assert_eq!(pair.reading().mistakes, 0);
}

#[test]
fn a_dead_peer_is_still_found_after_a_pause() {
    let mut pair = Pair::running();
    pair.freeze(Duration::from_secs(30));
    let told: Vec<_> = pair.pass(PERIOD * 10).iter().map(|change| change.to).collect();
    assert_eq!(told, [Level::Suspect, Level::Failed]);
}

#[test]
fn a_node_that_pauses_all_the_time_still_finds_out() {
    let mut pair = Pair::running();
    let mut told = Vec::new();
    for _pause in 0..40 {
        pair.freeze(ms(150));
        told.extend(pair.pass(Duration::ZERO).iter().map(|change| change.to));
    }
    assert_eq!(told.last(), Some(&Level::Failed));
}

#[test]
fn a_backlog_after_a_pause_does_not_wipe_what_was_learned() {
    let mut pair = Pair::new();
    for beat in 0..250_u32 {
        pair.sent.sequence += u64::from(beat % 10 == 0);
        pair.pass(if beat % 10 == 0 { PERIOD * 2 } else { PERIOD });
        pair.beat().unwrap();
    }
    let (lossy, wait) = (pair.reading(), pair.wait());
    pair.freeze(Duration::from_secs(30));
    for _unread in 0..600 {
        pair.freeze(Duration::from_micros(10));
        pair.beat().unwrap();
    }
    let after = pair.reading();
    assert_eq!((after.tail_share, after.tail_scale), (lossy.tail_share, lossy.tail_scale));
    assert_eq!((after.deviation, after.samples), (lossy.deviation, lossy.samples));
    assert_eq!(pair.wait(), wait);
}

#[test]
fn a_clock_that_goes_back_again_and_again_puts_no_deadline_out_of_reach() {
    for heard in [false, true] {
        let mut pair = if heard { Pair::running() } else { Pair::new() };
        for hours in (0..40).rev() {
            pair.now = Duration::from_secs(hours * 3_600);
            let _poll = pair.detector.poll(pair.now);
        }
        pair.freeze(ms(25));
        let told: Vec<_> = (0..80)
            .flat_map(|_tick| {
                pair.freeze(ms(25));
                pair.detector.poll(pair.now).change
            })
            .collect();
        assert_eq!(told.last().map(|change| change.to), Some(Level::Failed), "{told:?}");
    }
}

#[test]
fn a_new_peer_gets_its_time_to_join_again_after_a_pause() {
    let mut pair = Pair::new();
    pair.freeze(Duration::from_secs(30));
    assert_eq!(pair.pass(ms(900)), []);
    assert_eq!(pair.level(), Level::Unheard);
    assert_eq!(pair.pass(ms(200)).len(), 1);
}

#[test]
fn a_clock_that_goes_backwards_restarts_the_wait_and_measures_nothing() {
    let mut pair = Pair::running();
    let (wait, mean) = (pair.wait(), pair.reading().mean);
    pair.now = Duration::from_secs(3);
    pair.beat().unwrap();
    assert_eq!(pair.level(), Level::Alive);
    assert_eq!((pair.wait(), pair.reading().mean), (wait, mean));
    assert_eq!(pair.detector.own_reading().local_pauses, 1);
    assert_eq!(pair.detector.phi(PEER, Duration::ZERO), Some(0.0));
    // And forwards again, beyond everything.
    let _poll = pair.detector.poll(Duration::MAX);
    let _poll = pair.detector.poll(Duration::ZERO);
}
