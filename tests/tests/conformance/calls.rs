//! Calls over gRPC whose messages are known by name only.
//!
//! Every call is a stream in both directions, as it is on the wire: a plain call sends one message
//! and gets one. A task per call reads; whoever asked takes what has come.

use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes};
use futures_util::{Stream, StreamExt as _, stream};
use http::uri::PathAndQuery;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use prost_reflect::{DynamicMessage, MessageDescriptor, MethodDescriptor, prost::Message as _};
use tokio::sync::mpsc;
use tonic::{
    Request, Status,
    body::Body,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

use crate::messages;

/// The largest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How long an answer may take. Shorter than the patience of other tests: a case whose answer
/// never comes should say so before the next ones are late, too.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long nothing must come for.
const BRIEFLY: Duration = Duration::from_millis(300);

/// One node, over one connection.
#[derive(Clone)]
pub(crate) struct Calls {
    client: Client<HttpConnector, Body>,
    origin: http::Uri,
}

/// A call that runs.
pub(crate) struct Call {
    method: MethodDescriptor,
    requests: Option<mpsc::UnboundedSender<Bytes>>,
    answers: mpsc::UnboundedReceiver<Came>,
}

/// What came back.
#[derive(Debug)]
pub(crate) enum Came {
    /// A message.
    Answer(DynamicMessage),
    /// A refusal, which is the end.
    Refusal(Status),
    /// The end.
    End,
    /// Nothing, for longer than it may take.
    Nothing,
}

impl Calls {
    /// Calls of the node at `address`.
    pub(crate) fn new(address: &str) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).http2_only(true).build(connector);
        Self { client, origin: format!("http://{address}").parse().expect("is a URI") }
    }

    /// Begins a call of `Service/Method`.
    pub(crate) fn begin(&self, name: &str) -> Call {
        let method = messages::method(name);
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let path = PathAndQuery::try_from(path).expect("a name of a method is a path");
        let (requests, mut waiting) = mpsc::unbounded_channel();
        let (came, answers) = mpsc::unbounded_channel();
        let waiting = stream::poll_fn(move |context| waiting.poll_recv(context));
        let grpc = Grpc::with_origin(self.client.clone(), self.origin.clone())
            .max_decoding_message_size(ANSWER_BYTES_MAX);
        let output = method.output();
        tokio::spawn(async move {
            let end = match tell(grpc, waiting, path, output, &came).await {
                Ok(()) => Came::End,
                Err(status) => Came::Refusal(status),
            };
            let _taken = came.send(end);
        });
        Call { method, requests: Some(requests), answers }
    }

    /// Calls `Service/Method` with one message and returns everything that comes of it.
    pub(crate) async fn call(&self, name: &str, text: &str, base: i64) -> Vec<Came> {
        let mut call = self.begin(name);
        call.send(text, base);
        call.finish().await
    }

    /// The only answer of a call that cannot be refused.
    ///
    /// # Panics
    /// If it is.
    pub(crate) async fn answer(&self, name: &str, text: &str) -> DynamicMessage {
        match self.call(name, text, 1_000).await.into_iter().next() {
            Some(Came::Answer(answer)) => answer,
            other => panic!("{name} {text}: {other:?}"),
        }
    }
}

impl Call {
    /// Sends a message, which is the last of a call that takes one.
    ///
    /// # Panics
    /// If no more was to be sent.
    pub(crate) fn send(&mut self, text: &str, base: i64) {
        let message = messages::read(self.method.input(), text, base);
        let requests = self.requests.as_ref().expect("more is sent only before the end");
        // A stream that was refused takes no more; that it was is what is compared.
        let _taken = requests.send(message.encode_to_vec().into());
        if !self.method.is_client_streaming() {
            self.requests = None;
        }
    }

    /// The next thing that comes.
    pub(crate) async fn next(&mut self) -> Came {
        self.next_within(PATIENCE).await
    }

    /// What comes soon, if anything does.
    pub(crate) async fn next_soon(&mut self) -> Came {
        self.next_within(BRIEFLY).await
    }

    /// Says that nothing more will be sent, and takes everything until the end.
    pub(crate) async fn finish(mut self) -> Vec<Came> {
        self.requests = None;
        let mut all = Vec::new();
        loop {
            match self.next().await {
                Came::Answer(answer) => all.push(Came::Answer(answer)),
                Came::End => return all,
                end @ (Came::Refusal(_) | Came::Nothing) => {
                    all.push(end);
                    return all;
                }
            }
        }
    }

    async fn next_within(&mut self, patience: Duration) -> Came {
        match tokio::time::timeout(patience, self.answers.recv()).await {
            Ok(came) => came.unwrap_or(Came::End),
            Err(_elapsed) => Came::Nothing,
        }
    }
}

/// Runs a call and tells what comes back, up to its end.
async fn tell(
    mut grpc: Grpc<Client<HttpConnector, Body>>,
    requests: impl Stream<Item = Bytes> + Send + 'static,
    path: PathAndQuery,
    output: MessageDescriptor,
    came: &mpsc::UnboundedSender<Came>,
) -> Result<(), Status> {
    grpc.ready().await.map_err(|error| Status::unavailable(format!("{error}")))?;
    let answers = grpc.streaming(Request::new(requests), path, AsBytes).await?;
    let mut answers = answers.into_inner();
    while let Some(answer) = answers.next().await {
        let answer = DynamicMessage::decode(output.clone(), answer?)
            .map_err(|error| Status::internal(format!("no answer: {error}")))?;
        // Nobody reads on when the case has ended.
        let _taken = came.send(Came::Answer(answer));
    }
    Ok(())
}

/// Messages pass as the bytes that they are.
struct AsBytes;

impl Codec for AsBytes {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for AsBytes {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for AsBytes {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
