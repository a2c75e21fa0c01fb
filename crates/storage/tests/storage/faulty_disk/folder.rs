//! The state of a [`super::FaultyDisk`]: files, names, and which of both are durable.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use mainstay_world::FileId;

use super::Job;
use crate::dice::Dice;

const SECTOR_LEN: usize = 512;

/// One call that a lane made, for tests that look at what was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Call {
    Create(String),
    Open(String),
    Close,
    Write(FileId),
    Read(FileId),
    Allocate(FileId),
    SyncData(FileId),
    SyncDirectory,
    Rename(String),
    Remove(String),
    List,
    FreeBytes,
}

/// A file's content, whatever its name.
#[derive(Debug, Clone, Default)]
struct Inode {
    visible: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Write>,
}

#[derive(Debug, Clone)]
struct Write {
    offset: usize,
    data: Vec<u8>,
    /// A sync of it failed: no later one takes it along.
    is_forgotten: bool,
}

#[derive(Debug, Clone)]
enum NameChange {
    Set(String, u64),
    Unset(String),
    Rename { from: String, to: String, inode: u64 },
}

/// One folder.
pub(crate) struct Folder {
    /// How many times the machine or the process was started.
    pub(crate) life: u64,
    pub(crate) lanes: Vec<(&'static str, Arc<Mutex<VecDeque<Job>>>)>,
    /// The lane whose next data sync does not come back until released.
    pub(crate) stall_next_sync: Option<&'static str>,
    /// Bytes that all files together may have.
    pub(crate) capacity: u64,
    /// The error that the next write to a file of this name prefix gets.
    pub(crate) fail_write: Option<(String, io::ErrorKind)>,
    /// The name prefix of the file whose next sync fails.
    pub(crate) fail_sync: Option<String>,
    /// Whether calls take a random time.
    pub(crate) is_slow: bool,
    /// Calls left until the disk does nothing any more.
    pub(crate) calls_left: Option<u64>,
    /// Writes to segments left until then.
    pub(crate) log_writes_left: Option<u64>,
    /// Every call so far in this life, with the name of its file.
    pub(crate) calls: Vec<(Call, Option<String>)>,
    dice: Dice,
    inodes: BTreeMap<u64, Inode>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    changes: Vec<NameChange>,
    open: BTreeMap<FileId, u64>,
    next_id: u64,
}

impl Folder {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            life: 0,
            lanes: Vec::new(),
            stall_next_sync: None,
            capacity: u64::MAX,
            fail_write: None,
            fail_sync: None,
            is_slow: false,
            calls_left: None,
            log_writes_left: None,
            calls: Vec::new(),
            dice: Dice::new(seed),
            inodes: BTreeMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            changes: Vec::new(),
            open: BTreeMap::new(),
            next_id: 0,
        }
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.calls_left == Some(0) || self.log_writes_left == Some(0)
    }

    /// Does a call, or dies of it: then nobody gets an answer any more.
    pub(crate) fn call<T>(
        &mut self,
        call: Call,
        work: impl FnOnce(&mut Self) -> io::Result<T>,
    ) -> Option<io::Result<T>> {
        let name = match &call {
            Call::Write(file) | Call::Allocate(file) | Call::SyncData(file) => self.name_of(*file),
            _ => None,
        };
        let is_log_write = matches!(call, Call::Write(_))
            && name.as_ref().is_some_and(|name| name.starts_with("log-"));
        self.calls.push((call, name));
        let outcome = work(self);
        if let Some(left) = &mut self.calls_left {
            *left = left.saturating_sub(1);
        }
        if let Some(left) = &mut self.log_writes_left {
            *left = left.saturating_sub(u64::from(is_log_write));
        }
        (!self.is_dead()).then_some(outcome)
    }

    pub(crate) fn latency(&mut self) -> Option<Duration> {
        (self.is_slow && self.dice.one_in(2)).then(|| Duration::from_micros(self.dice.below(3_000)))
    }

    /// The process ends; what it wrote stays visible and is as durable as it was.
    pub(crate) fn kill_process(&mut self) {
        self.life += 1;
        self.lanes.clear();
        self.open.clear();
        self.calls.clear();
        self.calls_left = None;
        self.log_writes_left = None;
        self.stall_next_sync = None;
        self.fail_sync = None;
        self.fail_write = None;
    }

    /// The power fails: what was not synced survives in any mixture.
    pub(crate) fn lose_power(&mut self) {
        self.kill_process();
        for inode in self.inodes.values_mut() {
            for write in std::mem::take(&mut inode.unsynced) {
                survive(&mut inode.durable, &write, &mut self.dice);
            }
            inode.visible = inode.durable.clone();
        }
        for change in std::mem::take(&mut self.changes) {
            if self.dice.one_in(2) {
                apply(&mut self.durable_names, change);
            }
        }
        self.names = self.durable_names.clone();
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.names.keys().cloned().collect()
    }

    /// The content of a file, as it is read.
    pub(crate) fn content(&self, name: &str) -> Vec<u8> {
        self.inodes[&self.names[name]].visible.clone()
    }

    /// Puts a file in place, durably.
    pub(crate) fn put(&mut self, name: &str, content: Vec<u8>) {
        let id = self.next();
        let inode = Inode { visible: content.clone(), durable: content, unsynced: Vec::new() };
        self.inodes.insert(id, inode);
        self.names.insert(name.to_owned(), id);
        self.durable_names.insert(name.to_owned(), id);
    }

    /// A bit rots at rest, for good.
    pub(crate) fn rot(&mut self, name: &str, at: usize) {
        let inode = self.inodes.get_mut(&self.names[name]).expect("names have content");
        inode.visible[at] ^= 1;
        inode.durable[at] ^= 1;
    }

    /// A copy of all files, with everything durable, for trying something on them.
    pub(crate) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        self.names().into_iter().map(|name| (name.clone(), self.content(&name))).collect()
    }

    /// What was written to or synced on files of this name prefix in this life.
    pub(crate) fn writes_and_syncs(&self, prefix: &str) -> usize {
        let touches = |call: &Call| matches!(call, Call::Write(_) | Call::SyncData(_));
        self.calls
            .iter()
            .filter(|(call, name)| {
                touches(call) && name.as_ref().is_some_and(|name| name.starts_with(prefix))
            })
            .count()
    }

    /// The files of this name prefix that were written to, from this call on.
    pub(crate) fn written_since(&self, call: usize, prefix: &str) -> Vec<String> {
        self.calls[call..]
            .iter()
            .filter(|(call, _name)| matches!(call, Call::Write(_)))
            .filter_map(|(_call, name)| name.clone())
            .filter(|name| name.starts_with(prefix) && !name.ends_with(".tmp"))
            .collect()
    }

    pub(crate) fn create(&mut self, name: &str) -> io::Result<FileId> {
        if self.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let id = self.next();
        self.inodes.insert(id, Inode::default());
        self.names.insert(name.to_owned(), id);
        self.changes.push(NameChange::Set(name.to_owned(), id));
        self.open(name)
    }

    pub(crate) fn open(&mut self, name: &str) -> io::Result<FileId> {
        let inode = *self.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        let file = FileId(self.next());
        self.open.insert(file, inode);
        Ok(file)
    }

    pub(crate) fn close(&mut self, file: FileId) -> io::Result<()> {
        self.open.remove(&file);
        Ok(())
    }

    pub(crate) fn write(&mut self, file: FileId, offset: u64, data: &[u8]) -> io::Result<()> {
        let name = self.name_of(file).unwrap_or_default();
        if let Some((_prefix, kind)) =
            self.fail_write.take_if(|(prefix, _kind)| name.starts_with(prefix.as_str()))
        {
            return Err(kind.into());
        }
        let offset = usize::try_from(offset).expect("test files are small");
        let room = self.free_bytes();
        let inode = self.inode(file)?;
        let grows = (offset + data.len()).saturating_sub(inode.visible.len());
        if grows as u64 > room {
            return Err(io::ErrorKind::StorageFull.into());
        }
        put(&mut inode.visible, offset, data);
        inode.unsynced.push(Write { offset, data: data.to_vec(), is_forgotten: false });
        Ok(())
    }

    pub(crate) fn read(&mut self, file: FileId, offset: u64, len: usize) -> io::Result<Bytes> {
        let inode = self.inode(file)?;
        let at = usize::try_from(offset).expect("test files are small").min(inode.visible.len());
        let end = at.saturating_add(len).min(inode.visible.len());
        Ok(Bytes::copy_from_slice(&inode.visible[at..end]))
    }

    pub(crate) fn length(&mut self, file: FileId) -> io::Result<u64> {
        Ok(self.inode(file)?.visible.len() as u64)
    }

    pub(crate) fn allocate(&mut self, file: FileId, len: u64) -> io::Result<()> {
        let from = self.length(file)?;
        let missing = usize::try_from(len.saturating_sub(from)).expect("test files are small");
        self.write(file, from, &vec![0; missing])
    }

    pub(crate) fn sync_data(&mut self, file: FileId) -> io::Result<()> {
        let name = self.name_of(file).unwrap_or_default();
        let fails = self.fail_sync.take_if(|prefix| name.starts_with(prefix.as_str())).is_some();
        let inode = self.inode(file)?;
        if fails {
            inode.unsynced.iter_mut().for_each(|write| write.is_forgotten = true);
            return Err(io::Error::from_raw_os_error(5));
        }
        let (forgotten, synced): (Vec<_>, Vec<_>) =
            std::mem::take(&mut inode.unsynced).into_iter().partition(|write| write.is_forgotten);
        for write in synced {
            put(&mut inode.durable, write.offset, &write.data);
        }
        inode.unsynced = forgotten;
        Ok(())
    }

    pub(crate) fn sync_directory(&mut self) -> io::Result<()> {
        self.changes.clear();
        self.durable_names = self.names.clone();
        Ok(())
    }

    pub(crate) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let inode = self.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        self.names.insert(to.to_owned(), inode);
        let (from, to) = (from.to_owned(), to.to_owned());
        self.changes.push(NameChange::Rename { from, to, inode });
        Ok(())
    }

    pub(crate) fn remove(&mut self, name: &str) -> io::Result<()> {
        self.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
        self.changes.push(NameChange::Unset(name.to_owned()));
        Ok(())
    }

    pub(crate) fn free_bytes(&self) -> u64 {
        let used: usize = self.names.values().map(|id| self.inodes[id].visible.len()).sum();
        self.capacity.saturating_sub(used as u64)
    }

    fn inode(&mut self, file: FileId) -> io::Result<&mut Inode> {
        let closed = || io::Error::other("the file is closed");
        let id = self.open.get(&file).ok_or_else(closed)?;
        Ok(self.inodes.get_mut(id).expect("open files have content"))
    }

    fn name_of(&self, file: FileId) -> Option<String> {
        let id = self.open.get(&file)?;
        self.names.iter().find(|(_name, inode)| *inode == id).map(|(name, _inode)| name.clone())
    }

    fn next(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}

fn apply(names: &mut BTreeMap<String, u64>, change: NameChange) {
    match change {
        NameChange::Set(name, inode) => {
            names.insert(name, inode);
        }
        NameChange::Unset(name) => {
            names.remove(&name);
        }
        NameChange::Rename { from, to, inode } => {
            names.remove(&from);
            names.insert(to, inode);
        }
    }
}

/// What a power loss leaves of one write: each sector is kept, lost, or garbage.
fn survive(durable: &mut Vec<u8>, write: &Write, dice: &mut Dice) {
    let fate = dice.below(4);
    let mut at = 0;
    while at < write.data.len() {
        // Up to the next boundary of a sector in the file.
        let room = SECTOR_LEN - (write.offset + at) % SECTOR_LEN;
        let end = write.data.len().min(at + room);
        let sector = &write.data[at..end];
        match if fate == 3 { dice.below(3) } else { fate } {
            0 => put(durable, write.offset + at, sector),
            1 => {}
            _ => {
                let garbage: Vec<u8> =
                    sector.iter().map(|_byte| dice.draw().to_le_bytes()[0]).collect();
                put(durable, write.offset + at, &garbage);
            }
        }
        at = end;
    }
}

fn put(content: &mut Vec<u8>, offset: usize, data: &[u8]) {
    let end = offset + data.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(data);
}
