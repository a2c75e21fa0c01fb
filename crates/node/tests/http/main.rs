//! The HTTP API of a real node: one member, a real disk, real sockets on loopback.

mod bad_input;
mod disk;
mod etcd;
mod harness;
mod health;
mod keys;
mod leaders;
mod leases;
mod life;
mod listing;
mod members;
mod read_only;
mod txn;
mod watches;
