//! Random histories: what proptest draws, and how it becomes envelopes.

use bytes::Bytes;
use mainstay_kv::{
    Command, Compare, Delete, ENVELOPE_FORMAT, Envelope, Import, ImportedLease, KeyRange, KeyValue,
    Operand, Operation, Origin, Proposal, Put, RangeEnd, RangeQuery, Relation, Settings, SortOrder,
    SortTarget, Stamp, Txn,
};
use proptest::{collection::vec, option, prelude::*, sample::select};

use crate::world::TERM;

/// One entry, still without what only the history so far can tell.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    what: What,
    elapsed_ms: u64,
    /// The entry is stamped by a leader that is no more.
    stale: bool,
}

#[derive(Debug, Clone)]
enum What {
    New {
        who: Who,
        command: Command,
    },
    /// A proposal of this history once more.
    Again(usize),
    /// So many writes of a few keys that freeing them takes more than one entry.
    Burst(usize),
}

#[derive(Debug, Clone)]
enum Who {
    Nobody,
    /// The session that was opened n-th, if any was.
    Session {
        nth: usize,
        number: u64,
        lowest_awaited: u64,
    },
    Key {
        principal: &'static str,
        key: Bytes,
    },
}

/// Turns steps into envelopes; both stores of a comparison are given the same.
#[derive(Default)]
pub(crate) struct Director {
    time_ms: u64,
    proposals: Vec<Proposal>,
    sessions: Vec<u64>,
}

impl Director {
    /// The envelopes of a step, and the terms of their entries. `sequence` is the number that
    /// the first will get.
    pub(crate) fn entries(&mut self, step: &Step, sequence: u64) -> Vec<(Envelope, u64)> {
        self.time_ms += step.elapsed_ms;
        let proposals = match &step.what {
            What::Again(at) if !self.proposals.is_empty() => {
                vec![self.proposals[at % self.proposals.len()].clone()]
            }
            What::Again(_) => vec![Proposal::unattributed(Command::Tick)],
            What::New { who, command } => vec![self.proposal(who, command)],
            What::Burst(count) => (0..*count).map(burst_put).collect(),
        };
        if proposals[0].command == Command::SessionOpen {
            self.sessions.push(sequence);
        }
        self.proposals.push(proposals[0].clone());
        let term = if step.stale { TERM - 1 } else { TERM };
        let stamp = Stamp { term, time_ms: self.time_ms };
        let envelope = |proposal| Envelope {
            format: ENVELOPE_FORMAT,
            epoch: 1,
            stamp,
            wall_ms: self.time_ms,
            proposal,
        };
        proposals.into_iter().map(|proposal| (envelope(proposal), TERM)).collect()
    }

    fn proposal(&self, who: &Who, command: &Command) -> Proposal {
        let plain = Proposal::unattributed(command.clone());
        match who {
            Who::Nobody => plain,
            Who::Session { nth, number, lowest_awaited } => {
                let session =
                    self.sessions.get(nth % (self.sessions.len() + 1)).copied().unwrap_or(999_999);
                let (number, lowest_awaited) = (*number, *lowest_awaited);
                let origin = Origin::Session { session, number, lowest_awaited };
                Proposal { origin, ..plain }
            }
            Who::Key { principal, key } => Proposal {
                principal: (*principal).to_owned(),
                origin: Origin::Key(key.clone()),
                ..plain
            },
        }
    }
}

fn burst_put(number: usize) -> Proposal {
    let key = Bytes::from(format!("burst{}", number % 9));
    let value = Some(Bytes::from(number.to_string()));
    Proposal::unattributed(Command::Put(Put { key, value, lease: Some(0), want_previous: false }))
}

pub(crate) fn steps(count: usize) -> impl Strategy<Value = Vec<Step>> {
    vec(step(), 1..count)
}

fn step() -> impl Strategy<Value = Step> {
    let what = prop_oneof![
        30 => (who(), command()).prop_map(|(who, command)| What::New { who, command }),
        3 => any::<usize>().prop_map(What::Again),
        1 => (60..200_usize).prop_map(What::Burst),
    ];
    let elapsed_ms = prop_oneof![4 => Just(0), 4 => 1..40_u64, 1 => 100..2_000_u64];
    (what, elapsed_ms, proptest::bool::weighted(0.05)).prop_map(|(what, elapsed_ms, stale)| Step {
        what,
        elapsed_ms,
        stale,
    })
}

fn who() -> impl Strategy<Value = Who> {
    prop_oneof![
        6 => Just(Who::Nobody),
        2 => (0..4_usize, 0..9_u64, 0..5_u64).prop_map(|(nth, number, lowest_awaited)| {
            Who::Session { nth, number, lowest_awaited }
        }),
        1 => (select(vec!["", "ann", "bob"]), select(vec!["", "k1", "k2", "k3"])).prop_map(
            |(principal, key)| Who::Key { principal, key: Bytes::from_static(key.as_bytes()) }
        ),
    ]
}

fn command() -> impl Strategy<Value = Command> {
    let ttl_ms = prop_oneof![5 => 0..300_u64, 1 => Just(u64::MAX)];
    prop_oneof![
        16 => put().prop_map(Command::Put),
        5 => delete().prop_map(Command::Delete),
        10 => txn(2).prop_map(Command::Txn),
        3 => revision().prop_map(|revision| Command::Compact { revision }),
        4 => (1..6_u64, ttl_ms).prop_map(|(id, ttl_ms)| Command::LeaseGrant { id, ttl_ms }),
        1 => (1..6_u64).prop_map(|id| Command::LeaseRevoke { id }),
        2 => vec(1..6_u64, 0..4).prop_map(|ids| Command::LeaseKeepAlive { ids }),
        2 => Just(Command::SessionOpen),
        2 => Just(Command::Tick),
        1 => settings().prop_map(Command::Configure),
        1 => (1..4_u64).prop_map(|format| Command::RaiseFormat { format }),
        1 => import_step().prop_map(Command::Import),
    ]
}

/// A step that was drawn without knowing the store; few are taken.
fn import_step() -> impl Strategy<Value = Import> {
    prop_oneof![
        1 => (0..3_u64).prop_map(|source| Import::Begin { source }),
        2 => vec(key(), 0..3).prop_map(|keys| Import::Forget { keys }),
        2 => (vec(1..6_u64, 0..2), vec((0..6_u64, 0..90_u64), 0..3)).prop_map(
            |(ended, granted)| Import::Leases { ended, granted: imported_leases(granted) }
        ),
        2 => (0..9_u64, 0..12_u64)
            .prop_map(|(after_revision, revision)| Import::End { after_revision, revision }),
    ]
}

fn imported_leases(rows: Vec<(u64, u64)>) -> Vec<ImportedLease> {
    rows.into_iter().map(|(id, ttl_ms)| ImportedLease { id, ttl_ms }).collect()
}

/// A whole import into a store at revision 1, as whoever reads a source makes it, with other
/// commands in between; now and then something in it is wrong.
pub(crate) fn import() -> impl Strategy<Value = Vec<Command>> {
    let lease = prop_oneof![3 => Just(0), 2 => 1..5_u64];
    let pair = (any_key(), value(), lease, 0..3_u64, (0..30_u64, 0..6_u64));
    let steps = vec((vec(pair, 0..4), option::weighted(0.4, command()), vec(key(), 0..2)), 0..8);
    let leases = vec((1..5_u64, 1..300_u64), 0..5);
    (leases, steps, 0..20_u64, proptest::bool::weighted(0.1)).prop_map(
        |(leases, steps, rest, is_lost)| {
            let granted = imported_leases(leases);
            let mut commands = vec![
                Command::RaiseFormat { format: 2 },
                Command::Import(Import::Begin { source: 7 }),
                Command::Import(Import::Leases { ended: vec![], granted }),
            ];
            let mut revision = 1;
            for (rows, between, forgotten) in steps {
                let after_revision = revision;
                let pairs = rows.into_iter().enumerate().map(|(at, row)| {
                    let (key, value, lease, gap, (age, version)) = row;
                    revision += if at == 0 { gap.max(1) } else { gap };
                    let create_revision = revision.saturating_sub(age).max(1);
                    let version = (version + 1).min(revision);
                    KeyValue { key, value, create_revision, mod_revision: revision, version, lease }
                });
                let pairs = pairs.collect();
                commands.push(Command::Import(Import::Pairs { after_revision, pairs }));
                commands.extend(between);
                commands.push(Command::Import(Import::Forget { keys: forgotten }));
            }
            if !is_lost {
                let end = Import::End { after_revision: revision, revision: revision + rest };
                commands.push(Command::Import(end));
            }
            commands
        },
    )
}

fn settings() -> impl Strategy<Value = Settings> {
    let quota_bytes = prop_oneof![Just(1_500_u64), Just(8_000), Just(1_000_000)];
    let read_only = proptest::bool::weighted(0.2);
    let ttls_ms = (50..400_u64, 50..400_u64, 1..60_u64);
    (quota_bytes, ttls_ms, 3..9_u64, read_only).prop_map(
        |(quota_bytes, ttls_ms, operations, read_only)| {
            let (session_ttl_ms, idempotency_ttl_ms, lease_ttl_ms_min) = ttls_ms;
            Settings {
                read_only,
                quota_bytes,
                session_ttl_ms,
                idempotency_ttl_ms,
                lease_ttl_ms_min,
                txn_operations_max: operations,
                key_bytes_max: 40,
                value_bytes_max: 9_000,
                ..Settings::default()
            }
        },
    )
}

/// Few keys, so that they meet: short ones, one longer than what lies inline, none at all, and
/// one that is too long.
fn key() -> impl Strategy<Value = Bytes> {
    const LONG: &[u8] = b"a/long/key/that/has/a/block/of/its/own";
    prop_oneof![
        12 => select(vec!["a", "ab", "b", "ba", "c", "\u{7f}"])
            .prop_map(|key| Bytes::from_static(key.as_bytes())),
        2 => Just(Bytes::from_static(LONG)),
        1 => Just(Bytes::from_static(b"a\0")),
    ]
}

fn any_key() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        30 => key(),
        1 => Just(Bytes::new()),
        1 => Just(Bytes::from(vec![b'x'; 9_000])),
    ]
}

pub(crate) fn key_range() -> impl Strategy<Value = KeyRange> {
    prop_oneof![
        6 => any_key().prop_map(KeyRange::key),
        4 => (key(), key()).prop_map(|(start, end)| {
            KeyRange { start, end: RangeEnd::Before(end) }
        }),
        2 => key().prop_map(KeyRange::prefix),
        1 => key().prop_map(|start| KeyRange { start, end: RangeEnd::Unbounded }),
        1 => Just(KeyRange::all()),
    ]
}

fn value() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        8 => select(vec!["", "x", "y", "z"]).prop_map(|value| Bytes::from_static(value.as_bytes())),
        3 => (20..40_usize).prop_map(|len| Bytes::from(vec![b'v'; len])),
        1 => Just(Bytes::from(vec![b'w'; 5_000])),
    ]
}

fn put() -> impl Strategy<Value = Put> {
    let lease = prop_oneof![5 => Just(Some(0)), 4 => (1..6_u64).prop_map(Some), 1 => Just(None)];
    (any_key(), option::weighted(0.9, value()), lease, any::<bool>())
        .prop_map(|(key, value, lease, want_previous)| Put { key, value, lease, want_previous })
}

fn delete() -> impl Strategy<Value = Delete> {
    (key_range(), any::<bool>()).prop_map(|(range, want_previous)| Delete { range, want_previous })
}

fn txn(depth: u32) -> BoxedStrategy<Txn> {
    (vec(compare(), 0..3), operations(depth), operations(depth))
        .prop_map(|(compares, success, failure)| Txn { compares, success, failure })
        .boxed()
}

fn operations(depth: u32) -> BoxedStrategy<Vec<Operation>> {
    let leaf = prop_oneof![
        2 => query().prop_map(Operation::Range),
        4 => put().prop_map(Operation::Put),
        2 => delete().prop_map(Operation::Delete),
    ];
    if depth == 0 {
        return vec(leaf, 0..3).boxed();
    }
    let operation = prop_oneof![
        7 => leaf,
        1 => txn(depth - 1).prop_map(Operation::Txn),
    ];
    vec(operation, 0..4).boxed()
}

fn compare() -> impl Strategy<Value = Compare> {
    let relation =
        select(vec![Relation::Equal, Relation::Greater, Relation::Less, Relation::NotEqual]);
    let operand = prop_oneof![
        (0..4_i64).prop_map(Operand::Version),
        (-1..30_i64).prop_map(Operand::CreateRevision),
        (-1..30_i64).prop_map(Operand::ModRevision),
        (0..6_i64).prop_map(Operand::Lease),
        value().prop_map(Operand::Value),
    ];
    (key_range(), relation, operand).prop_map(|(range, relation, operand)| Compare {
        range,
        relation,
        operand,
    })
}

pub(crate) fn revision() -> impl Strategy<Value = u64> {
    prop_oneof![3 => Just(0), 4 => 1..60_u64, 2 => 60..400_u64]
}

pub(crate) fn query() -> impl Strategy<Value = RangeQuery> {
    let order = select(vec![SortOrder::None, SortOrder::Ascend, SortOrder::Descend]);
    let target = select(vec![
        SortTarget::Key,
        SortTarget::Version,
        SortTarget::CreateRevision,
        SortTarget::ModRevision,
        SortTarget::Value,
    ]);
    let limit = prop_oneof![2 => Just(0), 3 => 1..5_u64, 1 => Just(u64::MAX)];
    let bound = || prop_oneof![6 => Just(0), 1 => 1..40_u64];
    let flags = (proptest::bool::weighted(0.2), proptest::bool::weighted(0.1));
    let bounds = (bound(), bound(), bound(), bound());
    (key_range(), revision(), limit, order, target, flags, bounds).prop_map(
        |(range, revision, limit, order, target, (keys_only, count_only), bounds)| RangeQuery {
            range,
            revision,
            limit,
            order,
            target,
            keys_only,
            count_only,
            min_mod_revision: bounds.0,
            max_mod_revision: bounds.1,
            min_create_revision: bounds.2,
            max_create_revision: bounds.3,
        },
    )
}
