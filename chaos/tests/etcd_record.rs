//! Every entry of etcd's record that can exist here is caught when it is planted, in the scenario
//! that the record names; the same seeds are clean without it.

use mainstay_chaos::{
    etcd_record::ENTRIES,
    panics, plants,
    run::{Plan, run},
    scenarios,
};

const SEEDS_MAX: u64 = 30;

#[test]
fn every_entry_of_etcds_record_is_caught_in_the_scenario_that_tells_it() {
    panics::keep();
    let mut missed = Vec::new();
    for entry in ENTRIES {
        let scenario = scenarios::find(entry.scenario).expect("the scenario exists");
        let run = |seed, planted| run(Plan { scenario, seed, planted, log: false }).violations;
        if plants::find(entry.plant).is_some_and(|plant| plant.scenario == entry.scenario) {
            // The test of all plants has it.
            continue;
        }
        let caught = (1..=SEEDS_MAX).find(|&seed| entry.is_seen_in(&run(seed, Some(entry.plant))));
        let Some(caught) = caught else {
            missed.push(entry.name);
            continue;
        };
        for seed in 1..=caught {
            let violations: Vec<_> = run(seed, None).iter().map(ToString::to_string).collect();
            assert!(violations.is_empty(), "{} with seed {seed}: {violations:?}", scenario.name);
        }
    }
    assert!(missed.is_empty(), "not caught within {SEEDS_MAX} seeds: {missed:?}");
}
