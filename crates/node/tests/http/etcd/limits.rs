//! What a client sends is bounded, and nonsense gets the standard answer.

use bytes::Bytes;
use mainstay_etcd_protocol::etcdserverpb::{PutRequest, RangeRequest};
use mainstay_world::{Net as _, RealNet};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
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
        let mut api = Api::of(&node);
        assert_eq!(api.put("a", "1").await, 2);
        node
    });
}

#[test]
fn what_is_no_message_gets_the_code_that_grpc_has_for_it() {
    with_node(async |node| {
        let mut api = Api::of(&node);
        let plain = &[("content-type", "application/grpc"), ("te", "trailers")];
        let packed = &[("content-type", "application/grpc"), ("grpc-encoding", "gzip")];
        let send = async |headers: &[(&str, &str)], frame: &'static [u8]| {
            let body = Bytes::from_static(frame);
            let answer = node.send("POST", "/etcdserverpb.KV/Range", headers, body).await;
            (answer.status.as_u16(), answer.header("grpc-status").to_owned())
        };
        for (what, frame, code) in [
            ("no protobuf", &b"\0\0\0\0\x03\xff\xff\xff"[..], "13"),
            ("a flag that there is not", b"\x07\0\0\0\0", "13"),
            ("compressed, and not said how", b"\x01\0\0\0\x01a", "13"),
            ("longer than it may be", b"\0\xff\xff\xff\xff", "8"),
            ("half a message", b"\0\0\0\0\x09half", "13"),
            ("nothing, where one message is wanted", b"", "13"),
        ] {
            assert_eq!(send(plain, frame).await, (200, code.to_owned()), "{what}");
        }
        assert_eq!(send(packed, b"\x01\0\0\0\x01a").await, (200, "12".to_owned()));
        assert_eq!(api.put("a", "1").await, 2);
        node
    });
}

#[test]
fn a_head_that_is_too_large_is_refused_and_the_connection_goes_on() {
    with_node(async |node| {
        let mut api = Api::of(&node);
        api.put("a", "1").await;
        let mut request = Request::new(get("a"));
        let large = "x".repeat(100 * 1024).parse().expect("is text");
        request.metadata_mut().insert("x", large);
        let (code, text) = refused(api.kv.range(request).await);
        assert_ne!(code, Code::Ok, "{text}");
        assert_eq!(api.put("a", "2").await, 3);
        node
    });
}

/// A frame of HTTP/2 on stream 0 (RFC 9113, 4.1).
fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).expect("is short").to_be_bytes();
    [&len[1..], &[kind, flags, 0, 0, 0, 0], payload].concat()
}

#[test]
fn a_client_that_pings_all_the_time_is_answered_and_not_sent_away() {
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    const GOAWAY: u8 = 7;
    const ACK: u8 = 1;
    with_node(async |node| {
        let mut stream = RealNet.connect(&node.address).await.expect("connects");
        let mut hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        hello.extend(frame(SETTINGS, 0, &[]));
        stream.write_all(&hello).await.expect("is sent");
        for number in 0..2_000_u64 {
            let ping = frame(PING, 0, &number.to_be_bytes());
            stream.write_all(&ping).await.expect("is sent");
            loop {
                let mut head = [0; 9];
                stream.read_exact(&mut head).await.expect("goes on");
                let len = u32::from_be_bytes([0, head[0], head[1], head[2]]);
                let mut payload = vec![0; usize::try_from(len).expect("fits")];
                stream.read_exact(&mut payload).await.expect("goes on");
                assert_ne!(head[3], GOAWAY, "after {number} pings: {payload:?}");
                if head[3..5] == [PING, ACK] {
                    assert_eq!(payload, number.to_be_bytes());
                    break;
                }
            }
        }
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
