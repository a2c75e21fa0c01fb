//! Who a data folder is: the node id that names it for ever, and the cluster it is in.
//!
//! One small file, `folder`: a file header (kind "FOLD", with cluster id, node id and epoch), then
//! `length u32, CRC32C u32 (of header, length and body), body`; the body is name and removal mark
//! in the codec's form. It is written beside, synced, renamed over the old one, and the folder
//! synced, so at every moment one whole record is there.
//!
//! A folder without the record is new only if it is empty: next to a log, a vote or a snapshot the
//! record was lost, and a node that drew a new id there would be another node with the same data.

use std::{io, sync::Arc};

use bytes::Bytes;
use mainstay_codec::{
    CIPHER_CLEAR, FILE_HEADER_LEN, FileHeader, FileHeaderError, FileKind, checksum,
};
use mainstay_world::Disk;
use serde::{Deserialize, Serialize};

use crate::{
    identity::advice_on_header, seal::TEMPORARY, segment::segment_id, snapshot::snapshot_number,
    vote::vote_number,
};

/// The newest format of folder records that this program reads, and the one it writes.
const FOLDER_FORMAT: u16 = 1;
const FILE_NAME: &str = "folder";
const BODY_AT: usize = FILE_HEADER_LEN + 8;
/// Longest name of a node in bytes; the file is bounded by it.
pub const FOLDER_NAME_BYTES_MAX: usize = 1024;
const BODY_LEN_MAX: usize = FOLDER_NAME_BYTES_MAX + 64;

/// The record of a data folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// The node that the folder is, drawn at random when it was made; never 0.
    pub node_id: u64,
    /// The cluster it is in; 0 while it is in none.
    pub cluster_id: u64,
    /// The epoch of that cluster.
    pub epoch: u64,
    /// The node's name.
    pub name: String,
    /// Whether the node was removed from its cluster, for ever.
    pub removed: bool,
}

/// What stands behind the header.
#[derive(Serialize, Deserialize)]
struct Body {
    name: String,
    removed: bool,
}

/// A folder whose record cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderReadError {
    /// The disk does not give the record.
    #[error("cannot {action} the folder record; nothing was changed")]
    Read {
        /// What was tried: a verb.
        action: &'static str,
        /// What the disk says.
        #[source]
        source: io::Error,
    },
    /// The record is of another program or of a newer version, or its header is damaged.
    #[error("the folder record cannot be used; nothing was changed, {}", advice_on_header(.0))]
    Header(#[source] FileHeaderError),
    /// The record is not what was written.
    #[error(
        "the folder record is damaged; keep the folder aside and let this node join again with an \
         empty one"
    )]
    Damaged,
    /// There is no record in a folder that is not new.
    #[error(
        "the folder has no record of whose it is, but has the file {found}; keep the folder aside \
         and let this node join again with an empty one"
    )]
    Missing {
        /// A file that only a folder with a record can have.
        found: String,
    },
}

impl Folder {
    /// Reads the record of the folder behind `disk`; `None` if the folder is new. What is returned
    /// is durable.
    ///
    /// # Errors
    /// [`FolderReadError`].
    pub async fn load(disk: &Arc<dyn Disk>) -> Result<Option<Self>, FolderReadError> {
        let failed = |action| move |source| FolderReadError::Read { action, source };
        let names = disk.list().await.map_err(failed("look for"))?;
        if !names.iter().any(|name| name == FILE_NAME) {
            return match names.into_iter().find(|name| belongs_to_a_node(name)) {
                Some(found) => Err(FolderReadError::Missing { found }),
                None => Ok(None),
            };
        }
        let file = disk.open(FILE_NAME).await.map_err(failed("open"))?;
        let read = disk.read_at(file, 0, BODY_AT + BODY_LEN_MAX + 1).await;
        drop(disk.close(file));
        let folder = Self::from_bytes(&read.map_err(failed("read"))?)?;
        // The content was synced before the file had its name; the name may not have been.
        disk.sync_directory().await.map_err(failed("sync"))?;
        Ok(Some(folder))
    }

    /// Writes the record; durable on return.
    ///
    /// # Errors
    /// What the disk says; then the older record may still be the one in force.
    ///
    /// # Panics
    /// If the name is longer than [`FOLDER_NAME_BYTES_MAX`].
    pub async fn save(&self, disk: &Arc<dyn Disk>) -> io::Result<()> {
        let temporary = format!("{FILE_NAME}{TEMPORARY}");
        match disk.remove(&temporary).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let file = disk.create(&temporary).await?;
        let written = disk.write_at(file, 0, self.to_bytes());
        let synced = disk.sync_data(file).await;
        drop(disk.close(file));
        written.await?;
        synced?;
        disk.rename(&temporary, FILE_NAME).await?;
        disk.sync_directory().await
    }

    fn to_bytes(&self) -> Bytes {
        assert!(
            self.name.len() <= FOLDER_NAME_BYTES_MAX,
            "a node's name has at most {FOLDER_NAME_BYTES_MAX} bytes"
        );
        let header = FileHeader {
            kind: FileKind::Folder,
            format: FOLDER_FORMAT,
            cipher: CIPHER_CLEAR,
            cluster_id: self.cluster_id,
            node_id: self.node_id,
            epoch: self.epoch,
            key_id: 0,
        };
        let body = Body { name: self.name.clone(), removed: self.removed };
        let body = mainstay_codec::encode(&body).expect("a string and a flag have known lengths");
        let len = u32::try_from(body.len()).expect("a name is short").to_le_bytes();
        let mut bytes = header.to_bytes().to_vec();
        let sum = checksum(checksum(checksum(0, &bytes), &len), &body);
        bytes.extend_from_slice(&len);
        bytes.extend_from_slice(&sum.to_le_bytes());
        bytes.extend_from_slice(&body);
        bytes.into()
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, FolderReadError> {
        let header = FileHeader::from_bytes(bytes, FileKind::Folder, FOLDER_FORMAT)
            .map_err(FolderReadError::Header)?;
        let Some((head, body)) = bytes.split_at_checked(BODY_AT) else {
            return Err(FolderReadError::Damaged);
        };
        let (front, sum) = head.split_at(BODY_AT - 4);
        let len = &front[FILE_HEADER_LEN..];
        let is_whole = len == u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes();
        if !is_whole || sum != checksum(checksum(0, front), body).to_le_bytes() {
            return Err(FolderReadError::Damaged);
        }
        let body: Body = mainstay_codec::decode(body, BODY_LEN_MAX)
            .map_err(|_malformed| FolderReadError::Damaged)?;
        Ok(Self {
            node_id: header.node_id,
            cluster_id: header.cluster_id,
            epoch: header.epoch,
            name: body.name,
            removed: body.removed,
        })
    }
}

/// Whether only a node that had a record can have made the file.
fn belongs_to_a_node(name: &str) -> bool {
    segment_id(name).is_some() || vote_number(name).is_some() || snapshot_number(name).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> Folder {
        Folder { node_id: 3, cluster_id: 7, epoch: 1, name: "a".to_owned(), removed: false }
    }

    #[test]
    fn golden_bytes_of_a_folder_record() {
        let bytes = folder().to_bytes();
        assert_eq!(&bytes[..14], b"MAINSTAYFOLD\x01\x00");
        assert_eq!(bytes[64..68], [3, 0, 0, 0]);
        assert_eq!(bytes[72..], [1, b'a', 0]);
        assert_eq!(Folder::from_bytes(&bytes).expect("reads"), folder());
    }

    #[test]
    fn every_flipped_bit_and_every_prefix_is_refused() {
        let bytes = folder().to_bytes();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Folder::from_bytes(&damaged).is_err(), "bit {bit} was not noticed");
        }
        for end in 0..bytes.len() {
            assert!(Folder::from_bytes(&bytes[..end]).is_err(), "prefix of {end} bytes");
        }
    }
}
