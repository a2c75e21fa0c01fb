//! `mainstay lease`: grant, renew, look at and revoke leases.

use std::{io::Write, time::Duration};

use clap::{Args, Subcommand};
use mainstay_client::{Client, Lease, LeaseGranted};
use mainstay_world::sleep;

use crate::{
    arguments::Output,
    encoding::{escaped, parse_duration, show_ms},
    exit::Exit,
    screen::Screen,
    table::Table,
};

/// A lease is renewed so many times within its time to live, so that two losses in a row do no
/// harm.
const RENEWALS: u32 = 3;

#[derive(Debug, Args)]
pub(crate) struct LeaseArguments {
    #[command(subcommand)]
    command: LeaseCommand,
}

#[derive(Debug, Subcommand)]
enum LeaseCommand {
    /// Grant a lease; prints its id
    Grant {
        /// How long it lives without being renewed: 500ms, 10s, 2m, 1h; a bare number is seconds
        #[arg(value_parser = parse_duration)]
        ttl: Duration,
        /// The wanted id [default: one is made up]
        #[arg(long, env = "MAINSTAY_ID", default_value_t = 0, hide_default_value = true)]
        id: u64,
    },
    /// End a lease and delete its keys
    Revoke {
        /// The lease
        id: u64,
    },
    /// Renew a lease, again and again until interrupted
    KeepAlive {
        /// The lease
        id: u64,
        /// Renew it once
        #[arg(long, env = "MAINSTAY_ONCE")]
        once: bool,
    },
    /// List all leases
    List,
    /// Show a lease and its keys
    Show {
        /// The lease
        id: u64,
    },
}

impl LeaseArguments {
    /// Whether it is more than a look.
    pub(crate) const fn changes_something(&self) -> bool {
        match self.command {
            LeaseCommand::Grant { .. }
            | LeaseCommand::Revoke { .. }
            | LeaseCommand::KeepAlive { .. } => true,
            LeaseCommand::List | LeaseCommand::Show { .. } => false,
        }
    }
}

pub(crate) async fn run(
    arguments: LeaseArguments,
    client: &Client,
    output: Output,
) -> anyhow::Result<Exit> {
    match arguments.command {
        LeaseCommand::Grant { ttl, id } => {
            let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
            let lease = client.lease_grant(ttl_ms, id).await?.value;
            print_granted(lease, output, "lease {id} granted for {ttl}")?;
        }
        LeaseCommand::Revoke { id } => {
            let revoked = client.lease_revoke(id).await?.value;
            let mut screen = Screen::new();
            match output {
                Output::Simple => {
                    let plural = if revoked.deleted == 1 { "" } else { "s" };
                    writeln!(
                        screen,
                        "lease {id} revoked, deleted {} key{plural}",
                        revoked.deleted
                    )?;
                }
                Output::Table => {
                    let mut table = Table::new(&["LEASE", "DELETED", "REVISION"]);
                    let numbers = [id, revoked.deleted, revoked.revision];
                    table.row(numbers.map(|number| number.to_string()));
                    screen.write_all(table.render().as_bytes())?;
                }
                Output::Json => screen.json(&serde_json::json!({
                    "deleted": revoked.deleted.to_string(),
                    "revision": revoked.revision.to_string(),
                }))?,
            }
            screen.finish()?;
        }
        LeaseCommand::KeepAlive { id, once } => loop {
            let lease = client.lease_keep_alive(id).await?.value;
            print_granted(lease, output, "lease {id} renewed for {ttl}")?;
            if once {
                break;
            }
            sleep(Duration::from_millis(lease.ttl_ms) / RENEWALS).await;
        },
        LeaseCommand::List => list(client, output).await?,
        LeaseCommand::Show { id } => show(&client.lease(id).await?.value, output)?,
    }
    Ok(Exit::Done)
}

fn print_granted(lease: LeaseGranted, output: Output, sentence: &str) -> anyhow::Result<()> {
    let mut screen = Screen::new();
    let (id, ttl) = (lease.id.to_string(), show_ms(lease.ttl_ms));
    match output {
        Output::Simple => {
            writeln!(screen, "{}", sentence.replace("{id}", &id).replace("{ttl}", &ttl))?;
        }
        Output::Table => {
            let mut table = Table::new(&["LEASE", "TTL"]);
            table.row([id, ttl]);
            screen.write_all(table.render().as_bytes())?;
        }
        Output::Json => screen.json(&serde_json::json!({ "id": id, "ttl_ms": lease.ttl_ms }))?,
    }
    screen.finish()
}

async fn list(client: &Client, output: Output) -> anyhow::Result<()> {
    let answer = client.leases().await?;
    let ids: Vec<_> = answer.value.iter().map(u64::to_string).collect();
    let mut screen = Screen::new();
    match output {
        Output::Simple => {
            for id in ids {
                writeln!(screen, "{id}")?;
            }
        }
        Output::Table => {
            let mut table = Table::new(&["LEASE"]);
            for id in ids {
                table.row([id]);
            }
            screen.write_all(table.render().as_bytes())?;
        }
        Output::Json => screen.json(&serde_json::json!({
            "revision": answer.header.revision.to_string(),
            "leases": ids,
        }))?,
    }
    screen.finish()
}

fn show(lease: &Lease, output: Output) -> anyhow::Result<()> {
    let mut screen = Screen::new();
    match output {
        Output::Simple => {
            let (ttl, left) = (show_ms(lease.ttl_ms), left(lease));
            writeln!(screen, "lease {}, ttl {ttl}, {left} left", lease.id)?;
            for key in &lease.keys {
                writeln!(screen, "{}", escaped(key))?;
            }
        }
        Output::Table => {
            let mut table = Table::new(&["LEASE", "TTL", "LEFT", "KEY"]);
            let (id, ttl) = (lease.id.to_string(), show_ms(lease.ttl_ms));
            let left = left(lease);
            if lease.keys.is_empty() {
                table.row([id.clone(), ttl.clone(), left.clone(), "-".to_owned()]);
            }
            for key in &lease.keys {
                table.row([id.clone(), ttl.clone(), left.clone(), escaped(key)]);
            }
            screen.write_all(table.render().as_bytes())?;
        }
        Output::Json => {
            let keys: Vec<_> =
                lease.keys.iter().map(|key| crate::encoding::Encoding::Base64.show(key)).collect();
            screen.json(&serde_json::json!({
                "id": lease.id.to_string(),
                "ttl_ms": lease.ttl_ms,
                "remaining_ms": lease.remaining_ms,
                "keys": keys,
            }))?;
        }
    }
    screen.finish()
}

/// What is left of a lease, which is seldom a round number.
fn left(lease: &Lease) -> String {
    format!("{}.{}s", lease.remaining_ms / 1_000, lease.remaining_ms % 1_000 / 100)
}
