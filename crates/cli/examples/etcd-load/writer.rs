//! One client that knows all endpoints, for what is measured by when a write is acknowledged again.
//!
//! Each attempt gets 100 ms and goes to the next node when it fails; there is no backoff beyond a
//! short pause, since the outage is what is measured.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    Arguments,
    connection::{Connection, call, connect},
    messages::put,
    requests::pick,
};

/// An attempt while a node is being killed.
const ATTEMPT: Duration = Duration::from_millis(100);
/// The pause after a failure.
const AFTER_FAILURE: Duration = Duration::from_millis(10);
/// The longest wait for a cluster to do what it must.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn failover(arguments: &Arguments) -> Result<Value> {
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
    Ok(json!({ "failover_ms": failover_ms, "attempts": attempts }))
}

pub(crate) struct Writer {
    endpoints: Vec<String>,
    place: usize,
    connection: Option<Connection>,
    value: Bytes,
    random: u64,
    keys: u64,
}

impl Writer {
    pub(crate) fn new(arguments: &Arguments) -> Self {
        Self {
            endpoints: arguments.endpoints.clone(),
            place: 0,
            connection: None,
            value: Bytes::from(vec![b'v'; arguments.value_size]),
            random: 1,
            keys: arguments.keys,
        }
    }

    /// Tells how many attempts it took.
    pub(crate) async fn until_acknowledged(&mut self) -> Result<u32> {
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
