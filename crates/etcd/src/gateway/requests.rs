//! What a caller of the gateway asks: one JSON document, or one after another.
//!
//! Documents of a stream need nothing between them, and the last of them ends the asking, not the
//! answering. A later one that cannot be read ends the asking, too.

use axum::body::Body;
use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Stream, stream};
use http_body_util::BodyExt as _;
use serde_json::error::Category;
use tonic::Status;

use crate::{
    api::MESSAGE_BYTES_MAX, arriving::Share, error, frames::frame, gateway::json::MessageJson,
};

/// Bytes of one document: those of a message, as base64, and room for the names.
const DOCUMENT_BYTES_MAX: usize = MESSAGE_BYTES_MAX / 3 * 4 + 64 * 1024;

/// The documents of a request.
pub(crate) struct Requests {
    body: Body,
    read: BytesMut,
    ended: bool,
    input: MessageJson,
    share: Share,
}

impl Requests {
    pub(crate) fn new(body: Body, input: MessageJson, share: Share) -> Self {
        Self { body, read: BytesMut::new(), ended: false, input, share }
    }

    /// The only message; an empty body is the message that says nothing.
    pub(crate) async fn only(mut self) -> Result<Bytes, Status> {
        while !self.ended {
            self.read_more().await?;
        }
        Ok(self.take()?.unwrap_or_else(MessageJson::empty))
    }

    /// The messages as gRPC's frames.
    pub(crate) fn frames(self) -> impl Stream<Item = Result<Bytes, Status>> + Send {
        stream::unfold(self, |mut requests| async move {
            let message = requests.next().await.ok()??;
            Some((Ok(frame(&message)), requests))
        })
    }

    /// The next message; `None` after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
            if self.ended {
                return Ok(None);
            }
            self.read_more().await?;
        }
    }

    async fn read_more(&mut self) -> Result<(), Status> {
        let broken = |_| Status::invalid_argument("the body broke off");
        match self.body.frame().await.transpose().map_err(broken)? {
            Some(part) => {
                if let Ok(data) = part.into_data() {
                    if self.read.len() + data.len() > DOCUMENT_BYTES_MAX {
                        return Err(error::request_too_large());
                    }
                    self.read.extend_from_slice(&data);
                    self.share.set(self.read.len())?;
                }
            }
            None => self.ended = true,
        }
        Ok(())
    }

    /// A message whose document has arrived.
    fn take(&mut self) -> Result<Option<Bytes>, Status> {
        let blank = self.read.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        self.read.advance(blank);
        if self.read.is_empty() {
            return Ok(None);
        }
        // Whatever the document is, its end is found first: the message's own reader is told what
        // is there, and nothing is read twice but a document that has not all arrived.
        let mut documents =
            serde_json::Deserializer::from_slice(&self.read).into_iter::<serde::de::IgnoredAny>();
        let found = documents.next();
        let len = documents.byte_offset();
        match found {
            Some(Err(error)) if error.classify() == Category::Eof && !self.ended => Ok(None),
            Some(Err(error)) => Err(Status::invalid_argument(error.to_string())),
            None => Ok(None),
            Some(Ok(_)) => {
                let document = self.read.split_to(len);
                let mut json = serde_json::Deserializer::from_slice(&document);
                let read = self.input.read(&mut json);
                read.map(Some).map_err(|error| Status::invalid_argument(error.to_string()))
            }
        }
    }
}
