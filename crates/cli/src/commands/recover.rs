//! `mainstay recover`: a new cluster of what a lost majority left behind.
//!
//! It works on the data folders of stopped nodes and talks to no cluster, except to make sure that
//! none is left to talk to. Nothing happens in silence: what was found, what may be lost and what
//! is decided is shown first, and a person types `yes`, or the caller says `--yes` beforehand.
//! What a recovery does to the data is `mainstay_node::recovery`.

mod findings;

use std::{
    io::{self, BufRead as _, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use mainstay_client::{Client, ClientOptions, Endpoint};
use mainstay_node::recovery::{Answering, Findings, Progress, Survey};
use mainstay_world::{Net, RealNet};

use crate::{
    arguments::Output,
    exit::{Exit, Refusal, UsageError},
    screen::{Screen, line, note},
};

/// How long a member has to answer at its client address.
const CLIENT_DEADLINE: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
#[command(
    after_help = "Give the data folders of all nodes that are left, copied to this machine if \
    need be: the one\nwhose log goes furthest is used, and none of them is changed. Then start the \
    new node and\nlet others join it. docs/runbook/lost-quorum.md has the whole procedure."
)]
pub(crate) struct RecoverArguments {
    /// The data folder of a stopped node; give all that are left
    #[arg(long = "data-dir", value_name = "DIR", required = true)]
    data_dirs: Vec<PathBuf>,
    /// Where the new cluster's first node gets its data folder [default: the best DIR.recovered]
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
    /// What to call that node [default: as the node of the best folder]
    #[arg(long)]
    name: Option<String>,
    /// Show what was found and what may be lost, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long, conflicts_with = "dry_run")]
    yes: bool,
    /// Go on although a node of the old cluster answers, or the cluster needs no recovery
    #[arg(long)]
    force: bool,
}

pub(crate) async fn run(arguments: RecoverArguments, output: Output) -> anyhow::Result<Exit> {
    if output == Output::Json && !arguments.yes && !arguments.dry_run {
        let why = "with --output json nobody is asked: give --dry-run to look, or --yes to do it";
        return Err(UsageError(why.to_owned()).into());
    }
    let progress: Arc<dyn Progress> = Arc::new(Bar::default());
    let survey = Survey::of(&arguments.data_dirs, &progress).await?;
    let findings = survey.findings();
    let best = &findings.folders[findings.best].path;
    let into = arguments.into.clone().unwrap_or_else(|| recovered_beside(best));
    if output != Output::Json {
        line(findings::text(&findings, &into).trim_end())?;
    }
    let net: Arc<dyn Net> = Arc::new(RealNet);
    let mut answering = survey.answering(&net).await;
    answering.extend(answering_clients(&findings, &net).await);
    if let Some(refusal) = refusal(&findings, &answering) {
        if arguments.force {
            note(&format!("warning: {refusal}; going on because of --force"));
        } else {
            let command = "mainstay recover --force";
            return Err(Refusal(format!("{refusal}, or say {command} if you know better")).into());
        }
    }
    if arguments.dry_run {
        if output == Output::Json {
            show_json(&findings::json(&findings, &into, None))?;
        }
        return Ok(Exit::Done);
    }
    if !arguments.yes && !is_confirmed(&into)? {
        return Err(Refusal("the answer was not yes: nothing was done".to_owned()).into());
    }
    // In a box: a whole store is part of it.
    let new = Box::pin(survey.found(&into, arguments.name, &progress)).await?;
    match output {
        Output::Json => show_json(&findings::json(&findings, &into, Some(&new)))?,
        Output::Simple | Output::Table => line(findings::done(&new, &into).trim_end())?,
    }
    Ok(Exit::Done)
}

fn show_json(document: &serde_json::Value) -> anyhow::Result<()> {
    let mut screen = Screen::new();
    screen.json(document)?;
    screen.finish()
}

/// `DIR.recovered` beside `DIR`.
fn recovered_beside(folder: &Path) -> PathBuf {
    let mut name = folder.file_name().unwrap_or_default().to_os_string();
    name.push(".recovered");
    folder.with_file_name(name)
}

/// Why a recovery should not be, if so.
fn refusal(findings: &Findings, answering: &[Answering]) -> Option<String> {
    if !answering.is_empty() {
        let who = answering.iter().map(|member| {
            let Answering { name, address, is_certain } = member;
            if *is_certain {
                format!("{name} answers at {address}")
            } else {
                format!("something takes connections at {address}, where {name} was")
            }
        });
        let who: Vec<_> = who.collect();
        return Some(format!(
            "the old cluster may live: {}; nothing was done. If a majority of its nodes can run, \
             start them: nothing is lost then. Otherwise stop every node that answers",
            who.join(", ")
        ));
    }
    findings.is_quorum.then(|| {
        "these are the folders of a majority of the voters: nothing is lost, and nothing was done. \
         Start these nodes with `mainstay serve`, and they go on by themselves"
            .to_owned()
    })
}

/// The members of the old cluster that answer at their client addresses.
async fn answering_clients(findings: &Findings, net: &Arc<dyn Net>) -> Vec<Answering> {
    let mut answering = Vec::new();
    for member in &findings.members {
        for url in &member.record.client_urls {
            let Ok(endpoint) = url.parse::<Endpoint>() else { continue };
            let options =
                ClientOptions { timeout: CLIENT_DEADLINE, ..ClientOptions::new(vec![endpoint]) };
            let answer = Client::new(Arc::clone(net), options).cluster().await;
            if answer.is_ok_and(|cluster| cluster.value.cluster_id == findings.cluster_id) {
                answering.push(Answering {
                    name: member.record.name.clone(),
                    address: url.clone(),
                    is_certain: true,
                });
            }
        }
    }
    answering
}

/// Asks a person; anything but `yes` is a no.
fn is_confirmed(into: &Path) -> anyhow::Result<bool> {
    let mut error = io::stderr().lock();
    write!(error, "Make a new cluster in {}? Type yes to go on: ", into.display())?;
    error.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}

/// A progress bar on standard error, one piece of work after the other.
#[derive(Default)]
pub(crate) struct Bar(Mutex<Option<ProgressBar>>);

impl Bar {
    fn with(&self, act: impl FnOnce(&mut Option<ProgressBar>)) {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Progress for Bar {
    fn begin(&self, what: String, bytes: u64) {
        let style = ProgressStyle::with_template("{msg} [{bar:40}] {bytes} of {total_bytes}")
            .expect("the template is a constant");
        let bar = ProgressBar::new(bytes).with_style(style).with_message(what);
        self.with(|current| *current = Some(bar));
    }

    fn advance(&self, bytes: u64) {
        self.with(|bar| {
            if let Some(bar) = bar {
                bar.inc(bytes);
            }
        });
    }

    fn end(&self) {
        self.with(|bar| {
            if let Some(bar) = bar.take() {
                bar.finish_and_clear();
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_new_folder_stands_beside_the_old_one() {
        assert_eq!(recovered_beside(Path::new("/data/n1")), Path::new("/data/n1.recovered"));
        assert_eq!(recovered_beside(Path::new("n1.mainstay/")), Path::new("n1.mainstay.recovered"));
    }

    #[test]
    fn whoever_answers_is_named_with_the_address() {
        let answering = [
            Answering { name: "n1".to_owned(), address: "a:1".to_owned(), is_certain: true },
            Answering { name: "n2".to_owned(), address: "b:2".to_owned(), is_certain: false },
        ];
        let refusal = refusal(&findings::tests::findings(), &answering).expect("is refused");
        assert!(refusal.contains("n1 answers at a:1"), "{refusal}");
        assert!(refusal.contains("something takes connections at b:2"), "{refusal}");
    }

    #[test]
    fn a_cluster_that_can_simply_be_started_is_not_recovered() {
        let mut findings = findings::tests::findings();
        assert_eq!(refusal(&findings, &[]), None);
        findings.is_quorum = true;
        assert!(refusal(&findings, &[]).is_some_and(|why| why.contains("mainstay serve")));
    }
}
