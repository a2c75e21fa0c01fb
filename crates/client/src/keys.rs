//! Keys: get, put, delete, and pages of many.

use std::fmt::Write as _;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{
    HeaderValue, Method, StatusCode,
    header::{IF_MATCH, IF_NONE_MATCH},
};
use mainstay_kv::{Origin, query::KeyValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use serde::Deserialize;

use crate::{
    answer::{Answer, AnswerHeader},
    call::{Call, malformed, unsendable},
    client::Client,
    error::CallError,
    json::{Decimal, PairJson, pairs},
    transport::RawAnswer,
};

/// What stands in a path as it is; everything else is percent-encoded.
const PATH: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');
/// What stands in a query as it is.
const QUERY: &AsciiSet = &PATH.add(b'/');
/// The longest key that is put into a request; nodes take far less, and say so.
const KEY_BYTES_MAX: usize = 16 * 1024;

/// How fresh an answer must be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Consistency {
    /// It holds every write that was acknowledged before the question.
    #[default]
    Linearizable,
    /// It is what the asked node has; the answer says how old that may be.
    Stale,
}

/// Reads one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetRequest {
    /// The key.
    pub key: Bytes,
    /// The revision to read at; `None` is the present one.
    pub revision: Option<u64>,
    /// How fresh the answer must be.
    pub consistency: Consistency,
}

/// Writes one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutRequest {
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// The lease to attach, 0 for none.
    pub lease: u64,
    /// What must hold, or nothing is written.
    pub condition: Option<Condition>,
    /// What makes a repeated write recognisable. Unnumbered, it gets a number of the client's own
    /// session, see [`ClientOptions::sessions`](crate::ClientOptions::sessions).
    pub origin: Origin,
}

/// Deletes one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteRequest {
    /// The key.
    pub key: Bytes,
    /// Delete only if this is the key's mod revision.
    pub if_mod_revision: Option<u64>,
    /// What makes a repeated write recognisable. Unnumbered, it gets a number of the client's own
    /// session, see [`ClientOptions::sessions`](crate::ClientOptions::sessions).
    pub origin: Origin,
}

/// What must hold for a put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// The key exists and this is its mod revision.
    ModRevision(u64),
    /// The key does not exist.
    Absent,
}

/// Reads the keys of a prefix, page by page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PageRequest {
    /// What the keys start with; empty is all keys.
    pub prefix: Bytes,
    /// The most keys of a page; `None` leaves it to the node.
    pub limit: Option<u32>,
    /// Where an earlier page ended.
    pub cursor: Option<String>,
    /// Leave the values out.
    pub keys_only: bool,
    /// Return the count alone.
    pub count_only: bool,
    /// The revision to read at; `None` is the present one.
    pub revision: Option<u64>,
    /// How fresh the answer must be.
    pub consistency: Consistency,
}

/// What a put did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// The revision of the write.
    pub revision: u64,
    /// Whether the key did not exist before.
    pub created: bool,
}

/// What a delete did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deleted {
    /// How many keys were deleted.
    pub deleted: u64,
    /// The store's revision after it.
    pub revision: u64,
}

/// A page of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The revision that all pages are read at.
    pub revision: u64,
    /// All keys of the prefix at that revision.
    pub count: u64,
    /// The pairs of this page, by key.
    pub pairs: Vec<KeyValue>,
    /// Where the next page starts; `None` after the last.
    pub cursor: Option<String>,
}

/// Walks over all pages of a request, all of one revision.
#[derive(Debug)]
pub struct Pages {
    client: Client,
    next: Option<PageRequest>,
}

impl Client {
    /// Reads a key; the value is `None` if there is no such key.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn get(
        &self,
        request: impl Into<GetRequest>,
    ) -> Result<Answer<Option<KeyValue>>, CallError> {
        let request = request.into();
        let mut path = key_path(&request.key)?;
        let mut query = Query::new(&mut path);
        query.read_options(request.revision, request.consistency);
        let call = Call::read(path).also_answers(StatusCode::NOT_FOUND);
        let answer = self.call(&call).await?;
        let header = AnswerHeader::from_headers(&answer.headers);
        if answer.status == StatusCode::NOT_FOUND {
            return absent(&call, answer).map(|()| Answer { value: None, header });
        }
        let Some(pair) = pair_of(request.key, &answer) else {
            let what = "the revisions of the key are missing".to_owned();
            return Err(malformed(&call, answer.endpoint, what));
        };
        Ok(Answer { value: Some(pair), header })
    }

    /// Writes a key.
    ///
    /// # Errors
    /// [`CallError`]; a condition that does not hold is code `compare_failed` or `exists`.
    pub async fn put(&self, request: PutRequest) -> Result<Answer<Written>, CallError> {
        #[derive(Deserialize)]
        struct PutJson {
            revision: Decimal,
            created: bool,
        }
        let mut path = key_path(&request.key)?;
        if request.lease != 0 {
            Query::new(&mut path).number("lease", request.lease);
        }
        let mut call = Call::write(Method::PUT, path).body(request.value);
        call = match request.condition {
            Some(Condition::ModRevision(revision)) => call.header(IF_MATCH, entity_tag(revision)),
            Some(Condition::Absent) => call.header(IF_NONE_MATCH, HeaderValue::from_static("*")),
            None => call,
        };
        let answer = self.write_json::<PutJson>(call, &request.origin).await?;
        Ok(answer.map(|put| Written { revision: put.revision.0, created: put.created }))
    }

    /// Deletes a key; it is no error if there is none.
    ///
    /// # Errors
    /// [`CallError`]; a condition that does not hold is code `compare_failed`.
    pub async fn delete(
        &self,
        request: impl Into<DeleteRequest>,
    ) -> Result<Answer<Deleted>, CallError> {
        #[derive(Deserialize)]
        struct DeleteJson {
            deleted: Decimal,
            revision: Decimal,
        }
        let request = request.into();
        let path = key_path(&request.key)?;
        let mut call = Call::write(Method::DELETE, path);
        if let Some(revision) = request.if_mod_revision {
            call = call.header(IF_MATCH, entity_tag(revision));
        }
        let answer = self.write_json::<DeleteJson>(call, &request.origin).await?;
        Ok(answer.map(|json| Deleted { deleted: json.deleted.0, revision: json.revision.0 }))
    }

    /// Reads one page of keys.
    ///
    /// # Errors
    /// [`CallError`]; a cursor whose revision was compacted is code `compacted`.
    pub async fn page(&self, request: &PageRequest) -> Result<Answer<Page>, CallError> {
        #[derive(Deserialize)]
        struct PageJson {
            revision: Decimal,
            count: Decimal,
            #[serde(default)]
            pairs: Vec<PairJson>,
            cursor: Option<String>,
        }
        let mut path = String::from("/v1/kv");
        let mut query = Query::new(&mut path);
        query.base64("prefix_base64", &request.prefix);
        if let Some(limit) = request.limit {
            query.number("limit", limit.into());
        }
        if let Some(cursor) = &request.cursor {
            query.bytes("cursor", cursor.as_bytes());
        }
        query.flag("keys_only", request.keys_only);
        query.flag("count_only", request.count_only);
        query.read_options(request.revision, request.consistency);
        let answer = self.call_json::<PageJson>(&Call::read(path)).await?;
        Ok(answer.map(|page| Page {
            revision: page.revision.0,
            count: page.count.0,
            pairs: pairs(page.pairs),
            cursor: page.cursor,
        }))
    }

    /// Walks over all pages of `request`, all of one revision.
    #[must_use]
    pub fn pages(&self, request: PageRequest) -> Pages {
        Pages { client: self.clone(), next: Some(request) }
    }
}

impl Pages {
    /// The next page; `None` after the last. After an error the same page is asked for again.
    ///
    /// # Errors
    /// As [`Client::page`].
    pub async fn next(&mut self) -> Result<Option<Page>, CallError> {
        let Some(request) = &mut self.next else { return Ok(None) };
        let page = self.client.page(request).await?.value;
        match &page.cursor {
            Some(cursor) => request.cursor = Some(cursor.clone()),
            None => self.next = None,
        }
        Ok(Some(page))
    }
}

impl PutRequest {
    /// An unconditional write without a lease.
    #[must_use]
    pub fn new(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self {
            key: key.into(),
            value: value.into(),
            lease: 0,
            condition: None,
            origin: Origin::Unnumbered,
        }
    }
}

impl GetRequest {
    /// A linearizable read of the present value.
    #[must_use]
    pub fn new(key: impl Into<Bytes>) -> Self {
        Self { key: key.into(), revision: None, consistency: Consistency::Linearizable }
    }
}

impl From<&str> for GetRequest {
    fn from(key: &str) -> Self {
        Self::new(Bytes::copy_from_slice(key.as_bytes()))
    }
}

impl DeleteRequest {
    /// An unconditional delete.
    #[must_use]
    pub fn new(key: impl Into<Bytes>) -> Self {
        Self { key: key.into(), if_mod_revision: None, origin: Origin::Unnumbered }
    }
}

impl From<&str> for DeleteRequest {
    fn from(key: &str) -> Self {
        Self::new(Bytes::copy_from_slice(key.as_bytes()))
    }
}

/// The path of a key.
pub(crate) fn key_path(key: &[u8]) -> Result<String, CallError> {
    if key.len() > KEY_BYTES_MAX {
        return Err(unsendable("the key is longer than 16384 bytes, which no node takes"));
    }
    let mut path = String::from("/v1/kv/");
    if key.split(|byte| *byte == b'/').any(|segment| matches!(segment, b"." | b"..")) {
        // What stands between could take such a segment for a step in a folder tree.
        Query::new(&mut path).base64("key_base64", key);
    } else {
        path.extend(percent_encode(key, PATH));
    }
    Ok(path)
}

/// Appends parameters to a path.
pub(crate) struct Query<'a> {
    path: &'a mut String,
}

impl<'a> Query<'a> {
    pub(crate) const fn new(path: &'a mut String) -> Self {
        Self { path }
    }

    pub(crate) fn bytes(&mut self, name: &str, value: &[u8]) {
        let separator = if self.path.contains('?') { '&' } else { '?' };
        let value = percent_encode(value, QUERY);
        write!(self.path, "{separator}{name}={value}").expect("a string takes all that is written");
    }

    pub(crate) fn base64(&mut self, name: &str, value: &[u8]) {
        self.bytes(name, STANDARD.encode(value).as_bytes());
    }

    pub(crate) fn number(&mut self, name: &str, value: u64) {
        self.bytes(name, value.to_string().as_bytes());
    }

    pub(crate) fn flag(&mut self, name: &str, is_set: bool) {
        if is_set {
            self.bytes(name, b"true");
        }
    }

    fn read_options(&mut self, revision: Option<u64>, consistency: Consistency) {
        if let Some(revision) = revision {
            self.number("revision", revision);
        }
        self.consistency(consistency);
    }

    pub(crate) fn consistency(&mut self, consistency: Consistency) {
        if consistency == Consistency::Stale {
            self.bytes("consistency", b"stale");
        }
    }
}

fn entity_tag(revision: u64) -> HeaderValue {
    HeaderValue::try_from(format!("\"{revision}\"")).expect("digits in quotes are a header value")
}

/// Whether a 404 says that there is no such key, and not that there is no such route.
fn absent(call: &Call, answer: RawAnswer) -> Result<(), CallError> {
    match crate::call::refusal(&answer.endpoint, answer.status, &answer.body) {
        crate::error::Failure::Refused(problem) if problem.code == "not_found" => Ok(()),
        failure => Err(malformed(call, answer.endpoint, failure.to_string())),
    }
}

/// The pair in the answer to a GET; `None` if it is none.
fn pair_of(key: Bytes, answer: &RawAnswer) -> Option<KeyValue> {
    let number = |name: &str| answer.headers.get(name)?.to_str().ok()?.parse().ok();
    Some(KeyValue {
        key,
        create_revision: number("mainstay-create-revision")?,
        mod_revision: number("mainstay-mod-revision")?,
        version: number("mainstay-version")?,
        lease: number("mainstay-lease").unwrap_or(0),
        value: answer.body.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_become_paths_that_mean_the_same_bytes() {
        for (key, path) in [
            (&b"a"[..], "/v1/kv/a"),
            (b"config/a b", "/v1/kv/config/a%20b"),
            (b"/x//y", "/v1/kv//x//y"),
            (b"\x00\xff?#%", "/v1/kv/%00%FF%3F%23%25"),
            (b"..", "/v1/kv/?key_base64=Li4%3D"),
            (b"a/../b", "/v1/kv/?key_base64=YS8uLi9i"),
            (b"a..b", "/v1/kv/a..b"),
        ] {
            assert_eq!(key_path(key).expect("a path"), path);
        }
    }

    #[test]
    fn a_key_that_no_node_takes_is_not_sent() {
        let error = key_path(&[b'k'; KEY_BYTES_MAX + 1]).expect_err("too long");
        assert_eq!(error.took_effect, crate::error::TookEffect::No);
    }

    #[test]
    fn parameters_are_encoded_and_separated() {
        let mut path = String::from("/v1/kv");
        let mut query = Query::new(&mut path);
        query.base64("prefix_base64", b"\xff\xfe");
        query.number("limit", 5);
        query.flag("keys_only", false);
        query.flag("count_only", true);
        query.read_options(Some(7), Consistency::Stale);
        assert_eq!(
            path,
            "/v1/kv?prefix_base64=%2F%2F4%3D&limit=5&count_only=true&revision=7&consistency=stale"
        );
    }
}
