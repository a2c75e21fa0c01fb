//! `mainstay put`: one key.

use std::io::{self, Read, Write};

use anyhow::bail;
use bytes::Bytes;
use clap::Args;
use mainstay_client::{Client, Condition, Origin, PutRequest};

use crate::{
    arguments::Output,
    exit::{Exit, UsageError},
    screen::Screen,
    table::Table,
};

/// What is read from standard input at most; nodes take far less, and say so.
const INPUT_BYTES_MAX: u64 = 64 * 1024 * 1024;

#[derive(Debug, Args)]
pub(crate) struct PutArguments {
    /// The key
    key: String,
    /// The value; '-' or nothing reads it from standard input, exactly
    value: Option<String>,
    /// Attach this lease: the key ends with it
    #[arg(long, env = "MAINSTAY_LEASE", default_value_t = 0, hide_default_value = true)]
    #[arg(value_name = "ID")]
    lease: u64,
    /// Write only over this revision of the key
    #[arg(long, env = "MAINSTAY_IF_MATCH", value_name = "REVISION")]
    if_match: Option<u64>,
    /// Write only if the key does not exist
    #[arg(long, env = "MAINSTAY_CREATE", visible_alias = "if-none-match")]
    #[arg(conflicts_with = "if_match")]
    create: bool,
    #[command(flatten)]
    repeat: RepeatArguments,
}

/// What makes a repeated write recognisable.
#[derive(Debug, Args)]
pub(crate) struct RepeatArguments {
    /// Repeated with the same key of 1 to 64 bytes within 5 minutes, the write takes effect once
    /// [default: a new one]
    #[arg(long, env = "MAINSTAY_IDEMPOTENCY_KEY", value_name = "KEY")]
    idempotency_key: Option<String>,
}

impl RepeatArguments {
    /// The origin of the write. Without a key of the user's a fresh one is made, so that a lost
    /// answer can be asked for again.
    pub(crate) fn origin(self) -> Origin {
        match self.idempotency_key {
            Some(key) => Origin::Key(Bytes::from(key)),
            None => mainstay_client::fresh_key(),
        }
    }
}

pub(crate) async fn run(
    arguments: PutArguments,
    client: &Client,
    output: Output,
) -> anyhow::Result<Exit> {
    let value = match arguments.value {
        Some(text) if text != "-" => Bytes::from(text),
        Some(_) | None => read_input(io::stdin().lock(), "standard input")?,
    };
    let condition = match arguments.if_match {
        Some(revision) => Some(Condition::ModRevision(revision)),
        None => arguments.create.then_some(Condition::Absent),
    };
    let request = PutRequest {
        lease: arguments.lease,
        condition,
        origin: arguments.repeat.origin(),
        ..PutRequest::new(arguments.key, value)
    };
    let written = client.put(request).await?.value;
    let mut screen = Screen::new();
    match output {
        Output::Simple => writeln!(screen, "revision {}", written.revision)?,
        Output::Table => {
            let mut table = Table::new(&["REVISION", "CREATED"]);
            let created = if written.created { "yes" } else { "no" };
            table.row([written.revision.to_string(), created.to_owned()]);
            screen.write_all(table.render().as_bytes())?;
        }
        Output::Json => screen.json(&serde_json::json!({
            "revision": written.revision.to_string(),
            "created": written.created,
        }))?,
    }
    screen.finish()?;
    Ok(Exit::Done)
}

/// Everything that `input` has, within the limit; `name` is what people call it.
pub(crate) fn read_input(input: impl Read, name: &str) -> anyhow::Result<Bytes> {
    let mut bytes = Vec::new();
    if let Err(error) = input.take(INPUT_BYTES_MAX + 1).read_to_end(&mut bytes) {
        bail!(UsageError(format!("{name} cannot be read: {error}")));
    }
    if bytes.len() as u64 > INPUT_BYTES_MAX {
        bail!(UsageError(format!("{name} is longer than {INPUT_BYTES_MAX} bytes")));
    }
    Ok(Bytes::from(bytes))
}
