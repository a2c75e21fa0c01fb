//! The client itself: the endpoints it knows and what it may spend on a call.

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use mainstay_world::{Instant, Net};

use crate::{endpoint::Endpoint, retry::Budget, transport::Transport};

/// A client of one cluster; cheap to clone, clones share connections and retry budget.
#[derive(Clone)]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
}

/// What a client is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientOptions {
    /// The nodes, in the order of preference; at least one.
    pub endpoints: Vec<Endpoint>,
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
    /// Options for these endpoints: calls of up to 5 seconds.
    #[must_use]
    pub const fn new(endpoints: Vec<Endpoint>) -> Self {
        Self {
            endpoints,
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
    pub(crate) transports: Vec<Transport>,
    pub(crate) budget: Mutex<Budget>,
    /// The endpoint that answered last, by its place in the list.
    preferred: AtomicUsize,
}

impl Client {
    /// A client of the cluster behind `options.endpoints`. Connects when the first call is made.
    ///
    /// # Panics
    /// If there is no endpoint, or a limit of connections of 0.
    #[must_use]
    pub fn new(net: Arc<dyn Net>, options: ClientOptions) -> Self {
        assert!(!options.endpoints.is_empty(), "a client needs an endpoint");
        assert!(options.connections_max > 0, "a client needs a connection");
        let transport = |endpoint: &Endpoint| {
            Transport::new(
                Arc::clone(&net),
                endpoint.clone(),
                options.connect_timeout,
                options.connections_max,
            )
        };
        let transports = options.endpoints.iter().map(transport).collect();
        Self {
            shared: Arc::new(Shared {
                transports,
                net,
                budget: Mutex::new(Budget::new(Instant::now())),
                preferred: AtomicUsize::new(0),
                options,
            }),
        }
    }

    /// What the client was told.
    #[must_use]
    pub fn options(&self) -> &ClientOptions {
        &self.shared.options
    }

    /// A client of this one node, for questions about the node itself.
    #[must_use]
    pub fn only(&self, endpoint: Endpoint) -> Self {
        let options = ClientOptions { endpoints: vec![endpoint], ..self.shared.options.clone() };
        Self::new(Arc::clone(&self.shared.net), options)
    }
}

impl Shared {
    /// The endpoint to ask, and its place in the list.
    pub(crate) fn preferred(&self) -> usize {
        self.preferred.load(Ordering::Relaxed) % self.transports.len()
    }

    /// Prefers the endpoint after `failed` from now on, unless another call changed it already.
    pub(crate) fn pass_on(&self, failed: usize) {
        let next = (failed + 1) % self.transports.len();
        let _raced =
            self.preferred.compare_exchange(failed, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Client").field("options", self.options()).finish_non_exhaustive()
    }
}
