//! A disk that breaks, hangs, or is full.

use std::{io::ErrorKind, time::Duration};

use mainstay_storage::{ReadError, SpaceState, StorageFailure, StorageOptions, Vote};
use mainstay_world::{Instant, sleep};

use crate::{
    faulty_disk::FaultyDisk,
    world::{
        OURS, append, at, entries, entry, life, open, open_as, read_all, small, snapshot, submit,
    },
};

const VOTE: Vote = Vote { term: 2, node_id: 1, committed: false };

/// Breaks the disk, appends, and gives what everybody was told.
fn failing(break_disk: impl FnOnce(&FaultyDisk)) -> (FaultyDisk, StorageFailure) {
    let disk = FaultyDisk::new(1);
    let failure = life(async {
        let (storage, _recovered) = open(&disk).await.expect("opens");
        append(&storage, entries(1..=8, 1)).await.expect("appends");
        sleep(Duration::from_millis(100)).await;
        break_disk(&disk);
        let mut published = storage.failure();
        let began = Instant::now();
        let first = submit(&storage, entries(9..=10, 1));
        published.changed().await.expect("storage lives");
        assert_eq!(began.elapsed(), Duration::ZERO, "is published at once");
        let after = submit(&storage, entries(11..=12, 1));
        let failure = first.await.expect("is called").expect_err("was not synced");
        assert_eq!(began.elapsed(), Duration::from_millis(200), "is reported a moment later");
        after.await.expect("is called").expect_err("was not synced either");
        let touched = disk.folder().writes_and_syncs("log-");
        append(&storage, entries(13..=14, 1)).await.expect_err("storage has failed");
        storage.save_vote(VOTE).await.expect_err("storage has failed");
        storage.truncate_after(Some(3)).await.expect_err("storage has failed");
        storage.install_mark(at(99, 1)).await.expect_err("storage has failed");
        storage.purge(at(3, 1));
        sleep(Duration::from_secs(30)).await;
        storage.shutdown().await;
        assert_eq!(disk.folder().writes_and_syncs("log-"), touched, "nothing is written after it");
        assert_eq!(storage.progress().synced, Some(at(8, 1)));
        assert_eq!(storage.vote(), None);
        assert_eq!(storage.read(5..9, 10_000).await.expect("reads go on"), entries(5..=8, 1));
        assert_eq!(published.borrow().as_ref().map(ToString::to_string), Some(failure.to_string()));
        failure
    });
    (disk, failure)
}

#[test]
fn a_failed_sync_ends_storage_and_is_never_tried_again() {
    let (disk, failure) = failing(|disk| disk.folder().fail_sync = Some("log-".to_owned()));
    assert!(matches!(&failure, StorageFailure::Sync { file, .. } if file.starts_with("log-")));
    // What the failed sync left in the machine's memory may be found by the next process ...
    disk.folder().kill_process();
    let found = life(async {
        let (storage, recovered) = open(&disk).await.expect("opens");
        assert_eq!(Some(recovered.last), Some(storage.last()));
        recovered.last.expect("has entries").index
    });
    assert_eq!(found, 10);
    // ... and is durable from then on, though the first file's pages never reach the disk.
    disk.folder().lose_power();
    life(async {
        let (storage, _recovered) = open(&disk).await.expect("opens");
        assert_eq!(read_all(&storage).await, entries(1..=10, 1));
    });
}

#[test]
fn a_failed_write_ends_storage() {
    let (_disk, failure) = failing(|disk| {
        disk.folder().fail_write = Some(("log-".to_owned(), ErrorKind::Other));
    });
    assert!(matches!(&failure, StorageFailure::Write { file, .. } if file.starts_with("log-")));
}

#[test]
fn a_failed_vote_is_no_vote() {
    let disk = FaultyDisk::new(1);
    life(async {
        let (storage, _recovered) = open(&disk).await.expect("opens");
        let before = disk.folder().writes_and_syncs("vote-");
        disk.folder().fail_sync = Some("vote-".to_owned());
        let failure = storage.save_vote(VOTE).await.expect_err("was not synced");
        assert!(matches!(failure, StorageFailure::Sync { file, .. } if file.starts_with("vote-")));
        assert_eq!(storage.vote(), None);
        append(&storage, entries(1..=1, 1)).await.expect_err("storage has failed");
        let touched = disk.folder().writes_and_syncs("vote-") - before;
        assert_eq!(touched, 2, "one write, one sync, and nothing after them");
    });
}

#[test]
fn a_probe_finds_a_broken_disk_before_a_write_meets_it() {
    let disk = FaultyDisk::new(1);
    life(async {
        let (storage, _recovered) = open(&disk).await.expect("opens");
        disk.folder().fail_sync = Some("probe".to_owned());
        let mut published = storage.failure();
        let began = Instant::now();
        published.changed().await.expect("storage lives");
        assert!(began.elapsed() <= Duration::from_secs(1));
        assert!(
            matches!(&*published.borrow(), Some(StorageFailure::Sync { file, .. }) if file == "probe")
        );
    });
}

#[test]
fn a_stalled_sync_shows_its_age_and_everything_goes_on_after_it() {
    let disk = FaultyDisk::new(1);
    life(async {
        let (storage, _recovered) = open(&disk).await.expect("opens");
        append(&storage, entries(1..=8, 1)).await.expect("appends");
        assert_eq!(storage.progress().oldest_unfinished, None);
        disk.folder().stall_next_sync = Some("log");
        let stalled = submit(&storage, entries(9..=9, 1));
        for age in 1..=5 {
            sleep(Duration::from_secs(1)).await;
            assert_eq!(storage.progress().oldest_unfinished, Some(Duration::from_secs(age)));
        }
        assert_eq!(storage.progress().synced, Some(at(8, 1)));
        assert_eq!(storage.read(9..10, 1000).await.expect("reads go on"), entries(9..=9, 1));
        snapshot(&storage, at(5, 1)).await.expect("the other lane goes on");
        disk.release();
        stalled.await.expect("is called").expect("is durable");
        assert_eq!(storage.progress().synced, Some(at(9, 1)));
        assert_eq!(storage.progress().oldest_unfinished, None);
        assert_eq!(storage.sync_stats().recent_p99, Some(Duration::from_secs(5)));
    });
}

#[test]
fn a_disk_that_hangs_while_it_makes_the_next_segment_is_seen_too() {
    let disk = FaultyDisk::new(1);
    life(async {
        disk.folder().stall_next_sync = Some("side");
        let (storage, _recovered) = open(&disk).await.expect("opens");
        let waiting: Vec<_> =
            (1..=40).map(|index| submit(&storage, vec![entry(index, 1)])).collect();
        sleep(Duration::from_secs(3)).await;
        let age = storage.progress().oldest_unfinished.expect("waits for a segment");
        assert!(age >= Duration::from_secs(2));
        disk.release();
        for outcome in waiting {
            outcome.await.expect("is called").expect("is durable");
        }
        assert_eq!(storage.progress().oldest_unfinished, None);
    });
}

#[test]
fn an_idle_disk_that_hangs_is_seen_by_the_probe() {
    let disk = FaultyDisk::new(1);
    life(async {
        let (storage, _recovered) = open(&disk).await.expect("opens");
        sleep(Duration::from_millis(2_500)).await;
        assert_eq!(storage.progress().oldest_unfinished, None);
        disk.folder().stall_next_sync = Some("log");
        sleep(Duration::from_secs(3)).await;
        let age = storage.progress().oldest_unfinished.expect("the probe hangs");
        assert!(age >= Duration::from_secs(2));
    });
}

#[test]
fn damage_that_a_reader_meets_ends_storage() {
    let disk = FaultyDisk::new(1);
    life(async {
        let (storage, _recovered) = open(&disk).await.expect("opens");
        for index in 1..=40 {
            append(&storage, vec![entry(index, 1)]).await.expect("appends");
        }
        let name = disk.folder().names().into_iter().find(|name| name.starts_with("log-"));
        let name = name.expect("there is a segment");
        disk.folder().rot(&name, 1_100);
        let mut published = storage.failure();
        let mut next = 1;
        let error = loop {
            match storage.read(next..next + 1, 10_000).await {
                Ok(found) => assert_eq!(found, entries(next..=next, 1)),
                Err(error) => break error,
            }
            next += 1;
        };
        assert!(matches!(&error, ReadError::Damaged { file, .. } if *file == name), "{error}");
        assert!(published.has_changed().expect("storage lives"));
        assert!(matches!(&*published.borrow_and_update(), Some(StorageFailure::Damaged { .. })));
        append(&storage, entries(41..=41, 1)).await.expect_err("storage has failed");
    });
}

#[test]
fn a_full_disk_keeps_entries_waiting_and_goes_on_by_itself() {
    let disk = FaultyDisk::new(1);
    life(async {
        let (storage, _recovered) = open(&disk).await.expect("opens");
        let space = storage.space();
        sleep(Duration::from_secs(1)).await;
        assert_eq!(*space.borrow(), SpaceState::Ok);
        let used = u64::MAX - disk.folder().free_bytes();
        disk.folder().capacity = used;
        sleep(Duration::from_secs(2)).await;
        assert_eq!(*space.borrow(), SpaceState::ReserveUsed, "no room for a snapshot");
        append(&storage, entries(1..=4, 1)).await.expect("the reserve is used");
        let mut waiting = Vec::new();
        for index in 5..=100 {
            waiting.push(submit(&storage, vec![entry(index, 1)]));
            sleep(Duration::from_millis(10)).await;
        }
        sleep(Duration::from_secs(600)).await;
        let synced = storage.progress().synced.expect("something is").index;
        assert!((5..100).contains(&synced), "synced {synced}");
        assert_eq!(storage.progress().oldest_unfinished, None, "full is not stalled");
        assert_eq!(storage.last(), Some(at(100, 1)));
        assert_eq!(read_all(&storage).await, entries(1..=100, 1), "reads go on");
        assert!(storage.failure().borrow().is_none());
        disk.folder().capacity = u64::MAX;
        for outcome in waiting {
            outcome.await.expect("is called").expect("is durable");
        }
        sleep(Duration::from_secs(2)).await;
        assert_eq!(*space.borrow(), SpaceState::Ok);
    });
    disk.folder().lose_power();
    life(async {
        let (storage, _recovered) = open(&disk).await.expect("opens");
        assert_eq!(read_all(&storage).await, entries(1..=100, 1));
    });
}

#[test]
fn a_node_that_restarts_on_a_full_disk_has_the_room_of_its_spare_segment() {
    let disk = FaultyDisk::new(1);
    let options =
        || StorageOptions { first_segment_bytes: 16 * 1024, segment_bytes: 64 * 1024, ..small() };
    life(async {
        let (storage, _recovered) = open_as(&disk, OURS, options()).await.expect("opens");
        append(&storage, entries(1..=4, 1)).await.expect("appends");
        sleep(Duration::from_secs(1)).await;
        storage.shutdown().await;
    });
    let used = u64::MAX - disk.folder().free_bytes();
    disk.folder().capacity = used;
    disk.folder().kill_process();
    life(async {
        let (storage, _recovered) = open_as(&disk, OURS, options()).await.expect("opens");
        assert_eq!(read_all(&storage).await, entries(1..=4, 1));
        append(&storage, entries(5..=5, 1)).await.expect("there is room for a little");
    });
}

#[test]
fn a_write_that_finds_no_room_goes_to_another_segment() {
    let disk = FaultyDisk::new(1);
    life(async {
        let (storage, _recovered) = open(&disk).await.expect("opens");
        append(&storage, entries(1..=2, 1)).await.expect("appends");
        for index in 3..=12 {
            // As a file system may say even of blocks that were written before.
            disk.folder().fail_write = Some(("log-".to_owned(), ErrorKind::StorageFull));
            let before = disk.folder().calls.len();
            append(&storage, vec![entry(index, 1)]).await.expect("appends");
            let written = disk.folder().written_since(before, "log-");
            let (refused, later) = written.split_first().expect("a write was refused");
            assert!(!later.contains(refused), "{refused} is not touched again");
            sleep(Duration::from_millis(1)).await;
        }
        assert!(storage.failure().borrow().is_none());
    });
    disk.folder().lose_power();
    life(async {
        let (storage, _recovered) = open(&disk).await.expect("opens");
        assert_eq!(read_all(&storage).await, entries(1..=12, 1));
    });
}

#[test]
fn shutdown_on_a_full_disk_gives_up_what_waits() {
    let disk = FaultyDisk::new(1);
    life(async {
        let (storage, _recovered) = open(&disk).await.expect("opens");
        sleep(Duration::from_secs(1)).await;
        let used = u64::MAX - disk.folder().free_bytes();
        disk.folder().capacity = used;
        let waiting: Vec<_> =
            (1..=100).map(|index| submit(&storage, vec![entry(index, 1)])).collect();
        sleep(Duration::from_secs(5)).await;
        storage.shutdown().await;
        let mut told = Vec::new();
        for outcome in waiting {
            told.push(outcome.await.expect("is called"));
        }
        assert!(matches!(told.last(), Some(Err(StorageFailure::Stopped))));
        let durable = told.iter().filter(|outcome| outcome.is_ok()).count() as u64;
        assert_eq!(storage.progress().synced.map_or(0, |synced| synced.index), durable);
        assert!(storage.failure().borrow().is_none());
    });
}

#[test]
fn an_entry_larger_than_a_segment_gets_one_of_its_own() {
    let disk = FaultyDisk::new(1);
    let large = mainstay_storage::LogEntry { index: 2, term: 1, payload: vec![7; 100_000].into() };
    life(async {
        let (storage, _recovered) = open(&disk).await.expect("opens");
        append(&storage, vec![entry(1, 1), large.clone()]).await.expect("appends");
        append(&storage, vec![entry(3, 1)]).await.expect("appends");
    });
    disk.folder().lose_power();
    life(async {
        let (storage, _recovered) = open(&disk).await.expect("opens");
        assert_eq!(read_all(&storage).await, [entry(1, 1), large, entry(3, 1)]);
    });
}

#[test]
fn nothing_is_taken_after_a_shutdown() {
    let disk = FaultyDisk::new(1);
    life(async {
        let (storage, _recovered) = open(&disk).await.expect("opens");
        let queued = submit(&storage, entries(1..=3, 1));
        storage.save_committed(at(2, 1));
        storage.shutdown().await;
        queued.await.expect("is called").expect("what was queued is written");
        let refused = append(&storage, entries(4..=4, 1)).await;
        assert!(matches!(refused, Err(StorageFailure::Stopped)));
        assert_eq!(storage.last(), Some(at(3, 1)));
    });
    disk.folder().lose_power();
    life(async {
        let (_storage, recovered) = open(&disk).await.expect("opens");
        assert_eq!((recovered.last, recovered.committed), (Some(at(3, 1)), Some(at(2, 1))));
    });
}
