//! The store as etcd's database file: which buckets there are, and what stands in them.
//!
//! ```text
//! key      revision u64, '_', place in it u64, 't' of a deletion  ->  mvccpb.KeyValue
//! lease    id u64                                                 ->  leasepb.Lease
//! meta     consistent_index, term, finishedCompactRev, scheduledCompactRev
//! ```
//!
//! Numbers of keys are big endian, so that bbolt's order is that of revisions. The buckets of
//! members, alarms, users and roles are there and empty: a restore names members of its own, and
//! there are no users yet. What etcd writes for its raft (`confState`) a restore writes as well.
//! The rules are those of etcd's `server/storage/schema` and `mvcc/kvstore.go`.
//!
//! A compaction whose memory is not all freed stands as scheduled and not finished, and the etcd
//! that starts from the file carries it out, as after a crash of its own.

use mainstay_bbolt::{FilePlan, FilePlanner, FileWriter, Unplanned};
use mainstay_kv::{HistoryVersion, HistoryWalk};

/// Buckets in front of that of the keys.
const BUCKETS_BEFORE: [&str; 5] = ["alarm", "auth", "authRoles", "authUsers", "cluster"];

/// Buckets between those of the leases and of the meta data.
const BUCKETS_BETWEEN: [&str; 2] = ["members", "members_removed"];

/// Leases that are written at a time.
const LEASES_AT_A_TIME: usize = 1_024;

/// Length of a revision as a key, without the mark of a deletion.
const REVISION_LEN: usize = 17;

/// What is known of the moment beside its versions.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    /// Each with its time to live in milliseconds.
    leases: Vec<(u64, u64)>,
    /// 0 if nothing was compacted.
    compact_revision: u64,
    swept: bool,
    applied_index: u64,
    applied_term: u64,
}

/// Where a file's content goes: a plan, or bytes.
trait Pass {
    fn bucket(&mut self, name: &str);
    fn entry(&mut self, key: &[u8], value: &[u8]);
}

/// The first pass over the versions.
pub(crate) struct DatabasePlanner {
    file: FilePlanner,
    frame: Frame,
}

/// The second one.
pub(crate) struct DatabaseWriter {
    file: FileWriter,
    frame: Frame,
    /// Leases that were written.
    leases: usize,
    scratch: Vec<u8>,
}

impl Frame {
    pub(crate) fn new(moment: &HistoryWalk, applied_index: u64, applied_term: u64) -> Self {
        Self {
            leases: moment.leases().to_vec(),
            compact_revision: moment.compact_revision(),
            swept: moment.is_swept(),
            applied_index,
            applied_term,
        }
    }

    fn before_keys(file: &mut impl Pass) {
        BUCKETS_BEFORE.iter().for_each(|name| file.bucket(name));
        file.bucket("key");
    }

    /// Some leases from one on; how many.
    fn leases(&self, first: usize, file: &mut impl Pass) -> usize {
        if first == 0 {
            file.bucket("lease");
        }
        let some = self.leases[first..].iter().take(LEASES_AT_A_TIME);
        let mut value = Vec::new();
        for (id, ttl_ms) in some.clone() {
            value.clear();
            push_number(&mut value, 1, *id);
            // Whole seconds, as etcd has them. What is left of it is not written down: an etcd
            // that starts gives every lease its whole time, and so it is after a restore.
            push_number(&mut value, 2, ttl_ms.div_ceil(1_000));
            file.entry(&id.to_be_bytes(), &value);
        }
        some.len()
    }

    fn after_leases(&self, file: &mut impl Pass) {
        BUCKETS_BETWEEN.iter().for_each(|name| file.bucket(name));
        file.bucket("meta");
        file.entry(b"consistent_index", &self.applied_index.to_be_bytes());
        let compacted = revision_key(self.compact_revision, 0);
        if self.compact_revision > 0 && self.swept {
            file.entry(b"finishedCompactRev", &compacted);
        }
        if self.compact_revision > 0 {
            file.entry(b"scheduledCompactRev", &compacted);
        }
        file.entry(b"term", &self.applied_term.to_be_bytes());
    }
}

impl Pass for FilePlanner {
    fn bucket(&mut self, name: &str) {
        Self::bucket(self, name);
    }

    fn entry(&mut self, key: &[u8], value: &[u8]) {
        Self::entry(self, key, value.len());
    }
}

impl Pass for FileWriter {
    fn bucket(&mut self, name: &str) {
        Self::bucket(self, name);
    }

    fn entry(&mut self, key: &[u8], value: &[u8]) {
        Self::entry(self, key, value);
    }
}

impl DatabasePlanner {
    pub(crate) fn new(frame: Frame) -> Self {
        let mut file = FilePlanner::new();
        Frame::before_keys(&mut file);
        Self { file, frame }
    }

    /// Takes the next version.
    pub(crate) fn version(&mut self, version: HistoryVersion<'_>) {
        with_key(version, |key| self.file.entry(key, pair_len(version)));
    }

    /// The plan, and what the writer begins with.
    pub(crate) fn finish(mut self) -> (FilePlan, Frame) {
        let mut leases = 0;
        loop {
            match self.frame.leases(leases, &mut self.file) {
                0 => break,
                some => leases += some,
            }
        }
        self.frame.after_leases(&mut self.file);
        (self.file.finish(), self.frame)
    }
}

impl DatabaseWriter {
    pub(crate) fn new(plan: FilePlan, frame: Frame) -> Self {
        let mut file = FileWriter::new(plan);
        Frame::before_keys(&mut file);
        Self { file, frame, leases: 0, scratch: Vec::new() }
    }

    /// Takes the next version.
    pub(crate) fn version(&mut self, version: HistoryVersion<'_>) {
        self.scratch.clear();
        push_pair(&mut self.scratch, version);
        with_key(version, |key| self.file.entry(key, &self.scratch));
    }

    /// Adds some of the leases, behind all versions; whether there were any left.
    pub(crate) fn some_leases(&mut self) -> bool {
        let some = self.frame.leases(self.leases, &mut self.file);
        self.leases += some;
        some > 0
    }

    /// The bytes that are complete since the last time.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        self.file.take()
    }

    /// The last bytes, behind all leases.
    ///
    /// # Errors
    /// The versions were others than those that were planned.
    pub(crate) fn finish(mut self) -> Result<Vec<u8>, Unplanned> {
        self.frame.after_leases(&mut self.file);
        self.file.finish()
    }
}

fn revision_key(revision: u64, place: u64) -> [u8; REVISION_LEN] {
    let mut key = [b'_'; REVISION_LEN];
    key[..8].copy_from_slice(&revision.to_be_bytes());
    key[9..].copy_from_slice(&place.to_be_bytes());
    key
}

fn with_key<T>(version: HistoryVersion<'_>, entry: impl FnOnce(&[u8]) -> T) -> T {
    let mut key = [b't'; REVISION_LEN + 1];
    let revision = revision_key(version.mod_revision, u64::from(version.sub_revision));
    key[..REVISION_LEN].copy_from_slice(&revision);
    entry(if version.is_deletion() { &key } else { &key[..REVISION_LEN] })
}

/// A pair as `mvccpb.KeyValue`; of a deletion the key alone.
fn push_pair(bytes: &mut Vec<u8>, version: HistoryVersion<'_>) {
    push_bytes(bytes, 1, version.key);
    if version.is_deletion() {
        return;
    }
    push_number(bytes, 2, version.create_revision);
    push_number(bytes, 3, version.mod_revision);
    push_number(bytes, 4, version.version);
    push_bytes(bytes, 5, version.value);
    push_number(bytes, 6, version.lease);
}

/// What [`push_pair`] appends, in bytes.
fn pair_len(version: HistoryVersion<'_>) -> usize {
    let key = bytes_len(version.key);
    if version.is_deletion() {
        return key;
    }
    let numbers = [version.create_revision, version.mod_revision, version.version, version.lease];
    let numbers = numbers.map(|number| if number == 0 { 0 } else { 1 + varint_len(number) });
    key + bytes_len(version.value) + numbers.iter().sum::<usize>()
}

/// Appends a field of bytes, unless it has none.
fn push_bytes(bytes: &mut Vec<u8>, field: u8, content: &[u8]) {
    if !content.is_empty() {
        bytes.push(field << 3 | 2);
        push_varint(bytes, content.len() as u64);
        bytes.extend(content);
    }
}

fn bytes_len(content: &[u8]) -> usize {
    if content.is_empty() { 0 } else { 1 + varint_len(content.len() as u64) + content.len() }
}

/// Appends a field of a number, unless it is 0.
fn push_number(bytes: &mut Vec<u8>, field: u8, number: u64) {
    if number != 0 {
        bytes.push(field << 3);
        push_varint(bytes, number);
    }
}

fn push_varint(bytes: &mut Vec<u8>, mut number: u64) {
    loop {
        let [low, ..] = number.to_le_bytes();
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return;
        }
        bytes.push(low | 0x80);
    }
}

const fn varint_len(number: u64) -> usize {
    let bits = u64::BITS - (number | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use mainstay_etcd_protocol::mvccpb;
    use prost::Message as _;

    const PUT: HistoryVersion<'static> = HistoryVersion {
        key: b"key",
        value: b"value",
        mod_revision: 300,
        sub_revision: 2,
        create_revision: 5,
        version: 128,
        lease: u64::MAX,
    };

    #[test]
    fn a_pair_is_the_message_that_a_client_would_get() {
        for number in [0, 1, 127, 128, 300, 1 << 35, u64::MAX] {
            for value in [&b""[..], b"v", &[7; 200]] {
                let version = HistoryVersion { value, lease: number, version: number, ..PUT };
                let message = mvccpb::KeyValue {
                    key: Bytes::from_static(b"key"),
                    create_revision: 5,
                    mod_revision: 300,
                    version: number.cast_signed(),
                    value: Bytes::copy_from_slice(value),
                    lease: number.cast_signed(),
                };
                let mut bytes = Vec::new();
                push_pair(&mut bytes, version);
                assert_eq!(pair_len(version), bytes.len(), "{version:?}");
                if number == 0 {
                    assert_eq!(bytes, b"\x0a\x03key", "a deletion has the key alone");
                } else {
                    assert_eq!(bytes, message.encode_to_vec());
                }
            }
        }
    }

    #[test]
    fn keys_are_revisions_with_a_mark_on_deletions() {
        let deletion = HistoryVersion { version: 0, ..PUT };
        let key = b"\0\0\0\0\0\0\x01\x2c_\0\0\0\0\0\0\0\x02";
        assert_eq!(with_key(PUT, <[u8]>::to_vec), key);
        assert_eq!(with_key(deletion, <[u8]>::to_vec), [&key[..], b"t"].concat());
    }

    #[test]
    fn both_passes_make_the_same_file_and_a_compaction_that_goes_on_is_not_finished() {
        let compactions = [(0, true, false), (9, false, false), (9, true, true)];
        for (compact_revision, swept, finished) in compactions {
            let leases = (1..5_000).map(|id| (id, 60_001)).collect();
            let (applied_index, applied_term) = (7, 3);
            let frame = Frame { leases, compact_revision, swept, applied_index, applied_term };
            let mut planner = DatabasePlanner::new(frame);
            planner.version(PUT);
            let (plan, frame) = planner.finish();
            let mut writer = DatabaseWriter::new(plan, frame);
            writer.version(PUT);
            let mut file = writer.take();
            while writer.some_leases() {
                file.extend(writer.take());
            }
            file.extend(writer.finish().expect("as planned"));
            assert_eq!(file.len() as u64, plan.file_len());
            let has = |text: &[u8]| file.windows(text.len()).any(|found| found == text);
            assert_eq!(has(b"finishedCompactRev"), finished);
            assert_eq!(has(b"scheduledCompactRev"), compact_revision > 0);
            // Lease 2 with 61 seconds.
            assert!(has(b"\0\0\0\0\0\0\0\x02\x08\x02\x10\x3d"));
        }
    }
}
