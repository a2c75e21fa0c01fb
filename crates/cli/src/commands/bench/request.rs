//! The requests of a load, as bytes that are ready but for the key.
//!
//! A key has as many digits as the next one, so it is written over the last in place.

use std::io::Write;

use mainstay_world::random_u64;

/// What all keys of a benchmark start with.
pub(super) const PREFIX: &str = "bench/";
/// Digits of a key.
const DIGITS: usize = 8;

/// Random numbers, cheap and good enough to pick keys: SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new() -> Self {
        Self(random_u64())
    }

    pub(super) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub(super) const fn below(&mut self, end: u64) -> u64 {
        // The bias of the remainder is immeasurable for so few keys.
        self.next() % end
    }
}

/// One request as bytes.
#[derive(Debug, Clone)]
pub(super) struct Request {
    bytes: Vec<u8>,
    key_at: usize,
}

impl Request {
    pub(super) fn get(host: &str, is_stale: bool) -> Self {
        let query = if is_stale { "?consistency=stale" } else { "" };
        Self::new("GET", query, host, "", b"")
    }

    pub(super) fn put(host: &str, value: &[u8]) -> Self {
        Self::new("PUT", "", host, &format!("content-length: {}\r\n", value.len()), value)
    }

    /// A put over this revision of a key, or of a key that is not there.
    pub(super) fn put_over(host: &str, revision: Option<u64>, value: &[u8]) -> Self {
        let condition = match revision {
            Some(revision) => format!("if-match: \"{revision}\"\r\n"),
            None => "if-none-match: *\r\n".to_owned(),
        };
        let headers = format!("{condition}content-length: {}\r\n", value.len());
        Self::new("PUT", "", host, &headers, value)
    }

    fn new(method: &str, query: &str, host: &str, headers: &str, body: &[u8]) -> Self {
        let start = format!("{method} /v1/kv/{PREFIX}");
        let key_at = start.len();
        let mut bytes = start.into_bytes();
        let head = format!("{:0DIGITS$}{query} HTTP/1.1\r\nhost: {host}\r\n{headers}\r\n", 0);
        bytes.extend_from_slice(head.as_bytes());
        bytes.extend_from_slice(body);
        Self { bytes, key_at }
    }

    /// The request about this key.
    pub(super) fn about(&mut self, key: u64) -> &[u8] {
        let mut place = &mut self.bytes[self.key_at..self.key_at + DIGITS];
        write!(place, "{key:0DIGITS$}").expect("keys have no more digits than fit");
        &self.bytes
    }
}

/// A key as the store has it.
pub(super) fn key(number: u64) -> String {
    format!("{PREFIX}{number:0DIGITS$}")
}

/// A value of this size, of letters that do not repeat in any way a store could use.
pub(super) fn value(size: usize) -> Vec<u8> {
    let mut random = Random::new();
    (0..size).map(|_| b'a' + u8::try_from(random.below(26)).expect("below 26")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_ready_but_for_its_key() {
        let mut put = Request::put("a:1", b"value");
        let text =
            "PUT /v1/kv/bench/00012345 HTTP/1.1\r\nhost: a:1\r\ncontent-length: 5\r\n\r\nvalue";
        assert_eq!(put.about(12_345), text.as_bytes());
        assert_eq!(put.about(99_999_999), text.replace("00012345", "99999999").as_bytes());
        let mut get = Request::get("a:1", true);
        let text = "GET /v1/kv/bench/00000007?consistency=stale HTTP/1.1\r\nhost: a:1\r\n\r\n";
        assert_eq!(get.about(7), text.as_bytes());
    }

    #[test]
    fn a_conditional_put_names_the_revision_or_its_absence() {
        let over = |revision| {
            let mut request = Request::put_over("a:1", revision, b"");
            String::from_utf8(request.about(1).to_vec()).expect("text")
        };
        assert!(over(Some(7)).contains("\r\nif-match: \"7\"\r\n"));
        assert!(over(None).contains("\r\nif-none-match: *\r\n"));
    }

    #[test]
    fn keys_and_values_are_as_asked_for() {
        assert_eq!(key(7), "bench/00000007");
        assert_eq!(value(300).len(), 300);
        let mut random = Random::new();
        assert!((0..1_000).all(|_| random.below(10) < 10));
    }
}
