//! `GET /v1/node`: what this node measures of itself, for those who look for what is wrong.
//!
//! Every number is also a metric; here they come together, as one moment, in a form that a command
//! can judge (`mainstay doctor`). Nobody else is asked.

use std::time::Duration;

use mainstay_consensus::{ReadOnlyReason, Status};
use mainstay_kv::Store;
use mainstay_storage::Storage;

use crate::{
    http::{
        answer,
        front::{Answered, Asked, Front, SharedFront},
        json::Document,
        query::Query,
        terms::Terms,
    },
    life::VERSION,
    member_names::MemberNames,
};

/// `GET /v1/node`.
pub(crate) async fn get(front: SharedFront, request: Asked) -> Answered {
    Query::parse(request.uri().query(), &[])?;
    Terms::read(request.headers())?;
    let free_bytes = front.door.consensus().free_bytes().await;
    Ok(answer::json(front.stamp.now(), node(&front, free_bytes)))
}

fn node(front: &Front, free_bytes: Option<u64>) -> Document {
    let consensus = front.door.consensus();
    let status = consensus.status();
    let names = MemberNames::of(&status);
    let mut document = Document::with_capacity(1_024);
    document.text("{");
    names.write_identity(&mut document, status.node_id);
    document.text(",\"version\":").string(VERSION).text(",");
    write_versions(&mut document, front, &names);
    // Taken last of all that waits: whoever asks compares it with its own clock.
    document.number("wall_clock_ms", mainstay_world::wall_clock_ms()).text(",");
    write_disk(&mut document, &status, consensus.storage().as_ref(), free_bytes);
    document.text(",");
    let (space, keys) = front.door.store(|store| (Store::space(store), store.key_count()));
    document.text("\"store\":{").decimal("bytes", space.bytes).text(",");
    document.decimal("quota_bytes", space.quota_bytes).text(",").decimal("keys", keys).text(",");
    document.flag("warning", space.warning).text(",").flag("full", space.full).text("},");
    let counters = consensus.counters();
    document.text("\"peers\":").list(&counters.peer_round_trips, |document, (id, round_trip)| {
        document.text("{");
        names.write_identity(document, *id);
        let healthy = status.members.get(id).is_some_and(|member| member.healthy);
        document.text(",").flag("healthy", healthy).text(",");
        document.duration_ms("round_trip_ms", *round_trip).text(",");
        let failures = counters.peer_failures.get(id).copied().unwrap_or(0);
        document.decimal("failures", failures);
        match counters.peer_versions.get(id) {
            Some(told) => {
                document.text(",").number("protocol", told.protocol.into()).text(",\"formats\":{");
                write_span(document, told.formats.0, told.formats.1);
                document.text("}");
            }
            None => {
                document.text(",\"protocol\":null,\"formats\":null");
            }
        }
        document.text("}");
    });
    document.text("}");
    document
}

/// What the node speaks and applies, and what is in force.
fn write_versions(document: &mut Document, front: &Front, names: &MemberNames) {
    let consensus = front.door.consensus();
    let versions = consensus.versions();
    document.text("\"protocols\":{");
    write_span(document, versions.protocols.0.into(), versions.protocols.1.into());
    document.text("},\"formats\":{");
    write_span(document, versions.formats.0, versions.formats.1);
    let in_force = front.door.store(|store| store.settings().format);
    document.text(",").number("in_force", in_force).text(",\"held_up\":");
    match consensus.held_up_format() {
        None => {
            document.text("null},");
        }
        Some(held) => {
            document.text("{").number("newest", held.format).text(",");
            document.duration_ms("for_ms", held.since).text(",\"by\":");
            document.list(&held.by, |document, id| {
                document.string(&names.spoken(*id));
            });
            document.text("}},");
        }
    }
}

fn write_span(document: &mut Document, oldest: u64, newest: u64) {
    document.number("oldest", oldest).text(",").number("newest", newest);
}

/// What the node knows of its disk; nulls before it is in a cluster.
fn write_disk(
    document: &mut Document,
    status: &Status,
    storage: Option<&Storage>,
    free_bytes: Option<u64>,
) {
    let syncs = storage.map(Storage::sync_stats);
    let oldest = storage.and_then(|storage| storage.progress().oldest_unfinished);
    document.text("\"disk\":{").decimal("syncs", syncs.as_ref().map_or(0, |syncs| syncs.count));
    document.text(",");
    match syncs.and_then(|syncs| syncs.recent_p99) {
        Some(p99) => document.duration_ms("sync_p99_ms", p99),
        None => document.text("\"sync_p99_ms\":null"),
    };
    document.text(",").duration_ms("oldest_sync_ms", oldest.unwrap_or(Duration::ZERO)).text(",");
    document.decimal("log_bytes", storage.map_or(0, Storage::log_bytes)).text(",");
    match free_bytes {
        Some(bytes) => document.decimal("free_bytes", bytes),
        None => document.text("\"free_bytes\":null"),
    };
    let is_reserved = status.read_only == Some(ReadOnlyReason::DiskReserve);
    document.text(",").flag("reserve_in_use", is_reserved).text("}");
}
