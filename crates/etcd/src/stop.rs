//! Streams that end when the node does.
//!
//! A node that stops waits for what runs; a stream runs for as long as its client likes, so it is
//! ended with a word that has the client go on elsewhere.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::Stream;
use tokio::sync::watch;
use tonic::Status;

use crate::error;

/// Answers that come one after another.
pub(crate) type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Ends `stream` with "server stopped" when `stopping` says so.
pub(crate) fn until_stopped<T: 'static>(
    stream: impl Stream<Item = Result<T, Status>> + Send + 'static,
    mut stopping: watch::Receiver<bool>,
) -> Answers<T> {
    let stopped = async move {
        // A sender that is gone means the same.
        let _either = stopping.wait_for(|stopping| *stopping).await;
    };
    Box::pin(UntilStopped { stream: Box::pin(stream), stopped: Box::pin(stopped), ended: false })
}

struct UntilStopped<T> {
    stream: Answers<T>,
    stopped: Pin<Box<dyn Future<Output = ()> + Send>>,
    ended: bool,
}

impl<T> Stream for UntilStopped<T> {
    type Item = Result<T, Status>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<T, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if self.stopped.as_mut().poll(context).is_ready() {
            self.ended = true;
            return Poll::Ready(Some(Err(error::server_stopped())));
        }
        self.stream.as_mut().poll_next(context)
    }
}
