//! Watches under writes: how many events arrive in a second, and how late each is.
//!
//! Every value carries the time at which its write was sent, so lateness holds the whole way: the
//! write's own round, the watch and the two connections. All events must arrive within ten seconds
//! of the last write; those that do not are counted. Deaf watchers have a connection each, or their
//! full windows would hold up others here and not in the node.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    Arguments,
    connection::{Connection, connect, stream},
    messages::{WatchAnswer, every_key, one_key, stamped, watch_answer, watch_create},
    requests::{Shared, connect_all, run},
    tally::{Clock, Tally, lock},
};

const WATCH: &str = "/etcdserverpb.Watch/Watch";
/// The longest wait for all watches to be open.
const OPEN: Duration = Duration::from_secs(60);
/// The longest wait for events after the last write.
const DRAIN: Duration = Duration::from_secs(10);

/// What all streams share.
struct Arrivals {
    start: Instant,
    state: Mutex<State>,
}

struct State {
    open: usize,
    /// By when each event arrived, since its write was sent.
    tally: Tally,
    last: Instant,
}

pub(crate) async fn measure(arguments: &Arguments) -> Result<Value> {
    let connections = connect_all(arguments, arguments.connections).await?;
    // Watches have their own connections: a client library keeps them apart from requests too.
    let watching = connect_all(arguments, arguments.connections).await?;
    let start = Instant::now();
    let state = State { open: 0, tally: Tally::new()?, last: start };
    let arrivals = Arc::new(Arrivals { start, state: Mutex::new(state) });
    open_all(arguments, &watching, &arrivals).await?;
    let _deaf = deaf(arguments).await?;

    let clock = Clock::new()?;
    // Stamps count from the same moment as the arrivals; the writers' time begins now.
    let shared = Shared::new(arguments, start, clock.start)?;
    run(arguments, &connections, &shared).await?;
    let writing = clock.elapsed();
    let written = lock(&shared.tally).keys;
    let each = if arguments.one_key_each { 1 } else { arguments.watchers as u64 };
    let expected = written * each;
    let drained = Instant::now() + DRAIN;
    while lock(&arrivals.state).tally.operations() < expected && Instant::now() < drained {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let cpu = clock.cpu()?;
    let state = lock(&arrivals.state);
    let events = state.tally.operations();
    let seconds = state.last.duration_since(clock.start).as_secs_f64().max(writing);
    let writes = lock(&shared.tally);
    Ok(json!({
        "mode": "watch",
        "watchers": arguments.watchers,
        "writes": written,
        "write_p99_ms": writes.latency_ms()["p99"],
        "operations": events,
        "missing": expected.saturating_sub(events),
        "seconds": seconds,
        "throughput": events as f64 / seconds,
        "latency_ms": state.tally.latency_ms(),
        "failed": writes.errors.values().sum::<u64>(),
        "errors": writes.errors,
        "cpu_seconds": cpu,
        "cpu_seconds_per_100000": cpu * 100_000.0 / events.max(1) as f64,
    }))
}

/// Opens all watches and waits until the server has confirmed each.
async fn open_all(
    arguments: &Arguments,
    connections: &[Connection],
    arrivals: &Arc<Arrivals>,
) -> Result<()> {
    let streams = arguments.streams.min(arguments.watchers).max(1);
    let keys = arguments.keys;
    ensure!(
        !arguments.one_key_each || keys == arguments.watchers as u64,
        "with one key each there are as many keys as watchers"
    );
    for place in 0..streams {
        let creates = (place..arguments.watchers).step_by(streams).map(|watcher| {
            watch_create(&if arguments.one_key_each {
                one_key(watcher as u64)
            } else {
                every_key()
            })
        });
        let mut connection = connections[place % connections.len()].clone();
        let answers = stream(&mut connection, WATCH, creates.collect()).await?;
        tokio::spawn(listen(answers, Arc::clone(arrivals)));
    }
    timeout(OPEN, async {
        while lock(&arrivals.state).open < arguments.watchers {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .context("not every watch was opened within a minute")
}

/// Watchers that never read. They live as long as what is returned.
async fn deaf(arguments: &Arguments) -> Result<Vec<(Connection, Incoming)>> {
    let mut deaf = Vec::new();
    for index in 0..arguments.deaf {
        let mut connection =
            connect(&arguments.endpoints[index % arguments.endpoints.len()]).await?;
        let creates = VecDeque::from([watch_create(&every_key())]);
        let answers = stream(&mut connection, WATCH, creates).await?;
        deaf.push((connection, answers));
    }
    Ok(deaf)
}

/// Reads one stream until it ends, which the tally shows as missing events.
async fn listen(mut answers: Incoming, arrivals: Arc<Arrivals>) {
    let mut unread = BytesMut::new();
    while let Some(Ok(frame)) = answers.frame().await {
        let Ok(data) = frame.into_data() else { continue };
        unread.extend_from_slice(&data);
        while let Some(message) = next_message(&mut unread) {
            arrivals.arrived(&watch_answer(&message));
        }
    }
}

fn next_message(unread: &mut BytesMut) -> Option<Bytes> {
    let len = u32::from_be_bytes(unread.get(1..5)?.try_into().ok()?) as usize;
    if unread.len() < 5 + len {
        return None;
    }
    unread.advance(5);
    Some(unread.split_to(len).freeze())
}

impl Arrivals {
    fn arrived(&self, answer: &WatchAnswer) {
        let now = Instant::now();
        let mut state = lock(&self.state);
        state.open += usize::from(answer.created);
        for value in &answer.values {
            let sent = self.start + stamped(value);
            state.tally.took(now.saturating_duration_since(sent));
            state.last = now;
        }
    }
}
