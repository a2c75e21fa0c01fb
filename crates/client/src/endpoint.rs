//! The address of a node's client port.

use std::{fmt, str::FromStr};

/// The port that a node serves clients on unless it is told otherwise.
const PORT: &str = "2379";

/// Where a node serves clients: `http://host:port`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// `host:port`, as [`mainstay_world::Net`] dials it.
    address: String,
}

impl Endpoint {
    /// The address to dial, `host:port`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "http://{}", self.address)
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    /// Reads `http://host:port`; scheme and port may be left out.
    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let malformed = || EndpointError::Malformed { text: text.to_owned() };
        let trimmed = text.trim();
        let host_and_port = match trimmed.split_once("://") {
            Some(("http", rest)) => rest,
            Some((scheme, _rest)) => {
                return Err(EndpointError::Scheme { scheme: scheme.to_owned() });
            }
            None => trimmed,
        };
        let host_and_port = host_and_port.strip_suffix('/').unwrap_or(host_and_port);
        let strange = |byte: u8| !byte.is_ascii_graphic() || b"/?#@\"<>\\".contains(&byte);
        if host_and_port.is_empty() || host_and_port.bytes().any(strange) {
            return Err(malformed());
        }
        // The colons of an IPv6 address stand inside brackets.
        let after_host = host_and_port.rfind(']').map_or(0, |at| at + 1);
        let (host, port) = match host_and_port[after_host..].find(':') {
            Some(at) => host_and_port.split_at(after_host + at),
            None => (host_and_port, ""),
        };
        let port = port.strip_prefix(':').unwrap_or(PORT);
        if host.is_empty() || port.parse::<u16>().is_ok_and(|port| port == 0) {
            return Err(malformed());
        }
        port.parse::<u16>().map_err(|_not_a_port| malformed())?;
        Ok(Self { address: format!("{host}:{port}") })
    }
}

/// A text that is not the address of a node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Not of the form `http://host:port`.
    #[error("'{text}' is not an endpoint; write http://HOST:PORT, as in http://127.0.0.1:2379")]
    Malformed {
        /// What was given.
        text: String,
    },
    /// Another protocol than HTTP.
    #[error("endpoints speak http, not '{scheme}'; write http://HOST:PORT")]
    Scheme {
        /// What stands before `://`.
        scheme: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_becomes_an_address() {
        for (text, address) in [
            ("http://127.0.0.1:2379", "127.0.0.1:2379"),
            ("http://127.0.0.1:2379/", "127.0.0.1:2379"),
            (" localhost:1 ", "localhost:1"),
            ("node-1.example", "node-1.example:2379"),
            ("http://[::1]:2389", "[::1]:2389"),
            ("[::1]", "[::1]:2379"),
        ] {
            let endpoint: Endpoint = text.parse().expect(text);
            assert_eq!(endpoint.address(), address);
            assert_eq!(endpoint.to_string(), format!("http://{address}"));
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in
            ["", "http://", ":2379", "a:b", "a:0", "a:70000", "a b:1", "http://a:1/v1", "::1"]
        {
            assert!(
                matches!(text.parse::<Endpoint>(), Err(EndpointError::Malformed { .. })),
                "{text}"
            );
        }
        assert_eq!(
            "https://a:1".parse::<Endpoint>(),
            Err(EndpointError::Scheme { scheme: "https".to_owned() })
        );
    }
}
