//! `mainstay serve`: one node, until it is told to stop.
//!
//! What a node is lives in `mainstay_node`. Here its options get their flags, the log its form, and
//! the signals of the process their meaning: SIGINT and SIGTERM end the node in good order, a
//! second one ends the process at once.

use std::{ffi::OsString, path::PathBuf, process};

use anyhow::{Context, bail};
use clap::Args;
use mainstay_node::{Config, ConfigError, ExitReason, LogFormat, Options, Profile, RuntimeKind};
use mainstay_world::spawn;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::{
    exit::{Exit, UsageError},
    process::use_small_pages,
    screen::note,
};

#[derive(Debug, Args)]
#[command(after_help = "Each option is also a key of the file (data_dir for --data-dir) and a \
    variable (MAINSTAY_DATA_DIR).\nA flag wins over the variable, the variable over the file.")]
pub(crate) struct ServeArguments {
    /// A TOML file with options
    #[arg(long, env = "MAINSTAY_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// The name that people use for this node [default: node]
    #[arg(long)]
    name: Option<String>,
    /// Where the node keeps its data [default: NAME.mainstay]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where to listen for clients [default: 127.0.0.1:2379]
    #[arg(long, value_name = "HOST:PORT")]
    client_addr: Option<String>,
    /// Where to listen for peers [default: 127.0.0.1:2380]
    #[arg(long, value_name = "HOST:PORT")]
    peer_addr: Option<String>,
    /// Where clients find this node [default: the client address]
    #[arg(long, value_name = "URL,...", value_delimiter = ',')]
    advertise_client_urls: Option<Vec<String>>,
    /// Where peers dial this node [default: the peer address]
    #[arg(long, value_name = "HOST:PORT")]
    advertise_peer_addr: Option<String>,
    /// Create a cluster of these nodes; every node gets the same list
    #[arg(long, value_name = "NAME=PEER,...", value_delimiter = ',')]
    bootstrap: Option<Vec<String>>,
    /// Join the cluster of the node that serves clients here
    #[arg(long, value_name = "URL", conflicts_with = "bootstrap")]
    join: Option<String>,
    /// How long to go on trying to join [default: 60000]
    #[arg(long, value_name = "MS")]
    join_timeout_ms: Option<u64>,
    /// The failure zone of this node
    #[arg(long)]
    zone: Option<String>,
    /// The site of this node
    #[arg(long)]
    site: Option<String>,
    /// First timings of a cluster that this node creates: lan or wan [default: lan]
    #[arg(long)]
    profile: Option<Profile>,
    /// First quota of a cluster that this node creates [default: 8589934592]
    #[arg(long, value_name = "BYTES")]
    quota_bytes: Option<u64>,
    /// How often idle watchers of the etcd API hear how far they are [default: 600000]
    #[arg(long, value_name = "MS")]
    watch_progress_interval_ms: Option<u64>,
    /// Which log lines to write, as in info,mainstay_node=debug [default: info]
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
    /// How to write them: text or json [default: text]
    #[arg(long, value_name = "FORM")]
    log_format: Option<LogFormat>,
    /// The scheduler: current_thread or multi_thread [default: current_thread]
    #[arg(long, value_name = "KIND")]
    runtime: Option<RuntimeKind>,
}

impl ServeArguments {
    /// The file to read, and what the flags say.
    fn into_options(self) -> (Option<PathBuf>, Options) {
        let options = Options {
            name: self.name,
            data_dir: self.data_dir,
            client_addr: self.client_addr,
            peer_addr: self.peer_addr,
            advertise_client_urls: self.advertise_client_urls,
            advertise_peer_addr: self.advertise_peer_addr,
            bootstrap: self.bootstrap,
            join: self.join,
            join_timeout_ms: self.join_timeout_ms,
            zone: self.zone,
            site: self.site,
            profile: self.profile,
            quota_bytes: self.quota_bytes,
            watch_progress_interval_ms: self.watch_progress_interval_ms,
            log: self.log,
            log_format: self.log_format,
            runtime: self.runtime,
        };
        (self.config, options)
    }
}

pub(crate) fn run(arguments: ServeArguments) -> anyhow::Result<Exit> {
    let config = match resolve(arguments, std::env::vars_os()) {
        Ok(config) => config,
        // What is wrong with a file is told with the cause, which names line and key.
        Err(error) => bail!(UsageError(format!("{:#}", anyhow::Error::from(error)))),
    };
    start_log(&config)?;
    use_small_pages();
    let runtime = mainstay_node::runtime(config.runtime).context("start the event loop")?;
    let reason = runtime.block_on(Box::pin(async {
        let shutdown = shutdown()?;
        anyhow::Ok(mainstay_node::run(config, shutdown).await?)
    }))?;
    match reason {
        ExitReason::Requested => Ok(Exit::Done),
        ExitReason::Removed => {
            note(
                "the cluster removed this node; its data folder is of no use any more, and with an \
                 empty one and --join it can join again as a new node",
            );
            Ok(Exit::Done)
        }
        ExitReason::StorageFailed { why } => {
            note(&format!(
                "error: the storage failed: {why}; acknowledged writes are safe on the other nodes, start this one again"
            ));
            Ok(Exit::StorageFailed)
        }
    }
}

fn resolve(
    arguments: ServeArguments,
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Config, ConfigError> {
    let (file, flags) = arguments.into_options();
    let file = match file {
        Some(path) => Options::from_file(&path)?,
        None => Options::default(),
    };
    // Variables of other programs may hold anything.
    let text = |(name, value): (OsString, OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    Config::resolve(flags, Options::from_environment(variables.filter_map(text))?, file)
}

/// What libraries may say unless the option names them: openraft warns at every heartbeat to a
/// node that is down, twenty times a second.
const LIBRARIES: &str = "openraft=error,sled=warn,hyper=warn";

fn start_log(config: &Config) -> anyhow::Result<()> {
    let filter = match EnvFilter::try_new(format!("{LIBRARIES},{}", config.log)) {
        Ok(filter) => filter,
        Err(error) => {
            bail!(UsageError(format!("the option log cannot be {:?}: {error}", config.log)))
        }
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match config.log_format {
        LogFormat::Text => builder.with_ansi(false).init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}

/// Done at the first SIGINT or SIGTERM.
fn shutdown() -> anyhow::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        spawn(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            note("told twice to stop: ending at once");
            process::exit(i32::from(Exit::Failed as u8));
        });
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        serve: ServeArguments,
    }

    fn parse(words: &[&str]) -> ServeArguments {
        let words = ["serve"].iter().chain(words);
        Program::try_parse_from(words).expect("parses").serve
    }

    fn variables(pairs: &[(&str, &str)]) -> impl Iterator<Item = (OsString, OsString)> {
        let owned: Vec<_> =
            pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        owned.into_iter()
    }

    #[test]
    fn a_flag_wins_over_the_environment_and_that_over_the_file() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("mainstay.toml");
        let text = "name = \"of-file\"\nzone = \"of-file\"\nsite = \"of-file\"\n";
        std::fs::write(&file, text).expect("written");
        let path = file.to_str().expect("text");
        let environment = variables(&[("MAINSTAY_ZONE", "of-env"), ("MAINSTAY_NAME", "of-env")]);
        let arguments = parse(&["--config", path, "--name", "of-flag"]);
        let config = resolve(arguments, environment).expect("resolves");
        assert_eq!(
            (config.name.as_str(), config.zone.as_str(), config.site.as_str()),
            ("of-flag", "of-env", "of-file")
        );
    }

    #[test]
    fn every_option_of_a_node_has_a_flag() {
        let command = <Program as clap::CommandFactory>::command();
        for name in Options::NAMES {
            let flag = name.replace('_', "-");
            let known = command.get_arguments().any(|known| known.get_long() == Some(&flag));
            assert!(known, "there is no --{flag}");
        }
    }

    #[test]
    fn a_wrong_file_is_told_with_line_and_key() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("mainstay.toml");
        std::fs::write(&file, "name = \"n1\"\nnmae = \"n2\"\n").expect("written");
        let arguments = parse(&["--config", file.to_str().expect("text")]);
        let error = resolve(arguments, variables(&[])).expect_err("an unknown key").to_string();
        assert!(error.contains("line 2") && error.contains("nmae"), "{error}");
    }

    #[test]
    fn lists_are_written_with_commas() {
        let arguments = parse(&["--name", "n1", "--bootstrap", "n1=a:1,n2=b:2"]);
        let (_file, options) = arguments.into_options();
        assert_eq!(options.bootstrap, Some(vec!["n1=a:1".to_owned(), "n2=b:2".to_owned()]));
    }
}
