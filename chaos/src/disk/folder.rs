//! Names of files: what the directory shows, what of it is durable, and the changes between.

use std::collections::BTreeMap;

use crate::dice::Dice;

/// A file, whatever it is called.
pub(super) type Inode = u64;

/// The names of one folder.
#[derive(Debug, Default)]
pub(super) struct Names {
    shown: BTreeMap<String, Inode>,
    durable: BTreeMap<String, Inode>,
    pending: Vec<(u64, Change)>,
}

#[derive(Debug)]
enum Change {
    Link { name: String, inode: Inode },
    Rename { from: String, to: String, inode: Inode },
    Remove { name: String },
}

impl Names {
    pub(super) fn find(&self, name: &str) -> Option<Inode> {
        self.shown.get(name).copied()
    }

    pub(super) fn list(&self) -> Vec<String> {
        self.shown.keys().cloned().collect()
    }

    /// The name of a file, for people.
    pub(super) fn name_of(&self, inode: Inode) -> Option<&str> {
        self.shown
            .iter()
            .find(|(_name, named)| **named == inode)
            .map(|(name, _inode)| name.as_str())
    }

    pub(super) fn inodes(&self) -> Vec<Inode> {
        self.shown.values().copied().collect()
    }

    pub(super) fn link(&mut self, number: u64, name: &str, inode: Inode) {
        let change = Change::Link { name: name.to_owned(), inode };
        change.make(&mut self.shown);
        self.pending.push((number, change));
    }

    /// Renames; `false` if there is no such file.
    pub(super) fn rename(&mut self, number: u64, from: &str, to: &str) -> bool {
        let Some(inode) = self.find(from) else { return false };
        let change = Change::Rename { from: from.to_owned(), to: to.to_owned(), inode };
        change.make(&mut self.shown);
        self.pending.push((number, change));
        true
    }

    /// Removes; `false` if there is no such file.
    pub(super) fn remove(&mut self, number: u64, name: &str) -> bool {
        if self.find(name).is_none() {
            return false;
        }
        let change = Change::Remove { name: name.to_owned() };
        change.make(&mut self.shown);
        self.pending.push((number, change));
        true
    }

    /// Makes every change up to `number` durable.
    pub(super) fn sync(&mut self, number: u64) {
        let covered = self.pending.partition_point(|(made, _change)| *made <= number);
        for (_number, change) in self.pending.drain(..covered) {
            change.make(&mut self.durable);
        }
    }

    /// Decides which un-synced changes reached the platter: on a journalled file system a prefix
    /// of them, on another one any. The number of those lost.
    pub(super) fn lose_power(&mut self, dice: &mut Dice) -> u64 {
        let pending = std::mem::take(&mut self.pending);
        let journalled = dice.percent(50);
        let prefix = dice.index(pending.len() + 1);
        let mut lost = 0;
        for (at, (_number, change)) in pending.into_iter().enumerate() {
            let arrived = if journalled { at < prefix } else { dice.percent(50) };
            if arrived {
                change.make(&mut self.durable);
            } else {
                lost += 1;
            }
        }
        self.shown.clone_from(&self.durable);
        lost
    }

    /// Whether any name, shown or durable, or any change on its way, leads to the file.
    pub(super) fn refer_to(&self, inode: Inode) -> bool {
        let named = |names: &BTreeMap<String, Inode>| names.values().any(|named| *named == inode);
        named(&self.shown)
            || named(&self.durable)
            || self.pending.iter().any(|(_number, change)| change.inode() == Some(inode))
    }
}

impl Change {
    fn make(&self, names: &mut BTreeMap<String, Inode>) {
        match self {
            Self::Link { name, inode } => {
                names.insert(name.clone(), *inode);
            }
            Self::Rename { from, to, inode } => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
            Self::Remove { name } => {
                names.remove(name);
            }
        }
    }

    const fn inode(&self) -> Option<Inode> {
        match self {
            Self::Link { inode, .. } | Self::Rename { inode, .. } => Some(*inode),
            Self::Remove { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_synced_name_survives_and_an_un_synced_rename_may_not() {
        let mut outcomes = std::collections::BTreeSet::new();
        for seed in 0..50 {
            let mut names = Names::default();
            names.link(1, "old", 7);
            names.sync(1);
            assert!(names.rename(2, "old", "new"));
            assert_eq!(names.list(), ["new"]);
            names.lose_power(&mut Dice::new(seed));
            outcomes.insert(names.list());
        }
        assert_eq!(outcomes, [vec!["new".to_owned()], vec!["old".to_owned()]].into());
    }

    #[test]
    fn a_sync_covers_only_what_was_done_before_it_began() {
        let kept = (0..50).all(|seed| {
            let mut names = Names::default();
            names.link(1, "a", 1);
            names.link(2, "b", 2);
            names.sync(1);
            names.lose_power(&mut Dice::new(seed));
            names.find("a") == Some(1)
        });
        assert!(kept);
    }

    #[test]
    fn a_removed_name_may_come_back() {
        let back = (0..50).any(|seed| {
            let mut names = Names::default();
            names.link(1, "a", 1);
            names.sync(1);
            names.remove(2, "a");
            names.lose_power(&mut Dice::new(seed));
            names.find("a").is_some()
        });
        assert!(back);
    }
}
