//! Storage on a disk that fails in every way that disks do, and on a real one.

mod dice;
mod faulty_disk;
mod log;
mod real_disk;
mod world;
