//! `mainstay bench`: a cluster under load, and what it made of it.
//!
//! Each client has a connection of its own and sends its next request when it has the answer to the
//! last (a closed loop), or at a steady rate whatever the answers do (`--rate`, an open loop, whose
//! latencies count from when a request was due). The program shares its machine with the cluster
//! as often as not, so the path of a request is written by hand and its own CPU time is part of
//! the report.

mod checked;
mod connection;
mod failover;
mod interruption;
mod load;
mod preload;
mod report;
mod request;
mod watching;

use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use mainstay_client::Endpoint;

use crate::{
    arguments::{ClusterArguments, Output},
    commands::bench::report::Report,
    encoding::parse_duration,
    exit::{Exit, UsageError},
    screen::note,
};

/// Keys in contention when nothing else is asked for.
const CAS_KEYS: u64 = 100;
const KEYS: u64 = 100_000;

#[derive(Debug, Clone, Args)]
pub(crate) struct BenchArguments {
    /// What the clients do
    #[arg(long, env = "MAINSTAY_MODE", value_enum, default_value_t, value_name = "MODE")]
    mode: Mode,
    /// How many clients, spread over all endpoints, a connection each
    #[arg(long, env = "MAINSTAY_CLIENTS", default_value_t = 64, value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000))]
    clients: u32,
    /// Bytes of a value
    #[arg(long, env = "MAINSTAY_VALUE_SIZE", default_value_t = 256, value_name = "BYTES")]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=1_572_864))]
    value_size: u32,
    /// How many different keys [default: 100000, with cas 100]
    #[arg(long, env = "MAINSTAY_KEYS", value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=99_999_999))]
    keys: Option<u64>,
    /// How long to measure
    #[arg(long, env = "MAINSTAY_SECONDS", default_value_t = 10, value_name = "SECONDS")]
    #[arg(value_parser = clap::value_parser!(u64).range(0..=86_400))]
    seconds: u64,
    /// How long to run before measuring
    #[arg(long, env = "MAINSTAY_WARM_UP", default_value = "1s", value_parser = parse_duration)]
    #[arg(value_name = "TIME")]
    warm_up: Duration,
    /// Send this many requests a second in all, whether answers come or not
    #[arg(long, env = "MAINSTAY_RATE", value_name = "PER SECOND")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
    /// Write all keys first
    #[arg(long, env = "MAINSTAY_PRELOAD")]
    preload: bool,
    /// Kill this process and measure the time to the next acknowledged write
    #[arg(long, env = "MAINSTAY_KILL_PID", hide = true, value_name = "PID")]
    kill_pid: Option<u32>,
    /// Freeze this process for a while and measure the longest time without an acknowledged write
    #[arg(long, env = "MAINSTAY_STOP_PID", hide = true, value_name = "PID")]
    stop_pid: Option<u32>,
}

/// What the clients do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Write random keys.
    #[default]
    Put,
    /// Read random keys, linearizably.
    Get,
    /// Read random keys as the asked node has them.
    StaleGet,
    /// Four reads to one write.
    Mixed,
    /// Read a key and write it if nobody else did; few keys, so many fail.
    Cas,
    /// One client writes, the others watch.
    Watch,
    /// Write new keys through the Rust client, with sessions and retries, and check in the end that
    /// each acknowledged write is there and took effect once.
    Checked,
    /// One client writes with attempts of 100 ms while a process is killed.
    #[value(hide = true)]
    Failover,
    /// The same while a process stands still, and when it goes on.
    #[value(hide = true)]
    Freeze,
    /// The same while the leadership is handed over.
    #[value(hide = true)]
    Transfer,
    /// The same for --seconds, while whoever measures interrupts the cluster.
    #[value(hide = true)]
    Gap,
    /// One client writes until one write is acknowledged.
    #[value(hide = true)]
    FirstWrite,
}

/// What is to be measured, complete.
#[derive(Debug, Clone)]
struct Plan {
    mode: Mode,
    endpoints: Vec<Endpoint>,
    clients: usize,
    value_size: usize,
    keys: u64,
    duration: Duration,
    warm_up: Duration,
    rate: Option<u32>,
    /// How long one request may take.
    timeout: Duration,
}

impl Plan {
    fn new(arguments: &BenchArguments, cluster: &ClusterArguments) -> Self {
        let keys = if arguments.mode == Mode::Cas { CAS_KEYS } else { KEYS };
        Self {
            mode: arguments.mode,
            endpoints: cluster.endpoints.clone(),
            clients: arguments.clients as usize,
            value_size: arguments.value_size as usize,
            keys: arguments.keys.unwrap_or(keys),
            duration: Duration::from_secs(arguments.seconds),
            warm_up: arguments.warm_up,
            rate: arguments.rate,
            timeout: cluster.timeout,
        }
    }

    /// The endpoint of a client: neighbours talk to different nodes.
    fn endpoint(&self, client: usize) -> &Endpoint {
        &self.endpoints[client % self.endpoints.len()]
    }
}

impl Mode {
    /// The mode's name on the command line.
    fn name(self) -> String {
        let value = self.to_possible_value().expect("no mode is skipped");
        value.get_name().to_owned()
    }
}

pub(crate) async fn run(
    arguments: BenchArguments,
    cluster: &ClusterArguments,
) -> anyhow::Result<Exit> {
    let plan = Plan::new(&arguments, cluster);
    for (pid, flag, mode) in [
        (arguments.kill_pid, "--kill-pid", Mode::Failover),
        (arguments.stop_pid, "--stop-pid", Mode::Freeze),
    ] {
        if pid.is_some() != (plan.mode == mode) {
            let needs = format!("{flag} and --mode {} need each other", mode.name());
            bail!(UsageError(needs));
        }
    }
    match (plan.mode, arguments.kill_pid, arguments.stop_pid) {
        (Mode::FirstWrite, ..) => return failover::first_write(&plan).await,
        (Mode::Gap, ..) => return interruption::gap(&plan).await,
        (Mode::Transfer, ..) => return interruption::transfer(&plan, &cluster.client()).await,
        (_, Some(pid), _) => return failover::run(&plan, pid).await,
        (_, _, Some(pid)) => return interruption::freeze(&plan, pid).await,
        (_, None, None) => {}
    }
    let client = cluster.client();
    // A cluster that is not there is told once, not as a million failed requests.
    let members = client.cluster().await?.value.members.len();
    if members > plan.endpoints.len() {
        let (asked, all) = (plan.endpoints.len(), members);
        note(&format!("the load goes to {asked} of {all} members; name all with --endpoints"));
    }
    if arguments.preload {
        preload::run(&plan, &client).await.context("write all keys first")?;
    }
    if plan.duration.is_zero() {
        return Ok(Exit::Done);
    }
    let report = match plan.mode {
        Mode::Watch => watching::run(&plan, &client).await?,
        Mode::Checked => checked::run(&plan, &client).await?,
        _ => load::run(&plan).await?,
    };
    print(&report, cluster.output)?;
    Ok(match report.operations() {
        0 => Exit::Unavailable,
        _ if report.is_broken() => Exit::Failed,
        _ => Exit::Done,
    })
}

fn print(report: &Report, output: Output) -> anyhow::Result<()> {
    match output {
        Output::Simple | Output::Table => crate::screen::line(&report.text()),
        Output::Json => {
            let mut screen = crate::screen::Screen::new();
            screen.json(&report.json())?;
            screen.finish()
        }
    }
}

/// A progress bar on standard error; hidden where that is no terminal.
fn progress_bar(len: u64, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).expect("the template is a constant");
    ProgressBar::new(len).with_style(style.progress_chars("=> "))
}
