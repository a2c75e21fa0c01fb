//! One file: what the platter holds, what the page cache shows, and the writes between the two.

use bytes::Bytes;

use crate::dice::Dice;

/// What a disk writes at once: a torn write has a jagged edge at this granularity.
const SECTOR_LEN: u64 = 512;

/// A file's content, durable and not.
#[derive(Debug, Default)]
pub(super) struct File {
    durable: Vec<u8>,
    cache: Vec<u8>,
    pending: Vec<Pending>,
}

/// A write that no sync has covered yet.
#[derive(Debug)]
struct Pending {
    number: u64,
    offset: u64,
    content: Content,
    /// A failed sync gave it up: it stays readable until the power goes, and no later sync will
    /// write it (Rebello et al., 2020).
    given_up: bool,
}

#[derive(Debug)]
enum Content {
    Bytes(Bytes),
    Zeros(u64),
}

/// What a loss of power made of one file's un-synced writes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Losses {
    pub(super) dropped: u64,
    pub(super) torn: u64,
}

impl File {
    pub(super) const fn len(&self) -> u64 {
        self.cache.len() as u64
    }

    /// The part of the platter that a flipped bit could lie in.
    pub(super) const fn durable_len(&self) -> u64 {
        self.durable.len() as u64
    }

    pub(super) fn write(&mut self, number: u64, offset: u64, data: Bytes) {
        put(&mut self.cache, offset, &data);
        let content = Content::Bytes(data);
        self.pending.push(Pending { number, offset, content, given_up: false });
    }

    pub(super) fn extend_with_zeros(&mut self, number: u64, len: u64) {
        let offset = self.len();
        if len <= offset {
            return;
        }
        self.cache.resize(index(len), 0);
        let content = Content::Zeros(len - offset);
        self.pending.push(Pending { number, offset, content, given_up: false });
    }

    pub(super) fn read(&self, offset: u64, len: usize) -> Bytes {
        let start = index(offset).min(self.cache.len());
        let end = start.saturating_add(len).min(self.cache.len());
        Bytes::copy_from_slice(&self.cache[start..end])
    }

    /// Makes every write up to `number` durable.
    pub(super) fn sync(&mut self, number: u64) {
        let covered = self.pending.partition_point(|pending| pending.number <= number);
        for pending in self.pending.drain(..covered).filter(|pending| !pending.given_up) {
            pending.content.put_into(&mut self.durable, pending.offset);
        }
    }

    /// A sync that failed: each write it covered was written or given up, nobody knows which.
    pub(super) fn fail_sync(&mut self, number: u64, dice: &mut Dice) {
        for pending in &mut self.pending {
            if pending.number <= number && !pending.given_up {
                pending.given_up = dice.percent(70);
            }
        }
    }

    /// Decides for every un-synced write by itself whether it reached the platter, whole, in part
    /// or not at all; writes are not kept in order.
    pub(super) fn lose_power(&mut self, dice: &mut Dice) -> Losses {
        let mut losses = Losses::default();
        for pending in std::mem::take(&mut self.pending) {
            if pending.given_up {
                losses.dropped += 1;
                continue;
            }
            match dice.below(3) {
                0 => pending.content.put_into(&mut self.durable, pending.offset),
                1 => losses.dropped += 1,
                _ => {
                    losses.torn += 1;
                    tear(&mut self.durable, &pending, dice);
                }
            }
        }
        self.cache.clone_from(&self.durable);
        losses
    }

    /// Flips one bit on the platter and in the cache, as a read after a restart would see it.
    pub(super) fn flip_bit(&mut self, offset: u64, bit: u8) {
        for copy in [&mut self.durable, &mut self.cache] {
            if let Some(byte) = copy.get_mut(index(offset)) {
                *byte ^= 1 << (bit % 8);
            }
        }
    }
}

impl Content {
    fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Zeros(len) => *len,
        }
    }

    fn put_into(&self, target: &mut Vec<u8>, offset: u64) {
        match self {
            Self::Bytes(bytes) => put(target, offset, bytes),
            Self::Zeros(len) => fill_with_zeros(target, offset, *len),
        }
    }
}

/// Some sectors arrive and some do not; one that was being written holds garbage.
fn tear(target: &mut Vec<u8>, pending: &Pending, dice: &mut Dice) {
    let Content::Bytes(bytes) = &pending.content else {
        let kept = dice.below(pending.content.len() + 1);
        return fill_with_zeros(target, pending.offset, kept);
    };
    let end = pending.offset + bytes.len() as u64;
    let prefix_only = dice.percent(50);
    let stop = pending.offset + dice.below(bytes.len() as u64 + 1);
    let mut at = pending.offset;
    while at < end {
        let sector_end = ((at / SECTOR_LEN + 1) * SECTOR_LEN).min(end);
        let part = &bytes[index(at - pending.offset)..index(sector_end - pending.offset)];
        let arrived = if prefix_only { sector_end <= stop } else { dice.percent(50) };
        let cut_here = prefix_only && at <= stop && stop < sector_end;
        if arrived {
            put(target, at, part);
        } else if cut_here {
            put(target, at, &part[..index(stop - at)]);
            if dice.percent(50) {
                let garbage: Vec<u8> =
                    part.iter().map(|_byte| dice.next_u64().to_le_bytes()[0]).collect();
                put(target, stop, &garbage[index(stop - at)..]);
            }
        }
        at = sector_end;
    }
}

fn put(target: &mut Vec<u8>, offset: u64, data: &[u8]) {
    let start = index(offset);
    let end = start + data.len();
    if target.len() < end {
        target.resize(end, 0);
    }
    target[start..end].copy_from_slice(data);
}

fn fill_with_zeros(target: &mut Vec<u8>, offset: u64, len: u64) {
    let end = index(offset + len);
    if target.len() < end {
        target.resize(end, 0);
    }
    target[index(offset)..end].fill(0);
}

/// A position in memory; files of a simulation are far smaller than the address space.
fn index(position: u64) -> usize {
    usize::try_from(position).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> File {
        let mut file = File::default();
        file.write(1, 0, Bytes::from(vec![1; 2000]));
        file.sync(1);
        file.write(2, 1000, Bytes::from(vec![2; 2000]));
        file
    }

    #[test]
    fn what_is_written_is_read_back_at_once() {
        let file = written();
        assert_eq!(file.read(999, 2), &[1, 2][..]);
        assert_eq!((file.len(), file.read(2999, 10).len()), (3000, 1));
    }

    #[test]
    fn synced_bytes_survive_every_loss_of_power_and_un_synced_ones_every_fate() {
        let mut fates = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let mut file = written();
            let losses = file.lose_power(&mut Dice::new(seed));
            assert_eq!(file.read(0, 1000), vec![1; 1000], "seed {seed} lost synced bytes");
            fates.insert((losses.dropped, losses.torn));
        }
        assert_eq!(fates.len(), 3, "kept, dropped and torn all happen: {fates:?}");
    }

    #[test]
    fn a_torn_write_is_partial_and_may_hold_garbage() {
        let (mut partial, mut garbage) = (false, false);
        for seed in 0..200 {
            let mut file = written();
            if file.lose_power(&mut Dice::new(seed)).torn == 0 {
                continue;
            }
            let tail = file.read(2000, 1000);
            partial |= tail.len() < 1000 || tail.contains(&0);
            garbage |= tail.iter().any(|byte| *byte > 2);
        }
        assert!(partial && garbage);
    }

    #[test]
    fn a_later_write_can_survive_an_earlier_one() {
        let reordered = (0..200).any(|seed| {
            let mut file = File::default();
            file.write(1, 0, Bytes::from(vec![1; 512]));
            file.write(2, 512, Bytes::from(vec![2; 512]));
            file.lose_power(&mut Dice::new(seed));
            file.read(0, 1024) == [vec![0; 512], vec![2; 512]].concat()
        });
        assert!(reordered);
    }

    #[test]
    fn what_a_failed_sync_gave_up_is_readable_and_no_later_sync_saves_it() {
        let lost = (0..50).any(|seed| {
            let mut file = written();
            file.fail_sync(2, &mut Dice::new(seed));
            assert_eq!(file.read(2999, 1), &[2][..], "the cache still shows it");
            file.sync(2);
            file.lose_power(&mut Dice::new(seed));
            file.len() == 2000
        });
        assert!(lost);
    }

    #[test]
    fn a_flipped_bit_stays_flipped() {
        let mut file = written();
        file.flip_bit(7, 3);
        file.sync(2);
        file.lose_power(&mut Dice::new(1));
        assert_eq!(file.read(7, 1), &[1 ^ 8][..]);
    }
}
