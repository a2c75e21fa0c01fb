//! The way of the peers to one node, through a port of the test.
//!
//! Everything passes as it comes, but for the log: the frames that carry it can be stopped right
//! after one that is recognised by what it holds. That is how a test cuts a leader off between two
//! entries. Of the peer protocol it knows what a frame is and which kind carries the log.

use std::sync::Arc;

use tokio::{
    io::{self, AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
};

use crate::port::free_port;

/// The kind of the frames that carry the log.
const APPEND: u8 = 5;

/// More than any frame has bytes; what is longer is no frame, and the test is wrong.
const FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What happens to the log's frames.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Gate {
    /// They pass.
    Open,
    /// They pass up to and with the first that holds these bytes.
    Until(Vec<u8>),
    /// None passes.
    Closed,
}

/// A port that leads to a node's peer port; it ends with its handle.
#[derive(Debug)]
pub struct PeerRoute {
    port: u16,
    gate: Arc<watch::Sender<Gate>>,
    accepting: JoinHandle<()>,
}

impl PeerRoute {
    /// A way to the peer port at `target`, open.
    ///
    /// # Panics
    /// If the system has no port.
    pub async fn to(target: String) -> Self {
        let port = free_port();
        let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("the port is free");
        let gate = Arc::new(watch::Sender::new(Gate::Open));
        let shared = Arc::clone(&gate);
        let accepting = tokio::spawn(async move {
            while let Ok((dialler, _from)) = listener.accept().await {
                // A node that does not run refuses, and so does the way to it.
                let Ok(node) = TcpStream::connect(&target).await else { continue };
                tokio::spawn(carry(dialler, node, Arc::clone(&shared)));
            }
        });
        Self { port, gate, accepting }
    }

    /// Where peers are to dial the node.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Stops the log right after the next frame that holds `mark`.
    pub fn close_after(&self, mark: &[u8]) {
        self.gate.send_replace(Gate::Until(mark.to_vec()));
    }

    /// Whether the log is stopped.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        *self.gate.borrow() == Gate::Closed
    }

    /// Lets the log pass again. What was stopped is lost with its connection.
    pub fn open(&self) {
        self.gate.send_replace(Gate::Open);
    }
}

impl Drop for PeerRoute {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Carries one connection until either end closes it, or something of it was stopped.
async fn carry(dialler: TcpStream, node: TcpStream, gate: Arc<watch::Sender<Gate>>) {
    for stream in [&dialler, &node] {
        // Without it frames wait for one another; either way they arrive.
        let _set = stream.set_nodelay(true);
    }
    let (from_dialler, mut to_dialler) = dialler.into_split();
    let (mut from_node, to_node) = node.into_split();
    tokio::select! {
        _ended = carry_frames(from_dialler, to_node, &gate) => {}
        _ended = io::copy(&mut from_node, &mut to_dialler) => {}
    }
}

async fn carry_frames(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    gate: &watch::Sender<Gate>,
) -> io::Result<()> {
    loop {
        let mut head = [0; 8];
        from.read_exact(&mut head).await?;
        let len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        assert!(len <= FRAME_BYTES_MAX, "{len} bytes are no frame of a peer");
        let mut rest = vec![0; len];
        from.read_exact(&mut rest).await?;
        if rest.first() == Some(&APPEND) && is_stopped(gate, &rest) {
            // As long as it stands nobody learns of it; then the connection breaks.
            let mut changes = gate.subscribe();
            let _opened = changes.wait_for(|gate| *gate != Gate::Closed).await;
            return Ok(());
        }
        to.write_all(&head).await?;
        to.write_all(&rest).await?;
    }
}

/// Whether a frame of the log is stopped; closes the gate behind one that was waited for.
fn is_stopped(gate: &watch::Sender<Gate>, frame: &[u8]) -> bool {
    let mut stopped = false;
    gate.send_if_modified(|gate| match gate {
        Gate::Open => false,
        Gate::Closed => {
            stopped = true;
            false
        }
        Gate::Until(mark) => {
            let holds = frame.windows(mark.len()).any(|bytes| bytes == &mark[..]);
            if holds {
                *gate = Gate::Closed;
            }
            holds
        }
    });
    stopped
}
