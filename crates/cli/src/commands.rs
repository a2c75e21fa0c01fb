//! The commands, one file each; every one turns its arguments into calls and the answers into
//! text.

pub(crate) mod bench;
pub(crate) mod compact;
pub(crate) mod completion;
pub(crate) mod del;
pub(crate) mod detector;
pub(crate) mod dev;
pub(crate) mod doctor;
pub(crate) mod get;
pub(crate) mod health;
pub(crate) mod import_etcd;
pub(crate) mod leader;
pub(crate) mod lease;
pub(crate) mod member;
pub(crate) mod put;
pub(crate) mod read_only;
pub(crate) mod recover;
pub(crate) mod serve;
pub(crate) mod status;
pub(crate) mod txn;
pub(crate) mod watch;

use std::future::Future;

use anyhow::Context;
use tokio::runtime::Builder;

use crate::{
    arguments::{Arguments, ClusterArguments, Command},
    exit::Exit,
};

/// Does what the command line says.
pub(crate) fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let cluster = arguments.cluster;
    match arguments.command {
        Command::Dev(dev) => on_one_thread(dev::run(dev)),
        Command::Serve(serve) => serve::run(*serve),
        Command::Completion(completion) => completion::run(&completion),
        Command::Recover(recover) => on_one_thread(recover::run(recover, cluster.output)),
        command => on_one_thread(run_client(command, cluster)),
    }
}

async fn run_client(command: Command, cluster: ClusterArguments) -> anyhow::Result<Exit> {
    let client = cluster.client();
    let output = cluster.output;
    match command {
        Command::Get(get) => get::run(get, &client, output).await,
        Command::Put(put) => put::run(put, &client, output).await,
        Command::Del(del) => del::run(del, &client, output).await,
        Command::Txn(txn) => txn::run(txn, &client, output).await,
        Command::Watch(watch) => watch::run(watch, &client, output).await,
        Command::Lease(lease) => lease::run(lease, &client, output).await,
        Command::Compact(compact) => compact::run(&compact, &client, output).await,
        Command::ReadOnly(read_only) => read_only::run(&read_only, &client, output).await,
        Command::Status => status::run(&client, output).await,
        Command::Member(member) => member::run(&member, &client, output).await,
        Command::Leader(leader) => leader::run(&leader, &client, output).await,
        Command::Detector(detector) => detector::run(&detector, &client, output).await,
        Command::Health => health::run(&client, output).await,
        Command::Doctor(doctor) => doctor::run(doctor, &client, output).await,
        Command::ImportEtcd(import) => Box::pin(import_etcd::run(import, &cluster)).await,
        Command::Bench(bench) => Box::pin(bench::run(bench, &cluster)).await,
        Command::Dev(_) | Command::Serve(_) | Command::Completion(_) | Command::Recover(_) => {
            unreachable!("these commands do not talk to a cluster")
        }
    }
}

/// A client waits far more than it works: one thread does.
fn on_one_thread<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime =
        Builder::new_current_thread().enable_all().build().context("start the event loop")?;
    runtime.block_on(future)
}
