//! Random histories against a naive model, with the disk dying at any call.
//!
//! A history is a row of lives. In each one storage is opened, used at random and cut short: the
//! disk stops after a random number of calls, and the process is killed or the power fails. After
//! the next start the folder must hold the state after some prefix of what was asked for, at least
//! up to the last thing acknowledged; whatever a start reports is acknowledged, too.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use mainstay_storage::{OpenError, SpaceState, Storage, Vote};
use mainstay_world::{Buggify, Saboteur};
use proptest::prelude::*;

use crate::{
    dice::Dice,
    faulty_disk::FaultyDisk,
    model::{Asked, Book, ModelLog, ask, book, check, note},
    world::{OURS, at, entries, life, open_sabotaged, small, snapshot},
};

/// Asks for random things until the disk dies or the list is done.
async fn use_storage(storage: &Storage, asked: &Book, dice: &mut Dice, term: &mut u64) {
    let steps = if dice.one_in(3) { dice.below(4) } else { dice.below(60) };
    for _ in 0..steps {
        let log = book(asked).logs.last().expect("begins with one").clone();
        let last = log.last().map_or(0, |last| last.index);
        match dice.below(40) {
            0..=23 => {
                let count = 1 + dice.below(6);
                let new = entries(last + 1..=last + count, *term);
                let mut next = log;
                let mut number = 0;
                // A large batch may become several frames: any prefix of it may be there.
                for entry in &new {
                    next.entries.push(entry.clone());
                    number = ask(asked, next.clone());
                }
                let callback = Arc::clone(asked);
                storage.append(new, Box::new(move |outcome| note(&callback, number, &outcome)));
            }
            24..=27 => {
                // Another leader: what it cuts off, it writes anew in its own term.
                // What is committed is never cut off.
                let committed = book(asked).committed.iter().map(|at| at.index).max();
                let first = log.purged.map_or(0, |purged| purged.index).max(committed.unwrap_or(0));
                let keep = first + dice.below(last - first + 1);
                *term += 1;
                let mut next = log;
                next.truncate_after(keep);
                let number = ask(asked, next);
                let outcome = storage.truncate_after((keep > 0).then_some(keep)).await;
                note(asked, number, &outcome);
            }
            28..=30 => {
                *term += 1;
                let vote = Vote { term: *term, node_id: dice.below(3), committed: dice.one_in(2) };
                book(asked).votes.push(Some(vote));
                let outcome = storage.save_vote(vote).await;
                let mut asked = book(asked);
                match outcome {
                    Ok(()) => asked.votes = vec![Some(vote)],
                    Err(_failure) => asked.is_failed = true,
                }
            }
            31..=34 => {
                if let Some(position) = storage.position_at(dice.below(last + 1))
                    && storage
                        .progress()
                        .synced
                        .is_some_and(|synced| synced.index >= position.index)
                {
                    book(asked).committed.push(position);
                    storage.save_committed(position);
                }
            }
            35..=36 => take_snapshot(storage, asked, dice, log).await,
            37 => install_snapshot(storage, asked, dice, log, *term).await,
            _ => {
                mainstay_world::sleep(Duration::from_millis(dice.below(1_500))).await;
            }
        }
        if book(asked).is_failed {
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// A snapshot of this node's own state, and a purge behind it.
async fn take_snapshot(storage: &Storage, asked: &Book, dice: &mut Dice, log: ModelLog) {
    let committed = storage.committed().filter(|at| storage.position_at(at.index) == Some(*at));
    let Some(last) = committed else { return };
    if !try_snapshot(storage, asked, last).await {
        return;
    }
    let upto = last.index.saturating_sub(dice.below(5));
    if let Some(upto) = storage.position_at(upto) {
        let mut next = log;
        next.purge(upto);
        ask(asked, next);
        storage.purge(upto);
    }
}

/// A snapshot from a leader, ahead of the log or in conflict with it.
async fn install_snapshot(
    storage: &Storage,
    asked: &Book,
    dice: &mut Dice,
    log: ModelLog,
    term: u64,
) {
    let last = log.last().map_or(0, |last| last.index);
    let position = at(last + 1 + dice.below(30), term);
    let mut next = log;
    next.purge(position);
    // From its rename on the snapshot decides where the log begins at the next start.
    let number = ask(asked, next);
    if !try_snapshot(storage, asked, position).await {
        book(asked).is_failed = true;
        return;
    }
    let outcome = storage.install_mark(position).await;
    note(asked, number, &outcome);
    book(asked).is_installed = true;
}

async fn try_snapshot(
    storage: &Storage,
    asked: &Book,
    last: mainstay_storage::LogPosition,
) -> bool {
    book(asked).snapshots.push((last, false));
    let outcome = snapshot(storage, last).await;
    if outcome.is_ok() {
        let mut asked = book(asked);
        let newest = asked.snapshots.last_mut().expect("was just pushed");
        newest.1 = true;
    }
    outcome.is_ok()
}

/// What really happened in some histories: without it a clean run proves nothing.
#[derive(Debug, Default)]
struct Coverage {
    lives: u64,
    torn_tails: u64,
    failed_starts: u64,
    failures: u64,
    full_disks: u64,
    installed: u64,
    purged: u64,
}

/// Plants a bug, or none, and holds tasks up at random.
struct Saboteurs {
    bug: Option<&'static str>,
    dice: Mutex<Dice>,
}

impl Saboteur for Saboteurs {
    fn is_planted(&self, bug: &'static str) -> bool {
        self.bug == Some(bug)
    }

    fn delay(&self, _site: &'static str) -> Option<Duration> {
        let mut dice = self.dice.lock().unwrap_or_else(PoisonError::into_inner);
        dice.one_in(4).then(|| Duration::from_micros(dice.below(2_000)))
    }
}

struct History {
    disk: FaultyDisk,
    buggify: Buggify,
    dice: Dice,
    term: u64,
    asked: Asked,
    coverage: Coverage,
    /// The name prefix of the file whose sync is going to fail.
    failing: Option<&'static str>,
}

impl History {
    /// One life: open, check, use, die.
    fn live(&mut self) {
        self.plan_faults();
        self.coverage.lives += 1;
        let asked: Mutex<Option<Book>> = Mutex::new(None);
        let Self { disk, buggify, dice, term, asked: before, coverage, failing } = self;
        life(async {
            let to_the_end = Box::pin(async {
                let opened = open_sabotaged(disk, OURS, small(), buggify.clone()).await;
                let (storage, recovered) = match opened {
                    Ok(opened) => opened,
                    // A sync that fails or a full disk: nobody was told anything.
                    Err(OpenError::File { .. } | OpenError::NoRoom { .. }) => {
                        coverage.failed_starts += 1;
                        return;
                    }
                    Err(error) => panic!("refused a folder that nothing happened to: {error:?}"),
                };
                // Reading for the check must not die of the calls that are left.
                let (calls_left, writes_left) = {
                    let mut folder = disk.folder();
                    (folder.calls_left.take(), folder.log_writes_left.take())
                };
                let now = Arc::new(Mutex::new(check(&storage, &recovered, before).await));
                *asked.lock().expect("no panics") = Some(Arc::clone(&now));
                {
                    let mut folder = disk.folder();
                    folder.calls_left = calls_left;
                    folder.log_writes_left = writes_left;
                    folder.fail_sync = failing.map(str::to_owned);
                }
                coverage.torn_tails += u64::from(recovered.torn_tail.is_some());
                coverage.purged += u64::from(recovered.purged.is_some());
                use_storage(&storage, &now, dice, term).await;
                coverage.failures += u64::from(storage.failure().borrow().is_some());
                if dice.one_in(3) {
                    storage.shutdown().await;
                }
                coverage.full_disks += u64::from(*storage.space().borrow() != SpaceState::Ok);
            });
            // A full disk keeps callers waiting: that is what it is for.
            let _ = mainstay_world::timeout(Duration::from_secs(60), async {
                tokio::select! {
                    biased;
                    () = disk.died() => {}
                    () = to_the_end => {}
                }
            })
            .await;
        });
        if let Some(after) = asked.into_inner().expect("no panics") {
            self.asked = std::mem::take(&mut *book(&after));
            self.coverage.installed += u64::from(self.asked.is_installed);
        }
    }

    fn plan_faults(&mut self) {
        let dice = &mut self.dice;
        let mut folder = self.disk.folder();
        folder.is_slow = dice.one_in(2);
        match dice.below(4) {
            0 => folder.calls_left = Some(1 + dice.below(60)),
            1 => folder.calls_left = Some(1 + dice.below(400)),
            // In the window between a write and its sync.
            2 => folder.log_writes_left = Some(2 + dice.below(30)),
            _ => {}
        }
        self.failing = dice.one_in(4).then(|| {
            let victims = ["log-", "vote-", "snapshot-", "probe"];
            victims[usize::try_from(dice.below(4)).expect("is small")]
        });
        if dice.one_in(8) {
            folder.fail_sync = self.failing.map(str::to_owned);
        }
        folder.capacity = if dice.one_in(4) { (24 + dice.below(40)) * 1024 } else { u64::MAX };
    }

    fn die(&mut self) {
        // A new leader: what was asked for and not acknowledged may come back in its old term.
        self.term += 1;
        let mut folder = self.disk.folder();
        if self.dice.one_in(3) {
            folder.kill_process();
        } else {
            folder.lose_power();
        }
    }
}

/// Six lives and a last start; panics where a promise is broken.
fn history(seed: u64, bug: Option<&'static str>) -> Coverage {
    let mut dice = Dice::new(seed);
    let saboteurs = Saboteurs { bug, dice: Mutex::new(Dice::new(dice.draw())) };
    let mut history = History {
        disk: FaultyDisk::new(dice.draw()),
        buggify: Buggify::with(Arc::new(saboteurs)),
        dice,
        term: 1,
        asked: Asked { logs: vec![ModelLog::default()], votes: vec![None], ..Asked::default() },
        coverage: Coverage::default(),
        failing: None,
    };
    for _ in 0..6 {
        history.live();
        history.die();
    }
    history.disk.folder().capacity = u64::MAX;
    life(async {
        let opened = open_sabotaged(&history.disk, OURS, small(), history.buggify.clone()).await;
        let (storage, recovered) = opened.expect("the last start finds a sound disk");
        check(&storage, &recovered, &history.asked).await;
    });
    history.coverage
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn acknowledged_is_durable_whatever_happens_to_the_power(seed in any::<u64>()) {
        history(seed, None);
    }
}

#[test]
fn the_histories_meet_what_they_are_meant_to_meet() {
    let mut sum = Coverage::default();
    for seed in 0..200 {
        let Coverage { lives, torn_tails, failed_starts, failures, full_disks, installed, purged } =
            history(seed, None);
        sum.lives += lives;
        sum.torn_tails += torn_tails;
        sum.failed_starts += failed_starts;
        sum.failures += failures;
        sum.full_disks += full_disks;
        sum.installed += installed;
        sum.purged += purged;
    }
    let Coverage { lives, torn_tails, failed_starts, failures, full_disks, installed, purged } =
        sum;
    let seen = [torn_tails, failed_starts, failures, full_disks, installed, purged];
    assert!(seen.iter().all(|count| *count > lives / 100), "seen too rarely: {sum:?}");
}

#[test]
fn every_planted_bug_is_caught() {
    for bug in ["ack-before-sync", "skip-dir-sync", "forget-vote", "trust-recovered-tail"] {
        let caught = (0..50)
            .find(|seed| catch_unwind(AssertUnwindSafe(|| history(*seed, Some(bug)))).is_err());
        assert!(caught.is_some(), "{bug} is not caught within 50 seeds");
    }
}
