//! The body of an answer: nothing, bytes, or a stream.
//!
//! The hot routes answer with bytes and pay for no box; everything else may.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::Stream;
use http_body::{Frame, SizeHint};
use mainstay_etcd::AnswerBody;

/// What a body can fail with: only one of axum's own can.
pub(crate) type BodyError = axum::Error;

/// The body of an answer.
pub(crate) struct Body(Kind);

enum Kind {
    Full(Option<Bytes>),
    Stream(Pin<Box<dyn Stream<Item = Bytes> + Send>>),
    Routed(axum::body::Body),
    Etcd(AnswerBody),
}

impl Body {
    /// No bytes.
    pub(crate) const fn empty() -> Self {
        Self(Kind::Full(None))
    }

    /// These bytes.
    pub(crate) fn full(bytes: Bytes) -> Self {
        Self(Kind::Full((!bytes.is_empty()).then_some(bytes)))
    }

    /// What the stream gives, as it comes.
    pub(crate) fn stream(stream: impl Stream<Item = Bytes> + Send + 'static) -> Self {
        Self(Kind::Stream(Box::pin(stream)))
    }

    /// A body that axum made.
    pub(crate) const fn routed(body: axum::body::Body) -> Self {
        Self(Kind::Routed(body))
    }

    /// A body that the etcd API made.
    pub(crate) const fn etcd(body: AnswerBody) -> Self {
        Self(Kind::Etcd(body))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.0 {
            Kind::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Stream(stream) => {
                stream.as_mut().poll_next(context).map(|bytes| bytes.map(|b| Ok(Frame::data(b))))
            }
            Kind::Routed(body) => Pin::new(body).poll_frame(context),
            Kind::Etcd(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Full(bytes) => bytes.is_none(),
            Kind::Stream(_) => false,
            Kind::Routed(body) => body.is_end_stream(),
            Kind::Etcd(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Full(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Kind::Stream(_) => SizeHint::default(),
            Kind::Routed(body) => body.size_hint(),
            Kind::Etcd(body) => body.size_hint(),
        }
    }
}
