//! How a call can fail, and what a failed call left behind.
//!
//! The question after a failed write is never only what went wrong, but whether the write took
//! effect. [`CallError`] answers both, over all attempts: when the first attempt lost its answer
//! and the second was told that there is no leader, the outcome is unknown.

use std::{io, time::Duration};

use http::StatusCode;
use serde::{Deserialize, de::IntoDeserializer};

use crate::endpoint::Endpoint;

/// A call that did not succeed.
#[derive(Debug, thiserror::Error)]
#[error("the request failed {}", .took_effect.as_clause())]
pub struct CallError {
    /// Whether the request changed anything, as far as is known; reads never do.
    pub took_effect: TookEffect,
    /// How often it was tried.
    pub attempts: u32,
    /// What went wrong with the last attempt.
    #[source]
    pub failure: Failure,
}

impl CallError {
    /// The machine-readable code of the refusal, if a node refused.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.problem().map(|problem| problem.code.as_str())
    }

    /// The refusal, if a node refused.
    #[must_use]
    pub const fn problem(&self) -> Option<&Problem> {
        match &self.failure {
            Failure::Refused(problem) => Some(problem),
            _ => None,
        }
    }
}

/// Whether a failed request changed anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TookEffect {
    /// It did.
    Yes,
    /// It did not, and never will.
    No,
    /// It may have, or may yet.
    Unknown,
}

impl TookEffect {
    const fn as_clause(self) -> &'static str {
        match self {
            Self::Yes => "after it took effect",
            Self::No => "and had no effect",
            Self::Unknown => "and it is unknown whether it took effect",
        }
    }
}

/// What went wrong with one attempt.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A node answered with a problem document.
    #[error(transparent)]
    Refused(Box<Problem>),
    /// No connection could be made; nothing was sent.
    #[error("{endpoint} cannot be reached")]
    Unreachable {
        /// The node.
        endpoint: Endpoint,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The connection ended before the request was sent.
    #[error("the connection to {endpoint} closed before the request was sent")]
    NotSent {
        /// The node.
        endpoint: Endpoint,
        /// Why.
        #[source]
        source: hyper::Error,
    },
    /// The request was sent, at least in part, and the connection ended before an answer came.
    #[error("the connection to {endpoint} broke before an answer came")]
    Lost {
        /// The node.
        endpoint: Endpoint,
        /// Why.
        #[source]
        source: hyper::Error,
    },
    /// No answer came in time.
    #[error("{endpoint} did not answer within {} ms", .waited.as_millis())]
    TimedOut {
        /// The node.
        endpoint: Endpoint,
        /// How long this attempt waited.
        waited: Duration,
    },
    /// All connections that this client may have were busy until the deadline.
    #[error("all connections to {endpoint} were busy for {} ms", .waited.as_millis())]
    Busy {
        /// The node.
        endpoint: Endpoint,
        /// How long this attempt waited.
        waited: Duration,
    },
    /// The node ended a watch; it goes on elsewhere.
    #[error("{endpoint} ended the watch: {reason}")]
    Cancelled {
        /// The node.
        endpoint: Endpoint,
        /// `slow` if the watcher did not keep up, `shutting_down` if the node stops.
        reason: String,
    },
    /// Whatever answered does not speak this API, or not this version of it.
    #[error("{endpoint} gave an answer that is not of this API: {what}")]
    Malformed {
        /// The node.
        endpoint: Endpoint,
        /// What is wrong with it.
        what: String,
    },
    /// The request cannot be written as HTTP; nothing was sent.
    #[error("the request cannot be sent: {what}")]
    Unsendable {
        /// What is wrong with it.
        what: &'static str,
    },
}

impl Failure {
    /// Whether the attempt may have changed something, for a request that changes things.
    pub(crate) fn took_effect(&self) -> TookEffect {
        match self {
            Self::Refused(problem) => problem.took_effect,
            Self::Unreachable { .. }
            | Self::NotSent { .. }
            | Self::Busy { .. }
            | Self::Cancelled { .. }
            | Self::Unsendable { .. } => TookEffect::No,
            Self::Lost { .. } | Self::TimedOut { .. } | Self::Malformed { .. } => {
                TookEffect::Unknown
            }
        }
    }
}

/// A node's refusal: an RFC 9457 problem document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Deserialize)]
#[error("{}", if .detail.is_empty() { .title } else { .detail })]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// What kind of problem it is, for programs; see `docs/http-api.md`.
    pub code: String,
    /// What kind of problem it is, for people.
    #[serde(default)]
    pub title: String,
    /// What happened this time, for people.
    #[serde(default)]
    pub detail: String,
    /// Whether the request changed anything; unknown if the node did not say.
    #[serde(default = "unknown", deserialize_with = "lenient")]
    pub took_effect: TookEffect,
    /// When to try again, in milliseconds, if that can help.
    #[serde(default)]
    pub retry_after_ms: Option<u64>,
    /// Why writes are refused, with code `read_only`.
    #[serde(default)]
    pub reason: Option<String>,
    /// The lowest readable revision, with code `compacted`; a decimal string.
    #[serde(default)]
    pub compact_revision: Option<String>,
}

impl Problem {
    /// Reads a problem document; `None` if `body` is none.
    pub(crate) fn from_json(status: StatusCode, body: &[u8]) -> Option<Self> {
        let mut problem: Self = serde_json::from_slice(body).ok()?;
        problem.status = status.as_u16();
        Some(problem)
    }

    /// Whether this answer tells what became of every earlier copy of the request as well.
    ///
    /// A request that can never work, or one that was evaluated, was so at every attempt. One that
    /// was turned away says nothing about the attempt before.
    pub(crate) fn settles_earlier_attempts(&self) -> bool {
        (400..500).contains(&self.status)
            && !matches!(self.status, 408 | 429)
            && !matches!(self.code.as_str(), "session_ended" | "session_number")
    }
}

const fn unknown() -> TookEffect {
    TookEffect::Unknown
}

/// A word that a newer node may say and this client does not know means unknown.
fn lenient<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<TookEffect, D::Error> {
    let word = String::deserialize(deserializer)?;
    let known: Result<TookEffect, serde::de::value::Error> =
        TookEffect::deserialize(word.as_str().into_deserializer());
    Ok(known.unwrap_or(TookEffect::Unknown))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(status: u16, code: &str) -> Problem {
        let body = format!(r#"{{"status":{status},"code":"{code}","took_effect":"no"}}"#);
        Problem::from_json(StatusCode::from_u16(status).expect("a status"), body.as_bytes())
            .expect("a problem")
    }

    #[test]
    fn a_problem_document_is_read_whole() {
        let body = br#"{"type":"about:blank","title":"The key already exists","status":409,
            "detail":"the key exists since revision 7; nothing was written","code":"exists",
            "took_effect":"no","retry_after_ms":1000}"#;
        let problem = Problem::from_json(StatusCode::CONFLICT, body).expect("a problem");
        assert_eq!(problem.code, "exists");
        assert_eq!(problem.took_effect, TookEffect::No);
        assert_eq!(problem.retry_after_ms, Some(1000));
        assert_eq!(problem.to_string(), "the key exists since revision 7; nothing was written");
    }

    #[test]
    fn silence_or_a_new_word_about_the_effect_means_unknown() {
        for body in [
            r#"{"status":503,"code":"new"}"#,
            r#"{"status":503,"code":"new","took_effect":"partly"}"#,
        ] {
            let problem = Problem::from_json(StatusCode::SERVICE_UNAVAILABLE, body.as_bytes());
            assert_eq!(problem.expect("a problem").took_effect, TookEffect::Unknown);
        }
        assert!(Problem::from_json(StatusCode::BAD_GATEWAY, b"<html>").is_none());
    }

    #[test]
    fn only_an_evaluated_request_settles_what_earlier_attempts_did() {
        assert!(problem(412, "compare_failed").settles_earlier_attempts());
        assert!(problem(400, "key_empty").settles_earlier_attempts());
        assert!(!problem(503, "no_leader").settles_earlier_attempts());
        assert!(!problem(429, "overloaded").settles_earlier_attempts());
        assert!(!problem(409, "session_ended").settles_earlier_attempts());
        assert!(!problem(400, "session_number").settles_earlier_attempts());
    }
}
