//! gRPC's frames: a byte that says whether the message is compressed, its length, the message.

use axum::body::Body;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body_util::BodyExt as _;
use tonic::{Code, Status};

/// What stands before a message.
const HEAD_BYTES: usize = 5;

/// A message as a frame.
pub(crate) fn frame(message: &Bytes) -> Bytes {
    let mut frame = BytesMut::with_capacity(HEAD_BYTES + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(message);
    frame.freeze()
}

/// The messages of an answer, and the status at its end.
pub(crate) struct Frames {
    body: Body,
    read: BytesMut,
}

impl Frames {
    pub(crate) fn new(body: Body) -> Self {
        Self { body, read: BytesMut::new() }
    }

    /// The next message; `None` at a good end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(message) = self.take() {
                return Ok(Some(message));
            }
            let Some(part) = self.body.frame().await else { return Ok(None) };
            let part = part.map_err(|error| Status::internal(error.to_string()))?;
            match part.into_data() {
                Ok(data) => self.read.extend_from_slice(&data),
                Err(trailers) => {
                    let trailers = trailers.into_trailers().unwrap_or_default();
                    return match Status::from_header_map(&trailers) {
                        Some(status) if status.code() != Code::Ok => Err(status),
                        Some(_) | None => Ok(None),
                    };
                }
            }
        }
    }

    /// A message that has arrived.
    fn take(&mut self) -> Option<Bytes> {
        let head = self.read.get(1..HEAD_BYTES)?;
        let len = u32::from_be_bytes(head.try_into().ok()?);
        let len = usize::try_from(len).ok()?;
        if self.read.len() < HEAD_BYTES + len {
            return None;
        }
        self.read.advance(HEAD_BYTES);
        Some(self.read.split_to(len).freeze())
    }
}
