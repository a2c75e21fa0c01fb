//! A key and a range's end, as etcd writes ranges.

use bytes::Bytes;
use mainstay_kv::{KeyRange, RangeEnd};

/// The range from `key` to `range_end`: the one key if that is empty, all from the key on if it is
/// a zero byte.
pub(crate) fn key_range(key: Bytes, range_end: Bytes) -> KeyRange {
    let end = match &range_end[..] {
        [] => RangeEnd::Single,
        [0] => RangeEnd::Unbounded,
        _ => RangeEnd::Before(range_end),
    };
    KeyRange { start: key, end }
}

/// The keys that begin with `prefix`.
pub(crate) fn prefix(prefix: &[u8]) -> KeyRange {
    KeyRange::prefix(Bytes::copy_from_slice(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_range_tells_its_kind() {
        let range =
            |end: &'static [u8]| key_range(Bytes::from_static(b"k"), Bytes::from_static(end)).end;
        assert_eq!(range(b""), RangeEnd::Single);
        assert_eq!(range(b"\0"), RangeEnd::Unbounded);
        assert_eq!(range(b"\0\0"), RangeEnd::Before(Bytes::from_static(b"\0\0")));
        // Some clients leave bytes of 255 at the end; it is still where the range ends.
        assert_eq!(range(b"l\xff"), RangeEnd::Before(Bytes::from_static(b"l\xff")));
    }
}
