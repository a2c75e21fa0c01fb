//! The one door to the store.
//!
//! Whatever a client asks, over whichever protocol, goes through [`Door`]: it checks that the
//! request can be right at all, whether the caller may ([`authorize`]), whether there is room for
//! it ([`Limits`]), then proposes it, or asks for a read index and reads, and answers with what
//! the store said or with a [`DoorError`], which tells whether anything took effect.
//! Watches come from one [hub](Watch) that reads the store's changes once for all watchers.
//!
//! Invariants: no operation reaches the store past [`authorize`]; every wait has a deadline and
//! every queue a bound; a caller is never told "no" about a write that may still happen.
//! The door knows no HTTP, JSON or socket; how a write is replicated is `consensus`, what it does
//! is `kv`.
//!
//! Start reading at [`Door`].

mod admission;
mod audit;
mod authorization;
mod caller;
mod door;
mod error;
mod gate;
mod history;
mod keep_alive;
mod range_tree;
mod read_only;
mod reads;
#[cfg(test)]
mod store_for_tests;
mod validation;
mod watch;
mod watch_hub;
mod watch_index;
mod watch_queue;
mod writes;

pub use admission::Limits;
pub use audit::{REFUSED_KIND, RefusedRequest};
pub use authorization::{Access, Denied, authorize};
pub use caller::{Caller, Consistency, Freshness, Read, Written};
pub use door::{Door, ImportState, TxnAnswer};
pub use error::{DoorError, MembersError, SnapshotError, TransferError};
pub use gate::{GateClosed, OpenGate, WriteGate};
pub use history::History;
pub use read_only::WriteMode;
pub use reads::PageBounds;
pub use watch::{CancelReason, Watch, WatchMessage, WatchPosition, WatchRequest};
pub use watch_queue::WatchedRevision;
