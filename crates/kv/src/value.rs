//! A value as it lies in memory: 32 bytes, short ones without a block of their own.
//!
//! Long values are shared: reading one takes a reference, never a copy.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The longest value that needs no block of its own.
const INLINE_LEN_MAX: usize = 23;

/// A value.
#[derive(Clone)]
pub(crate) enum Value {
    Inline { len: u8, bytes: [u8; INLINE_LEN_MAX] },
    Shared(Bytes),
}

impl Value {
    /// The value of a deleted key.
    pub(crate) const EMPTY: Self = Self::Inline { len: 0, bytes: [0; INLINE_LEN_MAX] };

    /// Takes a value over. A long one is kept as it is: the caller sees to it that it does not
    /// hold on to a larger buffer.
    pub(crate) fn new(value: Bytes) -> Self {
        Self::inline(&value).unwrap_or(Self::Shared(value))
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Self::Shared(bytes) => bytes,
        }
    }

    /// The bytes for somebody outside; long ones are shared.
    pub(crate) fn to_bytes(&self) -> Bytes {
        match self {
            Self::Inline { .. } => Bytes::copy_from_slice(self.as_slice()),
            Self::Shared(bytes) => bytes.clone(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.as_slice().len()
    }

    fn inline(value: &[u8]) -> Option<Self> {
        let len = u8::try_from(value.len()).ok().filter(|_| value.len() <= INLINE_LEN_MAX)?;
        let mut bytes = [0; INLINE_LEN_MAX];
        bytes[..value.len()].copy_from_slice(value);
        Some(Self::Inline { len, bytes })
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Value {}

impl fmt::Debug for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.as_slice().escape_ascii())
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.as_slice())
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ValueVisitor;

        impl de::Visitor<'_> for ValueVisitor {
            type Value = Value;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("the bytes of a value")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Value, E> {
                Ok(Value::inline(bytes)
                    .unwrap_or_else(|| Value::Shared(Bytes::copy_from_slice(bytes))))
            }

            fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Value, E> {
                Ok(Value::new(Bytes::from(bytes)))
            }
        }

        deserializer.deserialize_byte_buf(ValueVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_takes_32_bytes() {
        assert_eq!(size_of::<Value>(), 32);
    }

    #[test]
    fn values_of_every_length_keep_their_bytes_and_travel() {
        for len in 0..60 {
            let plain = Bytes::from(vec![7; len]);
            let value = Value::new(plain.clone());
            assert_eq!(value.to_bytes(), plain);
            let bytes = mainstay_codec::encode(&value).expect("encodes");
            assert_eq!(bytes, mainstay_codec::encode(&plain).expect("encodes"));
            assert_eq!(mainstay_codec::decode::<Value>(&bytes, 100).expect("decodes"), value);
        }
    }

    #[test]
    fn a_long_value_is_shared_not_copied() {
        let plain = Bytes::from(vec![7; 1_000]);
        let value = Value::new(plain.clone());
        assert_eq!(value.to_bytes().as_ptr(), plain.as_ptr());
    }
}
