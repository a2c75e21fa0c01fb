//! Programs that use the Rust client steadily and take no failure: they stop at the first request
//! that fails, and tell at the end what they wrote.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use mainstay_client::{Client as RustClient, PutRequest};
use mainstay_tests::{Client, until};
use tokio::task::JoinHandle;

/// How often each of them writes; every fifth write is read back.
const PACE: Duration = Duration::from_millis(20);

/// What was written: revision by key. Every key is its own value.
pub(crate) type Written = BTreeMap<String, u64>;

/// Programs that run.
pub(crate) struct Programs {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<Written>>,
}

/// What all of them share.
#[derive(Debug, Default)]
struct Shared {
    requests: AtomicUsize,
    stop: AtomicBool,
}

impl Programs {
    /// Starts one program for each of `clients`; their keys begin with `prefix`.
    pub(crate) fn start(prefix: &str, clients: impl IntoIterator<Item = RustClient>) -> Self {
        let shared = Arc::<Shared>::default();
        let tasks = clients
            .into_iter()
            .enumerate()
            .map(|(number, client)| {
                let keys = format!("{prefix}{number}/");
                tokio::spawn(program(client, keys, Arc::clone(&shared)))
            })
            .collect();
        Self { shared, tasks }
    }

    /// Waits until so many more writes were acknowledged.
    pub(crate) async fn write_more(&self, count: usize) {
        let before = self.shared.requests.load(Ordering::Relaxed);
        until(&format!("{count} more requests"), async || {
            assert!(self.tasks.iter().all(|task| !task.is_finished()), "a request failed");
            let more = self.shared.requests.load(Ordering::Relaxed) - before;
            if more >= count { Ok(()) } else { Err(format!("{more} of them")) }
        })
        .await;
    }

    /// Stops them; what they wrote.
    pub(crate) async fn stop(self) -> Written {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut written = Written::new();
        for task in self.tasks {
            written.extend(task.await.expect("no request failed"));
        }
        written
    }
}

/// `reader` holds exactly what was written below `prefix`, each key written once.
pub(crate) async fn assert_holds(reader: &Client, prefix: &str, written: &Written) {
    let pairs = reader.pairs(prefix).await;
    assert_eq!(pairs.len(), written.len(), "{} holds others", reader.url());
    assert!(pairs.iter().all(|pair| pair["version"] == "1"), "a write took effect twice");
}

/// Writes keys of its own and reads each fifth back until it is stopped; panics at the first
/// request that fails.
async fn program(client: RustClient, keys: String, shared: Arc<Shared>) -> Written {
    let mut written = Written::new();
    let mut pace = tokio::time::interval(PACE);
    for count in 0.. {
        if shared.stop.load(Ordering::Relaxed) {
            break;
        }
        pace.tick().await;
        let key = format!("{keys}{count}");
        let put = client.put(PutRequest::new(key.clone(), key.clone())).await;
        let revision = put.unwrap_or_else(|error| panic!("{key}: {error:?}")).value.revision;
        written.insert(key.clone(), revision);
        if count % 5 == 0 {
            let got = client.get(key.as_str()).await;
            let got = got.unwrap_or_else(|error| panic!("get of {key}: {error:?}")).value;
            assert_eq!(got.map(|pair| pair.mod_revision), Some(revision), "{key}");
        }
        shared.requests.fetch_add(1, Ordering::Relaxed);
    }
    written
}
