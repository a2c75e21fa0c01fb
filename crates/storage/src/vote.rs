//! The vote, in a file of its own.
//!
//! Its own file and not the log, because it must survive whatever happens to the log: no purge and
//! no torn tail ever comes near it, and reading it at start needs no replay. It costs one sync of
//! its own, which elections can afford.
//!
//! The file has two slots, a page apart. A new vote goes into the first slot and is synced; that
//! is the promise. Then the second slot gets a copy, so that from then on rot in either is
//! survived. A write that is torn damages one slot and the other holds the vote before it, because
//! the next write starts only after both are synced. Layout, little endian:
//!
//! ```text
//! 0     file header, kind "VOTE"      64 bytes, then zeros up to 508
//! 508   CRC32C of bytes 0..508        u32; the seed of the slots' checksums
//! 4096  first slot                    512 bytes
//! 8192  second slot                   512 bytes
//! ```
//!
//! A slot is `length u32, CRC32C u32, body, zeros`; the body is a [`VoteRecord`] in the codec's
//! form, and the checksum covers everything of the slot but itself.
//!
//! The record also says which frame of the log was known to be synced by then: one of the proofs
//! by which a start tells rot from a torn tail.

use std::{io, sync::Arc};

use bytes::{Bytes, BytesMut};
use mainstay_codec::{FileKind, checksum};
use mainstay_world::{Disk, FileId};
use serde::{Deserialize, Serialize};

use crate::{
    frame::SECTOR_LEN,
    identity::{ForeignFile, Identity},
};

/// The vote of this node (Raft's `currentTerm` and `votedFor`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    /// The term voted in.
    pub term: u64,
    /// The node voted for.
    pub node_id: u64,
    /// Whether a quorum is known to have voted so.
    pub committed: bool,
}

/// What a slot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VoteRecord {
    /// Grows with every vote written, whatever the vote is.
    pub(crate) number: u64,
    /// `None` until the node votes for the first time.
    pub(crate) vote: Option<Vote>,
    /// Sequence of a log frame that is known to be synced; 0 if none is.
    pub(crate) synced_frame: u64,
}

/// The newest format of vote files that this program reads, and the one it writes.
const VOTE_FORMAT: u16 = 1;
const PREFIX: &str = "vote-";
const CHECKSUM_AT: usize = SECTOR_LEN - 4;
const SLOT_HEADER_LEN: usize = 8;
const SLOTS_AT: [u64; 2] = [4096, 8192];
const FILE_LEN: usize = 8192 + SECTOR_LEN;
const BODY_LEN_MAX: usize = 128;

/// A vote file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum VoteFault {
    #[error(transparent)]
    Foreign(#[from] ForeignFile),
    #[error("the first sector is damaged")]
    Header,
    #[error("both copies of the vote are damaged")]
    Slots,
}

/// The name of the vote file with this number.
pub(crate) fn vote_name(number: u64) -> String {
    format!("{PREFIX}{number:020}")
}

/// The number of the vote file with this name.
pub(crate) fn vote_number(name: &str) -> Option<u64> {
    let number = name.strip_prefix(PREFIX)?.parse().ok()?;
    (vote_name(number) == name).then_some(number)
}

/// The whole of a new vote file, both slots alike.
pub(crate) fn vote_file_bytes(identity: &Identity, record: &VoteRecord) -> (Bytes, u32) {
    let mut file = BytesMut::zeroed(FILE_LEN);
    let header = identity.header(FileKind::Vote, VOTE_FORMAT).to_bytes();
    file[..header.len()].copy_from_slice(&header);
    let seed = checksum(0, &file[..CHECKSUM_AT]);
    file[CHECKSUM_AT..SECTOR_LEN].copy_from_slice(&seed.to_le_bytes());
    let slot = slot_bytes(record, seed);
    for at in [4096, 8192] {
        file[at..at + SECTOR_LEN].copy_from_slice(&slot);
    }
    (file.freeze(), seed)
}

/// Reads a whole vote file.
pub(crate) fn read_vote_file(file: &Bytes, identity: &Identity) -> Result<VoteRecord, VoteFault> {
    identity.check(file, FileKind::Vote, VOTE_FORMAT)?;
    let (Some(header), Some(sum)) =
        (file.get(..CHECKSUM_AT), file.get(CHECKSUM_AT..).and_then(|sum| sum.first_chunk()))
    else {
        return Err(VoteFault::Header);
    };
    let seed = u32::from_le_bytes(*sum);
    if checksum(0, header) != seed {
        return Err(VoteFault::Header);
    }
    let slot = |at: usize| file.get(at..at + SECTOR_LEN).and_then(|slot| read_slot(slot, seed));
    match (slot(4096), slot(8192)) {
        (Some(first), Some(second)) if second.number > first.number => Ok(second),
        (Some(record), _) | (None, Some(record)) => Ok(record),
        (None, None) => Err(VoteFault::Slots),
    }
}

fn slot_bytes(record: &VoteRecord, seed: u32) -> Bytes {
    let body = mainstay_codec::encode(record).expect("a vote record has no sequences");
    let mut slot = BytesMut::zeroed(SECTOR_LEN);
    let len = u32::try_from(body.len()).expect("a vote record is a few bytes");
    slot[0..4].copy_from_slice(&len.to_le_bytes());
    slot[SLOT_HEADER_LEN..SLOT_HEADER_LEN + body.len()].copy_from_slice(&body);
    let sum = slot_checksum(&slot, seed);
    slot[4..8].copy_from_slice(&sum.to_le_bytes());
    slot.freeze()
}

fn read_slot(slot: &[u8], seed: u32) -> Option<VoteRecord> {
    let len = u32::from_le_bytes(*slot.first_chunk()?) as usize;
    let sum = u32::from_le_bytes(*slot.get(4..)?.first_chunk()?);
    if slot_checksum(slot, seed) != sum {
        return None;
    }
    let body = slot.get(SLOT_HEADER_LEN..)?.get(..len)?;
    mainstay_codec::decode(body, BODY_LEN_MAX).ok()
}

fn slot_checksum(slot: &[u8], seed: u32) -> u32 {
    checksum(checksum(seed, &slot[..4]), &slot[SLOT_HEADER_LEN..])
}

/// The open vote file of a running node.
pub(crate) struct VoteFile {
    disk: Arc<dyn Disk>,
    file: FileId,
    name: String,
    seed: u32,
    number: u64,
}

/// Which call on the vote file failed.
pub(crate) enum VoteWriteError {
    Write { offset: u64, source: io::Error },
    Sync(io::Error),
}

impl VoteFile {
    pub(crate) const fn new(
        disk: Arc<dyn Disk>,
        file: FileId,
        name: String,
        seed: u32,
        number: u64,
    ) -> Self {
        Self { disk, file, name, seed, number }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Writes a vote into the first slot; durable on return.
    pub(crate) async fn save(
        &mut self,
        vote: Vote,
        synced_frame: u64,
    ) -> Result<VoteRecord, VoteWriteError> {
        self.number += 1;
        let record = VoteRecord { number: self.number, vote: Some(vote), synced_frame };
        self.write(0, &record).await?;
        Ok(record)
    }

    /// Copies the saved vote into the second slot.
    pub(crate) async fn copy(&mut self, record: &VoteRecord) -> Result<(), VoteWriteError> {
        self.write(1, record).await
    }

    async fn write(&self, slot: usize, record: &VoteRecord) -> Result<(), VoteWriteError> {
        let offset = SLOTS_AT[slot];
        let written = self.disk.write_at(self.file, offset, slot_bytes(record, self.seed));
        let synced = self.disk.sync_data(self.file).await;
        written.await.map_err(|source| VoteWriteError::Write { offset, source })?;
        synced.map_err(VoteWriteError::Sync)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Identity = Identity { cluster_id: 7, node_id: 3, epoch: 1 };

    fn record(number: u64) -> VoteRecord {
        let vote = Vote { term: 300 + number, node_id: 9, committed: true };
        VoteRecord { number, vote: Some(vote), synced_frame: 5 }
    }

    #[test]
    fn golden_bytes_of_a_slot() {
        let slot = slot_bytes(&record(1), 77);
        assert_eq!(slot.len(), 512);
        assert_eq!(slot[0..4], [8, 0, 0, 0]);
        assert_eq!(slot[8..16], [1, 1, 251, 45, 1, 9, 1, 5]);
        assert!(slot[16..].iter().all(|byte| *byte == 0));
        assert_eq!(read_slot(&slot, 77), Some(record(1)));
    }

    #[test]
    fn the_newer_slot_counts_and_a_torn_one_leaves_the_older() {
        let (file, seed) = vote_file_bytes(&OURS, &record(1));
        for at in [4096, 8192] {
            let mut newer = file.to_vec();
            newer[at..at + 512].copy_from_slice(&slot_bytes(&record(2), seed));
            assert_eq!(read_vote_file(&newer.clone().into(), &OURS).expect("reads"), record(2));
            newer[at + 9] ^= 1;
            assert_eq!(read_vote_file(&newer.into(), &OURS).expect("reads"), record(1));
        }
    }

    #[test]
    fn no_flipped_bit_changes_the_vote() {
        let (file, _seed) = vote_file_bytes(&OURS, &record(1));
        for bit in 0..file.len() * 8 {
            let mut damaged = file.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            if let Ok(found) = read_vote_file(&damaged.into(), &OURS) {
                assert_eq!(found, record(1), "bit {bit}");
            }
        }
    }

    #[test]
    fn two_damaged_slots_are_refused() {
        let (file, _seed) = vote_file_bytes(&OURS, &record(1));
        let mut damaged = file.to_vec();
        damaged[4100] ^= 1;
        damaged[8200] ^= 1;
        assert!(matches!(read_vote_file(&damaged.into(), &OURS), Err(VoteFault::Slots)));
    }
}
