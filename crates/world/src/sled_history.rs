//! The history of a production node, kept by sled in a folder of its own.
//!
//! sled flushes in the background and may lose its last half second in a power loss. That is fine
//! for a history and would not be for a log: see `docs/adr/0002-the-log-is-our-own.md`.

use std::{io, path::Path};

use bytes::Bytes;
use tracing::warn;

use crate::history::{History, HistoryRecord};

/// One sled tree per kind of record, keyed by a big-endian sequence.
#[derive(Debug)]
pub struct SledHistory {
    database: sled::Db,
}

impl SledHistory {
    /// Opens or creates the history in `folder`.
    ///
    /// # Errors
    /// What sled says when the folder cannot be read, for example because its content is damaged.
    /// The caller may move the folder away and start a new history.
    pub fn open(folder: &Path) -> Result<Self, sled::Error> {
        sled::Config::new()
            .path(folder)
            .cache_capacity(4 * 1024 * 1024)
            .flush_every_ms(Some(500))
            .open()
            .map(|database| Self { database })
    }

    /// Whether a history was not opened because the disk is full, and not because it is damaged.
    #[must_use]
    pub fn is_full(error: &sled::Error) -> bool {
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        matches!(error, sled::Error::Io(cause) if full.contains(&cause.kind()))
    }

    fn try_append(&self, kind: &str, record: &[u8], keep: usize) -> Result<(), sled::Error> {
        let tree = self.database.open_tree(kind)?;
        let next = tree.last()?.map_or(0, |(key, _value)| sequence_of(&key) + 1);
        tree.insert(next.to_be_bytes(), record)?;
        while tree.len() > keep {
            tree.pop_min()?;
        }
        Ok(())
    }

    fn try_newest(&self, kind: &str, limit: usize) -> Result<Vec<HistoryRecord>, sled::Error> {
        let tree = self.database.open_tree(kind)?;
        tree.iter()
            .rev()
            .take(limit)
            .map(|entry| {
                let (key, value) = entry?;
                Ok(HistoryRecord {
                    sequence: sequence_of(&key),
                    bytes: Bytes::copy_from_slice(&value),
                })
            })
            .collect()
    }
}

impl History for SledHistory {
    fn append(&self, kind: &'static str, record: Bytes, keep: usize) {
        if let Err(error) = self.try_append(kind, &record, keep) {
            warn!(kind, %error, "a history record was not kept");
        }
    }

    fn newest(&self, kind: &'static str, limit: usize) -> Vec<HistoryRecord> {
        self.try_newest(kind, limit).unwrap_or_else(|error| {
            warn!(kind, %error, "the history cannot be read");
            Vec::new()
        })
    }
}

fn sequence_of(key: &[u8]) -> u64 {
    key.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_a_reopen_and_stay_bounded() {
        let folder = tempfile::tempdir().expect("a folder");
        {
            let history = SledHistory::open(folder.path()).expect("opens");
            for number in 0..5_u8 {
                history.append("election", Bytes::copy_from_slice(&[number]), 3);
            }
        }
        let history = SledHistory::open(folder.path()).expect("opens again");
        let records = history.newest("election", 10);
        assert_eq!(records.iter().map(|r| r.sequence).collect::<Vec<_>>(), [4, 3, 2]);
        assert_eq!(records[0].bytes, Bytes::from_static(&[4]));
    }
}
