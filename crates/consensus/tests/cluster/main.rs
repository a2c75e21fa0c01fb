//! Clusters of real nodes in one process: real sockets, real folders, one runtime a node.
//!
//! What consensus promises to the crates above it, and what it relies on in openraft, each as a
//! test. Killing a node here is dropping its runtime: sockets close, nothing is written any more.

mod founding;
mod hand_over;
mod leadership;
mod members;
mod node;
mod recovery;
mod stalling_disk;
mod survivors;
mod versions;
mod writes;
