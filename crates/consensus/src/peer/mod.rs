//! The peer protocol: how the nodes of a cluster talk to each other.
//!
//! Length-delimited, checksummed frames over `world`'s streams. A connection opens with a
//! handshake that names both ends and what the connection is for, and then serves one purpose:
//!
//! | kind | direction | carries |
//! |---|---|---|
//! | control | any to any | heartbeats, votes, pings, the birth of a cluster |
//! | log | leader to follower | a pipelined stream of appends and their answers |
//! | snapshot | leader to follower | one snapshot, chunk by chunk |
//! | forward | follower to leader | batches of proposals, read indexes |
//!
//! so that a snapshot never delays a log append and neither delays a heartbeat. Every call has a
//! deadline; a call that times out drops its stream, a heartbeat after three in a row.
//!
//! Start reading at [`message`], then [`channel`] for the calling and [`server`] for the answering
//! side.

pub(crate) mod channel;
pub(crate) mod contact;
pub(crate) mod frame;
pub(crate) mod handshake;
pub(crate) mod inquiry;
pub(crate) mod link;
pub(crate) mod log_stream;
pub(crate) mod message;
pub(crate) mod network;
pub(crate) mod server;
pub(crate) mod snapshot_stream;
pub(crate) mod turned_away;
