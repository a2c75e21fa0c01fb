//! The Rust client of Mainstay.
//!
//! A [`Client`] is given the endpoints of a cluster, learns the others from its members, and asks
//! the leader; when a node cannot help it goes on with the next. It repeats a request only where
//! that is safe. Reads always are. A write is when the node said that it took no effect, or when the
//! cluster recognises it by its [`Origin`]: a number of a session, which the client opens by itself,
//! or an idempotency key. Every other lost answer becomes an error whose
//! [`took_effect`](CallError::took_effect) is [`TookEffect::Unknown`], for the caller to settle.
//! Every wait has a deadline, retries wait with jitter and draw on a budget.
//!
//! Watches go on by themselves where they were interrupted ([`Watch`]), leases are renewed for as
//! long as they are held on to ([`KeptLease`]), and [`Lock`]s and elections among programs
//! ([`Office`]) come with fencing tokens. `docs/client.md` tells how to use it all, and `examples/`
//! has programs that run.
//!
//! All bytes travel over [`mainstay_world::Net`], so the same client runs against a simulated
//! network. Deliberately absent: TLS and authentication, which come with the features that need
//! them.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use mainstay_client::{Client, ClientOptions, PutRequest, WatchMessage, WatchRequest};
//! use mainstay_world::RealNet;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let options = ClientOptions::new(vec!["http://127.0.0.1:2379".parse()?]);
//! let client = Client::new(Arc::new(RealNet), options);
//!
//! let written = client.put(PutRequest::new("config/colour", "blue")).await?;
//! println!("written at revision {}", written.value.revision);
//!
//! if let Some(pair) = client.get("config/colour").await?.value {
//!     println!("it is {:?} since revision {}", pair.value, pair.mod_revision);
//! }
//!
//! let mut watch = client.watch(WatchRequest::prefix("config/")).await?;
//! while let WatchMessage::Change(change) = watch.next().await? {
//!     println!("{} events at revision {}", change.events.len(), change.revision);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Start reading at [`Client`]; what one call does is in `call.rs`.

mod answer;
mod autopilot;
mod call;
mod candidacy;
mod client;
mod cluster;
mod detector;
mod endpoint;
mod endpoints;
mod error;
mod import;
mod json;
mod kept_lease;
mod keys;
mod leader;
mod lease;
mod lock;
mod member;
mod node;
mod queue;
mod read_only;
mod retry;
mod session;
mod sse;
mod transport;
mod txn;
mod txn_json;
mod watch;

pub use answer::{Answer, AnswerHeader, Staleness};
pub use autopilot::{Autopilot, AutopilotAdvice, AutopilotDecision};
pub use candidacy::{Candidacy, Elected, ElectionWatch, Office};
pub use client::{Client, ClientOptions};
pub use cluster::{Cluster, Health, HealthCheck, Member, NodeState, Version};
pub use detector::{
    Election, ElectionPhases, FailureDetector, IgnoredHeartbeats, OwnReading, PeerReading,
};
pub use endpoint::{Endpoint, EndpointError};
pub use error::{CallError, Failure, Problem, TookEffect};
pub use import::{ImportProgress, ImportState};
pub use json::pair_json;
pub use kept_lease::KeptLease;
pub use keys::{
    Condition, Consistency, DeleteRequest, Deleted, GetRequest, Page, PageRequest, Pages,
    PutRequest, Written,
};
pub use leader::LeaderChange;
pub use lease::{Lease, LeaseGranted};
pub use lock::{Lock, LockRequest};
pub use mainstay_kv::{
    Event, EventKind, IMPORT_FORMAT, Import, ImportedLease, Origin, RevisionChanges, command,
    outcome,
    query::{KeyValue, RangeQuery},
};
pub use member::{MemberChange, NewMember};
pub use node::{DiskReport, FormatReport, HeldUpFormat, NodeReport, PeerReport, Span, StoreReport};
pub use queue::QueueError;
pub use read_only::{ReadOnly, ReadOnlyChange};
pub use session::{Session, fresh_key};
pub use txn::{Compacted, TxnAnswer, TxnRequest};
pub use txn_json::{txn_from_json, txn_outcome_json};
pub use watch::{Watch, WatchError, WatchMessage, WatchRequest};
