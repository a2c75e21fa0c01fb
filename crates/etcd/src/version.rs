//! The versions that this node says it is, to those who go by etcd's.
//!
//! Clients parse them as plain numbers and switch features on by them.

/// The etcd release whose API this node serves.
pub const ETCD_VERSION: &str = "3.6.14";

/// The format of the store, as etcd would call it.
pub const STORAGE_VERSION: &str = "3.6.0";

/// The format of the database file that a snapshot is: that of the oldest etcd which has all of
/// it, since newer ones take it over and older ones pass over what they do not know.
pub(crate) const SNAPSHOT_VERSION: &str = "3.5.0";
