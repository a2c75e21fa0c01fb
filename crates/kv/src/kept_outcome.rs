//! The outcome of a request that may be repeated, kept to answer the repetition.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use crate::{
    command::Command,
    outcome::{Applied, Refusal},
    version::ROW_OVERHEAD_BYTES,
};

/// What a request came to, and how to recognise the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeptOutcome {
    /// Digest of the request.
    pub(crate) request: u128,
    /// What it came to.
    pub(crate) applied: Applied,
}

/// A kept outcome in the form that is hashed and counted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OutcomeDigest {
    pub(crate) digest: u128,
    /// Logical bytes it counts for.
    pub(crate) bytes: u64,
}

impl KeptOutcome {
    /// The answer to a repetition.
    ///
    /// # Errors
    /// [`Refusal::KeyReused`] if the request is another one.
    pub(crate) fn repeat(&self, request: u128) -> Result<Applied, Refusal> {
        if self.request == request {
            Ok(Applied { repeated: true, ..self.applied.clone() })
        } else {
            Err(Refusal::KeyReused)
        }
    }

    /// Digest and size of the whole; `scratch` is overwritten.
    pub(crate) fn digest(&self, scratch: &mut Vec<u8>) -> OutcomeDigest {
        encode(self, scratch);
        OutcomeDigest {
            digest: xxh3_128(scratch),
            bytes: scratch.len() as u64 + ROW_OVERHEAD_BYTES,
        }
    }
}

/// The digest by which a request is recognised; `scratch` is overwritten.
pub(crate) fn request_digest(command: &Command, scratch: &mut Vec<u8>) -> u128 {
    encode(command, scratch);
    xxh3_128(scratch)
}

fn encode<T: Serialize>(row: &T, scratch: &mut Vec<u8>) {
    scratch.clear();
    mainstay_codec::encode_into(row, scratch)
        .expect("the store's types have no sequences of unknown length");
}

impl Refusal {
    /// Whether a repetition gets this refusal again without another look. Refusals that say
    /// "not now" or "not this one" leave no trace.
    pub(crate) const fn is_kept(&self) -> bool {
        match self {
            Self::KeyEmpty
            | Self::KeyTooLarge { .. }
            | Self::ValueTooLarge { .. }
            | Self::KeyNotFound
            | Self::TooManyOperations { .. }
            | Self::DuplicateKey
            | Self::TooDeep { .. }
            | Self::Query(_)
            | Self::LeaseNotFound { .. }
            | Self::LeaseExists { .. }
            | Self::LeaseTtlTooLarge { .. }
            | Self::InvalidSetting { .. }
            | Self::AnswerTooLarge { .. } => true,
            Self::SpaceExceeded { .. }
            | Self::ReadOnly
            | Self::Import(_)
            | Self::Importing
            | Self::SessionEnded { .. }
            | Self::SessionNumberForgotten { .. }
            | Self::SessionWindowExceeded { .. }
            | Self::KeyReused
            | Self::IdempotencyKeyLength { .. }
            | Self::IdempotencyTableFull { .. }
            | Self::Unsupported
            | Self::TooManySessions { .. }
            | Self::TooManyLeases { .. } => false,
        }
    }
}
