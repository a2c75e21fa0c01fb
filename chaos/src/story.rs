//! What a scenario works with: the cluster, its clients, and a few ways to wait.
//!
//! A story is written as it is told: find the leader, cut it off, wait, heal. Every wait has a
//! limit in simulated time; a story whose wait is over without what it waited for is [`Stuck`],
//! which is a violation of liveness and ends the run.

use std::ops::{Deref, DerefMut};

use crate::{
    checkers::{Rule, Violation},
    cluster::Cluster,
    record::SharedRecord,
    timeline::{EventKind, Role},
    workload::{Errand, ErrandId, ErrandOutcome, Orders},
};

/// Who leads, and in which term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Title {
    /// The leader.
    pub leader: u32,
    /// Its term.
    pub term: u64,
}

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
            story.nodes().filter(|node| story.takes_part(*node)).all(|node| {
                story.state(node).is_some_and(|state| {
                    state.term == leader.term
                        && state.applied == leader.last
                        && matches!(state.role, Role::Leader | Role::Follower | Role::Learner)
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

    /// Waits for a first write and says who leads.
    ///
    /// # Errors
    /// [`Stuck`].
    pub fn title(&mut self) -> Result<Title, Stuck> {
        let leader = self.wait_for_leader()?;
        let term = self.state(leader).map_or(0, |state| state.term);
        Ok(Title { leader, term })
    }

    /// Demands that nobody has got the title since it was `title`; `why` says what was no reason
    /// for it.
    pub fn demand_same_title(&self, title: Title, why: &str) {
        let now = self.leader().map(|leader| {
            let term = self.state(leader).map_or(0, |state| state.term);
            Title { leader, term }
        });
        self.demand(now == Some(title), Rule::NeedlessElection, || {
            format!("node {} led in term {}, then {why}; now {now:?}", title.leader, title.term)
        });
    }

    /// Demands something that only the scenario knows to hold.
    pub fn demand(&self, holds: bool, rule: Rule, what: impl FnOnce() -> String) {
        if holds || self.cluster.broken().is_some() {
            return;
        }
        let violation = Violation { at_us: self.now_us(), rule, node: None, what: what() };
        let mut record = self.record.lock();
        let kind = EventKind::Violation { what: violation.to_string() };
        record.happened(violation.at_us, None, kind);
        record.violations.push(violation);
    }

    /// Has the operator do something. A transfer, and the removal of the leader, explain an election
    /// from now on; whether one that is refused moved anybody is the scenario's to demand.
    pub fn send(&self, errand: Errand) -> ErrandId {
        let to = match errand {
            Errand::Transfer { through, to } => Some((through, to.unwrap_or(through))),
            // A leader that is to go hands over before.
            Errand::RemoveMember { through, id, .. } => self
                .place_of(id)
                .filter(|node| self.leader() == Some(*node))
                .map(|_| (through, through)),
            _ => None,
        };
        if let Some((through, to)) = to {
            let kind = EventKind::LeadershipTransferred { to };
            self.record.lock().happened(self.now_us(), Some(through), kind);
        }
        if let Errand::RemoveMember { through, id, force: true } = errand {
            let kind = EventKind::RemovalForced { id };
            self.record.lock().happened(self.now_us(), Some(through), kind);
        }
        self.orders.send(errand)
    }

    /// Waits for what becomes of an errand.
    ///
    /// # Errors
    /// [`Stuck`].
    pub fn wait_for_errand(&mut self, errand: ErrandId) -> Result<ErrandOutcome, Stuck> {
        let stuck = Stuck { what: "end of the errand", ms: PATIENCE_MS };
        self.wait(stuck.what, stuck.ms, |story| story.orders.outcome(errand).is_some())?;
        self.orders.outcome(errand).ok_or(stuck)
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
