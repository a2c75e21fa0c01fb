//! What a client sends is bounded, and nonsense gets the standard answer.

use bytes::Bytes;
use mainstay_etcd_protocol::etcdserverpb::{PutRequest, RangeRequest};
use tonic::{Code, Request, metadata::MetadataValue};

use super::{Api, get, put, refused, says};
use crate::harness::with_node;

#[test]
fn a_request_over_the_limit_is_refused_and_the_node_goes_on() {
    with_node(async |node| {
        let mut api = Api::of(&node);
        let of = |len: usize| PutRequest { value: Bytes::from(vec![b'v'; len]), ..put("a", "") };
        api.kv.put(of(1_500_000)).await.expect("is below the limit");
        let large = says(Code::InvalidArgument, "request is too large");
        assert_eq!(refused(api.kv.put(of(1_600_000)).await), large);
        let (code, text) = refused(api.kv.put(of(5_000_000)).await);
        assert_eq!(code, Code::ResourceExhausted, "{text}");
        assert!(text.contains("received message larger than max"), "{text}");
        assert_eq!(api.put("a", "1").await, 3);
        node
    });
}

#[test]
fn unknown_services_and_methods_are_unimplemented() {
    with_node(async |node| {
        for path in ["/etcdserverpb.KV/Nothing", "/nothing.Here/At", "/etcdserverpb.Nothing/Range"]
        {
            let headers = [("content-type", "application/grpc")];
            let answer = node.send("POST", path, &headers, Bytes::new()).await;
            assert_eq!(
                (answer.status.as_u16(), answer.header("grpc-status")),
                (200, "12"),
                "{path}"
            );
        }
        let answer = node.post("/etcdserverpb.KV/Range", "{}").await;
        assert_eq!(answer.status.as_u16(), 415);
        // Something that is no message of the kind.
        let mut api = Api::of(&node);
        let headers = [("content-type", "application/grpc")];
        let frames: [&[u8]; 3] = [b"\0\0\0\0\x03\xff\xff\xff", b"\x07abc", b"\0\xff\xff\xff\xff"];
        for frame in frames {
            let body = Bytes::from_static(frame);
            let answer = node.send("POST", "/etcdserverpb.KV/Range", &headers, body).await;
            assert_ne!(answer.header("grpc-status"), "0", "{frame:?}");
        }
        assert_eq!(api.put("a", "1").await, 2);
        node
    });
}

#[test]
fn metadata_that_clients_send_is_honoured_and_the_rest_passed_over() {
    with_node(async |node| {
        let mut api = Api::of(&node);
        let mut request = Request::new(get("a"));
        for (name, value) in
            [("hasleader", "true"), ("client-api-version", "3.6"), ("token", "any"), ("x", "y")]
        {
            request.metadata_mut().insert(name, MetadataValue::from_static(value));
        }
        api.kv.range(request).await.expect("there is a leader");
        let mut request = Request::new(RangeRequest { serializable: true, ..get("a") });
        request.metadata_mut().insert("grpc-timeout", MetadataValue::from_static("nonsense"));
        api.kv.range(request).await.expect("is read");
        node
    });
}
