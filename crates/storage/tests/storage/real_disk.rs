//! The production disk under the same storage.

use std::sync::Arc;

use mainstay_storage::{Folder, Storage, StorageOptions, Vote};
use mainstay_world::{Buggify, Disk, RealDisk};

use crate::world::{OURS, append, at, entries, entry, read_all, read_snapshot, snapshot};

fn lanes(folder: &tempfile::TempDir) -> (Arc<dyn Disk>, Arc<dyn Disk>) {
    let lane = |name| Arc::new(RealDisk::start(folder.path(), name).expect("a thread"));
    (lane("log"), lane("side"))
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let vote = Vote { term: 4, node_id: 9, committed: true };
    {
        let (log, side) = lanes(&folder);
        let ours = Folder {
            node_id: OURS.node_id,
            cluster_id: OURS.cluster_id,
            epoch: OURS.epoch,
            name: "a".to_owned(),
            removed: false,
        };
        assert_eq!(Folder::load(&log).await.expect("loads"), None);
        ours.save(&log).await.expect("saves");
        assert_eq!(Folder::load(&log).await.expect("loads"), Some(ours));
        let options = StorageOptions::default();
        let (storage, recovered) =
            Storage::open(log, side, OURS, options, Buggify::none()).await.expect("opens");
        assert_eq!((recovered.last, recovered.vote), (None, None));
        storage.save_vote(vote).await.expect("saves");
        append(&storage, entries(1..=500, 4)).await.expect("appends");
        snapshot(&storage, at(300, 4)).await.expect("writes");
        storage.purge(at(200, 4));
        storage.save_committed(at(400, 4));
        append(&storage, vec![entry(501, 4)]).await.expect("appends");
        storage.shutdown().await;
    }
    let (log, side) = lanes(&folder);
    let options = StorageOptions::default();
    let (storage, recovered) =
        Storage::open(log, side, OURS, options, Buggify::none()).await.expect("opens again");
    assert_eq!(recovered.vote, Some(vote));
    assert_eq!((recovered.purged, recovered.last), (Some(at(200, 4)), Some(at(501, 4))));
    assert_eq!(recovered.committed, Some(at(400, 4)));
    assert_eq!(recovered.torn_tail, None);
    assert_eq!(read_all(&storage).await, entries(201..=501, 4));
    assert!(read_snapshot(&storage).await.is_some());
}
