//! The first 64 bytes of every file that Mainstay writes.
//!
//! The header says what the file is and whose it is, so that a file copied from another node,
//! cluster or epoch is refused by name instead of being read. Layout, little endian:
//!
//! ```text
//! 0   magic "MAINSTAY"     8 bytes
//! 8   kind                 4 bytes, ASCII: "WAL ", "VOTE", "SNAP", "FOLD"
//! 12  format               u16, of this kind of file
//! 14  cipher               u16, 0 is clear
//! 16  cluster id           u64, 0 while the folder has no cluster
//! 24  node id              u64
//! 32  epoch                u64
//! 40  key id               u64, 0 while the cipher is clear
//! 48  reserved             12 bytes of zero
//! 60  CRC32C of bytes 0..60
//! ```

use crate::checksum;

/// Length of a file header in bytes.
pub const FILE_HEADER_LEN: usize = 64;

/// The cipher of files that are not encrypted.
pub const CIPHER_CLEAR: u16 = 0;

const MAGIC: [u8; 8] = *b"MAINSTAY";
const CHECKSUM_AT: usize = 60;

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// One segment of the write-ahead log.
    LogSegment,
    /// The vote.
    Vote,
    /// A snapshot of the state.
    Snapshot,
    /// The identity of a data folder.
    Folder,
}

impl FileKind {
    const fn tag(self) -> [u8; 4] {
        match self {
            Self::LogSegment => *b"WAL ",
            Self::Vote => *b"VOTE",
            Self::Snapshot => *b"SNAP",
            Self::Folder => *b"FOLD",
        }
    }
}

/// What a file is and whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileHeader {
    /// What the file holds.
    pub kind: FileKind,
    /// Format number of this kind of file.
    pub format: u16,
    /// 0 is clear; no other cipher is known yet.
    pub cipher: u16,
    /// The cluster the file belongs to; 0 before the cluster is born.
    pub cluster_id: u64,
    /// The node whose folder the file lies in.
    pub node_id: u64,
    /// The epoch of the cluster when the file was made.
    pub epoch: u64,
    /// The key that the file is encrypted with; 0 while the cipher is clear.
    pub key_id: u64,
}

/// A header that cannot be trusted or understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FileHeaderError {
    /// Fewer bytes than a header has.
    #[error("{len} bytes are too few for a file header of {FILE_HEADER_LEN}")]
    Short {
        /// Bytes found.
        len: usize,
    },
    /// The magic is not Mainstay's.
    #[error("not a Mainstay file")]
    ForeignMagic,
    /// The checksum does not fit the bytes.
    #[error("the file header is damaged: checksum {found:#010x}, computed {computed:#010x}")]
    Checksum {
        /// The checksum that the file carries.
        found: u32,
        /// The checksum of its bytes.
        computed: u32,
    },
    /// A file of another kind.
    #[error("a file of kind {found:?} where {expected:?} was expected")]
    Kind {
        /// The kind that was wanted.
        expected: FileKind,
        /// The four letters found.
        found: [u8; 4],
    },
    /// A format newer than this program reads.
    #[error("format {found} is newer than this program knows ({newest}); start a newer version")]
    NewerFormat {
        /// The file's format.
        found: u16,
        /// The newest format this program reads.
        newest: u16,
    },
    /// A cipher this program does not know.
    #[error("cipher {0} is not known to this program")]
    Cipher(u16),
}

impl FileHeader {
    /// The header's bytes, as they stand at the start of the file.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; FILE_HEADER_LEN] {
        let mut bytes = [0; FILE_HEADER_LEN];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&self.kind.tag());
        bytes[12..14].copy_from_slice(&self.format.to_le_bytes());
        bytes[14..16].copy_from_slice(&self.cipher.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.cluster_id.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.node_id.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.key_id.to_le_bytes());
        let sum = checksum(0, &bytes[..CHECKSUM_AT]);
        bytes[CHECKSUM_AT..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Reads the header of a file of `kind` whose newest known format is `newest_format`.
    ///
    /// # Errors
    /// [`FileHeaderError`], which says what is wrong with the file.
    pub fn from_bytes(
        bytes: &[u8],
        kind: FileKind,
        newest_format: u16,
    ) -> Result<Self, FileHeaderError> {
        let Some(header) = bytes.first_chunk::<FILE_HEADER_LEN>() else {
            return Err(FileHeaderError::Short { len: bytes.len() });
        };
        if header[0..8] != MAGIC {
            return Err(FileHeaderError::ForeignMagic);
        }
        let found = u32::from_le_bytes(array(header, CHECKSUM_AT));
        let computed = checksum(0, &header[..CHECKSUM_AT]);
        if found != computed {
            return Err(FileHeaderError::Checksum { found, computed });
        }
        let tag: [u8; 4] = array(header, 8);
        if tag != kind.tag() {
            return Err(FileHeaderError::Kind { expected: kind, found: tag });
        }
        let format = u16::from_le_bytes(array(header, 12));
        if format > newest_format {
            return Err(FileHeaderError::NewerFormat { found: format, newest: newest_format });
        }
        let cipher = u16::from_le_bytes(array(header, 14));
        if cipher != CIPHER_CLEAR {
            return Err(FileHeaderError::Cipher(cipher));
        }
        Ok(Self {
            kind,
            format,
            cipher,
            cluster_id: u64::from_le_bytes(array(header, 16)),
            node_id: u64::from_le_bytes(array(header, 24)),
            epoch: u64::from_le_bytes(array(header, 32)),
            key_id: u64::from_le_bytes(array(header, 40)),
        })
    }
}

/// `N` bytes of the header from `at`.
fn array<const N: usize>(header: &[u8; FILE_HEADER_LEN], at: usize) -> [u8; N] {
    let mut part = [0; N];
    part.copy_from_slice(&header[at..at + N]);
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: FileHeader = FileHeader {
        kind: FileKind::LogSegment,
        format: 1,
        cipher: CIPHER_CLEAR,
        cluster_id: 0x0102_0304_0506_0708,
        node_id: 9,
        epoch: 1,
        key_id: 0,
    };

    #[test]
    fn golden_bytes_of_a_header() {
        let bytes = HEADER.to_bytes();
        assert_eq!(&bytes[..16], b"MAINSTAYWAL \x01\x00\x00\x00");
        assert_eq!(bytes[16..24], [8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!(bytes[48..60], [0; 12]);
        assert_eq!(FileHeader::from_bytes(&bytes, FileKind::LogSegment, 1), Ok(HEADER));
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let bytes = HEADER.to_bytes();
        for bit in 0..FILE_HEADER_LEN * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(
                FileHeader::from_bytes(&damaged, FileKind::LogSegment, 1).is_err(),
                "bit {bit} was not noticed"
            );
        }
    }

    #[test]
    fn another_kind_a_newer_format_and_a_short_file_are_named() {
        let bytes = HEADER.to_bytes();
        assert!(matches!(
            FileHeader::from_bytes(&bytes, FileKind::Vote, 1),
            Err(FileHeaderError::Kind { expected: FileKind::Vote, .. })
        ));
        let newer = FileHeader { format: 2, ..HEADER }.to_bytes();
        assert_eq!(
            FileHeader::from_bytes(&newer, FileKind::LogSegment, 1),
            Err(FileHeaderError::NewerFormat { found: 2, newest: 1 })
        );
        assert_eq!(
            FileHeader::from_bytes(&bytes[..10], FileKind::LogSegment, 1),
            Err(FileHeaderError::Short { len: 10 })
        );
    }
}
