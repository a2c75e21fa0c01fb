//! What a cluster was asked to write, what it promised, and whether it kept the promise.
//!
//! Keys come in two kinds. Most are written once, so that what a refused or unanswered write left
//! behind can be told exactly. Each client also overwrites one key of its own; of that one every
//! acknowledged version must still be found at its revision.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use serde_json::{Value, json};

use crate::{base64, client::Client, from_base64};

/// Reads in one transaction; the API takes 128 operations.
const READS: usize = 128;

/// One write as its client saw it.
#[derive(Debug, Clone)]
pub struct Write {
    /// Which of the logical clients wrote; each has one write at a time.
    pub client: usize,
    /// The key.
    pub key: String,
    /// The value.
    pub value: String,
    /// Whether the key is written more than once.
    pub overwrites: bool,
    /// When it was sent.
    pub started: Instant,
    /// When its outcome was known, or known to be unknown.
    pub ended: Instant,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was acknowledged: promised for ever.
    Acknowledged {
        /// Its revision.
        revision: u64,
    },
    /// It was answered that nothing was changed.
    Refused,
    /// Nobody knows.
    Unknown,
}

/// All writes of one load.
#[derive(Debug)]
pub struct Ledger {
    /// What all its keys start with.
    pub prefix: String,
    /// The writes, those of one client in their order.
    pub writes: Vec<Write>,
}

/// A pair as a page holds it.
struct Found {
    value: String,
    mod_revision: u64,
    version: u64,
}

impl Ledger {
    /// How many writes were acknowledged.
    #[must_use]
    pub fn acknowledged(&self) -> usize {
        self.revisions().count()
    }

    /// How many writes had an unknown outcome.
    #[must_use]
    pub fn unknown(&self) -> usize {
        self.writes.iter().filter(|write| write.outcome == Outcome::Unknown).count()
    }

    /// The highest revision that was acknowledged; 0 without any.
    #[must_use]
    pub fn last_revision(&self) -> u64 {
        self.revisions().map(|(_write, revision)| revision).max().unwrap_or(0)
    }

    /// The acknowledged writes with their revisions.
    pub fn revisions(&self) -> impl Iterator<Item = (&Write, u64)> {
        self.writes.iter().filter_map(|write| match write.outcome {
            Outcome::Acknowledged { revision } => Some((write, revision)),
            Outcome::Refused | Outcome::Unknown => None,
        })
    }

    /// Holds the ledger against what the node of `client` reads linearizably: every acknowledged
    /// write is there as it was acknowledged, nothing is there that was refused or never asked
    /// for, and revisions are unique and grow with time.
    ///
    /// # Panics
    /// With what is wrong.
    pub async fn assert_kept_by(&self, client: &Client) {
        self.assert_revisions_grow_with_time();
        let pairs = client.pairs(&self.prefix).await;
        let found: BTreeMap<String, Found> = pairs.iter().map(read_pair).collect();
        self.assert_pairs(&found, client.url());
        self.assert_old_versions(client).await;
    }

    /// As [`Self::assert_kept_by`] where the past was compacted: the newest version of every key
    /// that was acknowledged is there, or a later one.
    ///
    /// # Panics
    /// With the writes that are wrong.
    pub async fn assert_newest_kept_by(&self, client: &Client) {
        let found: BTreeMap<_, _> =
            client.pairs(&self.prefix).await.iter().map(read_pair).collect();
        self.assert_pairs(&found, client.url());
        for (write, revision) in self.revisions().filter(|(write, _)| write.overwrites) {
            let newest = found.get(&write.key).map_or(0, |pair| pair.mod_revision);
            assert!(newest >= revision, "{write:?} is lost at {}: {newest}", client.url());
        }
    }

    /// A revision belongs to one write, and a write that began after another was acknowledged has
    /// the higher one.
    ///
    /// # Panics
    /// With the two writes.
    pub fn assert_revisions_grow_with_time(&self) {
        let mut owners = BTreeMap::new();
        for (write, revision) in self.revisions() {
            if let Some(other) = owners.insert(revision, write) {
                panic!("revision {revision} was given to two writes: {other:?} and {write:?}");
            }
        }
        let mut by_end: Vec<_> = self.revisions().collect();
        let mut by_start = by_end.clone();
        by_end.sort_by_key(|(write, _revision)| write.ended);
        by_start.sort_by_key(|(write, _revision)| write.started);
        let mut ended = by_end.into_iter().peekable();
        let mut highest: Option<(&Write, u64)> = None;
        for (write, revision) in by_start {
            while let Some(earlier) = ended.next_if(|(earlier, _)| earlier.ended < write.started) {
                if highest.is_none_or(|(_, highest)| earlier.1 > highest) {
                    highest = Some(earlier);
                }
            }
            if let Some((earlier, highest)) = highest {
                assert!(highest < revision, "time went back: {earlier:?}, then {write:?}");
            }
        }
    }

    fn assert_pairs(&self, found: &BTreeMap<String, Found>, at: &str) {
        let mut expected = BTreeSet::new();
        let mut lost = Vec::new();
        for write in self.writes.iter().filter(|write| !write.overwrites) {
            let pair = found.get(&write.key);
            let is_right = match (&write.outcome, pair) {
                (Outcome::Acknowledged { revision }, Some(pair)) => {
                    pair.is(&write.value) && pair.mod_revision == *revision
                }
                (Outcome::Unknown, Some(pair)) => pair.is(&write.value),
                (Outcome::Acknowledged { .. }, None) | (Outcome::Refused, Some(_)) => false,
                (Outcome::Refused | Outcome::Unknown, None) => true,
            };
            if !is_right {
                let mod_revision = pair.map(|pair| pair.mod_revision);
                lost.push(format!("{write:?} is at {mod_revision:?}"));
            }
            expected.insert(write.key.as_str());
        }
        assert!(lost.is_empty(), "{} writes are wrong at {at}, first: {}", lost.len(), lost[0]);
        let overwritten = self.writes.iter().filter(|write| write.overwrites);
        expected.extend(overwritten.map(|write| write.key.as_str()));
        for key in found.keys() {
            assert!(expected.contains(key.as_str()), "nobody has written {key}, found at {at}");
        }
    }

    /// Every acknowledged version of the overwritten keys, read at its revision.
    async fn assert_old_versions(&self, client: &Client) {
        let versions: Vec<_> =
            self.revisions().filter(|(write, _revision)| write.overwrites).collect();
        for some in versions.chunks(READS) {
            let read = |(write, revision): &(&Write, u64)| json!({"range": {"key": base64(&write.key), "revision": revision.to_string()}});
            let reads: Vec<Value> = some.iter().map(read).collect();
            let answer = client.post("/v1/txn", &json!({ "success": reads })).answer().await;
            let document = answer.expect_status(200).json();
            for (at, (write, revision)) in some.iter().enumerate() {
                let pair = &document["operations"][at]["range"]["pairs"][0];
                assert!(pair.is_object(), "{write:?} is not there at revision {revision}: {pair}");
                let (_key, found) = read_pair(pair);
                assert_eq!(
                    (&found.value, found.mod_revision),
                    (&write.value, *revision),
                    "{write:?} at {}",
                    client.url()
                );
            }
        }
    }
}

impl Found {
    /// Whether it is this value, written once.
    fn is(&self, value: &str) -> bool {
        self.value == value && self.version == 1
    }
}

fn read_pair(pair: &Value) -> (String, Found) {
    let text = |name: &str| pair[name].as_str().unwrap_or_else(|| panic!("no {name}: {pair}"));
    let number = |name: &str| text(name).parse().expect("a decimal string");
    let bytes = |name: &str| String::from_utf8_lossy(&from_base64(text(name))).into_owned();
    let (value, mod_revision) = (bytes("value"), number("mod_revision"));
    (bytes("key"), Found { value, mod_revision, version: number("version") })
}
