//! Tests of the store through its public face: stories by theme, and random histories against a
//! naive model.

mod changes;
mod compaction;
mod epochs;
mod formats;
mod histories;
mod history;
mod idempotency;
mod imports;
mod leases;
mod model;
mod ranges;
mod sessions;
mod snapshots;
mod space;
mod steps;
mod transactions;
mod world;
