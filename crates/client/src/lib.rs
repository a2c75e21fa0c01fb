//! The Rust client of Mainstay.
//!
//! A [`Client`] knows the endpoints of a cluster and speaks the native HTTP API with any of them:
//! when one cannot be reached it goes on with the next. It repeats a request only where that is
//! safe. Reads always are. A write is when the node said that it took no effect, or when it carries
//! an [`Origin`] (a session's number or an idempotency key) by which the cluster recognises it; every
//! other lost answer becomes an error whose [`took_effect`](CallError::took_effect) is
//! [`TookEffect::Unknown`], for the caller to settle. Every wait has a deadline, retries wait with
//! jitter and draw on a budget.
//!
//! All bytes travel over [`mainstay_world::Net`], so the same client runs against a simulated
//! network. Deliberately absent: TLS, authentication, endpoint discovery and helpers for locks and
//! elections, which come with the features that need them.
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
//! // A session numbers its writes: repeated however often, each takes effect once.
//! let session = client.open_session().await?;
//! session.put(PutRequest::new("config/colour", "green")).await?;
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
mod client;
mod cluster;
mod detector;
mod endpoint;
mod error;
mod json;
mod keys;
mod leader;
mod lease;
mod member;
mod node;
mod retry;
mod session;
mod sse;
mod transport;
mod txn;
mod txn_json;
mod watch;

pub use answer::{Answer, AnswerHeader, Staleness};
pub use autopilot::{Autopilot, AutopilotAdvice, AutopilotDecision};
pub use client::{Client, ClientOptions};
pub use cluster::{Cluster, Health, HealthCheck, Member, NodeState, Version};
pub use detector::{
    Election, ElectionPhases, FailureDetector, IgnoredHeartbeats, OwnReading, PeerReading,
};
pub use endpoint::{Endpoint, EndpointError};
pub use error::{CallError, Failure, Problem, TookEffect};
pub use json::pair_json;
pub use keys::{
    Condition, Consistency, DeleteRequest, Deleted, GetRequest, Page, PageRequest, Pages,
    PutRequest, Written,
};
pub use leader::LeaderChange;
pub use lease::{Lease, LeaseGranted};
pub use mainstay_kv::{
    Event, EventKind, Origin, RevisionChanges, command, outcome,
    query::{KeyValue, RangeQuery},
};
pub use member::{MemberChange, NewMember};
pub use node::{DiskReport, NodeReport, PeerReport, StoreReport};
pub use session::{Session, fresh_key};
pub use txn::{Compacted, TxnAnswer, TxnRequest};
pub use txn_json::{txn_from_json, txn_outcome_json};
pub use watch::{Watch, WatchError, WatchMessage, WatchRequest};
