//! One call: attempts at one endpoint after the other until there is an answer, the deadline passes
//! or trying again could do harm.
//!
//! | the attempt | a read | a write that is recognised | any other write |
//! |---|---|---|---|
//! | was not sent | next endpoint | next endpoint | next endpoint |
//! | was refused for now, without effect | again | again | again |
//! | lost its answer | again | again | ends as unknown |
//! | was refused for good | ends | ends | ends |
//!
//! A retry after the first round of endpoints waits and pays from the budget. What an earlier
//! attempt left unknown stays unknown, unless the last answer settles it.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Method, Request, StatusCode,
    header::{CONTENT_TYPE, HOST},
};
use http_body_util::Full;
use mainstay_kv::Origin;
use mainstay_world::{Instant, random_u64, sleep};
use serde::de::DeserializeOwned;

use crate::{
    answer::{Answer, AnswerHeader},
    client::{Client, Shared},
    endpoint::Endpoint,
    error::{CallError, Failure, Problem, TookEffect},
    retry::Backoff,
    transport::{RawAnswer, Transport},
};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const SESSION: HeaderName = HeaderName::from_static("mainstay-session");
const SESSION_NUMBER: HeaderName = HeaderName::from_static("mainstay-session-number");
const SESSION_LOWEST_AWAITED: HeaderName =
    HeaderName::from_static("mainstay-session-lowest-awaited");
const TIMEOUT_MS: HeaderName = HeaderName::from_static("mainstay-timeout-ms");

/// The longest time that a node can be told to work on a request.
const NODE_TIMEOUT_MS_MAX: u64 = 60_000;

/// A request before it is bound to an endpoint.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    method: Method,
    /// Path and query, percent-encoded.
    path: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
    repeat: Repeat,
    /// A status that counts as an answer although it is none of success.
    also_answers: Option<StatusCode>,
}

/// What a repetition of the request would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repeat {
    /// Nothing: it changes nothing.
    Read,
    /// Nothing: it is recognised, or doing it twice is doing it once.
    Recognised,
    /// A second change.
    Twice,
}

impl Call {
    pub(crate) fn read(path: String) -> Self {
        Self::new(Method::GET, path, Repeat::Read)
    }

    pub(crate) fn write(method: Method, path: String) -> Self {
        Self::new(method, path, Repeat::Twice)
    }

    const fn new(method: Method, path: String, repeat: Repeat) -> Self {
        Self { method, path, headers: Vec::new(), body: Bytes::new(), repeat, also_answers: None }
    }

    /// A write that does no more when it is done twice.
    pub(crate) const fn repeatable(mut self) -> Self {
        self.repeat = Repeat::Recognised;
        self
    }

    /// A POST that only reads.
    pub(crate) const fn reads_only(mut self) -> Self {
        self.repeat = Repeat::Read;
        self
    }

    pub(crate) const fn also_answers(mut self, status: StatusCode) -> Self {
        self.also_answers = Some(status);
        self
    }

    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(crate) fn body(mut self, body: Bytes) -> Self {
        self.body = body;
        self
    }

    pub(crate) fn json(self, body: Vec<u8>) -> Self {
        let json = HeaderValue::from_static("application/json");
        self.header(CONTENT_TYPE, json).body(Bytes::from(body))
    }

    /// Marks a write so that the cluster recognises it when it is repeated.
    pub(crate) fn origin(self, origin: &Origin) -> Result<Self, CallError> {
        match origin {
            Origin::Unnumbered => Ok(self),
            Origin::Session { session, number, lowest_awaited } => Ok(self
                .header(SESSION, HeaderValue::from(*session))
                .header(SESSION_NUMBER, HeaderValue::from(*number))
                .header(SESSION_LOWEST_AWAITED, HeaderValue::from(*lowest_awaited))
                .repeatable()),
            Origin::Key(key) => {
                let value = HeaderValue::from_bytes(key).map_err(|_control_characters| {
                    unsendable("an idempotency key cannot hold control characters")
                })?;
                Ok(self.header(IDEMPOTENCY_KEY, value).repeatable())
            }
        }
    }

    fn is_read(&self) -> bool {
        self.repeat == Repeat::Read
    }

    /// The request as it goes to one endpoint, which is to give up after `wait`.
    pub(crate) fn request(
        &self,
        endpoint: &Endpoint,
        wait: Duration,
    ) -> Result<Request<Full<Bytes>>, Failure> {
        let mut builder = Request::builder()
            .method(self.method.clone())
            .uri(self.path.as_str())
            .header(HOST, endpoint.address())
            .header(TIMEOUT_MS, node_timeout_ms(wait));
        for (name, value) in &self.headers {
            builder = builder.header(name, value);
        }
        builder
            .body(Full::new(self.body.clone()))
            .map_err(|_invalid| Failure::Unsendable { what: "its path or headers are not HTTP" })
    }
}

/// What happened to a call so far.
#[derive(Debug)]
struct Progress {
    attempts: u32,
    /// Endpoints that were tried in this round: going on to one that was not costs neither time nor
    /// budget.
    tried: Vec<Endpoint>,
    /// Whether an endpoint was ever reached.
    reached: bool,
    /// Whether an earlier attempt may have changed something.
    left_unknown: bool,
    started: Instant,
    backoff: Backoff,
}

/// What to do after a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// The call has failed.
    Final,
    /// Try at once if there is an endpoint that was not tried yet, else after a wait.
    Elsewhere,
    /// Try only if there is an endpoint that was not tried yet.
    ElsewhereOnly,
    /// Try after the backoff, and not before this time has passed.
    After(Duration),
}

impl Client {
    /// Makes the call.
    pub(crate) async fn call(&self, call: &Call) -> Result<RawAnswer, CallError> {
        let shared = &*self.shared;
        let started = Instant::now();
        self.refresh_members_if_due(started);
        let deadline = started + shared.options.timeout;
        shared.budget.lock().unwrap_or_else(PoisonError::into_inner).deposit();
        let mut progress = Progress {
            attempts: 0,
            tried: Vec::new(),
            reached: false,
            left_unknown: false,
            started,
            backoff: Backoff::new(shared.options.backoff, shared.options.backoff_max),
        };
        loop {
            progress.attempts += 1;
            let node = progress.next_node(shared);
            let failure = match shared.attempt(&node, call, deadline).await {
                Ok(answer) => {
                    shared.endpoints.answered(node.endpoint(), answer.term());
                    return Ok(answer);
                }
                Err(failure) => failure,
            };
            tracing::debug!(attempt = progress.attempts, error = %failure, "attempt failed");
            let Some(wait) = shared.wait_before_retry(&mut progress, call, &failure, deadline)
            else {
                return Err(progress.into_error(call, failure));
            };
            progress.left_unknown |=
                !call.is_read() && failure.took_effect() == TookEffect::Unknown;
            if !matches!(&failure, Failure::Refused(problem) if problem.status == 429) {
                shared.endpoints.failed(node.endpoint(), Instant::now());
            }
            if !wait.is_zero() {
                sleep(wait).await;
            }
        }
    }

    /// Makes the call and reads the answer as JSON.
    pub(crate) async fn call_json<T: DeserializeOwned>(
        &self,
        call: &Call,
    ) -> Result<Answer<T>, CallError> {
        let answer = self.call(call).await?;
        match serde_json::from_slice(&answer.body) {
            Ok(value) => Ok(Answer { value, header: AnswerHeader::from_headers(&answer.headers) }),
            Err(error) => Err(malformed(call, answer.endpoint, error.to_string())),
        }
    }
}

impl Shared {
    pub(crate) async fn attempt(
        &self,
        transport: &Transport,
        call: &Call,
        deadline: Instant,
    ) -> Result<RawAnswer, Failure> {
        let remaining = deadline.since(Instant::now());
        let wait = match call.repeat {
            Repeat::Twice => remaining,
            Repeat::Read | Repeat::Recognised => remaining.min(self.options.attempt_timeout),
        };
        let request = call.request(transport.endpoint(), wait)?;
        let answer = transport.exchange(request, wait).await?;
        if answer.status.is_success() || call.also_answers == Some(answer.status) {
            return Ok(answer);
        }
        Err(refusal(&answer.endpoint, answer.status, &answer.body))
    }

    /// How long to wait before the next attempt; `None` if there is to be none.
    fn wait_before_retry(
        &self,
        progress: &mut Progress,
        call: &Call,
        failure: &Failure,
        deadline: Instant,
    ) -> Option<Duration> {
        progress.reached |= !matches!(failure, Failure::Unreachable { .. });
        let at_least = match verdict(call, failure) {
            Verdict::Elsewhere | Verdict::ElsewhereOnly
                if self.endpoints.pick(&progress.tried, Instant::now()).is_some() =>
            {
                return Some(Duration::ZERO);
            }
            Verdict::Final | Verdict::ElsewhereOnly => return None,
            Verdict::Elsewhere => Duration::ZERO,
            Verdict::After(at_least) => at_least,
        };
        let wait = progress.backoff.wait(random_u64()).max(at_least);
        let now = Instant::now();
        let hopeless =
            !progress.reached && now.since(progress.started) > self.options.unreachable_patience;
        let in_time = wait < deadline.since(now) && !hopeless;
        let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        (in_time && budget.withdraw(now)).then_some(wait)
    }
}

impl Progress {
    /// The node to try now; when all were tried a new round begins.
    fn next_node(&mut self, shared: &Shared) -> Arc<Transport> {
        let now = Instant::now();
        let node = shared.endpoints.pick(&self.tried, now).unwrap_or_else(|| {
            self.tried.clear();
            shared.endpoints.preferred(now)
        });
        self.tried.push(node.endpoint().clone());
        node
    }

    fn into_error(self, call: &Call, failure: Failure) -> CallError {
        let settled =
            matches!(&failure, Failure::Refused(problem) if problem.settles_earlier_attempts());
        let took_effect = if call.is_read() {
            TookEffect::No
        } else if self.left_unknown && !settled {
            TookEffect::Unknown
        } else {
            failure.took_effect()
        };
        CallError { took_effect, attempts: self.attempts, failure }
    }
}

/// What to do after `failure`; see the table at the head of this file.
fn verdict(call: &Call, failure: &Failure) -> Verdict {
    let repeatable = call.repeat != Repeat::Twice;
    match failure {
        Failure::Refused(problem) => verdict_on_refusal(problem, repeatable, call.is_read()),
        Failure::Unreachable { .. } | Failure::NotSent { .. } | Failure::Busy { .. } => {
            Verdict::Elsewhere
        }
        Failure::Lost { .. } | Failure::TimedOut { .. } if repeatable => Verdict::Elsewhere,
        Failure::Malformed { .. } if repeatable => Verdict::ElsewhereOnly,
        Failure::Lost { .. }
        | Failure::TimedOut { .. }
        | Failure::Cancelled { .. }
        | Failure::Malformed { .. }
        | Failure::Unsendable { .. } => Verdict::Final,
    }
}

fn verdict_on_refusal(problem: &Problem, repeatable: bool, is_read: bool) -> Verdict {
    if !is_read {
        match problem.took_effect {
            TookEffect::Yes => return Verdict::Final,
            TookEffect::Unknown if !repeatable => return Verdict::Final,
            TookEffect::Unknown | TookEffect::No => {}
        }
    }
    match (problem.status, problem.code.as_str()) {
        // Another node can help at once; a full store stays full until somebody makes room.
        (503, "shutting_down" | "not_ready") => Verdict::Elsewhere,
        (503, "read_only") if problem.read_only().is_some_and(|reason| reason.passes()) => {
            Verdict::After(Duration::ZERO)
        }
        (503, "read_only") => Verdict::Final,
        (503 | 504, _) => Verdict::After(Duration::ZERO),
        (429, _) => Verdict::After(Duration::from_millis(problem.retry_after_ms.unwrap_or(0))),
        _ => Verdict::Final,
    }
}

/// The failure behind an answer that is none of success.
pub(crate) fn refusal(endpoint: &Endpoint, status: StatusCode, body: &[u8]) -> Failure {
    match Problem::from_json(status, body) {
        Some(problem) => Failure::Refused(Box::new(problem)),
        None => Failure::Malformed {
            endpoint: endpoint.clone(),
            what: format!("status {status} without a problem document"),
        },
    }
}

/// The error of a call whose answer of success cannot be read.
pub(crate) fn malformed(call: &Call, endpoint: Endpoint, what: String) -> CallError {
    let took_effect = if call.is_read() { TookEffect::No } else { TookEffect::Unknown };
    CallError { took_effect, attempts: 1, failure: Failure::Malformed { endpoint, what } }
}

/// The error of a call that cannot be made at all.
pub(crate) const fn unsendable(what: &'static str) -> CallError {
    CallError { took_effect: TookEffect::No, attempts: 0, failure: Failure::Unsendable { what } }
}

/// A node gives up a little before the client does, so that its explanation still arrives.
fn node_timeout_ms(wait: Duration) -> u64 {
    let margin = (wait / 10).min(Duration::from_millis(100));
    let wait_ms = u64::try_from((wait - margin).as_millis()).unwrap_or(u64::MAX);
    wait_ms.clamp(1, NODE_TIMEOUT_MS_MAX)
}
