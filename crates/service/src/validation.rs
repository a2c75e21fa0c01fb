//! What can be told wrong about the keys of a read, a watch or a delete.
//!
//! Writes are checked by `kv` itself ([`mainstay_kv::Command::check`]); a range has no limit
//! there, since asking for a key that cannot exist harms nobody. People who do so by mistake are
//! still better told.

use mainstay_kv::{KeyRange, RangeEnd, Refusal, Settings};

/// Checks a range: a single key like a key that is written, the bounds of a wider one by size
/// alone, because the first of all keys is the empty one.
pub(crate) fn check_range(range: &KeyRange, settings: &Settings) -> Result<(), Refusal> {
    let end = match &range.end {
        RangeEnd::Single if range.start.is_empty() => return Err(Refusal::KeyEmpty),
        RangeEnd::Before(end) => end.len(),
        RangeEnd::Single | RangeEnd::Unbounded => 0,
    };
    let (len, limit) = (range.start.len().max(end) as u64, settings.key_bytes_max);
    if len > limit { Err(Refusal::KeyTooLarge { len, limit }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn single_keys_are_not_empty_and_no_bound_is_too_large() {
        let settings = Settings { key_bytes_max: 3, ..Settings::default() };
        let check = |range: KeyRange| check_range(&range, &settings);
        let too_large = Err(Refusal::KeyTooLarge { len: 4, limit: 3 });
        let start = Bytes::from_static(b"abc");
        assert_eq!(check(KeyRange::key(Bytes::new())), Err(Refusal::KeyEmpty));
        assert_eq!(check(KeyRange::key(start.clone())), Ok(()));
        assert_eq!(check(KeyRange::key(Bytes::from_static(b"abcd"))), too_large);
        assert_eq!(check(KeyRange::all()), Ok(()));
        let end = RangeEnd::Before(Bytes::from_static(b"abcd"));
        assert_eq!(check(KeyRange { start, end }), too_large);
    }
}
