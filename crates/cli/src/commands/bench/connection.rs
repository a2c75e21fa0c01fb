//! HTTP/1.1 for a load generator: one request at a time, nothing allocated for an answer.
//!
//! It understands what a Mainstay node sends, answers with a length; anything else is an error.
//! For a client that is to be useful rather than cheap see `mainstay_client`.

use std::io::{Error, ErrorKind, Result};

use mainstay_client::Endpoint;
use mainstay_world::{Net, RealNet, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What is read from the socket at once.
const BUFFER_BYTES: usize = 16 * 1024;
/// The largest head or body of an answer: more than any value.
const PART_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A connection to one node.
pub(super) struct Connection {
    stream: Stream,
    buffer: Vec<u8>,
}

/// An answer; its body is in the connection's buffer until the next request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// The mod revision in the `ETag`, if there is one.
    pub(super) entity_tag: Option<u64>,
    body_start: usize,
    body_len: usize,
}

impl Connection {
    pub(super) async fn open(endpoint: &Endpoint) -> Result<Self> {
        let stream = RealNet.connect(endpoint.address()).await?;
        Ok(Self { stream, buffer: vec![0; BUFFER_BYTES] })
    }

    /// Sends a whole request and reads the whole answer.
    pub(super) async fn exchange(&mut self, request: &[u8]) -> Result<Answer> {
        self.stream.write_all(request).await?;
        let mut filled = 0;
        let mut scanned = 0;
        let answer = loop {
            filled += self.read_more(filled).await?;
            if let Some(answer) = parse_head(&self.buffer[..filled], scanned)? {
                break answer;
            }
            // The blank line may have come in part.
            scanned = filled.saturating_sub(3);
        };
        let end = answer.body_start + answer.body_len;
        if end > self.buffer.len() {
            self.buffer.resize(end, 0);
        }
        while filled < end {
            filled += self.read_more(filled).await?;
        }
        if filled > end {
            return Err(malformed("more bytes than it announced"));
        }
        Ok(answer)
    }

    /// The body of the answer that [`Connection::exchange`] gave last.
    pub(super) fn body(&self, answer: &Answer) -> &[u8] {
        &self.buffer[answer.body_start..answer.body_start + answer.body_len]
    }

    async fn read_more(&mut self, filled: usize) -> Result<usize> {
        if filled == self.buffer.len() {
            if filled > PART_BYTES_MAX {
                return Err(malformed("a head without end"));
            }
            self.buffer.resize(filled + BUFFER_BYTES, 0);
        }
        match self.stream.read(&mut self.buffer[filled..]).await? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            read => Ok(read),
        }
    }
}

/// The head in `bytes`, if all of it is there; it does not end before `scanned`.
fn parse_head(bytes: &[u8], scanned: usize) -> Result<Option<Answer>> {
    let Some(end) = bytes[scanned..].windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = &bytes[..scanned + end];
    let status = head.get(9..12).and_then(number);
    let Some(status) = status.filter(|_| head.starts_with(b"HTTP/1.1 ")) else {
        return Err(malformed("no status of HTTP/1.1"));
    };
    let mut answer = Answer {
        status: u16::try_from(status).map_err(|_too_large| malformed("no status"))?,
        entity_tag: None,
        body_start: scanned + end + 4,
        body_len: 0,
    };
    for line in head.split(|byte| *byte == b'\n').skip(1) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if let Some(value) = header(line, b"content-length") {
            let len = number(value).and_then(|len| usize::try_from(len).ok());
            let Some(len) = len.filter(|len| *len <= PART_BYTES_MAX) else {
                return Err(malformed("a length that is none"));
            };
            answer.body_len = len;
        } else if let Some(value) = header(line, b"etag") {
            answer.entity_tag =
                value.strip_prefix(b"\"").and_then(|tag| number(tag.strip_suffix(b"\"")?));
        } else if header(line, b"transfer-encoding").is_some() {
            return Err(malformed("a body without a length"));
        }
    }
    Ok(Some(answer))
}

/// The value of the header line if it has this name.
fn header<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (found, rest) = line.split_at_checked(name.len())?;
    let value = rest.strip_prefix(b":")?;
    found.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
}

fn number(digits: &[u8]) -> Option<u64> {
    str::from_utf8(digits).ok()?.parse().ok()
}

fn malformed(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, format!("the answer has {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_when_all_of_it_is_there() {
        let text =
            b"HTTP/1.1 200 OK\r\nETag: \"7\"\r\ncontent-length: 5\r\nmainstay-term: 2\r\n\r\nhello";
        let whole = text.len() - 5;
        for end in 0..whole {
            assert_eq!(parse_head(&text[..end], 0).expect("no error"), None, "{end} bytes");
        }
        let expected = Answer { status: 200, entity_tag: Some(7), body_start: whole, body_len: 5 };
        for scanned in [0, 10, whole - 4] {
            assert_eq!(parse_head(text, scanned).expect("no error"), Some(expected));
        }
    }

    #[test]
    fn what_is_no_answer_of_a_node_is_an_error() {
        for text in [
            "HTTP/2 200 OK\r\n\r\n",
            "HTTP/1.1 2x0 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        ] {
            assert!(parse_head(text.as_bytes(), 0).is_err(), "{text}");
        }
    }
}
