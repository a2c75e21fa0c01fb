//! The etcd v3 API of a whole cluster: every node serves everything, whoever leads and whoever dies.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use mainstay_etcd_protocol::etcdserverpb::{
    HashKvRequest, MoveLeaderRequest, PutRequest, RangeRequest, ResponseHeader, StatusRequest,
    WatchCreateRequest, WatchRequest, WatchResponse, kv_client::KvClient,
    maintenance_client::MaintenanceClient, watch_client::WatchClient, watch_request::RequestUnion,
};
use mainstay_tests::{Cluster, until};
use tonic::{Code, Request, Status, Streaming, body::Body, metadata::MetadataValue};

use crate::PROGRAM;

type Channel = Client<HttpConnector, Body>;

/// The services of one node.
struct Api {
    kv: KvClient<Channel>,
    watch: WatchClient<Channel>,
    maintenance: MaintenanceClient<Channel>,
}

impl Api {
    fn of(cluster: &Cluster, at: usize) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let channel: Channel =
            Client::builder(TokioExecutor::new()).http2_only(true).build(connector);
        let origin: http::Uri = cluster[at].client().url().parse().expect("is a URI");
        Self {
            kv: KvClient::with_origin(channel.clone(), origin.clone()),
            watch: WatchClient::with_origin(channel.clone(), origin.clone()),
            maintenance: MaintenanceClient::with_origin(channel, origin),
        }
    }

    async fn put(&mut self, key: &'static str, value: String) -> Result<ResponseHeader, Status> {
        let (key, value) = (Bytes::from_static(key.as_bytes()), Bytes::from(value));
        let request = PutRequest { key, value, ..PutRequest::default() };
        Ok(self.kv.put(request).await?.into_inner().header.expect("has a header"))
    }

    async fn get(&mut self, key: &'static str, serializable: bool) -> Result<String, Status> {
        let read = self.kv.range(range(key, serializable)).await?.into_inner();
        let value = read.kvs.first().map(|pair| pair.value.to_vec()).unwrap_or_default();
        Ok(String::from_utf8(value).expect("is text"))
    }

    async fn watch_from(
        &mut self,
        key: &'static str,
        start_revision: i64,
    ) -> Streaming<WatchResponse> {
        let request = Request::new(asked(key, start_revision));
        self.watch.watch(request).await.expect("is a stream").into_inner()
    }

    /// A watch from the present on, for as long as there is a leader.
    async fn watch_with_leader(
        &mut self,
        key: &'static str,
    ) -> Result<Streaming<WatchResponse>, Status> {
        let mut request = Request::new(asked(key, 0));
        wants_leader(&mut request);
        Ok(self.watch.watch(request).await?.into_inner())
    }
}

fn range(key: &'static str, serializable: bool) -> RangeRequest {
    let key = Bytes::from_static(key.as_bytes());
    RangeRequest { key, serializable, ..RangeRequest::default() }
}

fn wants_leader<T>(request: &mut Request<T>) {
    request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
}

/// The requests of a stream with one watch, which is not closed on this side for as long as the
/// answers are read.
fn asked(
    key: &'static str,
    start_revision: i64,
) -> impl Stream<Item = WatchRequest> + Send + 'static {
    let key = Bytes::from_static(key.as_bytes());
    let create = WatchCreateRequest { key, start_revision, ..WatchCreateRequest::default() };
    let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    stream::iter([request]).chain(stream::pending())
}

#[tokio::test]
async fn every_node_serves_the_etcd_api_whoever_leads() {
    let mut cluster = Cluster::three(PROGRAM).await;
    let mut apis: Vec<Api> = (0..3).map(|at| Api::of(&cluster, at)).collect();
    let mut terms = Vec::new();
    for round in 0..6 {
        let (written, read) = (round % 3, (round + 1) % 3);
        let value = format!("v{round}");
        let header = apis[written].put("k", value.clone()).await.expect("is written");
        terms.push(header.raft_term);
        // What was acknowledged by one node is read from another at once.
        assert_eq!(apis[read].get("k", false).await.expect("is read"), value);
    }
    assert!(terms.windows(2).all(|two| two[0] <= two[1]) && terms[0] > 0, "{terms:?}");
    let mut leaders = Vec::new();
    for api in &mut apis {
        let status = api.maintenance.status(StatusRequest {}).await.expect("is shown").into_inner();
        leaders.push(status.leader);
    }
    assert!(leaders[0] != 0 && leaders.iter().all(|leader| *leader == leaders[0]), "{leaders:?}");

    let leader = cluster.leader().await;
    let [one, other] = cluster.others(leader)[..] else { panic!("three nodes") };
    cluster[leader].kill().await;
    // A moment without a leader is `Unavailable`, which clients try again, and nothing else.
    until("a write after the leader died", async || {
        let put = apis[one].put("k", "after".to_owned()).await;
        if let Err(status) = &put {
            assert_eq!(status.code(), Code::Unavailable, "{status}");
        }
        put
    })
    .await;
    assert_eq!(apis[other].get("k", false).await.expect("is read"), "after");

    cluster[other].kill().await;
    let refused = apis[one].get("k", false).await.expect_err("there is no quorum");
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    assert_eq!(apis[one].get("k", true).await.expect("is this node's own"), "after");
}

#[tokio::test]
async fn an_etcd_watch_of_a_follower_misses_nothing_while_the_leader_dies() {
    let mut cluster = Cluster::three(PROGRAM).await;
    let leader = cluster.leader().await;
    let [one, other] = cluster.others(leader)[..] else { panic!("three nodes") };
    let mut answers = Api::of(&cluster, one).watch_from("k", 1).await;
    let mut writer = Api::of(&cluster, other);
    let mut written = Vec::new();
    for number in 0..200 {
        if number == 100 {
            cluster[leader].kill().await;
        }
        let value = number.to_string();
        // A write of unknown outcome may be there or not; its value is its own.
        if writer.put("k", value.clone()).await.is_ok() {
            written.push(value);
        }
    }
    let last = until("a last write", async || writer.put("k", "last".to_owned()).await).await;
    let (mut told, mut revision) = (Vec::new(), 0);
    while revision < last.revision {
        let answer = tokio::time::timeout(Duration::from_secs(30), answers.message()).await;
        let answer = answer.expect("comes in time").expect("goes on").expect("has not ended");
        for event in answer.events {
            let pair = event.kv.expect("has a pair");
            assert!(pair.mod_revision > revision, "out of order or twice");
            revision = pair.mod_revision;
            told.push(String::from_utf8(pair.value.to_vec()).expect("is text"));
        }
    }
    let missed: Vec<_> = written.iter().filter(|value| !told.contains(value)).collect();
    assert!(missed.is_empty() && written.len() > 100, "{missed:?} of {}", written.len());
}

#[tokio::test]
async fn who_wants_a_leader_hears_that_there_is_none() {
    let mut cluster = Cluster::three(PROGRAM).await;
    let leader = cluster.leader().await;
    let mut api = Api::of(&cluster, leader);
    api.put("k", "v".to_owned()).await.expect("is written");
    let mut cut = api.watch_with_leader("k").await.expect("there is a leader");
    let mut kept = api.watch_from("k", 1).await;
    for at in cluster.others(leader) {
        cluster[at].kill().await;
    }
    // The stream that wants a leader ends in words, the other one goes on.
    let ended = loop {
        match cut.message().await {
            Ok(Some(_created)) => {}
            Ok(None) => panic!("ended without a word"),
            Err(status) => break status,
        }
    };
    let no_leader = (Code::Unavailable, "etcdserver: no leader");
    assert_eq!((ended.code(), ended.message()), no_leader);
    let created = kept.message().await.expect("goes on").expect("has not ended");
    assert!(created.created, "{created:?}");
    let told = kept.message().await.expect("goes on").expect("has not ended");
    assert_eq!(told.events.len(), 1);
    let refused = api.watch_with_leader("k").await.expect_err("there is none");
    assert_eq!((refused.code(), refused.message()), no_leader);
    let mut request = Request::new(range("k", true));
    wants_leader(&mut request);
    let refused = api.kv.range(request).await.expect_err("there is none");
    assert_eq!((refused.code(), refused.message()), no_leader);
    assert_eq!(api.get("k", true).await.expect("is this node's own"), "v");
    let status = api.maintenance.status(StatusRequest {}).await.expect("is shown").into_inner();
    assert_eq!((status.leader, &status.errors[..]), (0, &["etcdserver: no leader".to_owned()][..]));
}

#[tokio::test]
async fn only_the_leader_moves_the_leadership() {
    let cluster = Cluster::three(PROGRAM).await;
    let leader = cluster.leader().await;
    let [one, other] = cluster.others(leader)[..] else { panic!("three nodes") };
    let mut apis: Vec<Api> = (0..3).map(|at| Api::of(&cluster, at)).collect();
    let id = async |api: &mut Api| {
        let status = api.maintenance.status(StatusRequest {}).await.expect("is shown");
        status.into_inner().header.expect("has a header").member_id
    };
    let target_id = id(&mut apis[one]).await;
    let refused = apis[other].maintenance.move_leader(MoveLeaderRequest { target_id }).await;
    let refused = refused.expect_err("it does not lead");
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::FailedPrecondition, "etcdserver: not leader")
    );
    let nobody = MoveLeaderRequest { target_id: 12_345 };
    let refused = apis[leader].maintenance.move_leader(nobody).await.expect_err("is nobody");
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::FailedPrecondition, "etcdserver: bad leader transferee")
    );
    apis[leader].maintenance.move_leader(MoveLeaderRequest { target_id }).await.expect("moves");
    for api in &mut apis {
        until("all know the new leader", async || {
            let status = api.maintenance.status(StatusRequest {}).await?.into_inner();
            if status.leader == target_id { Ok(()) } else { Err(Status::unavailable("not yet")) }
        })
        .await;
    }
}

#[tokio::test]
async fn nodes_that_hold_the_same_keys_have_the_same_hash() {
    let mut cluster = Cluster::three(PROGRAM).await;
    let mut apis: Vec<Api> = (0..3).map(|at| Api::of(&cluster, at)).collect();
    let mut revision = 0;
    for number in 0..50 {
        let header = apis[number % 3].put("k", number.to_string()).await.expect("is written");
        revision = header.revision;
    }
    cluster.serves().await;
    let mut hashes = Vec::new();
    for api in &mut apis {
        let hash = until("a hash of the last revision", async || {
            api.maintenance.hash_kv(HashKvRequest { revision }).await
        })
        .await
        .into_inner();
        assert_eq!(hash.hash_revision, revision);
        hashes.push(hash.hash);
    }
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
}
