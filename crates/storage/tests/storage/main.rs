//! Storage on a disk that fails in every way that disks do, and on a real one.

mod damage;
mod dice;
mod failures;
mod faulty_disk;
mod files;
mod histories;
mod log;
mod model;
mod reading;
mod real_disk;
mod refusals;
mod snapshots;
mod world;
