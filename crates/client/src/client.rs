//! The client itself: what it was told, and what its clones have in common.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use mainstay_world::{Instant, Net};

use crate::{endpoint::Endpoint, endpoints::Endpoints, retry::Budget, session::Numbering};

/// A client of one cluster; cheap to clone. Clones share connections, what is known of the members,
/// the session of their writes and the retry budget.
#[derive(Clone)]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
}

/// What a client is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientOptions {
    /// The nodes, in the order of preference; at least one. They are never forgotten.
    pub endpoints: Vec<Endpoint>,
    /// Whether the members' client URLs are learnt from `GET /v1/cluster`, so that the client
    /// follows members that come and go, and asks the leader.
    pub discover: bool,
    /// How often the members are asked for, unless something hints at a change before.
    pub refresh_interval: Duration,
    /// Whether writes without an origin of their own are numbered in a session that the client
    /// opens by itself, so that they can be repeated and take effect once. Without it such a write
    /// is never repeated once it may have arrived.
    pub sessions: bool,
    /// How long a call may take, all its attempts included.
    pub timeout: Duration,
    /// How long one attempt of a request that may be repeated can take.
    pub attempt_timeout: Duration,
    /// How long dialling may take.
    pub connect_timeout: Duration,
    /// After how long a call gives up when no endpoint can be reached at all.
    pub unreachable_patience: Duration,
    /// The wait before the first retry; it doubles from retry to retry.
    pub backoff: Duration,
    /// The longest wait between two attempts.
    pub backoff_max: Duration,
    /// Connections to one endpoint at a time, those of watches aside.
    pub connections_max: usize,
    /// How long a watch may be without a connection before it gives up.
    pub watch_patience: Duration,
    /// How long the connection of a watch may be silent before it is given up; nodes are asked to
    /// tell their progress three times as often. From 300 ms to 30 minutes.
    pub watch_silence_max: Duration,
    /// The largest message of a watch in bytes: all events of one revision.
    pub watch_message_bytes_max: usize,
}

impl ClientOptions {
    /// Options for these endpoints: calls of up to 5 seconds, discovery and sessions on.
    #[must_use]
    pub const fn new(endpoints: Vec<Endpoint>) -> Self {
        Self {
            endpoints,
            discover: true,
            refresh_interval: Duration::from_secs(30),
            sessions: true,
            timeout: Duration::from_secs(5),
            attempt_timeout: Duration::from_secs(2),
            connect_timeout: Duration::from_millis(500),
            unreachable_patience: Duration::from_secs(1),
            backoff: Duration::from_millis(20),
            backoff_max: Duration::from_millis(250),
            connections_max: 64,
            watch_patience: Duration::from_secs(60),
            watch_silence_max: Duration::from_secs(6),
            watch_message_bytes_max: 256 * 1024 * 1024,
        }
    }
}

/// What clones of a client have in common.
pub(crate) struct Shared {
    pub(crate) options: ClientOptions,
    pub(crate) net: Arc<dyn Net>,
    pub(crate) endpoints: Endpoints,
    pub(crate) budget: Mutex<Budget>,
    /// The session of the writes that have no other origin, once there was one.
    pub(crate) numbering: tokio::sync::Mutex<Option<Numbering>>,
}

impl Client {
    /// A client of the cluster behind `options.endpoints`. Connects when the first call is made.
    ///
    /// # Panics
    /// If there is no endpoint, or a limit of connections of 0.
    #[must_use]
    pub fn new(net: Arc<dyn Net>, options: ClientOptions) -> Self {
        assert!(options.connections_max > 0, "a client needs a connection");
        let now = Instant::now();
        Self {
            shared: Arc::new(Shared {
                endpoints: Endpoints::new(Arc::clone(&net), &options, now),
                net,
                budget: Mutex::new(Budget::new(now)),
                numbering: tokio::sync::Mutex::default(),
                options,
            }),
        }
    }

    /// What the client was told.
    #[must_use]
    pub fn options(&self) -> &ClientOptions {
        &self.shared.options
    }

    /// The endpoints that the client knows now: those it was given, and those of the members.
    #[must_use]
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.shared.endpoints.all()
    }

    /// A client of this one node, for questions about the node itself.
    #[must_use]
    pub fn only(&self, endpoint: Endpoint) -> Self {
        let options = ClientOptions {
            endpoints: vec![endpoint],
            discover: false,
            ..self.shared.options.clone()
        };
        Self::new(Arc::clone(&self.shared.net), options)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Client").field("options", self.options()).finish_non_exhaustive()
    }
}
