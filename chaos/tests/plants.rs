//! A checker that never saw a violation proves nothing: every bug that can be planted is caught
//! within fifty seeds of the scenario that shows it best, and none is seen where none is.

use mainstay_chaos::{
    panics,
    plants::PLANTS,
    run::{Plan, run},
    scenarios,
};

const SEEDS_MAX: u64 = 50;

#[test]
fn every_planted_bug_is_caught_within_fifty_seeds() {
    panics::keep();
    let mut missed = Vec::new();
    for plant in PLANTS {
        let scenario = scenarios::find(plant.scenario).expect("the scenario exists");
        let caught = (1..=SEEDS_MAX).find(|&seed| {
            let plan = Plan { scenario, seed, planted: Some(plant.name), log: false };
            !run(plan).violations.is_empty()
        });
        if caught.is_none() {
            missed.push(plant.name);
        }
    }
    assert!(missed.is_empty(), "not caught within {SEEDS_MAX} seeds: {missed:?}");
}

#[test]
fn without_a_planted_bug_the_same_seeds_are_clean() {
    let mut names: Vec<_> = PLANTS.iter().map(|plant| plant.scenario).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let scenario = scenarios::find(name).expect("the scenario exists");
        let report = run(Plan { scenario, seed: 1, planted: None, log: false });
        let violations: Vec<_> = report.violations.iter().map(ToString::to_string).collect();
        assert!(violations.is_empty(), "{name} with seed 1: {violations:?}");
    }
}
