//! `etcdctl snapshot save` of Mainstay, and a real etcd restored from what it saved.
//!
//! etcd's own programs judge the file: `snapshot status` opens it with bbolt and checks every
//! page, and an etcd that starts from it is read beside the cluster that it came from.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use mainstay_etcd_protocol::etcdserverpb::{
    CompactionRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest, RangeRequest,
};
use mainstay_tests::{Process, free_port};
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::Code;

use crate::{
    commands::etcdctl,
    comparison::say,
    import::{Api, ONE_AT_A_TIME},
    side::{Etcd, Side},
};

/// etcd's client and a folder for its files.
struct Keeper {
    etcdctl: PathBuf,
    folder: TempDir,
}

impl Keeper {
    fn new(etcdctl: PathBuf) -> Self {
        Self { etcdctl, folder: tempfile::tempdir().expect("the system has a temporary folder") }
    }

    /// Runs etcd's client, which must succeed; what it printed.
    async fn run(&self, words: &[&str]) -> String {
        // One of its own for each, since output is appended.
        let folder = tempfile::tempdir().expect("the system has a temporary folder");
        let (out, err) = (folder.path().join("out"), folder.path().join("err"));
        let words = words.iter().map(|word| (*word).to_owned());
        let mut process = Process::start(&self.etcdctl, words, &out, &err);
        let code = process.exit_code().await;
        assert_eq!(code, 0, "{}{}", process.stdout(), process.stderr());
        process.stdout()
    }

    /// Saves a snapshot of the node at an address; the file, and what etcd says of it.
    async fn save(&self, address: &str, name: &str) -> (PathBuf, Value) {
        let file = self.folder.path().join(name);
        let path = text(&file);
        self.run(&["--endpoints", address, "snapshot", "save", path]).await;
        let status = self.run(&["snapshot", "status", path, "--write-out", "json"]).await;
        (file.clone(), serde_json::from_str(&status).expect("is JSON"))
    }

    /// An etcd that starts from a file.
    async fn restore(&self, etcd: &Etcd, file: &Path) -> Side {
        let (folder, peer) = (tempfile::tempdir().expect("a folder"), free_port());
        let url = format!("http://127.0.0.1:{peer}");
        let data = folder.path().join("data");
        let cluster = format!("e1={url}");
        let words = ["snapshot", "restore", text(file), "--data-dir", text(&data)];
        let names = ["--name", "e1", "--initial-cluster", &cluster];
        let words = [&words[..], &names, &["--initial-advertise-peer-urls", &url]].concat();
        self.run(&words).await;
        Side::etcd_in(etcd, folder, peer).await
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the folders of tests are text")
}

/// Something of everything, with a compaction in the middle; the compaction revision.
async fn fill(api: &mut Api) -> i64 {
    api.fill().await;
    let compacted = api.put("often", "4", 0).await - 1;
    let request = CompactionRequest { revision: compacted, physical: false };
    api.kv.compact(request).await.expect("is compacted");
    for number in 0..300 {
        api.put(format!("late/{}", number % 40), number.to_string(), 0).await;
    }
    api.delete("often").await;
    api.delete("many/00007").await;
    api.put("often", "anew", 0).await;
    compacted
}

/// The keys of a lease; etcd gives them in any order.
async fn keys_of(api: &mut Api, lease: i64) -> Vec<Bytes> {
    let request = LeaseTimeToLiveRequest { id: lease, keys: true };
    let shown = api.lease.lease_time_to_live(request).await.expect("is shown");
    let mut keys = shown.into_inner().keys;
    keys.sort_unstable();
    keys
}

async fn refused_at(api: &mut Api, revision: i64) -> (Code, String) {
    let key = Bytes::from_static(b"often");
    let request = RangeRequest { key, revision, ..RangeRequest::default() };
    let status = api.kv.range(request).await.expect_err("is compacted");
    (status.code(), status.message().to_owned())
}

/// Every readable revision of some, the lowest and the newest among them, and what goes on from
/// there.
async fn compare(source: &mut Api, restored: &mut Api, compacted: i64) {
    let (now, revision) = source.all(0).await;
    assert_eq!(restored.all(0).await, (now, revision), "the present, field by field");
    for past in (compacted..=revision).rev().step_by(37).chain([compacted]) {
        let (wanted, _) = source.all(past).await;
        assert_eq!(restored.all(past).await.0, wanted, "revision {past}");
    }
    for past in [1, compacted - 1] {
        assert_eq!(refused_at(restored, past).await, refused_at(source, past).await);
    }
    assert_eq!(restored.leases().await, source.leases().await);
    let mut left = Vec::new();
    for api in [source, restored] {
        assert_eq!(keys_of(api, 0x1234).await, ["leased/a", "leased/b", "leased/c"]);
        assert_eq!(keys_of(api, 0x5678).await, Vec::<Bytes>::new());
        // A key that had a past goes on with it, and a lease ends with its keys.
        api.put("often", "on", 0).await;
        api.lease.lease_revoke(LeaseRevokeRequest { id: 0x1234 }).await.expect("is revoked");
        let request = CompactionRequest { revision: revision + 1, physical: true };
        api.kv.compact(request).await.expect("is compacted");
        left.push(api.all(0).await);
    }
    assert_eq!(left[0], left[1]);
}

#[tokio::test]
async fn a_real_etcd_restored_from_a_snapshot_has_every_key_revision_and_lease() {
    let (etcdctl, etcd) = match (etcdctl(), Etcd::find()) {
        (Ok(etcdctl), Ok(etcd)) => (etcdctl, etcd),
        (Err(why), _) | (_, Err(why)) => {
            return say(&format!("skipped: an etcd restored from a snapshot ({why})"));
        }
    };
    let _alone = ONE_AT_A_TIME.lock().await;
    let source = Side::mainstay().await;
    let keeper = Keeper::new(etcdctl);
    let mut api = Api::of(&source.addresses[0]);

    // A store of next to nothing fits the page that names the buckets.
    let (_, revision) = api.all(0).await;
    let (_file, status) = keeper.save(&source.addresses[0], "little").await;
    assert_eq!((&status["revision"], &status["totalSize"]), (&json!(revision), &json!(4 * 4_096)));

    let compacted = fill(&mut api).await;
    let (_, revision) = api.all(0).await;
    let mut files = Vec::new();
    for (at, address) in source.addresses.iter().enumerate() {
        // Every member has its own; this read waits until it has everything.
        Api::of(address).all(0).await;
        let (file, status) = keeper.save(address, &format!("snapshot-{at}")).await;
        assert_eq!(status["revision"], revision, "{status}");
        let len = std::fs::metadata(&file).expect("was saved").len();
        assert_eq!(status["totalSize"], len - 32, "{status}");
        assert!(status["totalKey"].as_u64() > Some(5_300), "{status}");
        files.push(file);
    }
    let restored = keeper.restore(&etcd, &files[1]).await;
    compare(&mut api, &mut Api::of(&restored.addresses[0]), compacted).await;
}
