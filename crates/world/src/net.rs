//! The network: dial, listen, accept.
//!
//! Addresses are `host:port` strings, resolved when dialled. Deadlines are the caller's: a dial
//! into a cut network may hang for ever.

use std::{future::Future, io, net::SocketAddr, pin::Pin};

use tokio::io::{AsyncRead, AsyncWrite};

/// The future of one network call.
pub type NetFuture<'a, T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send + 'a>>;

/// A connected, ordered stream of bytes.
pub trait Transport: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Transport for T {}

/// A connection, whatever carries it.
pub type Stream = Box<dyn Transport>;

/// A bound socket that accepts connections.
pub trait Listener: Send {
    /// The next connection and its peer's address. An error concerns one connection: call again.
    fn accept(&mut self) -> NetFuture<'_, (Stream, SocketAddr)>;

    /// The address that was bound; tells the port when 0 was asked for.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// A network to dial and listen on. Every stream has Nagle's delay off.
pub trait Net: Send + Sync + 'static {
    /// Dials `address`, a `host:port`.
    fn connect<'a>(&'a self, address: &'a str) -> NetFuture<'a, Stream>;

    /// Listens on `address`, a `host:port`; port 0 picks a free one.
    fn bind<'a>(&'a self, address: &'a str) -> NetFuture<'a, Box<dyn Listener>>;
}
