//! Every byte that Mainstay stores or sends is made and read here.
//!
//! Three small things live in this crate: [`encode`] and [`decode`], the one place that names
//! bincode; [`checksum`], the one CRC; and [`FileHeader`], the first bytes of every file.
//! Whoever replaces the codec changes this crate and the golden bytes in its tests, nothing else.
//!
//! It knows no file, socket, clock or record: a record's type, its limits and its golden bytes
//! stand beside the code that owns it.
//!
//! Start reading at [`encode`].

mod file_header;
mod record;

pub use file_header::{CIPHER_CLEAR, FILE_HEADER_LEN, FileHeader, FileHeaderError, FileKind};
pub use record::{DecodeError, EncodeError, decode, encode, encode_into, encoded_len};

/// CRC32C (Castagnoli, RFC 3720 appendix B.4) of `bytes`, continuing from `previous`.
///
/// A fresh checksum starts from 0.
#[must_use]
pub fn checksum(previous: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(previous, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_matches_the_published_check_value() {
        assert_eq!(checksum(0, b"123456789"), 0xe306_9283);
    }

    #[test]
    fn checksum_of_two_parts_is_the_checksum_of_the_whole() {
        assert_eq!(checksum(checksum(0, b"1234"), b"56789"), checksum(0, b"123456789"));
    }
}
