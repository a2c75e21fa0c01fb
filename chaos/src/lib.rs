//! The simulated world: whole clusters of the real node under hardship, bit for bit repeatable.
//!
//! The node code runs here unchanged. What differs is behind the seams of `mainstay_world`: a
//! network and time from turmoil, a [`disk`] in memory that forgets, tears and lies, a clock of its
//! own for each node, and random numbers from one seed. A run is a scenario and a seed; it returns
//! what was violated and a hash of everything that happened, and the same seed always returns the
//! same.
//!
//! It does not decide what is right about the node: `checkers` does, and it is pure.

// Only rustc gets the flag: documentation and its tests run nothing.
#[cfg(not(any(tokio_unstable, doc, doctest)))]
compile_error!(
    "the simulated world needs seeded schedulers: build with --cfg tokio_unstable, which \
     .cargo/config.toml sets; a RUSTFLAGS variable in the environment overrides that file, so \
     unset it or add the flag to it"
);

pub mod checkers;
pub mod cluster;
pub mod dice;
pub mod disk;
pub mod etcd_record;
pub mod history;
pub mod network;
pub mod panics;
pub mod plants;
pub mod record;
pub mod recovery_time;
pub mod report;
pub mod run;
pub mod saboteur;
pub mod scenarios;
pub mod story;
pub mod timeline;
pub mod trace;
pub mod watchdog;
pub mod workload;
