//! What the sweep really had: a hardship that never happened was not survived.

use std::collections::BTreeMap;

use super::{
    Run,
    html::{Section, Table, grouped},
};
use crate::checkers::Coverage;

pub(super) fn section(runs: &[Run]) -> String {
    if runs.is_empty() {
        return String::new();
    }
    let mut total = Coverage::default();
    let mut runs_with: BTreeMap<&str, u64> = BTreeMap::new();
    for run in runs {
        total.merge(&run.coverage);
        for (name, count) in run.coverage.iter() {
            *runs_with.entry(name).or_default() += u64::from(count > 0);
        }
    }
    let mut section = Section::new("What the runs had");
    let never: Vec<_> =
        total.iter().filter(|(_name, count)| *count == 0).map(|(name, _count)| name).collect();
    if !never.is_empty() {
        section.text(&format!("Never, in any run: {}.", never.join(", ")));
    }
    let mut table = Table::new(&["what", "in all", "a run, on average", "runs with it"]);
    for (name, count) in total.iter().filter(|(_name, count)| *count > 0) {
        let tenths = count * 10 / runs.len() as u64;
        table.row(
            "",
            &[
                name.to_owned(),
                grouped(count),
                format!("{}.{}", grouped(tenths / 10), tenths % 10),
                format!("{} %", runs_with[name] * 100 / runs.len() as u64),
            ],
        );
    }
    section.raw(&table.end());
    section.end()
}
