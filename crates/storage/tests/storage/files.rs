//! Folders as plain files, to change something in them and to see whether they open.

use std::collections::BTreeMap;

use mainstay_storage::{LogEntry, OpenError, Recovered, Storage, StorageOptions};

use crate::{
    faulty_disk::FaultyDisk,
    world::{OURS, append, entries, life, open, open_as, read_all, small},
};

pub(crate) type Files = BTreeMap<String, Vec<u8>>;

pub(crate) const SECTOR_LEN: usize = 512;

/// A folder in which `body` was done, as files.
pub(crate) fn folder_after(body: impl AsyncFnOnce(&Storage)) -> Files {
    folder_with(small(), body)
}

pub(crate) fn folder_with(options: StorageOptions, body: impl AsyncFnOnce(&Storage)) -> Files {
    let disk = FaultyDisk::new(1);
    life(async {
        let (storage, _recovered) = open_as(&disk, OURS, options).await.expect("opens");
        body(&storage).await;
    });
    disk.folder().files()
}

pub(crate) fn disk_with(files: &Files) -> FaultyDisk {
    let disk = FaultyDisk::new(1);
    for (name, content) in files {
        disk.folder().put(name, content.clone());
    }
    disk
}

/// Opens the files; the entries are read back in full.
pub(crate) fn try_open(files: &Files) -> Result<(Recovered, Vec<LogEntry>), OpenError> {
    let disk = disk_with(files);
    life(async {
        let (storage, recovered) = open(&disk).await?;
        let entries = read_all(&storage).await;
        Ok((recovered, entries))
    })
}

pub(crate) fn with(files: &Files, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> Files {
    let mut files = files.clone();
    change(files.get_mut(name).expect("there is such a file"));
    files
}

/// A log of eight batches in one segment, its name, and where each of its frames ends.
pub(crate) fn eight_batches() -> (Files, String, Vec<usize>) {
    let options = StorageOptions { first_segment_bytes: 16 * 1024, ..small() };
    let files = folder_with(options, async |storage| {
        for index in 1..=8 {
            append(storage, entries(2 * index - 1..=2 * index, 1)).await.expect("appends");
        }
    });
    let name = newest_segment(&files);
    (files.clone(), name.clone(), frame_ends(&files[&name]))
}

/// The newest segment with a frame in it.
pub(crate) fn newest_segment(files: &Files) -> String {
    let mut segments = files.iter().filter(|(name, content)| {
        name.starts_with("log-") && content[SECTOR_LEN..].starts_with(b"MFRM")
    });
    segments.next_back().expect("there is a segment").0.clone()
}

pub(crate) fn frame_ends(segment: &[u8]) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut at = SECTOR_LEN;
    while segment[at..].starts_with(b"MFRM") {
        let len = u32::from_le_bytes(segment[at + 4..at + 8].try_into().expect("four bytes"));
        at += (40 + len as usize).next_multiple_of(SECTOR_LEN);
        ends.push(at);
    }
    ends
}

pub(crate) fn is_damaged(error: &OpenError, file: &str) -> bool {
    matches!(error, OpenError::Damaged { file: found, .. } if found == file)
}
