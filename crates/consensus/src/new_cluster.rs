//! A cluster made anew of one store, on a data folder of its own.
//!
//! What is written is a folder as a node leaves it behind: a snapshot of the store, a log that
//! begins after it, a vote, and last of all the record that makes it a data folder. A folder
//! without that record is refused by every start, so one that was not finished is never taken for a
//! cluster.
//!
//! Nothing of it can be mistaken for the old cluster: its id is drawn anew, the epoch is one
//! higher, node and folder are new, and whatever only grows (term, revision, sequence) has jumped
//! over all that the old cluster can have given out. Its one member is the new node; others join.
//!
//! Where the store comes from is not known here: a survivor of a lost majority now, a backup later.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
};

use mainstay_kv::{EPOCH_JUMP, Store};
use mainstay_storage::{
    Folder, Identity, LogPosition, OpenError, Storage, StorageFailure, StorageOptions, Vote,
};
use mainstay_world::{self as world, Buggify, Disk};
use openraft::Membership;

use crate::{
    state_machine::{SNAPSHOT_CHUNK_BYTES, SnapshotMark},
    status::MemberRecord,
    type_config::{StoredMembership, log_id},
};

/// What a new cluster is made of.
#[derive(Debug)]
pub struct Seed {
    /// The store as the old cluster left it.
    pub store: Store,
    /// The last entry that the store has applied.
    pub last: LogPosition,
    /// The highest term that is known of the old cluster.
    pub term: u64,
    /// The old cluster's epoch.
    pub epoch: u64,
    /// The new cluster's first member; its folder id is drawn anew.
    pub member: MemberRecord,
}

/// A new cluster, durable in its folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCluster {
    /// Its id.
    pub cluster_id: u64,
    /// Its epoch.
    pub epoch: u64,
    /// Its one member.
    pub node_id: u64,
    /// That member's name.
    pub name: String,
    /// The store's revision; everything below reads as compacted.
    pub revision: u64,
    /// The hash of the store, as the new folder holds it.
    pub hash: u128,
}

/// A new cluster that could not be written. The folder holds no cluster; remove it and try again.
#[derive(Debug, thiserror::Error)]
pub enum NewClusterError {
    /// The new log cannot be made.
    #[error("the new log cannot be made")]
    Open(#[from] OpenError),
    /// The snapshot or the record of the folder cannot be written.
    #[error("the {what} cannot be written")]
    Write {
        /// What was being written.
        what: &'static str,
        /// What the disk says.
        #[source]
        source: io::Error,
    },
    /// The storage failed on the way.
    #[error("the new folder cannot be written")]
    Storage(#[from] StorageFailure),
}

impl NewCluster {
    /// Writes the folder behind `disk`, which must be empty. `on_written` hears of the bytes of
    /// the store as they are written.
    ///
    /// Starts tasks in the caller's scope, which have ended on return.
    ///
    /// # Errors
    /// [`NewClusterError`].
    pub async fn write(
        disk: &Arc<dyn Disk>,
        seed: Seed,
        options: StorageOptions,
        on_written: &(dyn Fn(u64) + Sync),
    ) -> Result<Self, NewClusterError> {
        let Seed { mut store, last, term, epoch, member } = seed;
        store.begin_epoch();
        let identity = Identity {
            cluster_id: world::random_u64().max(1),
            node_id: world::random_u64().max(1),
            epoch: epoch + 1,
        };
        let new = Self {
            cluster_id: identity.cluster_id,
            epoch: identity.epoch,
            node_id: identity.node_id,
            name: member.name.clone(),
            revision: store.revision(),
            hash: store.hash(),
        };
        let (log, side) = (Arc::clone(disk), Arc::clone(disk));
        let (storage, _new) = Storage::open(log, side, identity, options, Buggify::none()).await?;
        let member = MemberRecord { folder_id: identity.node_id, ..member };
        let mark = sole_member(last, identity.node_id, member);
        let written = write_snapshot(&storage, &mut store, last, &mark, on_written).await;
        written.map_err(|source| NewClusterError::Write { what: "snapshot", source })?;
        storage.install_mark(last).await?;
        let term = term.max(last.term).saturating_add(EPOCH_JUMP);
        let vote = Vote { term, node_id: identity.node_id, committed: false };
        storage.save_vote(vote).await?;
        storage.save_committed(last);
        storage.shutdown().await;
        let folder = Folder {
            node_id: identity.node_id,
            cluster_id: identity.cluster_id,
            epoch: identity.epoch,
            name: new.name.clone(),
            removed: false,
        };
        let saved = folder.save(disk).await;
        saved.map_err(|source| NewClusterError::Write { what: "folder record", source })?;
        Ok(new)
    }
}

/// What the snapshot says of itself: its position, and a membership of one.
fn sole_member(last: LogPosition, node_id: u64, member: MemberRecord) -> SnapshotMark {
    let members = BTreeMap::from([(node_id, member)]);
    let voters = vec![members.keys().copied().collect()];
    let membership = Membership::new(voters, members).expect("the one voter is a member");
    let last = log_id(last);
    let membership = StoredMembership::new(Some(last), membership);
    // Ids of the old cluster mean nothing in the new one.
    SnapshotMark::new(Some(last), membership, BTreeSet::new())
}

async fn write_snapshot(
    storage: &Storage,
    store: &mut Store,
    last: LogPosition,
    mark: &SnapshotMark,
    on_written: &(dyn Fn(u64) + Sync),
) -> io::Result<()> {
    let mut writer = storage.snapshot_writer(Some(last), mark.to_bytes()?).await?;
    let mut walk = store.snapshot_begin();
    while let Some(chunk) = store.snapshot_next(&mut walk, SNAPSHOT_CHUNK_BYTES) {
        let len = chunk.len() as u64;
        writer.write(chunk).await?;
        on_written(len);
    }
    store.snapshot_end(walk);
    writer.finish().await.map(drop)
}
