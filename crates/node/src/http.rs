//! The native HTTP API: parse, ask the door, write the answer down.
//!
//! A connection comes in at `server`, a request goes through `front`, which sends the key routes
//! straight to `keys` and everything else through the `router`. `query`, `terms` and `json` read
//! requests, strictly; `answer` and `problem` write answers, stamped by `stamp`. The contract is
//! `docs/http-api.md`, its form for machines `openapi.json`.
//!
//! Nothing here knows how a write is replicated, or decides anything about the store.

pub(crate) mod answer;
pub(crate) mod autopilot;
pub(crate) mod body;
pub(crate) mod cluster;
pub(crate) mod compaction;
pub(crate) mod connection;
pub(crate) mod cursor;
pub(crate) mod detector;
pub(crate) mod front;
pub(crate) mod health;
pub(crate) mod import;
pub(crate) mod json;
pub(crate) mod keys;
pub(crate) mod leader;
pub(crate) mod leases;
pub(crate) mod listing;
pub(crate) mod members;
pub(crate) mod metrics_page;
pub(crate) mod node;
pub(crate) mod openapi;
pub(crate) mod problem;
pub(crate) mod query;
pub(crate) mod route;
pub(crate) mod router;
pub(crate) mod server;
pub(crate) mod stamp;
pub(crate) mod starting;
pub(crate) mod terms;
pub(crate) mod timer;
pub(crate) mod txn;
pub(crate) mod watches;
