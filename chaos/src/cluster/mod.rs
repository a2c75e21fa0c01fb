//! A cluster of real nodes in simulated time, and everything that can be done to it.
//!
//! One thread steps all hosts through time, one millisecond at a time; after each step the world
//! looks at every node. Between steps a scenario does what it wants: cut links, stop processes,
//! take the power away. Nothing in here waits for real time.

mod hardship;
mod members;
mod observation;
mod seat;
mod task_ids;

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use mainstay_consensus::{Birth, BootstrapPeer, Election, Versions};
use mainstay_kv::{
    command::KeyRange,
    query::{KeyValue, RangeQuery},
};
use mainstay_node::{
    Config, JOIN_TIMEOUT_DEFAULT, LogFormat, Profile, RuntimeKind, StorageOptions,
    WATCH_PROGRESS_INTERVAL_DEFAULT,
};
use turmoil::Sim;

pub use self::hardship::FaultId;
use self::{
    hardship::{Links, OpenFaults},
    observation::{Observation, Seen},
    seat::Seat,
};
use crate::{
    checkers::{NodeEvent, NodeState, durability::Replica},
    dice::Dice,
    disk::DiskCounters,
    history::Found,
    record::SharedRecord,
    timeline::{EventKind, Role},
    trace::Trace,
};

/// The wall clock at the start of every run: 2026-01-01 in milliseconds since 1970.
pub(crate) const EPOCH_MS: u64 = 1_767_225_600_000;

const CLIENT_PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;

/// The host of all clients.
pub(crate) const CLIENTS: &str = "clients";

/// What a cluster is like.
#[derive(Debug, Clone)]
pub struct Shape {
    /// How many nodes found it.
    pub nodes: u32,
    /// How many machines stand by for nodes that join it.
    pub spares: u32,
    /// Its timings.
    pub profile: Profile,
    /// The shortest delay of a message, in milliseconds.
    pub link_ms_min: u64,
    /// The longest delay of a message, in milliseconds.
    pub link_ms_max: u64,
    /// How delays lie between the two: exponentially, this many times steeper than the span; 5
    /// makes long ones rare, 1 spreads them over the whole span.
    pub link_curve: f64,
    /// Bytes of log kept behind a snapshot; small ones make snapshots frequent.
    pub log_bytes_min: u64,
    /// How much any clock may run too fast or too slow, in thousandths.
    pub clock_error_per_mille: u64,
    /// What the programs of the first processes speak and apply.
    pub versions: Versions,
    /// The bug that is planted, if any.
    pub planted: Option<&'static str>,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            nodes: 3,
            spares: 0,
            profile: Profile::Lan,
            link_ms_min: 0,
            link_ms_max: 2,
            link_curve: 5.0,
            log_bytes_min: 64 * 1024 * 1024,
            clock_error_per_mille: 0,
            versions: Versions::default(),
            planted: None,
        }
    }
}

/// See the module comment.
pub struct Cluster {
    sim: Sim<'static>,
    shape: Shape,
    seats: Vec<Seat>,
    up: Vec<bool>,
    paused: Vec<bool>,
    observations: Vec<Observation>,
    identities: BTreeMap<u64, u32>,
    trace: Trace,
    record: SharedRecord,
    dice: Dice,
    next_fault: u32,
    /// The places that the operator runs a node on.
    in_use: Vec<bool>,
    /// Node ids whose disk was lost or rotted.
    lost_ids: BTreeSet<u64>,
    links: Links,
    open_faults: OpenFaults,
    broken: Option<String>,
    crash_points: BTreeMap<&'static str, u64>,
}

impl Cluster {
    /// A cluster whose processes start with the first step.
    #[must_use]
    pub fn new(seed: u64, shape: Shape, trace: Trace, record: SharedRecord) -> Self {
        task_ids::align();
        let mut sim = turmoil::Builder::new()
            .rng_seed(Dice::derive(seed, "network", 0).next_u64())
            .epoch(UNIX_EPOCH + Duration::from_millis(EPOCH_MS))
            .simulation_duration(Duration::from_secs(1_000_000))
            .tick_duration(Duration::from_millis(1))
            .min_message_latency(Duration::from_millis(shape.link_ms_min))
            .max_message_latency(Duration::from_millis(shape.link_ms_max))
            .tcp_capacity(65_536)
            .enable_random_order()
            .build();
        sim.set_message_latency_curve(shape.link_curve);
        let order = Arc::default();
        let founders = shape.nodes as usize;
        let seats: Vec<Seat> = (0..shape.nodes + shape.spares)
            .map(|number| {
                let config = config(&shape, number);
                let storage = storage_options(&shape);
                let (trace, order) = (trace.clone(), Arc::clone(&order));
                Seat::new(seed, config, storage, number, shape.planted, trace, order)
            })
            .collect();
        for seat in &seats {
            let seat = seat.clone();
            sim.host(host_name(seat.number), move || seat.clone().run());
        }
        for spare in seats.iter().skip(founders) {
            // It has not run for a moment yet.
            sim.crash(host_name(spare.number));
        }
        let count = seats.len();
        let founds: Vec<bool> = (0..count).map(|number| number < founders).collect();
        {
            let mut record = record.lock();
            record.watch_over();
            record.in_use = (0..shape.nodes).collect();
        }
        Self {
            sim,
            seats,
            up: founds.clone(),
            paused: vec![false; count],
            observations: (0..count).map(|_seat| Observation::default()).collect(),
            identities: BTreeMap::new(),
            trace,
            record,
            dice: Dice::derive(seed, "scenario", 0),
            next_fault: 0,
            in_use: founds,
            lost_ids: BTreeSet::new(),
            links: Links::default(),
            open_faults: OpenFaults::default(),
            broken: None,
            crash_points: BTreeMap::new(),
            shape,
        }
    }

    /// Adds the host of all clients.
    pub(crate) fn add_clients<F>(&mut self, clients: F)
    where
        F: Future<Output = turmoil::Result> + 'static,
    {
        self.sim.client(CLIENTS, clients);
    }

    /// What it is like.
    #[must_use]
    pub const fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The scenario's dice.
    pub const fn dice(&mut self) -> &mut Dice {
        &mut self.dice
    }

    /// Simulated time in microseconds.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        u64::try_from(self.sim.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Why the run cannot go on, if it cannot: a node panicked.
    #[must_use]
    pub fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    /// The nodes that the operator runs, whether they are up or not; at first those that found the
    /// cluster.
    pub fn nodes(&self) -> impl Iterator<Item = u32> + use<> {
        let used: Vec<u32> = self.places().filter(|node| self.in_use[at(*node)]).collect();
        used.into_iter()
    }

    /// The machines of all nodes, those that stand by too.
    fn places(&self) -> impl Iterator<Item = u32> + use<> {
        0..self.shape.nodes + self.shape.spares
    }

    /// Whether the node's process runs.
    #[must_use]
    pub fn is_up(&self, node: u32) -> bool {
        self.up[at(node)]
    }

    /// Where the node stands, while its process runs.
    #[must_use]
    pub fn state(&self, node: u32) -> Option<NodeState> {
        self.observations[at(node)].state()
    }

    /// The leader of the highest term, if one is known to lead.
    #[must_use]
    pub fn leader(&self) -> Option<u32> {
        self.nodes()
            .filter_map(|node| Some((node, self.state(node)?)))
            .filter(|(_node, state)| state.role == Role::Leader)
            .max_by_key(|(_node, state)| state.term)
            .map(|(node, _state)| node)
    }

    /// The newest change of leader, as the node explains it, while its process runs.
    #[must_use]
    pub fn newest_election(&self, node: u32) -> Option<Election> {
        self.seats[at(node)].consensus()?.elections(1).pop()
    }

    /// How many members have a vote, as the leader knows; `None` while nobody leads.
    #[must_use]
    pub fn voters(&self) -> Option<usize> {
        let status = self.seats[at(self.leader()?)].consensus()?.status();
        Some(status.members.values().filter(|member| member.voter).count())
    }

    /// From its next start on the node runs a program that speaks and applies this.
    pub fn set_versions(&self, node: u32, versions: Versions) {
        self.seats[at(node)].set_versions(versions);
    }

    /// The replicated format that the node follows, once its process has applied anything.
    #[must_use]
    pub fn format(&self, node: u32) -> Option<u64> {
        let consensus = self.seats[at(node)].consensus()?;
        consensus.read(|store| (store.sequence() > 0).then(|| store.settings().format))
    }

    /// Why the node's process ended by itself, if it did.
    #[must_use]
    pub fn ended(&self, node: u32) -> Option<String> {
        self.seats[at(node)].ended()
    }

    /// What the node's disk did so far.
    #[must_use]
    pub fn disk_counters(&self, node: u32) -> DiskCounters {
        self.seats[at(node)].disk.counters()
    }

    /// The site where the node stepped into its trap, once.
    #[must_use]
    pub fn sprung(&mut self, node: u32) -> Option<&'static str> {
        let site = self.seats[at(node)].saboteur.sprung()?;
        *self.crash_points.entry(site).or_default() += 1;
        Some(site)
    }

    /// How often a task of the node was held up where order matters.
    #[must_use]
    pub fn delays(&self, node: u32) -> u64 {
        self.seats[at(node)].saboteur.delays()
    }

    /// How often a node stepped into a trap, by site.
    #[must_use]
    pub const fn crash_points(&self) -> &BTreeMap<&'static str, u64> {
        &self.crash_points
    }

    /// Lets `ms` milliseconds pass.
    pub fn run_ms(&mut self, ms: u64) {
        for _step in 0..ms {
            if !self.step() {
                return;
            }
        }
    }

    /// Lets time pass until `done` or for `ms_max` milliseconds; whether it was done.
    pub fn run_until(&mut self, ms_max: u64, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        for _step in 0..ms_max {
            if done(self) {
                return true;
            }
            if !self.step() {
                return false;
            }
        }
        done(self)
    }

    /// One millisecond; `false` if the run is broken.
    fn step(&mut self) -> bool {
        if self.broken.is_some() {
            return false;
        }
        self.trace.set_now_us(self.now_us());
        self.seats.iter().for_each(Seat::step_begins);
        let sim = &mut self.sim;
        match catch_unwind(AssertUnwindSafe(|| sim.step())) {
            Ok(Ok(_all_clients_done)) => {}
            Ok(Err(error)) => self.broken = Some(error.to_string()),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                self.broken = Some(text.unwrap_or_else(|| "a node panicked".to_owned()));
            }
        }
        if let Some(text) = self.seats.iter().find_map(Seat::panicked) {
            self.broken = Some(text);
        }
        if self.broken.is_some() {
            // The hook knows the place too.
            self.broken = crate::panics::take().or(self.broken.take());
        }
        self.look();
        crate::watchdog::step_ended();
        self.broken.is_none()
    }

    /// Looks at what every node did, and only then at where each stands: what one node concludes
    /// rests on what another did in the same step.
    fn look(&mut self) {
        let looks: Vec<_> = self.places().map(|node| (node, self.look_at(node))).collect();
        let now_us = self.now_us();
        let mut record = self.record.lock();
        let (mut events, mut states) = (Vec::new(), Vec::new());
        for (node, seen) in looks {
            events.extend(seen.events.into_iter().map(|(order, event)| (order, node, event)));
            for kind in seen.kinds {
                record.happened(now_us, Some(node), kind);
            }
            states.extend(seen.state.map(|state| (node, state)));
        }
        events.sort_by_key(|(order, node, _event)| (*order, *node));
        for (_order, node, event) in events {
            record.node_event(now_us, node, event);
        }
        for (node, state) in states {
            let numbers = [state.term, state.last.unwrap_or(0), state.applied.unwrap_or(0)];
            self.trace.record(state.role.as_str(), node, &numbers, &[]);
            record.node_state(now_us, node, state);
        }
        record.step_ended(now_us);
    }

    fn look_at(&mut self, node: u32) -> Seen {
        let seat = &self.seats[at(node)];
        let notes = seat.saboteur.take_notes();
        if !self.up[at(node)] {
            return Seen::default();
        }
        for note in &notes {
            self.trace.record(note.step, node, &note.numbers, &[]);
        }
        let consensus = seat.consensus();
        let observation = &mut self.observations[at(node)];
        let seen =
            observation.look(seat.incarnation(), consensus.as_ref(), notes, &self.identities);
        let identity = self.observations[at(node)].identity();
        if identity != 0 && !self.identities.contains_key(&identity) {
            self.identities.insert(identity, node);
            self.record.lock().members.insert(identity, node);
        }
        seen
    }

    /// Starts the process of a node that is down.
    pub fn start(&mut self, node: u32) {
        if self.up[at(node)] {
            return;
        }
        self.sim.bounce(host_name(node));
        self.up[at(node)] = true;
        let incarnation = self.seats[at(node)].incarnation();
        self.happened(Some(node), EventKind::Started { incarnation });
    }

    /// Ends the process; its page cache stays, its peers see closed connections.
    pub fn kill(&mut self, node: u32) {
        if !self.up[at(node)] {
            return;
        }
        self.seats[at(node)].disk.kill();
        self.end_process(node);
    }

    /// Ends the machine without a word to anybody: what was not synced meets its fate.
    pub fn lose_power(&mut self, node: u32) {
        let others: Vec<_> = self.places().filter(|other| *other != node).map(host_name).collect();
        let host = host_name(node);
        // Cut off first, so that nobody sees the connections close.
        for other in others.iter().map(String::as_str).chain([CLIENTS]) {
            self.sim.partition(host.as_str(), other);
        }
        self.seats[at(node)].disk.lose_power();
        if self.up[at(node)] {
            self.end_process(node);
        }
        self.restore_links();
    }

    /// The machine's disk is gone with all that was on it; the process must be down.
    pub fn lose_disk(&mut self, node: u32) {
        assert!(!self.up[at(node)], "a disk is lost while the machine is down");
        self.seats[at(node)].disk.lose_everything();
        self.lost_ids.extend(self.identity(node));
        self.observations[at(node)].forget_folder();
        let now_us = self.now_us();
        self.record.lock().node_event(now_us, node, NodeEvent::DiskLost);
    }

    fn end_process(&mut self, node: u32) {
        let seat = &self.seats[at(node)];
        seat.saboteur.disarm();
        let notes = seat.saboteur.take_notes();
        let consensus = seat.consensus();
        let observation = &mut self.observations[at(node)];
        let last_words =
            observation.look(seat.incarnation(), consensus.as_ref(), notes, &self.identities);
        drop(consensus);
        let stopped = observation.stopped();
        seat.forget_process();
        self.sim.crash(host_name(node));
        // What the tasks noted while they were dropped happened to nobody.
        drop(seat.saboteur.take_notes());
        self.up[at(node)] = false;
        self.paused[at(node)] = false;
        let now_us = self.now_us();
        let mut record = self.record.lock();
        let last_words = last_words.events.into_iter().map(|(_order, event)| event);
        for event in last_words.chain(stopped) {
            record.node_event(now_us, node, event);
        }
        record.happened(now_us, Some(node), EventKind::Stopped);
    }

    fn happened(&self, node: Option<u32>, kind: EventKind) {
        self.record.lock().happened(self.now_us(), node, kind);
    }

    /// The scenario's own words, in the timeline.
    pub fn note(&self, text: impl Into<String>) {
        self.happened(None, EventKind::Note(text.into()));
    }

    /// The whole store of a node that runs.
    #[must_use]
    pub fn replica(&self, node: u32) -> Option<Replica> {
        let consensus = self.seats[at(node)].consensus()?;
        consensus.read(|store| {
            let pairs = store.range(&RangeQuery::new(KeyRange::all())).ok()?.pairs;
            let found =
                |pair: KeyValue| Found { value: pair.value, mod_revision: pair.mod_revision };
            Some(Replica {
                node,
                sequence: store.sequence(),
                revision: store.revision(),
                state_hash: store.hash(),
                pairs: pairs.into_iter().map(|pair| (pair.key.clone(), found(pair))).collect(),
            })
        })
    }
}

/// Where clients find the node.
#[must_use]
pub fn client_url(node: u32) -> String {
    format!("http://{}", client_address(node))
}

/// Where clients dial the node.
pub(crate) fn client_address(node: u32) -> String {
    format!("{}:{CLIENT_PORT}", host_name(node))
}

/// Where peers dial the node.
pub(crate) fn peer_address(node: u32) -> String {
    format!("{}:{PEER_PORT}", host_name(node))
}

fn host_name(node: u32) -> String {
    format!("n{node}")
}

fn at(node: u32) -> usize {
    node as usize
}

fn config(shape: &Shape, node: u32) -> Config {
    let peers = (0..shape.nodes)
        .map(|node| BootstrapPeer { name: host_name(node), peer_address: peer_address(node) })
        .collect();
    Config {
        name: host_name(node),
        data_dir: "simulated".into(),
        client_addr: client_address(node),
        peer_addr: peer_address(node),
        advertise_client_urls: vec![client_url(node)],
        advertise_peer_addr: peer_address(node),
        birth: Birth::Bootstrap(peers),
        zone: String::new(),
        site: String::new(),
        profile: shape.profile,
        quota_bytes: 64 * 1024 * 1024,
        join_timeout: JOIN_TIMEOUT_DEFAULT,
        watch_progress_interval: WATCH_PROGRESS_INTERVAL_DEFAULT,
        log: String::new(),
        log_format: LogFormat::Text,
        runtime: RuntimeKind::CurrentThread,
        versions: shape.versions,
    }
}

/// Small files, so that segments are changed and snapshots taken within seconds.
fn storage_options(shape: &Shape) -> StorageOptions {
    StorageOptions {
        segment_bytes: 64 * 1024,
        first_segment_bytes: 16 * 1024,
        preallocate_step_bytes: 16 * 1024,
        snapshot_reserve_bytes: 64 * 1024,
        snapshot_sync_bytes: 16 * 1024,
        log_bytes_min: shape.log_bytes_min,
        ..StorageOptions::default()
    }
}
