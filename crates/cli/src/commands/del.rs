//! `mainstay del`: one key, or all keys of a prefix in one revision.

use std::io::Write;

use anyhow::bail;
use bytes::Bytes;
use clap::Args;
use mainstay_client::{
    Client, DeleteRequest, Deleted, TxnRequest,
    command::{Delete, KeyRange, Operation, Txn},
    outcome::OperationOutcome,
};

use crate::{
    arguments::Output,
    commands::put::RepeatArguments,
    exit::{Exit, UsageError},
    screen::Screen,
    table::Table,
};

#[derive(Debug, Args)]
pub(crate) struct DelArguments {
    /// The key; with --prefix what the keys start with
    #[arg(required_unless_present = "all")]
    key: Option<String>,
    /// Delete all keys that start with KEY
    #[arg(long, requires = "key")]
    prefix: bool,
    /// Delete every key of the store
    #[arg(long, conflicts_with_all = ["key", "prefix"])]
    all: bool,
    /// Delete only if this is the key's revision
    #[arg(long, env = "MAINSTAY_IF_MATCH", conflicts_with_all = ["prefix", "all"])]
    #[arg(value_name = "REVISION")]
    if_match: Option<u64>,
    #[command(flatten)]
    repeat: RepeatArguments,
}

pub(crate) async fn run(
    arguments: DelArguments,
    client: &Client,
    output: Output,
) -> anyhow::Result<Exit> {
    let is_range = arguments.prefix || arguments.all;
    let key = Bytes::from(arguments.key.unwrap_or_default());
    if key.is_empty() && !arguments.all {
        // An unset variable in a script must not empty the store.
        bail!(UsageError("a key or prefix is not empty; --all deletes every key".to_owned()));
    }
    let origin = arguments.repeat.origin();
    let deleted = if is_range {
        let range = if arguments.all { KeyRange::all() } else { KeyRange::prefix(key) };
        let txn = Txn {
            compares: Vec::new(),
            success: vec![Operation::Delete(Delete { range, want_previous: false })],
            failure: Vec::new(),
        };
        let answer = client.txn(TxnRequest { origin, ..TxnRequest::new(txn) }).await?.value;
        let Some(OperationOutcome::Deleted(outcome)) = answer.outcome.operations.first() else {
            bail!("the node answered a delete with something else");
        };
        Deleted { deleted: outcome.deleted, revision: answer.revision }
    } else {
        let if_mod_revision = arguments.if_match;
        client
            .delete(DeleteRequest { if_mod_revision, origin, ..DeleteRequest::new(key) })
            .await?
            .value
    };
    let mut screen = Screen::new();
    match output {
        Output::Simple => {
            let plural = if deleted.deleted == 1 { "" } else { "s" };
            writeln!(
                screen,
                "deleted {} key{plural}, revision {}",
                deleted.deleted, deleted.revision
            )?;
        }
        Output::Table => {
            let mut table = Table::new(&["DELETED", "REVISION"]);
            table.row([deleted.deleted.to_string(), deleted.revision.to_string()]);
            screen.write_all(table.render().as_bytes())?;
        }
        Output::Json => screen.json(&serde_json::json!({
            "deleted": deleted.deleted.to_string(),
            "revision": deleted.revision.to_string(),
        }))?,
    }
    screen.finish()?;
    Ok(Exit::Done)
}
