//! Clients that each wait for an answer before they ask again, and what their answers took.
//!
//! With a rate, a request that had to wait for the one before it is timed from when it was due: a
//! server that stands still is not excused for the requests that nobody sent.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::Result;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    Arguments, Mode,
    connection::{Connection, call, connect},
    messages::{put, range, stamp, txn},
    tally::{Clock, Tally, lock},
};

/// The longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Keys of one transaction when loading.
const BATCH: u64 = 100;

/// What all clients share.
pub(crate) struct Shared {
    mode: Mode,
    keys: u64,
    value: Bytes,
    epoch: Instant,
    start: Instant,
    end: Instant,
    /// Between two requests of one client.
    interval: Option<Duration>,
    /// The next key to load.
    next: Mutex<u64>,
    pub tally: Mutex<Tally>,
}

impl Shared {
    /// `epoch` is where stamps in values count from, `start` when the clients begin.
    pub(crate) fn new(arguments: &Arguments, epoch: Instant, start: Instant) -> Result<Arc<Self>> {
        let interval = |rate| Duration::from_secs_f64(arguments.clients as f64 / rate as f64);
        Ok(Arc::new(Self {
            mode: arguments.mode,
            keys: arguments.keys,
            value: Bytes::from(vec![b'v'; arguments.value_size.max(8)]),
            epoch,
            start,
            end: start + Duration::from_secs(arguments.seconds),
            interval: arguments.rate.map(interval),
            next: Mutex::new(0),
            tally: Mutex::new(Tally::new()?),
        }))
    }
}

pub(crate) async fn connect_all(arguments: &Arguments, count: usize) -> Result<Vec<Connection>> {
    let mut connections = Vec::new();
    for index in 0..count {
        let endpoint = &arguments.endpoints[index % arguments.endpoints.len()];
        connections.push(connect(endpoint).await?);
    }
    Ok(connections)
}

/// Lets all clients ask until their time is over.
pub(crate) async fn run(
    arguments: &Arguments,
    connections: &[Connection],
    shared: &Arc<Shared>,
) -> Result<()> {
    let clients: Vec<_> = (0..arguments.clients)
        .map(|index| {
            let connection = connections[index % connections.len()].clone();
            let offset =
                shared.interval.map(|each| each.mul_f64(index as f64 / arguments.clients as f64));
            tokio::spawn(client(connection, Arc::clone(shared), index as u64, offset))
        })
        .collect();
    for client in clients {
        client.await?;
    }
    Ok(())
}

pub(crate) async fn measure(arguments: &Arguments) -> Result<Value> {
    let connections = connect_all(arguments, arguments.connections.min(arguments.clients)).await?;
    let clock = Clock::new()?;
    let shared = Shared::new(arguments, clock.start, clock.start)?;
    run(arguments, &connections, &shared).await?;
    let (elapsed, cpu) = (clock.elapsed(), clock.cpu()?);
    let tally = lock(&shared.tally);
    let operations = tally.operations();
    Ok(json!({
        "mode": format!("{:?}", arguments.mode).to_lowercase(),
        "clients": arguments.clients,
        "operations": operations,
        "keys_written": tally.keys,
        "seconds": elapsed,
        "throughput": operations as f64 / elapsed,
        "latency_ms": tally.latency_ms(),
        "failed": tally.errors.values().sum::<u64>(),
        "errors": tally.errors,
        "cpu_seconds": cpu,
        "cpu_seconds_per_100000": cpu * 100_000.0 / operations.max(1) as f64,
    }))
}

async fn client(
    mut connection: Connection,
    shared: Arc<Shared>,
    seed: u64,
    offset: Option<Duration>,
) {
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut due = offset.map(|offset| shared.start + offset);
    loop {
        let began = begin(&mut due, shared.interval).await;
        let Some((path, message, keys)) = next_request(&shared, &mut random, began) else { return };
        let outcome = timeout(PATIENCE, call(&mut connection, path, message)).await;
        let mut tally = lock(&shared.tally);
        match outcome {
            Ok(Ok(_answer)) => {
                tally.took(began.elapsed());
                tally.keys += keys;
            }
            Ok(Err(error)) => tally.failed(format!("{error:#}")),
            Err(_elapsed) => tally.failed("no answer".to_owned()),
        }
    }
}

/// When the next request begins. The timer's own lateness counts against nobody.
async fn begin(due: &mut Option<Instant>, interval: Option<Duration>) -> Instant {
    let now = Instant::now();
    let (Some(at), Some(interval)) = (*due, interval) else { return now };
    *due = Some(at + interval);
    if at <= now {
        return at;
    }
    tokio::time::sleep_until(at.into()).await;
    Instant::now()
}

/// Path, message and the number of keys that it writes; `None` when there is nothing left to do.
fn next_request(
    shared: &Shared,
    random: &mut u64,
    began: Instant,
) -> Option<(&'static str, Bytes, u64)> {
    if shared.mode == Mode::Load {
        let mut next = lock(&shared.next);
        let keys = *next..(*next + BATCH).min(shared.keys);
        *next += BATCH;
        return (!keys.is_empty()).then(|| {
            ("/etcdserverpb.KV/Txn", txn(keys.clone(), &shared.value), keys.end - keys.start)
        });
    }
    if began >= shared.end {
        return None;
    }
    let key = pick(random, shared.keys);
    Some(match shared.mode {
        Mode::Get => ("/etcdserverpb.KV/Range", range(key), 0),
        Mode::Watch => {
            let stamped = stamp(&shared.value, began.duration_since(shared.epoch));
            ("/etcdserverpb.KV/Put", put(key, &stamped), 1)
        }
        _ => ("/etcdserverpb.KV/Put", put(key, &shared.value), 1),
    })
}

/// A random key: xorshift is random enough for that.
pub(crate) fn pick(random: &mut u64, keys: u64) -> u64 {
    let mut x = *random | 1;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    *random = x;
    (x >> 11) % keys
}
