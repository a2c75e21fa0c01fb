//! The detector from outside: levels and when they are told, what is ignored, what this node's own
//! health changes, what the papers claim, and that no input makes it panic.

mod any_input;
mod ignored;
mod levels;
mod own_node;
mod pair;
mod papers;
mod rhythm;
