//! `chaos run`: many runs, a progress bar, one line for each seed that fails.
//!
//! Runs of one process must come one after the other (see `task_ids`), so several at a time are
//! several processes, which are handed one run after the other.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use mainstay_chaos::{
    panics,
    report::{Provenance, Report},
    run::{Plan, RunJson, SIMULATED_MS, run as carry_out},
};
use serde::Serialize;

use crate::arguments::{RunArguments, Seeds};

/// Everything that was run, as it is written with `--json`.
#[derive(Serialize)]
struct RunsJson {
    commit: String,
    toolchain: &'static str,
    runs: Vec<RunJson>,
}

#[expect(clippy::disallowed_methods, reason = "how long it took is told to a person")]
pub(crate) fn run(arguments: &RunArguments) -> anyhow::Result<ExitCode> {
    if arguments.report.is_some() && arguments.jobs > 1 {
        bail!("a report needs the whole of each run: use --report without --jobs");
    }
    // What cannot be written is found out before everything is run.
    let json = match &arguments.json {
        Some(path) => {
            Some(File::create(path).with_context(|| format!("create {}", path.display()))?)
        }
        None => None,
    };
    if let Some(folder) = &arguments.report {
        std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    let plans = plans(arguments);
    let started = Instant::now();
    let progress = progress_bar(plans.len());
    let runs = if arguments.jobs > 1 {
        in_processes(&plans, arguments.jobs, &progress)?
    } else {
        let mut page = arguments.report.is_some().then(|| Report::new(provenance()));
        let runs = one_by_one(&plans, &progress, page.as_mut());
        if let (Some(page), Some(folder)) = (page, &arguments.report) {
            page.write(folder)?;
        }
        runs
    };
    progress.finish_and_clear();
    let failed = runs.iter().filter(|run| !run.violations.is_empty()).count();
    summarise(&runs, failed, started.elapsed());
    if let Some(file) = json {
        let runs = RunsJson { commit: commit(), toolchain: env!("CHAOS_TOOLCHAIN"), runs };
        serde_json::to_writer(file, &runs).context("write the runs as JSON")?;
    }
    Ok(if failed > 0 { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

fn plans(arguments: &RunArguments) -> Vec<Plan> {
    let one = |seed| Seeds { first: seed, last: seed };
    let seeds = arguments.seeds.unwrap_or_else(|| one(arguments.seed.unwrap_or(1)));
    let planted = arguments.plant.map(|plant| plant.name);
    let scenarios = arguments.scenario.list();
    (seeds.first..=seeds.last)
        .flat_map(|seed| {
            scenarios.iter().map(move |&scenario| Plan { scenario, seed, planted, log: false })
        })
        .collect()
}

fn one_by_one(
    plans: &[Plan],
    progress: &ProgressBar,
    mut page: Option<&mut Report>,
) -> Vec<RunJson> {
    panics::keep();
    let mut runs = Vec::new();
    for plan in plans {
        let report = carry_out(*plan);
        let run = report.to_json();
        tell(plan, &run, progress);
        runs.push(run);
        if let Some(page) = &mut page {
            page.add(report.into_page());
        }
    }
    runs
}

fn provenance() -> Provenance {
    Provenance { commit: commit(), toolchain: env!("CHAOS_TOOLCHAIN").to_owned() }
}

/// Hands the plans to processes, the next one to whoever is free; answers in the order of plans.
fn in_processes(plans: &[Plan], jobs: u16, progress: &ProgressBar) -> anyhow::Result<Vec<RunJson>> {
    let next = AtomicUsize::new(0);
    let answers: Mutex<BTreeMap<usize, RunJson>> = Mutex::default();
    let outcome: anyhow::Result<()> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs)
            .map(|_job| {
                scope.spawn(|| -> anyhow::Result<()> {
                    let mut worker = Worker::start()?;
                    loop {
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        let Some(plan) = plans.get(at) else { return worker.end() };
                        let answer = match worker.ask(plan) {
                            Ok(answer) => answer,
                            Err(error) => {
                                worker = Worker::start()?;
                                died(plan, &error)
                            }
                        };
                        tell(plan, &answer, progress);
                        answers.lock().unwrap_or_else(PoisonError::into_inner).insert(at, answer);
                    }
                })
            })
            .collect();
        for worker in workers {
            match worker.join() {
                Ok(outcome) => outcome?,
                Err(_panic) => bail!("a thread that talks to a process panicked"),
            }
        }
        Ok(())
    });
    outcome?;
    let answers = answers.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(answers.into_values().collect())
}

/// A process that carries out runs.
struct Worker {
    process: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Worker {
    fn start() -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("find this program")?;
        let mut process = Command::new(program)
            .arg("worker")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start a process")?;
        let questions = process.stdin.take().context("talk to the process")?;
        let answers = process.stdout.take().context("listen to the process")?;
        Ok(Self { process, questions, answers: BufReader::new(answers) })
    }

    fn ask(&mut self, plan: &Plan) -> anyhow::Result<RunJson> {
        let planted = plan.planted.unwrap_or("-");
        writeln!(self.questions, "{} {} {planted}", plan.scenario.name, plan.seed)
            .context("ask for a run")?;
        let mut line = String::new();
        self.answers.read_line(&mut line).context("read a run")?;
        serde_json::from_str(&line).context("understand a run")
    }

    fn end(self) -> anyhow::Result<()> {
        let Self { mut process, questions, .. } = self;
        drop(questions);
        process.wait().context("wait for the process")?;
        Ok(())
    }
}

/// What is told of a run that took its process with it.
fn died(plan: &Plan, error: &anyhow::Error) -> RunJson {
    RunJson {
        scenario: plan.scenario.name.to_owned(),
        seed: plan.seed,
        trace_hash: String::new(),
        violations: vec![format!("the process that carried it out ended: {error:#}")],
        coverage: BTreeMap::new(),
    }
}

fn tell(plan: &Plan, run: &RunJson, progress: &ProgressBar) {
    progress.inc(1);
    let Some(first) = run.violations.first() else { return };
    progress.suspend(|| print_failure(plan, first));
}

#[expect(clippy::print_stdout, reason = "this is what was asked for")]
fn print_failure(plan: &Plan, violation: &str) {
    println!("FAILED {violation}\n       {}", replay_line(plan));
}

fn replay_line(plan: &Plan) -> String {
    let planted = plan.planted.map(|bug| format!(" --plant {bug}")).unwrap_or_default();
    format!("chaos replay --scenario {} --seed {}{planted}", plan.scenario.name, plan.seed)
}

#[expect(clippy::print_stdout, reason = "this is what was asked for")]
fn summarise(runs: &[RunJson], failed: usize, took: Duration) {
    let mut coverage: BTreeMap<&str, u64> = BTreeMap::new();
    for (name, count) in runs.iter().flat_map(|run| &run.coverage) {
        *coverage.entry(name).or_insert(0) += count;
    }
    let simulated_ms = coverage.remove(SIMULATED_MS).unwrap_or(0);
    let seen: Vec<_> = coverage.iter().map(|(name, count)| format!("{name} {count}")).collect();
    println!("{} runs, {failed} with violations; {}", runs.len(), seen.join(", "));
    println!("{} s of simulated time in {:.1} s", simulated_ms / 1_000, took.as_secs_f64());
}

fn progress_bar(runs: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} runs, {eta} left");
    let bar = ProgressBar::new(runs as u64);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_unreadable) => bar,
    }
}

/// The commit of the working tree, if it is one.
fn commit() -> String {
    let output = Command::new("git")
        .args(["-C", env!("CARGO_MANIFEST_DIR"), "rev-parse", "HEAD"])
        .stderr(Stdio::null())
        .output();
    let commit = output.ok().and_then(|output| String::from_utf8(output.stdout).ok());
    commit
        .map(|text| text.trim().to_owned())
        .filter(|text| !text.is_empty())
        .unwrap_or_else(|| "unknown".to_owned())
}
