//! Storage on a disk that fails in every way that disks do, and on a real one.

mod damage;
mod dice;
mod failures;
mod faulty_disk;
mod histories;
mod log;
mod real_disk;
mod snapshots;
mod world;
