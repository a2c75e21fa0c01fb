//! The keys of a source on their way: read by key, written by revision.
//!
//! A source is read in the order of its keys, and a store takes keys in the order of their last
//! change. So everything is put into a file without a name, which goes away with the process, and
//! in memory there are two numbers a key. Nothing is written to the destination before all of it
//! is here, looked at, and known to fit.

use std::{
    fs::File,
    hash::Hasher,
    io::{self, BufWriter, Read, Seek, SeekFrom, Write},
    path::Path,
};

use anyhow::Context;
use bytes::Bytes;
use mainstay_client::KeyValue;
use xxhash_rust::xxh3::Xxh3;

/// Numbers in front of a record: two revisions, version, lease, and the two lengths.
const HEAD_BYTES: usize = 6 * 8;

/// What a key counts for beside its bytes, as in the quota of the store.
pub(super) const KEY_OVERHEAD_BYTES: u64 = 64;

/// A file that is being filled.
pub(super) struct Filling {
    file: BufWriter<File>,
    end: u64,
    places: Vec<Place>,
    fingerprint: Fingerprint,
}

/// A file that is full.
pub(super) struct Spool {
    file: File,
    /// In the order of keys.
    places: Vec<Place>,
    fingerprint: Fingerprint,
}

/// Where a key is, and when it was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) mod_revision: u64,
    /// Ascends by key.
    offset: u64,
}

/// What a row of keys adds up to: the same keys in the same order have the same.
#[derive(Clone, Default)]
pub(super) struct Fingerprint {
    hash: Xxh3,
    keys: u64,
    bytes: u64,
}

impl Filling {
    /// An empty file in `folder`.
    pub(super) fn new(folder: &Path) -> anyhow::Result<Self> {
        let file = tempfile::tempfile_in(folder)
            .with_context(|| format!("make a file in {}", folder.display()))?;
        Ok(Self {
            file: BufWriter::with_capacity(1024 * 1024, file),
            end: 0,
            places: Vec::new(),
            fingerprint: Fingerprint::default(),
        })
    }

    /// Appends the next key.
    pub(super) fn push(&mut self, pair: &KeyValue) -> io::Result<()> {
        self.places.push(Place { mod_revision: pair.mod_revision, offset: self.end });
        self.file.write_all(&head(pair))?;
        self.file.write_all(&pair.key)?;
        self.file.write_all(&pair.value)?;
        self.end += (HEAD_BYTES + pair.key.len() + pair.value.len()) as u64;
        self.fingerprint.add(pair);
        Ok(())
    }

    /// Ends the filling.
    pub(super) fn finish(self) -> anyhow::Result<Spool> {
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error);
        let file = file.context("write the keys that were read")?;
        Ok(Spool { file, places: self.places, fingerprint: self.fingerprint })
    }
}

impl Spool {
    /// What the keys add up to.
    pub(super) const fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// The places of all keys, in their order.
    pub(super) fn by_key(&self) -> &[Place] {
        &self.places
    }

    /// The places of all keys in the order of their last change, and of one change by key.
    pub(super) fn by_revision(&self) -> Vec<Place> {
        let mut places = self.places.clone();
        places.sort_unstable();
        places
    }

    /// Reads a key back.
    pub(super) fn read(&mut self, place: Place) -> anyhow::Result<KeyValue> {
        let mut read = || -> io::Result<KeyValue> {
            self.file.seek(SeekFrom::Start(place.offset))?;
            let mut head = [0; HEAD_BYTES];
            self.file.read_exact(&mut head)?;
            let number = |at: usize| {
                let bytes = head[at * 8..at * 8 + 8].try_into().expect("eight bytes are eight");
                u64::from_le_bytes(bytes)
            };
            let len = |at| usize::try_from(number(at)).map_err(io::Error::other);
            let mut key = vec![0; len(4)?];
            self.file.read_exact(&mut key)?;
            let mut value = vec![0; len(5)?];
            self.file.read_exact(&mut value)?;
            Ok(KeyValue {
                key: Bytes::from(key),
                value: Bytes::from(value),
                create_revision: number(0),
                mod_revision: number(1),
                version: number(2),
                lease: number(3),
            })
        };
        read().context("read back the keys that were read")
    }
}

impl Fingerprint {
    /// Adds the next key.
    pub(super) fn add(&mut self, pair: &KeyValue) {
        self.hash.write(&head(pair));
        self.hash.write(&pair.key);
        self.hash.write(&pair.value);
        self.keys += 1;
        self.bytes += (pair.key.len() + pair.value.len()) as u64;
    }

    /// How many keys there are.
    pub(super) const fn keys(&self) -> u64 {
        self.keys
    }

    /// Bytes of keys and values.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The number that tells rows of keys apart.
    pub(super) fn value(&self) -> u128 {
        self.hash.digest128()
    }
}

fn head(pair: &KeyValue) -> [u8; HEAD_BYTES] {
    let numbers = [
        pair.create_revision,
        pair.mod_revision,
        pair.version,
        pair.lease,
        pair.key.len() as u64,
        pair.value.len() as u64,
    ];
    let mut head = [0; HEAD_BYTES];
    for (at, number) in numbers.into_iter().enumerate() {
        head[at * 8..at * 8 + 8].copy_from_slice(&number.to_le_bytes());
    }
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(key: &'static str, mod_revision: u64) -> KeyValue {
        KeyValue {
            key: Bytes::from_static(key.as_bytes()),
            value: Bytes::from(vec![7; key.len() * 3]),
            create_revision: 2,
            mod_revision,
            version: 3,
            lease: u64::MAX,
        }
    }

    #[test]
    fn keys_come_back_by_revision_and_keys_of_one_revision_by_key() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut filling = Filling::new(folder.path()).expect("a file");
        let pairs = [pair("a", 9), pair("b", 4), pair("c", 9), pair("", 3)];
        pairs.iter().for_each(|pair| filling.push(pair).expect("is written"));
        let mut spool = filling.finish().expect("is whole");
        let places = spool.by_revision();
        let found: Vec<_> = places.iter().map(|at| spool.read(*at).expect("is read")).collect();
        assert_eq!(found, [pair("", 3), pair("b", 4), pair("a", 9), pair("c", 9)]);
        assert_eq!((spool.fingerprint().keys(), spool.fingerprint().bytes()), (4, 12));
    }

    #[test]
    fn a_fingerprint_sees_every_number_every_byte_and_the_order() {
        let of = |pairs: &[KeyValue]| {
            let mut fingerprint = Fingerprint::default();
            pairs.iter().for_each(|pair| fingerprint.add(pair));
            fingerprint.value()
        };
        let base = of(&[pair("a", 9), pair("b", 4)]);
        assert_eq!(base, of(&[pair("a", 9), pair("b", 4)]));
        for other in [
            vec![pair("b", 4), pair("a", 9)],
            vec![pair("a", 9)],
            vec![pair("a", 9), pair("b", 5)],
            vec![pair("a", 9), KeyValue { version: 4, ..pair("b", 4) }],
            vec![pair("a", 9), KeyValue { lease: 0, ..pair("b", 4) }],
            vec![pair("a", 9), KeyValue { create_revision: 1, ..pair("b", 4) }],
            vec![pair("a", 9), KeyValue { value: Bytes::from_static(b"777"), ..pair("b", 4) }],
        ] {
            assert_ne!(base, of(&other), "{other:?}");
        }
    }
}
