//! Black box: what the shipped program promises, held against real processes that are killed.
//!
//! Each module is one theme. The harness is the library of this package; `docs/testing.md` says how
//! to keep the nodes' logs.

mod bad_requests;
mod bad_starts;
mod commands;
mod dev;
mod doctor;
mod etcd;
mod exactly_once;
mod full_disk;
mod half_done;
mod joining;
mod kills;
mod leader_changes;
mod leases;
mod members;
mod monitoring;
mod peer_port;
mod programs;
mod reads;
mod recovery;
mod replaced_cluster;
mod rolling_restart;
mod runbook;
mod rust_client;
mod stalled_disk;
mod watches;
mod wiped_folder;

/// The program these tests were built with.
const PROGRAM: &str = env!("CARGO_BIN_EXE_mainstay-under-test");
