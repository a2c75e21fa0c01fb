//! What stands in the way of joining: a failed attempt as a sentence, and whether it may pass.
//!
//! As long as nobody has introduced itself at the URL anything may be there. What answers, but not
//! as a node does, is asked once more in plain bytes, so that a person hears what it is: another
//! HTTP server, one that wants TLS, the peer port of a node, or a proxy whose nodes are away. Only
//! the last of these may pass. Silence proves nothing and always may.

use std::{io, sync::Arc, time::Duration};

use mainstay_client::{CallError, Endpoint, Failure};
use mainstay_consensus::{PeerAnswer, ask_peer};
use mainstay_world::{self as world, Net};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::sentence;
use crate::life::VERSION;

/// How long a stranger may take to connect and to say its first words, each.
const FIRST_WORDS: Duration = Duration::from_millis(500);

/// How many bytes of them are read.
const FIRST_WORDS_BYTES_MAX: u64 = 1024;

/// Why a node is not in the cluster yet, as a clause.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// It may pass by itself.
    Passing(String),
    /// Nobody at the URL can ever add a node.
    NoMember(String),
    /// The cluster does not take this node.
    Refusal(String),
}

impl Obstacle {
    /// Of an attempt at a member that runs `version`.
    pub(super) fn of_member(error: &CallError, version: &str) -> Self {
        match &error.failure {
            Failure::Refused(problem) => {
                let passes = problem.retry_after_ms.is_some() || problem.code == "unreachable";
                if (400..500).contains(&problem.status) && !passes {
                    Self::Refusal(sentence(error))
                } else {
                    Self::Passing(sentence(error))
                }
            }
            Failure::Malformed { .. } | Failure::Unsendable { .. } => Self::Refusal(format!(
                "{}; it is of version {version}, this node of version {VERSION}",
                sentence(error)
            )),
            Failure::Unreachable { .. }
            | Failure::NotSent { .. }
            | Failure::Lost { .. }
            | Failure::TimedOut { .. }
            | Failure::Busy { .. }
            | Failure::Cancelled { .. } => Self::Passing(sentence(error)),
        }
    }

    /// Of an attempt at whoever is at `endpoint`, which failed to introduce itself.
    pub(super) async fn of_stranger(
        error: &CallError,
        net: &Arc<dyn Net>,
        endpoint: &Endpoint,
    ) -> Self {
        match &error.failure {
            Failure::Unreachable { source, .. } => Self::Passing(unreachable(endpoint, source)),
            Failure::TimedOut { waited, .. } => Self::Passing(format!(
                "{endpoint} takes connections and does not answer within {} ms",
                waited.as_millis()
            )),
            Failure::Refused(_) => Self::of_member(error, "unknown"),
            Failure::Malformed { .. } | Failure::NotSent { .. } | Failure::Lost { .. } => {
                let words = first_words(net, endpoint).await;
                if words.as_ref().is_ok_and(Vec::is_empty)
                    && let PeerAnswer::Node { name, .. } =
                        ask_peer(net, endpoint.address(), FIRST_WORDS).await
                {
                    return Self::NoMember(format!(
                        "{endpoint} is the peer port of the node {name}, which has another port \
                         for clients"
                    ));
                }
                words.map_or_else(
                    |_gone| Self::Passing(sentence(error)),
                    |words| Self::of_words(endpoint, &words, error),
                )
            }
            Failure::Busy { .. } | Failure::Cancelled { .. } | Failure::Unsendable { .. } => {
                Self::Passing(sentence(error))
            }
        }
    }

    /// Of whoever said `words` to a plain request.
    fn of_words(endpoint: &Endpoint, words: &[u8], error: &CallError) -> Self {
        if words.is_empty() {
            return Self::Passing(format!(
                "{endpoint} takes connections and closes them without an answer"
            ));
        }
        let text = String::from_utf8_lossy(words);
        let status = text.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1));
        let asks_for_tls =
            status == Some("400") && ["HTTPS", "SSL"].iter().any(|word| text.contains(word));
        if asks_for_tls || is_tls_alert(words) {
            return Self::NoMember(format!(
                "{endpoint} wants TLS, and nodes are asked in plain HTTP"
            ));
        }
        match (status, &error.failure) {
            (None, _) => Self::NoMember(format!("what answers at {endpoint} does not speak HTTP")),
            (Some(status @ ("502" | "503" | "504")), Failure::Malformed { .. }) => {
                Self::Passing(format!(
                    "{endpoint} is no node but something before it, and answers with status {status}"
                ))
            }
            (Some(_other), Failure::Malformed { what, .. }) => {
                Self::NoMember(format!("what answers at {endpoint} is no Mainstay node ({what})"))
            }
            // A connection broke, and the next one did not.
            (Some(_status), _) => Self::Passing(sentence(error)),
        }
    }
}

fn unreachable(endpoint: &Endpoint, source: &io::Error) -> String {
    match source.kind() {
        io::ErrorKind::ConnectionRefused => {
            format!("nobody listens at {endpoint} (connection refused)")
        }
        io::ErrorKind::TimedOut => format!("nobody answers at {endpoint} ({source})"),
        _other => format!("{endpoint} cannot be reached ({source})"),
    }
}

/// An alert record, of any version: what a TLS server says to a request that is none of TLS.
fn is_tls_alert(words: &[u8]) -> bool {
    matches!(words, [0x15, 0x03, ..])
}

/// What comes back to a plain request; nothing if the connection is closed without a word.
///
/// # Errors
/// Nobody is there any more, or says nothing in time.
async fn first_words(net: &Arc<dyn Net>, endpoint: &Endpoint) -> io::Result<Vec<u8>> {
    let connecting = net.connect(endpoint.address());
    let mut stream = world::timeout(FIRST_WORDS, connecting).await.map_err(io::Error::other)??;
    let request = format!(
        "GET /version HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n",
        endpoint.address()
    );
    let mut words = Vec::new();
    let exchange = async {
        stream.write_all(request.as_bytes()).await?;
        (&mut stream).take(FIRST_WORDS_BYTES_MAX).read_to_end(&mut words).await
    };
    match world::timeout(FIRST_WORDS, exchange).await {
        // Who resets the connection has closed it; who keeps it open may have said enough.
        Ok(_closed) => Ok(words),
        Err(_elapsed) if !words.is_empty() => Ok(words),
        Err(elapsed) => Err(io::Error::other(elapsed)),
    }
}
