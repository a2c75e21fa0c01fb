//! The headers by which a client says on which terms it asks.
//!
//! One pass over the headers, because every request pays for it. Headers of our own that we do
//! not know are refused: a misspelt condition must not be passed over. All others are not ours.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use mainstay_kv::Origin;
use mainstay_service::{Caller, Consistency};
use mainstay_world::Instant;

use crate::http::problem::Problem;

/// How long the node works on a request unless told otherwise.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);

/// The longest that a client may ask for.
const TIMEOUT_MAX_MS: u64 = 60_000;

/// Longest idempotency key in bytes.
const IDEMPOTENCY_KEY_BYTES_MAX: usize = 64;

/// A condition on what a key is at now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    /// `If-Match: "7"`: its mod revision.
    ModRevision(u64),
    /// `If-Match: *`: it exists.
    Exists,
    /// `If-None-Match: *`: it does not.
    Absent,
}

/// What a request's headers say.
#[derive(Debug, Default)]
pub(crate) struct Terms<'a> {
    timeout_ms: Option<u64>,
    trace_id: [u8; 16],
    idempotency_key: Option<&'a HeaderValue>,
    session: Option<u64>,
    session_number: Option<u64>,
    session_lowest_awaited: Option<u64>,
    if_match: Option<&'a HeaderValue>,
    if_none_match: Option<&'a HeaderValue>,
    last_event_id: Option<u64>,
}

impl<'a> Terms<'a> {
    /// Reads the headers.
    pub(crate) fn read(headers: &'a HeaderMap) -> Result<Self, Problem> {
        let mut terms = Self::default();
        for (name, value) in headers {
            let name = name.as_str();
            match name {
                "mainstay-timeout-ms" => once(&mut terms.timeout_ms, name, number(name, value)?)?,
                "mainstay-session" => once(&mut terms.session, name, number(name, value)?)?,
                "mainstay-session-number" => {
                    once(&mut terms.session_number, name, number(name, value)?)?;
                }
                "mainstay-session-lowest-awaited" => {
                    once(&mut terms.session_lowest_awaited, name, number(name, value)?)?;
                }
                "idempotency-key" => once(&mut terms.idempotency_key, name, value)?,
                "if-match" => once(&mut terms.if_match, name, value)?,
                "if-none-match" => once(&mut terms.if_none_match, name, value)?,
                "last-event-id" => once(&mut terms.last_event_id, name, number(name, value)?)?,
                "traceparent" => terms.trace_id = trace_id(value),
                other if other.starts_with("mainstay-") => {
                    return Err(Problem::bad_header(other, "is not known"));
                }
                _ => {}
            }
        }
        if !terms.timeout_ms.is_none_or(|ms| (1..=TIMEOUT_MAX_MS).contains(&ms)) {
            let why = "is 1 to 60000 milliseconds";
            return Err(Problem::bad_header("Mainstay-Timeout-Ms", why));
        }
        Ok(terms)
    }

    /// Who reads.
    pub(crate) fn reader(&self, consistency: Consistency) -> Caller {
        self.caller(Origin::Unnumbered, consistency)
    }

    /// Who writes, and how a repeated write is known.
    pub(crate) fn writer(&self) -> Result<Caller, Problem> {
        self.writer_or_reader(Consistency::Linearizable)
    }

    /// Who asks, when the request may come to a write or to a read.
    pub(crate) fn writer_or_reader(&self, consistency: Consistency) -> Result<Caller, Problem> {
        Ok(self.caller(self.origin()?, consistency))
    }

    fn caller(&self, origin: Origin, consistency: Consistency) -> Caller {
        let timeout = self.timeout_ms.map_or(TIMEOUT_DEFAULT, Duration::from_millis);
        Caller {
            principal: String::new(),
            auth_revision: 0,
            trace_id: self.trace_id,
            deadline: Instant::now() + timeout,
            origin,
            consistency,
        }
    }

    fn origin(&self) -> Result<Origin, Problem> {
        match (self.session, self.session_number, self.idempotency_key) {
            (None, None, None) if self.session_lowest_awaited.is_none() => Ok(Origin::Unnumbered),
            (Some(session), Some(number), None) => {
                let lowest_awaited = self.session_lowest_awaited.unwrap_or(number);
                if number == 0 || lowest_awaited > number {
                    return Err(Problem::bad_request(
                        "session_number",
                        "writes of a session are numbered from 1, and the lowest awaited is not above",
                    ));
                }
                Ok(Origin::Session { session, number, lowest_awaited })
            }
            (None, None, Some(key)) => {
                if key.is_empty() || key.len() > IDEMPOTENCY_KEY_BYTES_MAX {
                    return Err(Problem::bad_header("Idempotency-Key", "has 1 to 64 bytes"));
                }
                Ok(Origin::Key(Bytes::copy_from_slice(key.as_bytes())))
            }
            (_, _, Some(_)) => Err(Problem::bad_header(
                "Idempotency-Key",
                "and the session headers exclude each other",
            )),
            _ => Err(Problem::bad_header(
                "Mainstay-Session",
                "and Mainstay-Session-Number come together",
            )),
        }
    }

    /// The condition of a write, if it has one.
    pub(crate) fn condition(&self) -> Result<Option<Condition>, Problem> {
        match (self.if_match, self.if_none_match) {
            (None, None) => Ok(None),
            (Some(value), None) if value == "*" => Ok(Some(Condition::Exists)),
            (Some(value), None) => match mod_revision(value) {
                Some(revision) => Ok(Some(Condition::ModRevision(revision))),
                None => Err(Problem::bad_header("If-Match", "is * or one mod revision in quotes")),
            },
            (None, Some(value)) if value == "*" => Ok(Some(Condition::Absent)),
            (None, Some(_)) => Err(Problem::bad_header("If-None-Match", "is * for a write")),
            (Some(_), Some(_)) => {
                Err(Problem::bad_header("If-Match", "and If-None-Match exclude each other"))
            }
        }
    }

    /// The mod revision that the reader has already, from `If-None-Match`.
    pub(crate) fn known_mod_revision(&self) -> Result<Option<u64>, Problem> {
        if self.if_match.is_some() {
            return Err(Problem::bad_header("If-Match", "works with writes only"));
        }
        // A cache may hold tags that are not ours; they match nothing.
        Ok(self.if_none_match.and_then(mod_revision))
    }

    /// The last revision that a resumed watch was told.
    pub(crate) const fn last_event_id(&self) -> Option<u64> {
        self.last_event_id
    }
}

/// The number in an entity tag of ours: `"7"`.
fn mod_revision(value: &HeaderValue) -> Option<u64> {
    value.to_str().ok()?.strip_prefix('"')?.strip_suffix('"')?.parse().ok()
}

/// Keeps what a header says; a second one would have to win or to lose in silence.
fn once<T>(place: &mut Option<T>, name: &str, value: T) -> Result<(), Problem> {
    match place.replace(value) {
        None => Ok(()),
        Some(_first) => Err(Problem::bad_header(name, "is given twice")),
    }
}

fn number(name: &str, value: &HeaderValue) -> Result<u64, Problem> {
    let parsed = value.to_str().ok().and_then(|text| text.parse().ok());
    parsed.ok_or_else(|| Problem::bad_header(name, "is not a whole number"))
}

/// The trace id of a W3C `traceparent`, zero if it has none: a trace is never a reason to refuse.
fn trace_id(value: &HeaderValue) -> [u8; 16] {
    let parse = || {
        let digits = value.to_str().ok()?.split('-').nth(1)?;
        (digits.len() == 32).then_some(())?;
        u128::from_str_radix(digits, 16).ok()
    };
    parse().unwrap_or_default().to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderName;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    fn origin(pairs: &[(&'static str, &'static str)]) -> Result<Origin, Problem> {
        Terms::read(&headers(pairs))?.origin()
    }

    #[test]
    fn a_write_is_made_repeatable_by_a_key_or_by_a_session() {
        assert_eq!(origin(&[]), Ok(Origin::Unnumbered));
        let key = Origin::Key(Bytes::from_static(b"k"));
        assert_eq!(origin(&[("idempotency-key", "k")]), Ok(key));
        let session = [("mainstay-session", "3"), ("mainstay-session-number", "9")];
        assert_eq!(
            origin(&session),
            Ok(Origin::Session { session: 3, number: 9, lowest_awaited: 9 })
        );
        let lowest = [session[0], session[1], ("mainstay-session-lowest-awaited", "4")];
        assert_eq!(
            origin(&lowest),
            Ok(Origin::Session { session: 3, number: 9, lowest_awaited: 4 })
        );
    }

    #[test]
    fn headers_that_contradict_themselves_are_refused() {
        let long: &'static str =
            "0123456789012345678901234567890123456789012345678901234567890123x";
        for (pairs, code) in [
            (vec![("mainstay-session", "3")], "bad_header"),
            (vec![("mainstay-session-number", "3")], "bad_header"),
            (vec![("mainstay-session-lowest-awaited", "3")], "bad_header"),
            (vec![("idempotency-key", "")], "bad_header"),
            (vec![("idempotency-key", long)], "bad_header"),
            (vec![("idempotency-key", "k"), ("mainstay-session", "3")], "bad_header"),
            (vec![("mainstay-session", "3"), ("mainstay-session-number", "0")], "session_number"),
            (vec![("mainstay-sesion", "3")], "bad_header"),
            (vec![("mainstay-timeout-ms", "0")], "bad_header"),
            (vec![("mainstay-timeout-ms", "60001")], "bad_header"),
            (vec![("mainstay-timeout-ms", "soon")], "bad_header"),
        ] {
            let problem = origin(&pairs).expect_err("is refused");
            assert_eq!(problem.code(), code, "{pairs:?}");
        }
    }

    #[test]
    fn conditions_are_an_entity_tag_or_a_star() {
        let condition = |pairs: &[(&'static str, &'static str)]| {
            Terms::read(&headers(pairs)).expect("reads").condition()
        };
        assert_eq!(condition(&[]), Ok(None));
        assert_eq!(condition(&[("if-match", "\"7\"")]), Ok(Some(Condition::ModRevision(7))));
        assert_eq!(condition(&[("if-match", "*")]), Ok(Some(Condition::Exists)));
        assert_eq!(condition(&[("if-none-match", "*")]), Ok(Some(Condition::Absent)));
        for pairs in [
            vec![("if-match", "7")],
            vec![("if-match", "W/\"7\"")],
            vec![("if-match", "\"7\", \"8\"")],
            vec![("if-none-match", "\"7\"")],
            vec![("if-match", "\"7\""), ("if-none-match", "*")],
        ] {
            assert!(condition(&pairs).is_err(), "{pairs:?}");
        }
    }

    #[test]
    fn a_trace_is_taken_along_and_a_broken_one_passed_over() {
        let trace =
            |value| Terms::read(&headers(&[("traceparent", value)])).expect("reads").trace_id;
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(trace(parent), 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c_u128.to_be_bytes());
        assert_eq!(trace("00-zz-11-01"), [0; 16]);
    }
}
