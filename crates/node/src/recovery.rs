//! Making a new cluster of what a lost majority left behind, offline: on the data folders of
//! stopped nodes.
//!
//! [`Survey::of`] reads the folders and picks the one whose log goes furthest; a person looks at
//! what may be lost ([`Survey::findings`]) and decides; [`Survey::found`] writes the new cluster.
//! The folders given are only read. The new one is written under a temporary name beside its final
//! one, read back and compared, and only then renamed: at every moment it is there whole or not at
//! all, and whatever was broken off is begun anew by doing it again.
//!
//! Whether members of the old cluster still live is asked by [`Survey::answering`]; what to do
//! about it, and asking a person, is the business of whoever calls.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

pub use mainstay_consensus::{MemberRecord, NewCluster};
use mainstay_consensus::{
    NewClusterError, PeerAnswer, Seed, Survivor, SurvivorError, ask_peer, completeness,
};
use mainstay_kv::EPOCH_JUMP;
use mainstay_storage::{FolderReading, FolderReadingError, LogPosition, StorageOptions};
use mainstay_world::{Disk, FolderError, FolderLock, Net, ReadOnlyDisk, RealDisk, Scope};

use crate::config::{ConfigError, check_name};

/// How long a member has to answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(2);

/// What a folder is called until it is finished.
const UNFINISHED: &str = ".unfinished";

/// Hears how far a long piece of offline work is.
pub trait Progress: Send + Sync {
    /// A piece of work of about this many bytes begins.
    fn begin(&self, what: String, bytes: u64);
    /// So many more bytes are done.
    fn advance(&self, bytes: u64);
    /// The piece of work is done.
    fn end(&self);
}

/// The folders of stopped nodes, read, and the cluster as the best of them knew it.
#[derive(Debug)]
pub struct Survey {
    folders: Vec<SurveyedFolder>,
    best: usize,
    survivor: Survivor,
}

#[derive(Debug)]
struct SurveyedFolder {
    path: PathBuf,
    reading: FolderReading,
    /// Held for as long as the folder is looked at; none if no node ever took it.
    _lock: Option<FolderLock>,
}

/// What a survey found, for a person to decide by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Findings {
    /// The old cluster.
    pub cluster_id: u64,
    /// Its epoch.
    pub epoch: u64,
    /// The folders given.
    pub folders: Vec<FolderFinding>,
    /// Index of the folder whose log goes furthest.
    pub best: usize,
    /// The members of the old cluster.
    pub members: Vec<MemberFinding>,
    /// Whether the folders given are those of a quorum of the voters: then nothing that was
    /// acknowledged is missing, and the nodes can simply be started.
    pub is_quorum: bool,
    /// Entries behind the saved commit index of the best folder: the recovery makes them count,
    /// whether they were acknowledged or not.
    pub undecided: u64,
    /// Keys in the store.
    pub keys: u64,
    /// The store's revision.
    pub revision: u64,
    /// The least revision that the new cluster begins with.
    pub revision_new: u64,
    /// The wall clock at the last write, in milliseconds since 1970; 0 if there was none.
    pub wall_ms: u64,
}

/// One of the folders given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderFinding {
    /// Where it is.
    pub path: PathBuf,
    /// Its node.
    pub node_id: u64,
    /// Its node's name.
    pub name: String,
    /// Its last entry.
    pub last: Option<LogPosition>,
    /// The saved commit index.
    pub committed: Option<LogPosition>,
    /// The last write was cut short by a loss of power, or rotted: it is not used.
    pub torn: bool,
    /// The node was removed from its cluster.
    pub removed: bool,
}

/// One member of the old cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberFinding {
    /// The node.
    pub id: u64,
    /// What the cluster recorded about it.
    pub record: MemberRecord,
    /// Whether it has a vote.
    pub voter: bool,
    /// Whether its folder is among those given.
    pub is_given: bool,
}

/// A member of the old cluster that shows a sign of life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answering {
    /// Its name.
    pub name: String,
    /// Where it was asked.
    pub address: String,
    /// Whether it said who it is. If not, something takes connections there without a word.
    pub is_certain: bool,
}

/// A recovery that is refused or fails. The folders given are as they were.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// A folder is in use, or cannot be read.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The OS gives no thread for a folder.
    #[error("cannot read {}", path.display())]
    Thread {
        /// The folder.
        path: PathBuf,
        /// What the OS says.
        #[source]
        source: io::Error,
    },
    /// A folder is damaged, empty, or of a newer version.
    #[error("{} cannot be recovered from; nothing was changed", path.display())]
    Unreadable {
        /// The folder.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: FolderReadingError,
    },
    /// A folder from which no store can be made.
    #[error("{} cannot be recovered from; nothing was changed", path.display())]
    Unusable {
        /// The folder.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: SurvivorError,
    },
    /// A folder whose node never was in a cluster.
    #[error(
        "{} never was in a cluster, so there is nothing to recover; leave it out",
        path.display()
    )]
    NoCluster {
        /// The folder.
        path: PathBuf,
    },
    /// Folders of different clusters, or epochs of one.
    #[error(
        "{} is of cluster {first_cluster} in epoch {first_epoch}, {} of cluster \
         {other_cluster} in epoch {other_epoch}; give folders of one cluster only",
        first.display(), other.display()
    )]
    OtherCluster {
        /// The first folder.
        first: PathBuf,
        /// Its cluster.
        first_cluster: u64,
        /// Its epoch.
        first_epoch: u64,
        /// The folder that does not go with it.
        other: PathBuf,
        /// Its cluster.
        other_cluster: u64,
        /// Its epoch.
        other_epoch: u64,
    },
    /// Two folders of one node.
    #[error(
        "{} and {} are of the same node {name}; give one of them",
        first.display(), other.display()
    )]
    SameNode {
        /// One folder.
        first: PathBuf,
        /// The other.
        other: PathBuf,
        /// The node's name.
        name: String,
    },
    /// The new node's name cannot be one.
    #[error(transparent)]
    Name(#[from] ConfigError),
    /// The new folder's place is taken.
    #[error("{} exists already; give a folder that does not, with --into", path.display())]
    Exists {
        /// The place.
        path: PathBuf,
    },
    /// The new folder cannot be made, renamed or removed.
    #[error("cannot {action} {}; no cluster was made", path.display())]
    NewFolder {
        /// What was tried: a verb.
        action: &'static str,
        /// The folder.
        path: PathBuf,
        /// What the OS says.
        #[source]
        source: io::Error,
    },
    /// The new cluster cannot be written.
    #[error("the new cluster cannot be written to {}; no cluster was made", path.display())]
    Write {
        /// The folder.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: NewClusterError,
    },
    /// What was written is not what is read back.
    #[error(
        "what was written to {} reads back otherwise; no cluster was made, use another disk",
        path.display()
    )]
    Differs {
        /// The folder.
        path: PathBuf,
    },
}

impl Survey {
    /// Reads the folders of stopped nodes, at least one, and picks the best.
    ///
    /// # Errors
    /// [`RecoveryError`]: a folder is in use, damaged, or does not go with the others.
    ///
    /// # Panics
    /// If no folder is given.
    pub async fn of(
        folders: &[PathBuf],
        progress: &Arc<dyn Progress>,
    ) -> Result<Self, RecoveryError> {
        let mut surveyed: Vec<SurveyedFolder> = Vec::new();
        for path in folders {
            let folder = read_folder(path, progress).await?;
            for other in &surveyed {
                check_they_go_together(other, &folder)?;
            }
            surveyed.push(folder);
        }
        let best = (0..surveyed.len())
            .max_by_key(|at| completeness(surveyed[*at].reading.last()))
            .expect("a survey is of at least one folder");
        let SurveyedFolder { path, reading, .. } = &surveyed[best];
        progress.begin(format!("applying {}", path.display()), readable_bytes(path));
        let survivor = Survivor::of(reading).await;
        progress.end();
        let survivor =
            survivor.map_err(|source| RecoveryError::Unusable { path: path.clone(), source })?;
        Ok(Self { folders: surveyed, best, survivor })
    }

    /// What was found.
    #[must_use]
    pub fn findings(&self) -> Findings {
        let folders: Vec<_> =
            self.folders.iter().map(|folder| finding_of(&folder.path, &folder.reading)).collect();
        let given: BTreeSet<u64> =
            folders.iter().filter(|folder| !folder.removed).map(|folder| folder.node_id).collect();
        let survivor = &self.survivor;
        let members = survivor.members.iter().map(|(id, record)| MemberFinding {
            id: *id,
            record: record.clone(),
            voter: survivor.is_voter(*id),
            is_given: given.contains(id),
        });
        let folder = self.folders[self.best].reading.folder();
        let committed = folders[self.best].committed.map_or(0, |committed| committed.index);
        let revision = survivor.store.revision();
        Findings {
            cluster_id: folder.cluster_id,
            epoch: folder.epoch,
            best: self.best,
            members: members.collect(),
            is_quorum: survivor.is_quorum(&given),
            undecided: survivor.last.index.saturating_sub(committed),
            keys: survivor.store.key_count(),
            revision,
            revision_new: revision + EPOCH_JUMP,
            wall_ms: survivor.store.wall_ms(),
            folders,
        }
    }

    /// The members of the old cluster that show a sign of life at their peer addresses.
    pub async fn answering(&self, net: &Arc<dyn Net>) -> Vec<Answering> {
        let cluster_id = self.folders[self.best].reading.folder().cluster_id;
        let mut answering = Vec::new();
        for record in self.survivor.members.values() {
            let address = &record.peer_address;
            let is_certain = match ask_peer(net, address, ANSWER_DEADLINE).await {
                PeerAnswer::Nobody => continue,
                // A node of another cluster, or of none, is not the member that was.
                PeerAnswer::Node { cluster_id: found, .. } if found != cluster_id => continue,
                PeerAnswer::Node { .. } => true,
                PeerAnswer::Silent => false,
            };
            let (name, address) = (record.name.clone(), address.clone());
            answering.push(Answering { name, address, is_certain });
        }
        answering
    }

    /// Writes the new cluster into the folder `into`, which must not exist. Its node is called
    /// `name`, or as the node of the best folder.
    ///
    /// # Errors
    /// [`RecoveryError`]: then there is no folder `into`.
    pub async fn found(
        self,
        into: &Path,
        name: Option<String>,
        progress: &Arc<dyn Progress>,
    ) -> Result<NewCluster, RecoveryError> {
        check_is_free(into)?;
        let best = &self.folders[self.best];
        let folder = best.reading.folder();
        let term = best.reading.vote().map_or(0, |vote| vote.term);
        let Survivor { store, last, members, .. } = self.survivor;
        let record = members.get(&folder.node_id).cloned().unwrap_or_default();
        let name = name.unwrap_or_else(|| folder.name.clone());
        check_name("name", &name)?;
        let member = MemberRecord { name, ..record };
        let seed = Seed { store, last, term, epoch: folder.epoch, member };

        let unfinished = unfinished_name(into);
        remove_unfinished(&unfinished)?;
        let failed = |action| {
            let path = unfinished.clone();
            move |source| RecoveryError::NewFolder { action, path, source }
        };
        fs::create_dir_all(&unfinished).map_err(failed("make"))?;
        let lock = FolderLock::take(&unfinished)?;
        let new = write(&unfinished, seed, progress).await?;
        check(&unfinished, &new, progress).await?;
        drop(lock);
        fs::rename(&unfinished, into).map_err(failed("rename"))?;
        sync_parent(into).map_err(failed("enter in its folder"))?;
        Ok(new)
    }
}

/// What is told of a folder that was read.
pub(crate) fn finding_of(path: &Path, reading: &FolderReading) -> FolderFinding {
    let folder = reading.folder();
    FolderFinding {
        path: path.to_path_buf(),
        node_id: folder.node_id,
        name: folder.name.clone(),
        last: reading.last(),
        committed: reading.committed(),
        torn: reading.torn_tail().is_some(),
        removed: folder.removed,
    }
}

async fn read_folder(
    path: &Path,
    progress: &Arc<dyn Progress>,
) -> Result<SurveyedFolder, RecoveryError> {
    let lock = FolderLock::take_existing(path)?;
    progress.begin(format!("reading {}", path.display()), readable_bytes(path));
    let reading = FolderReading::open(read_only(path, progress)?).await;
    progress.end();
    let reading =
        reading.map_err(|source| RecoveryError::Unreadable { path: path.to_path_buf(), source })?;
    if reading.folder().cluster_id == 0 {
        return Err(RecoveryError::NoCluster { path: path.to_path_buf() });
    }
    Ok(SurveyedFolder { path: path.to_path_buf(), reading, _lock: lock })
}

fn check_they_go_together(
    first: &SurveyedFolder,
    other: &SurveyedFolder,
) -> Result<(), RecoveryError> {
    let (one, two) = (first.reading.folder(), other.reading.folder());
    if (one.cluster_id, one.epoch) != (two.cluster_id, two.epoch) {
        return Err(RecoveryError::OtherCluster {
            first: first.path.clone(),
            first_cluster: one.cluster_id,
            first_epoch: one.epoch,
            other: other.path.clone(),
            other_cluster: two.cluster_id,
            other_epoch: two.epoch,
        });
    }
    if one.node_id == two.node_id {
        let (first, other) = (first.path.clone(), other.path.clone());
        return Err(RecoveryError::SameNode { first, other, name: one.name.clone() });
    }
    Ok(())
}

/// The folder, for reading only.
pub(crate) fn read_only(
    path: &Path,
    progress: &Arc<dyn Progress>,
) -> Result<Arc<dyn Disk>, RecoveryError> {
    let progress = Arc::clone(progress);
    let on_read = Arc::new(move |bytes| progress.advance(bytes));
    let disk = ReadOnlyDisk::start(path, "folder-reading", on_read)
        .map_err(|source| RecoveryError::Thread { path: path.to_path_buf(), source })?;
    Ok(Arc::new(disk))
}

/// Bytes of the folder's files, as far as they can be told.
pub(crate) fn readable_bytes(path: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    let files = entries.flatten().filter_map(|entry| entry.metadata().ok());
    files.filter(fs::Metadata::is_file).map(|file| file.len()).sum()
}

fn check_is_free(into: &Path) -> Result<(), RecoveryError> {
    match fs::symlink_metadata(into) {
        Ok(_taken) => Err(RecoveryError::Exists { path: into.to_path_buf() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => {
            let path = into.to_path_buf();
            Err(RecoveryError::NewFolder { action: "look for", path, source })
        }
    }
}

fn unfinished_name(into: &Path) -> PathBuf {
    let mut name = into.file_name().map_or_else(OsString::new, OsString::from);
    name.push(UNFINISHED);
    into.with_file_name(name)
}

/// Removes what an earlier recovery into the same place left behind when it was broken off.
fn remove_unfinished(path: &Path) -> Result<(), RecoveryError> {
    let failed =
        |source| RecoveryError::NewFolder { action: "remove", path: path.to_path_buf(), source };
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries.collect::<io::Result<Vec<_>>>().map_err(failed)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(failed(source)),
    };
    if !entries.iter().all(is_of_a_recovery) {
        return Err(RecoveryError::Exists { path: path.to_path_buf() });
    }
    // Another recovery may be at it right now.
    let lock = FolderLock::take(path)?;
    fs::remove_dir_all(path).map_err(failed)?;
    drop(lock);
    Ok(())
}

/// Whether a recovery makes such files. A folder on which a node ran holds its history besides.
fn is_of_a_recovery(entry: &fs::DirEntry) -> bool {
    let name = entry.file_name();
    let name = name.to_string_lossy();
    let known = ["LOCK", "folder", "probe"].contains(&name.as_ref())
        || ["folder.", "log-", "vote-", "snapshot-"].iter().any(|kind| name.starts_with(kind));
    known && entry.file_type().is_ok_and(|kind| kind.is_file())
}

async fn write(
    path: &Path,
    seed: Seed,
    progress: &Arc<dyn Progress>,
) -> Result<NewCluster, RecoveryError> {
    let disk = RealDisk::start(path, "new-folder")
        .map_err(|source| RecoveryError::Thread { path: path.to_path_buf(), source })?;
    let disk: Arc<dyn Disk> = Arc::new(disk);
    progress.begin(format!("writing {}", path.display()), seed.store.space().bytes);
    let on_written = |bytes| progress.advance(bytes);
    let writing = NewCluster::write(&disk, seed, StorageOptions::default(), &on_written);
    let written = Scope::production().run(writing).await;
    progress.end();
    written.map_err(|source| RecoveryError::Write { path: path.to_path_buf(), source })
}

/// Reads the new folder back as a start would, and compares.
async fn check(
    path: &Path,
    new: &NewCluster,
    progress: &Arc<dyn Progress>,
) -> Result<(), RecoveryError> {
    progress.begin(format!("checking {}", path.display()), readable_bytes(path));
    let differs = || RecoveryError::Differs { path: path.to_path_buf() };
    let read = async {
        let disk = read_only(path, progress)?;
        let reading = FolderReading::open(disk).await.map_err(|_unreadable| differs())?;
        Survivor::of(&reading).await.map_err(|_unusable| differs())
    };
    let read = read.await;
    progress.end();
    let survivor = read?;
    let members: BTreeMap<u64, MemberRecord> = survivor.members;
    if survivor.store.hash() != new.hash || members.keys().ne([&new.node_id]) {
        return Err(differs());
    }
    Ok(())
}

/// Makes the new name of `path` durable.
fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    fs::File::open(parent.unwrap_or_else(|| Path::new(".")))?.sync_all()
}
