//! Writes through the client, as programs do them, and a look afterwards at what became of each.
//!
//! Every write has a key of its own and is one of the client's session, so the client may repeat it
//! as often as it needs. At the end all keys are read: an acknowledged write that is not there is lost, and one
//! whose key was written more than once took effect twice. So the load can run while nodes are
//! restarted, killed or moved, and says what that did to a program.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;
use mainstay_client::{CallError, Client, PageRequest, PutRequest};
use mainstay_world::{Instant, random_u64, sleep, sleep_until, spawn};

use super::{
    Plan,
    load::{Pace, Shared},
    report::{Checked, Report},
    request::{PREFIX, value},
};

/// How long a writer waits after a failure.
const AFTER_FAILURE: Duration = Duration::from_millis(10);
/// How long the check at the end may wait for a cluster that still recovers.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs the load of `plan` and checks it.
pub(super) async fn run(plan: &Plan, client: &Client) -> anyhow::Result<Report> {
    let shared = Shared::new(plan);
    let prefix = format!("{PREFIX}checked/{:016x}/", random_u64());
    let writers: Vec<_> = (0..plan.clients)
        .map(|index| {
            let prefix = format!("{prefix}{index}/");
            spawn(write(Arc::clone(&shared), client.clone(), index, prefix))
        })
        .collect();
    let cpu = shared.attend().await;
    let mut report = shared.report(cpu);
    let mut acknowledged = BTreeSet::new();
    for writer in writers {
        acknowledged.extend(writer.await.context("wait for a writer")?);
    }
    report.checked = Some(check(client, &prefix, acknowledged).await?);
    Ok(report)
}

/// Writes until the end; the keys whose writes were acknowledged.
async fn write(shared: Arc<Shared>, client: Client, index: usize, prefix: String) -> Vec<Bytes> {
    let mut acknowledged = Vec::new();
    let value = Bytes::from(value(shared.plan.value_size));
    let mut pace = Pace::new(&shared.plan, index, shared.start);
    for number in 0_u64.. {
        let due = pace.next().await;
        if shared.is_over() {
            break;
        }
        let key = Bytes::from(format!("{prefix}{number}"));
        let written = client.put(PutRequest::new(key.clone(), value.clone())).await;
        let now = Instant::now();
        match written {
            Ok(_written) => {
                acknowledged.push(key);
                if shared.counts(now) {
                    shared.tally().done(now.since(due));
                }
            }
            Err(error) => {
                // Outside the measured time too: none is allowed to fail.
                shared.tally().failed(describe(&error));
                sleep(AFTER_FAILURE).await;
            }
        }
    }
    acknowledged
}

/// Compares what was acknowledged with what is there.
async fn check(
    client: &Client,
    prefix: &str,
    acknowledged: BTreeSet<Bytes>,
) -> anyhow::Result<Checked> {
    let mut checked =
        Checked { acknowledged: acknowledged.len() as u64, lost: 0, took_effect_twice: 0 };
    let mut missing = acknowledged;
    let request = PageRequest {
        prefix: Bytes::copy_from_slice(prefix.as_bytes()),
        keys_only: true,
        ..PageRequest::default()
    };
    let mut pages = client.pages(request);
    let give_up = Instant::now() + PATIENCE;
    loop {
        match pages.next().await {
            Ok(Some(page)) => {
                for pair in page.pairs {
                    checked.took_effect_twice += u64::from(pair.version > 1);
                    missing.remove(&pair.key);
                }
            }
            Ok(None) => break,
            Err(error) if Instant::now() > give_up => {
                return Err(error).context("read what was written");
            }
            Err(_error) => sleep_until(Instant::now() + AFTER_FAILURE).await,
        }
    }
    checked.lost = missing.len() as u64;
    Ok(checked)
}

/// A failure in few words.
fn describe(error: &CallError) -> String {
    match error.code() {
        Some(code) => code.to_owned(),
        None => error.failure.to_string(),
    }
}
