//! Frames on a peer connection.
//!
//! ```text
//! 0  length of kind and body   u32, little endian
//! 4  CRC32C of kind and body   u32, little endian
//! 8  kind                      u8
//! 9  body
//! ```

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use mainstay_world::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

/// The largest frame body in bytes; a larger length is garbage or an attack.
pub(crate) const FRAME_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Length of what stands before the body.
const HEAD_LEN: usize = 9;

/// Bytes read from a stream at once.
const READ_BYTES: usize = 64 * 1024;

/// A buffer that grew larger than this is given back after it was written.
const WRITE_BUFFER_KEPT: usize = 1024 * 1024;

/// A frame that cannot be used; the connection is closed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    /// The stream ended or failed.
    #[error("the connection was lost")]
    Connection(#[from] io::Error),
    /// The peer closed the stream between two frames.
    #[error("the peer closed the connection")]
    Closed,
    /// The length is over the limit.
    #[error("a frame of {len} bytes where at most {FRAME_BYTES_MAX} are allowed")]
    TooLong {
        /// What the frame says.
        len: usize,
    },
    /// A frame without a kind.
    #[error("an empty frame")]
    Empty,
    /// The checksum does not fit.
    #[error("a damaged frame: its checksum does not fit")]
    Checksum,
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) body: Bytes,
}

/// The reading half of a connection.
pub(crate) struct FrameReader {
    stream: ReadHalf<Stream>,
    buffer: BytesMut,
}

impl FrameReader {
    /// The next frame. Cancel safe: what was read stays in the buffer.
    pub(crate) async fn next(&mut self) -> Result<Frame, FrameError> {
        loop {
            if let Some(frame) = self.take()? {
                return Ok(frame);
            }
            self.buffer.reserve(READ_BYTES);
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(if self.buffer.is_empty() {
                    FrameError::Closed
                } else {
                    FrameError::Connection(io::ErrorKind::UnexpectedEof.into())
                });
            }
        }
    }

    /// A frame that is in the buffer already.
    fn take(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some(head) = self.buffer.first_chunk::<8>() else { return Ok(None) };
        let [l0, l1, l2, l3, c0, c1, c2, c3] = *head;
        let len = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        let found = u32::from_le_bytes([c0, c1, c2, c3]);
        if len > FRAME_BYTES_MAX {
            return Err(FrameError::TooLong { len });
        }
        if len == 0 {
            return Err(FrameError::Empty);
        }
        if self.buffer.len() < 8 + len {
            self.buffer.reserve(8 + len - self.buffer.len());
            return Ok(None);
        }
        self.buffer.advance(8);
        let mut body = self.buffer.split_to(len).freeze();
        if mainstay_codec::checksum(0, &body) != found {
            return Err(FrameError::Checksum);
        }
        let kind = body.get_u8();
        Ok(Some(Frame { kind, body }))
    }
}

/// The writing half of a connection. Frames gather in a buffer until flushed.
pub(crate) struct FrameWriter {
    stream: WriteHalf<Stream>,
    buffer: Vec<u8>,
}

impl FrameWriter {
    /// Adds a frame whose body `write` appends.
    ///
    /// # Errors
    /// [`FrameError::TooLong`]; the frame is then not added.
    pub(crate) fn push(
        &mut self,
        kind: u8,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), FrameError> {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(&[0; HEAD_LEN - 1]);
        self.buffer.put_u8(kind);
        write(&mut self.buffer);
        let len = self.buffer.len() - start - 8;
        let checked = u32::try_from(len).ok().filter(|_| len <= FRAME_BYTES_MAX);
        let Some(len_field) = checked else {
            self.buffer.truncate(start);
            return Err(FrameError::TooLong { len });
        };
        let sum = mainstay_codec::checksum(0, &self.buffer[start + 8..]);
        self.buffer[start..start + 4].copy_from_slice(&len_field.to_le_bytes());
        self.buffer[start + 4..start + 8].copy_from_slice(&sum.to_le_bytes());
        Ok(())
    }

    /// Bytes that wait to be written.
    pub(crate) fn waiting(&self) -> usize {
        self.buffer.len()
    }

    /// Writes everything that was added.
    pub(crate) async fn flush(&mut self) -> Result<(), FrameError> {
        self.stream.write_all(&self.buffer).await?;
        self.stream.flush().await?;
        self.buffer.clear();
        self.buffer.shrink_to(WRITE_BUFFER_KEPT);
        Ok(())
    }
}

/// Both halves of a connection.
pub(crate) fn split(stream: Stream) -> (FrameReader, FrameWriter) {
    let (read, write) = tokio::io::split(stream);
    (
        FrameReader { stream: read, buffer: BytesMut::with_capacity(READ_BYTES) },
        FrameWriter { stream: write, buffer: Vec::new() },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Stream, Stream) {
        let (near, far) = tokio::io::duplex(64 * 1024);
        (Box::new(near), Box::new(far))
    }

    #[tokio::test]
    async fn frames_arrive_whole_and_in_order() {
        let (near, far) = pair();
        let (_, mut writer) = split(near);
        let (mut reader, _far_writer) = split(far);
        for kind in [1, 2] {
            writer.push(kind, |body| body.extend([kind; 5])).expect("fits");
        }
        writer.flush().await.expect("writes");
        for kind in [1, 2] {
            let frame = reader.next().await.expect("a frame");
            assert_eq!((frame.kind, &frame.body[..]), (kind, &[kind; 5][..]));
        }
    }

    #[tokio::test]
    async fn a_flipped_bit_and_an_absurd_length_are_refused() {
        let (near, far) = pair();
        let (mut reader, _writer) = split(far);
        let (_, mut raw) = tokio::io::split(near);
        let mut bytes = vec![2, 0, 0, 0];
        bytes.extend((mainstay_codec::checksum(0, b"\x01a") ^ 1).to_le_bytes());
        bytes.extend(b"\x01a");
        raw.write_all(&bytes).await.expect("writes");
        assert!(matches!(reader.next().await, Err(FrameError::Checksum)));

        let (near, far) = pair();
        let (mut reader, _writer) = split(far);
        let (_, mut raw) = tokio::io::split(near);
        raw.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("writes");
        assert!(matches!(reader.next().await, Err(FrameError::TooLong { .. })));
    }

    #[tokio::test]
    async fn the_end_between_frames_is_told_from_the_end_inside_one() {
        let (near, far) = pair();
        let (mut reader, _writer) = split(far);
        drop(near);
        assert!(matches!(reader.next().await, Err(FrameError::Closed)));

        let (near, far) = pair();
        let (mut reader, _writer) = split(far);
        let (_, mut raw) = tokio::io::split(near);
        raw.write_all(&[9, 0]).await.expect("writes");
        drop((raw, _writer));
        assert!(reader.next().await.is_err());
    }
}
