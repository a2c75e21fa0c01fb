//! The bars that the detector must reach with its one configuration, on shorter traces than those
//! of the table. Everything is seeded: a failure is a change of the detector, never bad luck.

use std::sync::OnceLock;

use crate::{
    SEED,
    comparison::{Comparison, FAILED, SUSPECT},
    picture,
    trace::Network,
};

/// Six hours of heartbeats of 50 ms a trace.
const HEARTBEATS: usize = 432_000;

/// The comparison runs once for all tests.
fn comparison() -> &'static Comparison {
    static COMPARISON: OnceLock<Comparison> = OnceLock::new();
    COMPARISON.get_or_init(|| Comparison::run(HEARTBEATS, SEED))
}

#[test]
fn the_suspect_level_makes_fewer_than_300_mistakes_per_million_heartbeats_on_every_trace() {
    for (network, quality) in Network::ALL.iter().zip(&comparison().row(SUSPECT).qualities) {
        // The worse half of a changing network counts, not its mean.
        let mistakes = quality.mistakes_per_million_worst;
        assert!(mistakes < 300.0, "{}: {mistakes}", network.name());
    }
}

#[test]
fn detection_is_no_slower_than_the_best_fixed_timeout_with_as_many_mistakes() {
    let comparison = comparison();
    let suspect = comparison.row(SUSPECT);
    let fixed = comparison.equal_fixed(suspect).expect("800 ms make no more mistakes than this");
    let (ours, theirs) = (suspect.detection_mean_ms(), fixed.detection_mean_ms());
    assert!(ours <= theirs, "{ours} ms, and {} needs {theirs} ms", fixed.name);
}

#[test]
fn thirty_percent_jitter_raises_no_suspicion_at_all() {
    let quality = &comparison().row(SUSPECT).qualities[place(Network::Jitter)];
    assert_eq!(quality.mistakes_per_day, 0.0);
    assert_eq!(quality.accuracy, 1.0);
}

#[test]
fn a_lan_detects_within_four_and_a_half_periods() {
    for network in [Network::CleanLan, Network::SchedulingDelays] {
        let quality = &comparison().row(SUSPECT).qualities[place(network)];
        assert!(quality.detection_mean_ms <= 4.5 * 50.0, "{}: {quality:?}", network.name());
    }
}

#[test]
fn the_failed_level_is_wrong_less_than_once_a_day_on_a_lan_and_once_an_hour_on_a_wan() {
    let failed = comparison().row(FAILED);
    for (network, per_day) in [
        (Network::CleanLan, 1.0),
        (Network::SchedulingDelays, 1.0),
        (Network::LossOnePercent, 1.0),
        (Network::Jitter, 1.0),
        (Network::BurstyWan, 24.0),
        (Network::LanAndWan, 24.0),
    ] {
        let mistakes = failed.qualities[place(network)].mistakes_per_day;
        assert!(mistakes < per_day, "{}: {mistakes} a day", network.name());
    }
}

#[test]
fn the_failed_level_is_slower_and_wrong_less_often_on_every_trace() {
    let (suspect, failed) = (comparison().row(SUSPECT), comparison().row(FAILED));
    for (suspect, failed) in suspect.qualities.iter().zip(&failed.qualities) {
        assert!(failed.detection_mean_ms > suspect.detection_mean_ms);
        assert!(failed.mistakes_per_million <= suspect.mistakes_per_million);
        assert!(failed.accuracy >= suspect.accuracy);
    }
}

#[test]
fn a_seed_gives_the_same_trace_for_ever() {
    let trace = Network::BurstyWan.trace(1_000, 6);
    let sum = trace.iter().filter_map(|sent| sent.arrived_at).fold(0, u64::wrapping_add);
    assert_eq!((trace.len(), sum), (1_000, 24_957_567_640_346));
}

#[test]
fn the_table_fits_a_terminal_and_the_picture_is_whole() {
    let comparison = comparison();
    assert!(comparison.table().lines().all(|line| line.chars().count() <= 100));
    let svg = picture::draw(comparison);
    assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
    assert!(!svg.contains("NaN") && !svg.contains("inf"));
}

fn place(network: Network) -> usize {
    Network::ALL.iter().position(|other| *other == network).expect("all networks are in ALL")
}
