//! `mainstay doctor`: what is wrong with a cluster, or with the data folder of a stopped node, and
//! what to do about it.
//!
//! It asks every member itself, because only a node knows its own disk, clock and links, and judges
//! by documented thresholds (`checks.rs`). With `--data-dir` it reads a folder from front to back:
//! every frame, every chunk of the snapshot, every entry. It changes nothing in either case. Exit
//! code 1 says that something failed.

mod checks;
mod folder;
mod report;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use clap::Args;
use mainstay_client::{CallError, Client, ClientOptions, Endpoint, Failure, Member, NodeReport};
use mainstay_world::{Instant, RealNet, spawn, wall_clock_ms};

use crate::{arguments::Output, exit::Exit, screen::Screen};

use checks::{Asked, Clock, Examined, Told};
use report::{Finding, Verdict};

/// How long one member is waited for.
const MEMBER_TIMEOUT: Duration = Duration::from_secs(2);

/// How often a clock is asked; the quickest answer tells most.
const CLOCK_QUESTIONS: usize = 3;

/// Elections that are looked at.
const ELECTIONS_MAX: u32 = 100;

#[derive(Debug, Args)]
#[command(after_help = "Exit code 1 says that something failed. docs/operations.md has the \
    thresholds, and docs/runbook/\nwhat to do, step by step.")]
pub(crate) struct DoctorArguments {
    /// Check the data folder of a stopped node instead; it is only read
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

pub(crate) async fn run(
    arguments: DoctorArguments,
    client: &Client,
    output: Output,
) -> anyhow::Result<Exit> {
    let findings = match arguments.data_dir {
        Some(data_dir) => folder::check(&data_dir).await,
        None => checks::judge(&examine(client).await),
    };
    show(&findings, output)?;
    let failed = findings.iter().any(|finding| finding.verdict == Verdict::Fail);
    Ok(if failed { Exit::Failed } else { Exit::Done })
}

fn show(findings: &[Finding], output: Output) -> anyhow::Result<()> {
    use std::io::Write as _;
    let mut screen = Screen::new();
    match output {
        Output::Simple => screen.write_all(report::lines(findings).as_bytes())?,
        Output::Table => screen.write_all(report::table(findings).as_bytes())?,
        Output::Json => screen.json(&report::json(findings))?,
    }
    screen.finish()
}

/// Asks every endpoint and every member that any of them knows.
async fn examine(client: &Client) -> Examined {
    let mut questions: BTreeMap<String, Client> = BTreeMap::new();
    for endpoint in &client.options().endpoints {
        questions.insert(endpoint.to_string(), alone(client, endpoint.clone()));
    }
    let mut asked = ask_all(questions).await;
    // Members that no endpoint stands for.
    let known: Vec<Member> = asked
        .iter()
        .flat_map(|asked| asked.cluster().map(|told| told.members.clone()))
        .flatten()
        .collect();
    let mut more: BTreeMap<String, Client> = BTreeMap::new();
    for member in known {
        let answered = asked.iter().any(|asked| asked.id() == Some(member.id));
        let endpoint = member.client_urls.first().and_then(|url| url.parse::<Endpoint>().ok());
        let Some(endpoint) = endpoint else { continue };
        if !answered && asked.iter().all(|asked| asked.endpoint != endpoint.to_string()) {
            more.insert(endpoint.to_string(), alone(client, endpoint));
        }
    }
    asked.extend(ask_all(more).await);
    Examined { asked, now_ms: wall_clock_ms() }
}

/// A client of one node, which asks once.
fn alone(client: &Client, endpoint: Endpoint) -> Client {
    let timeout = client.options().timeout.min(MEMBER_TIMEOUT);
    let options = ClientOptions { timeout, ..ClientOptions::new(vec![endpoint]) };
    Client::new(Arc::new(RealNet), options)
}

async fn ask_all(questions: BTreeMap<String, Client>) -> Vec<Asked> {
    let asked: Vec<_> = questions
        .into_iter()
        .map(|(endpoint, client)| {
            let question = spawn(async move { ask(&client).await });
            (endpoint, question)
        })
        .collect();
    let mut answers = Vec::new();
    for (endpoint, question) in asked {
        let told = question.await.map_err(|error| error.to_string());
        answers.push(Asked { endpoint, told: told.and_then(|told| told) });
    }
    answers
}

/// Everything that one node tells.
async fn ask(client: &Client) -> Result<Told, String> {
    let cluster = client.cluster().await.map_err(|error| reason(&error))?.value;
    let mut clock: Option<Clock> = None;
    let mut node: Option<NodeReport> = None;
    for _ in 0..CLOCK_QUESTIONS {
        let (before, started) = (wall_clock_ms(), Instant::now());
        let report = client.node().await.map_err(|error| reason(&error))?.value;
        let took = started.elapsed();
        let found = Clock::of(&report, before, took);
        if clock.is_none_or(|clock| found.uncertainty_ms < clock.uncertainty_ms) {
            clock = Some(found);
        }
        node = Some(report);
    }
    // A node in no cluster watches nobody.
    let detector = client.failure_detector(ELECTIONS_MAX).await.ok().map(|answer| answer.value);
    let (Some(node), Some(clock)) = (node, clock) else {
        return Err("it does not say how it is".to_owned());
    };
    Ok(Told { cluster, node, clock, detector })
}

fn reason(error: &CallError) -> String {
    match &error.failure {
        Failure::Unreachable { source, .. } => source.to_string(),
        failure => failure.to_string(),
    }
}
