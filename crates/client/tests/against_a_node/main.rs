//! The client against a node that answers by a script: what is repeated and what is not, where the
//! client goes when an endpoint fails, and how watches go on.
//!
//! The node is a socket that reads requests and writes what the script says, so a test decides to
//! the byte what the client sees. No real node is needed; those tests are black-box ones.

mod by_itself;
mod calls;
mod leaders;
mod node;
mod watches;
