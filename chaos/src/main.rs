//! The `chaos` binary: lists, runs and replays simulations.

fn main() {}
