//! Reading the folder of a stopped node: the same as a start finds, and not a byte is changed.

use bytes::Bytes;
use mainstay_storage::{
    Folder, FolderReading, FolderReadingError, LogEntry, Recovered, Storage, Vote,
};

use crate::{
    faulty_disk::FaultyDisk,
    files::{Files, disk_with, eight_batches, folder_after, newest_segment, try_open, with},
    world::{OURS, append, at, chunks, entries, entry, life, open, read_snapshot, snapshot},
};

/// The files with the record of whose they are.
fn recorded(files: &Files) -> Files {
    let disk = disk_with(files);
    let folder = Folder {
        node_id: OURS.node_id,
        cluster_id: OURS.cluster_id,
        epoch: OURS.epoch,
        name: "n1".to_owned(),
        removed: false,
    };
    life(async { folder.save(&disk.lane("log")).await.expect("is saved") });
    disk.folder().files()
}

async fn all_entries(reading: &FolderReading) -> Vec<LogEntry> {
    let mut next = reading.purged().map_or(1, |purged| purged.index + 1);
    let mut all = Vec::new();
    loop {
        let read = reading.entries(next).await.expect("reads");
        let Some(last) = read.last() else { return all };
        next = last.index + 1;
        all.extend(read);
    }
}

/// What a reading finds, in the words of a start.
fn read(files: &Files) -> Result<(Recovered, Vec<LogEntry>), FolderReadingError> {
    let disk = disk_with(files);
    let found = life(async {
        let reading = FolderReading::open(disk.lane("side")).await?;
        let recovered = Recovered {
            vote: reading.vote(),
            purged: reading.purged(),
            last: reading.last(),
            committed: reading.committed(),
            snapshot: reading.snapshot().cloned(),
            torn_tail: reading.torn_tail().cloned(),
        };
        let entries = all_entries(&reading).await;
        Ok((recovered, entries))
    });
    assert_eq!(disk.folder().files(), *files, "a reading changes nothing");
    found
}

fn folder_of(body: impl AsyncFnOnce(&Storage)) -> Files {
    recorded(&folder_after(body))
}

#[test]
fn a_reading_finds_what_a_start_finds() {
    let vote = Vote { term: 4, node_id: 9, committed: true };
    let histories = [
        folder_of(async |_storage| {}),
        recorded(&eight_batches().0),
        folder_of(async |storage| {
            for index in 1..=90 {
                append(storage, vec![entry(index, 1)]).await.expect("appends");
                storage.save_committed(at(index.saturating_sub(3), 1));
            }
            storage.save_vote(vote).await.expect("is saved");
        }),
        folder_of(async |storage| {
            append(storage, entries(1..=60, 1)).await.expect("appends");
            snapshot(storage, at(40, 1)).await.expect("is taken");
            storage.purge(at(30, 1));
            storage.truncate_after(Some(55)).await.expect("truncates");
            append(storage, entries(56..=70, 3)).await.expect("appends");
        }),
        // A snapshot was installed, and the log had not been told of it.
        folder_of(async |storage| {
            append(storage, entries(1..=20, 1)).await.expect("appends");
            storage.save_vote(vote).await.expect("is saved");
            snapshot(storage, at(200, 4)).await.expect("is taken");
        }),
    ];
    for (number, files) in histories.iter().enumerate() {
        let (started, entries_started) = try_open(files).expect("opens");
        let (read, entries_read) = read(files).expect("reads");
        assert_eq!(read, started, "history {number}");
        assert_eq!(entries_read, entries_started, "history {number}");
    }
}

#[test]
fn the_snapshot_is_read_and_checked_chunk_by_chunk() {
    let files = folder_of(async |storage| {
        append(storage, entries(1..=10, 1)).await.expect("appends");
        snapshot(storage, at(7, 1)).await.expect("is taken");
    });
    let chunks_read = |files: &Files| {
        let disk = disk_with(files);
        life(async {
            let reading = FolderReading::open(disk.lane("side")).await.expect("reads");
            let mut reader = reading.snapshot_reader().await.expect("opens").expect("there is one");
            let mut all: Vec<Bytes> = Vec::new();
            while let Some(chunk) = reader.next().await? {
                all.push(chunk);
            }
            Ok::<_, mainstay_storage::SnapshotReadError>(all)
        })
    };
    assert_eq!(chunks_read(&files).expect("reads"), chunks(at(7, 1)));
    let name = files.keys().find(|name| name.starts_with("snapshot-")).expect("there is one");
    let middle = files[name].len() / 2;
    assert!(chunks_read(&with(&files, name, |content| content[middle] ^= 1)).is_err());
}

#[test]
fn damage_is_refused_where_a_start_refuses_it() {
    let (files, name, ends) = eight_batches();
    let files = recorded(&files);
    for byte in (0..*ends.last().expect("there are frames")).step_by(7) {
        let damaged = with(&files, &name, |content| content[byte] ^= 1);
        match (try_open(&damaged), read(&damaged)) {
            (Ok((_, started)), Ok((_, read))) => assert_eq!(read, started, "byte {byte}"),
            (Err(started), Err(read)) => assert_eq!(read.to_string(), started.to_string()),
            (started, read) => panic!("byte {byte}: {started:?} and {read:?}"),
        }
    }
    assert!(read(&with(&files, "folder", |content| content[70] ^= 1)).is_err());
}

#[test]
fn a_folder_that_no_node_ever_ran_on_is_told_from_one_that_lost_its_record() {
    let empty = read(&Files::new()).expect_err("is refused");
    assert!(matches!(empty, FolderReadingError::Empty), "{empty}");
    let lost = read(&folder_after(async |_storage| {})).expect_err("is refused");
    assert!(matches!(lost, FolderReadingError::Folder(_)), "{lost}");
}

#[test]
fn a_node_starts_on_a_folder_after_it_was_read() {
    let files = folder_of(async |storage| {
        append(storage, entries(1..=10, 1)).await.expect("appends");
        snapshot(storage, at(7, 1)).await.expect("is taken");
    });
    let disk: FaultyDisk = disk_with(&files);
    life(async {
        drop(FolderReading::open(disk.lane("side")).await.expect("reads"));
        let (storage, recovered) = open(&disk).await.expect("opens");
        assert_eq!(recovered.last, Some(at(10, 1)));
        assert_eq!(read_snapshot(&storage).await, Some(chunks(at(7, 1))));
    });
    assert!(newest_segment(&disk.folder().files()) > newest_segment(&files));
}
