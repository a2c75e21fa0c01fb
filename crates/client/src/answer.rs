//! What comes with every answer: where the cluster stood when it was given.

use http::HeaderMap;

/// An answer and the position it was given at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<T> {
    /// What was asked for.
    pub value: T,
    /// Who answered, and where the cluster stood.
    pub header: AnswerHeader,
}

impl<T> Answer<T> {
    pub(crate) fn map<U>(self, change: impl FnOnce(T) -> U) -> Answer<U> {
        Answer { value: change(self.value), header: self.header }
    }
}

/// Who answered, and where the cluster stood. Numbers that the answer did not carry are 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AnswerHeader {
    /// The cluster.
    pub cluster_id: u64,
    /// The member that answered.
    pub member_id: u64,
    /// The epoch of the cluster; a restore starts a new one.
    pub epoch: u64,
    /// The store's revision.
    pub revision: u64,
    /// The term.
    pub term: u64,
    /// How old the answer may be; `None` for a linearizable one.
    pub staleness: Option<Staleness>,
    /// Whether this is the first answer of a repeated write, given again.
    pub repeated: bool,
}

/// How old a stale answer may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Staleness {
    /// At most this many milliseconds.
    Ms(u64),
    /// It cannot be bounded.
    Unknown,
}

impl AnswerHeader {
    pub(crate) fn from_headers(headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let number = |name| text(name).and_then(|text| text.parse().ok()).unwrap_or(0);
        Self {
            cluster_id: number("mainstay-cluster-id"),
            member_id: number("mainstay-member-id"),
            epoch: number("mainstay-epoch"),
            revision: number("mainstay-revision"),
            term: number("mainstay-term"),
            staleness: text("mainstay-staleness-ms")
                .map(|text| text.parse().map_or(Staleness::Unknown, Staleness::Ms)),
            repeated: text("mainstay-repeated") == Some("true"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_tell_the_position() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("mainstay-cluster-id", "18446744073709551615"),
            ("mainstay-revision", "9"),
            ("mainstay-staleness-ms", "12"),
            ("mainstay-repeated", "true"),
        ] {
            headers.insert(name, value.parse().expect("a header"));
        }
        let header = AnswerHeader::from_headers(&headers);
        assert_eq!(header.cluster_id, u64::MAX);
        assert_eq!((header.revision, header.term), (9, 0));
        assert_eq!(header.staleness, Some(Staleness::Ms(12)));
        assert!(header.repeated);
        headers.insert("mainstay-staleness-ms", "unknown".parse().expect("a header"));
        assert_eq!(AnswerHeader::from_headers(&headers).staleness, Some(Staleness::Unknown));
    }
}
