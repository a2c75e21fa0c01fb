//! A checker that never saw a violation proves nothing: every bug that can be planted is caught
//! within fifty seeds of the scenario that shows it best, by a rule that it breaks, and the same
//! seeds without it are clean.

use mainstay_chaos::{
    panics,
    plants::PLANTS,
    run::{Plan, run},
    scenarios,
};

const SEEDS_MAX: u64 = 50;

#[test]
fn every_planted_bug_is_caught_within_fifty_seeds_and_none_where_none_is() {
    panics::keep();
    let mut missed = Vec::new();
    for plant in PLANTS {
        let scenario = scenarios::find(plant.scenario).expect("the scenario exists");
        let run = |seed, planted| run(Plan { scenario, seed, planted, log: false }).violations;
        let caught = (1..=SEEDS_MAX).find(|&seed| plant.is_seen_in(&run(seed, Some(plant.name))));
        let Some(caught) = caught else {
            missed.push(plant.name);
            continue;
        };
        for seed in 1..=caught {
            let violations: Vec<_> = run(seed, None).iter().map(ToString::to_string).collect();
            assert!(violations.is_empty(), "{} with seed {seed}: {violations:?}", scenario.name);
        }
    }
    assert!(missed.is_empty(), "not caught within {SEEDS_MAX} seeds: {missed:?}");
}
