//! The head of the page: the verdict in one line, and the figures that matter.

use std::fmt::Write as _;

use super::{
    Provenance, Run,
    html::{Escaped, duration, grouped},
};
use crate::recovery_time::Distribution;

pub(super) fn head(provenance: &Provenance, runs: &[Run]) -> String {
    let failing = runs.iter().filter(|run| !run.violations.is_empty()).count();
    let violations: usize = runs.iter().map(|run| run.violations.len()).sum();
    let (class, verdict) = match (runs.len(), failing) {
        (0, _) => ("none", "No run".to_owned()),
        (all, 0) => ("good", format!("{}, no violation", counted(all as u64, "run"))),
        (all, failing) => (
            "bad",
            format!(
                "{} in {} of {}",
                counted(violations as u64, "violation"),
                grouped(failing as u64),
                counted(all as u64, "run")
            ),
        ),
    };
    let mut out = format!(
        "<header>\n<p class=\"kicker\">Mainstay · the simulated world</p>\n\
         <h1 class=\"{class}\">{}</h1>\n<p class=\"provenance\">",
        Escaped(&verdict)
    );
    for (name, value) in [("commit", &provenance.commit), ("toolchain", &provenance.toolchain)] {
        if !value.is_empty() {
            let _ = write!(out, "{name} <code>{}</code> ", Escaped(value));
        }
    }
    out.push_str("</p>\n</header>\n<div class=\"tiles\">\n");
    for (name, value, note) in tiles(runs) {
        let _ = writeln!(
            out,
            "<div class=\"tile\"><div class=\"value\">{}</div><div class=\"name\">{}</div>\
             <div class=\"note\">{}</div></div>",
            Escaped(&value),
            Escaped(name),
            Escaped(&note)
        );
    }
    out.push_str("</div>\n");
    out
}

/// Name, value and what it means.
fn tiles(runs: &[Run]) -> Vec<(&'static str, String, String)> {
    let total = |name: &str| -> u64 { runs.iter().map(|run| run.coverage.get(name)).sum() };
    let simulated_us = runs.iter().map(|run| run.simulated_ms * 1_000).sum();
    let lost: u64 = runs.iter().map(|run| run.loss.lost).sum();
    let acknowledged: u64 = runs.iter().map(|run| run.loss.acknowledged).sum();
    let leader_times = runs
        .iter()
        .flat_map(|run| &run.recoveries)
        .filter(|recovery| recovery.alone && recovery.blow.leader)
        .filter_map(crate::recovery_time::Recovery::took_us);
    let leader_times = Distribution::new(leader_times.collect());
    let percentile = |percent| leader_times.percentile_us(percent).map_or("–".to_owned(), duration);
    vec![
        ("simulated time", duration(simulated_us), counted(total("faults"), "fault")),
        (
            "acknowledged writes",
            grouped(total("acknowledged-writes")),
            format!("{} of unknown outcome", grouped(total("unknown-outcomes"))),
        ),
        (
            "writes lost",
            grouped(lost),
            format!("of {} looked for after healing", grouped(acknowledged)),
        ),
        (
            "median recovery",
            percentile(50),
            format!(
                "p99 {}, after {} that struck the leader",
                percentile(99),
                counted(leader_times.times_us().len() as u64, "fault")
            ),
        ),
        (
            "elections",
            grouped(total("elections")),
            format!("{} without a reason", grouped(total("false-elections"))),
        ),
    ]
}

pub(super) fn counted(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{} {noun}s", grouped(number)) }
}
