//! The network of a simulated host: turmoil's sockets behind the node's seam, every byte traced.
//!
//! Turmoil has no retransmission: a lost segment wedges its stream for ever, and a dial into a cut
//! network may hang. That is harsher than TCP and allowed: deadlines are the callers'.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use mainstay_world::{Listener, Net, NetFuture, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::{TcpListener, TcpStream};

use crate::trace::Trace;

/// The sockets of one host.
#[derive(Debug, Clone)]
pub struct SimulatedNet {
    host: u32,
    trace: Trace,
}

impl SimulatedNet {
    /// The network as `host` sees it.
    #[must_use]
    pub const fn new(host: u32, trace: Trace) -> Self {
        Self { host, trace }
    }

    fn stream(&self, stream: TcpStream) -> io::Result<Stream> {
        let ports = [stream.local_addr()?.port(), stream.peer_addr()?.port()].map(u64::from);
        Ok(Box::new(TracedStream { stream, ports, net: self.clone() }))
    }
}

impl Net for SimulatedNet {
    fn connect<'a>(&'a self, address: &'a str) -> NetFuture<'a, Stream> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            self.trace.record("connected", self.host, &[], address.as_bytes());
            self.stream(stream)
        })
    }

    fn bind<'a>(&'a self, address: &'a str) -> NetFuture<'a, Box<dyn Listener>> {
        Box::pin(async move {
            // Turmoil binds to every address of the host or to none.
            let (_host, port) = address.rsplit_once(':').ok_or(io::ErrorKind::InvalidInput)?;
            let listener = TcpListener::bind(format!("0.0.0.0:{port}")).await?;
            Ok(Box::new(SimulatedListener { listener, net: self.clone() }) as Box<dyn Listener>)
        })
    }
}

struct SimulatedListener {
    listener: TcpListener,
    net: SimulatedNet,
}

impl Listener for SimulatedListener {
    fn accept(&mut self) -> NetFuture<'_, (Stream, SocketAddr)> {
        Box::pin(async move {
            let (stream, peer) = self.listener.accept().await?;
            Ok((self.net.stream(stream)?, peer))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A stream whose bytes go into the trace as they are sent and as they are read.
struct TracedStream {
    stream: TcpStream,
    ports: [u64; 2],
    net: SimulatedNet,
}

impl AsyncRead for TracedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if polled.is_ready() {
            let read = &buffer.filled()[before..];
            self.net.trace.record("read", self.net.host, &self.ports, read);
        }
        polled
    }
}

impl AsyncWrite for TracedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        if let Poll::Ready(Ok(written)) = &polled {
            self.net.trace.record("sent", self.net.host, &self.ports, &bytes[..*written]);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
