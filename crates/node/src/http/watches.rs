//! `GET /v1/watch`: changes as server-sent events.
//!
//! Each message is one revision with all its events, and its id is the revision, so a browser or
//! a client that reconnects says by itself from where to go on. What waits is written in one
//! piece, up to a bound.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Method, header::CACHE_CONTROL};
use mainstay_kv::{Event, EventKind, KeyRange, RangeEnd};
use mainstay_service::{
    Consistency, Freshness, Watch, WatchMessage, WatchRequest, WatchedRevision,
};

use crate::http::{
    answer,
    body::Body,
    front::{Answered, Asked, SharedFront},
    json::Document,
    problem::Problem,
    query::Query,
    terms::Terms,
};

const PROGRESS_MS_DEFAULT: u64 = 5_000;

/// Bytes after which a piece of the stream is sent although more waits.
const PIECE_BYTES: usize = 64 * 1024;

const KNOWN: [&str; 9] = [
    "key",
    "key_base64",
    "prefix",
    "prefix_base64",
    "range_end_base64",
    "from_revision",
    "filter",
    "previous",
    "progress_ms",
];

/// `GET /v1/watch`.
pub(crate) async fn get(front: SharedFront, request: Asked) -> Answered {
    let query = Query::parse(request.uri().query(), &KNOWN)?;
    let terms = Terms::read(request.headers())?;
    let caller = terms.reader(Consistency::Stale);
    let wanted = watch_request(&query, &terms)?;
    let from_now = wanted.from_revision == 0;
    let watch = front.door.watch(&caller, wanted)?;
    // A watch from now on says after which revision that is.
    let revision = if from_now {
        watch.from_revision() - 1
    } else {
        front.door.store(mainstay_kv::Store::revision)
    };
    // What it tells first may be as far behind as this node is.
    let freshness = Freshness::Stale(front.door.consensus().staleness());
    let mut headers = front.stamp.read(revision, freshness);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let mut response = answer::bytes(headers, "text/event-stream", Bytes::new());
    if request.method() != Method::HEAD {
        *response.body_mut() = Body::stream(stream::unfold(watch, next_piece));
    }
    Ok(response)
}

fn watch_request(query: &Query<'_>, terms: &Terms<'_>) -> Result<WatchRequest, Problem> {
    let key = query.bytes("key", "key_base64")?;
    let prefix = query.bytes("prefix", "prefix_base64")?;
    let range_end = query.base64("range_end_base64")?;
    let range = match (key, prefix, range_end) {
        (Some(key), None, None) => KeyRange::key(key),
        (Some(start), None, Some(end)) => KeyRange { start, end: RangeEnd::Before(end) },
        (None, Some(prefix), None) => KeyRange::prefix(prefix),
        _ => {
            let detail = "a watch wants key, key and range_end_base64, or prefix";
            return Err(Problem::bad_request("bad_parameter", detail));
        }
    };
    // A client that reconnects was told everything up to that id.
    let from_revision = match terms.last_event_id() {
        Some(id) => id.saturating_add(1),
        None => query.number("from_revision")?.unwrap_or_default(),
    };
    let filter = query.choice("filter", &["no_put", "no_delete"])?;
    let progress_ms = query.number("progress_ms")?.unwrap_or(PROGRESS_MS_DEFAULT);
    if !(100..=600_000).contains(&progress_ms) {
        return Err(Problem::bad_parameter("progress_ms", "is 100 to 600000"));
    }
    Ok(WatchRequest {
        range,
        from_revision,
        previous: query.flag("previous")?,
        no_put: filter == Some(0),
        no_delete: filter == Some(1),
        progress_interval: Some(Duration::from_millis(progress_ms)),
        catch_up_when_slow: false,
    })
}

/// The next piece of the stream: all that waits, up to a bound.
async fn next_piece(mut watch: Watch) -> Option<(Bytes, Watch)> {
    let previous = watch.wants_previous();
    let mut message = watch.next().await?;
    let mut piece = Document::with_capacity(512);
    loop {
        write_message(&mut piece, &message, previous);
        if piece.len() >= PIECE_BYTES {
            break;
        }
        match watch.ready() {
            Some(next) => message = next,
            None => break,
        }
    }
    Some((piece.finish(), watch))
}

fn write_message(piece: &mut Document, message: &WatchMessage, previous: bool) {
    match message {
        WatchMessage::Changes(changes) => write_changes(piece, changes, previous),
        WatchMessage::Progress { revision } => {
            piece.text("event: progress\nid: ").text(&revision.to_string()).text("\ndata: {");
            piece.decimal("revision", *revision).text("}\n\n");
        }
        WatchMessage::Compacted { compact_revision } => {
            piece.text("event: compacted\ndata: {");
            piece.decimal("compact_revision", *compact_revision).text("}\n\n");
        }
        WatchMessage::Cancelled { reason, resume_revision } => {
            piece.text("event: cancelled\ndata: {\"reason\":\"").text(reason.as_str());
            piece.text("\",").decimal("resume_revision", *resume_revision).text("}\n\n");
        }
    }
}

fn write_changes(piece: &mut Document, changes: &WatchedRevision, previous: bool) {
    let revision = changes.revision();
    piece.text("event: change\nid: ").text(&revision.to_string()).text("\ndata: {");
    piece.decimal("revision", revision).text(",\"events\":");
    piece.list(changes.events(), |piece, event| write_event(piece, event, previous));
    piece.text("}\n\n");
}

fn write_event(piece: &mut Document, event: &Event, previous: bool) {
    match event.kind {
        EventKind::Put => {
            piece.text("{\"type\":\"put\",").pair_members(&event.pair);
            piece.text(",\"previous\":").pair_or_null(event.previous.as_ref().filter(|_| previous));
        }
        EventKind::Delete => {
            piece.text("{\"type\":\"delete\",\"key\":").base64(&event.pair.key).text(",");
            piece.decimal("mod_revision", event.pair.mod_revision);
            if previous {
                piece.text(",\"previous\":").pair_or_null(event.previous.as_ref());
            }
        }
    }
    piece.text("}");
}
