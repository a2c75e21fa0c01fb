//! Messages as JSON, in the form that callers of etcd's gateway know.

use bytes::{Bytes, BytesMut};
use prost::Message as _;
use prost_reflect::{DeserializeOptions, DynamicMessage, MessageDescriptor, SerializeOptions};
use serde::Deserializer;
use tonic::{Code, Status};

/// The JSON of one kind of message; cheap to clone.
#[derive(Clone)]
pub(crate) struct MessageJson(MessageDescriptor);

impl MessageJson {
    pub(crate) const fn new(message: MessageDescriptor) -> Self {
        Self(message)
    }

    /// Reads one message. Fields may have their name in the protocol files or the one in lower
    /// camel case; those that there are not are passed over.
    pub(crate) fn read<'a, D: Deserializer<'a>>(&self, json: D) -> Result<Bytes, D::Error> {
        let options = DeserializeOptions::new().deny_unknown_fields(false);
        let message = DynamicMessage::deserialize_with_options(self.0.clone(), json, &options)?;
        let mut bytes = BytesMut::with_capacity(message.encoded_len());
        message.encode(&mut bytes).expect("a buffer of this kind grows");
        Ok(bytes.freeze())
    }

    /// The message that says nothing.
    pub(crate) const fn empty() -> Bytes {
        Bytes::new()
    }

    /// Writes one message.
    pub(crate) fn write(&self, message: Bytes, json: &mut Vec<u8>) -> Result<(), Status> {
        // A field left out is zero or empty, and some callers count on its being left out: a lease
        // that is no more has no `TTL`.
        let options = SerializeOptions::new()
            .stringify_64_bit_integers(true)
            .use_proto_field_name(true)
            .skip_default_fields(true);
        let unreadable = |error: &dyn std::fmt::Display| Status::internal(error.to_string());
        let message =
            DynamicMessage::decode(self.0.clone(), message).map_err(|error| unreadable(&error))?;
        let mut serializer = serde_json::Serializer::new(json);
        message
            .serialize_with_options(&mut serializer, &options)
            .map_err(|error| unreadable(&error))
    }
}

/// One line of a stream.
pub(crate) fn write_result(output: &MessageJson, message: Bytes) -> Result<Bytes, Status> {
    let mut line = Vec::with_capacity(message.len() * 2 + 16);
    line.extend_from_slice(b"{\"result\":");
    output.write(message, &mut line)?;
    line.extend_from_slice(b"}\n");
    Ok(Bytes::from(line))
}

/// The last line of a stream that failed. Older and newer callers look for different names.
pub(crate) fn write_error(status: &Status) -> Bytes {
    #[derive(serde::Serialize)]
    struct Line<'a> {
        error: Error<'a>,
    }
    #[derive(serde::Serialize)]
    struct Error<'a> {
        code: i32,
        grpc_code: i32,
        http_code: u16,
        http_status: &'a str,
        message: &'a str,
        details: [(); 0],
    }
    let code: i32 = status.code().into();
    let http = http_status(status.code());
    let error = Error {
        code,
        grpc_code: code,
        http_code: http.as_u16(),
        http_status: http.canonical_reason().unwrap_or_default(),
        message: status.message(),
        details: [],
    };
    let mut line = serde_json::to_vec(&Line { error }).expect("it is numbers and text");
    line.push(b'\n');
    Bytes::from(line)
}

/// The HTTP status of a code, as gRPC's gateways have it.
pub(crate) const fn http_status(code: Code) -> http::StatusCode {
    use http::StatusCode as Http;

    match code {
        Code::Ok => Http::OK,
        Code::Cancelled => Http::REQUEST_TIMEOUT,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => Http::BAD_REQUEST,
        Code::DeadlineExceeded => Http::GATEWAY_TIMEOUT,
        Code::NotFound => Http::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => Http::CONFLICT,
        Code::PermissionDenied => Http::FORBIDDEN,
        Code::Unauthenticated => Http::UNAUTHORIZED,
        Code::ResourceExhausted => Http::TOO_MANY_REQUESTS,
        Code::Unimplemented => Http::NOT_IMPLEMENTED,
        Code::Unavailable => Http::SERVICE_UNAVAILABLE,
        Code::Unknown | Code::Internal | Code::DataLoss => Http::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_etcd_protocol::{DESCRIPTORS, etcdserverpb as proto};
    use prost_reflect::DescriptorPool;

    fn kind(name: &str) -> MessageJson {
        let pool = DescriptorPool::decode(DESCRIPTORS).expect("decodes");
        let name = format!("etcdserverpb.{name}");
        MessageJson::new(pool.get_message_by_name(&name).expect("is there"))
    }

    fn write(name: &str, message: &impl prost::Message) -> String {
        let mut json = Vec::new();
        kind(name).write(Bytes::from(message.encode_to_vec()), &mut json).expect("is written");
        String::from_utf8(json).expect("is text")
    }

    fn read<M: prost::Message + Default>(name: &str, json: &str) -> M {
        let mut json = serde_json::Deserializer::from_str(json);
        let message = kind(name).read(&mut json).expect("is read");
        M::decode(message).expect("is such a message")
    }

    #[test]
    fn what_is_zero_is_left_out_and_what_is_large_is_text() {
        let dead = proto::LeaseKeepAliveResponse { id: 7, ..Default::default() };
        assert_eq!(write("LeaseKeepAliveResponse", &dead), r#"{"ID":"7"}"#);
        let header =
            proto::ResponseHeader { cluster_id: u64::MAX, raft_term: 2, ..Default::default() };
        let failed = proto::TxnResponse { header: Some(header), ..Default::default() };
        assert_eq!(
            write("TxnResponse", &failed),
            r#"{"header":{"cluster_id":"18446744073709551615","raft_term":"2"}}"#
        );
        let responses = vec![proto::ResponseOp {
            response: Some(proto::response_op::Response::ResponsePut(Default::default())),
        }];
        let done = proto::TxnResponse { succeeded: true, responses, ..Default::default() };
        assert_eq!(
            write("TxnResponse", &done),
            r#"{"succeeded":true,"responses":[{"response_put":{}}]}"#
        );
    }

    #[test]
    fn events_are_told_by_name_and_puts_not_at_all() {
        use mainstay_etcd_protocol::mvccpb::{Event, KeyValue, event::EventType};
        let kv = Some(KeyValue { key: Bytes::from_static(b"a"), ..KeyValue::default() });
        let events = [EventType::Put, EventType::Delete].map(|kind| Event {
            r#type: kind.into(),
            kv: kv.clone(),
            prev_kv: None,
        });
        let told = proto::WatchResponse { events: events.into(), ..Default::default() };
        assert_eq!(
            write("WatchResponse", &told),
            r#"{"events":[{"kv":{"key":"YQ=="}},{"type":"DELETE","kv":{"key":"YQ=="}}]}"#
        );
    }

    #[test]
    fn names_of_both_kinds_are_read_and_unknown_ones_passed_over() {
        for json in [
            r#"{"key":"YQ==","range_end":"Yg==","limit":"5","sort_order":"DESCEND"}"#,
            r#"{"key":"YQ","rangeEnd":"Yg==","limit":5,"sortOrder":2,"color":{"red":[1]}}"#,
            r#"{"key":"YQ==","range_end":"Yg==","limit":5,"sort_order":"DESCEND","revision":null}"#,
        ] {
            let range: proto::RangeRequest = read("RangeRequest", json);
            assert_eq!(
                (&range.key[..], &range.range_end[..], range.limit),
                (&b"a"[..], &b"b"[..], 5)
            );
            assert_eq!(range.sort_order(), proto::range_request::SortOrder::Descend);
        }
        let json = r#"{"compare":[{"target":"CREATE","key":"YQ==","create_revision":"0"}]}"#;
        let txn: proto::TxnRequest = read("TxnRequest", json);
        // Without a result it is equality that is asked for.
        assert_eq!(txn.compare[0].result(), proto::compare::CompareResult::Equal);
        let json = r#"{"TTL":"30","ID":"7"}"#;
        let grant: proto::LeaseGrantRequest = read("LeaseGrantRequest", json);
        assert_eq!((grant.ttl, grant.id), (30, 7));
    }
}
