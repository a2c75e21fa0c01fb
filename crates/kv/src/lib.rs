//! The replicated state machine of Mainstay (documentation follows with the store).

pub mod command;
mod envelope;
pub mod outcome;
pub mod query;
mod settings;

pub use envelope::{
    ENVELOPE_BYTES_MAX, ENVELOPE_FORMAT, Envelope, EnvelopeError, Origin, Proposal, Stamp,
};
pub use settings::Settings;
