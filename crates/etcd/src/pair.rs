//! Pairs of the store as etcd's messages.

use mainstay_etcd_protocol::mvccpb;
use mainstay_kv::{Event, EventKind, KeyValue};

use crate::api::signed;

/// A pair.
pub(crate) fn pair(pair: KeyValue) -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        key: pair.key,
        create_revision: signed(pair.create_revision),
        mod_revision: signed(pair.mod_revision),
        version: signed(pair.version),
        value: pair.value,
        lease: signed(pair.lease),
    }
}

/// Pairs.
pub(crate) fn pairs(pairs: Vec<KeyValue>) -> Vec<mvccpb::KeyValue> {
    pairs.into_iter().map(pair).collect()
}

/// An event; with what was there before only if that is wanted.
pub(crate) fn event(event: &Event, previous: bool) -> mvccpb::Event {
    let (kind, kv) = match event.kind {
        EventKind::Put => (mvccpb::event::EventType::Put, pair(event.pair.clone())),
        EventKind::Delete => {
            let kv = mvccpb::KeyValue {
                key: event.pair.key.clone(),
                mod_revision: signed(event.pair.mod_revision),
                ..mvccpb::KeyValue::default()
            };
            (mvccpb::event::EventType::Delete, kv)
        }
    };
    let prev_kv = event.previous.clone().filter(|_| previous).map(pair);
    mvccpb::Event { r#type: kind.into(), kv: Some(kv), prev_kv }
}
