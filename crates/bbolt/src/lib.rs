//! Writes files of bbolt, the database below etcd, in one stream from front to back.
//!
//! A bbolt file is a tree of pages of 4,096 bytes. Its head says where the root is and how many
//! pages there are, which is known only when everything was seen. So a file takes two passes over
//! the same entries:
//!
//! ```text
//! FilePlanner   keys, lengths of values  ->  FilePlan: how long the file is, where its root is
//! FileWriter    keys, values             ->  the bytes, in order, whenever some are asked for
//! ```
//!
//! Both passes run the same code, the first without bytes, so they cannot disagree. Neither holds
//! more than the pages that are not complete: one leaf, and one branch for each level.
//!
//! ```text
//! 0 meta   1 meta   2 free list   3.. leaves, each branch behind its last child .. root of all
//! ```
//!
//! Buckets come in the order of their names, entries in the order of their keys; what is small is
//! written inside the page that names it, as bbolt does. The file is one that bbolt opens, checks
//! and goes on writing: no page is lost or used twice, and every branch but a root has two
//! children, which bbolt relies on when it merges pages.
//!
//! Buckets in buckets are not written, and nothing is read: the reader of the tests is no library.
//! What etcd keeps in which bucket is not known here, and neither are files, clocks or tasks.
//!
//! The layout is that of bbolt's `page.go`, `node.go`, `bucket.go` and `db.go`. Start reading at
//! `file.rs`.

mod file;
mod node;
mod page;
mod tree;

pub use file::{FilePlan, FilePlanner, FileWriter, Unplanned};
pub use page::PAGE_BYTES;
pub use tree::KEY_LEN_MAX;
