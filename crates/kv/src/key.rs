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
        match u8::try_from(key.len()) {
            Ok(len) if key.len() <= INLINE_LEN_MAX => {
                let mut bytes = [0; INLINE_LEN_MAX];
                bytes[..key.len()].copy_from_slice(key);
                Self::Inline { len, bytes }
            }
            _ => Self::Shared(Arc::from(key)),
        }
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
        self.as_slice().cmp(other.as_slice())
    }
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
