//! `mainstay compact`: forget versions that nobody reads any more.

use std::io::Write;

use clap::Args;
use mainstay_client::Client;

use crate::{arguments::Output, exit::Exit, screen::Screen, table::Table};

#[derive(Debug, Args)]
pub(crate) struct CompactArguments {
    /// The lowest revision that stays readable
    revision: u64,
}

pub(crate) async fn run(
    arguments: &CompactArguments,
    client: &Client,
    output: Output,
) -> anyhow::Result<Exit> {
    let compacted = client.compact(arguments.revision).await?.value;
    let mut screen = Screen::new();
    match output {
        Output::Simple => writeln!(
            screen,
            "compacted: revisions from {} on are readable, the present one is {}",
            compacted.compact_revision, compacted.revision
        )?,
        Output::Table => {
            let mut table = Table::new(&["COMPACTED", "REVISION"]);
            table.row([compacted.compact_revision.to_string(), compacted.revision.to_string()]);
            screen.write_all(table.render().as_bytes())?;
        }
        Output::Json => screen.json(&serde_json::json!({
            "revision": compacted.revision.to_string(),
            "compact_revision": compacted.compact_revision.to_string(),
        }))?,
    }
    screen.finish()?;
    Ok(Exit::Done)
}
