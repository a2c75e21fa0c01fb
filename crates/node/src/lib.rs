//! The Mainstay process: configuration, HTTP on one port, health, metrics, wiring.
//!
//! [`run`] is the whole life of a node: it takes the data folder, binds two sockets, starts
//! consensus, opens the one door (`mainstay_service`) and serves it over HTTP until it is told to
//! stop. Everything runs inside one scope of `world`, and the outside is handed in as a
//! [`World`](mainstay_world::World), so [`run_in`] runs the very same node in a simulation.
//!
//! The crate decides nothing about the store or the cluster: it parses, asks the door, and writes
//! the answer down. It does not parse command lines, set up logging or exit the process; the
//! binary does.
//!
//! Start reading at [`run`] and [`Config`].

mod config;
mod examination;
mod http;
mod joining;
mod life;
mod member_names;
mod metrics;
mod process;
mod read_only;
pub mod recovery;

pub use config::{
    CLIENT_ADDR_DEFAULT, Config, ConfigError, JOIN_TIMEOUT_DEFAULT, LogFormat, Options,
    PEER_ADDR_DEFAULT, Profile, RuntimeKind, UnknownChoice, WATCH_PROGRESS_INTERVAL_DEFAULT,
};
pub use examination::{Examination, ExaminationError};
pub use joining::JoinError;
pub use life::{ExitReason, Listeners, RunError, run, run_in, run_observed, runtime};
pub use mainstay_storage::{LogPosition, StorageOptions};
