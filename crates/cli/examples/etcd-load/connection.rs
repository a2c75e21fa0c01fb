//! gRPC over HTTP/2 with hyper: one connection, unary calls, and streams that stay open.
//!
//! No pool, no retries, no compression: a call is one request on the connection that it is given.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    task::{Context as TaskContext, Poll},
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::{
    Request, Response,
    body::{Body, Frame, Incoming},
    client::conn::http2::SendRequest,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

pub(crate) type Connection = SendRequest<Frames>;

/// The whole gRPC frames of a request.
pub(crate) struct Frames {
    frames: VecDeque<Bytes>,
    /// The request has no end: the server sees a client that may still say something.
    stays_open: bool,
}

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.frames.pop_front() {
            Some(frame) => Poll::Ready(Some(Ok(Frame::data(frame)))),
            // Nobody wakes this, which is what a request without an end means.
            None if self.stays_open => Poll::Pending,
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty() && !self.stays_open
    }
}

pub(crate) async fn connect(endpoint: &str) -> Result<Connection> {
    let stream = TcpStream::connect(endpoint).await.with_context(|| format!("dial {endpoint}"))?;
    stream.set_nodelay(true)?;
    let (connection, driver) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(driver);
    Ok(connection)
}

/// One unary call; `message` is a whole gRPC frame, and so is the answer.
pub(crate) async fn call(
    connection: &mut Connection,
    path: &'static str,
    message: Bytes,
) -> Result<Bytes> {
    let frames = Frames { frames: VecDeque::from([message]), stays_open: false };
    let response = send(connection, path, frames).await?;
    let in_head = response.headers().get("grpc-status").cloned();
    let answer = response.into_body().collect().await?;
    let status = in_head.or_else(|| answer.trailers()?.get("grpc-status").cloned());
    let status = status.context("the answer has no grpc-status")?;
    ensure!(status == "0", "grpc-status {status:?}");
    Ok(answer.to_bytes())
}

/// A stream whose requests are `frames` and which stays open; the answers are to be read from it.
pub(crate) async fn stream(
    connection: &mut Connection,
    path: &'static str,
    frames: VecDeque<Bytes>,
) -> Result<Incoming> {
    let response = send(connection, path, Frames { frames, stays_open: true }).await?;
    let refused = response.headers().get("grpc-status");
    ensure!(refused.is_none(), "the stream was refused: grpc-status {refused:?}");
    Ok(response.into_body())
}

async fn send(
    connection: &mut Connection,
    path: &'static str,
    frames: Frames,
) -> Result<Response<Incoming>> {
    let request = Request::post(format!("http://etcd{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(frames)?;
    connection.ready().await?;
    Ok(connection.send_request(request).await?)
}
