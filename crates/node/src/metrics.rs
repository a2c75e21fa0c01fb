//! Metrics of one node, in a registry of its own.
//!
//! Requests are counted as they are answered; everything else is read from its owner when
//! Prometheus asks. Names are etcd's where the meaning is the same, so that people's dashboards go
//! on working, and start with `mainstay_` otherwise.

mod detector;
mod page;
mod requests;
mod sources;

use std::{
    fmt,
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use http::{Method, StatusCode};
use mainstay_etcd::EtcdApi;
use mainstay_service::Door;
use mainstay_world::Instant;
use prometheus_client::{encoding::text::encode, registry::Registry};

use self::{requests::Requests, sources::Sources};
use crate::http::{connection::Connections, route::Route};

/// The metrics of a node.
#[derive(Clone)]
pub(crate) struct Metrics {
    requests: Arc<Requests>,
    registry: Arc<Registry>,
}

impl Metrics {
    pub(crate) fn new(
        door: Door,
        etcd: EtcdApi,
        connections: Arc<Connections>,
        started: Instant,
    ) -> Self {
        let requests = Arc::new(Requests::new());
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Sources {
            door,
            etcd,
            connections,
            started,
            started_wall_ms: mainstay_world::wall_clock_ms(),
            requests: Arc::clone(&requests),
        }));
        Self { requests, registry: Arc::new(registry) }
    }

    /// Requests that are being answered.
    pub(crate) fn running(&self) -> &AtomicUsize {
        &self.requests.running
    }

    /// Counts an answered request.
    pub(crate) fn request(
        &self,
        route: Route,
        method: &Method,
        status: StatusCode,
        took: Duration,
    ) {
        self.requests.count(route, method, status, took);
    }

    /// The text that Prometheus reads.
    pub(crate) fn render(&self) -> Result<String, fmt::Error> {
        let mut text = String::with_capacity(16 * 1024);
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
