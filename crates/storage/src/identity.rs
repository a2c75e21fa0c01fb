//! Whose a file is, and the refusal of files that are somebody else's.
//!
//! Every file begins with a [`FileHeader`]. Reading one is three questions: is it a sound header
//! of the wanted kind, is it of this node, is it of this cluster and epoch. A file from the time
//! before the folder had a cluster carries cluster id 0 and belongs to the folder all the same.

use bytes::Bytes;
use mainstay_codec::{CIPHER_CLEAR, FileHeader, FileHeaderError, FileKind};

/// Whose files these are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The cluster; 0 before the folder has one.
    pub cluster_id: u64,
    /// The node that the folder belongs to, for ever.
    pub node_id: u64,
    /// The epoch of the cluster.
    pub epoch: u64,
}

/// What to do about a file whose header cannot be used.
pub(crate) const fn advice_on_header(error: &FileHeaderError) -> &'static str {
    match error {
        FileHeaderError::NewerFormat { .. } | FileHeaderError::Cipher(_) => {
            "start the program that wrote it, or a newer one"
        }
        FileHeaderError::Short { .. }
        | FileHeaderError::ForeignMagic
        | FileHeaderError::Checksum { .. }
        | FileHeaderError::Kind { .. } => {
            "keep the folder aside and let this node join again with an empty one"
        }
    }
}

impl ForeignFile {
    /// What to do about it.
    pub(crate) const fn advice(&self) -> &'static str {
        match self {
            Self::Header(error) => advice_on_header(error),
            Self::Node { .. } | Self::Cluster { .. } | Self::Epoch { .. } => {
                "start the node with its own data folder"
            }
        }
    }
}

/// A file that this node must not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForeignFile {
    /// No sound header of the wanted kind and format.
    #[error("its header cannot be used")]
    Header(#[source] FileHeaderError),
    /// A file of another node.
    #[error(
        "it belongs to node {found}, this is node {expected}: \
         the data folder of another node, or a file copied from one"
    )]
    Node {
        /// The node in the header.
        found: u64,
        /// This node.
        expected: u64,
    },
    /// A file of another cluster.
    #[error(
        "it belongs to cluster {found}, this node is in cluster {expected}: \
         a file copied from another cluster"
    )]
    Cluster {
        /// The cluster in the header.
        found: u64,
        /// The cluster of this node.
        expected: u64,
    },
    /// A file of another epoch.
    #[error(
        "it belongs to epoch {found} of the cluster, this node is in epoch {expected}: \
         a file from before or after a disaster recovery"
    )]
    Epoch {
        /// The epoch in the header.
        found: u64,
        /// The epoch of this node.
        expected: u64,
    },
}

impl Identity {
    /// The header of a new file.
    pub(crate) const fn header(&self, kind: FileKind, format: u16) -> FileHeader {
        FileHeader {
            kind,
            format,
            cipher: CIPHER_CLEAR,
            cluster_id: self.cluster_id,
            node_id: self.node_id,
            epoch: self.epoch,
            key_id: 0,
        }
    }

    /// Reads the header in front of `bytes` and refuses a file that is not this node's.
    pub(crate) fn check(
        &self,
        bytes: &Bytes,
        kind: FileKind,
        newest_format: u16,
    ) -> Result<(), ForeignFile> {
        let header =
            FileHeader::from_bytes(bytes, kind, newest_format).map_err(ForeignFile::Header)?;
        if header.node_id != self.node_id {
            return Err(ForeignFile::Node { found: header.node_id, expected: self.node_id });
        }
        if header.cluster_id == 0 {
            return Ok(());
        }
        if header.cluster_id != self.cluster_id {
            return Err(ForeignFile::Cluster {
                found: header.cluster_id,
                expected: self.cluster_id,
            });
        }
        if header.epoch != self.epoch {
            return Err(ForeignFile::Epoch { found: header.epoch, expected: self.epoch });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Identity = Identity { cluster_id: 7, node_id: 3, epoch: 2 };

    fn check(header: Identity) -> Result<(), ForeignFile> {
        let bytes = header.header(FileKind::Vote, 1).to_bytes();
        OURS.check(&Bytes::copy_from_slice(&bytes), FileKind::Vote, 1)
    }

    #[test]
    fn a_file_of_another_node_cluster_or_epoch_is_refused_by_name() {
        assert_eq!(check(OURS), Ok(()));
        assert_eq!(
            check(Identity { node_id: 4, ..OURS }),
            Err(ForeignFile::Node { found: 4, expected: 3 })
        );
        assert_eq!(
            check(Identity { cluster_id: 8, ..OURS }),
            Err(ForeignFile::Cluster { found: 8, expected: 7 })
        );
        assert_eq!(
            check(Identity { epoch: 1, ..OURS }),
            Err(ForeignFile::Epoch { found: 1, expected: 2 })
        );
    }

    #[test]
    fn a_file_from_before_the_cluster_was_born_is_ours() {
        assert_eq!(check(Identity { cluster_id: 0, epoch: 0, ..OURS }), Ok(()));
    }
}
