//! The calls that carry almost all traffic, answered without a detour.
//!
//! `Range`, `Put`, `DeleteRange` and `Txn` take one small message, which nearly always comes whole
//! and uncompressed in the first frame. Such a call is decoded, run and encoded here; routes, boxes
//! and buffers of several KiB a call would cost as much as the call itself. Whatever is unusual (a
//! message in pieces, compressed, malformed, or more than one) is put back and goes the general way,
//! so that there is one place which knows how to refuse it.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::body::Body;
use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header::CONTENT_TYPE, request};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use mainstay_etcd_protocol::etcdserverpb::kv_server::Kv;
use prost::Message;
use tonic::{Code, Status, metadata::MetadataMap};

use crate::{
    api::Shared,
    error,
    frames::{HEAD_BYTES, only_message},
    kv::KvService,
    services::Services,
};

const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// The methods that are answered here.
#[derive(Debug, Clone, Copy)]
enum HotMethod {
    Range,
    Put,
    DeleteRange,
    Txn,
}

impl HotMethod {
    fn of(path: &str) -> Option<Self> {
        Some(match path.strip_prefix("/etcdserverpb.KV/")? {
            "Range" => Self::Range,
            "Put" => Self::Put,
            "DeleteRange" => Self::DeleteRange,
            "Txn" => Self::Txn,
            _ => return None,
        })
    }
}

/// Answers hot calls; cheap to clone.
#[derive(Clone)]
pub(crate) struct HotCalls {
    kv: Arc<KvService>,
    services: Services,
}

impl HotCalls {
    pub(crate) fn new(shared: &Arc<Shared>, services: Services) -> Self {
        Self { kv: Arc::new(KvService(Arc::clone(shared))), services }
    }

    /// Answers a call, or gives it back for the general way.
    pub(crate) async fn answer<B>(
        &self,
        request: Request<B>,
    ) -> Result<Response<AnswerBody>, Request<PutBack<B>>>
    where
        B: HttpBody<Data = Bytes> + Unpin,
    {
        let method = HotMethod::of(request.uri().path());
        let method = method.filter(|_hot| !request.headers().contains_key(GRPC_ENCODING));
        let (head, mut body) = request.into_parts();
        let mut read = VecDeque::new();
        let Some(method) = method else { return Err(put_back(head, read, body)) };
        let message = match body.frame().await {
            Some(Ok(frame)) => {
                let message = frame.data_ref().and_then(only_message);
                read.push_back(Ok(frame));
                message
            }
            other => {
                read.extend(other);
                None
            }
        };
        let Some(message) = message else { return Err(put_back(head, read, body)) };
        // The end of the request nearly always came with the message.
        if !body.is_end_stream()
            && let Some(more) = body.frame().await
        {
            read.push_back(more);
            return Err(put_back(head, read, body));
        }
        let Some(call) = Call::new(method, message) else { return Err(put_back(head, read, body)) };
        Ok(self.run(head, call).await)
    }

    async fn run(&self, head: request::Parts, call: Call) -> Response<AnswerBody> {
        let metadata = MetadataMap::from_headers(head.headers);
        let Self { kv, .. } = self;
        let answered = match call {
            Call::Range(message) => framed(kv.range(asked(metadata, message)).await),
            Call::Put(message) => framed(kv.put(asked(metadata, message)).await),
            Call::DeleteRange(message) => framed(kv.delete_range(asked(metadata, message)).await),
            Call::Txn(message) => framed(kv.txn(asked(metadata, message)).await),
        };
        let code = answered.as_ref().err().map_or(Code::Ok, Status::code);
        self.services.count(head.uri.path(), code);
        match answered {
            Ok(frame) => {
                let mut response = Response::new(AnswerBody::message(frame));
                let grpc = HeaderValue::from_static("application/grpc");
                response.headers_mut().insert(CONTENT_TYPE, grpc);
                response
            }
            Err(status) => error::response(&status).map(AnswerBody::general),
        }
    }
}

/// A decoded call.
enum Call {
    Range(mainstay_etcd_protocol::etcdserverpb::RangeRequest),
    Put(mainstay_etcd_protocol::etcdserverpb::PutRequest),
    DeleteRange(mainstay_etcd_protocol::etcdserverpb::DeleteRangeRequest),
    Txn(mainstay_etcd_protocol::etcdserverpb::TxnRequest),
}

impl Call {
    /// `None` if the message cannot be decoded.
    fn new(method: HotMethod, message: Bytes) -> Option<Self> {
        Some(match method {
            HotMethod::Range => Self::Range(Message::decode(message).ok()?),
            HotMethod::Put => Self::Put(Message::decode(message).ok()?),
            HotMethod::DeleteRange => Self::DeleteRange(Message::decode(message).ok()?),
            HotMethod::Txn => Self::Txn(Message::decode(message).ok()?),
        })
    }
}

fn asked<M>(metadata: MetadataMap, message: M) -> tonic::Request<M> {
    tonic::Request::from_parts(metadata, tonic::Extensions::default(), message)
}

/// The frame of an answer, in a buffer of its size.
fn framed<M: Message>(answered: Result<tonic::Response<M>, Status>) -> Result<Bytes, Status> {
    let message = answered?.into_inner();
    let length = message.encoded_len();
    let announced = u32::try_from(length)
        .map_err(|_too_large| Status::resource_exhausted("etcdserver: the answer is too large"))?;
    let mut frame = BytesMut::with_capacity(HEAD_BYTES + length);
    frame.put_u8(0);
    frame.put_u32(announced);
    message.encode_raw(&mut frame);
    Ok(frame.freeze())
}

fn put_back<B: HttpBody<Data = Bytes>>(
    head: request::Parts,
    read: VecDeque<Result<Frame<Bytes>, B::Error>>,
    rest: B,
) -> Request<PutBack<B>> {
    Request::from_parts(head, PutBack { read, rest })
}

/// A request's body of which something was read and put back.
pub(crate) struct PutBack<B: HttpBody> {
    read: VecDeque<Result<Frame<Bytes>, B::Error>>,
    rest: B,
}

impl<B> HttpBody for PutBack<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.read.pop_front() {
            Some(read) => Poll::Ready(Some(read)),
            None => Pin::new(&mut self.rest).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.read.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.read.is_empty() { self.rest.size_hint() } else { SizeHint::default() }
    }
}

/// The body of an answer of this API.
pub struct AnswerBody(Kind);

enum Kind {
    /// One message and that all went well.
    Message { frame: Option<Bytes>, ended: bool },
    /// What the general way made.
    General(Body),
}

impl AnswerBody {
    const fn message(frame: Bytes) -> Self {
        Self(Kind::Message { frame: Some(frame), ended: false })
    }

    pub(crate) const fn general(body: Body) -> Self {
        Self(Kind::General(body))
    }
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match &mut self.0 {
            Kind::General(body) => Pin::new(body).poll_frame(context),
            Kind::Message { frame, ended } => Poll::Ready(match frame.take() {
                Some(frame) => Some(Ok(Frame::data(frame))),
                None if *ended => None,
                None => {
                    *ended = true;
                    let ok = (GRPC_STATUS, HeaderValue::from_static("0"));
                    Some(Ok(Frame::trailers(HeaderMap::from_iter([ok]))))
                }
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::General(body) => body.is_end_stream(),
            Kind::Message { ended, .. } => *ended,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::General(body) => body.size_hint(),
            Kind::Message { frame, .. } => {
                SizeHint::with_exact(frame.as_ref().map_or(0, |frame| frame.len() as u64))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_read_is_put_back_in_front_of_the_rest() {
        let read = [&b"one"[..], b"two"].map(|part| Ok(Frame::data(Bytes::from_static(part))));
        let body = PutBack { read: read.into(), rest: Body::from("three") };
        assert!(!body.is_end_stream());
        let whole = body.collect().await.expect("can be read").to_bytes();
        assert_eq!(whole, "onetwothree");
    }

    #[tokio::test]
    async fn an_answer_is_its_message_and_the_status() {
        let body = AnswerBody::message(Bytes::from_static(b"frame"));
        assert_eq!(body.size_hint().exact(), Some(5));
        let whole = body.collect().await.expect("can be read");
        assert_eq!(
            whole.trailers().and_then(|t| t.get("grpc-status")).map(|s| s.as_bytes()),
            Some(&b"0"[..])
        );
        assert_eq!(whole.to_bytes(), "frame");
    }
}
