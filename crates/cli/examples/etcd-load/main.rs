//! A load generator that speaks etcd's v3 API, for `scripts/bench-vs-etcd.sh` only.
//!
//! A comparison is worth something when each side is asked in its own language by a generator that
//! does not hold it back; where both sides speak etcd's, this one asks both. It speaks gRPC over
//! HTTP/2 with the few protobuf messages written by hand, on one thread, with 12 connections spread
//! over all nodes, as etcd's own benchmark is used. It prints one JSON object with the same names as
//! `mainstay bench --output json`.
//!
//! It checks that every answer is one of success and that every watcher gets every event, and
//! deliberately nothing else.

mod connection;
mod messages;
mod requests;
mod tally;
mod watchers;
mod writer;

use anyhow::{Context, Result, bail};
use bytes::{Bytes, BytesMut};
use clap::{Parser, ValueEnum};

use connection::{call, connect};
use messages::{Field, field};

#[derive(Debug, Parser)]
struct Arguments {
    /// host:port of every node, separated by commas
    #[arg(long, value_delimiter = ',', required = true)]
    endpoints: Vec<String>,
    #[arg(long, value_enum)]
    mode: Mode,
    #[arg(long, default_value_t = 256)]
    clients: usize,
    #[arg(long, default_value_t = 12)]
    connections: usize,
    #[arg(long, default_value_t = 256)]
    value_size: usize,
    #[arg(long, default_value_t = 100_000)]
    keys: u64,
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Requests per second of all clients together; as many as are answered unless given
    #[arg(long)]
    rate: Option<u64>,
    /// With watch: how many watches are open
    #[arg(long, default_value_t = 100)]
    watchers: usize,
    /// With watch: how many streams carry them
    #[arg(long, default_value_t = 100)]
    streams: usize,
    /// With watch: each watches one key, instead of all keys
    #[arg(long)]
    one_key_each: bool,
    /// With watch: so many more watch all keys and never read what they get
    #[arg(long, default_value_t = 0)]
    deaf: usize,
    /// With failover: the process to kill
    #[arg(long)]
    kill_pid: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Write random keys.
    Put,
    /// Read random keys, linearizably.
    Get,
    /// Write random keys while watches are open; tell when their events arrive.
    Watch,
    /// Write all keys once, in transactions of 100.
    Load,
    /// Tell the place of the leader in the list of endpoints, from 0.
    Leader,
    /// Write until one write is acknowledged.
    FirstWrite,
    /// Kill a process; tell the time to the next acknowledged write.
    Failover,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(run(arguments))?;
    #[expect(clippy::print_stdout, reason = "the answer is what the program is for")]
    {
        println!("{answer}");
    }
    Ok(())
}

async fn run(arguments: Arguments) -> Result<serde_json::Value> {
    match arguments.mode {
        Mode::Put | Mode::Get | Mode::Load => requests::measure(&arguments).await,
        Mode::Watch => watchers::measure(&arguments).await,
        Mode::Leader => leader(&arguments).await,
        Mode::FirstWrite => {
            writer::Writer::new(&arguments).until_acknowledged().await?;
            Ok(serde_json::json!({ "first_write": true }))
        }
        Mode::Failover => writer::failover(&arguments).await,
    }
}

/// The node whose own id is the leader's in its status.
async fn leader(arguments: &Arguments) -> Result<serde_json::Value> {
    for (place, endpoint) in arguments.endpoints.iter().enumerate() {
        let Ok(mut connection) = connect(endpoint).await else { continue };
        let empty = BytesMut::from(&[0; 5][..]).freeze();
        let status = call(&mut connection, "/etcdserverpb.Maintenance/Status", empty).await?;
        let status: Bytes = status.slice(5..);
        // StatusResponse: header = 1 (ResponseHeader: member_id = 2), leader = 4.
        let header = field(&status, 1).context("a status has a header")?;
        let Field::Bytes(header) = header else { bail!("a header is a message") };
        let (Some(Field::Number(member)), Some(Field::Number(leader))) =
            (field(&header, 2), field(&status, 4))
        else {
            continue;
        };
        if member == leader {
            return Ok(serde_json::json!({ "leader": place }));
        }
    }
    bail!("no node says that it leads")
}
