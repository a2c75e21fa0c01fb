//! The harness of the black-box tests: real processes of the shipped program, seen from outside.
//!
//! A [`Cluster`] starts nodes on free ports with data in a temporary folder and ends them with
//! itself. A [`Client`] speaks the native HTTP API, written down here a second time on purpose: the
//! tests hold the program to `docs/http-api.md`, not to its own client. A [`Writer`] puts a cluster
//! under load and keeps a [`Ledger`] of what was promised; the ledger is then compared with what a
//! cluster holds. Whatever must come is waited for with [`until`], which gives up after
//! [`PATIENCE`].
//!
//! Nothing here knows the inside of a node. Mistakes of the harness and unmet expectations panic,
//! since the only callers are tests.

mod checksum;
mod client;
mod cluster;
mod command_line;
mod ledger;
mod node;
mod observer;
mod operator;
mod page;
mod patience;
mod peer_route;
mod port;
mod process;
mod small_disk;
mod watch;
mod writer;

pub use checksum::crc32c;
pub use client::{Answer, Client, Problem, Request, Unanswered};
pub use cluster::{Cluster, place};
pub use command_line::{CommandLine, Finished};
pub use ledger::{Ledger, Outcome, Write};
pub use node::{Node, NodePlan};
pub use observer::{Observation, Observer, assert_never_back};
pub use operator::Operator;
pub use page::{Page, Step, pages};
pub use patience::{PATIENCE, until};
pub use peer_route::PeerRoute;
pub use port::{free_port, free_stretch};
pub use process::{Process, Signal, send};
pub use small_disk::SmallDisk;
pub use watch::{Change, Event, Message, ResumingWatch, Watch};
pub use writer::Writer;

/// Standard base64, as keys and values travel in JSON.
#[must_use]
pub fn base64(bytes: impl AsRef<[u8]>) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// The bytes that standard base64 stands for.
///
/// # Panics
/// If the text is something else.
#[must_use]
pub fn from_base64(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .unwrap_or_else(|error| panic!("{text:?} is not base64: {error}"))
}
