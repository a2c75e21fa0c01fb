//! etcd's own record of correctness, as scenarios and planted bugs.
//!
//! etcd keeps a list of what its robustness tests found or reproduced. Each entry that can exist
//! here has a bug that is planted where it would be, a scenario that shows it, and the rules that
//! it breaks; `docs/etcd-record.md` tells the story of each, and of those that cannot exist here.

use crate::{
    checkers::{Rule, Violation},
    plants,
};

/// An entry of the record that can exist here.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// How etcd names it: an issue, or the release that mended it.
    pub name: &'static str,
    /// What it was, in one line.
    pub was: &'static str,
    /// The bug that is planted.
    pub plant: &'static str,
    /// The scenario that shows it.
    pub scenario: &'static str,
}

impl Entry {
    /// Whether these violations show it.
    #[must_use]
    pub fn is_seen_in(&self, violations: &[Violation]) -> bool {
        plants::find(self.plant).is_some_and(|plant| plant.is_seen_in(violations))
    }

    /// The rules that it breaks.
    #[must_use]
    pub fn rules(&self) -> &'static [Rule] {
        plants::find(self.plant).map_or(&[], |plant| plant.rules)
    }
}

/// All of them, in etcd's order.
pub const ENTRIES: &[Entry] = &[
    Entry {
        name: "#13766",
        was: "after a crash under load members disagree about revisions",
        plant: "apply-again-after-start",
        scenario: "etcd-crashes",
    },
    Entry {
        name: "#14370",
        was: "a single node loses an acknowledged write in a crash",
        plant: "ack-before-sync",
        scenario: "etcd-alone",
    },
    Entry {
        name: "#14685",
        was: "a crash while the file is rewritten loses what it replaced",
        plant: "skip-dir-sync",
        scenario: "etcd-crashes",
    },
    Entry {
        name: "#15220",
        was: "progress is told ahead of events",
        plant: "progress-ahead",
        scenario: "etcd-steady",
    },
    Entry {
        name: "#15271",
        was: "a watch on a node that gets a snapshot is told of what is behind it",
        plant: "watch-ignores-start",
        scenario: "etcd-snapshots",
    },
    Entry {
        name: "#17247",
        was: "a watch that catches up is told of an event twice",
        plant: "repeat-watch-event",
        scenario: "etcd-partitions",
    },
    Entry {
        name: "#17529",
        was: "a watch whose stream starves loses events",
        plant: "lose-slow-watch",
        scenario: "etcd-slow-watchers",
    },
    Entry {
        name: "#17780",
        was: "after a crash the revision of a node is lower than before",
        plant: "skip-after-start",
        scenario: "etcd-alone",
    },
    Entry {
        name: "#18055",
        was: "two snapshots in quick succession end the process",
        plant: "one-snapshot-only",
        scenario: "etcd-snapshots",
    },
    Entry {
        name: "#18089",
        was: "a watch loses a deletion when history is compacted at it",
        plant: "drop-delete-at-compaction",
        scenario: "etcd-slow-disks",
    },
    Entry {
        name: "#18667",
        was: "a transaction that reads a compacted revision leaves members apart",
        plant: "forgive-compacted-read",
        scenario: "etcd-steady",
    },
    Entry {
        name: "#19179",
        was: "a watch that opens at the compaction revision is not told of the deletion there",
        plant: "drop-delete-at-compaction",
        scenario: "etcd-steady",
    },
    Entry {
        name: "#20221",
        was: "a watch from a future revision is told of older events",
        plant: "watch-ignores-start",
        scenario: "etcd-steady",
    },
    Entry {
        name: "#20418",
        was: "a leader whose process stood still answers with old values",
        plant: "read-without-index",
        scenario: "etcd-pauses",
    },
    Entry {
        name: "3.6.5",
        was: "the renewal of a revoked lease is said to have succeeded",
        plant: "renew-revoked",
        scenario: "etcd-steady",
    },
    Entry {
        name: "3.6.9",
        was: "a new leader tells readers an index from before its first entry",
        plant: "index-before-first-entry",
        scenario: "etcd-young-leaders",
    },
    Entry {
        name: "3.6.12",
        was: "an update of a member gives a learner a vote that it is not ready for",
        plant: "promote-unready",
        scenario: "join-under-load",
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenarios;

    #[test]
    fn every_entry_names_a_bug_and_a_scenario_that_exist() {
        for entry in ENTRIES {
            assert!(plants::find(entry.plant).is_some(), "{}: {}", entry.name, entry.plant);
            assert!(
                scenarios::find(entry.scenario).is_some(),
                "{}: {}",
                entry.name,
                entry.scenario
            );
            assert!(!entry.rules().is_empty(), "{} breaks no rule", entry.name);
        }
    }

    #[test]
    fn the_page_has_a_row_for_every_entry_with_its_scenario_and_its_bug() {
        let page = include_str!("../../docs/etcd-record.md");
        for Entry { name, plant, scenario, .. } in ENTRIES {
            let row = page.lines().find(|line| line.starts_with(&format!("| {name} ")));
            let row = row.unwrap_or_else(|| panic!("{name} has no row"));
            for wanted in [plant, scenario] {
                assert!(row.contains(&format!("`{wanted}`")), "the row of {name} lacks {wanted}");
            }
        }
    }
}
