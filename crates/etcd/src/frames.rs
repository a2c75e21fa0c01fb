//! gRPC's frames: a byte that says whether the message is compressed, its length, the message.

use axum::body::Body;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body_util::BodyExt as _;
use tonic::{Code, Status};

/// What stands before a message: whether it is compressed, and its length.
pub(crate) const HEAD_BYTES: usize = 5;

/// The message, if `data` is exactly one that is not compressed.
pub(crate) fn only_message(data: &Bytes) -> Option<Bytes> {
    let [0, length @ ..] = data.first_chunk::<HEAD_BYTES>()? else { return None };
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    (data.len() - HEAD_BYTES == length).then(|| data.slice(HEAD_BYTES..))
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_whole_message_that_is_not_compressed_is_taken() {
        let message = |bytes: &'static [u8]| only_message(&Bytes::from_static(bytes));
        assert_eq!(message(b"\0\0\0\0\x02ab").as_deref(), Some(&b"ab"[..]));
        assert_eq!(message(b"\0\0\0\0\0").as_deref(), Some(&b""[..]));
        for other in [
            &b""[..],
            b"\0\0\0\0",
            b"\x01\0\0\0\x02ab",
            b"\0\0\0\0\x03ab",
            b"\0\0\0\0\x01ab",
            b"\0\xff\xff\xff\xffab",
        ] {
            assert_eq!(message(other), None, "{other:?}");
        }
    }
}
