//! Clients that speak etcd's protocol: calls, watchers and a compactor over gRPC.
//!
//! They use the generated clients over HTTP/2 and the simulated network, and nothing else: no
//! client library that repeats or hides anything. What becomes of a call is what came back.

mod calls;
mod channel;
pub(super) mod compactor;
pub(super) mod past_reader;
mod stream;
pub(super) mod watcher;

pub(super) use self::calls::EtcdCalls;
