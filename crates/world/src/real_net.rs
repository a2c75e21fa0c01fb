//! The machine's TCP, with Nagle's algorithm off.

use std::{io, net::SocketAddr};

use tokio::net::{TcpListener, TcpStream};

use crate::net::{Listener, Net, NetFuture, Stream};

/// TCP sockets of the operating system, with `TCP_NODELAY` on every one: without it a small write
/// waits for the peer's delayed acknowledgement, 40 ms on Linux.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealNet;

impl Net for RealNet {
    fn connect<'a>(&'a self, address: &'a str) -> NetFuture<'a, Stream> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Stream)
        })
    }

    fn bind<'a>(&'a self, address: &'a str) -> NetFuture<'a, Box<dyn Listener>> {
        Box::pin(async move {
            Ok(Box::new(RealListener(TcpListener::bind(address).await?)) as Box<dyn Listener>)
        })
    }
}

struct RealListener(TcpListener);

impl Listener for RealListener {
    fn accept(&mut self) -> NetFuture<'_, (Stream, SocketAddr)> {
        Box::pin(async move {
            let (stream, peer) = self.0.accept().await?;
            stream.set_nodelay(true)?;
            Ok((Box::new(stream) as Stream, peer))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn bytes_travel_both_ways() {
        let mut listener = RealNet.bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("has an address").to_string();
        let client = async {
            let mut stream = RealNet.connect(&address).await.expect("connects");
            stream.write_all(b"ping").await.expect("writes");
            let mut answer = [0; 4];
            stream.read_exact(&mut answer).await.expect("reads");
            answer
        };
        let server = async {
            let (mut stream, _peer) = listener.accept().await.expect("accepts");
            let mut question = [0; 4];
            stream.read_exact(&mut question).await.expect("reads");
            stream.write_all(b"pong").await.expect("writes");
            question
        };
        let (answer, question) = tokio::join!(client, server);
        assert_eq!((&question, &answer), (b"ping", b"pong"));
    }
}
