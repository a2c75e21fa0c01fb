//! Ends the program when a run makes no progress: with what happened so far, not with a hang.
//!
//! A node that spins is found by the bound on polls; this is for what spins inside one poll, where
//! simulated time stands still and no deadline in it can help. It is the only thing here that
//! looks at real time, and it touches nothing of the run.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use crate::record::SharedRecord;

/// How long no step may end, in real time. A step takes far less than a millisecond.
const PATIENCE: Duration = Duration::from_secs(60);

static STEPS: AtomicU64 = AtomicU64::new(0);
static CURRENT: Mutex<Option<(&'static str, u64, SharedRecord)>> = Mutex::new(None);

/// Watches over all runs of this process from now on.
///
/// # Errors
/// If no thread can be started.
pub fn start() -> std::io::Result<()> {
    thread::Builder::new().name("watchdog".to_owned()).spawn(watch)?;
    Ok(())
}

/// A step of the present run ended.
pub(crate) fn step_ended() {
    STEPS.fetch_add(1, Ordering::Relaxed);
}

/// A run begins.
pub(crate) fn run_begins(scenario: &'static str, seed: u64, record: &SharedRecord) {
    let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
    *current = Some((scenario, seed, record.clone()));
}

/// The run is over.
pub(crate) fn run_ended() {
    *CURRENT.lock().unwrap_or_else(PoisonError::into_inner) = None;
}

fn watch() {
    let mut seen = None;
    loop {
        thread::sleep(PATIENCE);
        let steps = STEPS.load(Ordering::Relaxed);
        let current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((scenario, seed, record)) = &*current
            && seen == Some((*scenario, *seed, steps))
        {
            give_up(scenario, *seed, record);
        }
        seen = current.as_ref().map(|(scenario, seed, _record)| (*scenario, *seed, steps));
    }
}

#[expect(clippy::print_stderr, reason = "the last words of a process that ends itself")]
fn give_up(scenario: &str, seed: u64, record: &SharedRecord) -> ! {
    if let Some(record) = record.try_lock() {
        eprintln!("{}", record.timeline);
    }
    eprintln!(
        "FAILED no progress: a step of simulated time takes longer than {} s\n       \
         chaos replay --scenario {scenario} --seed {seed}",
        PATIENCE.as_secs()
    );
    std::process::exit(1);
}
