//! Readers in the background that write down what they saw when.
//!
//! One reader a node, each on its own node for good: what is looked for is a node that answers a
//! linearizable read from the past.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::task::JoinHandle;

use crate::{
    client::Client,
    ledger::Ledger,
    patience::{pause, until},
};

/// Most reads of one reader.
const READS_MAX: usize = 200_000;

/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(6);

/// What one linearizable read saw.
#[derive(Debug, Clone)]
pub struct Observation {
    /// The node that answered.
    pub url: String,
    /// The key.
    pub key: String,
    /// The key's mod revision; 0 if there was no such key.
    pub mod_revision: u64,
    /// When the read was sent.
    pub started: Instant,
    /// When it was answered.
    pub ended: Instant,
}

/// Readers that run until they are stopped.
#[derive(Debug)]
pub struct Observer {
    answered: Vec<Arc<AtomicUsize>>,
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Vec<Observation>>>,
}

impl Observer {
    /// Starts one reader a node, each of which reads `keys` in turn.
    #[must_use]
    pub fn start(clients: &[Client], keys: &[String]) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let mut answered = Vec::new();
        let mut tasks = Vec::new();
        for client in clients {
            let counter = Arc::<AtomicUsize>::default();
            answered.push(Arc::clone(&counter));
            let (client, keys, stop) = (client.clone(), keys.to_vec(), Arc::clone(&stop));
            tasks.push(tokio::spawn(read(client, keys, counter, stop)));
        }
        Self { answered, stop, tasks }
    }

    /// Waits until reader `at` had `count` more answers.
    ///
    /// # Panics
    /// If that does not happen.
    pub async fn reads(&self, at: usize, count: usize) {
        let answered = &self.answered[at];
        let before = answered.load(Ordering::Relaxed);
        until(&format!("{count} more reads of reader {at}"), async || {
            let more = answered.load(Ordering::Relaxed) - before;
            if more >= count { Ok(()) } else { Err(format!("{more} of them")) }
        })
        .await;
    }

    /// Stops the readers and tells what they saw.
    ///
    /// # Panics
    /// If a reader got an answer that is not in the contract.
    pub async fn stop(self) -> Vec<Observation> {
        self.stop.store(true, Ordering::Relaxed);
        let mut observations = Vec::new();
        for task in self.tasks {
            observations.extend(task.await.expect("a reader ends with its observations"));
        }
        observations
    }
}

async fn read(
    client: Client,
    keys: Vec<String>,
    answered: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
) -> Vec<Observation> {
    let mut observations = Vec::new();
    for key in keys.iter().cycle().take(READS_MAX) {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let started = Instant::now();
        let answer = client.get(key).within(ANSWER_MAX).send().await;
        let ended = Instant::now();
        let mod_revision = match answer {
            Ok(answer) if answer.status == 200 => answer.number("Mainstay-Mod-Revision"),
            Ok(answer) if answer.status == 404 => 0,
            Ok(answer) => {
                assert!(answer.problem().is_some(), "{} {}", answer.status, answer.text());
                pause().await;
                continue;
            }
            Err(_unanswered) => {
                pause().await;
                continue;
            }
        };
        answered.fetch_add(1, Ordering::Relaxed);
        let (url, key) = (client.url().to_owned(), key.clone());
        observations.push(Observation { url, key, mod_revision, started, ended });
    }
    observations
}

/// No read saw less of its key than what a write or a read that ended before it began had shown
/// there, whichever node it was.
///
/// # Panics
/// With the read that went back.
pub fn assert_never_back(observations: &[Observation], ledger: &Ledger) {
    // For each key, what was known when: (time, revision).
    let mut known: BTreeMap<&str, Vec<(Instant, u64)>> = BTreeMap::new();
    for (write, revision) in ledger.revisions() {
        known.entry(&write.key).or_default().push((write.ended, revision));
    }
    for seen in observations {
        known.entry(&seen.key).or_default().push((seen.ended, seen.mod_revision));
    }
    let mut by_start: Vec<_> = observations.iter().collect();
    by_start.sort_by_key(|seen| seen.started);
    for (key, mut facts) in known {
        facts.sort_by_key(|(ended, _revision)| *ended);
        let mut facts = facts.into_iter().peekable();
        let mut highest = 0;
        for seen in by_start.iter().filter(|seen| seen.key == key) {
            while let Some((_, revision)) = facts.next_if(|(ended, _)| *ended < seen.started) {
                highest = highest.max(revision);
            }
            assert!(
                seen.mod_revision >= highest,
                "a linearizable read went back: {seen:?}, while revision {highest} was known"
            );
        }
    }
}
