//! All runs: one line a scenario, and one line a run to unfold.

use std::collections::BTreeMap;

use super::{
    Run,
    html::{Section, Table, details, duration, grouped},
};

/// Runs that are listed one by one.
const LISTED_MAX: usize = 2_000;

pub(super) fn section(runs: &[Run]) -> String {
    let mut by_scenario: BTreeMap<&str, Vec<&Run>> = BTreeMap::new();
    for run in runs {
        by_scenario.entry(&run.scenario).or_default().push(run);
    }
    let mut section = Section::new("Runs");
    let mut table = Table::new(&[
        "scenario",
        "runs",
        "failing",
        "simulated",
        "faults",
        "elections",
        "acknowledged writes",
        "longest recovery",
    ]);
    for (scenario, runs) in &by_scenario {
        let total = |name: &str| runs.iter().map(|run| run.coverage.get(name)).sum();
        let failing = runs.iter().filter(|run| !run.violations.is_empty()).count();
        let longest = runs.iter().filter_map(|run| longest_recovery_us(run)).max();
        table.row(
            if failing > 0 { "failing" } else { "" },
            &[
                (*scenario).to_owned(),
                grouped(runs.len() as u64),
                grouped(failing as u64),
                duration(runs.iter().map(|run| run.simulated_ms * 1_000).sum()),
                grouped(total("faults")),
                grouped(total("elections")),
                grouped(total("acknowledged-writes")),
                longest.map_or_else(|| "–".to_owned(), duration),
            ],
        );
    }
    section.raw(&table.end());
    if !runs.is_empty() {
        section.raw(&details("Every run", false, &every_run(runs)));
    }
    section.end_unless_empty()
}

/// The longest recovery from a fault that struck alone.
fn longest_recovery_us(run: &Run) -> Option<u64> {
    let alone = run.recoveries.iter().filter(|recovery| recovery.alone);
    alone.filter_map(crate::recovery_time::Recovery::took_us).max()
}

fn every_run(runs: &[Run]) -> String {
    let mut ordered: Vec<_> = runs.iter().collect();
    ordered.sort_by_key(|run| (run.violations.is_empty(), &run.scenario, run.seed));
    let mut table = Table::new(&[
        "scenario",
        "seed",
        "violations",
        "faults",
        "elections",
        "writes",
        "lost",
        "trace hash",
    ]);
    for run in ordered.iter().take(LISTED_MAX) {
        table.row(
            if run.violations.is_empty() { "" } else { "failing" },
            &[
                run.scenario.clone(),
                run.seed.to_string(),
                run.violations.len().to_string(),
                grouped(run.coverage.get("faults")),
                grouped(run.coverage.get("elections")),
                grouped(run.coverage.get("acknowledged-writes")),
                grouped(run.loss.lost),
                format!("…{:016x}", run.trace_hash & u128::from(u64::MAX)),
            ],
        );
    }
    let mut out = table.end();
    if let Some(more) = runs.len().checked_sub(LISTED_MAX).filter(|more| *more > 0) {
        out.push_str(&format!("<p>and {more} more</p>\n"));
    }
    out
}
