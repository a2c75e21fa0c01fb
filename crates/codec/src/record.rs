//! Serde values to bytes and back.
//!
//! The form is bincode 2 with the settings below: little endian, variable-length integers, no
//! field names. Fields are found by position, so a stored type changes only together with the
//! format number that stands in front of it.
//!
//! Decoding takes a limit from its caller: a length that a hostile or broken peer wrote never
//! becomes an allocation of that size, and bytes left over after a value are an error.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use serde::{Serialize, de::DeserializeOwned};

/// The largest value that [`decode`] takes whatever its caller allows: 256 MiB.
const DECODE_LIMIT_MAX: usize = 256 * 1024 * 1024;

const CONFIG: Configuration<LittleEndian, Varint, Limit<DECODE_LIMIT_MAX>> =
    bincode::config::standard().with_limit::<DECODE_LIMIT_MAX>();

/// A value that cannot be written, such as a sequence of unknown length.
///
/// It is a bug of the type's author: the types of this workspace never cause it.
#[derive(Debug, thiserror::Error)]
#[error("cannot encode a {type_name}")]
pub struct EncodeError {
    type_name: &'static str,
    #[source]
    source: bincode::error::EncodeError,
}

/// Bytes that are not a value of the wanted type.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// There are more bytes than the caller allows for this type.
    #[error("{len} bytes where at most {limit} are allowed for a {type_name}")]
    TooLong {
        /// Bytes found.
        len: usize,
        /// Bytes allowed.
        limit: usize,
        /// The Rust type that was wanted.
        type_name: &'static str,
    },
    /// The bytes end early or do not fit the type.
    #[error("cannot decode a {type_name}")]
    Malformed {
        /// The Rust type that was wanted.
        type_name: &'static str,
        /// What bincode says.
        #[source]
        source: bincode::error::DecodeError,
    },
    /// A value was read, and bytes are left.
    #[error("{surplus} bytes after a {type_name}")]
    Surplus {
        /// Bytes left over.
        surplus: usize,
        /// The Rust type that was wanted.
        type_name: &'static str,
    },
}

/// Encodes `value` into a new buffer.
///
/// # Errors
/// [`EncodeError`] for types with sequences of unknown length; the workspace has none.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, EncodeError> {
    let mut bytes = Vec::with_capacity(64);
    encode_into(value, &mut bytes)?;
    Ok(bytes)
}

/// Appends the encoded `value` to `buffer`.
///
/// # Errors
/// As [`encode`]; `buffer` may then end in part of the value.
pub fn encode_into<T: Serialize + ?Sized>(
    value: &T,
    buffer: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    bincode::serde::encode_into_std_write(value, buffer, CONFIG)
        .map(|_written| ())
        .map_err(|source| EncodeError { type_name: std::any::type_name::<T>(), source })
}

/// The length in bytes that [`encode`] gives `value`.
///
/// # Errors
/// As [`encode`].
pub fn encoded_len<T: Serialize + ?Sized>(value: &T) -> Result<usize, EncodeError> {
    let mut count = ByteCount(0);
    bincode::serde::encode_into_std_write(value, &mut count, CONFIG)
        .map(|_written| count.0)
        .map_err(|source| EncodeError { type_name: std::any::type_name::<T>(), source })
}

/// Decodes a value that fills `bytes` exactly.
///
/// `limit` is the largest length, in bytes, that the caller accepts for this type.
///
/// # Errors
/// [`DecodeError`]; never a panic, whatever the bytes are.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], limit: usize) -> Result<T, DecodeError> {
    let type_name = std::any::type_name::<T>();
    if bytes.len() > limit.min(DECODE_LIMIT_MAX) {
        return Err(DecodeError::TooLong { len: bytes.len(), limit, type_name });
    }
    let (value, used) = bincode::serde::decode_from_slice(bytes, CONFIG)
        .map_err(|source| DecodeError::Malformed { type_name, source })?;
    if used != bytes.len() {
        return Err(DecodeError::Surplus { surplus: bytes.len() - used, type_name });
    }
    Ok(value)
}

/// Counts bytes instead of keeping them.
struct ByteCount(usize);

impl std::io::Write for ByteCount {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Shape {
        Empty,
        Pair { small: u8, large: u64 },
        Blob(Bytes),
    }

    #[test]
    fn golden_bytes_of_every_kind_of_field() {
        let cases: [(Shape, &[u8]); 4] = [
            (Shape::Empty, &[0]),
            (Shape::Pair { small: 7, large: 250 }, &[1, 7, 250]),
            (Shape::Pair { small: 7, large: 65_536 }, &[1, 7, 252, 0, 0, 1, 0]),
            (Shape::Blob(Bytes::from_static(b"abc")), &[2, 3, b'a', b'b', b'c']),
        ];
        for (value, golden) in cases {
            assert_eq!(encode(&value).expect("encodes"), golden, "{value:?}");
            assert_eq!(decode::<Shape>(golden, 64).expect("decodes"), value);
            assert_eq!(encoded_len(&value).expect("counts"), golden.len());
        }
    }

    #[test]
    fn a_length_larger_than_the_input_is_refused_without_an_allocation() {
        let bytes = [2, 253, 0, 0, 0, 0, 0, 0, 0, 16];
        assert!(matches!(decode::<Shape>(&bytes, 64), Err(DecodeError::Malformed { .. })));
    }

    #[test]
    fn every_prefix_of_a_value_is_refused() {
        let whole = encode(&Shape::Blob(Bytes::from_static(b"abcdef"))).expect("encodes");
        for end in 0..whole.len() {
            assert!(decode::<Shape>(&whole[..end], 64).is_err(), "prefix of {end} bytes");
        }
    }

    #[test]
    fn surplus_bytes_and_oversized_input_are_refused() {
        assert!(matches!(
            decode::<Shape>(&[0, 0], 64),
            Err(DecodeError::Surplus { surplus: 1, .. })
        ));
        assert!(matches!(decode::<Shape>(&[0; 65], 64), Err(DecodeError::TooLong { .. })));
    }
}
