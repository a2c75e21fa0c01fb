//! The etcd v3 protocol, as generated code: messages, traits of servers, clients.
//!
//! The protocol files in `proto/` are written here, with the published names and numbers, and
//! compiled by `build.rs`. They stand in a crate of their own so that they are compiled once and
//! not with every change of the code that uses them. What the messages mean is `mainstay-etcd`'s
//! business.

#![allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    elided_lifetimes_in_paths,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::large_futures,
    clippy::too_many_lines,
    clippy::use_self,
    reason = "generated code"
)]

/// Keys, values and events.
pub mod mvccpb {
    include!(concat!(env!("OUT_DIR"), "/mvccpb.rs"));
}

/// Data of users and roles.
pub mod authpb {
    include!(concat!(env!("OUT_DIR"), "/authpb.rs"));
}

/// The six services of etcd.
pub mod etcdserverpb {
    include!(concat!(env!("OUT_DIR"), "/etcdserverpb.rs"));
}

/// Locks.
pub mod v3lockpb {
    include!(concat!(env!("OUT_DIR"), "/v3lockpb.rs"));
}

/// Elections.
pub mod v3electionpb {
    include!(concat!(env!("OUT_DIR"), "/v3electionpb.rs"));
}

/// The standard health service of gRPC.
pub mod health {
    include!(concat!(env!("OUT_DIR"), "/grpc.health.v1.rs"));
}

/// All of it as a set of file descriptors, for code that goes by names.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
