//! A load generator for etcd, for `scripts/bench-vs-etcd.sh` only.
//!
//! A comparison is worth something when each side is asked in its own language by a generator that
//! does not hold it back. This one speaks gRPC over HTTP/2 with the few protobuf messages written by
//! hand, on one thread, with 12 connections spread over all nodes, as etcd's own benchmark is used.
//! It prints one JSON object with the same names as `mainstay bench --output json`.
//!
//! It checks that every answer is one of success, and deliberately nothing else.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use clap::{Parser, ValueEnum};
use hdrhistogram::Histogram;
use http_body_util::{BodyExt, Full};
use hyper::{Request, client::conn::http2::SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpStream, time::timeout};

/// An attempt while a node is being killed.
const ATTEMPT: Duration = Duration::from_millis(100);
/// The pause after a failure.
const AFTER_FAILURE: Duration = Duration::from_millis(10);
/// The longest wait for an answer, and for a cluster to do what it must.
const PATIENCE: Duration = Duration::from_secs(30);
/// Keys of one transaction when loading.
const BATCH: u64 = 100;

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
    /// Write all keys once, in transactions of 100.
    Load,
    /// Tell the place of the leader in the list of endpoints, from 0.
    Leader,
    /// Write until one write is acknowledged.
    FirstWrite,
    /// Kill a process; tell the time to the next acknowledged write.
    Failover,
}

type Connection = SendRequest<Full<Bytes>>;

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
        Mode::Put | Mode::Get | Mode::Load => measure(arguments).await,
        Mode::Leader => leader(&arguments).await,
        Mode::FirstWrite => {
            let mut writer = Writer::new(&arguments);
            writer.until_acknowledged().await?;
            Ok(serde_json::json!({ "first_write": true }))
        }
        Mode::Failover => failover(&arguments).await,
    }
}

/// What all clients share.
struct Shared {
    mode: Mode,
    keys: u64,
    value: Bytes,
    end: Instant,
    /// The next key to load.
    next: Mutex<u64>,
    tally: Mutex<Tally>,
}

struct Tally {
    latency_us: Histogram<u64>,
    keys: u64,
    errors: BTreeMap<String, u64>,
}

async fn measure(arguments: Arguments) -> Result<serde_json::Value> {
    let mut connections = Vec::new();
    for index in 0..arguments.connections.min(arguments.clients) {
        let endpoint = &arguments.endpoints[index % arguments.endpoints.len()];
        connections.push(connect(endpoint).await?);
    }
    let start = Instant::now();
    let cpu_before = cpu_seconds()?;
    let shared = Arc::new(Shared {
        mode: arguments.mode,
        keys: arguments.keys,
        value: Bytes::from(vec![b'v'; arguments.value_size]),
        end: start + Duration::from_secs(arguments.seconds),
        next: Mutex::new(0),
        tally: Mutex::new(Tally {
            latency_us: Histogram::new_with_bounds(1, 120_000_000, 3)?,
            keys: 0,
            errors: BTreeMap::new(),
        }),
    });
    let clients: Vec<_> = (0..arguments.clients)
        .map(|index| {
            let connection = connections[index % connections.len()].clone();
            tokio::spawn(client(connection, Arc::clone(&shared), index as u64))
        })
        .collect();
    for client in clients {
        client.await?;
    }
    let elapsed = start.elapsed().as_secs_f64();
    let cpu = cpu_seconds()? - cpu_before;
    let tally = lock(&shared.tally);
    let latency_ms = |quantile| tally.latency_us.value_at_quantile(quantile) as f64 / 1_000.0;
    let operations = tally.latency_us.len();
    Ok(serde_json::json!({
        "mode": format!("{:?}", arguments.mode).to_lowercase(),
        "clients": arguments.clients,
        "operations": operations,
        "keys_written": tally.keys,
        "seconds": elapsed,
        "throughput": operations as f64 / elapsed,
        "latency_ms": {
            "p50": latency_ms(0.5),
            "p95": latency_ms(0.95),
            "p99": latency_ms(0.99),
            "p99_9": latency_ms(0.999),
            "max": latency_ms(1.0),
        },
        "failed": tally.errors.values().sum::<u64>(),
        "errors": tally.errors,
        "cpu_seconds": cpu,
        "cpu_seconds_per_100000": cpu * 100_000.0 / operations.max(1) as f64,
    }))
}

async fn client(mut connection: Connection, shared: Arc<Shared>, seed: u64) {
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    loop {
        let began = Instant::now();
        let (path, message, keys) = match shared.mode {
            Mode::Load => {
                let mut next = lock(&shared.next);
                let first = *next;
                *next += BATCH;
                let keys = first..(first + BATCH).min(shared.keys);
                if keys.is_empty() {
                    return;
                }
                ("/etcdserverpb.KV/Txn", txn(keys.clone(), &shared.value), keys.end - keys.start)
            }
            _ if began >= shared.end => return,
            Mode::Get => ("/etcdserverpb.KV/Range", range(pick(&mut random, shared.keys)), 0),
            _ => {
                let message = put(pick(&mut random, shared.keys), &shared.value);
                ("/etcdserverpb.KV/Put", message, 1)
            }
        };
        let outcome = timeout(PATIENCE, call(&mut connection, path, message)).await;
        let mut tally = lock(&shared.tally);
        match outcome {
            Ok(Ok(_answer)) => {
                let latency = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
                tally.latency_us.saturating_record(latency);
                tally.keys += keys;
            }
            Ok(Err(error)) => *tally.errors.entry(format!("{error:#}")).or_default() += 1,
            Err(_elapsed) => *tally.errors.entry("no answer".to_owned()).or_default() += 1,
        }
    }
}

async fn failover(arguments: &Arguments) -> Result<serde_json::Value> {
    let pid = arguments.kill_pid.context("failover needs --kill-pid")?;
    let mut writer = Writer::new(arguments);
    let begun = Instant::now();
    let mut steady_since = begun;
    while steady_since.elapsed() < Duration::from_secs(1) {
        if !writer.attempt().await {
            steady_since = Instant::now();
        }
        ensure!(begun.elapsed() < PATIENCE, "the cluster took no writes for a whole second");
    }
    let killed_by = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status()?;
    ensure!(killed_by.success(), "process {pid} could not be killed");
    let killed = Instant::now();
    let attempts = writer.until_acknowledged().await?;
    let failover_ms = killed.elapsed().as_secs_f64() * 1_000.0;
    Ok(serde_json::json!({ "failover_ms": failover_ms, "attempts": attempts }))
}

/// A client that knows all endpoints and gives each attempt 100 ms.
struct Writer {
    endpoints: Vec<String>,
    place: usize,
    connection: Option<Connection>,
    value: Bytes,
    random: u64,
    keys: u64,
}

impl Writer {
    fn new(arguments: &Arguments) -> Self {
        Self {
            endpoints: arguments.endpoints.clone(),
            place: 0,
            connection: None,
            value: Bytes::from(vec![b'v'; arguments.value_size]),
            random: 1,
            keys: arguments.keys,
        }
    }

    async fn until_acknowledged(&mut self) -> Result<u32> {
        let begun = Instant::now();
        let mut attempts = 1;
        while !self.attempt().await {
            attempts += 1;
            ensure!(begun.elapsed() < PATIENCE, "no write was acknowledged");
        }
        Ok(attempts)
    }

    async fn attempt(&mut self) -> bool {
        let endpoint = &self.endpoints[self.place % self.endpoints.len()];
        let message = put(pick(&mut self.random, self.keys), &self.value);
        let written = timeout(ATTEMPT, async {
            let open = match self.connection.take() {
                Some(open) => open,
                None => connect(endpoint).await?,
            };
            call(self.connection.insert(open), "/etcdserverpb.KV/Put", message).await
        });
        if matches!(written.await, Ok(Ok(_answer))) {
            return true;
        }
        self.connection = None;
        self.place += 1;
        tokio::time::sleep(AFTER_FAILURE).await;
        false
    }
}

/// The node whose own id is the leader's in its status.
async fn leader(arguments: &Arguments) -> Result<serde_json::Value> {
    for (place, endpoint) in arguments.endpoints.iter().enumerate() {
        let Ok(mut connection) = connect(endpoint).await else { continue };
        let empty = BytesMut::from(&[0; 5][..]).freeze();
        let status = call(&mut connection, "/etcdserverpb.Maintenance/Status", empty).await?;
        let status = status.slice(5..);
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

async fn connect(endpoint: &str) -> Result<Connection> {
    let stream = TcpStream::connect(endpoint).await.with_context(|| format!("dial {endpoint}"))?;
    stream.set_nodelay(true)?;
    let (connection, driver) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(driver);
    Ok(connection)
}

/// One unary call; `message` is a whole gRPC frame, and so is the answer.
async fn call(connection: &mut Connection, path: &'static str, message: Bytes) -> Result<Bytes> {
    let request = Request::post(format!("http://etcd{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(message))?;
    connection.ready().await?;
    let response = connection.send_request(request).await?;
    let in_head = response.headers().get("grpc-status").cloned();
    let answer = response.into_body().collect().await?;
    let status = in_head.or_else(|| answer.trailers()?.get("grpc-status").cloned());
    let status = status.context("the answer has no grpc-status")?;
    ensure!(status == "0", "grpc-status {status:?}");
    Ok(answer.to_bytes())
}

fn put(key: u64, value: &[u8]) -> Bytes {
    let mut message = BytesMut::with_capacity(value.len() + 48);
    message.put_bytes(0, 5);
    put_fields(&mut message, key, value);
    framed(message)
}

fn put_fields(message: &mut BytesMut, key: u64, value: &[u8]) {
    put_bytes(message, 1, &key_bytes(key));
    put_bytes(message, 2, value);
}

fn range(key: u64) -> Bytes {
    let mut message = BytesMut::with_capacity(48);
    message.put_bytes(0, 5);
    put_bytes(&mut message, 1, &key_bytes(key));
    framed(message)
}

/// TxnRequest: success = 2 of RequestOp: request_put = 2.
fn txn(keys: std::ops::Range<u64>, value: &[u8]) -> Bytes {
    let mut message = BytesMut::new();
    message.put_bytes(0, 5);
    for key in keys {
        let mut fields = BytesMut::new();
        put_fields(&mut fields, key, value);
        let mut operation = BytesMut::new();
        put_bytes(&mut operation, 2, &fields);
        put_bytes(&mut message, 2, &operation);
    }
    framed(message)
}

/// Writes the head of a gRPC frame into the five bytes left for it: not compressed, the length.
fn framed(mut message: BytesMut) -> Bytes {
    let len = u32::try_from(message.len() - 5).expect("messages are far below 4 GiB");
    message[1..5].copy_from_slice(&len.to_be_bytes());
    message.freeze()
}

fn put_bytes(message: &mut BytesMut, number: u8, bytes: &[u8]) {
    message.put_u8(number << 3 | 2);
    put_varint(message, bytes.len() as u64);
    message.put_slice(bytes);
}

fn put_varint(message: &mut BytesMut, mut number: u64) {
    while number >= 0x80 {
        message.put_u8(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    message.put_u8(number.to_le_bytes()[0]);
}

/// A field's value, of the two kinds that are looked at.
enum Field {
    Number(u64),
    Bytes(Bytes),
}

/// The first field with this number.
fn field(message: &Bytes, wanted: u64) -> Option<Field> {
    let mut at = 0;
    while at < message.len() {
        let tag = take_varint(message, &mut at)?;
        let value = match tag & 7 {
            0 => Field::Number(take_varint(message, &mut at)?),
            2 => {
                let len = usize::try_from(take_varint(message, &mut at)?).ok()?;
                let end = at.checked_add(len).filter(|end| *end <= message.len())?;
                let bytes = message.slice(at..end);
                at = end;
                Field::Bytes(bytes)
            }
            _ => return None,
        };
        if tag >> 3 == wanted {
            return Some(value);
        }
    }
    None
}

fn take_varint(message: &[u8], at: &mut usize) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = *message.get(*at)?;
        *at += 1;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

fn key_bytes(key: u64) -> [u8; 14] {
    let mut bytes = *b"bench/00000000";
    let mut rest = key;
    for digit in bytes[6..].iter_mut().rev() {
        *digit = b'0' + (rest % 10).to_le_bytes()[0];
        rest /= 10;
    }
    bytes
}

/// A random key: xorshift is random enough for that.
fn pick(random: &mut u64, keys: u64) -> u64 {
    let mut x = *random | 1;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    *random = x;
    (x >> 11) % keys
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// CPU time of this process, in user and kernel mode, in seconds.
fn cpu_seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").context("read CPU time")?;
    let after_name = stat.rsplit_once(')').context("a stat line has a name")?.1;
    let ticks: u64 = after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|ticks| ticks.parse().unwrap_or(0))
        .sum();
    Ok(ticks as f64 / 100.0)
}
