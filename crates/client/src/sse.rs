//! Server-sent events, as WHATWG's HTML standard (section 9.2) defines their bytes.
//!
//! The parser takes whatever pieces the network delivers and gives out whole messages. Comments
//! and the `retry` field are read over: when to connect again is the watch's own decision.

use bytes::{Buf, BytesMut};

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// The type; `message` where the stream names none.
    pub(crate) event: String,
    /// The id that the stream was last given, this message included.
    pub(crate) id: String,
    /// The lines of data, joined by line feeds.
    pub(crate) data: String,
}

/// Turns bytes into messages.
#[derive(Debug)]
pub(crate) struct Parser {
    buffer: BytesMut,
    /// Bytes at the head of the buffer that are known to hold no line end.
    scanned: usize,
    message_bytes_max: usize,
    at_start: bool,
    event: String,
    id: String,
    data: Option<String>,
}

/// A stream that is not server-sent events, or has a message over the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ParseError {
    /// Over the limit.
    #[error("a message is longer than {limit} bytes")]
    TooLong {
        /// Bytes allowed.
        limit: usize,
    },
    /// Not text.
    #[error("a message is not UTF-8")]
    NotText,
}

impl Parser {
    pub(crate) fn new(message_bytes_max: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            scanned: 0,
            message_bytes_max,
            at_start: true,
            event: String::new(),
            id: String::new(),
            data: None,
        }
    }

    /// Takes the next bytes of the stream.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message, if there is one in what was pushed so far.
    pub(crate) fn next_message(&mut self) -> Result<Option<Message>, ParseError> {
        while let Some(line) = self.next_line()? {
            if line.is_empty() {
                if let Some(message) = self.dispatch() {
                    return Ok(Some(message));
                }
                continue;
            }
            self.take_field(&line)?;
        }
        Ok(None)
    }

    /// The next line without its end, which is LF, CR LF or CR.
    fn next_line(&mut self) -> Result<Option<String>, ParseError> {
        let pending = self.data.as_ref().map_or(0, String::len);
        let limit = self.message_bytes_max;
        let unseen = &self.buffer[self.scanned..];
        let Some(found) = unseen.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
            self.scanned = self.buffer.len();
            let too_long = pending + self.buffer.len() > limit;
            return if too_long { Err(ParseError::TooLong { limit }) } else { Ok(None) };
        };
        let end = self.scanned + found;
        if pending + end > limit {
            return Err(ParseError::TooLong { limit });
        }
        let end_len = match (self.buffer[end], self.buffer.get(end + 1)) {
            // A CR at the very end may be half of a CR LF: wait for what follows.
            (b'\r', None) => {
                self.scanned = end;
                return Ok(None);
            }
            (b'\r', Some(b'\n')) => 2,
            _ => 1,
        };
        let line = self.buffer.split_to(end);
        self.buffer.advance(end_len);
        self.scanned = 0;
        let line = str::from_utf8(&line).map_err(|_not_text| ParseError::NotText)?;
        let was_at_start = std::mem::replace(&mut self.at_start, false);
        let line = if was_at_start { line.strip_prefix('\u{feff}').unwrap_or(line) } else { line };
        Ok(Some(line.to_owned()))
    }

    fn take_field(&mut self, line: &str) -> Result<(), ParseError> {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => value.clone_into(&mut self.event),
            "id" if !value.contains('\0') => value.clone_into(&mut self.id),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            // A comment has an empty name; unknown fields are left alone.
            _ => {}
        }
        Ok(())
    }

    /// The message that a blank line ends; none without data.
    fn dispatch(&mut self) -> Option<Message> {
        let event = std::mem::take(&mut self.event);
        let data = self.data.take()?;
        let event = if event.is_empty() { "message".to_owned() } else { event };
        Some(Message { event, id: self.id.clone(), data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(event: &str, id: &str, data: &str) -> Message {
        Message { event: event.to_owned(), id: id.to_owned(), data: data.to_owned() }
    }

    /// Parses `stream` in pieces of `piece` bytes.
    fn parse(stream: &[u8], piece: usize) -> Result<Vec<Message>, ParseError> {
        let mut parser = Parser::new(64);
        let mut messages = Vec::new();
        for bytes in stream.chunks(piece) {
            parser.push(bytes);
            while let Some(message) = parser.next_message()? {
                messages.push(message);
            }
        }
        Ok(messages)
    }

    #[test]
    fn messages_come_out_the_same_however_the_bytes_arrive() {
        let stream = "\u{feff}event: change\r\nid: 7\r\ndata: one\r\ndata:two\r\n\r\n: a comment\n\
            data\n\nevent: progress\nid: 9\nretry: 5\ndata: {}\n\nevent: nothing\n\nid: 10\r\r\
            data: last\r\r\n"
            .as_bytes();
        let expected = vec![
            message("change", "7", "one\ntwo"),
            message("message", "7", ""),
            message("progress", "9", "{}"),
            message("message", "10", "last"),
        ];
        for piece in 1..=stream.len() {
            assert_eq!(parse(stream, piece).expect("parses"), expected, "pieces of {piece}");
        }
    }

    #[test]
    fn an_unfinished_message_is_not_given_out() {
        assert_eq!(parse(b"data: half\n", 3), Ok(Vec::new()));
    }

    #[test]
    fn a_message_over_the_limit_is_refused_before_it_is_whole() {
        let limit = ParseError::TooLong { limit: 64 };
        assert_eq!(parse(&[b'x'; 65], 5), Err(limit));
        let many_lines = b"data: 0123456789\n".repeat(7);
        assert_eq!(parse(&many_lines, 4), Err(limit));
    }

    #[test]
    fn bytes_that_are_no_text_are_refused() {
        assert_eq!(parse(b"data: \xff\n\n", 64), Err(ParseError::NotText));
    }
}
