//! Where a listing goes on: an opaque text that holds everything the next page needs.
//!
//! Layout before base64 for URLs: format 1 (u8), revision and count of the whole listing (u64
//! little endian each), length of the last key (u16 little endian), the last key, the prefix.
//! A cursor comes from outside: it is checked like any input.

use base64::Engine as _;
use bytes::Bytes;

use crate::http::query::FOR_URLS;

const FORMAT: u8 = 1;
const HEAD_LEN: usize = 19;

/// Where a listing goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// The revision of all pages.
    pub(crate) revision: u64,
    /// The keys of the whole listing.
    pub(crate) count: u64,
    /// The last key of the page before.
    pub(crate) last_key: Bytes,
    /// The prefix of the listing.
    pub(crate) prefix: Bytes,
}

impl Cursor {
    pub(crate) fn encode(&self) -> String {
        let mut bytes = Vec::with_capacity(HEAD_LEN + self.last_key.len() + self.prefix.len());
        bytes.push(FORMAT);
        bytes.extend(self.revision.to_le_bytes());
        bytes.extend(self.count.to_le_bytes());
        let key_len = u16::try_from(self.last_key.len()).expect("keys have at most 8 KiB");
        bytes.extend(key_len.to_le_bytes());
        bytes.extend(&self.last_key);
        bytes.extend(&self.prefix);
        FOR_URLS.encode(bytes)
    }

    /// Reads a cursor; `None` if it is not one of ours.
    pub(crate) fn decode(bytes: &Bytes) -> Option<Self> {
        let (head, _rest) = bytes.split_first_chunk::<HEAD_LEN>()?;
        let word = |at: usize| head[at..at + 8].try_into().ok().map(u64::from_le_bytes);
        let key_end = HEAD_LEN + usize::from(u16::from_le_bytes([head[17], head[18]]));
        if head[0] != FORMAT || bytes.len() < key_end {
            return None;
        }
        let (last_key, prefix) = (bytes.slice(HEAD_LEN..key_end), bytes.slice(key_end..));
        (word(1)? > 0 && last_key.starts_with(&prefix)).then_some(Self {
            revision: word(1)?,
            count: word(9)?,
            last_key,
            prefix,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_as_it_was_and_its_parts_are_refused() {
        let cursor = Cursor {
            revision: 7,
            count: 9,
            last_key: Bytes::from_static(b"app/\xff"),
            prefix: Bytes::from_static(b"app/"),
        };
        let bytes = Bytes::from(FOR_URLS.decode(cursor.encode()).expect("decodes"));
        assert_eq!(Cursor::decode(&bytes), Some(cursor));
        for end in 0..HEAD_LEN + 5 {
            assert_eq!(Cursor::decode(&bytes.slice(..end)), None, "{end} bytes");
        }
        let mut foreign = bytes.to_vec();
        foreign[0] = 2;
        assert_eq!(Cursor::decode(&Bytes::from(foreign)), None);
    }
}
