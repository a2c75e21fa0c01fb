//! What a log entry carries: a stamped, attributed command.
//!
//! A [`Proposal`] is made where a request comes in; the leader's batching task puts a fixed
//! header in front of its bytes and so makes an envelope. The leader therefore never decodes
//! what a follower forwards. Layout, little endian:
//!
//! ```text
//! 0   format             u16
//! 2   epoch              u64
//! 10  stamp: term        u64
//! 18  stamp: time        u64, milliseconds of the replicated clock
//! 26  wall time          u64, milliseconds since 1970, monotone in the log
//! 34  proposal           codec
//! ```
//!
//! The wall time is for people and for point-in-time recovery; nothing in the store depends on it.

use bytes::{BufMut, Bytes, BytesMut};
use mainstay_codec::{DecodeError, EncodeError};
use serde::{Deserialize, Serialize};

use crate::command::Command;

/// The newest envelope format that this version writes and reads.
pub const ENVELOPE_FORMAT: u16 = 1;

/// The largest envelope in bytes: a full transaction of keys and values fits with room.
pub const ENVELOPE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Length of the fixed header.
const HEADER_LEN: usize = 34;

/// A stamped, attributed command, as it stands in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Format of the bytes that follow.
    pub format: u16,
    /// The epoch of the cluster; a restore starts a new one.
    pub epoch: u64,
    /// The leader's reading of the replicated clock.
    pub stamp: Stamp,
    /// The leader's wall clock in milliseconds since 1970, made monotone.
    pub wall_ms: u64,
    /// Who asks, and what.
    pub proposal: Proposal,
}

/// A reading of the replicated clock, valid only in an entry of the same term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The term of the leader that read the clock.
    pub term: u64,
    /// Milliseconds of the replicated clock.
    pub time_ms: u64,
}

/// A command and who asks for it, before the leader stamps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// The user; empty is root, as everybody is while authentication is off.
    pub principal: String,
    /// Revision of the permissions that the request was checked against.
    pub auth_revision: u64,
    /// What makes a repeated request recognisable.
    pub origin: Origin,
    /// The trace that the request belongs to; zero for none.
    pub trace_id: [u8; 16],
    /// What to do.
    pub command: Command,
}

/// What makes a repeated request recognisable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// Nothing: applied as often as it is committed.
    Unnumbered,
    /// A numbered write of a session; see [`Command::SessionOpen`].
    Session {
        /// The session's id.
        session: u64,
        /// The number of this write, from 1, never used for another one.
        number: u64,
        /// The lowest number whose outcome the client still awaits; outcomes below are dropped.
        lowest_awaited: u64,
    },
    /// A bare idempotency key of 1 to 64 bytes, scoped to the principal.
    Key(Bytes),
}

/// Bytes that are not an envelope this version reads.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// Fewer bytes than the fixed header.
    #[error("{len} bytes are too few for an envelope")]
    Short {
        /// Bytes found.
        len: usize,
    },
    /// Written by a newer version.
    #[error("envelope format {found} is newer than this program knows ({ENVELOPE_FORMAT})")]
    NewerFormat {
        /// The envelope's format.
        found: u16,
    },
    /// The proposal cannot be decoded.
    #[error("the envelope's proposal is malformed")]
    Proposal(#[source] DecodeError),
}

impl Proposal {
    /// A command of nobody in particular.
    #[must_use]
    pub const fn unattributed(command: Command) -> Self {
        Self {
            principal: String::new(),
            auth_revision: 0,
            origin: Origin::Unnumbered,
            trace_id: [0; 16],
            command,
        }
    }

    /// The proposal's bytes.
    ///
    /// # Errors
    /// Never for the types of this crate; see [`mainstay_codec::encode`].
    pub fn to_bytes(&self) -> Result<Bytes, EncodeError> {
        mainstay_codec::encode(self).map(Bytes::from)
    }
}

impl Envelope {
    /// Puts the header in front of an encoded proposal.
    #[must_use]
    pub fn stamp_bytes(epoch: u64, stamp: Stamp, wall_ms: u64, proposal: &[u8]) -> Bytes {
        let mut bytes = BytesMut::with_capacity(HEADER_LEN + proposal.len());
        bytes.put_u16_le(ENVELOPE_FORMAT);
        bytes.put_u64_le(epoch);
        bytes.put_u64_le(stamp.term);
        bytes.put_u64_le(stamp.time_ms);
        bytes.put_u64_le(wall_ms);
        bytes.put_slice(proposal);
        bytes.freeze()
    }

    /// The envelope's bytes.
    ///
    /// # Errors
    /// As [`Proposal::to_bytes`].
    pub fn to_bytes(&self) -> Result<Bytes, EncodeError> {
        let proposal = self.proposal.to_bytes()?;
        Ok(Self::stamp_bytes(self.epoch, self.stamp, self.wall_ms, &proposal))
    }

    /// Reads an envelope. Keys and values are copied out of `bytes`.
    ///
    /// # Errors
    /// [`EnvelopeError`]; never a panic, whatever the bytes are.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        let Some((header, body)) = bytes.split_first_chunk::<HEADER_LEN>() else {
            return Err(EnvelopeError::Short { len: bytes.len() });
        };
        let format = u16::from_le_bytes([header[0], header[1]]);
        if format > ENVELOPE_FORMAT {
            return Err(EnvelopeError::NewerFormat { found: format });
        }
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&header[at..at + 8]);
            u64::from_le_bytes(word)
        };
        Ok(Self {
            format,
            epoch: word(2),
            stamp: Stamp { term: word(10), time_ms: word(18) },
            wall_ms: word(26),
            proposal: mainstay_codec::decode(body, ENVELOPE_BYTES_MAX)
                .map_err(EnvelopeError::Proposal)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope() -> Envelope {
        Envelope {
            format: ENVELOPE_FORMAT,
            epoch: 1,
            stamp: Stamp { term: 2, time_ms: 3 },
            wall_ms: 4,
            proposal: Proposal {
                principal: "ann".to_owned(),
                auth_revision: 5,
                origin: Origin::Key(Bytes::from_static(b"k1")),
                trace_id: [9; 16],
                command: Command::Tick,
            },
        }
    }

    #[test]
    fn golden_bytes_of_an_envelope() {
        let mut golden = vec![1, 0];
        for word in [1_u64, 2, 3, 4] {
            golden.extend(word.to_le_bytes());
        }
        golden.extend(b"\x03ann\x05\x02\x02k1");
        golden.extend([9; 16]);
        golden.push(0);
        assert_eq!(envelope().to_bytes().expect("encodes"), golden);
        assert_eq!(Envelope::from_bytes(&golden).expect("decodes"), envelope());
    }

    #[test]
    fn every_prefix_and_a_newer_format_are_refused() {
        let bytes = envelope().to_bytes().expect("encodes");
        for end in 0..bytes.len() {
            assert!(Envelope::from_bytes(&bytes[..end]).is_err(), "prefix of {end} bytes");
        }
        let mut newer = bytes.to_vec();
        newer[0] = 2;
        assert!(matches!(
            Envelope::from_bytes(&newer),
            Err(EnvelopeError::NewerFormat { found: 2 })
        ));
    }
}
