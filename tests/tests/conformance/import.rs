//! `mainstay import-etcd`, from a real etcd and from Mainstay itself, which serves the same API.
//!
//! A source gets something of everything, an empty cluster is filled from it by the program, and
//! both are read through the etcd API and compared: every key with its revisions, its count of
//! writes and its lease.

use std::time::Duration;

use bytes::Bytes;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use mainstay_etcd_protocol::{
    etcdserverpb::{
        DeleteRangeRequest, LeaseGrantRequest, LeaseLeasesRequest, LeaseTimeToLiveRequest,
        PutRequest, RangeRequest, RequestOp, StatusRequest, TxnRequest, kv_client::KvClient,
        lease_client::LeaseClient, maintenance_client::MaintenanceClient, request_op::Request,
    },
    mvccpb::KeyValue,
};
use mainstay_tests::{Cluster, CommandLine, Finished, base64, free_port, until};
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard};
use tonic::body::Body;

use crate::{
    comparison::say,
    side::{Etcd, Side},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_mainstay-under-test");

/// Exit codes, as the design promises them.
const DONE: i32 = 0;
const FAILED: i32 = 1;
const USAGE: i32 = 2;
const UNAVAILABLE: i32 = 4;

/// Two clusters at a time are all there may be, so two tests that want two would wait for ever.
pub(crate) static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

type Channel = Client<HttpConnector, Body>;

/// One node through the etcd API.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) kv: KvClient<Channel>,
    pub(crate) lease: LeaseClient<Channel>,
    maintenance: MaintenanceClient<Channel>,
}

/// A source, an empty cluster, and the program between them.
struct Migration {
    source: Side,
    here: Cluster,
    commands: CommandLine,
    _alone: MutexGuard<'static, ()>,
}

impl Api {
    pub(crate) fn of(address: &str) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let channel: Channel =
            Client::builder(TokioExecutor::new()).http2_only(true).build(connector);
        let origin: http::Uri = format!("http://{address}").parse().expect("is a URI");
        Self {
            kv: KvClient::with_origin(channel.clone(), origin.clone())
                .max_decoding_message_size(64 * 1024 * 1024),
            lease: LeaseClient::with_origin(channel.clone(), origin.clone()),
            maintenance: MaintenanceClient::with_origin(channel, origin),
        }
    }

    pub(crate) async fn put(
        &mut self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        lease: i64,
    ) -> i64 {
        let request = put(key, value, lease);
        let written = self.kv.put(request).await.expect("is written").into_inner();
        written.header.expect("has a header").revision
    }

    pub(crate) async fn delete(&mut self, key: &'static str) {
        let key = Bytes::from_static(key.as_bytes());
        let request = DeleteRangeRequest { key, ..DeleteRangeRequest::default() };
        self.kv.delete_range(request).await.expect("is deleted");
    }

    async fn grant(&mut self, id: i64, ttl: i64) {
        let request = LeaseGrantRequest { id, ttl };
        self.lease.lease_grant(request).await.expect("is granted");
    }

    /// Every key at `revision`, and the present revision.
    pub(crate) async fn all(&mut self, revision: i64) -> (Vec<KeyValue>, i64) {
        let everything = Bytes::from_static(b"\0");
        let (key, range_end) = (everything.clone(), everything);
        let request = RangeRequest { key, range_end, revision, ..RangeRequest::default() };
        let read = self.kv.range(request).await.expect("is read").into_inner();
        (read.kvs, read.header.expect("has a header").revision)
    }

    /// Every lease with the time that it was granted, by id.
    pub(crate) async fn leases(&mut self) -> Vec<(i64, i64)> {
        let listed = self.lease.lease_leases(LeaseLeasesRequest {}).await.expect("are listed");
        let mut leases = Vec::new();
        for lease in listed.into_inner().leases {
            let request = LeaseTimeToLiveRequest { id: lease.id, keys: false };
            let shown = self.lease.lease_time_to_live(request).await.expect("is shown");
            leases.push((lease.id, shown.into_inner().granted_ttl));
        }
        leases.sort_unstable();
        leases
    }

    async fn cluster_id(&mut self) -> u64 {
        let status = self.maintenance.status(StatusRequest {}).await.expect("is shown");
        status.into_inner().header.expect("has a header").cluster_id
    }

    /// Something of everything.
    pub(crate) async fn fill(&mut self) {
        self.put("often", "1", 0).await;
        self.put("often", "2", 0).await;
        self.put("gone", "for good", 0).await;
        self.put("again", "old", 0).await;
        self.put("again", "old too", 0).await;
        self.delete("gone").await;
        self.delete("again").await;
        self.put("again", "new", 0).await;
        self.put("empty", "", 0).await;
        self.put([0, 255, 10, 0], [0, 1, 254, 255], 0).await;
        self.grant(0x1234, 600).await;
        self.grant(0x5678, 900).await;
        self.put("leased/a", "x", 0x1234).await;
        self.put("leased/b", "y", 0x1234).await;
        self.put("leased/c", "z", 0x1234).await;
        // It is attached no longer, and counts three writes.
        self.put("often", "3", 0).await;
        for block in 0..50 {
            let success = (0..100).map(|number| {
                let key = format!("many/{:05}", (block * 100 + number) * 7919 % 5_000);
                let put = put(key, format!("value {block} {number}"), 0);
                RequestOp { request: Some(Request::RequestPut(put)) }
            });
            let request = TxnRequest { success: success.collect(), ..TxnRequest::default() };
            self.kv.txn(request).await.expect("is carried out");
        }
        self.put("large", vec![b'x'; 1_000_000], 0).await;
    }
}

impl Migration {
    /// An empty cluster beside Mainstay as the source.
    async fn from_mainstay() -> Self {
        let alone = ONE_AT_A_TIME.lock().await;
        Self::new(Side::mainstay().await, alone).await
    }

    async fn new(source: Side, alone: MutexGuard<'static, ()>) -> Self {
        let mut here = Cluster::planned(PROGRAM, 3).await;
        here.start_all();
        for at in 0..here.len() {
            here[at].answers().await;
        }
        here.leader().await;
        Self { source, here, commands: CommandLine::new(PROGRAM), _alone: alone }
    }

    fn source(&self) -> Api {
        Api::of(&self.source.addresses[0])
    }

    fn here(&self) -> Api {
        Api::of(&format!("127.0.0.1:{}", self.here[1].plan.client_port))
    }

    async fn run(&self, words: &[&str]) -> Finished {
        let endpoints = self.here.endpoints();
        let command = ["import-etcd", "--endpoints", &endpoints];
        self.commands.run(&[&command, words].concat()).await
    }

    /// Imports, which must succeed; its report.
    async fn import(&self, words: &[&str]) -> Value {
        let from = self.source.addresses.join(",");
        let words = [&["--from", &from, "--output", "json"], words].concat();
        self.run(&words).await.expect_exit(DONE).json()
    }

    /// Imports, which must fail; its complaint.
    async fn refused(&self, words: &[&str], exit: i32) -> String {
        let from = self.source.addresses.join(",");
        let finished = self.run(&[&["--from", &from], words].concat()).await;
        finished.expect_exit(exit).stderr.clone()
    }

    /// A step of an import as its program asks for it.
    async fn step(&self, step: Value) -> Value {
        let answer = self.here[0].client().post("/v1/cluster/import", &step).answer().await;
        answer.expect_status(200).json()
    }

    /// Holds what is here against the source at the revision that was imported.
    async fn compare(&self, report: &Value) {
        let revision: i64 = text(&report["source"]["revision"]).parse().expect("a number");
        let (source, _) = self.source().all(revision).await;
        let (here, _) = self.here().all(revision).await;
        assert_eq!(here.len(), source.len());
        for (here, source) in here.iter().zip(&source) {
            assert_eq!(here, source);
        }
        assert_eq!(report["verified"], true, "{report}");
        assert_eq!(text(&report["here"]["keys"]), source.len().to_string());
    }
}

fn put(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>, lease: i64) -> PutRequest {
    let (key, value) =
        (Bytes::copy_from_slice(key.as_ref()), Bytes::copy_from_slice(value.as_ref()));
    PutRequest { key, value, lease, ..PutRequest::default() }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

/// Fills a cluster from a source with something of everything, and compares.
async fn everything_comes_along(migration: &Migration) {
    let mut source = migration.source();
    source.fill().await;
    let dry = migration.import(&["--dry-run"]).await;
    assert_eq!((&dry["dry_run"], &dry["here"]), (&true.into(), &Value::Null));
    assert_eq!(migration.here().all(0).await, (vec![], 1), "a dry run writes nothing");

    let report = migration.import(&[]).await;
    migration.compare(&report).await;
    let mut here = migration.here();
    let (pairs, revision) = here.all(0).await;
    assert_eq!(revision.to_string(), text(&report["source"]["revision"]));
    let often = pairs.iter().find(|pair| &pair.key[..] == b"often").expect("is there");
    assert_eq!((often.version, often.create_revision < often.mod_revision), (3, true));
    assert_eq!(here.leases().await, [(0x1234, 600), (0x5678, 900)]);
    assert_eq!(source.leases().await, here.leases().await);

    // Writing goes on behind the source's revision, and leases end with their keys.
    let next = here.put("often", "4", 0).await;
    assert_eq!(next, revision + 1);
    let revoke = mainstay_etcd_protocol::etcdserverpb::LeaseRevokeRequest { id: 0x1234 };
    here.lease.lease_revoke(revoke).await.expect("is revoked");
    let (left, _) = here.all(0).await;
    assert_eq!(left.len(), pairs.len() - 3);
    // A second import has nothing to fill.
    let refused = migration.refused(&[], FAILED).await;
    assert!(refused.contains("needs an empty one") && refused.contains("nothing was done"));
}

#[tokio::test]
async fn everything_of_mainstay_comes_along_with_its_revisions() {
    everything_comes_along(&Migration::from_mainstay().await).await;
}

#[tokio::test]
async fn everything_of_etcd_comes_along_with_its_revisions() {
    match Etcd::find() {
        Ok(etcd) => {
            let alone = ONE_AT_A_TIME.lock().await;
            let migration = Migration::new(Side::etcd(&etcd).await, alone).await;
            everything_comes_along(&migration).await;
        }
        Err(why) => say(&format!("skipped: an import from etcd ({why})")),
    }
}

#[tokio::test]
async fn a_source_that_is_written_meanwhile_gives_one_picture() {
    let migration = Migration::from_mainstay().await;
    migration.source().fill().await;
    let mut api = migration.source();
    let writing = tokio::spawn(async move {
        for number in 0_u64.. {
            api.put(format!("many/{:05}", number % 5_000), number.to_string(), 0).await;
        }
    });
    let report = migration.import(&[]).await;
    writing.abort();
    migration.compare(&report).await;
}

#[tokio::test]
async fn what_cannot_be_imported_is_said_before_anything_is_written() {
    let migration = Migration::from_mainstay().await;
    let mut source = migration.source();
    source.put("small", "x", 0).await;
    source.put("large", vec![b'x'; 5_000], 0).await;

    // Who is not there, who wants TLS, and who is the same.
    let nobody = format!("127.0.0.1:{}", free_port());
    let silent = migration.run(&["--from", &nobody]).await;
    assert!(silent.expect_exit(UNAVAILABLE).stderr.contains("no endpoint can be reached"));
    let secret = migration.run(&["--from", "https://127.0.0.1:2379"]).await;
    assert!(secret.expect_exit(USAGE).stderr.contains("TLS is not there yet"));
    let here = migration.here[0].plan.url();
    let same = migration.run(&["--from", &here]).await;
    assert!(same.expect_exit(FAILED).stderr.contains("are the same cluster"));

    // A value that is too large is named.
    let settings = json!({"value_bytes_max": "4999"});
    let client = migration.here[0].client();
    let request = client.request("PUT", "/v1/cluster/settings").json(&settings);
    request.answer().await.expect_status(200);
    for words in [&["--dry-run"][..], &[]] {
        let refused = migration.refused(words, FAILED).await;
        assert!(refused.contains("large (a value of 5000 bytes)"), "{refused}");
        assert!(refused.contains("nothing was written"), "{refused}");
    }
    assert_eq!(migration.here().all(0).await, (vec![], 1));

    // Something is there already.
    client.put("mine", "v").answer().await.expect_status(200);
    let refused = migration.refused(&[], FAILED).await;
    assert!(refused.contains("1 keys and 0 leases"), "{refused}");
}

#[tokio::test]
async fn an_interrupted_import_is_seen_and_goes_on_with_what_the_source_has_then() {
    let migration = Migration::from_mainstay().await;
    let mut source = migration.source();
    source.fill().await;
    source.put("later", "x", 0).await;
    // What an import that ended early leaves behind: its beginning.
    let (pairs, _) = source.all(0).await;
    let mut first: Vec<_> = pairs.iter().collect();
    first.sort_unstable_by_key(|pair| pair.mod_revision);
    let bound = first[20].mod_revision;
    let first = first.into_iter().filter(|pair| pair.mod_revision < bound).map(|pair| {
        json!({
            "key": base64(&pair.key),
            "value": base64(&pair.value),
            "create_revision": pair.create_revision.to_string(),
            "mod_revision": pair.mod_revision.to_string(),
            "version": pair.version.to_string(),
            "lease": pair.lease.to_string(),
        })
    });
    let first: Vec<Value> = first.collect();
    let id = source.cluster_id().await.to_string();
    // A new cluster learns of imports a moment after its birth.
    let begin = json!({"begin": {"source": id}});
    until("the import to begin", async || {
        let request = migration.here[0].client().post("/v1/cluster/import", &begin);
        let answer = request.answer().await;
        if answer.status == 200 { Ok(()) } else { Err(answer.text()) }
    })
    .await;
    let leases = [(0x1234, 600_000), (0x5678, 900_000), (9, 60_000)];
    let granted = leases.map(|(id, ttl_ms)| json!({"id": id.to_string(), "ttl_ms": ttl_ms}));
    migration.step(json!({"leases": {"granted": granted}})).await;
    migration.step(json!({"pairs": {"after_revision": "1", "pairs": first}})).await;

    // It is seen, and nobody else writes.
    let client = migration.here[2].client().clone();
    let refused = client.put("mine", "v").answer().await;
    let problem = refused.expect_problem(503, "read_only");
    assert!(problem.detail.contains("mainstay import-etcd"), "{problem:?}");
    until("all nodes to say so", async || {
        let cluster = client.cluster().await.map_err(|error| error.to_string())?.json();
        let reason = cluster["node"]["read_only"].clone();
        if reason == "import" { Ok(()) } else { Err(reason.to_string()) }
    })
    .await;

    // The source goes on: one key of those goes, one is written again, one comes.
    source.delete("empty").await;
    source.put("again", "newer", 0).await;
    source.put("new", "x", 0).await;
    let report = migration.import(&[]).await;
    migration.compare(&report).await;
    assert_eq!(migration.here().leases().await, [(0x1234, 600), (0x5678, 900)]);
    client.put("mine", "v").answer().await.expect_status(200);
}

#[tokio::test]
async fn an_import_that_is_given_up_leaves_a_cluster_that_takes_writes() {
    let migration = Migration::from_mainstay().await;
    let begin = json!({"begin": {"source": "77"}});
    until("the import to begin", async || {
        let request = migration.here[0].client().post("/v1/cluster/import", &begin);
        let answer = request.answer().await;
        if answer.status == 200 { Ok(()) } else { Err(answer.text()) }
    })
    .await;
    let refused = migration.refused(&[], FAILED).await;
    assert!(refused.contains("being filled from another one, 4d"), "{refused}");
    migration.run(&["--abandon"]).await.expect_exit(DONE);
    let nothing = migration.run(&["--abandon"]).await;
    assert!(nothing.expect_exit(FAILED).stderr.contains("no import is going on"));
    let client = migration.here[0].client();
    until("writes to be taken", async || {
        let answer = client.put("k", "v").within(Duration::from_secs(5)).answer().await;
        if answer.status == 200 { Ok(()) } else { Err(answer.text()) }
    })
    .await;
}
