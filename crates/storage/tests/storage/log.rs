//! The log as its users see it, on a disk that behaves.

use std::time::Duration;

use mainstay_storage::{ReadError, Vote};
use mainstay_world::sleep;
use tokio::sync::oneshot;

use crate::{
    faulty_disk::FaultyDisk,
    world::{append, at, entries, entry, life, open, read_all, snapshot, submit},
};

#[test]
fn entries_are_read_back_from_memory_and_from_disk() {
    life(async {
        let disk = FaultyDisk::new(1);
        let (storage, _recovered) = open(&disk).await.expect("opens");
        for index in 1..=300 {
            append(&storage, vec![entry(index, 1)]).await.expect("appends");
        }
        assert_eq!(storage.last(), Some(at(300, 1)));
        assert_eq!(storage.progress().synced, Some(at(300, 1)));
        assert_eq!(read_all(&storage).await, entries(1..=300, 1));
        assert_eq!(storage.read(301..400, 100).await.expect("reads"), vec![]);
        assert_eq!(storage.read(7..8, 0).await.expect("reads"), vec![entry(7, 1)]);
    });
}

#[test]
fn what_waits_together_is_synced_together() {
    life(async {
        let disk = FaultyDisk::new(1);
        let (storage, _recovered) = open(&disk).await.expect("opens");
        let before = storage.sync_stats().count;
        let waiting: Vec<_> =
            (1..=8).map(|index| submit(&storage, vec![entry(index, 1)])).collect();
        for outcome in waiting {
            outcome.await.expect("is called").expect("is durable");
        }
        assert_eq!(storage.sync_stats().count - before, 1);
    });
}

#[test]
fn a_truncated_log_goes_on_with_other_entries() {
    life(async {
        let disk = FaultyDisk::new(1);
        let (storage, _recovered) = open(&disk).await.expect("opens");
        append(&storage, entries(1..=100, 1)).await.expect("appends");
        storage.truncate_after(Some(40)).await.expect("truncates");
        assert_eq!(storage.last(), Some(at(40, 1)));
        append(&storage, entries(41..=60, 2)).await.expect("appends");
        let expected = [entries(1..=40, 1), entries(41..=60, 2)].concat();
        assert_eq!(read_all(&storage).await, expected);
        storage.shutdown().await;
        disk.folder().lose_power();
        let (storage, recovered) = open(&disk).await.expect("opens again");
        assert_eq!(recovered.last, Some(at(60, 2)));
        assert_eq!(read_all(&storage).await, expected);
        storage.truncate_after(None).await.expect("truncates");
        assert_eq!(storage.last(), None);
    });
}

#[test]
fn what_is_cut_off_before_it_is_durable_never_counts_as_durable() {
    life(async {
        let disk = FaultyDisk::new(1);
        let (storage, _recovered) = open(&disk).await.expect("opens");
        append(&storage, entries(1..=8, 1)).await.expect("appends");
        disk.folder().stall_next_sync = Some("log");
        let (answer, seen) = oneshot::channel();
        let witness = storage.clone();
        let callback = move |_outcome| answer.send(witness.progress().synced).expect("is awaited");
        storage.append(entries(9..=10, 1), Box::new(callback));
        sleep(Duration::from_millis(1)).await;
        let cutter = storage.clone();
        let cut = mainstay_world::spawn(async move { cutter.truncate_after(Some(5)).await });
        sleep(Duration::from_millis(1)).await;
        assert_eq!(storage.last(), Some(at(5, 1)));
        assert_eq!(storage.progress().synced, Some(at(5, 1)));
        disk.release();
        assert_eq!(seen.await.expect("is called"), Some(at(5, 1)));
        cut.await.expect("ends").expect("truncates");
        assert_eq!(storage.progress().synced, Some(at(5, 1)));
    });
}

#[test]
fn a_first_start_cut_short_at_any_call_can_be_tried_again() {
    for calls in 1..40 {
        for seed in 0..20 {
            let disk = FaultyDisk::new(seed);
            disk.folder().calls_left = Some(calls);
            life(async {
                tokio::select! {
                    biased;
                    () = disk.died() => {}
                    opened = open(&disk) => drop(opened.expect("opens")),
                }
            });
            disk.folder().lose_power();
            life(async {
                let (_storage, recovered) = open(&disk).await.expect("opens");
                assert_eq!((recovered.last, recovered.vote), (None, None));
            });
        }
    }
}

#[test]
fn a_purge_removes_whole_segments_once_a_snapshot_covers_them() {
    life(async {
        let disk = FaultyDisk::new(1);
        let (storage, _recovered) = open(&disk).await.expect("opens");
        for index in 1..=300 {
            append(&storage, vec![entry(index, 1)]).await.expect("appends");
        }
        let segments = |disk: &FaultyDisk| {
            disk.folder().names().iter().filter(|name| name.starts_with("log-")).count()
        };
        snapshot(&storage, at(5, 1)).await.expect("writes");
        let before = segments(&disk);
        storage.purge(at(250, 1));
        sleep(Duration::from_secs(5)).await;
        assert_eq!(segments(&disk), before, "no snapshot covers them");
        snapshot(&storage, at(250, 1)).await.expect("writes");
        sleep(Duration::from_secs(5)).await;
        assert!(segments(&disk) < before / 2);
        assert!(matches!(
            storage.read(250..260, 100).await,
            Err(ReadError::Purged { wanted: 250, purged }) if purged == at(250, 1)
        ));
        assert_eq!(read_all(&storage).await, entries(251..=300, 1));
        disk.folder().lose_power();
        let (storage, recovered) = open(&disk).await.expect("opens again");
        assert_eq!(recovered.last, Some(at(300, 1)));
        assert_eq!(read_all(&storage).await.last(), Some(&entry(300, 1)));
    });
}

#[test]
fn the_size_of_the_log_is_known_in_bytes() {
    life(async {
        let disk = FaultyDisk::new(1);
        let (storage, _recovered) = open(&disk).await.expect("opens");
        for index in 1..=50 {
            append(&storage, vec![entry(index, 1)]).await.expect("appends");
        }
        let all = storage.log_bytes();
        assert!(all >= 50 * 512);
        assert_eq!(storage.bytes_since(50), 0);
        let middle = storage.index_at_bytes_from_end(all / 2).expect("the log is larger");
        assert!(storage.bytes_since(middle) >= all / 2);
        assert!(storage.bytes_since(middle + 1) < all / 2);
        assert_eq!(storage.index_at_bytes_from_end(2 * all), None);
    });
}

#[test]
fn votes_are_durable_and_ordered_after_appends() {
    life(async {
        let disk = FaultyDisk::new(1);
        for term in 1..20 {
            let (storage, _recovered) = open(&disk).await.expect("opens");
            let appended = submit(&storage, vec![entry(term, term)]);
            let vote = Vote { term, node_id: term % 3, committed: term % 2 == 0 };
            storage.save_vote(vote).await.expect("saves");
            assert_eq!(storage.progress().synced, Some(at(term, term)));
            appended.await.expect("was called").expect("is durable");
            disk.folder().lose_power();
            let (_storage, recovered) = open(&disk).await.expect("opens again");
            assert_eq!(recovered.vote, Some(vote));
            assert_eq!(recovered.last, Some(at(term, term)));
            disk.folder().kill_process();
        }
    });
}
