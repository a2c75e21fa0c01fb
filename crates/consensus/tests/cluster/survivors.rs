//! What a stopped node's folder amounts to, and a new cluster made of it.

use std::{path::Path, sync::Arc};

use mainstay_consensus::{
    Birth, Consensus, NewCluster, Options, PeerAnswer, Seed, Survivor, Versions, ask_peer,
};
use mainstay_kv::{EPOCH_JUMP, Settings};
use mainstay_storage::{FolderReading, StorageOptions};
use mainstay_world::{Buggify, Disk, Instant, MemoryHistory, Net, RealDisk, RealNet, Scope, World};

use crate::node::{Cluster, DEADLINE, PATIENCE, block_on, put, stale};

fn disk(folder: &Path) -> Arc<dyn Disk> {
    Arc::new(RealDisk::start(folder, "disk").expect("a thread"))
}

async fn survivor_of(folder: &Path) -> (FolderReading, Survivor) {
    let reading = FolderReading::open(disk(folder)).await.expect("reads");
    let survivor = Survivor::of(&reading).await.expect("can be used");
    (reading, survivor)
}

fn options(name: &str) -> Options {
    Options {
        name: name.to_owned(),
        peer_address: "127.0.0.1:0".to_owned(),
        client_urls: Vec::new(),
        zone: String::new(),
        site: String::new(),
        version: "0.0.0".to_owned(),
        birth: Birth::Resume,
        settings: Settings::default(),
        storage: StorageOptions::default(),
        versions: Versions::default(),
    }
}

#[test]
fn a_survivor_holds_what_its_node_held_with_and_without_a_snapshot() {
    let mut cluster = Cluster::three();
    let mut leader = cluster.leader();
    for number in 0..50 {
        cluster.put(leader, &format!("k{number}"), "v").expect("is written");
    }
    for snapshot in [false, true] {
        if snapshot {
            block_on(cluster.node(leader).take_snapshot()).expect("a snapshot is taken");
            cluster.put(leader, "after the snapshot", "v").expect("is written");
        }
        let before = cluster.node(leader).read(|store| (store.sequence(), store.hash()));
        let id = cluster.node(leader).status().node_id;
        cluster.kill(leader);
        let (reading, survivor) = block_on(survivor_of(cluster.folders[leader].path()));
        assert_eq!((survivor.store.sequence(), survivor.store.hash()), before);
        assert_eq!(reading.folder().node_id, id);
        assert_eq!(survivor.members.len(), 3);
        assert!(survivor.members.keys().all(|id| survivor.is_voter(*id)));
        assert_eq!(reading.snapshot().is_some(), snapshot);
        drop(reading);
        cluster.start(leader);
        leader = cluster.leader();
    }
}

#[test]
fn a_new_cluster_serves_the_store_in_a_higher_epoch_and_term() {
    let mut cluster = Cluster::three();
    let leader = cluster.leader();
    let revision = cluster.put(leader, "k", "v").expect("is written").revision;
    let term = cluster.node(leader).status().term;
    for at in 0..3 {
        cluster.kill(at);
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (new, hash) = block_on(async {
        let (reading, survivor) = survivor_of(cluster.folders[leader].path()).await;
        let old = reading.folder().clone();
        let Survivor { store, last, members, .. } = survivor;
        let member = members[&old.node_id].clone();
        let seed = Seed { store, last, term, epoch: old.epoch, member };
        let disk = disk(folder.path());
        let new = NewCluster::write(&disk, seed, StorageOptions::default(), &|_bytes| {}).await;
        let new = new.expect("is written");
        assert_ne!((new.cluster_id, new.node_id), (old.cluster_id, old.node_id));
        assert_eq!(new.epoch, old.epoch + 1);
        assert_eq!(new.name, old.name);
        let (_reading, survivor) = survivor_of(folder.path()).await;
        (new, survivor.store.hash())
    });
    assert_eq!(new.hash, hash, "what was written is what is read back");
    assert!(new.revision >= revision + EPOCH_JUMP);

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let started = runtime.block_on(Scope::production().run(async {
        let world = World {
            log_disk: disk(folder.path()),
            snapshot_disk: disk(folder.path()),
            net: Arc::new(RealNet),
            history: Arc::new(MemoryHistory::default()),
            buggify: Buggify::none(),
        };
        let listener = RealNet.bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("has one").to_string();
        (Consensus::start(options(&new.name), world, listener).await, address)
    }));
    let (consensus, address) = (started.0.expect("starts"), started.1);
    let written = block_on(consensus.propose(&put("after", "v"), Instant::now() + DEADLINE));
    assert_eq!(written.expect("is written").revision, new.revision + 1);
    assert_eq!(stale(&consensus, "k").as_deref(), Some("v"));
    let status = consensus.status();
    assert_eq!((status.cluster_id, status.epoch), (new.cluster_id, new.epoch));
    assert_eq!(status.members.keys().collect::<Vec<_>>(), [&new.node_id]);
    assert!(status.term > term + EPOCH_JUMP, "no token of the old cluster is higher");

    // Whoever asks the address learns who is there.
    let net: Arc<dyn Net> = Arc::new(RealNet);
    match block_on(ask_peer(&net, &address, PATIENCE)) {
        PeerAnswer::Node { node_id, cluster_id, epoch, name } => {
            assert_eq!((node_id, cluster_id, epoch), (new.node_id, new.cluster_id, new.epoch));
            assert_eq!(name, new.name);
        }
        other => panic!("{other:?}"),
    }
    runtime.shutdown_background();
    assert_eq!(block_on(ask_peer(&net, "127.0.0.1:1", PATIENCE)), PeerAnswer::Nobody);
}
