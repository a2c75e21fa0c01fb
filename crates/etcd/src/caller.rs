//! Who asks and until when, by a request's metadata.

use std::time::Duration;

use mainstay_consensus::ReadOnlyReason;
use mainstay_service::{Caller, Consistency};
use mainstay_world::Instant;
use tonic::{Status, metadata::MetadataMap};

use crate::{api::Shared, error};

/// The longest that a request runs, as in etcd with its own election timeout.
const REQUEST_MAX: Duration = Duration::from_secs(7);

impl Shared {
    /// Who asks, as a request's metadata says.
    ///
    /// # Errors
    /// "no leader", if the client wants one and there is none.
    pub(crate) fn caller(&self, metadata: &MetadataMap) -> Result<Caller, Status> {
        if requires_leader(metadata) && !self.has_leader() {
            return Err(error::no_leader());
        }
        let timeout =
            metadata.get("grpc-timeout").and_then(|value| parse_timeout(value.as_bytes()));
        Ok(Caller::root(Instant::now() + timeout.unwrap_or(REQUEST_MAX).min(REQUEST_MAX)))
    }

    /// Who asks with the next message of a stream; the stream's own metadata was looked at.
    pub(crate) fn caller_on_stream(&self) -> Caller {
        Caller::root(Instant::now() + REQUEST_MAX)
    }

    /// Whether a leader is known.
    pub(crate) fn has_leader(&self) -> bool {
        leader(&self.consensus().status()).is_some()
    }
}

/// The leader, if a quorum follows it: an etcd that lost its quorum leads no more.
pub(crate) fn leader(status: &mainstay_consensus::Status) -> Option<u64> {
    status.leader.filter(|_leader| status.read_only != Some(ReadOnlyReason::NoQuorum))
}

/// Whether the client only wants an answer from a node that knows a leader.
pub(crate) fn requires_leader(metadata: &MetadataMap) -> bool {
    metadata.get("hasleader").is_some_and(|value| value.as_bytes() == b"true")
}

/// The same caller, content with what this node has.
pub(crate) fn serializable(caller: Caller) -> Caller {
    Caller { consistency: Consistency::Stale, ..caller }
}

/// A time of gRPC's: up to eight digits and a unit.
fn parse_timeout(text: &[u8]) -> Option<Duration> {
    let (unit, digits) = text.split_last()?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(number * 3_600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_grpc_are_read_and_nonsense_is_passed_over() {
        for (text, wanted) in [
            ("5S", Some(Duration::from_secs(5))),
            ("1H", Some(Duration::from_secs(3_600))),
            ("4999999u", Some(Duration::from_micros(4_999_999))),
            ("100m", Some(Duration::from_millis(100))),
            ("S", None),
            ("", None),
            ("5", None),
            ("-5S", None),
            ("123456789S", None),
        ] {
            assert_eq!(parse_timeout(text.as_bytes()), wanted, "{text}");
        }
    }
}
