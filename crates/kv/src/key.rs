//! A key as it lies in memory: 24 bytes, short ones without a block of their own.
//!
//! A store of a million keys holds each key twice, in the index and in its versions. Most keys
//! are short, so they lie inside; long ones share one block between all their holders.

use std::{borrow::Borrow, cmp::Ordering, fmt, sync::Arc};

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The longest key that needs no block of its own.
const INLINE_LEN_MAX: usize = 22;

/// A key; equal and ordered by its bytes.
#[derive(Clone)]
pub(crate) enum Key {
    Inline { len: u8, bytes: [u8; INLINE_LEN_MAX] },
    Shared(Arc<[u8]>),
}

impl Key {
    /// Copies the bytes, so that a key never holds on to the buffer that it was read from.
    pub(crate) fn new(key: &[u8]) -> Self {
        Self::inline(key).unwrap_or_else(|| Self::Shared(Arc::from(key)))
    }

    /// The key, if it needs no block of its own.
    pub(crate) fn inline(key: &[u8]) -> Option<Self> {
        let len = u8::try_from(key.len()).ok()?;
        let mut bytes = [0; INLINE_LEN_MAX];
        bytes.get_mut(..key.len())?.copy_from_slice(key);
        Some(Self::Inline { len, bytes })
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Self::Shared(bytes) => bytes,
        }
    }

    /// The bytes for somebody outside.
    pub(crate) fn to_bytes(&self) -> Bytes {
        Bytes::copy_from_slice(self.as_slice())
    }

    pub(crate) fn len(&self) -> usize {
        self.as_slice().len()
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        self.as_slice()
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            // Most comparisons are these, and two numbers compare faster than two slices. Behind
            // its end a key is zero, so equal numbers leave the choice to the lengths.
            (Self::Inline { len, bytes }, Self::Inline { len: other_len, bytes: other_bytes }) => {
                head(bytes)
                    .cmp(&head(other_bytes))
                    .then_with(|| tail(bytes).cmp(&tail(other_bytes)))
                    .then_with(|| len.cmp(other_len))
            }
            _ => self.as_slice().cmp(other.as_slice()),
        }
    }
}

/// The first 16 bytes as a number that orders as they do.
fn head(bytes: &[u8; INLINE_LEN_MAX]) -> u128 {
    u128::from_be_bytes(*bytes.first_chunk().expect("22 bytes begin with 16"))
}

/// The last 8 bytes as a number that orders as they do.
fn tail(bytes: &[u8; INLINE_LEN_MAX]) -> u64 {
    u64::from_be_bytes(*bytes.last_chunk().expect("22 bytes end with 8"))
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.as_slice().escape_ascii())
    }
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.as_slice())
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;

        impl de::Visitor<'_> for KeyVisitor {
            type Value = Key;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("the bytes of a key")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Key, E> {
                Ok(Key::new(bytes))
            }
        }

        deserializer.deserialize_bytes(KeyVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_takes_24_bytes() {
        assert_eq!(size_of::<Key>(), 24);
    }

    #[test]
    fn short_and_long_keys_keep_their_bytes_and_their_order() {
        let mut keys: Vec<Vec<u8>> = (0..60).map(|len| vec![b'k'; len]).collect();
        keys.extend((0..60).map(|len| [vec![b'a'; len], vec![0xff]].concat()));
        keys.extend((0..60).map(|len| vec![0; len]));
        for left in &keys {
            assert_eq!(Key::new(left).as_slice(), &left[..]);
            for right in &keys {
                assert_eq!(Key::new(left).cmp(&Key::new(right)), left.cmp(right));
                assert_eq!(Key::new(left) == Key::new(right), left == right);
            }
        }
    }

    #[test]
    fn a_key_travels_as_its_bytes() {
        for key in [&b"short"[..], &[7; 100]] {
            let bytes = mainstay_codec::encode(&Key::new(key)).expect("encodes");
            assert_eq!(bytes, mainstay_codec::encode(&Bytes::from(key.to_vec())).expect("encodes"));
            let decoded: Key = mainstay_codec::decode(&bytes, 200).expect("decodes");
            assert_eq!(decoded.as_slice(), key);
        }
    }
}
