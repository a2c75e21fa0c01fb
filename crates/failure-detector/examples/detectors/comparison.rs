//! All contenders on all traces, and what follows: the table, and the fixed timeout to beat.

use std::fmt::Write as _;

use crate::{
    contender::{Contender, Fixed, Gaussian, Ours},
    quality::{Quality, measure},
    trace::Network,
};

/// The levels as shipped.
pub(crate) const SUSPECT: &str = "phi 8, hybrid";
pub(crate) const FAILED: &str = "phi 16, hybrid";

/// The paper's detector, made usable.
const GAUSSIAN: &str = "phi 8, Gaussian, pause 2 T";

/// What the table shows; everything else is for the picture and the search.
const SHOWN: [&str; 8] = [
    SUSPECT,
    FAILED,
    "phi 8, Gaussian",
    GAUSSIAN,
    "fixed 200 ms",
    "fixed 300 ms",
    "fixed 400 ms",
    "fixed 500 ms",
];

/// Levels of ours in the picture, besides those shipped.
const OTHER_LEVELS: [(f64, f64); 3] = [(4.0, 20.0), (5.0, 10.0), (6.0, 12.0)];

/// One threshold of one detector over all traces.
pub(crate) struct Row {
    pub(crate) name: String,
    /// One a trace, in the order of [`Network::ALL`].
    pub(crate) qualities: Vec<Quality>,
}

impl Row {
    /// Mean detection time over all traces, each counting the same, in milliseconds.
    pub(crate) fn detection_mean_ms(&self) -> f64 {
        let sum: f64 = self.qualities.iter().map(|quality| quality.detection_mean_ms).sum();
        sum / self.qualities.len() as f64
    }

    /// Mistakes per million heartbeats on the worst trace.
    pub(crate) fn mistakes_per_million_worst(&self) -> f64 {
        self.qualities.iter().map(|quality| quality.mistakes_per_million).fold(0.0, f64::max)
    }
}

/// The result of all runs.
pub(crate) struct Comparison {
    pub(crate) rows: Vec<Row>,
}

impl Comparison {
    /// Runs everything on traces of so many heartbeats.
    pub(crate) fn run(heartbeats: usize, seed: u64) -> Self {
        let mut rows: Vec<Row> = Vec::new();
        for (number, network) in Network::ALL.into_iter().enumerate() {
            let trace = network.trace(heartbeats, seed.wrapping_add(number as u64));
            let found = contenders().into_iter().flat_map(|mut one| measure(&mut *one, &trace));
            for (place, (name, quality)) in found.enumerate() {
                if number == 0 {
                    rows.push(Row { name, qualities: Vec::new() });
                }
                rows[place].qualities.push(quality);
            }
        }
        Self { rows }
    }

    /// The row of a name.
    pub(crate) fn row(&self, name: &str) -> &Row {
        self.rows.iter().find(|row| row.name == name).expect("every name shown is run")
    }

    /// The shortest fixed timeout that makes no more mistakes on its worst trace than `row` does.
    pub(crate) fn equal_fixed(&self, row: &Row) -> Option<&Row> {
        let worst = row.mistakes_per_million_worst();
        self.rows
            .iter()
            .filter(|row| row.name.starts_with("fixed"))
            .find(|row| row.mistakes_per_million_worst() <= worst)
    }

    /// Every detector on every trace, within 100 columns.
    pub(crate) fn table(&self) -> String {
        let mut table = String::new();
        for (number, network) in Network::ALL.into_iter().enumerate() {
            let titles = ["detect ms", "p99 ms", "per 10^6", "worse half", "per day", "P_A"];
            line(&mut table, network.name(), titles);
            for name in SHOWN {
                let quality = &self.row(name).qualities[number];
                let figures = [
                    format!("{:.0}", quality.detection_mean_ms),
                    format!("{:.0}", quality.detection_p99_ms),
                    format!("{:.1}", quality.mistakes_per_million),
                    format!("{:.1}", quality.mistakes_per_million_worst),
                    format!("{:.1}", quality.mistakes_per_day),
                    format!("{:.7}", quality.accuracy),
                ];
                line(&mut table, &format!("  {name}"), figures.each_ref().map(String::as_str));
            }
            table.push('\n');
        }
        table
    }

    /// The shortest fixed timeout that makes no more mistakes than `row` on one trace: what somebody
    /// could choose who knows that network and no other.
    fn fixed_for(&self, row: &Row, trace: usize) -> Option<&Row> {
        let mistakes = row.qualities[trace].mistakes_per_million;
        self.rows
            .iter()
            .filter(|row| row.name.starts_with("fixed"))
            .find(|row| row.qualities[trace].mistakes_per_million <= mistakes)
    }

    /// The shipped levels beside the fixed timeouts that make no more mistakes than either, as a
    /// Markdown table: mean detection time, and mistakes per million heartbeats. Last, for each
    /// trace, the fixed timeout that would be chosen for it alone.
    pub(crate) fn summary(&self) -> String {
        let mut columns = [SUSPECT, FAILED, GAUSSIAN].map(|name| self.row(name)).to_vec();
        columns.extend(self.equal_fixed(columns[0]));
        columns.extend(self.equal_fixed(columns[1]));
        let mut table = String::new();
        let mut row = |title: &str, cells: Vec<String>| {
            let _infallible = writeln!(table, "| {title} | {} |", cells.join(" | "));
        };
        let tailored = String::from("fixed for this trace alone");
        let titles = columns.iter().map(|column| column.name.clone()).chain([tailored]);
        row("trace", titles.collect());
        row("---", vec![String::from("---:"); columns.len() + 1]);
        let cell = |mean: f64, mistakes: f64| format!("{mean:.0} ms, {mistakes:.0}");
        for (number, network) in Network::ALL.into_iter().enumerate() {
            let of_trace = columns.iter().map(|column| {
                let quality = &column.qualities[number];
                cell(quality.detection_mean_ms, quality.mistakes_per_million)
            });
            let tailored = self.fixed_for(columns[0], number).map_or_else(
                || String::from("none"),
                |row| {
                    let Quality { detection_mean_ms, mistakes_per_million, .. } =
                        row.qualities[number];
                    format!("{}: {}", row.name, cell(detection_mean_ms, mistakes_per_million))
                },
            );
            row(network.name(), of_trace.chain([tailored]).collect());
        }
        let over_all = columns
            .iter()
            .map(|column| cell(column.detection_mean_ms(), column.mistakes_per_million_worst()));
        row("mean time, worst mistakes", over_all.chain([String::new()]).collect());
        table
    }
}

fn contenders() -> Vec<Box<dyn Contender>> {
    let mut all: Vec<Box<dyn Contender>> = vec![
        Box::new(Ours::new(8.0, 16.0)),
        Box::new(Gaussian::new(0)),
        Box::new(Gaussian::new(2)),
        Box::new(Fixed { timeouts_ms: (100..=800).step_by(5).collect() }),
    ];
    for (suspect, failed) in OTHER_LEVELS {
        all.push(Box::new(Ours::new(suspect, failed)));
    }
    all
}

fn line(table: &mut String, name: &str, figures: [&str; 6]) {
    let [detection, p99, million, worse, day, accuracy] = figures;
    let _infallible = writeln!(
        table,
        "{name:<32}{detection:>10}{p99:>9}{million:>11}{worse:>12}{day:>10}{accuracy:>13}"
    );
}
