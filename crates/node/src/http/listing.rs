//! `GET /v1/kv`: a page of keys, and the pages after it, all of one moment.

use bytes::Bytes;
use mainstay_kv::{KeyRange, RangeAnswer, RangeQuery};
use mainstay_service::PageBounds;

use crate::http::{
    answer,
    cursor::Cursor,
    front::{Answered, Asked, SharedFront},
    json::Document,
    keys::consistency,
    problem::Problem,
    query::Query,
    terms::Terms,
};

const LIMIT_DEFAULT: u64 = 1_000;
const LIMIT_MAX: u64 = 10_000;

/// Bytes of keys and values after which a page ends, so that writing it down does not hold up
/// everything else.
const PAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

const KNOWN: [&str; 8] = [
    "prefix",
    "prefix_base64",
    "limit",
    "cursor",
    "keys_only",
    "count_only",
    "revision",
    "consistency",
];

/// `GET /v1/kv`.
pub(crate) async fn get(front: SharedFront, request: Asked) -> Answered {
    let query = Query::parse(request.uri().query(), &KNOWN)?;
    let terms = Terms::read(request.headers())?;
    let limit = query.number("limit")?.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(Problem::bad_parameter("limit", "is 1 to 10000"));
    }
    let prefix = query.bytes("prefix", "prefix_base64")?;
    let revision = query.number("revision")?;
    let cursor = cursor(&query, prefix.as_ref(), revision)?;
    let keys_only = query.flag("keys_only")?;
    let wanted = match &cursor {
        None => {
            let range = KeyRange::prefix(prefix.clone().unwrap_or_default());
            RangeQuery { revision: revision.unwrap_or_default(), ..RangeQuery::new(range) }
        }
        Some(cursor) => {
            let mut range = KeyRange::prefix(cursor.prefix.clone());
            range.start_after(&cursor.last_key);
            RangeQuery { revision: cursor.revision, ..RangeQuery::new(range) }
        }
    };
    let wanted = RangeQuery { limit, keys_only, count_only: query.flag("count_only")?, ..wanted };
    let caller = terms.reader(consistency(&query)?);
    // The first page counts for all of them.
    let bounds = PageBounds { bytes_max: PAGE_BYTES_MAX, counted: cursor.is_none() };
    let read = front.door.page(&caller, &wanted, bounds).await?;

    let at = if wanted.revision == 0 { read.revision } else { wanted.revision };
    let count = cursor.as_ref().map_or(read.answer.count, |cursor| cursor.count);
    let prefix = cursor.map(|cursor| cursor.prefix).or(prefix).unwrap_or_default();
    let document = page(&read.answer, at, count, prefix);
    Ok(answer::json(front.stamp.read(read.revision, read.freshness), document))
}

/// The cursor, if one was sent; the other parameters must not contradict it.
fn cursor(
    query: &Query<'_>,
    prefix: Option<&Bytes>,
    revision: Option<u64>,
) -> Result<Option<Cursor>, Problem> {
    if !query.has("cursor") {
        return Ok(None);
    }
    let bytes = query.base64("cursor")?.unwrap_or_default();
    let Some(cursor) = Cursor::decode(&bytes) else {
        return Err(Problem::bad_parameter("cursor", "is not one that a page ended with"));
    };
    if prefix.is_some_and(|prefix| *prefix != cursor.prefix) {
        return Err(Problem::bad_parameter("cursor", "belongs to another prefix"));
    }
    if revision.is_some_and(|revision| revision != cursor.revision) {
        return Err(Problem::bad_parameter("cursor", "belongs to another revision"));
    }
    Ok(Some(cursor))
}

fn page(answer: &RangeAnswer, revision: u64, count: u64, prefix: Bytes) -> Document {
    let bytes: usize =
        answer.pairs.iter().map(|pair| (pair.key.len() + pair.value.len()) * 4 / 3 + 128).sum();
    let mut document = Document::with_capacity(bytes + 128);
    document.text("{").decimal("revision", revision).text(",").decimal("count", count);
    document.text(",\"pairs\":").pairs(&answer.pairs).text(",\"cursor\":");
    match answer.pairs.last() {
        Some(last) if answer.more => {
            let last_key = last.key.clone();
            let cursor = Cursor { revision, count, last_key, prefix };
            document.text("\"").text(&cursor.encode()).text("\"");
        }
        _ => {
            document.text("null");
        }
    }
    document.text("}");
    document
}
