//! What a scenario works with: the cluster, its clients, and a few ways to wait.
//!
//! A story is written as it is told: find the leader, cut it off, wait, heal. Every wait has a
//! limit in simulated time; a story whose wait is over without what it waited for is [`Stuck`],
//! which is a violation of liveness and ends the run.

use std::ops::{Deref, DerefMut};

use crate::{cluster::Cluster, record::SharedRecord, timeline::Role, workload::Orders};

/// A wait that ended without what was waited for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no {what} within {ms} ms")]
pub struct Stuck {
    /// What was waited for.
    pub what: &'static str,
    /// How long, in simulated milliseconds.
    pub ms: u64,
}

/// The longest wait for a leader or a write while a majority works, in milliseconds.
const PATIENCE_MS: u64 = 30_000;

/// See the module comment.
pub struct Story {
    cluster: Cluster,
    record: SharedRecord,
    orders: Orders,
}

impl Story {
    pub(crate) const fn new(cluster: Cluster, record: SharedRecord, orders: Orders) -> Self {
        Self { cluster, record, orders }
    }

    /// Waits for a leader and for a first write, and returns the leader.
    ///
    /// # Errors
    /// [`Stuck`].
    pub fn begin(&mut self) -> Result<u32, Stuck> {
        self.wait_for_writes(1)?;
        self.wait_for_leader()
    }

    /// Waits until some node leads, and returns it.
    ///
    /// # Errors
    /// [`Stuck`].
    pub fn wait_for_leader(&mut self) -> Result<u32, Stuck> {
        self.wait("leader", PATIENCE_MS, |story| story.leader().is_some())?;
        self.leader().ok_or(Stuck { what: "leader", ms: PATIENCE_MS })
    }

    /// Waits for `count` more acknowledged writes.
    ///
    /// # Errors
    /// [`Stuck`].
    pub fn wait_for_writes(&mut self, count: u64) -> Result<(), Stuck> {
        let wanted = self.acknowledged() + count;
        self.wait("acknowledged write", PATIENCE_MS, |story| story.acknowledged() >= wanted)
    }

    /// Waits until every node that can take part follows one leader and has applied the same.
    ///
    /// # Errors
    /// [`Stuck`].
    pub fn wait_for_agreement(&mut self) -> Result<(), Stuck> {
        self.wait("agreement of all nodes", PATIENCE_MS, |story| {
            let Some(leader) = story.leader().and_then(|leader| story.state(leader)) else {
                return false;
            };
            story.nodes().filter(|node| !story.lost_disk(*node)).all(|node| {
                story.state(node).is_some_and(|state| {
                    state.term == leader.term
                        && state.applied == leader.last
                        && matches!(state.role, Role::Leader | Role::Follower)
                })
            })
        })
    }

    /// Waits for `done`, at most `ms` of simulated time.
    ///
    /// # Errors
    /// [`Stuck`].
    pub fn wait(
        &mut self,
        what: &'static str,
        ms: u64,
        mut done: impl FnMut(&Self) -> bool,
    ) -> Result<(), Stuck> {
        for _step in 0..ms {
            if done(self) {
                return Ok(());
            }
            self.cluster.run_ms(1);
            if self.cluster.broken().is_some() {
                break;
            }
        }
        if done(self) { Ok(()) } else { Err(Stuck { what, ms }) }
    }

    /// Waits until the node stepped into its trap; whether it did within `ms`.
    pub fn wait_for_trap(&mut self, node: u32, ms: u64) -> bool {
        self.cluster.run_until(ms, |cluster| cluster.sprung(node).is_some())
    }

    /// Acknowledged writes so far.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.record.lock().acknowledged()
    }

    /// A node other than `node`.
    pub fn another(&mut self, node: u32) -> u32 {
        let others: Vec<_> = self.nodes().filter(|other| *other != node).collect();
        *self.dice().pick(&others)
    }

    /// A node at random.
    pub fn any_node(&mut self) -> u32 {
        let nodes: Vec<_> = self.nodes().collect();
        *self.dice().pick(&nodes)
    }

    pub(crate) const fn orders(&self) -> &Orders {
        &self.orders
    }
}

impl Deref for Story {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

impl DerefMut for Story {
    fn deref_mut(&mut self) -> &mut Cluster {
        &mut self.cluster
    }
}
