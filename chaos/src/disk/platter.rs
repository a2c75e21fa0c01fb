//! The state of a disk: files, names and what is on its way to them.

use std::{collections::BTreeMap, io};

use bytes::Bytes;

use super::{
    file::File,
    folder::{Inode, Names},
    hardship::{Hardship, Rot, take_failure},
};
use crate::dice::Dice;

/// `EIO` and `ENOSPC` as Linux numbers them.
const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// What a disk did so far, for coverage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskCounters {
    /// Syncs of files that succeeded.
    pub syncs: u64,
    /// Syncs that failed.
    pub failed_syncs: u64,
    /// Un-synced writes that a loss of power took.
    pub dropped_writes: u64,
    /// Un-synced writes that a loss of power tore.
    pub torn_writes: u64,
    /// Un-synced names that a loss of power took.
    pub lost_names: u64,
    /// Calls refused because the folder was full.
    pub refused_for_space: u64,
    /// Reads and writes that failed.
    pub failed_calls: u64,
}

/// See the module comment.
pub(super) struct Platter {
    files: BTreeMap<Inode, File>,
    names: Names,
    used_bytes: u64,
    next_inode: Inode,
    next_number: u64,
    process: u64,
    hardship: Hardship,
    dice: Dice,
    counters: DiskCounters,
}

impl Platter {
    pub(super) fn new(dice: Dice) -> Self {
        Self {
            files: BTreeMap::new(),
            names: Names::default(),
            used_bytes: 0,
            next_inode: 1,
            next_number: 1,
            process: 0,
            hardship: Hardship::default(),
            dice,
            counters: DiskCounters::default(),
        }
    }

    pub(super) const fn hardship(&self) -> &Hardship {
        &self.hardship
    }

    pub(super) const fn hardship_mut(&mut self) -> &mut Hardship {
        &mut self.hardship
    }

    pub(super) const fn counters(&self) -> DiskCounters {
        self.counters
    }

    /// The process whose lanes are served.
    pub(super) const fn process(&self) -> u64 {
        self.process
    }

    pub(super) fn kill(&mut self) {
        self.process += 1;
        self.forget_unreachable();
    }

    pub(super) fn lose_power(&mut self) -> [u64; 3] {
        self.process += 1;
        let mut losses = [0; 3];
        for file in self.files.values_mut() {
            let of_file = file.lose_power(&mut self.dice);
            losses[0] += of_file.dropped;
            losses[1] += of_file.torn;
        }
        losses[2] = self.names.lose_power(&mut self.dice);
        self.counters.dropped_writes += losses[0];
        self.counters.torn_writes += losses[1];
        self.counters.lost_names += losses[2];
        self.forget_unreachable();
        losses
    }

    pub(super) fn lose_everything(&mut self) {
        self.process += 1;
        self.files.clear();
        self.names = Names::default();
        self.used_bytes = 0;
    }

    pub(super) fn rot(&mut self) -> Option<Rot> {
        let rotting: Vec<(Inode, u64)> = self
            .names
            .inodes()
            .into_iter()
            .filter_map(|inode| Some((inode, self.files.get(&inode)?.durable_len())))
            .filter(|(_inode, len)| *len > 0)
            .collect();
        if rotting.is_empty() {
            return None;
        }
        let (inode, len) = *self.dice.pick(&rotting);
        let offset = self.dice.below(len);
        let bit = u8::try_from(self.dice.below(8)).unwrap_or(0);
        self.files.get_mut(&inode)?.flip_bit(offset, bit);
        Some(Rot { file: self.names.name_of(inode)?.to_owned(), offset })
    }

    pub(super) fn create(&mut self, name: &str) -> io::Result<Inode> {
        if self.names.find(name).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = self.next_inode;
        self.next_inode += 1;
        self.files.insert(inode, File::default());
        let number = self.number();
        self.names.link(number, name, inode);
        Ok(inode)
    }

    pub(super) fn open(&self, name: &str) -> io::Result<Inode> {
        self.names.find(name).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn write(&mut self, inode: Inode, offset: u64, data: Bytes) -> io::Result<()> {
        if take_failure(&mut self.hardship.failing_writes) {
            self.counters.failed_calls += 1;
            // A failed write may have written a part.
            let part = self.dice.index(data.len() + 1);
            self.put(inode, offset, data.slice(..part))?;
            return Err(io::Error::from_raw_os_error(EIO));
        }
        self.put(inode, offset, data)
    }

    fn put(&mut self, inode: Inode, offset: u64, data: Bytes) -> io::Result<()> {
        self.take_space(inode, offset + data.len() as u64)?;
        let number = self.number();
        self.file(inode)?.write(number, offset, data);
        Ok(())
    }

    pub(super) fn allocate(&mut self, inode: Inode, len: u64) -> io::Result<()> {
        self.take_space(inode, len)?;
        let number = self.number();
        self.file(inode)?.extend_with_zeros(number, len);
        Ok(())
    }

    pub(super) fn read(&mut self, inode: Inode, offset: u64, len: usize) -> io::Result<Bytes> {
        if take_failure(&mut self.hardship.failing_reads) {
            self.counters.failed_calls += 1;
            return Err(io::Error::from_raw_os_error(EIO));
        }
        Ok(self.file(inode)?.read(offset, len))
    }

    pub(super) fn len(&mut self, inode: Inode) -> io::Result<u64> {
        Ok(self.file(inode)?.len())
    }

    /// The writes that a sync which begins now covers.
    pub(super) const fn newest_number(&self) -> u64 {
        self.next_number - 1
    }

    pub(super) fn sync_duration(&mut self) -> std::time::Duration {
        self.hardship.sync_duration(&mut self.dice)
    }

    pub(super) fn finish_sync(&mut self, inode: Inode, number: u64) -> io::Result<()> {
        if take_failure(&mut self.hardship.failing_syncs) {
            self.counters.failed_syncs += 1;
            let Self { files, dice, .. } = self;
            if let Some(file) = files.get_mut(&inode) {
                file.fail_sync(number, dice);
            }
            return Err(io::Error::from_raw_os_error(EIO));
        }
        self.counters.syncs += 1;
        self.file(inode)?.sync(number);
        Ok(())
    }

    pub(super) fn finish_directory_sync(&mut self, number: u64) {
        self.names.sync(number);
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let number = self.number();
        if self.names.rename(number, from, to) {
            Ok(())
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    pub(super) fn remove(&mut self, name: &str) -> io::Result<()> {
        let number = self.number();
        let inode = self.open(name)?;
        self.names.remove(number, name);
        self.used_bytes = self.used_bytes.saturating_sub(self.file(inode)?.len());
        Ok(())
    }

    pub(super) fn list(&self) -> Vec<String> {
        self.names.list()
    }

    pub(super) const fn free_bytes(&self) -> u64 {
        self.hardship.capacity_bytes.saturating_sub(self.used_bytes)
    }

    fn take_space(&mut self, inode: Inode, end: u64) -> io::Result<()> {
        let len = self.file(inode)?.len();
        let more = end.saturating_sub(len);
        if more > self.free_bytes() {
            self.counters.refused_for_space += 1;
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        self.used_bytes += more;
        Ok(())
    }

    fn file(&mut self, inode: Inode) -> io::Result<&mut File> {
        self.files.get_mut(&inode).ok_or_else(|| io::Error::other("the file is gone"))
    }

    const fn number(&mut self) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        number
    }

    /// Lets go of files that nothing leads to; no process has them open now.
    fn forget_unreachable(&mut self) {
        let Self { files, names, .. } = self;
        files.retain(|inode, _file| names.refer_to(*inode));
        let shown: Vec<_> = names.inodes();
        self.used_bytes = shown.iter().filter_map(|inode| files.get(inode)).map(File::len).sum();
    }
}
