//! The command line: what can be asked for, and the flags that all client commands share.
//!
//! Every flag is also an environment variable, `MAINSTAY_` and the flag in capitals; the flag wins.

use std::{sync::Arc, time::Duration};

use clap::{
    ArgMatches, Args, CommandFactory, Parser, Subcommand, ValueEnum,
    error::{ContextKind, ContextValue, ErrorKind},
    parser::ValueSource,
};
use mainstay_client::{Client, ClientOptions, Endpoint};
use mainstay_world::RealNet;

use crate::{
    commands::{
        bench::BenchArguments, compact::CompactArguments, completion::CompletionArguments,
        del::DelArguments, detector::DetectorArguments, dev::DevArguments, doctor::DoctorArguments,
        get::GetArguments, import_etcd::ImportEtcdArguments, leader::LeaderArguments,
        lease::LeaseArguments, member::MemberArguments, put::PutArguments,
        read_only::ReadOnlyArguments, recover::RecoverArguments, serve::ServeArguments,
        txn::TxnArguments, watch::WatchArguments,
    },
    encoding::parse_duration,
};

/// A Raft-replicated coordination node: keys, leases, watches, transactions.
#[derive(Debug, Parser)]
#[command(name = "mainstay", version, max_term_width = 100)]
#[command(after_help = "Every flag is also an environment variable: --data-dir is \
    MAINSTAY_DATA_DIR.\nExit codes: 0 done, 1 failed with no effect, 2 usage, 3 no such key or \
    failed compare,\n4 unavailable, 5 outcome unknown, 74 storage failed.")]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) cluster: ClusterArguments,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Which cluster to ask, and how to show what it says.
#[derive(Debug, Clone, Args)]
pub(crate) struct ClusterArguments {
    /// Nodes to talk to, separated by commas; the next is tried when one cannot be reached
    #[arg(long, env = "MAINSTAY_ENDPOINTS", global = true, value_delimiter = ',')]
    #[arg(default_value = "http://127.0.0.1:2379", hide_env_values = true, value_name = "URL,...")]
    #[arg(help_heading = "Cluster")]
    pub(crate) endpoints: Vec<Endpoint>,
    /// How to show the answer
    #[arg(long, short, env = "MAINSTAY_OUTPUT", global = true, value_enum)]
    #[arg(default_value_t, hide_env_values = true, value_name = "FORM", help_heading = "Cluster")]
    pub(crate) output: Output,
    /// How long a command may take, all attempts included
    #[arg(long, env = "MAINSTAY_TIMEOUT", global = true, value_parser = parse_timeout)]
    #[arg(default_value = "5s", hide_env_values = true, value_name = "TIME")]
    #[arg(help_heading = "Cluster")]
    pub(crate) timeout: Duration,
}

/// How an answer is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Plain text, one thing a line, fit for scripts.
    #[default]
    Simple,
    /// Columns with a head, for people.
    Table,
    /// JSON as the HTTP API writes it: bytes in base64, 64-bit numbers as strings.
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a cluster on this machine to try things out
    Dev(DevArguments),
    /// Run one node
    Serve(Box<ServeArguments>),
    /// Read a key, or all keys of a prefix
    Get(GetArguments),
    /// Write a key
    Put(PutArguments),
    /// Delete a key, or all keys of a prefix
    Del(DelArguments),
    /// Carry out a transaction
    Txn(TxnArguments),
    /// Watch a key, or all keys of a prefix, as they change
    Watch(WatchArguments),
    /// Grant, renew, look at and revoke leases
    Lease(LeaseArguments),
    /// Forget versions of keys that are older than a revision
    Compact(CompactArguments),
    /// Hold writes back on all nodes, or take them again
    ReadOnly(ReadOnlyArguments),
    /// Show the members of the cluster and how many failures it tolerates now
    Status,
    /// Add, promote, remove and list members
    Member(MemberArguments),
    /// Have another node lead
    Leader(LeaderArguments),
    /// Show who is alive as a node sees it, and the last elections with their reasons
    Detector(DetectorArguments),
    /// Ask every endpoint how well it is
    Health,
    /// Say what is wrong with a cluster, or with a stopped node's data folder, and what to do
    Doctor(DoctorArguments),
    /// Make a new cluster of what a lost majority left behind
    Recover(RecoverArguments),
    /// Fill an empty cluster with the keys and leases of a running etcd
    ImportEtcd(ImportEtcdArguments),
    /// Measure a cluster under load
    Bench(BenchArguments),
    /// Print the completion script of a shell
    Completion(CompletionArguments),
}

/// The flags for client commands that mean nothing to some commands, by name.
const FOREIGN_FLAGS: [(&str, &[&str]); 4] = [
    ("dev", &["endpoints", "output", "timeout"]),
    ("serve", &["endpoints", "output", "timeout"]),
    ("completion", &["endpoints", "output", "timeout"]),
    ("recover", &["endpoints", "timeout"]),
];

/// All that can be asked for. Help and completion leave out what a command would refuse.
pub(crate) fn command_line() -> clap::Command {
    let mut all = Arguments::command();
    for (name, flags) in FOREIGN_FLAGS {
        let hidden: Vec<_> = all
            .get_arguments()
            .filter(|argument| flags.contains(&argument.get_id().as_str()))
            .map(|argument| argument.clone().hide(true))
            .collect();
        all = all.mut_subcommand(name, |command| command.args(hidden));
    }
    all
}

/// The environment variable that the value or the flag of `error` came from, which nobody sees on
/// the command line. `is_set` tells whether there is such a variable.
pub(crate) fn variable_behind(
    error: &clap::Error,
    words: &[String],
    is_set: impl Fn(&str) -> bool,
) -> Option<String> {
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    let flag = argument.split([' ', '=']).next().filter(|flag| flag.starts_with("--"))?;
    let given = |word: &String| word.split('=').next() == Some(flag);
    let variable = format!("MAINSTAY_{}", flag[2..].replace('-', "_").to_uppercase());
    (is_set(&variable) && !words.iter().any(given)).then_some(variable)
}

impl Command {
    /// Whether something is other than before when the command was carried out, so that it must
    /// not be reported as without effect afterwards.
    pub(crate) const fn changes_something(&self) -> bool {
        match self {
            Self::Put(_)
            | Self::Del(_)
            | Self::Txn(_)
            | Self::Compact(_)
            | Self::Leader(_)
            | Self::ImportEtcd(_) => true,
            Self::Lease(lease) => lease.changes_something(),
            Self::ReadOnly(read_only) => read_only.changes_something(),
            Self::Member(member) => member.changes_something(),
            Self::Dev(_)
            | Self::Serve(_)
            | Self::Get(_)
            | Self::Watch(_)
            | Self::Status
            | Self::Detector(_)
            | Self::Health
            | Self::Doctor(_)
            | Self::Recover(_)
            | Self::Bench(_)
            | Self::Completion(_) => false,
        }
    }
}

impl Arguments {
    /// The error of a flag for client commands that was given to another one.
    pub(crate) fn misplaced(&self, matches: &ArgMatches) -> Option<clap::Error> {
        let (name, of_command) = matches.subcommand()?;
        let given = |flag: &&&str| of_command.value_source(flag) == Some(ValueSource::CommandLine);
        let (_name, flags) = FOREIGN_FLAGS.iter().find(|(foreign, _flags)| *foreign == name)?;
        let flag = flags.iter().find(given)?;
        let message = format!("'{name}' does not talk to a cluster and has no --{flag}");
        Some(command_line().error(ErrorKind::ArgumentConflict, message))
    }
}

impl ClusterArguments {
    /// A client of the cluster.
    pub(crate) fn client(&self) -> Client {
        let options =
            ClientOptions { timeout: self.timeout, ..ClientOptions::new(self.endpoints.clone()) };
        Client::new(Arc::new(RealNet), options)
    }
}

/// A time to wait is at least a millisecond and at most an hour.
fn parse_timeout(text: &str) -> Result<Duration, String> {
    let timeout = parse_duration(text)?;
    if timeout.is_zero() || timeout > Duration::from_secs(3_600) {
        return Err("it is between 1ms and 1h".to_owned());
    }
    Ok(timeout)
}

#[cfg(test)]
mod tests;
