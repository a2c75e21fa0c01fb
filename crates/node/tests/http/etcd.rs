//! The etcd v3 API of a real node, as a client of etcd sees it.

mod gateway;
mod keys;
mod leases;
mod limits;
mod members;
mod queues;
mod snapshots;
mod transactions;
mod watches;

use bytes::Bytes;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use mainstay_etcd_protocol::{
    etcdserverpb::{
        DeleteRangeRequest, PutRequest, RangeRequest, auth_client::AuthClient,
        cluster_client::ClusterClient, kv_client::KvClient, lease_client::LeaseClient,
        maintenance_client::MaintenanceClient, watch_client::WatchClient,
    },
    health::health_client::HealthClient,
    v3electionpb::election_client::ElectionClient,
    v3lockpb::lock_client::LockClient,
};
use tonic::{Code, Status, body::Body};

use crate::harness::Node;

type Channel = Client<HttpConnector, Body>;

/// Clients of all services of one node, over one connection.
#[derive(Clone)]
struct Api {
    kv: KvClient<Channel>,
    watch: WatchClient<Channel>,
    lease: LeaseClient<Channel>,
    cluster: ClusterClient<Channel>,
    maintenance: MaintenanceClient<Channel>,
    auth: AuthClient<Channel>,
    lock: LockClient<Channel>,
    election: ElectionClient<Channel>,
    health: HealthClient<Channel>,
}

impl Api {
    fn of(node: &Node) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let channel: Channel =
            Client::builder(TokioExecutor::new()).http2_only(true).build(connector);
        let origin: http::Uri = format!("http://{}", node.address).parse().expect("is a URI");
        Self {
            kv: KvClient::with_origin(channel.clone(), origin.clone()),
            watch: WatchClient::with_origin(channel.clone(), origin.clone()),
            lease: LeaseClient::with_origin(channel.clone(), origin.clone()),
            cluster: ClusterClient::with_origin(channel.clone(), origin.clone()),
            maintenance: MaintenanceClient::with_origin(channel.clone(), origin.clone()),
            auth: AuthClient::with_origin(channel.clone(), origin.clone()),
            lock: LockClient::with_origin(channel.clone(), origin.clone()),
            election: ElectionClient::with_origin(channel.clone(), origin.clone()),
            health: HealthClient::with_origin(channel, origin),
        }
    }

    /// Writes a key; the revision.
    async fn put(&mut self, key: &'static str, value: &'static str) -> i64 {
        let response = self.kv.put(put(key, value)).await.expect("is written").into_inner();
        response.header.expect("has a header").revision
    }
}

fn put(key: &'static str, value: &'static str) -> PutRequest {
    PutRequest { key: bytes(key), value: bytes(value), ..PutRequest::default() }
}

fn delete(key: &'static str) -> DeleteRangeRequest {
    DeleteRangeRequest { key: bytes(key), ..DeleteRangeRequest::default() }
}

fn get(key: &'static str) -> RangeRequest {
    RangeRequest { key: bytes(key), ..RangeRequest::default() }
}

/// Every key from `key` on.
fn from(key: &'static str) -> RangeRequest {
    RangeRequest { range_end: bytes("\0"), ..get(key) }
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn refused<T: std::fmt::Debug>(answer: Result<T, Status>) -> (Code, String) {
    let status = answer.expect_err("is refused");
    (status.code(), status.message().to_owned())
}

/// What etcd says of it.
fn says(code: Code, text: &str) -> (Code, String) {
    (code, format!("etcdserver: {text}"))
}
