//! What was wrong: each violation with its rule and the command that shows it again.

use std::fmt::Write as _;

use super::{
    Run,
    html::{Escaped, Section},
};
use crate::timeline::Seconds;

/// Runs whose violations are written out.
const RUNS_MAX: usize = 50;

/// Violations of one run that are written out.
const VIOLATIONS_MAX: usize = 6;

pub(super) fn section(runs: &[Run]) -> String {
    let mut section = Section::new("Violations");
    let failing: Vec<_> = runs.iter().filter(|run| !run.violations.is_empty()).collect();
    for run in failing.iter().take(RUNS_MAX) {
        section.raw(&card(run));
    }
    if let Some(more) = failing.len().checked_sub(RUNS_MAX).filter(|more| *more > 0) {
        section.text(&format!("{more} more runs failed; the table at the end has them."));
    }
    section.end_unless_empty()
}

fn card(run: &Run) -> String {
    let mut out = format!(
        "<article class=\"violation\">\n<h3>{} <span class=\"seed\">seed {}</span>",
        Escaped(&run.scenario),
        run.seed
    );
    if let Some(bug) = &run.planted {
        let _ = write!(out, " <span class=\"badge\">planted: {}</span>", Escaped(bug));
    }
    let _ = writeln!(out, "</h3>\n<p><code>{}</code></p>\n<dl>", Escaped(&run.replay_command()));
    for violation in run.violations.iter().take(VIOLATIONS_MAX) {
        let place = violation.node.map_or_else(String::new, |node| format!("node {node}, "));
        // What is told of the end of a run has no time of its own.
        let time = if violation.at_us == u64::MAX {
            "at the end".to_owned()
        } else {
            Seconds(violation.at_us).to_string()
        };
        let _ = writeln!(
            out,
            "<dt>{} <span class=\"when\">{place}{time}</span></dt>\n<dd>{}<br>\
             <span class=\"sentence\">{}</span></dd>",
            violation.rule.as_str(),
            Escaped(&violation.what),
            Escaped(violation.rule.sentence())
        );
    }
    out.push_str("</dl>\n");
    if let Some(more) = run.violations.len().checked_sub(VIOLATIONS_MAX).filter(|more| *more > 0) {
        let _ = writeln!(out, "<p>and {more} more in this run</p>");
    }
    out.push_str("</article>\n");
    out
}
