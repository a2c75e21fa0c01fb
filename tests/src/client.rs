//! The native HTTP API, spoken to one node.
//!
//! It adds nothing of its own: no retries, no other endpoint, no patience. A request is answered
//! by that node, or it is [`Unanswered`], and then the caller knows whether it was ever sent.

use std::{fmt::Write as _, time::Duration};

use reqwest::{Method, header::HeaderMap};
use serde_json::{Value, json};

/// How long an answer may take. Longer than a node works on a request unless told otherwise.
const ANSWER_MAX: Duration = Duration::from_secs(15);

/// A caller of one node; cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    url: String,
}

/// A request that is being put together.
#[derive(Debug)]
pub struct Request(reqwest::RequestBuilder);

/// What a node answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

/// A request without an answer.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// There was no connection: it cannot have had an effect.
    #[error("not sent: {0:?}")]
    NotSent(reqwest::Error),
    /// The connection broke or the answer did not come in time: nobody knows.
    #[error("sent, but not answered: {0:?}")]
    Lost(reqwest::Error),
}

/// The problem document of an answer that is an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The status within the document.
    pub status: u64,
    /// The code.
    pub code: String,
    /// What happened, for people.
    pub detail: String,
    /// `yes`, `no` or `unknown`.
    pub took_effect: String,
}

impl Client {
    /// A caller of the node at `url`.
    ///
    /// # Panics
    /// If the system has no sockets.
    #[must_use]
    pub fn new(url: &str) -> Self {
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(2))
            .no_proxy()
            .build()
            .expect("a client without TLS needs nothing that could be missing");
        Self { http, url: url.to_owned() }
    }

    /// The node's address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A request to any route: `path` begins with a slash and is sent as it is.
    ///
    /// # Panics
    /// If `method` is no HTTP method.
    #[must_use]
    pub fn request(&self, method: &str, path: &str) -> Request {
        let method = Method::from_bytes(method.as_bytes()).expect("tests name HTTP methods");
        let request = self.http.request(method, format!("{}{path}", self.url));
        Request(request.timeout(ANSWER_MAX))
    }

    /// `PUT /v1/kv/{key}`.
    #[must_use]
    pub fn put(&self, key: &str, value: impl Into<Vec<u8>>) -> Request {
        self.request("PUT", &key_path(key)).body(value)
    }

    /// `GET /v1/kv/{key}`.
    #[must_use]
    pub fn get(&self, key: &str) -> Request {
        self.request("GET", &key_path(key))
    }

    /// `GET /v1/kv/{key}` from the node's own store.
    #[must_use]
    pub fn get_stale(&self, key: &str) -> Request {
        self.request("GET", &format!("{}?consistency=stale", key_path(key)))
    }

    /// `DELETE /v1/kv/{key}`.
    #[must_use]
    pub fn delete(&self, key: &str) -> Request {
        self.request("DELETE", &key_path(key))
    }

    /// `POST` of a JSON document.
    #[must_use]
    pub fn post(&self, path: &str, document: &Value) -> Request {
        self.request("POST", path).json(document)
    }

    /// Grants a lease and tells its id.
    ///
    /// # Panics
    /// If the node does not grant it.
    pub async fn grant_lease(&self, ttl_ms: u64) -> String {
        let answer = self.post("/v1/leases", &json!({ "ttl_ms": ttl_ms })).answer().await;
        answer.expect_status(200).json()["id"].as_str().expect("an id is a string").to_owned()
    }

    /// `GET /v1/cluster`, quickly or not at all.
    ///
    /// # Errors
    /// [`Unanswered`].
    pub async fn cluster(&self) -> Result<Answer, Unanswered> {
        self.request("GET", "/v1/cluster").within(Duration::from_secs(2)).send().await
    }

    /// Every pair under `prefix` at one moment, page by page.
    ///
    /// # Panics
    /// If the node does not answer with pages.
    pub async fn pairs(&self, prefix: &str) -> Vec<Value> {
        let mut pairs = Vec::new();
        let mut cursor = String::new();
        loop {
            let path = format!("/v1/kv?prefix={}&limit=2000{cursor}", percent_encoded(prefix));
            let mut page = self.request("GET", &path).answer().await.expect_status(200).json();
            let Value::Array(more) = page["pairs"].take() else { panic!("no pairs: {page}") };
            pairs.extend(more);
            match page["cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={}", percent_encoded(next)),
                None => return pairs,
            }
        }
    }
}

impl Request {
    /// Adds a header.
    #[must_use]
    pub fn header(self, name: &str, value: &str) -> Self {
        Self(self.0.header(name, value))
    }

    /// Sends these bytes.
    #[must_use]
    pub fn body(self, bytes: impl Into<Vec<u8>>) -> Self {
        Self(self.0.body(bytes.into()))
    }

    /// Sends this document.
    #[must_use]
    pub fn json(self, document: &Value) -> Self {
        self.header("content-type", "application/json").body(document.to_string())
    }

    /// Makes the request repeatable.
    #[must_use]
    pub fn key(self, idempotency_key: &str) -> Self {
        self.header("Idempotency-Key", idempotency_key)
    }

    /// Makes the request the write of that number in a session.
    #[must_use]
    pub fn session(self, session: &str, number: u64) -> Self {
        self.header("Mainstay-Session", session)
            .header("Mainstay-Session-Number", &number.to_string())
    }

    /// How long the node may work on it.
    #[must_use]
    pub fn timeout_ms(self, ms: u64) -> Self {
        self.header("Mainstay-Timeout-Ms", &ms.to_string())
    }

    /// How long the caller waits for the answer.
    #[must_use]
    pub fn within(self, answer_max: Duration) -> Self {
        Self(self.0.timeout(answer_max))
    }

    /// Sends it, whatever comes of it.
    ///
    /// # Errors
    /// [`Unanswered`].
    pub async fn send(self) -> Result<Answer, Unanswered> {
        let failed = |error: reqwest::Error| {
            if error.is_connect() { Unanswered::NotSent(error) } else { Unanswered::Lost(error) }
        };
        let response = self.0.send().await.map_err(failed)?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.bytes().await.map_err(Unanswered::Lost)?.to_vec();
        Ok(Answer { status, headers, body })
    }

    /// Sends it to a node that must answer.
    ///
    /// # Panics
    /// If it does not.
    pub async fn answer(self) -> Answer {
        self.send().await.unwrap_or_else(|error| panic!("the node does not answer: {error}"))
    }

    /// Sends it as an endless stream: no deadline, and the answer's head only.
    pub(crate) async fn stream(self) -> Result<reqwest::Response, reqwest::Error> {
        self.0.timeout(Duration::from_secs(3_600)).send().await
    }
}

impl Answer {
    /// The answer, if it has this status.
    ///
    /// # Panics
    /// If it has another.
    #[track_caller]
    pub fn expect_status(&self, status: u16) -> &Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("no JSON ({error}): {}", self.text()))
    }

    /// A header, empty if it is not there.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// A number in a header.
    ///
    /// # Panics
    /// If the header is not there or holds something else.
    #[must_use]
    #[track_caller]
    pub fn number(&self, name: &str) -> u64 {
        let text = self.header(name);
        text.parse().unwrap_or_else(|_error| panic!("{name} is no number: {text:?}"))
    }

    /// The `revision` of a JSON answer.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    #[track_caller]
    pub fn revision(&self) -> u64 {
        let document = self.json();
        let revision = document["revision"].as_str().and_then(|text| text.parse().ok());
        revision.unwrap_or_else(|| panic!("no revision: {document}"))
    }

    /// The problem document, if the answer is one.
    #[must_use]
    pub fn problem(&self) -> Option<Problem> {
        if self.header("content-type") != "application/problem+json" {
            return None;
        }
        let document: Value = serde_json::from_slice(&self.body).ok()?;
        let text = |name: &str| Some(document[name].as_str()?.to_owned());
        Some(Problem {
            status: document["status"].as_u64()?,
            code: text("code")?,
            detail: text("detail")?,
            took_effect: text("took_effect")?,
        })
    }

    /// The problem document, which must have this status and code.
    ///
    /// # Panics
    /// If the answer is another.
    #[track_caller]
    pub fn expect_problem(&self, status: u16, code: &str) -> Problem {
        let problem = self.problem();
        let problem =
            problem.unwrap_or_else(|| panic!("{} is no problem: {}", self.status, self.text()));
        let wanted = (status, u64::from(status), code);
        assert_eq!((self.status, problem.status, problem.code.as_str()), wanted, "{problem:?}");
        problem
    }
}

/// The path of a key.
fn key_path(key: &str) -> String {
    format!("/v1/kv/{}", percent_encoded(key))
}

/// `text` with everything percent-encoded that could mean something else in a URL.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("a string takes all that is written");
        }
    }
    encoded
}
