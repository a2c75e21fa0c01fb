//! Golden bytes: what is in logs and snapshots out there has to stay readable.

use bytes::Bytes;
use mainstay_kv::{
    Command, Compare, Delete, Import, ImportedLease, KeyRange, KeyValue, Operand, Operation,
    Origin, Proposal, Put, RangeEnd, RangeQuery, Relation, Settings, SortOrder, SortTarget, Store,
    StoreRestore, Txn,
};

use crate::world::{World, bytes, put, put_leased};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn commands() -> Vec<(Command, &'static str)> {
    let query = RangeQuery {
        range: KeyRange { start: bytes("s"), end: RangeEnd::Unbounded },
        revision: 1,
        limit: 2,
        order: SortOrder::Descend,
        target: SortTarget::Value,
        keys_only: true,
        count_only: false,
        min_mod_revision: 3,
        max_mod_revision: 4,
        min_create_revision: 5,
        max_create_revision: 6,
    };
    let range = KeyRange { start: bytes("a"), end: RangeEnd::Before(bytes("b")) };
    let compare =
        |relation, operand| Compare { range: KeyRange::key(bytes("k")), relation, operand };
    let put = Put { key: bytes("k"), value: Some(bytes("v")), lease: Some(7), want_previous: true };
    let delete = Delete { range, want_previous: true };
    let nested = Txn { compares: vec![], success: vec![], failure: vec![] };
    vec![
        (Command::Tick, "00"),
        (Command::Put(put.clone()), "01016b010176010701"),
        (
            Command::Put(Put { key: bytes("k"), value: None, lease: None, want_previous: false }),
            "01016b000000",
        ),
        (Command::Delete(delete.clone()), "02016101016201"),
        (
            Command::Txn(Txn {
                compares: vec![
                    compare(Relation::Equal, Operand::Version(1)),
                    compare(Relation::Greater, Operand::CreateRevision(2)),
                    compare(Relation::Less, Operand::ModRevision(-3)),
                    compare(Relation::NotEqual, Operand::Value(bytes("v"))),
                    compare(Relation::Equal, Operand::Lease(4)),
                ],
                success: vec![Operation::Range(query), Operation::Put(put)],
                failure: vec![Operation::Delete(delete), Operation::Txn(nested)],
            }),
            "0305016b00000002016b00010104016b00020205016b0003030176016b0000040802000173020102020401000304050601016b010176010701020201610101620103000000",
        ),
        (Command::Compact { revision: 300 }, "04fb2c01"),
        (Command::LeaseGrant { id: 1, ttl_ms: 60_000 }, "0501fb60ea"),
        (Command::LeaseRevoke { id: 1 }, "0601"),
        (Command::LeaseKeepAlive { ids: vec![1, 2] }, "07020102"),
        (Command::SessionOpen, "08"),
        (
            Command::Configure(Settings::default()),
            "0901fd000000000200000050fb0020fc0000180080fbe803fcc0270900fce09304000a3296fb2c01000001fb1027fcc027090000",
        ),
        (
            Command::Replicated {
                source_epoch: 1,
                source_sequence: 2,
                source_revision: 3,
                envelope: Bytes::from_static(b"e"),
            },
            "0a0102030165",
        ),
        (Command::RaiseFormat { format: 2 }, "0b02"),
        (Command::Import(Import::Begin { source: 7 }), "0c0007"),
        (Command::Import(Import::Forget { keys: vec![bytes("k")] }), "0c0101016b"),
        (
            Command::Import(Import::Leases {
                ended: vec![5],
                granted: vec![ImportedLease { id: 1, ttl_ms: 60_000 }],
            }),
            "0c0201050101fb60ea",
        ),
        (
            Command::Import(Import::Pairs {
                after_revision: 2,
                pairs: vec![KeyValue {
                    key: bytes("k"),
                    value: bytes("v"),
                    create_revision: 3,
                    mod_revision: 4,
                    version: 2,
                    lease: 1,
                }],
            }),
            "0c030201016b017603040201",
        ),
        (Command::Import(Import::End { after_revision: 4, revision: 9 }), "0c040409"),
    ]
}

#[test]
fn golden_bytes_of_every_command() {
    for (command, golden) in commands() {
        let encoded = mainstay_codec::encode(&command).expect("encodes");
        assert_eq!(hex(&encoded), golden, "{command:?}");
        let decoded: Command = mainstay_codec::decode(&encoded, 1_000).expect("decodes");
        assert_eq!(decoded, command);
    }
}

#[test]
fn golden_bytes_of_every_origin() {
    let session = Origin::Session { session: 300, number: 2, lowest_awaited: 1 };
    for (origin, golden) in [
        (Origin::Unnumbered, "0000000000000000000000000000000000000000"),
        (session, "000001fb2c0102010000000000000000000000000000000000"),
        (Origin::Key(bytes("key")), "000002036b65790000000000000000000000000000000000"),
    ] {
        let proposal = Proposal { origin, ..Proposal::unattributed(Command::Tick) };
        let encoded = proposal.to_bytes().expect("encodes");
        assert_eq!(hex(&encoded), golden, "{proposal:?}");
        assert_eq!(mainstay_codec::decode::<Proposal>(&encoded, 100).expect("decodes"), proposal);
    }
}

/// A store with a row of every kind.
fn small_store() -> Store {
    let mut world = World::new();
    world.time_ms = 5;
    world.done(Command::LeaseGrant { id: 3, ttl_ms: 60_000 });
    let session = world.open_session();
    world.apply(Origin::Session { session, number: 1, lowest_awaited: 1 }, put("k", "1"));
    world.apply(Origin::Key(bytes("key")), put_leased("k", "a value that is not kept inline", 3));
    world.delete("k");
    world.compact(3);
    world.store
}

#[test]
fn golden_bytes_of_a_snapshot() {
    let golden = [
        "89b202cc00000000004d00000001060403010000050501fd000000000200000050fb0020fc0000180080fbe803fcc0270900fce09304000a3296fb2c01000001fb1027fcc027090000fe82920f18f9c9904c8e5a4787aa364cf4",
        "93bd63c101000000010700000003fb60eafb65ea",
        "8ebad283020000000203000000020501",
        "c8ca4a2503000000031a0000000201fe29bac90fb93881c9567a006525aaf94403020000010100",
        "83b0bb3a0400000004250000000b00000000000000006b657905fea292c6f7f2a6de1f63156d2ef2f17e1704030000010000",
        "1dcd5683050000000509000000016b0131020002010027000000016b1f612076616c75652074686174206973206e6f74206b65707420696e6c696e65030002020308000000016b000400000000",
        "35f0b4f30600000006",
    ];
    let mut store = small_store();
    let chunks = crate::snapshots::chunks(&mut store, 1_000);
    let found: Vec<String> = chunks.iter().map(|chunk| hex(chunk)).collect();
    assert_eq!(found, golden);
    let mut restore = StoreRestore::new();
    for chunk in golden {
        let byte = |at: usize| u8::from_str_radix(&chunk[at..at + 2], 16).expect("hex");
        let chunk: Vec<u8> = (0..chunk.len()).step_by(2).map(byte).collect();
        restore.push(&chunk).expect("a chunk of this format");
    }
    assert_eq!(restore.finish().expect("whole").hash(), store.hash());
}

#[test]
fn the_hash_of_a_state_stays_the_same_across_versions() {
    // Replicas of different versions compare their hashes during an upgrade.
    assert_eq!(format!("{:032x}", Store::new().hash()), "c48168a381f772ae6a72ddc3de210d2b");
    assert_eq!(format!("{:032x}", small_store().hash()), "f44c36aa87475a8e4c90c9f9180f9282");
}
