//! Bytes of messages that are still arriving, bounded over all requests of the API.
//!
//! A message is kept until the whole of it is there, and a client decides how many it begins. So
//! what has arrived of unfinished messages is counted, by the frames that announce their lengths:
//! beyond a bound they are refused, and one that does not arrive in time is given up. Messages that
//! come in one piece, as almost all do, cost nothing here.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::body::Body;
use bytes::{Buf as _, Bytes};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::Status;

use crate::{error, frames::HEAD_BYTES};

/// Bytes of unfinished messages, over all requests.
const ARRIVING_BYTES_MAX: usize = 512 * 1024 * 1024;

/// How long a message may take from its first byte to its last.
pub(crate) const MESSAGE_MAX: Duration = Duration::from_secs(30);

/// All bytes of unfinished messages.
#[derive(Debug, Clone, Default)]
pub(crate) struct Arriving(Arc<AtomicUsize>);

/// The share of one request; given back when dropped.
#[derive(Debug)]
pub(crate) struct Share {
    all: Arriving,
    bytes: usize,
}

impl Arriving {
    /// The share of a new request.
    pub(crate) fn share(&self) -> Share {
        Share { all: self.clone(), bytes: 0 }
    }
}

impl Share {
    /// Says how many bytes of an unfinished message there are now.
    ///
    /// # Errors
    /// Too many messages are arriving.
    pub(crate) fn set(&mut self, bytes: usize) -> Result<(), Status> {
        let Arriving(all) = &self.all;
        let grown = bytes.saturating_sub(self.bytes);
        all.fetch_sub(self.bytes.saturating_sub(bytes), Ordering::Relaxed);
        let before = all.fetch_add(grown, Ordering::Relaxed);
        self.bytes = bytes;
        if grown > 0 && before + grown > ARRIVING_BYTES_MAX {
            return Err(error::too_many_requests());
        }
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.all.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A body of gRPC frames that counts what is unfinished.
pub(crate) struct CountedBody {
    body: Body,
    share: Share,
    progress: FrameProgress,
    /// When the unfinished message is given up.
    late: Option<Pin<Box<tokio::time::Sleep>>>,
}

/// How far the frame is that is arriving.
#[derive(Debug, Default)]
struct FrameProgress {
    head: [u8; HEAD_BYTES],
    head_len: usize,
    /// Bytes of the message that have arrived, and all of them.
    arrived: usize,
    announced: usize,
}

impl FrameProgress {
    /// Takes note of what came.
    fn see(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            if self.head_len < HEAD_BYTES {
                let len = data.len().min(HEAD_BYTES - self.head_len);
                self.head[self.head_len..self.head_len + len].copy_from_slice(&data[..len]);
                self.head_len += len;
                data.advance(len);
                if self.head_len < HEAD_BYTES {
                    return;
                }
                let [_, a, b, c, d] = self.head;
                self.announced =
                    usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
            }
            let len = data.len().min(self.announced - self.arrived);
            self.arrived += len;
            data.advance(len);
            if self.arrived == self.announced {
                *self = Self::default();
            }
        }
    }

    const fn unfinished_bytes(&self) -> usize {
        self.head_len + self.arrived
    }
}

impl CountedBody {
    pub(crate) fn new(body: Body, arriving: &Arriving) -> Self {
        let (share, progress) = (arriving.share(), FrameProgress::default());
        Self { body, share, progress, late: None }
    }
}

impl HttpBody for CountedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) else {
            let late =
                this.late.as_mut().is_some_and(|late| late.as_mut().poll(context).is_ready());
            return if late {
                this.late = None;
                Poll::Ready(Some(Err(Status::deadline_exceeded("a message did not arrive"))))
            } else {
                Poll::Pending
            };
        };
        let Some(frame) = frame else { return Poll::Ready(None) };
        let frame = frame.map_err(|error| Status::from_error(error.into()))?;
        if let Some(data) = frame.data_ref() {
            this.progress.see(data);
            let unfinished = this.progress.unfinished_bytes();
            this.share.set(unfinished)?;
            if unfinished == 0 {
                this.late = None;
            } else if this.late.is_none() {
                this.late = Some(Box::pin(mainstay_world::sleep(MESSAGE_MAX)));
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(message: &[u8]) -> Vec<u8> {
        let len = u32::try_from(message.len()).expect("fits").to_be_bytes();
        [&[0][..], &len, message].concat()
    }

    #[test]
    fn what_is_unfinished_is_known_however_the_bytes_come() {
        let bytes = [framed(b"abc"), framed(b""), framed(&[7; 300])].concat();
        for piece in 1..bytes.len() {
            let mut progress = FrameProgress::default();
            let mut seen = 0;
            for part in bytes.chunks(piece) {
                progress.see(part);
                seen += part.len();
                let ends = [8, 13, 318].into_iter().filter(|end| *end <= seen).max();
                assert_eq!(progress.unfinished_bytes(), seen - ends.unwrap_or(0), "{piece}");
            }
        }
    }

    #[test]
    fn a_share_is_bounded_together_with_others_and_given_back() {
        let arriving = Arriving::default();
        let mut first = arriving.share();
        first.set(ARRIVING_BYTES_MAX).expect("fits");
        let mut second = arriving.share();
        assert!(second.set(1).is_err());
        drop(first);
        second.set(10).expect("there is room again");
        second.set(3).expect("is less");
        assert_eq!(arriving.0.load(Ordering::Relaxed), 3);
        drop(second);
        assert_eq!(arriving.0.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_does_not_arrive_is_given_up() {
        use futures_util::{StreamExt as _, stream};
        use http_body_util::BodyExt as _;
        let begun = Ok::<_, std::io::Error>(Bytes::from_static(b"\0\0\0\0\x09half"));
        let body = Body::from_stream(stream::iter([begun]).chain(stream::pending()));
        let mut body = CountedBody::new(body, &Arriving::default());
        assert!(body.frame().await.expect("comes").is_ok());
        let refused = body.frame().await.expect("comes").expect_err("is given up");
        assert_eq!(refused.code(), tonic::Code::DeadlineExceeded);
    }
}
