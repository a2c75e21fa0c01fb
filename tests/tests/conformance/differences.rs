//! Where answers differ from etcd's on purpose: the one list, held against the document.

use std::fs;

use crate::side::Version;

/// A difference that is wanted.
#[derive(Debug)]
pub(crate) struct Difference {
    /// The case that shows it.
    pub(crate) case: &'static str,
    /// What etcd says there.
    pub(crate) etcd: &'static str,
    /// What stands at its place here.
    pub(crate) ours: &'static str,
    /// The first version of etcd that says it.
    pub(crate) since: Option<Version>,
    /// The first version of etcd that does not say it any more.
    pub(crate) before: Option<Version>,
    /// How `docs/etcd-compatibility.md` puts it.
    pub(crate) documented: &'static str,
}

impl Difference {
    /// Whether a version of etcd has it.
    pub(crate) fn is_of(&self, version: Version) -> bool {
        self.since.is_none_or(|since| version >= since)
            && self.before.is_none_or(|before| version < before)
    }
}

/// All of them.
pub(crate) const DIFFERENCES: &[Difference] = &[
    before(3, 5, "leases-over-json", "= 412 ", "= 400 ", "was HTTP status 412"),
    before(3, 5, "members-over-json", "= 412 ", "= 400 ", "was HTTP status 412"),
    before(
        3,
        5,
        "alarms",
        "=",
        "= header{cluster_id:1,member_id:1,revision:1000,raft_term:1}",
        "etcd 3.4 gives no header",
    ),
    before(
        3,
        6,
        "what-is-not-there",
        "= 404 Not Found",
        r#"= 404 {"code":5,"message":"Not Found"}"#,
        "was answered in plain text",
    ),
    before(
        3,
        6,
        "what-is-not-there",
        "= 405 Method Not Allowed",
        r#"= 501 {"code":12,"message":"Method Not Allowed"}"#,
        "was answered in plain text",
    ),
    before(
        3,
        5,
        "a-name-that-no-enum-has",
        r#"= 400 {"code":3,"message":"unknown value \"SIDEWAYS\" for enum etcdserverpb.RangeRequest_SortOrder"}"#,
        r#"= 200 {"header":{"cluster_id":"there","member_id":"there","raft_term":"there","revision":"1000"}}"#,
        "an unknown name of an enum was refused",
    ),
    between(
        (3, 5),
        (3, 6),
        "a-name-that-no-enum-has",
        r#"= 400 {"code":3,"message":"unknown value \"\\\"SIDEWAYS\\\"\" for enum etcdserverpb.RangeRequest.SortOrder"}"#,
        r#"= 200 {"header":{"cluster_id":"there","member_id":"there","raft_term":"there","revision":"1000"}}"#,
        "an unknown name of an enum was refused",
    ),
    before(
        3,
        6,
        "members-over-json",
        r#""dbSizeInUse":"there","header""#,
        r#""dbSizeInUse":"there","dbSizeQuota":"there","downgradeInfo":{},"header""#,
        "`Status`: all fields",
    ),
    before(
        3,
        6,
        "status",
        "dbSizeInUse:1",
        r#"dbSizeInUse:1,storageVersion:"there",dbSizeQuota:1,downgradeInfo{}"#,
        "`Status`: all fields",
    ),
    before(
        3,
        6,
        "hashes",
        "revision:1001,raft_term:1},hash:1,compact_revision:1000",
        "revision:1001,raft_term:1},hash:1,compact_revision:1000,hash_revision:1001",
        "`hash_revision` is new in 3.6",
    ),
    before(
        3,
        6,
        "hashes",
        "compact_revision:1002",
        "compact_revision:1002,hash_revision:1002",
        "`hash_revision` is new in 3.6",
    ),
    before(
        3,
        5,
        "downgrades",
        "! Unimplemented unknown method Downgrade for service etcdserverpb.Maintenance",
        "! FailedPrecondition etcdserver: no inflight downgrade job",
        "refused in etcd's words (3.5 and later)",
    ),
    before(
        3,
        6,
        "members-over-json",
        r#""raftTerm":"there","version""#,
        r#""raftTerm":"there","storageVersion":"there","version""#,
        "`Status`: all fields",
    ),
    always(
        "leases-over-json",
        r#"[{"ID":"8"},{"ID":"7"}]"#,
        r#"[{"ID":"7"},{"ID":"8"}]"#,
        "in the order of ids, where etcd has the order of expiry",
    ),
    always(
        "bodies-that-are-no-json",
        "unexpected EOF",
        "EOF while parsing a value at line 1 column 7",
        "the text is our own",
    ),
    always(
        "bodies-that-are-no-json",
        "json: cannot unmarshal array into Go value of type map[string]json.RawMessage",
        "invalid type: sequence, expected a map at line 1 column 0",
        "the text is our own",
    ),
    always(
        "bodies-that-are-no-json",
        "illegal base64 data at input byte 3",
        "invalid base64: Invalid symbol 32, offset 3. at line 1 column 20",
        "the text is our own",
    ),
    always(
        "bodies-that-are-no-json",
        "json: cannot unmarshal number into Go value of type []uint8",
        "invalid type: integer `7`, expected a base64-encoded string at line 1 column 8",
        "the text is our own",
    ),
    always(
        "queues-that-are-refused",
        "! Unknown etcdserver: requested lease not found",
        "! NotFound etcdserver: requested lease not found",
        "a refusal has its own code",
    ),
    always(
        "queues-that-are-refused",
        "! Unknown etcdserver: key is not provided",
        "! InvalidArgument etcdserver: key is not provided",
        "a refusal has its own code",
    ),
    always(
        "a-time-to-live-that-is-too-short",
        "TTL:2",
        "TTL:1",
        "the shortest time is `lease_ttl_ms_min` (1 s)",
    ),
    always(
        "a-key-put-in-one-nested-transaction-and-deleted-in-a-later-one",
        "= header{cluster_id:1,member_id:1,revision:1001,raft_term:1},succeeded:true,responses:[{response_txn{header{},succeeded:true,responses:[{response_put{header{revision:1001}}}]}},{response_txn{header{},succeeded:true,responses:[{response_delete_range{header{revision:1001},deleted:1}}]}}]",
        "! InvalidArgument etcdserver: duplicate key given in txn request",
        "a key that is put in one nested transaction and deleted in a later one",
    ),
    always(
        "a-key-put-beside-a-delete-without-an-end",
        "= header{cluster_id:1,member_id:1,revision:1001,raft_term:1},succeeded:true,responses:[{response_delete_range{header{revision:1000}}},{response_put{header{revision:1001}}}]",
        "! InvalidArgument etcdserver: duplicate key given in txn request",
        "beside a delete of everything from a lower key on",
    ),
];

/// A difference from versions before one.
const fn before(
    major: u32,
    minor: u32,
    case: &'static str,
    etcd: &'static str,
    ours: &'static str,
    documented: &'static str,
) -> Difference {
    let before = Some(Version(major, minor, 0));
    Difference { case, etcd, ours, since: None, before, documented }
}

/// A difference from the versions between two, the second of them left out.
const fn between(
    since: (u32, u32),
    before: (u32, u32),
    case: &'static str,
    etcd: &'static str,
    ours: &'static str,
    documented: &'static str,
) -> Difference {
    let (since, before) =
        (Some(Version(since.0, since.1, 0)), Some(Version(before.0, before.1, 0)));
    Difference { case, etcd, ours, since, before, documented }
}

/// A difference from all versions so far.
const fn always(
    case: &'static str,
    etcd: &'static str,
    ours: &'static str,
    documented: &'static str,
) -> Difference {
    Difference { case, etcd, ours, since: None, before: None, documented }
}

/// The document that users read.
const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/etcd-compatibility.md");

/// Rows of the document that name a difference which no case here can show, and why.
const NOT_COMPARED: &[(&str, &str)] = &[
    ("| learners |", "etcd is one node here"),
    ("| sizes |", "held by the tests of the node"),
    ("| compression |", "the client of the cases does not compress"),
    ("| a message that does not arrive |", "held by the tests of the API"),
    ("| a head of a request |", "held by the tests of the node"),
    ("| calls at a time |", "so many are not made here"),
    ("| connections |", "so many are not made here"),
    ("| pings of a client |", "held by the tests of the node"),
    ("| pings of the node |", "no case lasts that long"),
    ("| an operator made", "etcd has no such thing"),
    ("| several errors in one request |", "the random histories allow for it"),
    ("| `Compact`: `revision` |", "every case begins compacted"),
    ("| `Compact`: `physical` |", "when memory is freed shows in no answer"),
    ("| `progress_request` |", "an answer that etcd never gives cannot be waited for"),
    ("| `cancel_reason` |", "nothing is stopped here"),
    ("| watchers |", "so many are not made here"),
    ("| a change of leader |", "etcd is one node here"),
    ("| `MemberAdd`", "members come and go in the tests of the cluster"),
    ("| `MemberRemove` |", "members come and go in the tests of the cluster"),
    ("| `MemberUpdate`", "members come and go in the tests of the cluster"),
    ("| `Alarm`: `DEACTIVATE` |", "no store is full here"),
    ("| `Alarm`: `ACTIVATE` |", "an etcd that was told so takes no more writes"),
    ("| `Snapshot` |", "held by the tests of snapshots and of the node"),
    ("| `UserAdd`, `RoleAdd` |", "a case that is only here shows it"),
    ("| a stream whose first document", "no case sends such a one"),
    ("| WebSocket |", "what is not there has no answer"),
    ("| CORS headers", "what is not there has no answer"),
    ("| `/health` |", "held by the tests of the node"),
    ("| `/livez`, `/readyz` |", "held by the tests of the node"),
    ("| `/livez/serializable_read`", "held by the tests of the node"),
];

/// Holds the list against the document, and the document against the lists.
///
/// # Panics
/// If the document does not say one of them, or names a difference that is in none.
pub(crate) fn stand_in_the_document() {
    let text = fs::read_to_string(DOCUMENT).expect("the document is there");
    let rows: Vec<_> = text.lines().filter(|line| line.starts_with('|')).collect();
    for known in DIFFERENCES {
        assert!(
            rows.iter().any(|row| row.contains(known.documented)),
            "docs/etcd-compatibility.md does not say {:?}, as case {} shows",
            known.documented,
            known.case
        );
    }
    for row in rows.iter().filter(|row| names_a_difference(row)) {
        assert!(
            DIFFERENCES.iter().any(|known| row.contains(known.documented))
                || NOT_COMPARED.iter().any(|(start, _why)| row.starts_with(start)),
            "no case shows what docs/etcd-compatibility.md says: {row}"
        );
    }
    for (start, why) in NOT_COMPARED {
        assert!(
            rows.iter().any(|row| row.starts_with(start) && names_a_difference(row)),
            "docs/etcd-compatibility.md names no difference in {start:?}, not compared because {why}"
        );
    }
}

fn names_a_difference(row: &str) -> bool {
    ["**different**", "**Different**", "**absent**"].iter().any(|mark| row.contains(mark))
}
