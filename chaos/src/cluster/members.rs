//! Nodes that come and go: which places are in use, who is a member, and what each of them was told.
//!
//! A place keeps its name, its machine and its clock; the node id in its folder changes when the
//! folder is a new one. What the members decide among themselves is not here: a scenario has the
//! operator ask for it.

use mainstay_consensus::{Birth, MemberStatus};

use super::{Cluster, at, client_url};
use crate::checkers::Configuration;

impl Cluster {
    /// The node id in the node's folder, as far as its process said so.
    #[must_use]
    pub fn identity(&self, node: u32) -> Option<u64> {
        Some(self.observations[at(node)].identity()).filter(|id| *id != 0)
    }

    /// Where the node with this id is, if its folder still has it.
    #[must_use]
    pub fn place_of(&self, id: u64) -> Option<u32> {
        self.places().find(|node| self.identity(*node) == Some(id))
    }

    /// Places that stand by.
    #[must_use]
    pub fn spares(&self) -> Vec<u32> {
        self.places().filter(|node| !self.in_use[at(*node)]).collect()
    }

    /// Starts the node with `--join` and the client URL of another one; a folder that is in the
    /// cluster already knows better.
    pub fn start_to_join(&mut self, node: u32, through: u32) {
        self.seats[at(node)].set_birth(Birth::Join(client_url(through)));
        self.set_in_use(node, true);
        self.restart(node);
    }

    /// The operator runs this node no more and takes its disk away, so that another one may be run
    /// there. It must not be a member.
    pub fn retire(&mut self, node: u32) {
        self.kill(node);
        if let Some(fault) = self.open_faults.down.remove(&node) {
            self.end(fault);
        }
        self.lose_disk(node);
        self.set_in_use(node, false);
    }

    /// Whether the node's process ended because the cluster removed it.
    #[must_use]
    pub fn was_removed(&self, node: u32) -> bool {
        self.ended(node)
            .is_some_and(|why| why.starts_with("Removed") || why.contains("was removed"))
    }

    /// The configurations that decide now or may soon; the first of them is committed.
    #[must_use]
    pub fn configurations(&self) -> Vec<Configuration> {
        self.record.lock().configurations()
    }

    /// The members by their ids, as the leader knows; `None` while nobody leads.
    #[must_use]
    pub fn members(&self) -> Option<Vec<MemberStatus>> {
        let status = self.seats[at(self.leader()?)].consensus()?.status();
        Some(status.members.values().cloned().collect())
    }

    /// Whether the node is a member with all that it was told on its disk: it was not removed, and
    /// its disk was neither lost nor rotted.
    #[must_use]
    pub fn takes_part(&self, node: u32) -> bool {
        let Some(id) = self.identity(node) else { return false };
        let configurations = self.configurations();
        let newest = configurations.last();
        self.is_whole(node) && newest.is_none_or(|newest| newest.members().contains(&id))
    }

    /// Whether the disk of the node was neither lost nor rotted since its folder was made.
    pub(super) fn is_whole(&self, node: u32) -> bool {
        self.identity(node).is_none_or(|id| !self.lost_ids.contains(&id))
    }

    fn set_in_use(&mut self, node: u32, used: bool) {
        self.in_use[at(node)] = used;
        let used: Vec<u32> = self.nodes().collect();
        self.record.lock().in_use = used;
    }
}
