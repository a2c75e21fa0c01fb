//! From the death of a process to the next acknowledged write.
//!
//! The client knows all endpoints and gives each attempt 100 ms, as the client does that etcd was
//! measured with. It writes steadily, kills the process, and tells the time until a write that was
//! sent after the kill is acknowledged.

use std::time::Duration;

use anyhow::{Context, bail};
use mainstay_world::{Instant, sleep, timeout};

use super::{
    Plan,
    connection::Connection,
    request::{Random, Request, value},
};
use crate::{
    exit::Exit,
    process::{Signal, send_signal},
    screen::line,
};

const ATTEMPT: Duration = Duration::from_millis(100);
const AFTER_FAILURE: Duration = Duration::from_millis(10);
/// The cluster must have worked without a failure for so long before the kill.
const STEADY: Duration = Duration::from_secs(1);
/// No cluster is waited for longer than this.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) async fn run(plan: &Plan, pid: u32) -> anyhow::Result<Exit> {
    let mut writer = Writer::new(plan);
    writer.until_steady(plan).await.context("nothing was killed")?;
    send_signal(pid, Signal::Kill).with_context(|| format!("kill process {pid}"))?;
    let killed = Instant::now();
    let attempts = writer.until_acknowledged(plan).await?;
    let failover_ms = killed.elapsed().as_secs_f64() * 1_000.0;
    let json = serde_json::json!({ "failover_ms": failover_ms, "attempts": attempts });
    line(&json.to_string())?;
    Ok(Exit::Done)
}

/// Writes until a write is acknowledged: what a script measures when it starts a cluster.
pub(super) async fn first_write(plan: &Plan) -> anyhow::Result<Exit> {
    let begun = Instant::now();
    let attempts = Writer::new(plan).until_acknowledged(plan).await?;
    let first_write_ms = begun.elapsed().as_secs_f64() * 1_000.0;
    let json = serde_json::json!({ "first_write_ms": first_write_ms, "attempts": attempts });
    line(&json.to_string())?;
    Ok(Exit::Done)
}

/// One client that writes; it goes to the next endpoint when a write fails.
pub(super) struct Writer {
    place: usize,
    connection: Option<Connection>,
    random: Random,
    value: Vec<u8>,
}

impl Writer {
    pub(super) fn new(plan: &Plan) -> Self {
        Self { place: 0, connection: None, random: Random::new(), value: value(plan.value_size) }
    }

    /// Tries until a write is acknowledged; how often it took.
    async fn until_acknowledged(&mut self, plan: &Plan) -> anyhow::Result<u32> {
        let begun = Instant::now();
        let mut attempts = 1;
        while !self.attempt(plan).await {
            attempts += 1;
            if begun.elapsed() > PATIENCE {
                bail!("no write was acknowledged within {} s", PATIENCE.as_secs());
            }
        }
        Ok(attempts)
    }

    /// Writes until no write has failed for a whole second; the longest time between two that
    /// were acknowledged until then.
    pub(super) async fn until_steady(&mut self, plan: &Plan) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        let (mut steady_since, mut last, mut longest) = (begun, begun, Duration::ZERO);
        while steady_since.elapsed() < STEADY {
            if self.attempt(plan).await {
                longest = longest.max(last.elapsed());
                last = Instant::now();
            } else {
                steady_since = Instant::now();
            }
            if begun.elapsed() > PATIENCE {
                bail!("there was no second without a failed write within {} s", PATIENCE.as_secs());
            }
        }
        Ok(longest)
    }

    /// One write; false, and on to the next endpoint, unless it was acknowledged.
    async fn attempt(&mut self, plan: &Plan) -> bool {
        let endpoint = plan.endpoint(self.place);
        let mut request = Request::put(endpoint.address(), &self.value);
        let key = self.random.below(plan.keys);
        let written = timeout(ATTEMPT, async {
            let open = match self.connection.take() {
                Some(open) => open,
                None => Connection::open(endpoint).await?,
            };
            self.connection.insert(open).exchange(request.about(key)).await
        });
        if matches!(written.await, Ok(Ok(answer)) if answer.status == 200) {
            return true;
        }
        self.connection = None;
        self.place += 1;
        sleep(AFTER_FAILURE).await;
        false
    }
}
