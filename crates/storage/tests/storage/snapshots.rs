//! Snapshots: made, read, replaced, installed, and cut short at every call.

use std::io::ErrorKind;

use bytes::Bytes;
use mainstay_storage::{LogPosition, Storage};

use crate::{
    faulty_disk::FaultyDisk,
    world::{append, at, chunks, entries, entry, life, open, read_all, read_snapshot, snapshot},
};

fn snapshot_files(disk: &FaultyDisk) -> Vec<String> {
    let names = disk.folder().names();
    names.into_iter().filter(|name| name.starts_with("snapshot-")).collect()
}

#[test]
fn a_snapshot_comes_back_with_its_meta_and_its_chunks() {
    let disk = FaultyDisk::new(1);
    life(async {
        let (storage, _recovered) = open(&disk).await.expect("opens");
        assert!(storage.snapshot_reader().await.expect("asks").is_none());
        snapshot(&storage, at(5, 2)).await.expect("writes");
        let info = storage.snapshot().expect("is there");
        assert_eq!(
            (info.last, info.meta.as_ref()),
            (Some(at(5, 2)), &b"state at index 5 of term 2"[..])
        );
        assert_eq!(info.bytes, disk.folder().content(&info.file_name).len() as u64);
        assert_eq!(read_snapshot(&storage).await, Some(chunks(at(5, 2))));
        let mut empty = storage.snapshot_writer(None, Bytes::new()).await.expect("begins");
        empty.write(Bytes::new()).await.expect("writes");
        empty.finish().await.expect("finishes");
        assert_eq!(storage.snapshot(), Some(info), "a later state stays");
    });
}

#[test]
fn a_new_snapshot_replaces_the_old_one_but_not_under_its_reader() {
    let disk = FaultyDisk::new(1);
    life(async {
        let (storage, _recovered) = open(&disk).await.expect("opens");
        snapshot(&storage, at(5, 2)).await.expect("writes");
        let mut reader = storage.snapshot_reader().await.expect("asks").expect("is there");
        snapshot(&storage, at(9, 2)).await.expect("writes");
        assert_eq!(snapshot_files(&disk).len(), 2);
        let mut read = Vec::new();
        while let Some(chunk) = reader.next().await.expect("reads") {
            read.push(chunk);
        }
        assert_eq!(read, chunks(at(5, 2)));
        drop(reader);
        assert_eq!(snapshot_files(&disk), [storage.snapshot().expect("is there").file_name]);
    });
}

#[test]
fn a_snapshot_given_up_leaves_nothing() {
    let disk = FaultyDisk::new(1);
    life(async {
        let (storage, _recovered) = open(&disk).await.expect("opens");
        let mut writer =
            storage.snapshot_writer(Some(at(5, 1)), Bytes::new()).await.expect("begins");
        writer.write(entry(1, 1).payload).await.expect("writes");
        assert_eq!(snapshot_files(&disk).len(), 1);
        writer.abort();
        assert_eq!(snapshot_files(&disk), Vec::<String>::new());
        disk.folder().fail_write = Some(("snapshot-".to_owned(), ErrorKind::StorageFull));
        let error = snapshot(&storage, at(5, 1)).await.expect_err("the disk is full");
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        assert_eq!((snapshot_files(&disk), storage.snapshot()), (Vec::new(), None));
        assert!(storage.failure().borrow().is_none(), "the log goes on");
    });
}

#[test]
fn a_snapshot_with_a_part_that_was_not_written_is_never_finished() {
    let disk = FaultyDisk::new(1);
    life(async {
        let (storage, _recovered) = open(&disk).await.expect("opens");
        snapshot(&storage, at(5, 1)).await.expect("writes");
        let begun = storage.snapshot_writer(Some(at(9, 1)), Bytes::new()).await;
        let mut writer = begun.expect("begins");
        disk.folder().fail_write = Some(("snapshot-".to_owned(), ErrorKind::StorageFull));
        writer.write(entry(1, 1).payload).await.expect_err("the disk is full");
        writer.write(entry(2, 1).payload).await.expect_err("a part is missing");
        writer.finish().await.expect_err("a part is missing");
        assert_eq!(storage.snapshot().and_then(|info| info.last), Some(at(5, 1)));
        assert_eq!(snapshot_files(&disk).len(), 1);
    });
}

#[test]
fn a_large_snapshot_is_synced_in_steps() {
    let disk = FaultyDisk::new(1);
    life(async {
        let (storage, _recovered) = open(&disk).await.expect("opens");
        let mut writer =
            storage.snapshot_writer(Some(at(5, 1)), Bytes::new()).await.expect("begins");
        for _ in 0..64 {
            writer.write(Bytes::from_static(&[3; 512])).await.expect("writes");
        }
        writer.finish().await.expect("finishes");
        let folder = disk.folder();
        let syncs = folder.calls.iter().filter(|(call, name)| {
            matches!(call, crate::faulty_disk::Call::SyncData(_))
                && name.as_ref().is_some_and(|name| name.starts_with("snapshot-"))
        });
        assert!(syncs.count() >= 32, "one for each KiB");
    });
}

/// Installs a snapshot over a log of 20 entries, and gives the log after it.
async fn install(storage: &Storage, last: LogPosition) {
    append(storage, entries(1..=20, 1)).await.expect("appends");
    snapshot(storage, last).await.expect("writes");
    storage.install_mark(last).await.expect("marks");
}

#[test]
fn an_installed_snapshot_decides_where_the_log_begins() {
    // Held by the log, ahead of it, and in conflict with it.
    for (last, kept) in [(at(15, 1), entries(16..=20, 1)), (at(50, 3), vec![]), (at(15, 2), vec![])]
    {
        let disk = FaultyDisk::new(1);
        life(async {
            let (storage, _recovered) = open(&disk).await.expect("opens");
            install(&storage, last).await;
            assert_eq!(storage.purged(), Some(last));
            assert_eq!(read_all(&storage).await, kept);
        });
        disk.folder().lose_power();
        life(async {
            let (storage, recovered) = open(&disk).await.expect("opens");
            assert_eq!(recovered.purged, Some(last));
            assert_eq!(read_all(&storage).await, kept);
        });
    }
}

#[test]
fn the_log_goes_on_behind_an_installed_snapshot() {
    for last in [at(15, 1), at(50, 3), at(15, 2)] {
        let disk = FaultyDisk::new(1);
        let log = life(async {
            let (storage, _recovered) = open(&disk).await.expect("opens");
            install(&storage, last).await;
            let next = storage.last().expect("is purged at least").index + 1;
            let kept = read_all(&storage).await;
            // More than is kept in memory.
            for index in next..next + 40 {
                append(&storage, vec![entry(index, 4)]).await.expect("appends");
            }
            let log = read_all(&storage).await;
            assert_eq!(log, [kept, entries(next..=next + 39, 4)].concat());
            log
        });
        disk.folder().lose_power();
        life(async {
            let (storage, _recovered) = open(&disk).await.expect("opens");
            assert_eq!(read_all(&storage).await, log);
        });
    }
}

#[test]
fn a_snapshot_cut_short_at_any_call_leaves_the_old_state_or_the_new_one() {
    for calls in 1..60 {
        for seed in 0..6 {
            let disk = FaultyDisk::new(seed);
            life(async {
                let (storage, _recovered) = open(&disk).await.expect("opens");
                append(&storage, entries(1..=20, 1)).await.expect("appends");
                snapshot(&storage, at(10, 1)).await.expect("writes");
                storage.install_mark(at(10, 1)).await.expect("marks");
                storage.shutdown().await;
            });
            disk.folder().kill_process();
            let is_done = life(async {
                let (storage, _recovered) = open(&disk).await.expect("opens");
                disk.folder().calls_left = Some(calls);
                tokio::select! {
                    biased;
                    () = disk.died() => false,
                    () = async {
                        snapshot(&storage, at(50, 3)).await.expect("writes");
                        storage.install_mark(at(50, 3)).await.expect("marks");
                    } => true,
                }
            });
            disk.folder().lose_power();
            life(async {
                let (storage, recovered) = open(&disk).await.expect("opens");
                let covered = recovered.snapshot.and_then(|info| info.last).expect("is there");
                assert!(covered == at(50, 3) || (!is_done && covered == at(10, 1)));
                assert_eq!(recovered.purged, Some(covered));
                assert_eq!(read_snapshot(&storage).await, Some(chunks(covered)));
                let log = if covered.index == 50 { vec![] } else { entries(11..=20, 1) };
                assert_eq!(read_all(&storage).await, log);
                assert_eq!(snapshot_files(&disk).len(), 1, "what was replaced is removed");
            });
        }
    }
}
