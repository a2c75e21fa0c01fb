//! One writer and many watchers: events per second, and how long an event is on its way.
//!
//! The value of each write begins with the time it was sent, so every watcher can tell the latency
//! of every event by itself.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use mainstay_client::{Client, RevisionChanges, Watch, WatchMessage, WatchRequest};
use mainstay_world::{Instant, sleep, sleep_until, spawn, timeout};

use super::{
    Plan,
    connection::Connection,
    load::{PROGRESS, Shared},
    report::Report,
    request::{PREFIX, Random, Request, value},
};

/// Digits of the time at the head of a value: microseconds since the start.
const STAMP_DIGITS: usize = 16;
/// How long the writer waits after a failure.
const AFTER_FAILURE: Duration = Duration::from_millis(10);

pub(super) async fn run(plan: &Plan, client: &Client) -> anyhow::Result<Report> {
    let mut watches = Vec::new();
    for index in 0..plan.clients {
        let only = client.only(plan.endpoint(index).clone());
        let watch = only.watch(WatchRequest::prefix(PREFIX)).await;
        watches.push(watch.context("start a watch")?);
    }
    let shared = Shared::new(plan);
    let watchers: Vec<_> =
        watches.into_iter().map(|watch| spawn(observe(watch, Arc::clone(&shared)))).collect();
    let writer = spawn(write(Arc::clone(&shared)));
    let cpu = shared.attend().await;
    let report = shared.report(cpu);
    writer.await.context("wait for the writer")?;
    for watcher in watchers {
        watcher.await.context("wait for a watcher")?;
    }
    Ok(report)
}

async fn observe(mut watch: Watch, shared: Arc<Shared>) {
    while !shared.is_over() {
        // Nothing is lost when a wait is given up.
        match timeout(PROGRESS.min(shared.left()), watch.next()).await {
            Ok(Ok(WatchMessage::Change(change))) => count(&change, &shared),
            Ok(Ok(WatchMessage::Progress { .. })) => {}
            Ok(Err(error)) => {
                shared.tally().failed(error.to_string());
                return;
            }
            Err(_elapsed) => {}
        }
    }
}

fn count(change: &RevisionChanges, shared: &Shared) {
    let now = Instant::now();
    if !shared.counts(now) {
        return;
    }
    let mut tally = shared.tally();
    for event in &change.events {
        if let Some(sent_us) = stamp(&event.pair.value) {
            let sent = shared.start + Duration::from_micros(sent_us);
            tally.done(now.since(sent));
        }
    }
}

/// The time at the head of a value, if it is one of this benchmark's.
fn stamp(value: &[u8]) -> Option<u64> {
    str::from_utf8(value.get(..STAMP_DIGITS)?).ok()?.parse().ok()
}

async fn write(shared: Arc<Shared>) {
    let plan = &shared.plan;
    let mut random = Random::new();
    let mut content = value(plan.value_size.max(STAMP_DIGITS));
    let mut place = 0;
    let mut connection: Option<Connection> = None;
    let mut due = Instant::now();
    while !shared.is_over() {
        if let Some(rate) = plan.rate {
            sleep_until(due).await;
            due += Duration::from_secs(1) / rate;
        }
        let sent_us = shared.start.elapsed().as_micros();
        content[..STAMP_DIGITS].copy_from_slice(format!("{sent_us:0STAMP_DIGITS$}").as_bytes());
        let endpoint = plan.endpoint(place);
        let mut request = Request::put(endpoint.address(), &content);
        let written = timeout(plan.timeout, async {
            let open = match connection.take() {
                Some(open) => open,
                None => Connection::open(endpoint).await?,
            };
            let open = connection.insert(open);
            open.exchange(request.about(random.below(plan.keys))).await
        });
        let failure = match written.await {
            Ok(Ok(answer)) if answer.status == 200 => continue,
            Ok(Ok(answer)) => format!("write: status {}", answer.status),
            Ok(Err(error)) => format!("write: {error}"),
            Err(_elapsed) => "write: no answer in time".to_owned(),
        };
        shared.tally().failed(failure);
        connection = None;
        place += 1;
        sleep(AFTER_FAILURE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_write_is_read_from_its_value() {
        assert_eq!(stamp(b"0000000000012345xyz"), Some(12_345));
        assert_eq!(stamp(b"hello"), None);
        assert_eq!(stamp(b"something that is no number"), None);
    }
}
