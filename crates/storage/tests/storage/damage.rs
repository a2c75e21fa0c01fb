//! Damaged and torn files: what is cut, what is refused, and what is never served.

use std::error::Error;

use mainstay_storage::{OpenError, Vote};

use crate::{
    files::{
        SECTOR_LEN, disk_with, eight_batches, folder_after, frame_ends, is_damaged, newest_segment,
        try_open, with,
    },
    world::{append, at, chunks, entries, entry, life, open, snapshot},
};

#[test]
fn every_prefix_of_a_log_recovers_to_a_prefix_of_its_batches() {
    let (files, name, ends) = eight_batches();
    for len in 0..*ends.last().expect("there are frames") + 1 {
        let cut_short = with(&files, &name, |content| content.truncate(len));
        let never_written = with(&files, &name, |content| content[len..].fill(0));
        for prefix in [cut_short, never_written] {
            let (left, original) = (&prefix[&name], &files[&name]);
            let is_whole = |end: &&usize| left.get(..**end) == original.get(..**end);
            let whole: Vec<_> = ends.iter().take_while(is_whole).collect();
            match try_open(&prefix) {
                Ok((recovered, found)) => {
                    // The first frame has no entries, each other one has two.
                    let last = 2 * (whole.len() as u64 - 1);
                    assert_eq!(found, entries(1..=last, 1), "prefix of {len} bytes");
                    assert_eq!(recovered.last.map_or(0, |last| last.index), last);
                    let behind = &left[*whole[whole.len() - 1]..];
                    let is_torn = behind.iter().any(|byte| *byte != 0);
                    assert_eq!(recovered.torn_tail.is_some(), is_torn, "prefix of {len} bytes");
                }
                // The first frame is made before the segment gets its name.
                Err(error) => assert!(whole.is_empty(), "prefix of {len} bytes: {error}"),
            }
        }
    }
}

#[test]
fn a_flipped_bit_before_the_last_batch_is_refused_and_in_it_never_served() {
    let (files, name, ends) = eight_batches();
    let last_batch_at = ends[ends.len() - 2];
    for byte in 0..*ends.last().expect("there are frames") {
        for bit in 0..8 {
            let damaged = with(&files, &name, |content| content[byte] ^= 1 << bit);
            match try_open(&damaged) {
                Ok((recovered, found)) => {
                    assert!(byte >= last_batch_at, "byte {byte} was not noticed");
                    assert_eq!(found, entries(1..=14, 1), "the last batch is cut");
                    assert!(recovered.torn_tail.is_some());
                }
                Err(error) => {
                    assert!(
                        is_damaged(&error, &name) || matches!(error, OpenError::Foreign { .. }),
                        "{error}"
                    );
                    assert!(error.source().is_some(), "a refusal has a reason");
                }
            }
        }
    }
}

#[test]
fn a_flipped_bit_in_an_older_segment_is_refused() {
    let files = folder_after(async |storage| {
        for index in 1..=60 {
            append(storage, vec![entry(index, 1)]).await.expect("appends");
        }
    });
    let newest = newest_segment(&files);
    let older: Vec<_> = files
        .iter()
        .filter(|(name, content)| {
            name.starts_with("log-")
                && **name < newest
                && content[SECTOR_LEN..].starts_with(b"MFRM")
        })
        .collect();
    assert!(older.len() >= 2, "the log has several segments");
    for (name, content) in older {
        let end = *frame_ends(content).last().expect("there are frames");
        for byte in (0..end).step_by(7) {
            let damaged = with(&files, name, |content| content[byte] ^= 1 << (byte % 8));
            let error = try_open(&damaged).expect_err("is refused");
            assert!(is_damaged(&error, name) || matches!(error, OpenError::Foreign { .. }));
        }
        let mut lost = files.clone();
        lost.remove(name);
        let error = try_open(&lost).expect_err("is refused");
        assert!(matches!(error, OpenError::BeginningMissing { covered: None, .. }), "{error}");
    }
}

#[test]
fn a_lost_segment_in_the_middle_of_a_log_is_refused_even_with_a_snapshot() {
    let files = folder_after(async |storage| {
        for index in 1..=60 {
            append(storage, vec![entry(index, 1)]).await.expect("appends");
        }
        snapshot(storage, at(1, 1)).await.expect("writes");
    });
    let segments: Vec<_> = files
        .iter()
        .filter(|(name, content)| {
            name.starts_with("log-") && content[SECTOR_LEN..].starts_with(b"MFRM")
        })
        .map(|(name, _content)| name.clone())
        .collect();
    for name in &segments[1..segments.len() - 1] {
        let mut lost = files.clone();
        lost.remove(name);
        let error = try_open(&lost).expect_err("is refused");
        assert!(matches!(error, OpenError::BeginningMissing { .. }), "{error}");
    }
}

#[test]
fn a_lost_snapshot_is_refused_although_no_segment_is_gone() {
    let files = folder_after(async |storage| {
        append(storage, entries(1..=8, 1)).await.expect("appends");
        snapshot(storage, at(5, 1)).await.expect("writes");
        storage.purge(at(5, 1));
        append(storage, vec![entry(9, 1)]).await.expect("appends");
    });
    try_open(&files).expect("is sound");
    let mut lost = files;
    lost.retain(|name, _content| !name.starts_with("snapshot-"));
    let error = try_open(&lost).expect_err("is refused");
    assert!(matches!(error, OpenError::BeginningMissing { covered: None, .. }), "{error}");
}

#[test]
fn a_damaged_header_is_not_taken_for_a_file_of_somebody_else() {
    let (files, name, _ends) = eight_batches();
    let empty = with(&files, &name, Vec::clear);
    let flipped = with(&files, &name, |content| content[20] ^= 1);
    for damaged in [empty, flipped] {
        let error = try_open(&damaged).expect_err("is refused").to_string();
        assert!(error.contains("keep the folder aside"), "{error}");
        assert!(!error.contains("its own data folder"), "{error}");
    }
}

#[test]
fn a_missing_batch_that_is_known_to_have_been_synced_is_refused() {
    let vote = Vote { term: 2, node_id: 1, committed: false };
    let by_vote = folder_after(async |storage| {
        append(storage, entries(1..=8, 1)).await.expect("appends");
        append(storage, entries(9..=10, 1)).await.expect("appends");
        storage.save_vote(vote).await.expect("saves");
    });
    let by_snapshot = folder_after(async |storage| {
        append(storage, entries(1..=8, 1)).await.expect("appends");
        append(storage, entries(9..=10, 1)).await.expect("appends");
        snapshot(storage, at(3, 1)).await.expect("writes");
    });
    for files in [by_vote, by_snapshot] {
        let name = newest_segment(&files);
        let ends = frame_ends(&files[&name]);
        let last_at = ends[ends.len() - 2];
        let damaged = with(&files, &name, |content| content[last_at..].fill(0));
        let error = try_open(&damaged).expect_err("is refused");
        assert!(is_damaged(&error, &name));
        let reason = error.source().expect("has a reason").to_string();
        assert!(reason.contains("known to have been synced"), "{reason}");
    }
}

#[test]
fn a_missing_batch_before_a_segment_in_use_is_refused() {
    let (files, name, ends) = eight_batches();
    let spare = files.keys().rfind(|name| name.starts_with("log-")).expect("is there").clone();
    assert_ne!(name, spare, "the next segment is ready");
    let last_at = ends[ends.len() - 2];
    let rotten = with(&files, &name, |content| content[last_at + 50] ^= 1);
    try_open(&rotten).expect("rot in the very last batch is taken for a torn write");
    let gone_on = with(&rotten, &spare, |content| content[SECTOR_LEN..700].fill(0xaa));
    let error = try_open(&gone_on).expect_err("is refused");
    assert!(is_damaged(&error, &name));
    let reason = error.source().expect("has a reason").to_string();
    assert!(reason.contains("the log went on in a later segment"), "{reason}");
}

#[test]
fn a_torn_first_batch_of_a_segment_is_cut() {
    let (files, _name, _ends) = eight_batches();
    let spare = files.keys().rfind(|name| name.starts_with("log-")).expect("is there").clone();
    let torn = with(&files, &spare, |content| content[SECTOR_LEN..700].fill(0xaa));
    let (recovered, found) = try_open(&torn).expect("opens");
    assert_eq!(found, entries(1..=16, 1));
    assert!(recovered.torn_tail.is_some());
}

#[test]
fn a_torn_batch_is_cut_and_named() {
    let (files, name, ends) = eight_batches();
    let last_at = ends[ends.len() - 2];
    let torn = with(&files, &name, |content| content[last_at + 60..last_at + 200].fill(0xaa));
    let (recovered, found) = try_open(&torn).expect("opens");
    assert_eq!(found, entries(1..=14, 1));
    let tail = recovered.torn_tail.expect("is reported");
    assert_eq!((tail.file, tail.offset), (name, last_at as u64));
}

#[test]
fn no_flipped_bit_in_the_vote_file_changes_the_vote() {
    let vote = Vote { term: 300, node_id: 9, committed: true };
    let files = folder_after(async |storage| {
        storage.save_vote(vote).await.expect("saves");
        storage.shutdown().await;
    });
    let name = files.keys().find(|name| name.starts_with("vote-")).expect("is there").clone();
    for byte in (0..520).chain(4096..4140).chain(8192..8230) {
        let damaged = with(&files, &name, |content| content[byte] ^= 1 << (byte % 8));
        match try_open(&damaged) {
            Ok((recovered, _entries)) => assert_eq!(recovered.vote, Some(vote), "byte {byte}"),
            Err(error) => assert!(
                is_damaged(&error, &name) || matches!(error, OpenError::Foreign { .. }),
                "{error}"
            ),
        }
    }
    let both = with(&files, &name, |content| {
        content[4100] ^= 1;
        content[8200] ^= 1;
    });
    assert!(is_damaged(&try_open(&both).expect_err("is refused"), &name));
}

#[test]
fn a_damaged_snapshot_is_refused_or_never_read_to_its_end() {
    let files = folder_after(async |storage| {
        append(storage, entries(1..=8, 1)).await.expect("appends");
        snapshot(storage, at(5, 1)).await.expect("writes");
    });
    let name = files.keys().find(|name| name.starts_with("snapshot-")).expect("is there").clone();
    for byte in 0..files[&name].len() {
        let damaged = with(&files, &name, |content| content[byte] ^= 1 << (byte % 8));
        let disk = disk_with(&damaged);
        life(async {
            let storage = match open(&disk).await {
                Ok((storage, _recovered)) => storage,
                Err(error) => {
                    assert!(
                        is_damaged(&error, &name) || matches!(error, OpenError::Foreign { .. })
                    );
                    return;
                }
            };
            let mut reader = storage.snapshot_reader().await.expect("opens").expect("is there");
            let mut whole = chunks(at(5, 1)).into_iter();
            loop {
                match reader.next().await {
                    Ok(Some(chunk)) => assert_eq!(Some(chunk), whole.next(), "byte {byte}"),
                    Ok(None) => panic!("byte {byte} was not noticed"),
                    Err(error) => {
                        assert!(error.to_string().contains("is damaged at byte"));
                        break;
                    }
                }
            }
        });
    }
}
