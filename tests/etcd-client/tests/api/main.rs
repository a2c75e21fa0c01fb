//! A client of etcd that nobody here wrote, against real processes that are killed.
//!
//! The crate `etcd-client` is used as its documentation says, and what it is told is held against
//! what etcd tells. Field by field that is the work of the conformance suite; here it is about a
//! program that changed its address and nothing else. `MAINSTAY` names the program under test;
//! `.ci/run test` sets it, and `docs/testing.md` says how to do it by hand.

mod elections;
mod failover;
mod keys;
mod leases;
mod locks;
mod maintenance;
mod transactions;
mod watches;

use std::{env, error::Error as _};

use etcd_client::{Client, Error, KeyValue};
use mainstay_tests::{Cluster, PATIENCE};
use tonic::Code;

/// Three nodes of the program under test.
async fn cluster() -> Cluster {
    let program = env::var("MAINSTAY").expect("MAINSTAY names the program under test");
    Cluster::three(&program).await
}

/// A client that knows the nodes at these places, with nothing set.
async fn client_of(cluster: &Cluster, nodes: &[usize]) -> Client {
    let urls: Vec<_> = nodes.iter().map(|at| cluster[*at].plan.url()).collect();
    Client::connect(urls, None).await.expect("URLs are all it takes")
}

/// A client that knows all nodes, with nothing set.
async fn client(cluster: &Cluster) -> Client {
    client_of(cluster, &[0, 1, 2]).await
}

/// What must come, before patience ends.
async fn in_time<T>(what: &str, comes: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, comes).await {
        Ok(came) => came,
        Err(_late) => panic!("waited {} s for {what}", PATIENCE.as_secs()),
    }
}

/// The no that a node said.
fn refusal<T>(answer: Result<T, Error>) -> (Code, String) {
    match answer {
        Err(Error::GRpcStatus(status)) => (status.code(), status.message().to_owned()),
        Err(other) => panic!("no node said this: {other}"),
        Ok(_answer) => panic!("was not refused"),
    }
}

/// Whether an error is one of those that a program meets while a node dies: a broken connection, or
/// a node's word that it will pass.
fn passes(error: &Error) -> bool {
    match error {
        Error::GRpcStatus(status) => {
            status.code() == Code::Unavailable || status.source().is_some()
        }
        Error::TransportError(_broken) => true,
        _ => false,
    }
}

/// A key and its value as text.
fn pair(pair: &KeyValue) -> (&str, &str) {
    (pair.key_str().expect("is text"), pair.value_str().expect("is text"))
}
