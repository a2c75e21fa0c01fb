//! Snapshots of the store: what they say of themselves, how they are written and read.
//!
//! A snapshot pins the store's position, then walks it in slices between which applying goes on.
//! The file is written outside openraft, which would end for good on the first full disk; openraft
//! is told of a snapshot when its file is in place.

use std::{collections::BTreeSet, io};

use bytes::Bytes;
use mainstay_kv::{Store, StoreRestore};
use mainstay_storage::{SnapshotReader, Storage};
use mainstay_world::Buggify;
use openraft::RaftSnapshotBuilder;
use serde::{Deserialize, Serialize};
use tracing::debug;

use crate::{
    pace::Pace,
    state_machine::SharedStore,
    type_config::{LogId, SnapshotMeta, StoredMembership, TypeConfig, position},
    versions::Versions,
};

/// Bytes of one chunk of a snapshot: of small keys a quarter of a millisecond's work.
pub(crate) const SNAPSHOT_CHUNK_BYTES: usize = 64 * 1024;

/// The largest meta record of a snapshot in bytes.
const SNAPSHOT_META_BYTES_MAX: usize = 1024 * 1024;

/// The format of what a snapshot says of itself.
const SNAPSHOT_MARK_FORMAT: u16 = 1;

/// The content of a snapshot.
pub(crate) enum SnapshotData {
    /// A file of this node.
    Stored(SnapshotReader),
    /// Received from the leader, restored and checked; its file is in place already.
    Received {
        /// The store.
        store: Box<Store>,
        /// Nodes that were members once and are not any more.
        removed: BTreeSet<u64>,
    },
}

/// What a snapshot says of itself: openraft's meta data, and who was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapshotMark {
    /// [`SNAPSHOT_MARK_FORMAT`].
    pub(crate) format: u16,
    /// The last entry in it.
    pub(crate) last: Option<LogId>,
    /// The members as of that entry.
    pub(crate) membership: StoredMembership,
    /// Nodes that were members once and are not any more.
    pub(crate) removed: BTreeSet<u64>,
}

impl SnapshotMark {
    pub(crate) const fn new(
        last: Option<LogId>,
        membership: StoredMembership,
        removed: BTreeSet<u64>,
    ) -> Self {
        Self { format: SNAPSHOT_MARK_FORMAT, last, membership, removed }
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> io::Result<Self> {
        let mark: Self =
            mainstay_codec::decode(bytes, SNAPSHOT_META_BYTES_MAX).map_err(io::Error::other)?;
        if mark.format == SNAPSHOT_MARK_FORMAT {
            Ok(mark)
        } else {
            let format = mark.format;
            Err(io::Error::other(format!(
                "the snapshot's members are written in format {format}, this version knows \
                 {SNAPSHOT_MARK_FORMAT}; run a newer version of mainstay"
            )))
        }
    }

    pub(crate) fn to_bytes(&self) -> io::Result<Bytes> {
        mainstay_codec::encode(self).map(Bytes::from).map_err(io::Error::other)
    }

    pub(crate) fn into_meta(self) -> SnapshotMeta {
        SnapshotMeta { last_log_id: self.last, last_membership: self.membership }
    }
}

/// A snapshot in the making: the store's position is pinned, its content is yet to be walked.
pub(crate) struct SnapshotWork {
    store: SharedStore,
    storage: Storage,
    buggify: Buggify,
    walk: Option<mainstay_kv::SnapshotWalk>,
    mark: SnapshotMark,
}

impl SnapshotWork {
    /// Pins the store as it is.
    pub(super) fn begin(
        store: SharedStore,
        storage: Storage,
        buggify: Buggify,
        mark: SnapshotMark,
    ) -> Self {
        let walk = Some(store.lock_mut().snapshot_begin());
        Self { store, storage, buggify, walk, mark }
    }

    /// Writes the snapshot file; its last log index.
    ///
    /// # Errors
    /// What the disk says. Nothing is left behind but a file that the next start removes.
    pub(crate) async fn write(mut self) -> io::Result<u64> {
        let last = self.mark.last.as_ref().map(position);
        let mut writer = self.storage.snapshot_writer(last, self.mark.to_bytes()?).await?;
        let mut bytes = 0;
        let mut pace = Pace::default();
        loop {
            let chunk = pace.work(|| match &mut self.walk {
                Some(walk) => self.store.lock().snapshot_next(walk, SNAPSHOT_CHUNK_BYTES),
                None => None,
            });
            let Some(chunk) = chunk else { break };
            bytes += chunk.len();
            writer.write(chunk).await?;
            self.buggify.pause("consensus.snapshot-chunk").await;
            pace.pause().await;
        }
        writer.finish().await?;
        debug!(bytes, "a snapshot was taken");
        let index = last.map_or(0, |last| last.index);
        // Notes the last index in it.
        self.buggify.note("snapshot.saved", || [index]);
        Ok(index)
    }
}

impl Drop for SnapshotWork {
    fn drop(&mut self) {
        if let Some(walk) = self.walk.take() {
            self.store.lock_mut().snapshot_end(walk);
        }
    }
}

/// Tells openraft of the newest snapshot file.
pub(crate) struct SnapshotBuilder {
    storage: Storage,
}

impl SnapshotBuilder {
    pub(super) const fn new(storage: Storage) -> Self {
        Self { storage }
    }
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(
        &mut self,
    ) -> Result<openraft::alias::SnapshotOf<TypeConfig, SnapshotData>, io::Error> {
        let reader = self.storage.snapshot_reader().await.map_err(io::Error::other)?;
        let reader = reader.ok_or_else(|| io::Error::other("there is no snapshot yet"))?;
        stored_snapshot(reader)
    }
}

/// What openraft calls a snapshot, of a file.
pub(super) fn stored_snapshot(
    reader: SnapshotReader,
) -> io::Result<openraft::alias::SnapshotOf<TypeConfig, SnapshotData>> {
    let mark = SnapshotMark::from_bytes(&reader.info().meta)?;
    Ok(openraft::Snapshot { meta: mark.into_meta(), snapshot: SnapshotData::Stored(reader) })
}

/// Reads a snapshot file of this node into a store, with the nodes that were removed.
pub(super) async fn restore_marked(
    reader: SnapshotReader,
    versions: Versions,
) -> io::Result<(Store, BTreeSet<u64>)> {
    let mark = SnapshotMark::from_bytes(&reader.info().meta)?;
    Ok((restore(reader, versions).await?, mark.removed))
}

/// Reads a whole snapshot file into a store.
pub(crate) async fn restore(mut reader: SnapshotReader, versions: Versions) -> io::Result<Store> {
    let mut restore = StoreRestore::new();
    while let Some(chunk) = reader.next().await.map_err(io::Error::other)? {
        restore.push(&chunk).map_err(io::Error::other)?;
    }
    let store = restore.finish().map_err(io::Error::other)?;
    versions.check_store(&store).map_err(io::Error::other)?;
    Ok(store)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use mainstay_storage::LogPosition;

    use super::*;
    use crate::{status::MemberRecord, type_config::log_id};

    fn mark() -> SnapshotMark {
        let record = MemberRecord {
            name: "a".to_owned(),
            folder_id: 7,
            peer_address: "h:1".to_owned(),
            ..MemberRecord::default()
        };
        let at = |index| Some(log_id(LogPosition { term: 3, index }));
        let voters = vec![BTreeSet::from([7])];
        let members = openraft::Membership::new(voters, BTreeMap::from([(7, record)]))
            .expect("every voter has a record");
        SnapshotMark::new(at(9), StoredMembership::new(at(2), members), BTreeSet::from([5]))
    }

    #[test]
    fn what_a_snapshot_says_of_itself_has_golden_bytes_and_comes_back() {
        let bytes = mark().to_bytes().expect("encodes");
        // Format; the last entry's term and index; the entry of the members, a set of one voter,
        // and one record of id, name, folder, address and four empty texts; who was removed.
        let golden = [
            &[1][..],
            &[1, 3, 9],
            &[1, 3, 2, 1, 1, 7, 1, 7, 1, b'a', 7, 3, b'h', b':', b'1', 0, 0, 0, 0],
            &[1, 5],
        ]
        .concat();
        assert_eq!(&bytes[..], golden);
        assert_eq!(SnapshotMark::from_bytes(&golden).expect("reads"), mark());
    }

    #[test]
    fn a_mark_of_a_later_format_or_cut_short_is_refused_with_a_sentence() {
        let later = SnapshotMark { format: SNAPSHOT_MARK_FORMAT + 1, ..mark() };
        let bytes = later.to_bytes().expect("encodes");
        let refusal = SnapshotMark::from_bytes(&bytes).expect_err("unknown").to_string();
        assert!(refusal.contains("run a newer version of mainstay"), "{refusal}");
        for len in 0..bytes.len() {
            assert!(SnapshotMark::from_bytes(&bytes[..len]).is_err(), "{len} bytes");
        }
    }
}
