//! Messages as text, so that a case can be read and two answers compared.
//!
//! Requests are written in protobuf's text format. Answers are printed in it after what cannot be
//! the same on two sides was replaced: ids and terms by 1 if they are there at all, and revisions
//! by their distance to the revision before the case, which counts as 1000. In requests revisions
//! near 1000 are turned back.

use std::{collections::BTreeSet, sync::LazyLock};

use mainstay_etcd_protocol::DESCRIPTORS;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, MessageDescriptor, MethodDescriptor,
    ReflectMessage as _, Value, text_format::FormatOptions,
};

/// What the revision before a case is written as.
const BEFORE: i64 = 1_000;

/// From here on a number in a request is a revision of the case; below it means itself.
const LOWEST: i64 = 900;

/// Above this an id was drawn by the server and not by the case.
const LARGEST_ID_OF_A_CASE: i64 = 1_000_000;

/// Fields that hold a revision, in every message.
const REVISIONS: &[&str] = &[
    "revision",
    "create_revision",
    "mod_revision",
    "min_mod_revision",
    "max_mod_revision",
    "min_create_revision",
    "max_create_revision",
    "start_revision",
    "compact_revision",
    "hash_revision",
    "rev",
];

/// Fields of which only their being there can be compared.
const THERE_OR_NOT: &[&str] = &[
    "ResponseHeader.cluster_id",
    "ResponseHeader.member_id",
    "ResponseHeader.raft_term",
    "Member.ID",
    "Member.name",
    "AlarmMember.memberID",
    "StatusResponse.version",
    "StatusResponse.dbSize",
    "StatusResponse.leader",
    "StatusResponse.raftIndex",
    "StatusResponse.raftTerm",
    "StatusResponse.raftAppliedIndex",
    "StatusResponse.dbSizeInUse",
    "StatusResponse.dbSizeQuota",
    "StatusResponse.storageVersion",
    "HashResponse.hash",
    "HashKVResponse.hash",
];

static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(DESCRIPTORS).expect("our own descriptors are whole"));

/// The method that a case calls `Service/Method`.
pub(crate) fn method(name: &str) -> MethodDescriptor {
    let (service, method) = name.split_once('/').unwrap_or_else(|| panic!("{name} is no method"));
    let service = POOL
        .services()
        .find(|known| known.name() == service)
        .unwrap_or_else(|| panic!("there is no service {service}"));
    let found = service.methods().find(|known| known.name() == method);
    found.unwrap_or_else(|| panic!("{} has no method {method}", service.full_name()))
}

/// The request that a case has written.
pub(crate) fn read(kind: MessageDescriptor, text: &str, base: i64) -> DynamicMessage {
    let mut message = DynamicMessage::parse_text_format(kind, text)
        .unwrap_or_else(|error| panic!("{text:?}: {error}"));
    each_field(&mut message, &mut |field, value| {
        if let (true, Value::I64(revision)) = (is_revision(field), value)
            && *revision >= LOWEST
        {
            *revision += base - BEFORE;
        }
    });
    message
}

/// An answer as it is compared.
pub(crate) fn write(mut message: DynamicMessage, base: i64) -> String {
    within_what_was_granted(&mut message);
    each_field(&mut message, &mut |field, value| say_what_can_be_compared(field, value, base));
    message.to_text_format_with_options(&FormatOptions::new().skip_unknown_fields(false))
}

/// A revision as it is compared.
pub(crate) const fn relative(revision: i64, base: i64) -> i64 {
    if revision == 0 { 0 } else { revision - base + BEFORE }
}

/// A revision of a case as the server knows it.
pub(crate) const fn absolute(revision: i64, base: i64) -> i64 {
    revision + base - BEFORE
}

/// A number in a field of a message, found by the names that lead there.
pub(crate) fn number(message: &DynamicMessage, path: &[&str]) -> i64 {
    let (name, rest) = path.split_first().expect("a path has names");
    let value = message.get_field_by_name(name);
    match (value.as_deref(), rest) {
        (Some(Value::I64(number)), []) => *number,
        (Some(Value::Message(inner)), [_, ..]) => number(inner, rest),
        other => panic!("there is no number at {name}: {other:?}"),
    }
}

/// Whether a field with this name holds a revision.
pub(crate) fn names_a_revision(name: &str) -> bool {
    REVISIONS.contains(&name)
}

fn is_revision(field: &FieldDescriptor) -> bool {
    names_a_revision(field.name())
}

fn say_what_can_be_compared(field: &FieldDescriptor, value: &mut Value, base: i64) {
    let place = format!("{}.{}", field.parent_message().name(), field.name());
    let there_or_not = THERE_OR_NOT.contains(&place.as_str());
    match value {
        Value::I64(number) if is_revision(field) => *number = relative(*number, base),
        Value::I64(number) if there_or_not => *number = i64::from(*number != 0),
        Value::U64(number) if there_or_not => *number = u64::from(*number != 0),
        Value::U32(number) if there_or_not => *number = u32::from(*number != 0),
        Value::String(text) if there_or_not => *text = "there".to_owned(),
        Value::I64(id) if matches!(field.name(), "ID" | "lease") => {
            *id = (*id).min(LARGEST_ID_OF_A_CASE);
        }
        Value::List(urls) if matches!(field.name(), "peerURLs" | "clientURLs") => {
            for url in urls {
                let text = url.as_str().unwrap_or_default();
                let is_local = text.starts_with("http://127.0.0.1:");
                *url = Value::String(if is_local { "a local URL" } else { text }.to_owned());
            }
        }
        // The keys of a lease come in no order.
        Value::List(keys) if place == "LeaseTimeToLiveResponse.keys" => {
            keys.sort_by_key(|key| key.as_bytes().cloned());
        }
        // One member of three looks like the only one.
        Value::List(members) if field.name() == "members" => {
            let mut seen = BTreeSet::new();
            members.retain(|member| seen.insert(format!("{member:?}")));
        }
        _ => {}
    }
}

/// What is left of a lease is not the same at two times: it only has to be within its bounds.
fn within_what_was_granted(message: &mut DynamicMessage) {
    if message.descriptor().name() != "LeaseTimeToLiveResponse" {
        return;
    }
    let (left, granted) = (number(message, &["TTL"]), number(message, &["grantedTTL"]));
    if left <= granted && left >= 0 && granted > 0 {
        message.set_field_by_name("TTL", Value::I64(granted));
    }
}

/// Shows every field that is set, the innermost first.
fn each_field(message: &mut DynamicMessage, show: &mut dyn FnMut(&FieldDescriptor, &mut Value)) {
    for (field, value) in message.fields_mut() {
        match value {
            Value::Message(inner) => each_field(inner, show),
            Value::List(list) => {
                for value in list {
                    if let Value::Message(inner) = value {
                        each_field(inner, show);
                    }
                }
            }
            _ => {}
        }
        show(&field, value);
    }
}
