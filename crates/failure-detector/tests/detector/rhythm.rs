//! What is learned from a sender's rhythm, and what is not.

use std::time::Duration;

use mainstay_failure_detector::Level;

use crate::pair::{PEER, PERIOD, Pair, ms};

#[test]
fn a_new_peer_is_judged_with_doubt_that_fades() {
    let mut pair = Pair::new();
    pair.beat().unwrap();
    let first = pair.wait();
    let mut waits = Vec::new();
    for _beat in 0..250 {
        pair.beats(1);
        waits.push(pair.wait());
    }
    assert!(first > PERIOD * 5 && first < PERIOD * 8, "{first:?}");
    let sampled: Vec<_> = waits.iter().step_by(20).collect();
    assert!(sampled.iter().rev().is_sorted(), "heartbeats on time make it surer: {sampled:?}");
    assert!(waits[30] < first && waits[249] < PERIOD * 4);
}

#[test]
fn an_announced_period_is_believed_at_once() {
    let mut pair = Pair::running();
    pair.pass(PERIOD);
    pair.sent.period = PERIOD * 5;
    pair.beat().unwrap();
    assert_eq!((pair.reading().samples, pair.reading().period), (0, PERIOD * 5));
    assert_eq!(pair.pass(PERIOD * 5), [], "the next heartbeat is due in five old periods");

    pair.beats(250);
    assert!((PERIOD * 15..PERIOD * 20).contains(&pair.wait()), "{:?}", pair.wait());
    assert_eq!(pair.reading().mistakes, 0);
}

#[test]
fn a_rhythm_that_becomes_slower_unannounced_is_learned() {
    let mut pair = Pair::running();
    let slow = PERIOD * 6;
    for _beat in 0..250 {
        pair.pass(slow);
        pair.beat().unwrap();
    }
    let mistakes = pair.reading().mistakes;
    assert!(mistakes > 0, "the first of them are a surprise");
    for _beat in 0..250 {
        pair.pass(slow);
        pair.beat().unwrap();
    }
    assert_eq!(pair.reading().mistakes, mistakes, "later ones are not");
}

#[test]
fn an_outage_leaves_no_trace_of_its_length() {
    let after = |outage: Duration| {
        let mut pair = Pair::running();
        pair.pass(outage);
        pair.beat().unwrap();
        assert_eq!(pair.reading().mistakes, 1);
        pair.beats(10);
        pair.wait()
    };
    assert_eq!(after(ms(250)), after(Duration::from_secs(3_600)));
    assert!(after(ms(250)) < PERIOD * 7);
}

#[test]
fn lag_that_the_sender_announces_is_waited_for() {
    let mut pair = Pair::running();
    let wait = pair.wait();
    pair.sent.scheduling_lag = PERIOD * 3 / 2;
    pair.beats(1);
    assert_eq!(pair.wait(), wait + PERIOD / 2, "one period of pause is always granted");
    pair.sent.scheduling_lag = Duration::from_secs(5);
    pair.beats(1);
    assert_eq!(pair.wait(), wait + PERIOD, "and never more than two");
}

#[test]
fn jitter_is_compensated_within_a_few_heartbeats_and_forgotten_after() {
    let mut pair = Pair::running();
    let calm = pair.wait();
    for _pair in 0..4 {
        for jitter in [ms(20), ms(80)] {
            pair.pass(jitter);
            pair.beat().unwrap();
        }
    }
    assert!(pair.reading().acceptable_pause > PERIOD * 3 / 2);
    assert!(pair.wait() > calm + PERIOD / 2);
    pair.beats(250);
    assert_eq!(pair.wait(), calm);
}

#[test]
fn a_queue_that_empties_at_once_does_not_make_the_next_wait_short() {
    let mut pair = Pair::running();
    let calm = pair.wait();
    for _beat in 0..100 {
        pair.beat().unwrap();
    }
    assert!(pair.wait() >= calm);
    assert_eq!(pair.detector.level(PEER, pair.now + PERIOD * 3), Some(Level::Alive));
}
