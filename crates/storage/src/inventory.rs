//! The files of a folder, by their names.

use crate::{
    open::PROBE, seal::TEMPORARY, segment::segment_id, snapshot::snapshot_number, vote::vote_number,
};

/// The files of a folder by what they are. Files of others are left alone.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Inventory {
    /// Numbers of the vote files, oldest first.
    pub(crate) votes: Vec<u64>,
    /// Ids of the segments, oldest first.
    pub(crate) segments: Vec<u64>,
    /// Numbers and names of the snapshots.
    pub(crate) snapshots: Vec<(u64, String)>,
    /// Files that were never finished.
    pub(crate) leftovers: Vec<String>,
    pub(crate) has_probe: bool,
    /// An id that no segment in the folder has or was going to have.
    pub(crate) next_segment: u64,
}

impl Inventory {
    pub(crate) fn of(names: Vec<String>) -> Self {
        let mut inventory = Self { next_segment: 1, ..Self::default() };
        for name in names {
            let finished = name.strip_suffix(TEMPORARY);
            let subject = finished.unwrap_or(&name);
            let (segment, vote) = (segment_id(subject), vote_number(subject));
            let snapshot = snapshot_number(subject);
            if let Some(id) = segment {
                inventory.next_segment = inventory.next_segment.max(id.saturating_add(1));
            }
            if finished.is_some() {
                if segment.is_some() || vote.is_some() || snapshot.is_some() {
                    inventory.leftovers.push(name);
                }
                continue;
            }
            inventory.segments.extend(segment);
            inventory.votes.extend(vote);
            inventory.has_probe |= name == PROBE;
            if let Some(number) = snapshot {
                inventory.snapshots.push((number, name));
            }
        }
        inventory.segments.sort_unstable();
        inventory.votes.sort_unstable();
        inventory
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_apart_by_name_and_foreign_ones_left_alone() {
        let names = [
            "LOCK",
            "folder",
            "log-00000000000000000003",
            "log-00000000000000000007.tmp",
            "notes.tmp",
            "probe",
            "snapshot-none-none-0000000002",
            "vote-00000000000000000004",
        ];
        let inventory = Inventory::of(names.map(str::to_owned).to_vec());
        let expected = Inventory {
            votes: vec![4],
            segments: vec![3],
            snapshots: vec![(2, "snapshot-none-none-0000000002".to_owned())],
            leftovers: vec!["log-00000000000000000007.tmp".to_owned()],
            has_probe: true,
            next_segment: 8,
        };
        assert_eq!(inventory, expected);
    }
}
