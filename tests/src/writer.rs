//! A load of writes in the background, and the ledger of what came of it.
//!
//! Each logical client has one write at a time and goes to the next endpoint when one fails. It
//! never repeats a write: what is unknown stays unknown, so that the ledger tells the truth.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::task::JoinHandle;

use crate::{
    client::{Answer, Client, Unanswered},
    ledger::{Ledger, Outcome, Write},
    patience::{pause, until},
};

/// Most logical clients of one load.
const CLIENTS_MAX: usize = 256;

/// Most writes of one logical client: more than any test waits for.
const WRITES_MAX: usize = 100_000;

/// How long an answer may take before the write counts as unknown.
const ANSWER_MAX: Duration = Duration::from_secs(6);

/// A load of writes that runs until it is stopped.
#[derive(Debug)]
pub struct Writer {
    prefix: String,
    acknowledged: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Vec<Write>>>,
}

impl Writer {
    /// Starts `count` logical clients, spread over the nodes of `clients`; all keys are below
    /// `prefix` and a slash.
    ///
    /// # Panics
    /// If there are too many, or no nodes.
    #[must_use]
    pub fn start(clients: &[Client], prefix: &str, count: usize) -> Self {
        assert!((1..=CLIENTS_MAX).contains(&count), "1 to {CLIENTS_MAX} logical clients");
        let acknowledged = Arc::<AtomicUsize>::default();
        let stop = Arc::<AtomicBool>::default();
        let tasks = (0..count).map(|number| {
            let load = Load {
                number,
                prefix: prefix.to_owned(),
                clients: clients.to_vec(),
                acknowledged: Arc::clone(&acknowledged),
                stop: Arc::clone(&stop),
            };
            tokio::spawn(load.run())
        });
        let tasks = tasks.collect();
        Self { prefix: format!("{prefix}/"), acknowledged, stop, tasks }
    }

    /// The key that logical client `number` overwrites again and again.
    #[must_use]
    pub fn overwritten_key(&self, number: usize) -> String {
        overwritten_key(self.prefix.trim_end_matches('/'), number)
    }

    /// Waits until `count` more writes were acknowledged.
    ///
    /// # Panics
    /// If that does not happen.
    pub async fn acknowledges(&self, count: usize) {
        let before = self.acknowledged.load(Ordering::Relaxed);
        until(&format!("{count} more acknowledged writes"), async || {
            let more = self.acknowledged.load(Ordering::Relaxed) - before;
            if more >= count { Ok(()) } else { Err(format!("{more} of them")) }
        })
        .await;
    }

    /// Stops the load, waits for the writes on their way, and tells what came of all.
    ///
    /// # Panics
    /// If a node answered something that is not in the contract.
    pub async fn stop(self) -> Ledger {
        self.stop.store(true, Ordering::Relaxed);
        let mut writes = Vec::new();
        for task in self.tasks {
            writes.extend(task.await.expect("a load ends with its writes"));
        }
        Ledger { prefix: self.prefix, writes }
    }
}

/// One logical client.
struct Load {
    number: usize,
    prefix: String,
    clients: Vec<Client>,
    acknowledged: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl Load {
    async fn run(self) -> Vec<Write> {
        let mut writes = Vec::new();
        let mut at = self.number;
        while writes.len() < WRITES_MAX && !self.stop.load(Ordering::Relaxed) {
            let write = self.write(writes.len(), at % self.clients.len()).await;
            match write.outcome {
                Outcome::Acknowledged { .. } => {
                    self.acknowledged.fetch_add(1, Ordering::Relaxed);
                }
                Outcome::Refused | Outcome::Unknown => {
                    at += 1;
                    pause().await;
                }
            }
            writes.push(write);
        }
        writes
    }

    async fn write(&self, number: usize, at: usize) -> Write {
        let overwrites = number % 4 == 3;
        let key = if overwrites {
            overwritten_key(&self.prefix, self.number)
        } else {
            format!("{}/{}/{number}", self.prefix, self.number)
        };
        let value = format!("{}-{number}", self.number);
        let started = Instant::now();
        let answer = self.clients[at].put(&key, value.as_str()).within(ANSWER_MAX).send().await;
        let outcome = outcome(&answer);
        let ended = Instant::now();
        Write { client: self.number, key, value, overwrites, started, ended, outcome }
    }
}

fn overwritten_key(prefix: &str, number: usize) -> String {
    format!("{prefix}/{number}/last")
}

fn outcome(answer: &Result<Answer, Unanswered>) -> Outcome {
    match answer {
        Ok(answer) if answer.status == 200 => Outcome::Acknowledged { revision: answer.revision() },
        Ok(answer) => match answer.problem() {
            Some(problem) if problem.took_effect == "no" => Outcome::Refused,
            Some(problem) if problem.took_effect == "unknown" => Outcome::Unknown,
            _ => panic!("{} is no answer to a write: {}", answer.status, answer.text()),
        },
        Err(Unanswered::NotSent(_)) => Outcome::Refused,
        Err(Unanswered::Lost(_)) => Outcome::Unknown,
    }
}
