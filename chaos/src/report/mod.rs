//! The report of a sweep: one HTML page that needs nothing else, for people.
//!
//! Violations come first, then the figures that matter (how long until the next write, how much was
//! lost), then pictures of runs, then what the sweep covered. The page has no scripts, and what
//! colours say, words say too. It is built run by run, so that a sweep of thousands keeps only the
//! timelines that are drawn.

mod coverage;
mod html;
mod overview;
mod recovery;
mod runs;
mod timeline_picture;
mod violations;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    checkers::{Coverage, Violation, durability::Loss},
    recovery_time::Recovery,
    timeline::Timeline,
};

/// Failing runs that are drawn.
const FAILING_PICTURES_MAX: usize = 8;

/// Clean runs that are drawn: one a scenario.
const CLEAN_PICTURES_MAX: usize = 24;

/// The name of the page in its folder.
const FILE_NAME: &str = "index.html";

/// What was run.
#[derive(Debug, Clone, Default)]
pub struct Provenance {
    /// The commit of the code.
    pub commit: String,
    /// The compiler.
    pub toolchain: String,
}

/// One run.
#[derive(Debug, Clone)]
pub struct Run {
    /// Its scenario.
    pub scenario: String,
    /// Its seed.
    pub seed: u64,
    /// The bug that was planted, if any.
    pub planted: Option<String>,
    /// The hash of everything that happened.
    pub trace_hash: u128,
    /// How long it took, in simulated milliseconds.
    pub simulated_ms: u64,
    /// What was wrong.
    pub violations: Vec<Violation>,
    /// What it really had.
    pub coverage: Coverage,
    /// Its faults and the recoveries from them.
    pub recoveries: Vec<Recovery>,
    /// The acknowledged writes it lost.
    pub loss: Loss,
    /// What happened, to be drawn; it may be left out.
    pub timeline: Option<Timeline>,
}

impl Run {
    /// The command that shows the run again.
    #[must_use]
    pub fn replay_command(&self) -> String {
        let mut command = format!("chaos replay --scenario {} --seed {}", self.scenario, self.seed);
        if let Some(bug) = &self.planted {
            command.push_str(" --plant ");
            command.push_str(bug);
        }
        command
    }
}

/// A report that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("the report {} was not written", .path.display())]
pub struct WriteReportError {
    /// Where it was to be.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// A report that grows run by run.
#[derive(Debug, Default)]
pub struct Report {
    provenance: Provenance,
    /// The runs, without those timelines that are not drawn.
    runs: Vec<Run>,
    failing_pictures: usize,
    /// The clean run with a picture, by scenario.
    clean_pictures: BTreeMap<String, usize>,
}

impl Report {
    /// A report without runs.
    #[must_use]
    pub const fn new(provenance: Provenance) -> Self {
        Self { provenance, runs: Vec::new(), failing_pictures: 0, clean_pictures: BTreeMap::new() }
    }

    /// Adds a run; its timeline is kept only if it is among those that are drawn.
    pub fn add(&mut self, mut run: Run) {
        let draw = run.timeline.is_some() && self.is_drawn(&run);
        if !draw {
            run.timeline = None;
        }
        self.runs.push(run);
    }

    /// The whole page.
    #[must_use]
    pub fn page(&self) -> String {
        let mut body = overview::head(&self.provenance, &self.runs);
        body.push_str(&violations::section(&self.runs));
        body.push_str(&recovery::section(&self.runs));
        body.push_str(&self.pictures());
        body.push_str(&coverage::section(&self.runs));
        body.push_str(&runs::section(&self.runs));
        html::page("Mainstay: report of the simulated world", &body)
    }

    /// Writes the page into the folder `dir`, which is made if needed, and returns its path.
    ///
    /// # Errors
    /// [`WriteReportError`]; the page may then be there in part.
    pub fn write(&self, dir: &Path) -> Result<PathBuf, WriteReportError> {
        let path = dir.join(FILE_NAME);
        fs::create_dir_all(dir)
            .and_then(|()| fs::write(&path, self.page()))
            .map_err(|source| WriteReportError { path: path.clone(), source })?;
        Ok(path)
    }

    /// Failing runs are drawn, and of each scenario the clean run in which the most happened.
    fn is_drawn(&mut self, run: &Run) -> bool {
        let number = self.runs.len();
        if !run.violations.is_empty() {
            self.failing_pictures += 1;
            return self.failing_pictures <= FAILING_PICTURES_MAX;
        }
        let full = self.clean_pictures.len() >= CLEAN_PICTURES_MAX;
        match self.clean_pictures.get_mut(&run.scenario) {
            Some(drawn) => {
                let better = eventfulness(run) > eventfulness(&self.runs[*drawn]);
                if better {
                    self.runs[*drawn].timeline = None;
                    *drawn = number;
                }
                better
            }
            None if full => false,
            None => {
                self.clean_pictures.insert(run.scenario.clone(), number);
                true
            }
        }
    }

    fn pictures(&self) -> String {
        let mut drawn: Vec<_> =
            self.runs.iter().filter_map(|run| Some((run, run.timeline.as_ref()?))).collect();
        drawn.sort_by_key(|(run, _)| {
            (run.violations.is_empty(), std::cmp::Reverse(eventfulness(run)))
        });
        let mut section = html::Section::new("Runs in pictures");
        if !drawn.is_empty() {
            section.text(
                "Each lane is a node: its role over time above, the writes it acknowledged below. \
                 Failing runs are shown first, then one clean run of each scenario.",
            );
            section.raw(timeline_picture::LEGEND);
        }
        for (number, (run, timeline)) in drawn.into_iter().enumerate() {
            let picture = timeline_picture::draw(timeline);
            section.raw(&html::details(&picture_title(run), number < 4, &picture));
        }
        section.end_unless_empty()
    }
}

/// Writes a report of `runs` into the folder `dir` and returns the path of the page.
///
/// # Errors
/// As [`Report::write`].
pub fn write(
    dir: &Path,
    provenance: Provenance,
    runs: impl IntoIterator<Item = Run>,
) -> Result<PathBuf, WriteReportError> {
    let mut report = Report::new(provenance);
    for run in runs {
        report.add(run);
    }
    report.write(dir)
}

fn picture_title(run: &Run) -> String {
    let mut title = format!("{} · seed {}", run.scenario, run.seed);
    if let Some(bug) = &run.planted {
        title.push_str(&format!(" · planted: {bug}"));
    }
    match run.violations.len() {
        0 => {}
        1 => title.push_str(" · 1 violation"),
        many => title.push_str(&format!(" · {many} violations")),
    }
    title
}

fn eventfulness(run: &Run) -> u64 {
    3 * run.coverage.get("elections") + run.coverage.get("faults") + run.coverage.get("restarts")
}

#[cfg(test)]
mod tests;
