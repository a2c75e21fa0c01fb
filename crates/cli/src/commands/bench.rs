//! `mainstay bench`: a cluster under load.

use anyhow::bail;
use clap::Args;

use crate::{arguments::ClusterArguments, exit::Exit};

#[derive(Debug, Args)]
pub(crate) struct BenchArguments {}

pub(crate) async fn run(
    _arguments: BenchArguments,
    _cluster: &ClusterArguments,
) -> anyhow::Result<Exit> {
    bail!("bench comes with the next commit")
}
