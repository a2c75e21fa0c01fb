//! Reading, writing, deleting, compacting.

use mainstay_etcd_protocol::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest,
    range_request::{SortOrder, SortTarget},
};
use tonic::Code;

use super::{Api, bytes, delete, from, get, put, refused, says};
use crate::harness::with_node;

#[test]
fn a_key_is_written_read_at_any_revision_and_deleted() {
    with_node(async |node| {
        let mut api = Api::of(&node);
        assert_eq!(api.put("a", "1").await, 2);
        let request = PutRequest { prev_kv: true, ..put("a", "2") };
        let response = api.kv.put(request).await.expect("is written").into_inner();
        let header = response.header.expect("has a header");
        assert_eq!(header.revision, 3);
        assert!(header.cluster_id != 0 && header.member_id != 0 && header.raft_term > 0);
        assert_eq!(response.prev_kv.expect("was there").value, "1");

        let read = api.kv.range(get("a")).await.expect("is read").into_inner();
        let [pair] = &read.kvs[..] else { panic!("{read:?}") };
        assert_eq!((&pair.key[..], &pair.value[..]), (&b"a"[..], &b"2"[..]));
        assert_eq!((pair.create_revision, pair.mod_revision, pair.version), (2, 3, 2));
        assert_eq!((read.count, read.more, pair.lease), (1, false, 0));

        // The header is of now, whichever revision was asked for.
        let old = RangeRequest { revision: 2, ..get("a") };
        let read = api.kv.range(old).await.expect("is read").into_inner();
        assert_eq!(read.kvs[0].value, "1");
        assert_eq!(read.header.expect("has a header").revision, 3);

        let request = DeleteRangeRequest { prev_kv: true, ..delete("a") };
        let response = api.kv.delete_range(request).await.expect("is deleted").into_inner();
        assert_eq!((response.deleted, response.prev_kvs.len()), (1, 1));
        let nothing = api.kv.delete_range(delete("a")).await.expect("is deleted").into_inner();
        // Deleting nothing makes no revision.
        let revision = nothing.header.expect("has a header").revision;
        assert_eq!((nothing.deleted, revision), (0, 4));
        // Written again, a key is a new one.
        api.put("a", "3").await;
        let read = api.kv.range(get("a")).await.expect("is read").into_inner();
        assert_eq!((read.kvs[0].version, read.kvs[0].create_revision), (1, 5));
        node
    });
}

#[test]
fn ranges_are_limited_sorted_filtered_and_counted_as_in_etcd() {
    with_node(async |node| {
        let mut api = Api::of(&node);
        for (key, value) in [("a", "3"), ("b", "2"), ("c", "1"), ("b", "0")] {
            api.put(key, value).await;
        }
        let mut read = async |request: RangeRequest| {
            let read = api.kv.range(request).await.expect("is read").into_inner();
            let keys: Vec<u8> = read.kvs.iter().map(|pair| pair.key[0]).collect();
            (String::from_utf8(keys).expect("is text"), read.more, read.count)
        };
        let told = |keys: &str, more, count| (keys.to_owned(), more, count);
        let by = |order: SortOrder, target: SortTarget| RangeRequest {
            sort_order: order.into(),
            sort_target: target.into(),
            ..from("\0")
        };
        assert_eq!(read(from("\0")).await, told("abc", false, 3));
        assert_eq!(read(from("b")).await, told("bc", false, 2));
        let until = RangeRequest { range_end: bytes("c"), ..get("a") };
        assert_eq!(read(until).await, told("ab", false, 2));
        assert_eq!(read(RangeRequest { limit: 2, ..from("\0") }).await, told("ab", true, 3));
        let descending = by(SortOrder::Descend, SortTarget::Key);
        assert_eq!(read(descending).await, told("cba", false, 3));
        let newest = RangeRequest { limit: 1, ..by(SortOrder::Descend, SortTarget::Mod) };
        assert_eq!(read(newest.clone()).await, told("b", true, 3));
        // Filters leave the count alone.
        let newest = RangeRequest { max_mod_revision: 4, ..newest };
        assert_eq!(read(newest).await, told("c", true, 3));
        let oldest = RangeRequest { limit: 1, ..by(SortOrder::Ascend, SortTarget::Create) };
        assert_eq!(read(oldest).await, told("a", true, 3));
        assert_eq!(read(by(SortOrder::Ascend, SortTarget::Value)).await, told("bca", false, 3));
        let none = RangeRequest { max_create_revision: -1, ..from("\0") };
        assert_eq!(read(none).await, told("", false, 3));
        assert_eq!(read(RangeRequest { count_only: true, ..from("\0") }).await, told("", false, 3));
        let reversed = RangeRequest { range_end: bytes("a"), ..get("c") };
        assert_eq!(read(reversed).await, told("", false, 0));
        let keys = RangeRequest { keys_only: true, serializable: true, ..get("a") };
        let read = api.kv.range(keys).await.expect("is read").into_inner();
        assert_eq!((&read.kvs[0].key[..], read.kvs[0].value.len()), (&b"a"[..], 0));
        node
    });
}

#[test]
fn a_range_in_pieces_is_the_range_in_one() {
    with_node(async |node| {
        let mut api = Api::of(&node);
        let value = bytes::Bytes::from(vec![b'v'; 100_000]);
        for number in 0..20 {
            let key = bytes::Bytes::from(format!("k{number:02}"));
            let request = PutRequest { key, value: value.clone(), ..PutRequest::default() };
            api.kv.put(request).await.expect("is written");
        }
        for request in [
            from("k"),
            RangeRequest { limit: 12, ..from("k") },
            RangeRequest { limit: 20, keys_only: true, ..from("k05") },
            RangeRequest { revision: 9, ..from("k") },
            RangeRequest { count_only: true, ..from("k") },
            get("k03"),
            get("none"),
        ] {
            let whole = api.kv.range(request.clone()).await.expect("is read").into_inner();
            let pieces = api.kv.range_stream(request.clone()).await.expect("is read");
            let mut pieces = pieces.into_inner();
            let (mut kvs, mut last, mut count) = (Vec::new(), None, 0);
            while let Some(piece) = pieces.message().await.expect("goes on") {
                let piece = piece.range_response.expect("has a piece");
                kvs.extend(piece.kvs.clone());
                (last, count) = (Some(piece), count + 1);
            }
            let last = last.expect("there is one");
            assert_eq!(kvs, whole.kvs, "{request:?}");
            assert_eq!((last.more, last.count), (whole.more, whole.count));
            assert_eq!(last.header, whole.header);
            assert!(whole.kvs.len() < 15 || request.keys_only || count > 1, "{count} pieces");
        }
        let sorted = RangeRequest { sort_order: SortOrder::Descend.into(), ..from("k") };
        let (code, _) = refused(api.kv.range_stream(sorted).await);
        assert_eq!(code, Code::Unimplemented);
        node
    });
}

#[test]
fn what_is_wrong_with_a_request_is_said_in_etcds_words() {
    with_node(async |node| {
        let mut api = Api::of(&node);
        let empty = says(Code::InvalidArgument, "key is not provided");
        assert_eq!(refused(api.kv.range(get("")).await), empty);
        assert_eq!(refused(api.kv.put(put("", "v")).await), empty);
        assert_eq!(refused(api.kv.delete_range(delete("")).await), empty);
        let request = PutRequest { ignore_value: true, ..put("a", "v") };
        let provided = says(Code::InvalidArgument, "value is provided");
        assert_eq!(refused(api.kv.put(request).await), provided);
        let request = PutRequest { ignore_lease: true, lease: 1, ..put("a", "v") };
        let provided = says(Code::InvalidArgument, "lease is provided");
        assert_eq!(refused(api.kv.put(request).await), provided);
        let request = PutRequest { ignore_value: true, ..put("a", "") };
        let missing = says(Code::InvalidArgument, "key not found");
        assert_eq!(refused(api.kv.put(request).await), missing);
        let request = PutRequest { lease: 77, ..put("a", "v") };
        let no_lease = says(Code::NotFound, "requested lease not found");
        assert_eq!(refused(api.kv.put(request).await), no_lease);
        let request = RangeRequest { sort_order: 9, ..get("a") };
        let invalid = says(Code::InvalidArgument, "invalid sort option");
        assert_eq!(refused(api.kv.range(request).await), invalid);
        node
    });
}

#[test]
fn compacted_and_future_revisions_are_told_apart() {
    with_node(async |node| {
        let mut api = Api::of(&node);
        for value in ["1", "2", "3"] {
            api.put("a", value).await;
        }
        let mut compact = async |revision| {
            let request = CompactionRequest { revision, physical: false };
            api.kv.compact(request).await
        };
        let done = compact(3).await.expect("is compacted").into_inner();
        assert_eq!(done.header.expect("has a header").revision, 4);
        let compacted = "mvcc: required revision has been compacted";
        let future = "mvcc: required revision is a future revision";
        assert_eq!(refused(compact(3).await), says(Code::OutOfRange, compacted));
        assert_eq!(refused(compact(5).await), says(Code::OutOfRange, future));
        let old = RangeRequest { revision: 2, ..get("a") };
        assert_eq!(refused(api.kv.range(old).await), says(Code::OutOfRange, compacted));
        let coming = RangeRequest { revision: 5, ..get("a") };
        assert_eq!(refused(api.kv.range(coming).await), says(Code::OutOfRange, future));
        node
    });
}
