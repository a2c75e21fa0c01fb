//! A client that watches all keys from the first revision on and notes every message.

use std::time::Duration;

use bytes::Bytes;
use mainstay_client::{EventKind, WatchError, WatchMessage as Told, WatchRequest};
use mainstay_world as world;

use super::{
    Orders,
    caller::{Caller, now_us},
};
use crate::history::{WatchEvent, WatchMessage, Watched};

/// What is watched: the keys of the workers and the lock.
const PREFIX: &[u8] = b"k/";

/// Watches until told to stop.
pub(super) async fn run(caller: Caller, orders: Orders) {
    let watcher = caller.record.lock().history.watch_opened(Bytes::from_static(PREFIX), 1);
    let mut from_revision = 1;
    while !orders.is_stopped() {
        let request = WatchRequest {
            from_revision: Some(from_revision),
            ..WatchRequest::prefix(Bytes::from_static(PREFIX))
        };
        let Ok(mut watch) = caller.client().watch(request).await else {
            world::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let mut resumed_from = Some(from_revision);
        loop {
            let told = tokio::select! {
                biased;
                told = watch.next() => told,
                () = stopped(&orders) => break,
            };
            let Some(message) = message(told) else { break };
            from_revision = watch.next_revision();
            if let WatchMessage::Compacted { compact_revision } = &message {
                from_revision = *compact_revision;
            }
            let ended = matches!(message, WatchMessage::Compacted { .. });
            let node = 0;
            let at_us = now_us();
            let watched =
                Watched { watcher, node, at_us, resumed_from: resumed_from.take(), message };
            caller.record.lock().history.watched(watched);
            if ended {
                break;
            }
        }
    }
    orders.one_stopped();
}

async fn stopped(orders: &Orders) {
    while !orders.is_stopped() {
        world::sleep(Duration::from_millis(50)).await;
    }
}

/// The message in the checkers' words; `None` if the watch is over and has to be opened anew.
fn message(told: Result<Told, WatchError>) -> Option<WatchMessage> {
    match told {
        Ok(Told::Change(change)) => Some(WatchMessage::Changed {
            revision: change.revision,
            events: change
                .events
                .into_iter()
                .map(|event| WatchEvent {
                    value: (event.kind == EventKind::Put).then_some(event.pair.value),
                    key: event.pair.key,
                })
                .collect(),
        }),
        Ok(Told::Progress { revision }) => Some(WatchMessage::Progress { revision }),
        Err(WatchError::Compacted { compact_revision }) => {
            Some(WatchMessage::Compacted { compact_revision })
        }
        Err(WatchError::Ended { .. } | WatchError::StoreReplaced) => None,
    }
}
