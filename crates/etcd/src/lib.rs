//! The etcd v3 API, on top of the one door.
//!
//! Clients that nobody here wrote should find what they know: the services of etcd over gRPC,
//! with its semantics, its error texts and its quirks, where people came to rely on them. Each
//! service is a thin translation: a message becomes an operation of the store, the door runs it,
//! the outcome becomes a message. What differs from etcd, and why, is in
//! `docs/etcd-compatibility.md`.
//!
//! ```text
//!   gRPC --> kv, lease, watch, cluster, maintenance, auth, lock, election, health --> Door
//!   JSON --> gateway --> the same
//! ```
//!
//! Invariants: nothing here decides about the store, and nothing reaches it but through the door;
//! every refusal has the code and the text that etcd's own clients look for; what a client sends
//! is bounded before it is kept.
//!
//! Start reading at [`EtcdApi`], then at `kv`.

mod api;
mod arriving;
mod auth;
mod caller;
mod cluster;
mod database;
mod election;
mod error;
mod frames;
mod gateway;
mod health;
mod hot_calls;
mod key_hash;
mod key_range;
mod kv;
mod lease;
mod lock;
mod maintenance;
mod pair;
mod queue;
mod range_stream;
mod services;
mod snapshot_stream;
mod stop;
mod txn;
mod version;
mod watch;
mod watch_stream;
mod watchers;

pub use api::EtcdApi;
pub use hot_calls::AnswerBody;
pub use services::CallCount;
pub use version::{ETCD_VERSION, STORAGE_VERSION};
