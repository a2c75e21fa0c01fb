//! Folders that are somebody else's, or that lost a file: refused, and by which words.

use std::error::Error;

use mainstay_storage::{Folder, FolderReadError, Identity, OpenError, Vote};

use crate::{
    faulty_disk::FaultyDisk,
    files::{disk_with, eight_batches, folder_after, try_open, with},
    world::{OURS, append, entries, life, open, open_as, read_all, small},
};

#[test]
fn files_of_another_node_cluster_or_epoch_are_refused_by_name() {
    let files = folder_after(async |storage| {
        append(storage, entries(1..=8, 1)).await.expect("appends");
    });
    let refusal = |identity: Identity| {
        let disk = disk_with(&files);
        let error = life(open_as(&disk, identity, small())).expect_err("is refused");
        assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
        assert_eq!(disk.folder().files(), files, "nothing was changed");
        error.source().expect("has a reason").to_string()
    };
    let node = refusal(Identity { node_id: 4, ..OURS });
    assert!(node.contains("belongs to node 3, this is node 4"));
    let cluster = refusal(Identity { cluster_id: 8, ..OURS });
    assert!(cluster.contains("belongs to cluster 7"), "{cluster}");
    let epoch = refusal(Identity { epoch: 2, ..OURS });
    assert!(epoch.contains("belongs to epoch 1 of the cluster, this node is in epoch 2"));
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let (files, name, _ends) = eight_batches();
    let newer = with(&files, &name, |content| {
        content[12] = 2;
        let sum = mainstay_codec::checksum(0, &content[..60]).to_le_bytes();
        content[60..64].copy_from_slice(&sum);
    });
    let error = try_open(&newer).expect_err("is refused");
    let reason = error.source().and_then(Error::source).expect("has a reason").to_string();
    assert!(reason.contains("format 2 is newer than this program knows (1)"), "{reason}");
}

#[test]
fn a_folder_taken_into_a_cluster_keeps_what_it_had() {
    let unborn = Identity { cluster_id: 0, epoch: 0, ..OURS };
    let disk = FaultyDisk::new(1);
    life(async {
        let (storage, _recovered) = open_as(&disk, unborn, small()).await.expect("opens");
        append(&storage, entries(1..=40, 1)).await.expect("appends");
        storage.set_identity(OURS);
        append(&storage, entries(41..=80, 1)).await.expect("appends");
    });
    disk.folder().kill_process();
    life(async {
        let (storage, _recovered) = open(&disk).await.expect("opens");
        assert_eq!(read_all(&storage).await, entries(1..=80, 1));
    });
}

#[test]
fn a_folder_that_lost_its_vote_or_its_log_is_refused() {
    let vote = Vote { term: 2, node_id: 1, committed: false };
    let files = folder_after(async |storage| {
        append(storage, entries(1..=8, 1)).await.expect("appends");
        storage.save_vote(vote).await.expect("saves");
    });
    let without = |prefix: &str| {
        let mut files = files.clone();
        files.retain(|name, _content| !name.starts_with(prefix));
        try_open(&files).expect_err("is refused").to_string()
    };
    assert!(without("vote-").starts_with("the folder has no vote though it has a log"));
    assert!(without("log-").starts_with("the folder has no log though it has a vote"));
}

#[test]
fn a_folder_without_its_record_is_new_only_if_it_is_empty() {
    let disk = FaultyDisk::new(1);
    life(async {
        let lane = disk.lane("log");
        assert!(matches!(Folder::load(&lane).await, Ok(None)));
        let (storage, _recovered) = open(&disk).await.expect("opens");
        append(&storage, entries(1..=8, 1)).await.expect("appends");
        let error = Folder::load(&lane).await.expect_err("the record was lost");
        assert!(matches!(error, FolderReadError::Missing { .. }));
    });
}

#[test]
fn a_folder_record_survives_a_loss_of_power_at_any_call() {
    let record = |name: &str| Folder {
        node_id: 3,
        cluster_id: 7,
        epoch: 1,
        name: name.to_owned(),
        removed: false,
    };
    for calls in 1..12 {
        for seed in 0..20 {
            let disk = FaultyDisk::new(seed);
            life(async {
                record("old").save(&disk.lane("log")).await.expect("saves");
            });
            disk.folder().calls_left = Some(calls);
            let is_saved = life(async {
                let lane = disk.lane("log");
                tokio::select! {
                    biased;
                    () = disk.died() => false,
                    saved = async { record("new").save(&lane).await } => saved.is_ok(),
                }
            });
            disk.folder().lose_power();
            let found = life(async { Folder::load(&disk.lane("log")).await });
            let found = found.expect("is sound").expect("is there");
            assert!(found == record("new") || (!is_saved && found == record("old")));
        }
    }
}
